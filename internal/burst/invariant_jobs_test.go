package burst

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// fresh reports whether the facts are new enough to act on.
func (j judge) fresh() bool {
	s := j.facts.Snapshot
	return !s.AsOf.IsZero() && j.now.Sub(s.AsOf) < j.policy.MaxActAge
}

// verdicts: each group of a rule's partition has one, with one reason, and it
// speaks of every job.
func (j judge) verdicts() error {
	if !j.fresh() {
		if len(j.plan.Verdicts) > 0 {
			return fmt.Errorf("judges %d groups by stale facts", len(j.plan.Verdicts))
		}
		return nil
	}
	seen := map[string]Verdict{}
	for _, v := range j.plan.Verdicts {
		if _, twice := seen[v.Group]; twice || v.Reason.Code == "" {
			return fmt.Errorf("gives group %s two verdicts or no reason: %+v", v.Group, v)
		}
		seen[v.Group] = v
	}
	for _, g := range j.facts.Groups {
		v, judged := seen[g.Key]
		concerned := slices.ContainsFunc(j.policy.Overflow, func(o Overflow) bool { return slices.Contains(g.Partitions, o.Partition) })
		switch {
		case concerned && !judged:
			return fmt.Errorf("says nothing of group %s", g.Key)
		case judged && v.Held+len(v.Released) != g.Count:
			return fmt.Errorf("holds %d and releases %d of the %d jobs of group %s", v.Held, len(v.Released), g.Count, g.Key)
		case judged && slices.ContainsFunc(v.Released, func(job string) bool { return !slices.Contains(g.Jobs, job) }):
			return fmt.Errorf("releases %v of group %s, which has %v", v.Released, g.Key, g.Jobs)
		}
	}
	return nil
}

// jobCommands: a job gets at most one command that moves it, which agrees with
// what is remembered; few are told, and arrays as a whole.
func (j judge) jobCommands() error {
	if j.policy.Shadow && j.plan.Acts() {
		return fmt.Errorf("acts in shadow mode")
	}
	moved, told := map[string]CommandKind{}, 0
	for _, c := range j.plan.Commands {
		for _, job := range c.Jobs {
			switch c.Kind {
			case NoticeJobs:
				told++
				if strings.Contains(job, "_") {
					return fmt.Errorf("comments on the task %s", job)
				}
			case ReleaseJobs, RevokeJobs:
				if before, twice := moved[job]; twice {
					return fmt.Errorf("sends %s and %s for job %s", before, c.Kind, job)
				}
				moved[job] = c.Kind
				if err := j.move(c, job); err != nil {
					return err
				}
			default:
			}
		}
	}
	if told > 200 {
		return fmt.Errorf("tells %d jobs", told)
	}
	return nil
}

// move judges one release or revocation.
func (j judge) move(c Command, job string) error {
	if slices.ContainsFunc(j.facts.JobCommands, func(o JobCommand) bool {
		return o.Kind != NoticeJobs && o.Kind != BeginNow && slices.Contains(o.Jobs, job) && j.now.Before(o.ExpiresAt)
	}) {
		return fmt.Errorf("sends %s for job %s, about which Slurm has not answered", c.Kind, job)
	}
	if c.Kind == ReleaseJobs && j.owners(job) {
		return fmt.Errorf("releases job %s, which its owner took back", job)
	}
	r, known := recordOf(j.plan.Memory, job)
	cloud := slices.ContainsFunc(c.Partitions, func(name string) bool { return strings.HasPrefix(name, "cloud") })
	switch {
	case !known:
		return fmt.Errorf("sends %s for job %s, which it forgets", c.Kind, job)
	case c.Kind == ReleaseJobs && (!cloud || r.Nodearray != c.Nodearray || !r.RevokedAt.IsZero()):
		return fmt.Errorf("releases job %s to %s by %v and remembers %+v", job, c.Nodearray, c.Partitions, r)
	case c.Kind == RevokeJobs && (cloud || r.RevokedAt.IsZero() || r.Committed != 0):
		return fmt.Errorf("takes job %s back by %v and remembers %+v", job, c.Partitions, r)
	case c.Kind == ReleaseJobs && r.Committed != commitment(r.Rate, r.Nodes, r.TimeLimit):
		return fmt.Errorf("releases job %s of %d nodes and commits %s", job, r.Nodes, r.Committed)
	}
	return nil
}

// owners reports whether the job waits where its owner put it after a release.
func (j judge) owners(job string) bool {
	r, known := recordOf(j.facts.Memory, job)
	g := slices.IndexFunc(j.facts.Groups, func(g Group) bool { return slices.Contains(g.Jobs, job) })
	if !known || g < 0 || r.Shadow {
		return false
	}
	group := j.facts.Groups[g]
	if !r.TakenBackAt.IsZero() {
		return !group.OldestSubmit.After(r.TakenBackAt)
	}
	return r.RevokedAt.IsZero() && r.ListedIn != "" && len(r.Home) > 0 && !slices.Contains(group.Partitions, r.ListedIn)
}

func recordOf(m Memory, job string) (CloudJob, bool) {
	i := slices.IndexFunc(m.Jobs, func(r CloudJob) bool { return r.ID == job })
	if i < 0 {
		return CloudJob{}, false
	}
	return m.Jobs[i], true
}

// let gives the records of the jobs that this plan lets go: those that waited
// before without a release to the nodearray, and those that their owners sent.
func (j judge) let(array NodearrayName) []CloudJob {
	var jobs []CloudJob
	for _, r := range j.plan.Memory.Jobs {
		before, known := recordOf(j.facts.Memory, r.ID)
		released := known && before.RevokedAt.IsZero() && before.Nodearray == r.Nodearray && before.Shadow == r.Shadow
		if r.Nodearray == array && r.RevokedAt.IsZero() && r.StartedAt.IsZero() && !released && r.CommittedAt.Equal(j.now) {
			jobs = append(jobs, r)
		}
	}
	return jobs
}

// busyWith gives how many nodes of the nodearray count against limits, how
// many of them idle, and how many nodes released jobs wait for.
func (j judge) busyWith(a Nodearray) (taken, idle, waiting int) {
	for _, name := range a.Nodes {
		n, known := j.nodes[name]
		switch n.Slurm {
		case PoweredDown, Fenced, Drained, Undefined:
			if n.Supply != Absent && n.Supply != SupplyUnknown {
				taken++
			}
		default:
			if known {
				taken++
			}
		}
		if n.Slurm == Idle {
			idle++
		}
	}
	for _, r := range j.plan.Memory.Jobs {
		running := slices.ContainsFunc(j.facts.Running, func(x RunningJob) bool { return x.ID == r.ID })
		if r.Nodearray == a.Name && r.RevokedAt.IsZero() && r.StartedAt.IsZero() && len(r.Home) > 0 && !running {
			waiting += r.Nodes
		}
	}
	return taken, idle, waiting
}

// releases: a job goes only where nothing forbids it and all of its nodes can
// be had.
func (j judge) releases() error {
	all, anywhere := 0, false
	for _, a := range j.policy.Nodearrays {
		taken, idle, waiting := j.busyWith(a)
		promised := max(waiting-idle, 0)
		all += taken + promised
		released := slices.DeleteFunc(j.let(a.Name), func(r CloudJob) bool {
			return len(r.Home) == 0 || j.configuring(r.ID) || j.booting(r.ID)
		})
		if len(released) == 0 {
			continue
		}
		anywhere = true
		if err := j.closedTo(a); err != nil {
			return err
		}
		if promised > 0 && taken+promised > a.MaxNodes {
			return fmt.Errorf("releases %d jobs to %s, where %d nodes are taken and %d promised of %d", len(released), a.Name, taken, promised, a.MaxNodes)
		}
		if v := j.facts.nodearray(a.Name).Available; promised > 0 && (!v.Known || promised > v.Count) {
			return fmt.Errorf("promises %d nodes of %s, available are %+v", promised, a.Name, v)
		}
		if step := a.StepUp.Nodes; step > 0 && promised > step && len(released) > 1 && idle == 0 {
			return fmt.Errorf("promises %d nodes of %s to %d jobs at once, the step is %d", promised, a.Name, len(released), step)
		}
		if j.unproven(a) && promised > 0 && len(released) > 1 && idle == 0 {
			return fmt.Errorf("lets %d jobs try %s, which failed before", len(released), a.Name)
		}
		for _, r := range released {
			if err := j.suited(a, r); err != nil {
				return err
			}
		}
	}
	if most := j.policy.MaxNodes; most > 0 && anywhere && all > most {
		return fmt.Errorf("takes or promises %d nodes, the cluster may have %d", all, most)
	}
	return nil
}

// booting reports whether a node comes up for the job: Slurm has let it go, even
// where its queue, which is read at another moment, has it wait.
func (j judge) booting(job string) bool {
	return slices.ContainsFunc(j.facts.Nodes, func(n Node) bool {
		return n.Slurm == PoweringUp && slices.ContainsFunc(n.Jobs, func(b BootJob) bool { return b.ID == job })
	})
}

func (j judge) configuring(job string) bool {
	return slices.ContainsFunc(j.facts.Running, func(r RunningJob) bool { return r.ID == job })
}

// closedTo reports why the nodearray takes no job at all.
func (j judge) closedTo(a Nodearray) error {
	p := slices.IndexFunc(j.facts.Partitions, func(p Partition) bool { return p.Name == a.Partition })
	switch {
	case j.facts.Paused, a.Gated, p < 0 || !j.facts.Partitions[p].Up:
		return fmt.Errorf("releases to %s, which is closed", a.Name)
	case j.now.Before(j.plan.Memory.OpenUntil(a.Name)):
		return fmt.Errorf("releases to %s, which rests until %s", a.Name, j.plan.Memory.OpenUntil(a.Name))
	}
	if a.Window != nil {
		if open, _ := a.Window.At(j.now); !open {
			return fmt.Errorf("releases to %s outside its schedule", a.Name)
		}
	}
	for _, s := range j.facts.Memory.Steps {
		if s.Nodearray == a.Name && a.CooldownUp > 0 && !s.IdledAt.IsZero() && j.now.Before(s.IdledAt.Add(a.CooldownUp)) {
			return fmt.Errorf("releases to %s, which let an idle node go at %s", a.Name, s.IdledAt)
		}
	}
	return nil
}

// unproven reports whether the nodearray failed and no node has joined it since.
func (j judge) unproven(a Nodearray) bool {
	joined := slices.ContainsFunc(a.Nodes, func(name NodeName) bool { return j.nodes[name].Slurm.joined() })
	failed := slices.ContainsFunc(j.facts.Memory.Breakers, func(b Breaker) bool {
		return b.Nodearray == a.Name && b.MachineType == a.MachineType && b.Failures > 0
	})
	return failed && !joined
}

// suited reports why the job does not fit the nodearray or must not leave.
func (j judge) suited(a Nodearray, r CloudJob) error {
	g := slices.IndexFunc(j.facts.Groups, func(g Group) bool { return slices.Contains(g.Jobs, r.ID) })
	if g < 0 {
		return fmt.Errorf("releases job %s, which does not wait", r.ID)
	}
	group := j.facts.Groups[g]
	p := j.facts.Partitions[slices.IndexFunc(j.facts.Partitions, func(p Partition) bool { return p.Name == a.Partition })]
	before, moved := recordOf(j.facts.Memory, r.ID)
	moved = moved && before.RevokedAt.IsZero() && !before.Shadow
	unlimited := group.TimeLimit == 0
	switch {
	case r.Nodes != max(group.Nodes, 1):
		return fmt.Errorf("releases job %s of %d nodes as one of %d", r.ID, group.Nodes, r.Nodes)
	case r.Nodes > len(a.Nodes), a.MaxPlacementGroup > 0 && r.Nodes > a.MaxPlacementGroup, p.MaxNodes > 0 && r.Nodes > p.MaxNodes:
		return fmt.Errorf("releases job %s of %d nodes to %s", r.ID, r.Nodes, a.Name)
	case p.MaxTime > 0 && (unlimited || group.TimeLimit > p.MaxTime), p.AllowAccounts != nil && !slices.Contains(p.AllowAccounts, group.Account):
		return fmt.Errorf("releases job %s to partition %s, which refuses it", r.ID, p.Name)
	case a.CPUs > 0 && group.CPUs > a.CPUs*r.Nodes:
		return fmt.Errorf("releases job %s of %d CPUs to %d nodes of %s", r.ID, group.CPUs, r.Nodes, a.Name)
	case !moved && group.StateReason != "Resources" && group.StateReason != "Priority" && (group.StateReason != "BeginTime" || !group.Restarted || group.BeginTime.Sub(j.now) > 3*time.Minute):
		return fmt.Errorf("releases job %s, which waits for %s", r.ID, group.StateReason)
	}
	allowed := slices.ContainsFunc(j.policy.Overflow, func(o Overflow) bool {
		wanted := o.When == nil || o.When.Judge(&group) == Yes
		return wanted && slices.Contains(group.Partitions, o.Partition) && slices.Contains(o.Nodearrays, a.Name) && (o.MaxJobCost == 0 || r.Committed <= o.MaxJobCost)
	})
	if !allowed {
		return fmt.Errorf("releases job %s to %s by no rule", r.ID, a.Name)
	}
	return nil
}

// shares: no account and no user is let above its nodes.
func (j judge) shares() error {
	accounts, users := map[string]int{}, map[string]int{}
	for _, r := range j.plan.Memory.Jobs {
		if r.RevokedAt.IsZero() {
			accounts[r.Account] += r.Nodes
			users[r.User] += r.Nodes
		}
	}
	for _, a := range j.policy.Nodearrays {
		for _, r := range j.let(a.Name) {
			if j.configuring(r.ID) && !j.admitted(r) {
				continue
			}
			if most := shareOf(j.policy.Accounts, r.Account); most > 0 && accounts[r.Account] > most {
				return fmt.Errorf("lets job %s go, with which account %s has %d nodes of %d", r.ID, r.Account, accounts[r.Account], most)
			}
			if most := shareOf(j.policy.Users, r.User); most > 0 && users[r.User] > most {
				return fmt.Errorf("lets job %s go, with which user %s has %d nodes of %d", r.ID, r.User, users[r.User], most)
			}
		}
	}
	return nil
}

// admitted reports whether the plan itself let the configuring job in, and not
// Slurm: nodes are created for it.
func (j judge) admitted(r CloudJob) bool {
	for _, c := range j.plan.Creates {
		for _, name := range c.Nodes {
			if slices.ContainsFunc(j.nodes[name].Jobs, func(b BootJob) bool { return b.ID == r.ID }) {
				_, known := recordOf(j.facts.Memory, r.ID)
				return !known
			}
		}
	}
	return false
}

func shareOf(list []Share, name string) int {
	other := 0
	for _, s := range list {
		if s.Name == name && name != "" {
			return s.MaxNodes
		}
		if s.Name == "" {
			other = s.MaxNodes
		}
	}
	return other
}

// budgets: what this plan commits passes no hard limit, and above a medium one
// it is cheap.
func (j judge) budgets() error {
	for _, b := range j.policy.Budgets {
		used, dearest := Money(0), Money(-1)
		covers := func(account string, array NodearrayName) bool {
			return b.Scope == ScopeCluster || b.Scope == ScopeAccount && b.Name == account || b.Scope == ScopeNodearray && b.Name == string(array)
		}
		var from time.Time
		switch y, m, d := j.now.Date(); b.Period {
		case Hour:
			from = j.now.Truncate(time.Hour)
		case Day:
			from = time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
		case Month:
			from = time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)
		}
		for _, r := range j.plan.Memory.Jobs {
			if covers(r.Account, r.Nodearray) && !r.CommittedAt.Before(from) {
				used += r.Committed
			}
		}
		for _, k := range j.plan.Memory.Books {
			if covers(k.Account, k.Nodearray) && k.Period == b.Period && k.From.Equal(from) {
				used += k.Settled + k.BootWaste + k.IdleWaste
			}
		}
		for _, a := range j.policy.Nodearrays {
			for _, r := range j.let(a.Name) {
				if covers(r.Account, r.Nodearray) && (!j.configuring(r.ID) || j.admitted(r)) {
					dearest = max(dearest, r.Committed)
				}
			}
		}
		switch {
		case dearest < 0:
		case b.Hard > 0 && used > b.Hard:
			return fmt.Errorf("commits %s where %s of %s are used for the %s by %s %s", dearest, used, b.Hard, b.Period, b.Scope, b.Name)
		case b.Medium > 0 && used-dearest > b.Medium && dearest > b.MediumJobCost:
			// Jobs that went after it were cheap, so it was dear only if it came last.
			if j.allDear(b, covers) {
				return fmt.Errorf("commits %s above the medium limit %s of %s", dearest, b.Medium, b.Scope)
			}
		}
	}
	return nil
}

// allDear reports whether all that this plan commits under a budget costs more
// than may pass its medium limit.
func (j judge) allDear(b Budget, covers func(string, NodearrayName) bool) bool {
	for _, a := range j.policy.Nodearrays {
		for _, r := range j.let(a.Name) {
			if covers(r.Account, r.Nodearray) && r.Committed <= b.MediumJobCost {
				return false
			}
		}
	}
	return true
}
