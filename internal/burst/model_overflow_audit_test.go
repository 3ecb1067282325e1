package burst

import (
	"fmt"
	"slices"
	"time"
)

// auditor holds every commit of a modelled cluster to what design and policy
// promise. It keeps books of its own, from what really happens.
type auditor struct {
	*overflowShell
	// let are the jobs that commits let into the cloud and did not take back.
	let map[string]*letJob
	// open is since when the ledger knows that a nodearray rests, closed since
	// when a released job waits for such a nodearray.
	open   map[NodearrayName]time.Time
	closed map[string]time.Time
	runs   []*trueRun
	told   int // jobs that got a notice in the running minute
	minute time.Time
	// reasoned are the groups that the newest plan gave a reason.
	reasoned map[string]Reason
	// refused is why a job was held, or nodes that it had got were not made.
	refused map[string]Reason
	// arrived are the released jobs that a snapshot showed with the cloud.
	arrived map[string]bool
	slowest time.Duration // to take a job back from a nodearray that rests
	rooms   roomAudit
}

type letJob struct {
	job       *burstJob
	nodearray NodearrayName
	released  bool
	ran       bool // since it was let in
}

// trueRun is one run in the cloud, seen or not.
type trueRun struct {
	job        *burstJob
	array      *Nodearray
	nodes      int
	start, end time.Time
	let        bool // the first one after a commit let the job in
	seen       bool // a snapshot that was decided on showed it
}

func (r *trueRun) cost(d time.Duration) Money {
	return Money(float64(r.array.Price) * float64(r.nodes) * d.Hours())
}

// commit judges a plan that is committed on these facts.
func (a *auditor) commit(f Facts, plan Plan, next Facts) {
	if err := breach(a.now, a.policy, f, plan); err != nil {
		a.breaks("a plan %v\n%s", err, renderPlan(a.now, plan))
	}
	for _, check := range []func(Facts, Plan, Facts) error{a.oneReason, a.releases, a.affordable, a.leavesBack, a.notices, a.commands} {
		if err := check(f, plan, next); err != nil {
			a.breaks("a plan %v\n%s", err, renderPlan(a.now, plan))
		}
	}
	for _, r := range f.Running {
		for _, run := range a.runs {
			run.seen = run.seen || run.job.id == r.ID && !r.Configuring && r.StartedAt.Equal(run.start)
		}
	}
	for _, h := range plan.Holds {
		a.refuse(f, h.Nodes, h.Reason)
	}
	for _, c := range plan.Commands {
		a.refuse(f, c.Nodes, c.Reason)
	}
	for _, array := range a.policy.Nodearrays {
		switch rests := next.Memory.OpenUntil(array.Name).After(a.now); {
		case !rests:
			delete(a.open, array.Name)
		case a.open[array.Name].IsZero():
			a.open[array.Name] = a.now
		}
	}
}

// refuse notes why jobs do not get the nodes that Slurm powers up for them.
func (a *auditor) refuse(f Facts, names []NodeName, why Reason) {
	for _, n := range f.Nodes {
		if n.Slurm == PoweringUp && n.Supply == Absent && slices.Contains(names, n.Name) {
			for _, job := range n.Jobs {
				a.refused[job.ID] = why
			}
		}
	}
}

// oneReason: each waiting group of a partition with a rule has one verdict with
// one reason, which counts each of its jobs once.
func (a *auditor) oneReason(f Facts, plan Plan, _ Facts) error {
	if a.now.Sub(f.Snapshot.AsOf) >= a.policy.MaxActAge || f.Snapshot.AsOf.IsZero() {
		return nil
	}
	a.reasoned = map[string]Reason{}
	for _, v := range plan.Verdicts {
		if _, twice := a.reasoned[v.Group]; twice {
			return fmt.Errorf("gives group %s two verdicts", v.Group)
		}
		if v.Reason.Text == "" || !explained[v.Reason.Code] {
			return fmt.Errorf("gives group %s the reason %q", v.Group, v.Reason)
		}
		a.reasoned[v.Group] = v.Reason
		at := slices.IndexFunc(f.Groups, func(g Group) bool { return g.Key == v.Group })
		if at < 0 {
			return fmt.Errorf("gives a verdict to %q, which does not wait", v.Group)
		}
		for _, job := range f.Groups[at].Jobs {
			a.refused[job] = v.Reason
		}
		if len(v.Released)+v.Held != f.Groups[at].Count {
			return fmt.Errorf("releases %d and holds %d of the %d jobs of %s", len(v.Released), v.Held, f.Groups[at].Count, v.Group)
		}
	}
	for _, g := range f.Groups {
		if _, has := a.reasoned[g.Key]; !has && slices.Contains(g.Partitions, "local") {
			return fmt.Errorf("gives group %s no reason", g.Key)
		}
	}
	return nil
}

// releases: only jobs that wait for nodes, to where Slurm would start them.
func (a *auditor) releases(f Facts, plan Plan, _ Facts) error {
	for _, c := range plan.Commands {
		if c.Kind != ReleaseJobs {
			continue
		}
		at := slices.IndexFunc(a.policy.Nodearrays, func(n Nodearray) bool { return n.Name == c.Nodearray })
		array, admits := a.policy.Nodearrays[at], a.admits[at]
		if !slices.Contains(c.Partitions, array.Partition) || !slices.Contains(c.Partitions, "local") || len(c.Partitions) != 2 {
			return fmt.Errorf("releases %v to %s by %v", c.Jobs, c.Nodearray, c.Partitions)
		}
		if f.Paused || a.policy.Shadow {
			return fmt.Errorf("releases %v while nothing may go", c.Jobs)
		}
		for _, id := range c.Jobs {
			j := a.byID[id]
			k := slices.IndexFunc(f.Groups, func(g Group) bool { return slices.Contains(g.Jobs, id) })
			switch {
			case k < 0:
				return fmt.Errorf("releases %s, which does not wait", id)
			case j.size > array.MaxNodes, admits.MaxNodes > 0 && j.size > admits.MaxNodes, a.policy.MaxNodes > 0 && j.size > a.policy.MaxNodes:
				return fmt.Errorf("releases %s of %d nodes to %s, where it never fits", id, j.size, c.Nodearray)
			case admits.MaxTime > 0 && j.limit > admits.MaxTime, admits.AllowAccounts != nil && !slices.Contains(admits.AllowAccounts, j.account),
				j.feature != "" && !slices.Contains(array.Features, j.feature), j.nodeList:
				return fmt.Errorf("releases %s to %s, which does not admit it", id, c.Nodearray)
			case array.MaxPlacementGroup > 0 && j.size > array.MaxPlacementGroup:
				return fmt.Errorf("releases %s of %d nodes to %s, which is too many for a placement group", id, j.size, c.Nodearray)
			case f.Groups[k].StateReason == "None", f.Groups[k].StateReason == "JobHeldUser", f.Groups[k].Description != "":
				// A job that was released and moves on hides its own reason.
				if !slices.ContainsFunc(f.Memory.Jobs, func(r CloudJob) bool { return r.ID == id && r.RevokedAt.IsZero() }) {
					return fmt.Errorf("releases %s, which waits for something else: %s %s", id, f.Groups[k].StateReason, f.Groups[k].Description)
				}
			}
		}
	}
	return nil
}

// affordable: who is let in fits all budgets and shares at that moment.
func (a *auditor) affordable(f Facts, plan Plan, next Facts) error {
	entering := a.entering(f, plan)
	for id, l := range a.let { // its owner took it back
		if l.job.nodes == nil && !holdsMoney(next, id, l.nodearray) {
			delete(a.let, id)
		}
	}
	for _, b := range a.policy.Budgets {
		var big, small, least Money
		for _, l := range entering {
			k := slices.IndexFunc(next.Memory.Jobs, func(j CloudJob) bool { return j.ID == l.job.id })
			if k < 0 {
				return fmt.Errorf("lets %s in and forgets it", l.job.id)
			}
			record := &next.Memory.Jobs[k]
			if !covers(b, record.Nodearray, record.Account) {
				continue
			}
			amount := (&trueRun{array: a.arrayOf(l.nodearray), nodes: l.job.size}).cost(l.job.limit)
			if record.Committed < amount-1 {
				return fmt.Errorf("commits %s for %s, whose limit costs %s", record.Committed, l.job.id, amount)
			}
			least = max(least, 1)
			if record.Committed > b.MediumJobCost {
				big += record.Committed
			} else {
				small += record.Committed
			}
		}
		switch used := a.spent(next.Memory, b); {
		case least == 0:
		case b.Hard > 0 && used > b.Hard:
			return fmt.Errorf("commits %s of the %s's %s, where %s %s may spend %s", big+small, b.Period, used, b.Scope, b.Name, b.Hard)
		case b.Medium > 0 && big > 0 && used-small > b.Medium:
			return fmt.Errorf("commits %s of the %s's %s for dear jobs, where %s %s may spend %s on such", big, b.Period, used-small, b.Scope, b.Name, b.Medium)
		}
	}
	return a.shares(entering)
}

// shares: the jobs that were let in have no more nodes together than their
// account and user may.
func (a *auditor) shares(entering []*letJob) error {
	nodes := func(same func(*burstJob) bool) (sum int) {
		for _, l := range a.let {
			if !l.job.over && same(l.job) {
				sum += l.job.size
			}
		}
		return sum
	}
	most := func(list []Share, name string) (most int) {
		for _, s := range list {
			if s.Name == name || s.Name == "" && most == 0 {
				most = s.MaxNodes
			}
		}
		return most
	}
	for _, l := range entering {
		if m, n := most(a.policy.Accounts, l.job.account), nodes(func(j *burstJob) bool { return j.account == l.job.account }); m > 0 && n > m {
			return fmt.Errorf("gives account %s %d nodes, it may have %d", l.job.account, n, m)
		}
		if m, n := most(a.policy.Users, l.job.user), nodes(func(j *burstJob) bool { return j.user == l.job.user }); m > 0 && n > m {
			return fmt.Errorf("gives user %s %d nodes, the limit is %d", l.job.user, n, m)
		}
	}
	return nil
}

func (a *auditor) arrayOf(name NodearrayName) *Nodearray {
	return &a.policy.Nodearrays[slices.IndexFunc(a.policy.Nodearrays, func(n Nodearray) bool { return n.Name == name })]
}

func covers(b Budget, array NodearrayName, account string) bool {
	switch b.Scope {
	case ScopeNodearray:
		return b.Name == string(array)
	case ScopeAccount:
		return b.Name == account
	case ScopeCluster:
	}
	return true
}

// spent adds up what a memory says of a budget: settled, wasted, and committed
// to jobs that did not end, all of the present period.
func (a *auditor) spent(m Memory, b Budget) (sum Money) {
	var from time.Time
	switch y, mo, d := a.now.UTC().Date(); b.Period {
	case Hour:
		from = a.now.UTC().Truncate(time.Hour)
	case Day:
		from = time.Date(y, mo, d, 0, 0, 0, 0, time.UTC)
	case Month:
		from = time.Date(y, mo, 1, 0, 0, 0, 0, time.UTC)
	}
	for _, book := range m.Books {
		if book.Period == b.Period && !book.From.Before(from) && covers(b, book.Nodearray, book.Account) {
			sum += book.Settled + book.BootWaste + book.IdleWaste
		}
	}
	for _, j := range m.Jobs {
		if !j.CommittedAt.Before(from) && covers(b, j.Nodearray, j.Account) {
			sum += j.Committed
		}
	}
	return sum
}

// leavesBack: a job that its user took back after a snapshot had shown that its
// release arrived is not released again.
func (a *auditor) leavesBack(f Facts, plan Plan, _ Facts) error {
	lists := map[string][]string{} // of the jobs that the snapshot names
	for _, g := range f.Groups {
		for _, id := range g.Jobs {
			lists[id] = g.Partitions
		}
	}
	for _, r := range f.Memory.Jobs {
		if holdsMoney(f, r.ID, r.Nodearray) && len(r.Home) > 0 && f.Snapshot.AsOf.After(r.CommittedAt) &&
			slices.Contains(lists[r.ID], a.arrayOf(r.Nodearray).Partition) {
			a.arrived[r.ID] = true
		}
	}
	for _, c := range plan.Commands {
		for _, id := range c.Jobs {
			j := a.byID[id]
			switch {
			case c.Kind == ReleaseJobs && a.arrived[id] && len(lists[id]) == 1 && !j.took.IsZero() && !f.Snapshot.AsOf.Before(j.took):
				return fmt.Errorf("releases %s, which its owner took back at %s", id, j.took)
			case c.Kind == ReleaseJobs, c.Kind == RevokeJobs:
				delete(a.arrived, id)
			}
		}
	}
	return nil
}

// notices: at most 200 a minute.
func (a *auditor) notices(_ Facts, plan Plan, _ Facts) error {
	if a.now.Sub(a.minute) >= time.Minute {
		a.told = 0
	}
	for _, c := range plan.Commands {
		if c.Kind == NoticeJobs {
			if a.told == 0 {
				a.minute = a.now
			}
			a.told += len(c.Jobs)
		}
	}
	if a.told > 200 {
		return fmt.Errorf("makes %d notices within a minute", a.told)
	}
	return nil
}

// commands: no job gets two lists in one plan.
func (a *auditor) commands(_ Facts, plan Plan, _ Facts) error {
	moved := map[string]CommandKind{}
	for _, c := range plan.Commands {
		if c.Kind == ReleaseJobs || c.Kind == RevokeJobs {
			for _, id := range c.Jobs {
				if moved[id] != "" {
					return fmt.Errorf("makes %s and %s of job %s", moved[id], c.Kind, id)
				}
				moved[id] = c.Kind
			}
		}
	}
	return nil
}

// holdsMoney reports whether a job was let into the nodearray, or came there by
// itself, before the plan.
func holdsMoney(f Facts, id string, array NodearrayName) bool {
	return slices.ContainsFunc(f.Memory.Jobs, func(j CloudJob) bool {
		return j.ID == id && j.Nodearray == array && j.RevokedAt.IsZero() && !j.Shadow
	})
}

// entering are the jobs that a plan lets in, with the nodearray.
func (a *auditor) entering(f Facts, plan Plan) (all []*letJob) {
	enter := func(id string, array NodearrayName, released bool) {
		if l := a.let[id]; l != nil && l.nodearray == array {
			l.released = l.released || released
			return
		}
		if holdsMoney(f, id, array) { // it came in by itself, by an idle node or before it could be taken back
			return
		}
		l := &letJob{job: a.byID[id], nodearray: array, released: released}
		a.let[id] = l
		all = append(all, l)
	}
	for _, c := range plan.Commands {
		for _, id := range c.Jobs {
			switch c.Kind {
			case RevokeJobs:
				delete(a.let, id)
			case ReleaseJobs:
				enter(id, c.Nodearray, true)
			default:
			}
		}
	}
	for _, c := range plan.Creates {
		for _, name := range c.Nodes {
			for _, n := range f.Nodes {
				if n.Name == name {
					for _, job := range n.Jobs {
						enter(job.ID, c.Nodearray, false)
					}
				}
			}
		}
	}
	return all
}

// inTime is how soon a job leaves a nodearray that rests, once Slurm shows that
// it waits there: 10 s and a poll, in clusters where nothing is lost.
const inTime = 10*time.Second + 36*time.Second

// watch looks at what really happens.
func (a *auditor) watch() {
	for _, j := range a.jobs {
		a.follow(j)
		if l := a.let[j.id]; l != nil && (j.over || !j.onprem.IsZero()) {
			delete(a.let, j.id)
		}
	}
	a.room()
	if !a.gentle {
		return
	}
	for id, l := range a.let {
		rests := a.open[l.nodearray]
		if !l.released || rests.IsZero() || !a.ledger.facts.Memory.OpenUntil(l.nodearray).After(a.now) || !l.job.waits(a.now) ||
			!slices.Contains(l.job.parts, a.arrayOf(l.nodearray).Partition) {
			delete(a.closed, id)
			continue
		}
		if a.closed[id].IsZero() {
			a.closed[id] = a.now
		}
		waited := a.now.Sub(a.closed[id])
		a.slowest = max(a.slowest, waited)
		if waited > inTime {
			a.breaks("job %s still waits for %s, which has rested for %s", id, l.nodearray, a.now.Sub(rests))
		}
	}
}

// follow notes the runs of a job.
func (a *auditor) follow(j *burstJob) {
	var last *trueRun
	for _, r := range a.runs {
		if r.job == j && r.end.IsZero() {
			last = r
		}
	}
	if last != nil && !j.started.Equal(last.start) {
		last.end = a.now
		last = nil
	}
	if j.started.IsZero() || last != nil {
		return
	}
	r := &trueRun{job: j, array: &a.policy.Nodearrays[j.array], nodes: len(j.nodes), start: j.started}
	if l := a.let[j.id]; l != nil && !l.ran && l.nodearray == r.array.Name {
		l.ran, r.let = true, true
	}
	a.runs = append(a.runs, r)
}

// gaveUp judges that a job which Slurm would start in the cloud and that did not
// get its nodes for hours was given a reason.
func (a *auditor) gaveUp(j *burstJob) {
	at := slices.IndexFunc(a.admits, func(p Partition) bool { return p.Name == j.parts[0] })
	switch p := a.admits[at]; {
	case p.MaxTime > 0 && j.limit > p.MaxTime, p.MaxNodes > 0 && j.size > p.MaxNodes, p.AllowAccounts != nil && !slices.Contains(p.AllowAccounts, j.account):
		return // Slurm says that itself
	}
	if _, said := a.reasoned[a.group(j).Key]; !said && a.refused[j.id].Code == "" && a.names >= len(a.jobs) {
		a.breaks("job %s waited for %s in vain and nothing said why: %v", j.id, j.parts, a.reasoned)
	}
}

// end judges the cluster when all is over.
func (a *auditor) end() {
	var least, most, settled Money
	for _, r := range a.runs {
		most += r.cost(r.job.limit) + r.cost(a.now.Sub(r.end))
		if r.seen {
			least += r.cost(r.end.Sub(r.start))
		}
	}
	for _, b := range a.ledger.facts.Memory.Books {
		if b.Period == Month {
			settled += b.Settled
		}
	}
	if slack := Money(len(a.runs)); settled < least-slack || settled > most+slack {
		a.breaks("the runs that were seen cost %s, all runs at most %s, and %s are settled", least, most, settled)
	}
	for _, b := range a.policy.Budgets {
		if b.Period != Month || b.Hard == 0 {
			continue
		}
		var sum Money
		for _, r := range a.runs {
			if r.let && r.seen && covers(b, r.array.Name, r.job.account) {
				sum += r.cost(r.end.Sub(r.start))
			}
		}
		if sum > b.Hard {
			a.breaks("the jobs that were let in cost %s, and %s %s may spend %s", sum, b.Scope, b.Name, b.Hard)
		}
	}
	for _, j := range a.jobs {
		if !j.over {
			a.breaks("job %s never ended", j.id)
		}
	}
}
