package burst

import (
	"slices"
	"time"
)

// The core's own waiting times. They are not policy: they bound how often the
// same thing is tried, not what it may cost.
const (
	// AbortCooldown is how long a node name rests after an aborted boot, so
	// that no name is aborted twice within it.
	AbortCooldown = 5 * time.Minute
	// abortRest counts from the sending of an abort, which may be carried out
	// as late as its command expires.
	abortRest = AbortCooldown + CommandTTL
	// closeAfterRefusal is how long a nodearray rests after CycleCloud refused
	// or lost a node; CycleCloud's own ThrottleCapacityTime is as long.
	closeAfterRefusal = 5 * time.Minute
	// closeAfterShortage is how long it rests after availableCount fell short,
	// which is often only lag.
	closeAfterShortage = time.Minute
	// bootLook is how often CycleCloud is asked about a node that boots.
	bootLook = time.Minute
	// goneLookFirst and goneLookLast bound how often it is asked about a node
	// that goes.
	goneLookFirst = 2 * time.Second
	goneLookLast  = 30 * time.Second
	// listLag is how long a node that CycleCloud accepted may be missing from
	// its list before it counts as vanished.
	listLag = 15 * time.Second
	// removalLimit is how long CycleCloud may take to remove a node before an
	// admin is told: its VM may still bill.
	removalLimit = 30 * time.Minute
	// retryEffect is how long a failed or unheard effect rests at first,
	// retryEffectMax at last.
	retryEffect    = 30 * time.Second
	retryEffectMax = 5 * time.Minute
	// clockGrain is how far the cloud's idea of when something happened in Slurm
	// may be off, and differ from one snapshot to the next: the broker's times
	// reach a function in whole seconds.
	clockGrain = 2 * time.Second
	// retryCycleCloud is how long CycleCloud rests after it did not answer.
	retryCycleCloud = 15 * time.Second
)

// Decide returns the changes to make to the cloud side of the cluster, and the
// reason for every change and every refusal. It is deterministic: equal
// arguments give equal plans, in a stable order.
func Decide(now time.Time, p Policy, f Facts) Plan {
	d := &decision{now: now, facts: f}
	if stale, why := staleness(now, p, f.Snapshot); stale {
		for _, array := range p.Nodearrays {
			d.plan.Holds = append(d.plan.Holds, Hold{Nodearray: array.Name, Reason: why})
		}
		if !f.Snapshot.AsOf.IsZero() {
			// The next snapshot has to be decided on even if it says nothing new.
			d.plan.NextDue = f.Snapshot.AsOf.Add(p.MaxActAge)
		}
		return d.plan
	}
	d.known = make(map[NodeName]int, len(f.Nodes))
	for i := range f.Nodes {
		d.known[f.Nodes[i].Name] = i
	}
	for _, array := range p.Nodearrays {
		a := &arrayDecision{decision: d, policy: array, facts: f.nodearray(array.Name), due: map[Purpose]time.Time{}}
		a.nodes = make([]*Node, len(array.Nodes))
		for i, name := range array.Nodes {
			if at, ok := d.known[name]; ok {
				a.nodes[i] = &f.Nodes[at] // read only
			} else {
				a.nodes[i] = &Node{Name: name, Nodearray: array.Name}
			}
		}
		a.decide()
	}
	return d.plan
}

// staleness reports whether the snapshot is too old to act on.
func staleness(now time.Time, p Policy, s Snapshot) (bool, Reason) {
	if s.AsOf.IsZero() {
		return true, because(ReasonNoSnapshot, "no snapshot of Slurm has arrived yet")
	}
	if age := now.Sub(s.AsOf); age >= p.MaxActAge {
		return true, because(ReasonStale, "the newest snapshot is older than %s", seconds(p.MaxActAge))
	}
	return false, Reason{}
}

func (f Facts) nodearray(name NodearrayName) NodearrayFacts {
	for _, a := range f.Nodearrays {
		if a.Name == name {
			return a
		}
	}
	return NodearrayFacts{Name: name}
}

// decision collects the plan of one call of Decide.
type decision struct {
	now   time.Time
	facts Facts
	known map[NodeName]int // index of facts.Nodes
	plan  Plan
}

// arrayDecision decides for one nodearray.
type arrayDecision struct {
	*decision
	policy Nodearray
	facts  NodearrayFacts
	nodes  []*Node // in the policy's order

	candidates []*Node // powering up, absent, and nothing forbids a create yet
	closing    Closing
	commands   map[CommandKind][]commandTarget
	terminates []Terminate
	holds      []Hold
	holdIndex  map[Reason]int
	begin      []string
	due        map[Purpose]time.Time
}

type commandTarget struct {
	node NodeName
	why  Reason
}

func (a *arrayDecision) decide() {
	a.commands = map[CommandKind][]commandTarget{}
	a.holdIndex = map[Reason]int{}
	for _, n := range a.nodes {
		a.move(n)
	}
	a.create()
	a.fence()
	a.emit()
}

// reached reports whether t has come. If not, t becomes a moment at which the
// nodearray has to be looked at again: every comparison with the clock goes
// through here, so that NextDue cannot miss one.
func (a *arrayDecision) reached(purpose Purpose, t time.Time) bool {
	if !a.now.Before(t) {
		return true
	}
	if due, ok := a.due[purpose]; !ok || t.Before(due) {
		a.due[purpose] = t
	}
	return false
}

// open reports whether a command about the node is unanswered, which forbids
// another one.
func (a *arrayDecision) open(n *Node) bool {
	return n.Command.Kind != "" && !a.reached(Retry, n.Command.ExpiresAt)
}

// blocked holds a node with an unanswered command.
func (a *arrayDecision) blocked(n *Node) bool {
	open := a.open(n)
	if open {
		a.hold(n.Name, because(ReasonCommandOpen, "Slurm has not answered %s yet", n.Command.Kind))
	}
	return open
}

func (a *arrayDecision) hold(node NodeName, why Reason) {
	i, ok := a.holdIndex[why]
	if !ok {
		i = len(a.holds)
		a.holdIndex[why] = i
		a.holds = append(a.holds, Hold{Nodearray: a.policy.Name, Reason: why})
	}
	a.holds[i].Nodes = append(a.holds[i].Nodes, node)
}

func (a *arrayDecision) command(kind CommandKind, node NodeName, why Reason) {
	a.commands[kind] = append(a.commands[kind], commandTarget{node, why})
}

func (a *arrayDecision) terminate(n *Node, why Reason) {
	if n.NodeID == "" {
		a.look(n)
		return
	}
	i := slices.IndexFunc(a.terminates, func(t Terminate) bool { return t.Reason == why })
	if i < 0 {
		i = len(a.terminates)
		a.terminates = append(a.terminates, Terminate{Nodearray: a.policy.Name, Reason: why})
	}
	a.terminates[i].Targets = append(a.terminates[i].Targets, Target{Node: n.Name, NodeID: n.NodeID})
}

// fail records a failure, unless the facts say nothing about the node: then
// nothing would remember that it was recorded.
func (a *arrayDecision) fail(n *Node, why Reason) {
	if _, ok := a.known[n.Name]; !ok {
		return
	}
	a.plan.Failures = append(a.plan.Failures, Failure{Nodearray: a.policy.Name, Node: n.Name, Reason: why})
}

// failOnce records a failure that lasts once for the time that the node spends
// in its Slurm state.
func (a *arrayDecision) failOnce(n *Node, why Reason) {
	if !n.failedSince(n.Since.Add(-clockGrain)) {
		a.fail(n, why)
	}
}

// look asks for CycleCloud's node list, unless it just failed to give it. The
// answer may leave the question open, so it is asked again.
func (a *arrayDecision) look(n *Node) {
	a.reached(Retry, a.now.Add(retryCycleCloud))
	if a.decision.facts.CycleCloudFailed {
		a.hold(n.Name, because(ReasonCycleCloudFailed, "CycleCloud does not answer"))
		return
	}
	a.hold(n.Name, because(ReasonAskCycleCloud, "CycleCloud has to be asked about the node first"))
	a.plan.Look = true
}

// close takes the nodearray out of use until the given time, if that is later
// than what is known already.
func (a *arrayDecision) close(until time.Time, why Reason) {
	if a.now.Before(until) && until.After(a.facts.ClosedUntil) && until.After(a.closing.Until) {
		a.closing = Closing{Nodearray: a.policy.Name, Until: until, Reason: why}
	}
}

// closed reports whether the nodearray rests.
func (a *arrayDecision) closed() bool {
	if !a.closing.Until.IsZero() {
		a.reached(Retry, a.closing.Until)
		return true
	}
	return !a.facts.ClosedUntil.IsZero() && !a.reached(Retry, a.facts.ClosedUntil)
}

// commandOrder is the order in which commands have to reach Slurm: nothing
// new may be allocated before boots are aborted, and a requeued job may begin
// only when the names that failed are fenced.
var commandOrder = []CommandKind{FenceNodes, AbortBoot, BeginNow, PowerDown, PowerDownASAP, PowerDownDone, UnfenceNodes}

// emit writes what was decided for the nodearray into the plan.
func (a *arrayDecision) emit() {
	plan := &a.decision.plan
	for _, kind := range commandOrder {
		if kind == BeginNow && len(a.begin) > 0 {
			slices.Sort(a.begin)
			jobs := slices.Compact(a.begin)
			plan.Commands = append(plan.Commands, Command{
				Kind: BeginNow, Nodearray: a.policy.Name, Jobs: jobs,
				Reason: because(ReasonRequeued, "the abort of a boot requeued %s with a begin time two minutes away", count(len(jobs), "job")),
			})
		}
		a.emitCommands(kind)
	}
	plan.Terminates = append(plan.Terminates, a.terminates...)
	if !a.closing.Until.IsZero() {
		plan.Closings = append(plan.Closings, a.closing)
	}
	plan.Holds = append(plan.Holds, a.holds...)
	a.emitTimers()
}

// emitCommands makes one command per kind and reason.
func (a *arrayDecision) emitCommands(kind CommandKind) {
	plan := &a.decision.plan
	first := len(plan.Commands)
	for _, t := range a.commands[kind] {
		i := slices.IndexFunc(plan.Commands[first:], func(c Command) bool { return c.Reason == t.why })
		if i < 0 {
			plan.Commands = append(plan.Commands, Command{Kind: kind, Nodearray: a.policy.Name, Reason: t.why})
			i = len(plan.Commands) - 1 - first
		}
		c := &plan.Commands[first+i]
		c.Nodes = append(c.Nodes, t.node)
	}
}

// emitTimers arms the earliest moment of each purpose, unless a timer that
// is armed already fires early enough.
func (a *arrayDecision) emitTimers() {
	plan := &a.decision.plan
	for _, purpose := range []Purpose{BootDeadline, IdleDeadline, Retry} {
		due, ok := a.due[purpose]
		if !ok {
			continue
		}
		if plan.NextDue.IsZero() || due.Before(plan.NextDue) {
			plan.NextDue = due
		}
		armed := slices.ContainsFunc(a.facts.Armed, func(t Timer) bool {
			return t.Purpose == purpose && t.At.After(a.now) && !t.At.After(due.Add(time.Second))
		})
		if !armed {
			plan.Timers = append(plan.Timers, Timer{Nodearray: a.policy.Name, Purpose: purpose, At: due})
		}
	}
}
