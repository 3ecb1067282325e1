package burst

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
)

// overflowShell does around the core what internal/reconcile does, in memory:
// one ledger, and two functions at once that decide on it.
type overflowShell struct {
	*burstCluster
	ledger modelLedger
	passes []*modelPass // under way, at most two
	audit  *auditor

	epoch, sequence int64
	mail            []flowMail
	orders          []order        // commands on their way
	heard           []int          // commands that the agent answers
	newest          map[string]int // by family and target, the highest generation that the agent obeyed
	reading         *flowMail      // a snapshot whose nodes are read and whose jobs are not
	told            int            // turns of the newest snapshot that was sent
	nextBeat        time.Time
	nextSweep       time.Time
	again           bool // a trigger waits until one of the passes is over
	sweeps          bool
	names           int // how many jobs of a group a snapshot names
	blind           bool

	plans, conflicts, crashes int
	met                       map[Code]int
	story                     []string
	tells                     bool
}

// modelLedger is what commits leave behind.
type modelLedger struct {
	revision int
	facts    Facts
	sent     []sentCommand
	intents  []*modelIntent
	due      time.Time
	decided  int // turns of the snapshot that was decided on
	ids      int
}

type sentCommand struct {
	id      int
	command Command
	expires time.Time
}

// modelIntent is an effect that was committed and is not settled.
type modelIntent struct {
	request    string
	create     *Create
	terminate  *Terminate
	command    *sentCommand
	generation int
	owner      *modelPass
	claimed    time.Time // until when
	notAfter   time.Time
	settled    bool
}

// flowMail is a snapshot on its way.
type flowMail struct {
	at         time.Time
	snapshot   Snapshot
	nodes      []Node
	groups     []Group
	running    []RunningJob
	ended      []EndedJob
	finished   []FinishedRuns
	local      []LocalPartition
	partitions []Partition
	answers    []int
	turns      int
}

// modelPass is one function that looks at the cluster.
type modelPass struct {
	stage    func(*modelPass)
	at       time.Time
	arrived  *flowMail
	sweep    bool
	rounds   int
	tries    int
	revision int
	facts    Facts
	decided  int
	answered []int
	intents  []*modelIntent
	over     bool
	// surprised says that an effect came out differently than planned.
	surprised bool
}

func newOverflowShell(seed uint64) *overflowShell {
	s := &overflowShell{burstCluster: newBurstCluster(seed), epoch: 1, newest: map[string]int{}, met: map[Code]int{}}
	s.blind = s.IntN(3) == 0
	s.names = oneOf(s.world, 64, 64, 2, 1)
	if s.crowd {
		s.names = 1000
	}
	f := &s.ledger.facts
	for _, a := range s.policy.Nodearrays {
		f.Nodearrays = append(f.Nodearrays, NodearrayFacts{Name: a.Name})
		for _, name := range a.Nodes {
			f.Nodes = append(f.Nodes, Node{Name: name, Nodearray: a.Name})
		}
	}
	s.nextSweep = s.now.Add(s.span(10, 300))
	s.audit = &auditor{overflowShell: s, let: map[string]*letJob{}, refused: map[string]Reason{}, arrived: map[string]bool{}, closed: map[string]time.Time{}, open: map[NodearrayName]time.Time{}}
	return s
}

// modelLimit is how long a cluster may take.
const modelLimit = 5 * time.Hour

func runOverflow(seed uint64, tells bool) *overflowShell {
	s := newOverflowShell(seed)
	s.tells = tells
	for s.broken == nil && !s.over() {
		s.tick()
		s.giveUp()
		s.agent()
		s.cloud()
		s.audit.watch()
		if s.now.Sub(s.start) > modelLimit {
			s.breaks("not over after %s: %s", modelLimit, s.picture())
		}
	}
	if s.broken == nil {
		s.audit.end()
	}
	return s
}

// over reports whether all is done and the ledger knows it.
func (s *overflowShell) over() bool {
	return s.rests() && len(s.ledger.facts.Memory.Jobs) == 0 && len(s.ledger.facts.Memory.Noticed) == 0
}

// giveUp lets users cancel jobs that only the cloud could take and that it did
// not take in an hour.
func (s *overflowShell) giveUp() {
	if s.now.Before(s.calm.Add(2 * time.Hour)) {
		return
	}
	for _, j := range s.jobs {
		if j.waits(s.now) && !slices.Contains(j.parts, "local") {
			s.given = append(s.given, j)
			s.audit.gaveUp(j)
			s.cancel(j)
		}
	}
}

// mishap is true in one of n cases, where things may go wrong.
func (s *overflowShell) mishap(n int) bool { return !s.gentle && s.chance(n) }

func (s *overflowShell) tell(format string, args ...any) {
	if s.tells {
		s.story = append(s.story, fmt.Sprintf("%8s ", s.now.Sub(s.start))+fmt.Sprintf(format, args...))
	}
}

func (s *overflowShell) picture() string {
	var b strings.Builder
	for _, name := range s.array.Nodes {
		n := s.nodes[name]
		fmt.Fprintf(&b, "%s=%s/%s", name, n.state, s.vms[name].supply(s.now))
		if n.job != nil {
			fmt.Fprintf(&b, "[%s]", n.job.id)
		}
		b.WriteByte(' ')
	}
	for _, j := range s.jobs {
		if j.waits(s.now) {
			fmt.Fprintf(&b, "%s(%d)%v:%s ", j.id, j.size, j.parts, j.reason)
		}
	}
	return b.String()
}

// agent carries out what arrived, and sends a snapshot on change and as a
// heartbeat. It reads nodes first, and sometimes its jobs a moment later.
func (s *overflowShell) agent() {
	s.orders = slices.DeleteFunc(s.orders, func(o order) bool {
		if s.now.Before(o.at) {
			return false
		}
		if !s.now.After(o.expires) {
			s.obeyOrder(o)
			if !o.silent {
				s.heard = append(s.heard, o.id)
			}
		}
		return true
	})
	if s.mishap(1500) {
		s.epoch, s.sequence = s.epoch+1, 0
	}
	switch {
	case s.reading != nil:
	case s.told == s.turns && s.now.Before(s.nextBeat):
		return
	default:
		s.sequence++
		s.reading = &flowMail{snapshot: Snapshot{Position{s.epoch, s.sequence}, s.now}, nodes: s.reports(), turns: s.turns}
		if s.mishap(6) {
			return
		}
	}
	m := s.reading
	m.groups, m.running, m.local, m.partitions = s.groups(s.names), s.running(), s.onprem(), s.partitions()
	m.ended, m.finished, s.ended, s.ran = s.ended, s.ran, nil, nil
	slices.SortFunc(m.ended, func(a, b EndedJob) int { return strings.Compare(a.ID, b.ID) })
	m.answers = slices.Clone(s.heard)
	s.reading, s.told, s.nextBeat = nil, m.turns, s.now.Add(s.span(24, 36))
	for !s.mishap(8) {
		m.at = s.now
		if s.mishap(3) {
			m.at = s.now.Add(s.span(0, 80))
		}
		s.mail = append(s.mail, *m)
		if !s.mishap(8) {
			break
		}
	}
}

// obeyOrder carries out a command, unless a later one about the same was
// obeyed.
func (s *overflowShell) obeyOrder(o order) {
	c := o.command
	family := map[CommandKind]string{ReleaseJobs: "move", RevokeJobs: "move", GatePartition: "gate", BeginNow: "begin", NoticeJobs: "notice"}[c.Kind]
	if family == "" {
		s.obey(c)
		return
	}
	fresh := func(target string) bool {
		key := family + " " + target
		if s.newest[key] > o.generation {
			return false
		}
		s.newest[key] = o.generation
		return true
	}
	if c.Kind == GatePartition {
		if fresh(c.Partition) {
			s.sends(c)
		}
		return
	}
	var jobs []string
	for _, id := range c.Jobs {
		if fresh(id) {
			jobs = append(jobs, id)
		}
	}
	c.Jobs = jobs
	s.sends(c)
}

// reports is what a snapshot says about every node.
func (s *overflowShell) reports() []Node {
	nodes := make([]Node, 0, len(s.array.Nodes))
	for _, name := range s.array.Nodes {
		n := s.nodes[name]
		r := Node{Slurm: n.state, Since: n.since}
		if n.state == Idle && n.job != nil {
			r.Slurm = Busy
		}
		if n.state == PoweringUp {
			if !s.blind {
				r.ResumeID = fmt.Sprintf("%s/%d", name, n.resume)
			}
			if n.job != nil {
				r.Jobs = []BootJob{{n.job.id, n.job.batch}}
			}
		}
		nodes = append(nodes, r)
	}
	return nodes
}

// cloud starts passes for what arrived, and lets those under way go on.
func (s *overflowShell) cloud() {
	var newest *flowMail
	s.mail = slices.DeleteFunc(s.mail, func(m flowMail) bool {
		if s.now.Before(m.at) {
			return false
		}
		if newest == nil || m.snapshot.After(newest.snapshot.Position) || s.IntN(4) == 0 {
			newest = &m
		}
		return true
	})
	if newest != nil {
		s.arrives(newest)
	}
	for i := range s.ledger.facts.Nodearrays {
		for _, t := range s.ledger.facts.Nodearrays[i].Armed {
			if !t.At.After(s.now) && t.At.After(s.now.Add(-modelTick)) && !s.mishap(6) {
				s.again = true
			}
		}
	}
	if !s.now.Before(s.nextSweep) {
		s.again, s.sweeps = true, true
		s.nextSweep = s.now.Add(5 * time.Minute)
	}
	if s.again && len(s.passes) < 2 {
		s.begin(&modelPass{sweep: s.sweeps})
		s.again, s.sweeps = false, false
	}
	for _, p := range slices.Clone(s.passes) {
		for !p.over && !s.now.Before(p.at) && s.broken == nil {
			p.stage(p)
		}
	}
	s.passes = slices.DeleteFunc(s.passes, func(p *modelPass) bool { return p.over })
}

// arrives looks at a snapshot: one that says nothing new is only noted.
func (s *overflowShell) arrives(m *flowMail) {
	l := &s.ledger
	if !m.snapshot.After(l.facts.Snapshot.Position) {
		return
	}
	open := slices.ContainsFunc(m.answers, func(id int) bool {
		return slices.ContainsFunc(l.sent, func(c sentCommand) bool { return c.id == id })
	})
	if m.turns == l.decided && !open && len(l.intents) == 0 && (l.due.IsZero() || s.now.Before(l.due)) {
		l.facts.Snapshot = m.snapshot
		return
	}
	if len(s.passes) >= 2 {
		m.at = s.now.Add(modelTick) // delivered again
		s.mail = append(s.mail, *m)
		return
	}
	s.begin(&modelPass{arrived: m})
}

func (s *overflowShell) begin(p *modelPass) {
	p.stage, p.at = s.load, s.now
	s.passes = append(s.passes, p)
}

// slow is when the next stage of a pass comes: mostly at once, sometimes so
// late that another pass comes in between.
func (s *overflowShell) slow() time.Time {
	if s.mishap(4) {
		return s.now.Add(s.span(1, 12))
	}
	return s.now
}

// load rolls forward what somebody left behind and takes a copy of the facts.
func (s *overflowShell) load(p *modelPass) {
	for _, i := range slices.Clone(s.ledger.intents) {
		if !s.now.Before(i.claimed) {
			i.owner, i.claimed = p, s.now.Add(90*time.Second)
			s.carryOut(p, i)
		}
	}
	l := &s.ledger
	p.revision, p.facts, p.decided, p.answered = l.revision, l.facts, l.decided, nil
	p.facts.Nodes = slices.Clone(l.facts.Nodes)
	p.facts.CycleCloudFailed = false
	for i := range p.facts.Nodearrays {
		p.facts.Nodearrays[i].Available = Availability{}
	}
	if m := p.arrived; m != nil && m.snapshot.After(p.facts.Snapshot.Position) {
		s.takes(p, m)
	}
	s.overlayCommands(p)
	for i := range p.facts.Nodes {
		notePassage(&p.facts.Nodes[i], p.facts.Snapshot.Position)
	}
	if p.sweep {
		p.facts.Paused = s.mishap(12)
		s.listAll(p)
	}
	p.stage, p.at = s.decideAndCommit, s.slow()
}

// takes replaces what the snapshot before said.
func (s *overflowShell) takes(p *modelPass, m *flowMail) {
	f := &p.facts
	f.Snapshot, f.Groups, f.Running, f.Ended, f.Finished = m.snapshot, m.groups, m.running, m.ended, m.finished
	f.Local, f.Partitions = m.local, m.partitions
	for i := range f.Nodes {
		n, r := &f.Nodes[i], m.nodes[i]
		n.Slurm, n.Since, n.ResumeID, n.Jobs = r.Slurm, r.Since, r.ResumeID, r.Jobs
	}
	p.decided, p.answered = m.turns, m.answers
}

// overlayCommands joins the commands without an answer with the facts.
func (s *overflowShell) overlayCommands(p *modelPass) {
	for i := range p.facts.Nodes {
		p.facts.Nodes[i].Command = OpenCommand{}
	}
	p.facts.JobCommands = nil
	for _, o := range s.ledger.sent {
		if slices.Contains(p.answered, o.id) || s.now.After(o.expires) {
			continue
		}
		for i := range p.facts.Nodes {
			if n := &p.facts.Nodes[i]; slices.Contains(o.command.Nodes, n.Name) && o.expires.After(n.Command.ExpiresAt) {
				n.Command = OpenCommand{o.command.Kind, o.expires}
			}
		}
		if len(o.command.Jobs) > 0 || o.command.Kind == GatePartition {
			p.facts.JobCommands = append(p.facts.JobCommands, JobCommand{o.command.Kind, o.command.Jobs, o.command.Partition, o.expires})
		}
	}
}

// unsettled reports whether what becomes of the node is being asked for.
func (s *overflowShell) unsettled(name NodeName) bool {
	return slices.ContainsFunc(s.ledger.intents, func(i *modelIntent) bool {
		return i.create != nil && slices.Contains(i.create.Nodes, name) ||
			i.terminate != nil && slices.ContainsFunc(i.terminate.Targets, func(t Target) bool { return t.Node == name })
	})
}

func (s *overflowShell) listAll(p *modelPass) {
	if p.facts.CycleCloudFailed = s.now.Before(s.down); p.facts.CycleCloudFailed {
		return
	}
	for i := range p.facts.Nodes {
		if n := &p.facts.Nodes[i]; !s.unsettled(n.Name) {
			s.show(n)
		}
	}
}

// decides asks CycleCloud where the core wants to know more. Whoever looks at
// the same facts comes to the same plan.
func (s *overflowShell) decides(p *modelPass) Plan {
	for range 3 {
		plan := Decide(s.now, s.policy, p.facts)
		if s.chance(50) {
			if other := Decide(s.now, s.policy, copyOf(p.facts)); !reflect.DeepEqual(plan, other) {
				s.breaks("two deciders differ:\n%s", cmp.Diff(plan, other))
			}
		}
		switch {
		case p.facts.CycleCloudFailed || !plan.Look && !plan.Status:
			return plan
		case plan.Look:
			s.listAll(p)
		case s.now.Before(s.down):
			p.facts.CycleCloudFailed = true
		default:
			p.facts.Nodearrays = slices.Clone(p.facts.Nodearrays)
			for i := range p.facts.Nodearrays {
				p.facts.Nodearrays[i].Available = s.offers(i)
			}
		}
	}
	return Decide(s.now, s.policy, p.facts)
}

// decideAndCommit is one transaction: who looked at an older revision loses,
// and begins anew.
func (s *overflowShell) decideAndCommit(p *modelPass) {
	plan := s.decides(p)
	s.plans++
	if p.revision != s.ledger.revision {
		s.conflicts++
		p.tries++
		p.stage, p.over = s.load, p.tries > 5
		return
	}
	if s.mishap(60) { // killed before the commit: nothing has happened
		s.crashes++
		p.over = true
		return
	}
	reasonsOf(plan, func(r Reason) { s.met[r.Code]++ })
	if plan.Acts() || len(plan.Failures) > 0 {
		s.tell("%s\n%s", s.picture(), renderPlan(s.now, plan))
	}
	next := p.facts.After(s.now, plan)
	s.audit.commit(p.facts, plan, next)
	again := Decide(s.now, s.policy, next)
	next = next.After(s.now, Plan{Timers: again.Timers, Memory: next.Memory})
	l := &s.ledger
	l.revision++
	l.facts, l.due, l.decided = next, again.NextDue, p.decided
	l.sent = slices.DeleteFunc(slices.Clone(l.sent), func(c sentCommand) bool {
		return slices.Contains(p.answered, c.id) || s.now.After(c.expires)
	})
	p.intents = s.intentsOf(p, plan)
	l.intents = append(slices.Clone(l.intents), p.intents...)
	if s.mishap(40) { // killed after it: somebody else finds the intents
		s.crashes++
		p.over = true
		return
	}
	p.stage, p.at = s.act, s.slow()
}

func (s *overflowShell) intentsOf(p *modelPass, plan Plan) []*modelIntent {
	l := &s.ledger
	var all []*modelIntent
	add := func() *modelIntent {
		i := &modelIntent{
			request: fmt.Sprintf("%d/%02d", l.revision, len(all)), generation: l.revision, owner: p,
			claimed: s.now.Add(90 * time.Second), notAfter: s.now.Add(5 * time.Minute),
		}
		if s.mishap(3) {
			i.claimed = s.now.Add(s.span(5, 20)) // a function that says that it gives up
		}
		all = append(all, i)
		return i
	}
	for _, c := range plan.Commands {
		l.ids++
		sent := sentCommand{l.ids, c, s.now.Add(CommandTTL)}
		l.sent = append(l.sent, sent)
		add().command = &sent
	}
	for _, t := range plan.Terminates {
		add().terminate = &t
	}
	for _, c := range plan.Creates {
		add().create = &c
	}
	return all
}

// act carries out what the pass committed, and decides again where something
// came out differently.
func (s *overflowShell) act(p *modelPass) {
	for _, i := range p.intents {
		if i.settled || i.owner != p || !s.now.Before(i.claimed) {
			continue
		}
		if s.mishap(80) {
			s.crashes++
			p.over = true
			return
		}
		s.carryOut(p, i)
	}
	p.intents = nil
	p.rounds++
	if p.surprised && p.rounds < 3 {
		p.surprised = false
		p.stage, p.at = s.load, s.now
		return
	}
	p.over = true
}

// carryOut makes an effect happen, and settles it. It may have happened before.
func (s *overflowShell) carryOut(p *modelPass, i *modelIntent) {
	switch {
	case i.command != nil:
		s.sendOrder(i)
	case s.now.Before(s.down):
		i.claimed = s.now.Add(15 * time.Second) // CycleCloud does not answer
		return
	case s.now.After(i.notAfter) && i.terminate != nil: // history
	case i.terminate != nil:
		for _, t := range i.terminate.Targets {
			s.terminate(t)
			if s.mishap(4) {
				s.terminate(t)
			}
		}
	case s.now.After(i.notAfter) && s.answers[i.request] == nil: // history
		s.ledger.facts.Nodes = slices.Clone(s.ledger.facts.Nodes)
		for k := range s.ledger.facts.Nodes {
			if n := &s.ledger.facts.Nodes[k]; slices.Contains(i.create.Nodes, n.Name) {
				n.Forget()
			}
		}
	default:
		array := slices.IndexFunc(s.policy.Nodearrays, func(a Nodearray) bool { return a.Name == i.create.Nodearray })
		taken := s.makes(i.request, array, i.create.Nodes)
		if s.mishap(8) {
			taken = s.makes(i.request, array, i.create.Nodes)
		}
		if s.mishap(30) {
			s.crashes++ // killed before it could note the answer
			i.claimed = s.now
			return
		}
		s.noteTaken(p, i.create.Nodes, taken)
	}
	i.settled = true
	s.ledger.intents = slices.DeleteFunc(slices.Clone(s.ledger.intents), func(o *modelIntent) bool { return o == i })
	s.ledger.revision++
}

func (s *overflowShell) noteTaken(p *modelPass, names []NodeName, taken map[NodeName]bool) {
	l := &s.ledger
	l.facts.Nodes = slices.Clone(l.facts.Nodes)
	for k := range l.facts.Nodes {
		n := &l.facts.Nodes[k]
		switch {
		case !slices.Contains(names, n.Name):
		case taken[n.Name] && s.vms[n.Name] != nil:
			n.Supply, n.NodeID, n.SeenAt = Booting, s.vms[n.Name].id, s.now
		case taken[n.Name]: // it is gone already, as a look will show
			n.Supply, n.SeenAt = Absent, s.now
		default:
			n.Fail(s.now, ReasonCreateRefused)
			p.surprised = true
		}
	}
}

func (s *overflowShell) sendOrder(i *modelIntent) {
	c := i.command
	if s.now.After(c.expires) {
		return
	}
	o := order{id: c.id, command: c.command, at: s.now.Add(s.span(0, 4)), expires: c.expires, silent: s.mishap(10), generation: i.generation}
	if n := len(s.orders); n > 0 && o.at.Before(s.orders[n-1].at) {
		o.at = s.orders[n-1].at // a session keeps its order
	}
	if s.mishap(10) {
		return // lost
	}
	s.orders = append(s.orders, o)
	if s.mishap(10) {
		s.orders = append(s.orders, o)
	}
}
