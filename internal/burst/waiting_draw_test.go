package burst

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// drawRules adds to a policy what it says about waiting jobs.
func drawRules(t *rapid.T, now time.Time, p *Policy) {
	price := rapid.SampledFrom([]Money{0, 1e5, 1e6, 3e6})
	few := rapid.SampledFrom([]int{0, 0, 1, 2, 4})
	for i := range p.Nodearrays {
		a := &p.Nodearrays[i]
		a.Partition, a.Price = "cloud"+strconv.Itoa(i), price.Draw(t, "price")
		a.BootTime = rapid.SampledFrom([]time.Duration{0, time.Minute, 5 * time.Minute}).Draw(t, "boot time")
		a.CPUs, a.MaxPlacementGroup = few.Draw(t, "cpus"), few.Draw(t, "placement group")
		a.Gated = rapid.IntRange(0, 9).Draw(t, "gated") == 9
		a.StepUp = Step{few.Draw(t, "step up"), time.Minute}
		a.CooldownUp = rapid.SampledFrom([]time.Duration{0, 0, time.Minute}).Draw(t, "cooldown")
		if rapid.IntRange(0, 5).Draw(t, "has window") == 5 {
			a.Window = turning{rapid.Bool().Draw(t, "open"), now.Add(rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(t, "turns"))}
		}
	}
	p.MaxNodes = rapid.SampledFrom([]int{0, 0, 3, 6}).Draw(t, "cluster's nodes")
	p.Shadow = rapid.IntRange(0, 9).Draw(t, "shadow") == 9
	p.Breaker = BreakerPolicy{First: time.Minute, Max: time.Hour}
	for range rapid.IntRange(1, 3).Draw(t, "rules") {
		p.Overflow = append(p.Overflow, drawRule(t, *p))
	}
	for range rapid.IntRange(0, 2).Draw(t, "budgets") {
		p.Budgets = append(p.Budgets, drawBudget(t))
	}
	for _, name := range []string{"", "physics"} {
		p.Accounts = append(p.Accounts, Share{name, few.Draw(t, "account's nodes")})
	}
	p.Users = append(p.Users, Share{"", few.Draw(t, "user's nodes")})
}

func drawRule(t *rapid.T, p Policy) Overflow {
	o := Overflow{
		Partition:  rapid.SampledFrom([]string{"local", "local", "big"}).Draw(t, "rule's partition"),
		MaxJobCost: rapid.SampledFrom([]Money{0, 0, 1e6}).Draw(t, "most cost"),
		Waiting: Waiting{
			Rule:  rapid.SampledFrom([]WaitingRule{WaitingImmediate, WaitingImmediate, WaitingWait, WaitingPressure, WaitingWeighted}).Draw(t, "rule"),
			Wait:  5 * time.Minute,
			Drain: rapid.SampledFrom([]time.Duration{time.Minute, 2 * time.Hour}).Draw(t, "drain"), Kappa: 0.1,
		},
	}
	if rapid.IntRange(0, 4).Draw(t, "has expression") == 4 {
		o.When = fixedAnswer(rapid.SampledFrom([]Answer{Yes, No, Overrun}).Draw(t, "answer"))
	}
	ranked := rapid.Permutation(p.Nodearrays).Draw(t, "rank")
	for _, a := range ranked[:rapid.IntRange(1, len(ranked)).Draw(t, "ranked")] {
		o.Nodearrays = append(o.Nodearrays, a.Name)
	}
	return o
}

func drawBudget(t *rapid.T) Budget {
	amount := rapid.SampledFrom([]Money{0, 5e5, 2e6, 8e6})
	b := Budget{
		Scope:  rapid.SampledFrom([]Scope{ScopeCluster, ScopeNodearray, ScopeAccount}).Draw(t, "scope"),
		Period: rapid.SampledFrom(periods[:]).Draw(t, "period"),
		Soft:   amount.Draw(t, "soft"), Medium: amount.Draw(t, "medium"), MediumJobCost: 1e6, Hard: amount.Draw(t, "hard"),
	}
	switch b.Scope {
	case ScopeNodearray:
		b.Name = "array0"
	case ScopeAccount:
		b.Name = "physics"
	case ScopeCluster:
	}
	return b
}

// drawWaiting adds waiting jobs, those that were released before, and what is
// known of partitions to the facts.
func drawWaiting(t *rapid.T, now time.Time, p Policy, f *Facts) {
	for i := range p.Nodearrays {
		if rapid.IntRange(0, 15).Draw(t, "partition unheard of") == 11 {
			continue
		}
		q := Partition{Name: p.Nodearrays[i].Partition, Up: rapid.IntRange(0, 9).Draw(t, "is up") < 9}
		if rapid.IntRange(0, 6).Draw(t, "bounded") == 0 {
			q.MaxNodes, q.MaxTime, q.AllowAccounts = 2, 2*time.Hour, []string{"physics"}
		}
		f.Partitions = append(f.Partitions, q)
	}
	f.Local = []LocalPartition{{Name: "local", Nodes: rapid.IntRange(0, 4).Draw(t, "local nodes")}, {Name: "big", Nodes: 2, DownNodes: 1}}
	id := 100 + 20*len(f.Groups)
	for i := range rapid.IntRange(0, 5).Draw(t, "groups") {
		g := drawGroup(t, now, p)
		g.Key = fmt.Sprintf("g%d-%d", id, i)
		for range rapid.IntRange(0, 3).Draw(t, "named jobs") {
			job := strconv.Itoa(id)
			if rapid.IntRange(0, 4).Draw(t, "task") == 0 {
				job = "90_" + job
			}
			id++
			g.Jobs = append(g.Jobs, job)
			drawPast(t, now, p, f, &g, job)
		}
		g.Count = max(1, len(g.Jobs)+rapid.SampledFrom([]int{0, 0, 0, 2}).Draw(t, "unnamed"))
		f.Groups = append(f.Groups, g)
	}
	drawRunning(t, now, p, f)
	slices.SortFunc(f.Memory.Jobs, func(a, b CloudJob) int { return strings.Compare(a.ID, b.ID) })
	f.Memory.Jobs = slices.CompactFunc(f.Memory.Jobs, func(a, b CloudJob) bool { return a.ID == b.ID })
	for _, a := range p.Nodearrays {
		if rapid.IntRange(0, 5).Draw(t, "stepped") == 0 {
			f.Memory.Steps = append(f.Memory.Steps, StepMemory{
				Nodearray: a.Name, Up: rapid.IntRange(0, 3).Draw(t, "stepped up"), UpFrom: drawMoment(now).Draw(t, "stepped from"), IdledAt: drawMaybe(now).Draw(t, "idled"),
			})
		}
	}
	f.Memory.Notices = rapid.SampledFrom([]int{0, 0, 198, 200}).Draw(t, "notices")
	f.Memory.NoticesFrom = drawMoment(now).Draw(t, "notices from")
}

func drawGroup(t *rapid.T, now time.Time, p Policy) Group {
	g := Group{
		Partitions: slices.Clone(rapid.SampledFrom([][]string{{"local"}, {"local"}, {"big", "local"}, {"other"}}).Draw(t, "partitions")),
		User:       rapid.SampledFrom([]string{"eva", "max"}).Draw(t, "user"), Account: rapid.SampledFrom([]string{"physics", "chemistry"}).Draw(t, "account"),
		StateReason: rapid.SampledFrom([]string{"Resources", "Resources", "Priority", "BeginTime", "Dependency", "None"}).Draw(t, "reason"),
		Nodes:       rapid.IntRange(0, 3).Draw(t, "nodes"), CPUs: rapid.IntRange(0, 6).Draw(t, "job's cpus"),
		TimeLimit: rapid.SampledFrom([]time.Duration{time.Hour, time.Hour, 30 * time.Second, 4 * time.Hour, 0}).Draw(t, "limit"),
		Batch:     true, Requeue: true, Restarted: rapid.Bool().Draw(t, "restarted"),
	}
	if g.StateReason == "BeginTime" {
		g.BeginTime = now.Add(rapid.SampledFrom([]time.Duration{time.Second, 100 * time.Second, time.Hour}).Draw(t, "begins"))
	}
	if rapid.IntRange(0, 4).Draw(t, "expected") == 0 {
		g.ExpectedStart = now.Add(rapid.SampledFrom([]time.Duration{-2 * time.Minute, 0, 90 * time.Second, time.Hour}).Draw(t, "starts"))
	}
	g.OldestSubmit = drawMoment(now).Draw(t, "oldest")
	g.NewestSubmit = later(g.OldestSubmit, drawMoment(now).Draw(t, "newest"))
	if rapid.IntRange(0, 4).Draw(t, "in the cloud") == 0 {
		g.Partitions = append(g.Partitions, rapid.SampledFrom(p.Nodearrays).Draw(t, "its nodearray").Partition)
	}
	return g
}

// drawPast gives some of the jobs a record of what was done to them.
func drawPast(t *rapid.T, now time.Time, p Policy, f *Facts, g *Group, job string) {
	if rapid.IntRange(0, 2).Draw(t, "has a past") > 0 {
		return
	}
	a := rapid.SampledFrom(p.Nodearrays).Draw(t, "released to")
	j := CloudJob{
		ID: job, Nodearray: a.Name, User: g.User, Account: g.Account, Nodes: max(g.Nodes, 1), Rate: a.Price, TimeLimit: g.TimeLimit,
		Committed: commitment(a.Price, max(g.Nodes, 1), g.TimeLimit), CommittedAt: drawMoment(now).Draw(t, "committed"), SubmittedAt: g.OldestSubmit,
	}
	for _, name := range g.Partitions {
		if !strings.HasPrefix(name, "cloud") {
			j.Home = append(j.Home, name)
		}
	}
	switch rapid.IntRange(0, 5).Draw(t, "past") {
	case 0:
		j.RevokedAt, j.Committed = drawMoment(now).Draw(t, "revoked"), 0
	case 1:
		j.Shadow = true
	}
	f.Memory.Jobs = append(f.Memory.Jobs, j)
	if rapid.IntRange(0, 3).Draw(t, "commanded") == 0 {
		f.JobCommands = append(f.JobCommands, JobCommand{
			Kind: rapid.SampledFrom([]CommandKind{ReleaseJobs, RevokeJobs, BeginNow}).Draw(t, "job's command"), Jobs: []string{job},
			ExpiresAt: now.Add(rapid.SampledFrom([]time.Duration{-time.Second, 0, time.Minute}).Draw(t, "command expires")),
		})
	}
}

// drawRunning tells of some of the jobs that nodes boot for, and of others.
func drawRunning(t *rapid.T, now time.Time, p Policy, f *Facts) {
	for i := range rapid.IntRange(0, 4).Draw(t, "running") {
		a := rapid.SampledFrom(p.Nodearrays).Draw(t, "runs in")
		r := RunningJob{
			ID: strconv.Itoa(1 + i), User: "eva", Account: rapid.SampledFrom([]string{"physics", "chemistry"}).Draw(t, "runner's account"),
			Nodearray: a.Name, Nodes: rapid.IntRange(1, 3).Draw(t, "runner's nodes"), TimeLimit: time.Hour, Configuring: rapid.Bool().Draw(t, "configuring"),
		}
		if !r.Configuring {
			r.StartedAt = drawMoment(now).Draw(t, "started")
		}
		f.Running = append(f.Running, r)
		if rapid.Bool().Draw(t, "is known") {
			j := CloudJob{
				ID: r.ID, Nodearray: a.Name, User: r.User, Account: r.Account, Nodes: r.Nodes, Home: []string{"local"}, Rate: a.Price,
				Committed: commitment(a.Price, r.Nodes, r.TimeLimit), CommittedAt: drawMoment(now).Draw(t, "runner committed"), TimeLimit: r.TimeLimit, StartedAt: r.StartedAt,
			}
			if rapid.IntRange(0, 3).Draw(t, "taken back too late") == 0 && r.Configuring {
				j.RevokedAt, j.Committed = now.Add(-time.Minute), 0
			}
			f.Memory.Jobs = append(f.Memory.Jobs, j)
		}
	}
}

// String names the window in rapid's output.
func (w turning) String() string { return fmt.Sprintf("open=%t until %s", w.open, w.at) }
