package burst

import "slices"

// create asks for the nodes that Slurm is powering up, whole jobs only, as far
// as limits, money and availability go.
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
	room := a.policy.MaxNodes - a.existing
	groups := byJob(a.candidates)
	fits := slices.ContainsFunc(groups, func(g []*Node) bool { return len(g) <= room })
	if fits && !a.facts.Available.Known {
		a.awaitStatus()
		return
	}
	a.createWithin(groups, room)
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

func (a *arrayDecision) createWithin(groups [][]*Node, room int) {
	available := room
	if a.facts.Available.Known {
		available = min(room, a.facts.Available.Count, a.facts.Available.MaxCount-a.existing)
	}
	c := Create{Nodearray: a.policy.Name, MachineType: a.policy.MachineType, PlacementGroup: a.policy.PlacementGroup}
	var rest [][]*Node
	var later []postponed
	for _, group := range groups {
		if job := a.left(group); job != "" {
			a.postpone(group, because(ReasonOlderSnapshot, "job %s left the node while Slurm was read; a newer snapshot has to tell", job))
			continue
		}
		if len(group) > available {
			rest = append(rest, group)
			continue
		}
		if why := a.notNow(group); why.Code != "" {
			later = append(later, postponed{group, why})
			continue
		}
		if !a.admit(group) {
			continue
		}
		available -= len(group)
		room -= len(group)
		for _, n := range group {
			c.Nodes = append(c.Nodes, n.Name)
		}
	}
	for _, p := range later {
		if len(p.group) > available {
			rest = append(rest, p.group) // others had what it could have had
		} else {
			a.postpone(p.group, p.why)
		}
	}
	a.shortOf(rest, room, available)
	if len(c.Nodes) > 0 {
		c.Reason = because(ReasonWanted, "Slurm is powering up %s that CycleCloud lacks", count(len(c.Nodes), "node"))
		a.plan.Creates = append(a.plan.Creates, c)
	}
}

// shortOf holds or aborts the groups for which too little is left.
func (a *arrayDecision) shortOf(groups [][]*Node, room, available int) {
	short := false
	for _, group := range groups {
		if len(group) > room {
			a.overLimit(group, because(ReasonMaxNodes, "%s needed together, the limit is %d and %d exist or are asked for",
				count(len(group), "node"), a.policy.MaxNodes, a.policy.MaxNodes-room))
			continue
		}
		short = true
		a.abortAfter(group, closeAfterShortage,
			because(ReasonAvailable, "%s needed together, CycleCloud leaves room for %d", count(len(group), "node"), max(available, 0)))
	}
	switch until := a.now.Add(closeAfterShortage); {
	case short && available <= 0:
		a.rest(until, because(ReasonAvailable, "CycleCloud leaves room for no node"))
	case short:
		a.reached(Retry, until) // smaller jobs may have what is left
	}
}

// overLimit handles nodes that Slurm allocated before the fence stood.
func (a *arrayDecision) overLimit(group []*Node, why Reason) {
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

// admit decides whether the jobs that wait for the nodes may have them, and
// sets aside what they cost. Jobs that were released have been judged; one that
// its owner sent to the cloud meets its limits here.
func (a *arrayDecision) admit(group []*Node) bool {
	if why := a.decision.overCluster(len(group)); why.Code != "" {
		a.overLimit(group, why)
		return false
	}
	if why := a.commit(group); why.Code != "" {
		a.overLimit(group, why)
		return false
	}
	a.decision.created += len(group)
	a.probe = a.probe || a.probing()
	a.stepUp(len(group))
	return true
}

// postponed are nodes that may be had a little later.
type postponed struct {
	group []*Node
	why   Reason
}

// notNow reports why the nodes may be had a little later only.
func (a *arrayDecision) notNow(group []*Node) Reason {
	if a.probing() && a.probe {
		return because(ReasonProbing, "%s failed before and one job tries it first", a.policy.Name)
	}
	if step := a.policy.StepUp.Nodes; step > 0 && len(group) > a.stepLeft() && !(len(group) > step && a.stepLeft() == step) {
		a.reached(Retry, a.step.UpFrom.Add(a.policy.StepUp.Every))
		return because(ReasonStep, "%s takes at most %s within %s", a.policy.Name, count(step, "new node"), seconds(a.policy.StepUp.Every))
	}
	return Reason{}
}

// postpone holds nodes that may be had a little later.
func (a *arrayDecision) postpone(group []*Node, why Reason) {
	for _, n := range group {
		a.hold(n.Name, why)
	}
}

// left names a job that a node waits for and that holds no nodes any more: nodes
// are read before jobs. Where limits depend on who owns a job, it has to be known.
func (a *arrayDecision) left(group []*Node) string {
	p := &a.decision.policy
	byOwner := len(p.Accounts)+len(p.Users) > 0 || slices.ContainsFunc(p.Budgets, func(b Budget) bool { return b.Scope == ScopeAccount })
	if !byOwner || a.decision.facts.Cut {
		return ""
	}
	for _, job := range jobsOf(group) {
		if !a.admitted(job) && a.running[job] == nil {
			return job
		}
	}
	return ""
}

// overCluster reports why the cluster may not have so many nodes more.
func (d *decision) overCluster(nodes int) Reason {
	if d.policy.MaxNodes <= 0 {
		return Reason{}
	}
	existing := d.created
	for _, a := range d.ranked {
		existing += a.existing
	}
	if existing+nodes <= d.policy.MaxNodes {
		return Reason{}
	}
	return because(ReasonClusterNodes, "%s needed together, the cluster may have %d and %d exist or are asked for",
		count(nodes, "node"), d.policy.MaxNodes, existing)
}

// commit takes the jobs of the group into the memory that hold no money yet, if
// limits and budgets allow each of them; else none.
func (a *arrayDecision) commit(group []*Node) Reason {
	d := a.decision
	var taken []CloudJob
	var no Reason
	for _, job := range jobsOf(group) {
		if d.admitted(job) {
			continue
		}
		d.endShadow(job)
		record := a.recordOf(job, len(group))
		if no = d.spend(record); no.Code != "" {
			break
		}
		taken = append(taken, record)
	}
	for _, record := range taken {
		if no.Code != "" {
			d.till.release(&record)
			d.usage.add(record.User, record.Account, -record.Nodes)
			continue
		}
		d.keep(record)
	}
	return no
}

// admitted reports whether nodes and money are set aside for the job. What was
// counted in shadow mode does not count once the policy is active.
func (d *decision) admitted(job string) bool {
	k, known := d.acted[job]
	return known && d.memory.Jobs[k].RevokedAt.IsZero() && (d.policy.Shadow || !d.memory.Jobs[k].Shadow)
}

// endShadow gives back what a job holds that only would have been released.
func (d *decision) endShadow(job string) {
	if k, known := d.acted[job]; known && d.memory.Jobs[k].Shadow && d.memory.Jobs[k].RevokedAt.IsZero() {
		old := d.memory.Jobs[k]
		d.till.release(&old)
		d.usage.add(old.User, old.Account, -old.Nodes)
	}
}

// spend takes nodes and money for a job, or reports why it may not have them.
func (d *decision) spend(record CloudJob) Reason {
	if b := d.usage.allows(record.User, record.Account, record.Nodes); b.blocks() {
		return b.reason()
	}
	if ok, why := d.till.afford(record.Nodearray, record.Account, record.Committed); !ok {
		d.untilPeriodsEnd()
		return why
	}
	d.till.commit(record.Nodearray, record.Account, record.Committed)
	d.usage.add(record.User, record.Account, record.Nodes)
	return Reason{}
}

// jobsOf names the jobs that wait for the nodes, each once, sorted.
func jobsOf(group []*Node) []string {
	var jobs []string
	for _, n := range group {
		for _, boot := range n.Jobs {
			if !slices.Contains(jobs, boot.ID) {
				jobs = append(jobs, boot.ID)
			}
		}
	}
	slices.Sort(jobs)
	return jobs
}

// recordOf makes the record of a job that its owner sent to the cloud. What the
// snapshot does not tell is taken to be the worst.
func (a *arrayDecision) recordOf(job string, nodes int) CloudJob {
	record := CloudJob{ID: job, Nodearray: a.policy.Name, Nodes: nodes, Rate: a.policy.Price, CommittedAt: a.now, Shadow: a.decision.policy.Shadow}
	if k, ok := a.acted[job]; ok { // taken back too late
		old := &a.memory.Jobs[k]
		record.User, record.Account, record.TimeLimit = old.User, old.Account, old.TimeLimit
		record.Home, record.Tried, record.SubmittedAt = old.Home, old.Tried, old.SubmittedAt
	}
	if r := a.running[job]; r != nil {
		record.User, record.Account, record.TimeLimit = r.User, r.Account, r.TimeLimit
		record.Nodes = max(r.Nodes, 1)
	}
	record.Committed = commitment(record.Rate, record.Nodes, record.TimeLimit)
	return record
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
