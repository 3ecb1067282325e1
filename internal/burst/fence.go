package burst

import (
	"slices"
	"time"
)

// fencing is what the fence of one nodearray works with.
type fencing struct {
	// usable are the powered-down names that Slurm may allocate, occupied those
	// of them whose VM is on its way out, fenced those that may be given back.
	usable, occupied, fenced []*Node
	// back are names on their way back to Slurm, open the usable ones, whether
	// they are to be fenced or not, kept those of them that may stay, ready those
	// that may stay or be given back.
	back, open, kept, ready int
	// room is what all limits but the cluster's leave for names beside those on
	// their way back, why the tightest of these limits.
	room int
	why  Reason
	// need is how many of them waiting jobs need, part what the cluster's limit
	// leaves for them, gives how many may be given back before Slurm has confirmed
	// more fences.
	need, part, gives int
}

// most is how many names beside those on their way back Slurm may allocate by
// all limits but the cluster's.
func (f *fencing) most() int { return min(max(f.room, 0), f.ready) }

// census counts the powered-down names and what each limit but the cluster's
// leaves of them.
func (a *arrayDecision) census() {
	f := &a.fencing
	for _, n := range a.nodes {
		switch {
		case n.Slurm == PoweredDown && n.Supply == Absent, n.Slurm == PoweredDown && n.Supply == SupplyUnknown:
			f.usable = append(f.usable, n)
			if !a.cooling(n) && (n.Command.Kind != FenceNodes || !a.open(n)) {
				f.kept++
			}
		case n.Slurm == PoweredDown && moves[n.Slurm][n.Supply] == moveWaitGone:
			f.occupied = append(f.occupied, n)
		case n.Slurm == Fenced && !n.Supply.present() && n.Command.Kind == UnfenceNodes && a.open(n):
			f.back++
		case n.Slurm == Fenced && n.Supply == Absent:
			f.fenced = append(f.fenced, n)
			if !a.cooling(n) && !a.open(n) {
				f.ready++
			}
		}
	}
	f.open, f.ready, f.part, f.gives = len(f.usable), f.ready+f.kept, len(a.nodes), len(a.nodes)
	f.room = a.policy.MaxNodes - a.taken - f.back
	f.why = because(ReasonFence, "%d of at most %s are up or asked for", a.policy.MaxNodes-f.room, count(a.policy.MaxNodes, "node"))
	switch {
	case a.decision.facts.Paused:
		f.room, f.why = 0, because(ReasonPaused, "an admin paused bursting")
		f.usable, f.occupied = append(f.occupied, f.usable...), nil
	case a.closed():
		f.room, f.why = 0, because(ReasonClosed, "the nodearray rests after a failure")
		f.usable, f.occupied = append(f.occupied, f.usable...), nil
	}
	if most, limit := a.allowance(); f.room > most-f.back {
		f.room, f.why = most-f.back, limit
	}
}

// fence keeps the powered-down nodes that Slurm may allocate within what the
// limit still allows: Slurm cannot ask for a node that cannot be had.
func (a *arrayDecision) fence() {
	f := &a.fencing
	room, why := f.room, f.why
	if f.part < f.most() {
		room, why = f.part, a.clusterFull()
	}
	// A name whose VM is on its way out has taken its room already.
	a.fenceUsable(f.occupied, len(f.occupied)+min(room, 0), why)
	left := a.fenceUsable(f.usable, max(room, 0), why)
	a.tellApart(append(f.usable, f.fenced...), max(room, 0), f.back, why)
	a.unfence(min(left, f.gives))
}

// tellApart counts how many of the powered-down nodes Slurm may allocate at once,
// and notes why not all of them.
func (a *arrayDecision) tellApart(nodes []*Node, room, back int, why Reason) {
	ready := 0
	for _, n := range nodes {
		if !a.cooling(n) {
			ready++
		}
	}
	switch {
	case room < len(nodes):
		a.fencedFor = why
	case ready < len(nodes), slices.ContainsFunc(a.nodes, func(n *Node) bool { return n.Slurm == PoweringDown && a.cooling(n) }):
		a.fencedFor = because(ReasonCooling, "names of %s rest for %s after an aborted boot", a.policy.Name, seconds(AbortCooldown))
	}
	a.startable = back + min(room, ready) + a.free
}

// allowance is how many powered-down nodes Slurm may allocate for all reasons
// but the limits of the nodearray and the cluster: users may reach them without
// asking anybody.
func (a *arrayDecision) allowance() (int, Reason) {
	most, why := len(a.nodes), Reason{}
	bound := func(n int, code Code, format string, args ...any) {
		if n < most {
			most, why = max(n, 0), because(code, format, args...)
		}
	}
	if a.policy.Gated {
		bound(0, ReasonGate, "the gate of %s is closed", a.policy.Name)
	}
	if !a.inWindow() {
		bound(0, ReasonWindow, "%s is outside its schedule", a.policy.Name)
	}
	// What jobs need is not known for sure, so the fence does not keep them out
	// for ever; creates are held to one job all the same.
	if a.probing() && !a.reached(Retry, a.breaker.OpenUntil.Add(probePatience)) {
		tries := max(a.promised, a.largest(), 1)
		if a.probe {
			tries = 0
		}
		bound(tries, ReasonProbing, "%s failed before and one job tries it first", a.policy.Name)
	}
	if step := a.policy.StepUp; step.Nodes > 0 {
		a.reached(Retry, a.step.UpFrom.Add(step.Every))
		left := max(a.stepLeft(), a.promised)
		if a.step.Up == 0 {
			left = max(left, a.largest()) // a job above the step goes alone
		}
		bound(left, ReasonStep, "%s takes at most %s within %s", a.policy.Name, count(step.Nodes, "new node"), seconds(step.Every))
	}
	if len(a.decision.policy.Budgets) > 0 {
		fits := a.till.nodesFor(a.policy.Name, a.dearest())
		if fits < len(a.nodes) {
			a.untilPeriodsEnd()
		}
		bound(a.promised+fits, ReasonBudgetHard, "a budget of %s leaves money for %s", a.policy.Name, count(fits, "node"))
	}
	return most, why
}

// largest is how many nodes the largest job needs that waits for the partition.
func (a *arrayDecision) largest() int {
	nodes := 0
	for i := range a.decision.facts.Groups {
		if g := &a.decision.facts.Groups[i]; slices.Contains(g.Partitions, a.policy.Partition) {
			nodes = max(nodes, g.Nodes)
		}
	}
	return nodes
}

// dearest is what one node may have to commit for a job that Slurm could start
// on it without asking: the longest limit of those that wait for the partition,
// and at least an hour.
func (a *arrayDecision) dearest() Money {
	longest := time.Hour
	for i := range a.decision.facts.Groups {
		g := &a.decision.facts.Groups[i]
		if slices.Contains(g.Partitions, a.policy.Partition) {
			longest = max(longest, limitOf(g.TimeLimit))
		}
	}
	for _, n := range a.candidates {
		for _, job := range n.Jobs {
			if r := a.running[job.ID]; r != nil {
				longest = max(longest, limitOf(r.TimeLimit))
			}
		}
	}
	return cost(a.policy.Price, 1, longest)
}

// takesRoom reports whether the node counts against the limit, apart from
// those that Slurm may still allocate. A node that is powering down or being
// repaired does: its name is about to be allocatable again. So does one in a
// state that nobody mapped, and one that Slurm powered down but may use until
// its next reconfigure.
func (n *Node) takesRoom() bool {
	switch n.Slurm {
	case PoweringDown, DownPoweredDown, StuckPoweredDown, SlurmUnknown:
		return true
	default:
		return n.Slurm.wanted() || n.Supply.present()
	}
}

// fenceUsable fences the usable nodes beyond room, the last names first, and
// gives back the room that is left. A node whose fence is on its way keeps no
// other from staying usable, but no name is given back in its place: Slurm may
// still allocate it.
func (a *arrayDecision) fenceUsable(usable []*Node, room int, why Reason) int {
	going := 0
	for _, n := range usable {
		cooling := a.cooling(n)
		switch {
		case n.Command.Kind == FenceNodes && a.open(n):
			going++
		case cooling && !a.open(n):
			going++
			a.command(FenceNodes, n.Name, because(ReasonCooling, "the name rests for %s after an aborted boot", seconds(AbortCooldown)))
		case !cooling && room > 0:
			room--
		case a.open(n):
			going++
		default:
			going++
			a.command(FenceNodes, n.Name, why)
		}
	}
	return room - going
}

// unfence gives nodes back while there is room, the first names first, and says
// of which ones the room has to come free elsewhere.
func (a *arrayDecision) unfence(room int) {
	f := &a.fencing
	needed := 0
	if a.decision.policy.MaxNodes > 0 {
		needed = min(f.need, f.part) - f.kept
	}
	for _, n := range f.fenced {
		if room <= 0 && needed <= 0 {
			return
		}
		if a.cooling(n) || a.open(n) {
			continue
		}
		switch {
		case room > 0 && needed > 0:
			a.command(UnfenceNodes, n.Name, because(ReasonUnfence, "jobs that wait for %s need its nodes", a.policy.Name))
		case room > 0:
			a.command(UnfenceNodes, n.Name, because(ReasonUnfence, "the limit of %s has room again", count(a.policy.MaxNodes, "node")))
		default:
			a.hold(n.Name, because(ReasonCommandOpen, "jobs need the node, and Slurm has not confirmed yet that others are fenced for it"))
		}
		room--
		needed--
	}
}

// cooling reports whether the name rests after an aborted boot.
func (a *arrayDecision) cooling(n *Node) bool {
	return !n.AbortedAt.IsZero() && !a.reached(Retry, n.AbortedAt.Add(abortRest))
}
