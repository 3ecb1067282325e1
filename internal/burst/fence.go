package burst

import (
	"slices"
)

// create asks for the nodes that Slurm is powering up, whole jobs only, as far
// as limit and availability go.
func (a *arrayDecision) create() {
	if len(a.candidates) == 0 {
		return
	}
	if a.decision.facts.Paused {
		for _, n := range a.candidates {
			a.hold(n.Name, because(ReasonPaused, "an admin paused bursting"))
		}
		return
	}
	if a.closed() {
		why := because(ReasonClosed, "the nodearray rests after a failure")
		for _, group := range byJob(a.candidates) {
			a.abortAfter(group, closeAfterShortage, why)
		}
		return
	}
	existing := 0
	for _, n := range a.nodes {
		if n.Supply != Absent || n.Slurm.joined() {
			existing++ // a VM that may be there counts as one
		}
	}
	room := a.policy.MaxNodes - existing
	groups := byJob(a.candidates)
	fits := slices.ContainsFunc(groups, func(g []*Node) bool { return len(g) <= room })
	if fits && !a.facts.Available.Known {
		a.awaitStatus()
		return
	}
	a.createWithin(groups, room, existing)
}

// awaitStatus holds the candidates until CycleCloud's limits are known.
func (a *arrayDecision) awaitStatus() {
	a.reached(Retry, a.now.Add(retryCycleCloud))
	for _, n := range a.candidates {
		if a.decision.facts.CycleCloudFailed {
			a.hold(n.Name, because(ReasonCycleCloudFailed, "CycleCloud does not answer"))
		} else {
			a.hold(n.Name, because(ReasonAskCycleCloud, "CycleCloud has to be asked for its limits first"))
			a.plan.Status = true
		}
	}
}

func (a *arrayDecision) createWithin(groups [][]*Node, room, existing int) {
	available := room
	if a.facts.Available.Known {
		available = min(room, a.facts.Available.Count, a.facts.Available.MaxCount-existing)
	}
	c := Create{Nodearray: a.policy.Name, MachineType: a.policy.MachineType, PlacementGroup: a.policy.PlacementGroup}
	var rest [][]*Node
	for _, group := range groups {
		if len(group) > available {
			rest = append(rest, group)
			continue
		}
		available -= len(group)
		room -= len(group)
		for _, n := range group {
			c.Nodes = append(c.Nodes, n.Name)
		}
	}
	short := false
	for _, group := range rest {
		if len(group) > room {
			a.overLimit(group, a.policy.MaxNodes-room)
			continue
		}
		short = true
		a.abortAfter(group, closeAfterShortage,
			because(ReasonAvailable, "%s needed together, CycleCloud leaves room for %d", count(len(group), "node"), max(available, 0)))
	}
	switch until := a.now.Add(closeAfterShortage); {
	case short && available <= 0:
		a.close(until, because(ReasonAvailable, "CycleCloud leaves room for no node"))
	case short:
		a.reached(Retry, until) // smaller jobs may have what is left
	}
	if len(c.Nodes) > 0 {
		c.Reason = because(ReasonWanted, "Slurm is powering up %s that CycleCloud lacks", count(len(c.Nodes), "node"))
		a.plan.Creates = append(a.plan.Creates, c)
	}
}

// overLimit handles nodes that Slurm allocated before the fence stood.
func (a *arrayDecision) overLimit(group []*Node, taken int) {
	why := because(ReasonMaxNodes, "%s needed together, the limit is %d and %d exist or are asked for",
		count(len(group), "node"), a.policy.MaxNodes, taken)
	for _, n := range group {
		switch {
		case a.abortable(n):
			a.abort(n, why)
		case n.Command.Kind == AbortBoot && a.blocked(n):
		default:
			a.hold(n.Name, why)
		}
	}
}

// byJob groups nodes that jobs need together: a job runs on all of its nodes
// or on none. Groups and nodes keep their order.
func byJob(nodes []*Node) [][]*Node {
	group := make([]int, len(nodes)) // union-find: the group's first node
	var find func(int) int
	find = func(i int) int {
		if group[i] != i {
			group[i] = find(group[i])
		}
		return group[i]
	}
	first := map[string]int{}
	for i, n := range nodes {
		group[i] = i
		for _, job := range n.Jobs {
			j, ok := first[job.ID]
			if !ok {
				first[job.ID] = i
				continue
			}
			a, b := find(i), find(j)
			group[max(a, b)] = min(a, b)
		}
	}
	index := map[int]int{}
	var groups [][]*Node
	for i, n := range nodes {
		root := find(i)
		g, ok := index[root]
		if !ok {
			g = len(groups)
			index[root] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], n)
	}
	return groups
}

// fence keeps the powered-down nodes that Slurm may allocate within what the
// limit still allows: Slurm cannot ask for a node that cannot be had.
func (a *arrayDecision) fence() {
	room := a.policy.MaxNodes
	var usable, occupied, fenced []*Node
	for _, n := range a.nodes {
		if n.takesRoom() {
			room--
		}
		switch {
		case n.Slurm == PoweredDown && n.Supply == Absent, n.Slurm == PoweredDown && n.Supply == SupplyUnknown:
			usable = append(usable, n)
		case n.Slurm == PoweredDown && moves[n.Slurm][n.Supply] == moveWaitGone:
			occupied = append(occupied, n)
		case n.Slurm == Fenced && !n.Supply.present() && n.Command.Kind == UnfenceNodes && a.open(n):
			room-- // on its way back
		case n.Slurm == Fenced && n.Supply == Absent:
			fenced = append(fenced, n)
		}
	}
	why := because(ReasonFence, "%d of at most %s are up or asked for", a.policy.MaxNodes-room, count(a.policy.MaxNodes, "node"))
	switch {
	case a.decision.facts.Paused:
		room, why = 0, because(ReasonPaused, "an admin paused bursting")
		usable, occupied = append(occupied, usable...), nil
	case a.closed():
		room, why = 0, because(ReasonClosed, "the nodearray rests after a failure")
		usable, occupied = append(occupied, usable...), nil
	}
	// A name whose VM is on its way out has taken its room already.
	a.fenceUsable(occupied, len(occupied)+min(room, 0), why)
	a.unfence(fenced, a.fenceUsable(usable, max(room, 0), why))
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

// unfence gives nodes back while there is room, the first names first.
func (a *arrayDecision) unfence(fenced []*Node, room int) {
	for _, n := range fenced {
		if room <= 0 {
			return
		}
		if a.cooling(n) || a.open(n) {
			continue
		}
		room--
		a.command(UnfenceNodes, n.Name, because(ReasonUnfence, "the limit of %s has room again", count(a.policy.MaxNodes, "node")))
	}
}

// cooling reports whether the name rests after an aborted boot.
func (a *arrayDecision) cooling(n *Node) bool {
	return !n.AbortedAt.IsZero() && !a.reached(Retry, n.AbortedAt.Add(abortRest))
}
