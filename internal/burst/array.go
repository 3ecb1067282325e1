package burst

import (
	"slices"
	"time"
)

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

	breaker *Breaker
	step    StepMemory
	// probe says that a node is on its way that shows whether the nodearray
	// works again.
	probe bool
	// taken are the nodes that count against the limit, existing those that may
	// have a VM, newborn those of them that CycleCloud may not count yet, free
	// those that are up and idle.
	// owed those that Slurm wakes and that CycleCloud was not asked for yet,
	// barred those whose names Slurm may not allocate.
	taken, existing, newborn, free int
	owed, barred                   int
	// waiting are the nodes of released jobs that wait for them, promised what
	// idle nodes do not cover of them, idleFree what they leave of those.
	waiting, promised, idleFree int
	// startable are the powered-down nodes that Slurm may allocate and that are
	// ready, and those that are idle. fencedFor is why Slurm may not have all.
	startable int
	fencedFor Reason
	fencing   fencing
	// stuck are nodes that count against the limit until an admin acts.
	stuck int
}

type commandTarget struct {
	node NodeName
	why  Reason
}

// follow makes the cloud follow Slurm's node table, and counts.
func (a *arrayDecision) follow() {
	for _, n := range a.nodes {
		a.move(n)
		if n.takesRoom() {
			a.taken++
			a.stuck += waitsForAdmin(n)
		}
		if n.Supply != Absent || n.Slurm.joined() {
			a.existing++ // a VM that may be there counts as one
		}
		if (n.Supply == Creating || n.Supply == Booting) && a.now.Sub(n.CreatedAt) < availableLag {
			a.newborn++
		}
		switch n.Slurm {
		case Waking, PoweringUp, DownPoweringUp:
			if n.Supply == Absent {
				a.owed++
			}
		case Drained, Undefined:
			if !n.takesRoom() {
				a.barred++
			}
		default:
		}
	}
	a.promise(0)
}

// promise notes that a released job waits for so many nodes more.
func (a *arrayDecision) promise(nodes int) {
	a.waiting += nodes
	a.promised = max(a.waiting-a.free, 0)
	a.idleFree = max(a.free-a.waiting, 0)
}

// inWindow reports whether the schedule lets the nodearray take jobs.
func (a *arrayDecision) inWindow() bool {
	if a.policy.Window == nil {
		return true
	}
	open, changes := a.policy.Window.At(a.now)
	if !changes.IsZero() {
		a.reached(Retry, changes)
	}
	return open
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
	if a.decision.policy.Shadow && n.failedSince(n.Since.Add(-clockGrain)) {
		return // what would end it is withheld
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
