package burst

import "slices"

// fencedOut says why jobs wait that their owners sent to the cloud and that need
// more nodes than the fence leaves them: Slurm only says that they wait.
func (o *overflow) fencedOut() {
	for _, g := range o.direct {
		a := o.keptOut(g)
		if a == nil {
			continue
		}
		why := a.fencedFor
		o.plan.Verdicts = append(o.plan.Verdicts, Verdict{
			Group: g.Key, Nodearray: a.policy.Name, Held: max(g.Count, len(g.Jobs)), Reason: why,
			Cost: commitment(a.policy.Price, max(g.Nodes, 1), g.TimeLimit),
		})
		if o.policy.Shadow {
			continue
		}
		for _, job := range g.Jobs {
			if !o.tell(wholeArray(job), why) {
				break
			}
		}
	}
}

// keptOut gives the first nodearray whose fence keeps a job of the group from
// starting, where no partition of its list has enough nodes.
func (o *overflow) keptOut(g *Group) *arrayDecision {
	if !g.lacksNodes() {
		return nil
	}
	var first *arrayDecision
	for _, p := range g.Partitions {
		nodes := 0
		for _, a := range o.ranked {
			if a.policy.Partition != p {
				continue
			}
			nodes += a.startable
			if first == nil && a.fencedFor.Code != "" {
				first = a
			}
		}
		if nodes >= max(g.Nodes, 1) {
			return nil
		}
	}
	return first
}

// lacksNodes reports whether any nodes of a partition are all that the jobs lack.
// ReqNodeNotAvail is what the first of them may be told where all its nodes are
// drained (measured on 22.05.8).
func (g *Group) lacksNodes() bool {
	return !g.NodeList && slices.Contains([]string{"Resources", "Priority", "ReqNodeNotAvail"}, g.StateReason)
}
