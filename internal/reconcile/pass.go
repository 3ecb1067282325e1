package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// pass is one look at one cluster, from load to settle. It is used once, by
// one goroutine.
type pass struct {
	*Reconciler
	name    string
	config  Cluster
	trigger trigger

	part ledger.Partition
	view view
	// fresh says that trigger.snapshot replaces the stored one.
	fresh bool
	reset bool // the agent's epoch fell back

	rows     map[string]ledger.Node
	arrays   map[string]ledger.Nodearray
	commands []ledger.Command // sent and not answered

	facts burst.Facts
	index map[burst.NodeName]int
	slurm map[burst.NodeName]slurmNode
	// status is CycleCloud's own word for nodes that were just looked at.
	status map[burst.NodeName]string
	// opening are nodes with a create whose outcome is not known.
	opening map[burst.NodeName]bool
	swept   bool

	settled  []ledger.Intent // to be projected, then dropped
	answered []ledger.Command
	failures []ledger.Failure
	timers   []string // nodearrays whose row has a timer to write
	// surprised says that an effect came out differently than planned.
	surprised bool
}

// run loads, rolls forward, decides, commits, acts and settles.
func (p *pass) run(ctx context.Context) (Result, error) {
	part, err := p.Ledger.Load(ctx, p.name)
	if err != nil {
		return Result{}, fmt.Errorf("load: %w", err)
	}
	p.part = part
	if !p.acceptSnapshot() {
		return Result{Outcome: OutcomeDuplicate, Revision: part.Cluster.Revision}, nil
	}
	if p.unchanged() {
		return Result{Outcome: OutcomeNoted, Revision: part.Cluster.Revision}, p.noteHeartbeat(ctx)
	}
	if err := p.loadProjections(ctx); err != nil {
		return Result{}, err
	}
	if p.void() {
		return Result{Outcome: OutcomeVoid, Revision: part.Cluster.Revision}, nil
	}
	return p.decide(ctx)
}

// acceptSnapshot takes the arrival as the newest view if it is newer than the
// stored one, and the stored one otherwise. It reports false for an arrival
// that has been replaced already and leaves nothing to do.
func (p *pass) acceptSnapshot() bool {
	stored := burst.Position{Epoch: p.part.Cluster.Epoch, Sequence: p.part.Cluster.Sequence}
	beat := burst.Position{Epoch: p.part.Heartbeat.Epoch, Sequence: p.part.Heartbeat.Sequence}
	if beat.After(stored) {
		stored = beat
	}
	p.view.position = stored
	a := p.trigger.snapshot
	if a == nil {
		return true
	}
	arrived := burst.Position{Epoch: a.pressure.Epoch, Sequence: a.pressure.Sequence}
	p.reset = arrived.Epoch < stored.Epoch && p.Now().Sub(p.part.Heartbeat.AsOf) > 2*p.config.Policy.MaxActAge
	p.fresh = arrived.After(stored) || p.reset
	if p.fresh {
		p.view = view{pressure: a.pressure, position: arrived, takenAt: a.asOf, asOf: a.asOf}
		return true
	}
	return len(p.part.Intents) > 0 // somebody's work may have to be finished
}

// unchanged reports whether the arrival says nothing new, so that noting it is
// enough: same digest, nothing due, nothing open.
func (p *pass) unchanged() bool {
	c := p.part.Cluster
	return p.fresh && !p.reset && p.part.Found && p.trigger.snapshot.digest == p.part.Snapshot.Digest &&
		len(p.part.Intents) == 0 && len(p.part.Facts) == 0 && (c.NextDue.IsZero() || p.Now().Before(c.NextDue)) &&
		c.PolicyVersion == p.config.Policy.Version && p.part.Heartbeat.Digest == p.part.Snapshot.Digest
}

func (p *pass) heartbeat() ledger.Heartbeat {
	a := p.trigger.snapshot
	return ledger.Heartbeat{
		Epoch: a.pressure.Epoch, Sequence: a.pressure.Sequence, ReceivedAt: p.Now(), AsOf: a.asOf,
		Digest: a.digest, AgentHost: a.pressure.AgentHost,
	}
}

func (p *pass) noteHeartbeat(ctx context.Context) error {
	if err := p.Ledger.NoteHeartbeat(ctx, p.name, p.heartbeat()); err != nil {
		return fmt.Errorf("note heartbeat: %w", err)
	}
	return nil
}

// loadProjections reads what is kept outside the commit partition: from this
// process's memory where it holds the same revision, else by query.
func (p *pass) loadProjections(ctx context.Context) error {
	c := p.remembered(p.name)
	if c.revision != p.part.Cluster.Revision || c.revision == 0 || len(p.part.Intents) > 0 {
		var err error
		if c.nodes, err = p.Ledger.Nodes(ctx, p.name); err != nil {
			return fmt.Errorf("load nodes: %w", err)
		}
		if c.arrays, err = p.Ledger.Nodearrays(ctx, p.name); err != nil {
			return fmt.Errorf("load nodearrays: %w", err)
		}
	}
	p.rows = make(map[string]ledger.Node, len(c.nodes))
	for _, n := range c.nodes {
		p.rows[n.Name] = n
	}
	p.arrays = make(map[string]ledger.Nodearray, len(c.arrays))
	for _, a := range c.arrays {
		p.arrays[a.Name] = a
	}
	var err error
	if p.commands, err = p.Ledger.Commands(ctx, p.name, ledger.CommandSent); err != nil {
		return fmt.Errorf("load commands: %w", err)
	}
	if p.view.pressure.Cluster == "" {
		return p.storedView()
	}
	return nil
}

// storedView reads the newest stored snapshot.
func (p *pass) storedView() error {
	if len(p.part.Snapshot.Body) == 0 {
		return nil
	}
	pressure, err := event.DecodeQueuePressure(p.part.Snapshot.Body, event.Gzip)
	if err != nil {
		return fault.New(fault.Bug, "read stored snapshot", err)
	}
	p.view.pressure, p.view.takenAt, p.view.asOf = pressure, p.part.Snapshot.AsOf, p.part.Snapshot.AsOf
	if p.part.Heartbeat.Digest == p.part.Snapshot.Digest && p.part.Heartbeat.AsOf.After(p.view.asOf) {
		p.view.asOf = p.part.Heartbeat.AsOf
	}
	return nil
}

// void reports whether the timer that fired is not the armed one.
func (p *pass) void() bool {
	t := p.trigger.timer
	if t == nil || t.Nodearray == "" {
		return false
	}
	return armedTimer(p.arrays[t.Nodearray], burst.Purpose(t.Purpose)).Generation != t.Generation
}

func (p *pass) decide(ctx context.Context) (Result, error) {
	p.status = map[burst.NodeName]string{}
	p.opening = map[burst.NodeName]bool{}
	if err := p.buildFacts(); err != nil {
		return Result{}, err
	}
	if err := p.rollForward(ctx); err != nil {
		return Result{}, err
	}
	if p.reset {
		p.forgetPositions()
	}
	p.answerCommands()
	p.overlayCommands()
	p.notePassage()
	result := Result{Outcome: OutcomeDecided}
	for range maxRounds {
		p.surprised = false
		now, plan := p.plan(ctx)
		if err := p.commitAndAct(ctx, now, plan); err != nil {
			return Result{}, err
		}
		if err := p.project(ctx, now, plan); err != nil {
			return Result{}, err
		}
		result.Revision = p.part.Cluster.Revision
		result.Actions += len(plan.Creates) + len(plan.Terminates) + len(plan.Commands)
		result.Holds = len(plan.Holds)
		if !p.surprised {
			break
		}
	}
	return result, nil
}

// maxRounds bounds how often one pass decides again because an effect came out
// differently than the plan assumed.
const maxRounds = 3

// forgetPositions makes positions of the lost epoch older than any to come.
func (p *pass) forgetPositions() {
	for i := range p.facts.Nodes {
		n := &p.facts.Nodes[i]
		n.Created.Position, n.DownAt = burst.Position{}, burst.Position{}
	}
	p.failures = append(p.failures, ledger.Failure{
		At: p.Now(), Source: "agent", What: "accept snapshot", Code: "epoch_reset",
		Detail: fmt.Sprintf("the agent's epoch fell from %d to %d after a silence", p.part.Heartbeat.Epoch, p.view.position.Epoch),
	})
}

// plan asks the core, and CycleCloud where the core wants to know more.
func (p *pass) plan(ctx context.Context) (time.Time, burst.Plan) {
	if p.trigger.sweep {
		p.look(ctx)
	}
	for range 3 {
		now := p.Now()
		plan := burst.Decide(now, p.config.Policy, p.facts)
		switch {
		case p.facts.CycleCloudFailed || (!plan.Look && !plan.Status):
			return now, plan
		case plan.Look:
			p.look(ctx)
		default:
			p.askStatus(ctx)
		}
	}
	now := p.Now()
	return now, burst.Decide(now, p.config.Policy, p.facts)
}

// look reads CycleCloud's whole node list.
func (p *pass) look(ctx context.Context) {
	asked := p.Now()
	list, err := p.config.CycleCloud.Nodes(ctx, p.config.CycleCloudCluster)
	if err != nil {
		p.cycleCloudFailed(err)
		return
	}
	p.observe(list, asked)
}

// askStatus reads CycleCloud's limits.
func (p *pass) askStatus(ctx context.Context) {
	status, err := p.config.CycleCloud.Status(ctx, p.config.CycleCloudCluster, false)
	if err != nil {
		p.cycleCloudFailed(err)
		return
	}
	for i := range p.facts.Nodearrays {
		a := &p.facts.Nodearrays[i]
		a.Available = availability(status, p.config.Policy, a.Name)
	}
}

func (p *pass) cycleCloudFailed(err error) {
	p.facts.CycleCloudFailed = true
	p.Logger.Warn("cyclecloud did not answer", "cluster", p.name, "error", err.Error(), "kind", fault.Of(err).String())
	p.failures = append(p.failures, ledger.Failure{
		At: p.Now(), Source: "cyclecloud", What: "ask for nodes", Code: fault.Of(err).String(), Detail: err.Error(),
	})
}
