package burst

import (
	"cmp"
	"slices"
)

// shareRoom divides what the cluster's limit leaves among the nodearrays: first
// to what waiting jobs need, in rank order, then to who has room and keeps it
// until somebody needs it, and what is still left in rank order. A name that
// Slurm may allocate counts until its fence is confirmed, so what one gives up
// another one gets in a later plan.
func (o *overflow) shareRoom() {
	if o.policy.MaxNodes <= 0 {
		return
	}
	o.need()
	left, unfenced := o.policy.MaxNodes, o.policy.MaxNodes
	for _, a := range o.ranked {
		f := &a.fencing
		f.part, f.gives = 0, 0
		left -= a.taken + f.back
		unfenced -= a.taken + f.back + f.open
	}
	for _, upTo := range []func(*fencing) int{
		func(f *fencing) int { return f.need },
		func(f *fencing) int { return min(f.kept, f.most()) },
		func(f *fencing) int { return f.most() },
	} {
		for _, a := range o.ranked {
			more := max(min(upTo(&a.fencing)-a.fencing.part, left), 0)
			a.fencing.part += more
			left -= more
		}
	}
	for _, upTo := range []func(*fencing) int{
		func(f *fencing) int { return min(f.need, f.part) },
		func(f *fencing) int { return f.part },
	} {
		for _, a := range o.ranked {
			more := max(min(upTo(&a.fencing)-a.fencing.kept-a.fencing.gives, unfenced), 0)
			a.fencing.gives += more
			unfenced -= more
		}
	}
}

// need counts for each nodearray the powered-down names that jobs need beside
// nodes that are idle or on their way back: those that were released to it, and
// those whose owners sent them there and that could start, whole jobs only.
func (o *overflow) need() {
	wanted := make(map[*arrayDecision]int, len(o.ranked))
	for i := range o.memory.Jobs {
		if a := o.awaits(&o.memory.Jobs[i]); a != nil {
			wanted[a] += o.memory.Jobs[i].Nodes
		}
	}
	free := 0
	for _, a := range o.ranked {
		free += max(a.roomForJobs()-wanted[a], 0)
	}
	for _, g := range o.wishes() {
		if free <= 0 {
			break
		}
		free -= o.wish(g, wanted)
	}
	for _, a := range o.ranked {
		f := &a.fencing
		f.need = max(min(wanted[a]-a.free-f.back, f.most()), 0)
	}
}

// roomForJobs is how many nodes of waiting jobs the nodearray could hold now if the
// cluster had no limit.
func (a *arrayDecision) roomForJobs() int { return a.free + a.fencing.back + a.fencing.most() }

// wishes are the groups that wait for nodes of the cloud, in an order that does
// not depend on that of the facts.
func (o *overflow) wishes() []*Group {
	stuck := 0
	for _, a := range o.ranked {
		stuck += a.stuck
	}
	var groups []*Group
	for i := range o.facts.Groups {
		g := &o.facts.Groups[i]
		// A job that can never fit, or not before an admin acts, keeps nobody out.
		if g.lacksNodes() && g.Nodes <= o.policy.MaxNodes-stuck && slices.ContainsFunc(g.Partitions, func(p string) bool { return o.clouds[p] }) {
			groups = append(groups, g)
		}
	}
	slices.SortStableFunc(groups, func(a, b *Group) int {
		return cmp.Or(a.OldestSubmit.Compare(b.OldestSubmit), cmp.Compare(a.Key, b.Key))
	})
	return groups
}

// wish adds the nodes that jobs of the group want to those of the first
// nodearrays in rank that could start them, and gives their number.
func (o *overflow) wish(g *Group, wanted map[*arrayDecision]int) (sum int) {
	nodes := max(g.Nodes, 1)
	jobs, admitted := -1, 0
	for _, a := range o.ranked {
		fit := (a.roomForJobs() - wanted[a]) / nodes
		if fit <= 0 || jobs == 0 || !slices.Contains(g.Partitions, a.policy.Partition) || o.takes(a, g).blocks() || o.fitsNode(a, g).blocks() {
			continue
		}
		if jobs < 0 {
			jobs, admitted = o.sentByOwner(g)
		}
		n := min(jobs, fit)
		if n > admitted {
			n = min(n, admitted+o.affordable(a, g, nodes))
		}
		o.usage.add(g.User, g.Account, max(n-admitted, 0)*nodes)
		jobs, admitted = jobs-n, max(admitted-n, 0)
		wanted[a] += n * nodes
		sum += n * nodes
	}
	return sum
}

// affordable is how many jobs of the group limits of their owner and budgets let
// into the nodearray: others would get no nodes.
func (o *overflow) affordable(a *arrayDecision, g *Group, nodes int) int {
	if ok, _ := o.till.afford(a.policy.Name, g.Account, commitment(a.policy.Price, nodes, g.TimeLimit)); !ok {
		o.untilPeriodsEnd()
		return 0
	}
	return o.usage.left(g.User, g.Account) / nodes
}

// sentByOwner counts the jobs of a group that list the cloud because their owner
// wanted it, and those of them for which nodes and money are set aside. Released
// jobs are counted by their records. Where the list names an on-prem partition
// too, a job without an id may be a released one.
func (o *overflow) sentByOwner(g *Group) (jobs, admitted int) {
	if len(o.home(g)) == 0 {
		jobs = max(g.Count-len(g.Jobs), 0)
	}
	for _, id := range g.Jobs {
		k, known := o.acted[id]
		if known && len(o.memory.Jobs[k].Home) > 0 && o.memory.Jobs[k].TakenBackAt.IsZero() {
			continue
		}
		jobs++
		if o.admitted(id) {
			admitted++
		}
	}
	return jobs, admitted
}

// clusterFull says why the cluster's limit leaves too little for the nodearray.
func (a *arrayDecision) clusterFull() Reason {
	most := count(a.decision.policy.MaxNodes, "node")
	for _, other := range a.ranked {
		if other != a && other.fencing.need > 0 {
			return because(ReasonClusterNodes, "the cluster may have at most %s, and jobs that wait for %s need them", most, other.policy.Name)
		}
	}
	return because(ReasonClusterNodes, "the cluster may have at most %s", most)
}

// waitsForAdmin is 1 for a node that keeps its room until an admin acts.
func waitsForAdmin(n *Node) int {
	switch moves[n.Slurm][n.Supply] {
	case moveAdmin, moveReport, moveUndefined:
		return 1
	default:
		return 0
	}
}
