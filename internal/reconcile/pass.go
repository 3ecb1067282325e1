package reconcile

import (
	"context"
	"fmt"
	"slices"
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
	assumed  []ledger.Command // of open intents: maybe sent
	untaken  []ledger.Command // refused or failed, and not expired
	// knownCommands are the rows of commands as of this pass's newest commit.
	knownCommands commandRows
	// oldest is the lowest revision of a command that counts or whose row may yet come.
	oldest int64

	facts burst.Facts
	// stored is the memory that the ledger holds, shown the one that the tables
	// show.
	stored, shown burst.Memory
	// groups are the rows of held groups; nil before they are read.
	groups  map[string]ledger.Job
	regroup groupChanges
	hosts   map[string]string // of running jobs, by id
	index   map[burst.NodeName]int
	slurm   map[burst.NodeName]slurmNode
	// status is CycleCloud's own word for nodes that were just looked at.
	status map[burst.NodeName]string
	// opening are nodes with a create or terminate whose outcome is not known,
	// by the kind of that intent.
	opening map[burst.NodeName]string
	swept   bool
	// basis is what the newest plan rests on.
	basis burst.Facts

	settled  []ledger.Intent // to be projected, then dropped
	answered []ledger.Command
	failures []ledger.Failure
	armed    []armedNow             // timers that the nodearrays' rows have to tell
	strays   map[string]ledger.Node // rows of names that the policy does not name
	// announced are the nodes whose rows the last commit said it may write.
	announced map[string]bool
	// refusal says that the policy in force cannot be followed, refused that
	// this was just found out.
	refusal burst.Hold
	refused bool
	// surprised says that an effect came out differently than planned.
	surprised bool
	// unsettled says that an intent stays open, committed that this pass moved
	// the cluster, conflicted that somebody else wrote the same rows.
	unsettled, committed, conflicted bool
	// busFailed says that Service Bus just failed to take something, claimsStay
	// that the tables did not take that a claim was given up.
	busFailed, claimsStay bool
}

// armedNow is a timer that was scheduled and is in no row yet.
type armedNow struct {
	array   string
	purpose burst.Purpose
	timer   ledger.Timer
}

// run loads, rolls forward, decides, commits, acts and settles.
func (p *pass) run(ctx context.Context) (Result, error) {
	part, err := p.Ledger.Load(ctx, p.name)
	if err != nil {
		return Result{}, fmt.Errorf("load: %w", err)
	}
	p.part = part
	p.crash(pointLoaded)
	if err := part.Cluster.Admit(ledger.Writer); err != nil {
		return Result{}, err // what a newer version wrote is not even read
	}
	if err := p.choosePolicy(ctx); err != nil {
		return Result{}, err
	}
	if !p.acceptSnapshot() {
		return Result{Outcome: OutcomeDuplicate, Revision: part.Cluster.Revision}, nil
	}
	if p.unchanged() {
		return Result{Outcome: OutcomeNoted, Revision: part.Cluster.Revision}, p.noteHeartbeat(ctx)
	}
	c, err := p.loadArrays(ctx)
	if err != nil {
		return Result{}, err
	}
	if p.void() { // many are: the nodes need not be read for them
		return Result{Outcome: OutcomeVoid, Revision: part.Cluster.Revision}, nil
	}
	if err := p.loadProjections(ctx, c); err != nil {
		return Result{}, err
	}
	p.crash(pointRead)
	return p.decide(ctx)
}

// acceptSnapshot takes the arrival as the newest view if it is newer than the
// stored one, and the stored one otherwise. It reports false for an arrival
// that has been replaced already and leaves nothing to do.
func (p *pass) acceptSnapshot() bool {
	stored := burst.Position{Epoch: p.part.Cluster.Epoch, Sequence: p.part.Cluster.Sequence}
	beat := burst.Position{Epoch: p.part.Heartbeat.Epoch, Sequence: p.part.Heartbeat.Sequence}
	p.view.position = stored
	if beat.After(stored) {
		stored = beat
		if p.part.Heartbeat.Digest == p.part.Snapshot.Digest { // it said the same
			p.view.position = beat
		}
	}
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
	return p.fresh && !p.reset && !p.refused && p.part.Found && p.trigger.snapshot.digest == p.part.Snapshot.Digest &&
		len(p.part.Intents) == 0 && len(p.part.Facts) == 0 && (c.NextDue.IsZero() || p.Now().Before(c.NextDue)) &&
		c.PolicyVersion == p.config.Policy.Version
}

func (p *pass) heartbeat() ledger.Heartbeat {
	a := p.trigger.snapshot
	return ledger.Heartbeat{
		Epoch: a.pressure.Epoch, Sequence: a.pressure.Sequence, ReceivedAt: p.Now(), AsOf: a.asOf,
		Digest: a.digest, AgentHost: a.pressure.AgentHost,
	}
}

// beatGrain is how much later than the noted heartbeat one has to be to be
// noted, too: docs/decisions/0017.
const beatGrain = 5 * time.Second

// noteHeartbeat notes that what is stored still holds. Where an agent says so
// again and again, it is told as often as anybody needs it.
func (p *pass) noteHeartbeat(ctx context.Context) error {
	beat, noted := p.heartbeat(), p.part.Heartbeat
	if beat.Epoch == noted.Epoch && beat.AsOf.Sub(noted.AsOf) < min(beatGrain, p.config.Policy.MaxActAge/4) {
		return nil
	}
	if err := p.Ledger.NoteHeartbeat(ctx, p.name, beat); err != nil {
		return fmt.Errorf("note heartbeat: %w", err)
	}
	p.crash(pointNoted)
	return nil
}

// loadArrays reads the nodearrays' rows: from this process's memory where it
// holds the same revision, else by query.
func (p *pass) loadArrays(ctx context.Context) (cached, error) {
	c := p.remembered(p.name)
	if c.ledgerID != p.part.Cluster.LedgerID || p.trigger.sweep {
		c.revision, c.nodesOf = 0, 0
	}
	if c.revision == 0 || c.revision != p.part.Cluster.Revision {
		var err error
		if c.arrays, err = p.Ledger.Nodearrays(ctx, p.name); err != nil {
			return c, fmt.Errorf("load nodearrays: %w", err)
		}
	}
	p.setArrays(c.arrays)
	return c, nil
}

// loadProjections reads what is kept outside the commit partition. A sweep
// reads the tables whatever is remembered, so that no mistake outlives it.
func (p *pass) loadProjections(ctx context.Context, c cached) error {
	if err := p.refresh(ctx, c); err != nil {
		return err
	}
	p.distrustSweep()
	if err := p.steady(ctx); err != nil {
		return err
	}
	if err := p.loadCommands(ctx); err != nil {
		return err
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

// void reports whether the timer that fired was replaced. One that is newer
// than the armed one was scheduled by a pass that has not come to write its
// row, or never will: it is obeyed.
func (p *pass) void() bool {
	t := p.trigger.timer
	if t == nil || t.Nodearray == "" {
		return false
	}
	return t.Generation < armedTimer(p.arrays[t.Nodearray], burst.Purpose(t.Purpose)).Generation
}

func (p *pass) setArrays(rows []ledger.Nodearray) {
	p.arrays = make(map[string]ledger.Nodearray, len(rows))
	for _, a := range rows {
		p.arrays[a.Name] = a
	}
}

// steady makes sure that rows and intents fit each other. A pass that settles
// an intent writes the rows first and drops the intent then; had it done both
// between our two reads, we would lay the intent over rows that have moved on.
func (p *pass) steady(ctx context.Context) error {
	if len(p.part.Intents) == 0 {
		return nil
	}
	again, err := p.Ledger.Load(ctx, p.name)
	if err != nil {
		return fmt.Errorf("load again: %w", err)
	}
	same := func(a, b ledger.Intent) bool { return a.ID == b.ID && a.State == b.State }
	if again.Cluster.Revision != p.part.Cluster.Revision || !slices.EqualFunc(again.Intents, p.part.Intents, same) {
		return fmt.Errorf("load again: %w", ledger.ErrConflict)
	}
	p.part.Intents = again.Intents
	return nil
}

// distrustSweep forgets when the last sweep was if rows are missing: somebody
// deleted a table, or a crash left them behind. A name without a row counts as
// absent since the sweep, and that must not come from a lost row.
func (p *pass) distrustSweep() {
	missing := 0
	for _, a := range p.arrays {
		missing += a.Counts.VMs
	}
	for _, n := range p.rows {
		if n.ReasonCode == reasonNotInPolicy {
			continue // no nodearray counts it
		}
		switch burst.ParseSupply(n.Supply) {
		case burst.Creating, burst.Booting, burst.Ready, burst.Failed, burst.Leaving, burst.Off:
			missing--
		case burst.SupplyUnknown, burst.Absent:
		}
	}
	if len(p.arrays) == 0 || missing > 0 {
		p.part.Cluster.SweptAt = time.Time{}
	}
}

func (p *pass) decide(ctx context.Context) (Result, error) {
	p.status = map[burst.NodeName]string{}
	p.opening = map[burst.NodeName]string{}
	p.strays = map[string]ledger.Node{}
	if err := p.buildFacts(); err != nil {
		return Result{}, err
	}
	if err := p.rollForward(ctx); err != nil {
		return Result{}, err
	}
	p.crash(pointRolledForward)
	p.forgetPositions()
	p.answerCommands()
	p.overlayCommands()
	p.notePassage()
	result := Result{Outcome: OutcomeDecided}
	for range maxRounds {
		p.surprised = false
		now, plan := p.plan(ctx)
		if p.refusal.Reason.Code != "" {
			plan.Holds = append(plan.Holds, p.refusal)
		}
		if err := p.commitAndAct(ctx, now, plan); err != nil {
			return Result{}, err
		}
		if err := p.project(ctx, now, plan); err != nil {
			return Result{}, err
		}
		result.Revision = p.part.Cluster.Revision
		result.Actions += len(plan.Creates) + len(plan.Terminates) + len(plan.Commands)
		result.Holds = len(plan.Holds)
		if !p.surprised || p.conflicted {
			break
		}
	}
	return result, nil
}

// maxRounds bounds how often one pass decides again because an effect came out
// differently than the plan assumed.
const maxRounds = 3

// reasonEpochReset is the code of an epoch that fell.
const reasonEpochReset = "epoch_reset"

// forgetPositions makes positions of an epoch that was lost older than any to
// come. They may come from rows and, until the last is settled, from intents.
func (p *pass) forgetPositions() {
	for i := range p.facts.Nodes {
		n := &p.facts.Nodes[i]
		if n.Created.Epoch > p.view.position.Epoch {
			n.Created.Position = burst.Position{}
		}
		if n.DownAt.Epoch > p.view.position.Epoch {
			n.DownAt = burst.Position{}
		}
	}
	p.facts.Memory.Jobs = slices.Clone(p.facts.Memory.Jobs)
	for i := range p.facts.Memory.Jobs {
		if at := &p.facts.Memory.Jobs[i].MissingAt; at.Epoch > p.view.position.Epoch {
			*at = burst.Position{}
		}
	}
	if p.facts.Memory.Seen.Epoch > p.view.position.Epoch {
		p.facts.Memory.Seen = burst.Position{}
	}
	if !p.reset {
		return
	}
	p.failures = append(p.failures, ledger.Failure{
		At: p.Now(), Source: "agent", What: "accept snapshot", Code: reasonEpochReset,
		Detail: fmt.Sprintf("the agent's epoch fell from %d to %d after a silence", p.part.Heartbeat.Epoch, p.view.position.Epoch),
	})
}
