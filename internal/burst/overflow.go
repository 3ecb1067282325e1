package burst

import (
	"cmp"
	"slices"
	"time"
)

// overflow decides which waiting jobs may use the cloud, and says for every
// group of them why not. Jobs that were released before are steered: kept,
// moved to the next nodearray in rank, or revoked.
type overflow struct {
	*decision
	rules      map[string][]*Overflow // by on-prem partition, in the policy's order
	clouds     map[string]bool        // the partitions of the nodearrays
	partitions map[string]*Partition
	// commanded are jobs with an unanswered command, beginning those with an
	// unanswered begin_now, gates partitions with one.
	commanded, beginning map[string]*JobCommand
	gates                map[string]*JobCommand
	// demand is the work that waits in each on-prem partition and may leave it.
	demand map[string]time.Duration
	local  map[string]LocalPartition
	sends  []sending
	told   *notices
	// back finds, by job or array, the record of one that was taken back; listed
	// are the arrays that have the cloud in their list.
	back   map[string]int
	listed map[string]bool
	// direct are the groups that their owners sent to the cloud.
	direct []*Group
}

// sending collects the jobs that get one command for one reason.
type sending struct {
	command Command
	key     string
}

func (d *decision) newOverflow() *overflow {
	o := &overflow{
		decision: d, rules: map[string][]*Overflow{}, clouds: map[string]bool{}, partitions: map[string]*Partition{},
		commanded: map[string]*JobCommand{}, beginning: map[string]*JobCommand{}, gates: map[string]*JobCommand{},
		demand: map[string]time.Duration{}, local: map[string]LocalPartition{},
		back: map[string]int{}, listed: map[string]bool{},
	}
	for i := range d.policy.Overflow {
		rule := &d.policy.Overflow[i]
		o.rules[rule.Partition] = append(o.rules[rule.Partition], rule)
	}
	for _, a := range d.policy.Nodearrays {
		o.clouds[a.Partition] = true
	}
	for i := range d.facts.Partitions {
		o.partitions[d.facts.Partitions[i].Name] = &d.facts.Partitions[i]
	}
	for i := range d.facts.JobCommands {
		c := &d.facts.JobCommands[i]
		if c.Kind == GatePartition {
			o.gates[c.Partition] = c
			continue
		}
		if c.Kind == NoticeJobs {
			continue // it stands in nobody's way
		}
		commanded := o.commanded
		if c.Kind == BeginNow {
			commanded = o.beginning // the job may be moved meanwhile
		}
		for _, job := range c.Jobs {
			if other := commanded[job]; other == nil || cmp.Or(c.ExpiresAt.Compare(other.ExpiresAt), cmp.Compare(c.Kind, other.Kind)) > 0 {
				commanded[job] = c
			}
		}
	}
	for i := range d.memory.Jobs {
		o.noteBack(i)
	}
	for _, l := range d.facts.Local {
		o.local[l.Name] = l
	}
	return o
}

// run judges every group and emits the commands: released jobs first, then the
// others, the oldest group first.
func (o *overflow) run() {
	judged := o.eligible()
	o.told = o.newNotices()
	// What released jobs give back others may have, also older ones.
	for _, j := range judged {
		if len(j.ours) > 0 {
			j.steered, j.at = o.steer(j)
		}
	}
	for _, j := range judged {
		o.decide(j)
	}
	o.gatePartitions()
}

// judgement is what is known about one group before limits are asked.
type judgement struct {
	group *Group
	rule  *Overflow
	// ours are jobs that were released, fresh those that may be, in the order of
	// the group.
	ours, fresh []string
	// told are the jobs with a reason of their own; kept are those that stay for
	// the reason of the group.
	told    []telling
	kept    []string
	keptWhy Reason
	// starting says that one of the jobs is taken to start on-prem any moment.
	starting bool
	// unnamed is how many jobs of the group have no id in the snapshot.
	unnamed int
	// run is how long one job is expected to run.
	run time.Duration
	// steered is what became of the last of ours, and at its nodearray.
	steered Reason
	at      NodearrayName
	// why, if it has a code, keeps the fresh jobs where they are.
	why Reason
}

// telling is what one job is to be told.
type telling struct {
	job string
	why Reason
}

func (j *judgement) tell(job string, why Reason) { j.told = append(j.told, telling{job, why}) }

// eligible sorts the groups and judges each without regard to the others.
// Groups that no rule speaks of and that we never touched are left out: they
// are none of our business, unless the fence keeps them out of the cloud.
func (o *overflow) eligible() []*judgement {
	all := make([]judgement, len(o.facts.Groups))
	judged := make([]*judgement, 0, len(all))
	steered := o.steered()
	for i := range o.facts.Groups {
		g, j := &o.facts.Groups[i], &all[i]
		j.group, j.unnamed = g, max(g.Count-len(g.Jobs), 0)
		j.sort(steered)
		o.noteListed(j)
		home := o.home(g)
		rules := o.rulesFor(home)
		if len(rules) == 0 && len(j.ours) == 0 {
			if len(home) == 0 {
				o.direct = append(o.direct, g)
			}
			continue
		}
		j.run = o.memory.expectedRun(g.Account, g.User, g.TimeLimit)
		j.rule, j.why = o.suits(g, rules)
		if j.why.Code == "" && len(j.fresh)+j.unnamed > 0 {
			for _, p := range home {
				o.demand[p] = longer(o.demand[p], work(g, len(j.fresh)+j.unnamed, j.run))
			}
		}
		judged = append(judged, j)
	}
	slices.SortStableFunc(judged, func(a, b *judgement) int {
		return cmp.Or(a.group.OldestSubmit.Compare(b.group.OldestSubmit), cmp.Compare(a.group.Key, b.group.Key))
	})
	return judged
}

// steered are the jobs that were released and did not start: few, beside all
// that wait.
func (o *overflow) steered() map[string]bool {
	jobs := map[string]bool{}
	for i := range o.memory.Jobs {
		if j := &o.memory.Jobs[i]; j.RevokedAt.IsZero() && j.StartedAt.IsZero() {
			jobs[j.ID] = true
		}
	}
	return jobs
}

// sort tells the jobs that were released from the others.
func (j *judgement) sort(steered map[string]bool) {
	j.fresh = j.group.Jobs
	if len(steered) == 0 {
		return
	}
	ours := func(job string) bool { return steered[job] }
	if !slices.ContainsFunc(j.group.Jobs, ours) {
		return
	}
	j.fresh = nil
	for _, job := range j.group.Jobs {
		if ours(job) {
			j.ours = append(j.ours, job)
		} else {
			j.fresh = append(j.fresh, job)
		}
	}
}

// home gives the on-prem partitions of a group.
func (o *overflow) home(g *Group) []string {
	var home []string
	for _, p := range g.Partitions {
		if !o.clouds[p] {
			home = append(home, p)
		}
	}
	return home
}

func (o *overflow) rulesFor(home []string) []*Overflow {
	if len(home) == 1 {
		return o.rules[home[0]]
	}
	var rules []*Overflow
	for _, p := range home {
		rules = append(rules, o.rules[p]...)
	}
	return rules
}

// work is the node time that jobs of a group ask for; it saturates.
func work(g *Group, jobs int, run time.Duration) time.Duration {
	return nodeTime(jobs, nodeTime(max(g.Nodes, 1), run))
}

// decide gives the group its verdict.
func (o *overflow) decide(j *judgement) {
	v := Verdict{Group: j.group.Key}
	if len(j.ours) > 0 {
		v.Reason, v.Nodearray, v.Held = j.steered, j.at, len(j.ours)
	}
	if aside := o.setAside(j); aside.Code != "" {
		v.Reason = aside
		v.Held += len(j.told) - len(j.ours)
		v.Cost = o.estimate(j, "")
	}
	if len(j.fresh)+j.unnamed > 0 {
		o.release(j, &v)
	}
	o.plan.Verdicts = append(o.plan.Verdicts, v)
	o.notice(j)
}

// release lets as many of the fresh jobs go as every rule and limit allows.
func (o *overflow) release(j *judgement, v *Verdict) {
	held := len(j.fresh) + j.unnamed
	why, starts := j.why, Reason{}
	at := 0
	for ; at < len(j.fresh) && why.Code == ""; at++ {
		job := j.fresh[at]
		if why = o.waits(j, at); why.Code != "" {
			break
		}
		array, no := o.place(j, nil)
		if array == nil && no.Code == ReasonLocalStart {
			// Slurm tells when the first of the jobs starts, and that may be any.
			j.starting, starts = true, no
			j.tell(job, no)
			continue
		}
		if array == nil {
			why = no
			break
		}
		o.let(j, job, array, nil)
		j.tell(job, because(ReasonReleased, "released to %s", array.policy.Name))
		v.Released, v.Nodearray = append(v.Released, job), array.policy.Name
		held--
	}
	switch {
	case why.Code != "":
	case starts.Code != "":
		why = starts
	case held > 0:
		why = because(ReasonReleasing, "the oldest jobs of the group go first")
	case v.Held > 0:
		why = v.Reason // of the jobs that stay
	default:
		why = because(ReasonReleased, "released to %s", v.Nodearray)
	}
	j.kept, j.keptWhy = j.fresh[at:], why
	v.Held += held
	v.Reason, v.Cost = why, o.estimate(j, v.Nodearray)
}

// estimate is what one job would commit in the nodearray, or in the first one
// of its rule.
func (o *overflow) estimate(j *judgement, array NodearrayName) Money {
	if array == "" && j.rule != nil && len(j.rule.Nodearrays) > 0 {
		array = j.rule.Nodearrays[0]
	}
	if a := o.arrays[array]; a != nil {
		return commitment(a.policy.Price, max(j.group.Nodes, 1), j.group.TimeLimit)
	}
	return 0
}

// let releases one job to a nodearray: the money is set aside, the room taken.
// before is the record of a job that moves there from another one.
func (o *overflow) let(j *judgement, job string, a *arrayDecision, before *CloudJob) {
	g := j.group
	nodes := max(g.Nodes, 1)
	record := CloudJob{
		ID: job, Nodearray: a.policy.Name, User: g.User, Account: g.Account, Nodes: nodes, Home: o.home(g),
		Rate: a.policy.Price, Committed: commitment(a.policy.Price, nodes, g.TimeLimit), CommittedAt: o.now,
		TimeLimit: g.TimeLimit, SubmittedAt: g.OldestSubmit, Shadow: o.policy.Shadow,
	}
	if len(g.Jobs) > 0 && job != g.Jobs[0] && !g.NewestSubmit.IsZero() {
		record.SubmittedAt = g.NewestSubmit
	}
	if k, ok := o.acted[job]; ok {
		old := o.memory.Jobs[k]
		record.Tried = old.Tried
		if !old.SubmittedAt.IsZero() && old.SubmittedAt.Before(record.SubmittedAt) {
			record.SubmittedAt = old.SubmittedAt
		}
	}
	why := because(ReasonReleased, "released to %s", a.policy.Name)
	if before != nil {
		record.Tried = appendName(record.Tried, before.Nodearray)
		why = because(ReasonMoved, "%s failed, so the job goes on to %s", before.Nodearray, a.policy.Name)
	} else {
		for _, p := range record.Home {
			o.demand[p] -= min(o.demand[p], work(g, 1, j.run))
		}
	}
	o.keep(record)
	o.till.commit(a.policy.Name, g.Account, record.Committed)
	o.usage.add(g.User, g.Account, nodes)
	a.promise(nodes)
	o.send(Command{
		Kind: ReleaseJobs, Nodearray: a.policy.Name, Partitions: append(slices.Clone(record.Home), a.policy.Partition), Reason: why,
	}, job)
}

func appendName(names []NodearrayName, name NodearrayName) []NodearrayName {
	if slices.Contains(names, name) {
		return names
	}
	return append(slices.Clone(names), name)
}

// send adds a job to the command that is the same but for its jobs.
func (o *overflow) send(c Command, job string) {
	key := string(c.Kind) + "\x00" + string(c.Nodearray) + "\x00" + c.Reason.String()
	for _, p := range c.Partitions {
		key += "\x00" + p
	}
	i := slices.IndexFunc(o.sends, func(s sending) bool { return s.key == key })
	if i < 0 {
		i = len(o.sends)
		o.sends = append(o.sends, sending{c, key})
	}
	o.sends[i].command.Jobs = append(o.sends[i].command.Jobs, job)
}

// emit puts the commands about jobs into the plan, what takes a job away from
// the cloud before what gives it one.
func (o *overflow) emit() {
	for _, kind := range []CommandKind{RevokeJobs, ReleaseJobs, BeginNow, GatePartition, NoticeJobs} {
		for _, s := range o.sends {
			if s.command.Kind == kind {
				o.plan.Commands = append(o.plan.Commands, s.command)
			}
		}
	}
	slices.SortFunc(o.memory.Jobs, func(a, b CloudJob) int { return cmp.Compare(a.ID, b.ID) })
}
