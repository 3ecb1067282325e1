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
	// closeAfterRefusal is how long a nodearray rests after CycleCloud refused
	// or lost a node; CycleCloud's own ThrottleCapacityTime is as long.
	closeAfterRefusal = 5 * time.Minute
	// closeAfterShortage is how long it rests after availableCount fell short,
	// which is often only lag.
	closeAfterShortage = time.Minute
	// bootLook is how often CycleCloud is asked about a node that boots.
	bootLook = time.Minute
	// goneLookMin and goneLookMax bound how often it is asked about a node
	// that goes.
	goneLookMin = 2 * time.Second
	goneLookMax = 30 * time.Second
	// retryEffect is how long a failed or unheard effect rests.
	retryEffect = 30 * time.Second
	// clockGrain is how far the cloud's idea of when something happened in Slurm
	// may be off: the broker's times reach a function in whole seconds.
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
		return d.plan
	}
	nodes := make(map[NodeName]Node, len(f.Nodes))
	for _, n := range f.Nodes {
		nodes[n.Name] = n
	}
	for _, array := range p.Nodearrays {
		a := &arrayDecision{decision: d, policy: array, facts: f.nodearray(array.Name), due: map[Purpose]time.Time{}}
		a.nodes = make([]Node, len(array.Nodes))
		for i, name := range array.Nodes {
			n := nodes[name]
			n.Name, n.Nodearray = name, array.Name
			a.nodes[i] = n
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
	plan  Plan
}

// arrayDecision decides for one nodearray.
type arrayDecision struct {
	*decision
	policy Nodearray
	facts  NodearrayFacts
	nodes  []Node // in the policy's order

	candidates []Node // powering up, absent, and nothing forbids a create yet
	closing    Closing
	commands   map[CommandKind][]commandTarget
	terminates map[Code]*Terminate
	holds      []Hold
	holdIndex  map[Code]int
	begin      []string
	due        map[Purpose]time.Time
}

type commandTarget struct {
	node NodeName
	why  Reason
}

func (a *arrayDecision) decide() {
	a.commands = map[CommandKind][]commandTarget{}
	a.terminates = map[Code]*Terminate{}
	a.holdIndex = map[Code]int{}
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

// blocked reports whether an unanswered command about the node forbids
// another one.
func (a *arrayDecision) blocked(n Node) bool {
	if n.Command.Kind == "" || a.reached(Retry, n.Command.ExpiresAt) {
		return false
	}
	a.hold(n.Name, because(ReasonCommandOpen, "Slurm has not answered %s yet", n.Command.Kind))
	return true
}

func (a *arrayDecision) hold(node NodeName, why Reason) {
	i, ok := a.holdIndex[why.Code]
	if !ok {
		i = len(a.holds)
		a.holdIndex[why.Code] = i
		a.holds = append(a.holds, Hold{Nodearray: a.policy.Name, Reason: why})
	}
	a.holds[i].Nodes = append(a.holds[i].Nodes, node)
}

func (a *arrayDecision) command(kind CommandKind, node NodeName, why Reason) {
	a.commands[kind] = append(a.commands[kind], commandTarget{node, why})
}

func (a *arrayDecision) terminate(n Node, why Reason) {
	if n.NodeID == "" {
		a.look(n)
		return
	}
	t := a.terminates[why.Code]
	if t == nil {
		t = &Terminate{Nodearray: a.policy.Name, Reason: why}
		a.terminates[why.Code] = t
	}
	t.Targets = append(t.Targets, Target{Node: n.Name, NodeID: n.NodeID})
}

func (a *arrayDecision) fail(n Node, why Reason) {
	a.plan.Failures = append(a.plan.Failures, Failure{Nodearray: a.policy.Name, Node: n.Name, Reason: why})
}

// look asks for CycleCloud's node list, unless it just failed to give it.
func (a *arrayDecision) look(n Node) {
	if a.decision.facts.CycleCloudFailed {
		a.hold(n.Name, because(ReasonCycleCloudFailed, "CycleCloud does not answer"))
		a.reached(Retry, a.now.Add(retryCycleCloud))
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
			plan.Commands = append(plan.Commands, Command{Kind: BeginNow, Nodearray: a.policy.Name, Jobs: slices.Compact(a.begin),
				Reason: because(ReasonRequeued, "the abort of a boot requeued %d jobs with a begin time two minutes away", len(a.begin))})
		}
		a.emitCommands(kind)
	}
	codes := make([]Code, 0, len(a.terminates))
	for code := range a.terminates {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	for _, code := range codes {
		plan.Terminates = append(plan.Terminates, *a.terminates[code])
	}
	if !a.closing.Until.IsZero() {
		plan.Closings = append(plan.Closings, a.closing)
	}
	plan.Holds = append(plan.Holds, a.holds...)
	a.emitTimers()
}

// emitCommands makes one command per kind and reason code.
func (a *arrayDecision) emitCommands(kind CommandKind) {
	plan := &a.decision.plan
	first := len(plan.Commands)
	for _, t := range a.commands[kind] {
		i := slices.IndexFunc(plan.Commands[first:], func(c Command) bool { return c.Reason.Code == t.why.Code })
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
