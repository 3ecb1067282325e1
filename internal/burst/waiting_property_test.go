package burst

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawCrowded gives many jobs that wait for few nodes, of which none boots: all
// that the plan commits it commits to jobs that it lets go.
func drawCrowded(t *rapid.T) (Policy, Facts) {
	p := drawPolicy(t)
	drawRules(t, origin, &p)
	p.Shadow = false
	f := drawFacts(t, origin, p)
	f.Snapshot = Snapshot{Position{1, 5}, origin.Add(-time.Second)}
	for i := range f.Nodes {
		f.Nodes[i] = Node{Name: f.Nodes[i].Name, Nodearray: f.Nodes[i].Nodearray, Slurm: PoweredDown, Supply: Absent, SeenAt: origin}
		if rapid.IntRange(0, 5).Draw(t, "idles") == 5 {
			f.Nodes[i].Slurm, f.Nodes[i].Supply, f.Nodes[i].NodeID, f.Nodes[i].Since = Idle, Ready, "id", origin.Add(-time.Second)
		}
	}
	for i := range f.Nodearrays {
		f.Nodearrays[i].Available = Availability{Known: true, Count: rapid.IntRange(0, 9).Draw(t, "room"), MaxCount: 20}
	}
	drawWaiting(t, origin, p, &f)
	for i := range 7 {
		g := Group{
			Key: fmt.Sprintf("crowd%d", i), Partitions: []string{"local"}, User: "eva", Account: []string{"physics", "chemistry"}[i%2],
			Nodes: rapid.SampledFrom([]int{1, 2, 3}).Draw(t, "crowd's nodes"), OldestSubmit: origin.Add(-time.Duration(i) * time.Minute),
			Jobs: []string{strconv.Itoa(200 + i)}, Count: 1,
		}
		g.TimeLimit = 2 * time.Hour
		drawPast(t, origin, p, &f, &g, g.Jobs[0])
		f.Groups = append(f.Groups, g)
	}
	slices.SortFunc(f.Memory.Jobs, func(a, b CloudJob) int { return strings.Compare(a.ID, b.ID) })
	f.Paused, f.CycleCloudFailed = false, false
	for i := range p.Nodearrays {
		a := &p.Nodearrays[i]
		a.MaxNodes = rapid.IntRange(1, 4).Draw(t, "crowd's limit")
		a.Gated, a.Window, a.CooldownUp, a.BootTime, a.CPUs, a.MaxPlacementGroup = false, nil, 0, 0, 0, 0
	}
	for i := range p.Overflow {
		p.Overflow[i].Partition, p.Overflow[i].Waiting.Rule, p.Overflow[i].When = "local", WaitingImmediate, nil
	}
	for i := range f.Groups {
		g := &f.Groups[i]
		g.StateReason, g.TimeLimit = "Resources", rapid.SampledFrom([]time.Duration{time.Hour, 2 * time.Hour}).Draw(t, "crowd's time")
	}
	for i := range f.Memory.Jobs {
		j := &f.Memory.Jobs[i]
		j.TimeLimit = 2 * time.Hour
		if j.RevokedAt.IsZero() {
			j.Committed = commitment(j.Rate, j.Nodes, j.TimeLimit)
		}
	}
	first := map[string]bool{}
	f.Partitions = slices.DeleteFunc(f.Partitions, func(q Partition) bool {
		told := first[q.Name]
		first[q.Name] = true
		return told
	})
	f.Running, f.Memory.Steps = nil, nil
	f.Memory.Jobs = slices.DeleteFunc(f.Memory.Jobs, func(j CloudJob) bool { return len(j.ID) < 3 }) // those that ran
	return p, f
}

// raise gives the policy with one of its bounds raised, or false if it has none.
func raise(t *rapid.T, p Policy) (Policy, bool) {
	p = copyOfPolicy(p)
	p.Budgets, p.Accounts, p.Users = slices.Clone(p.Budgets), slices.Clone(p.Accounts), slices.Clone(p.Users)
	by := rapid.IntRange(1, 4).Draw(t, "raised by")
	switch rapid.IntRange(0, 5).Draw(t, "raised bound") {
	case 0:
		if len(p.Budgets) > 0 && p.Budgets[0].Hard > 0 {
			p.Budgets[0].Hard += Money(by) * 1e6
			return p, true
		}
	case 1:
		if len(p.Budgets) > 0 && p.Budgets[0].Medium > 0 {
			p.Budgets[0].Medium += Money(by) * 1e6
			return p, true
		}
	case 2:
		p.Nodearrays[0].MaxNodes += by
		return p, true
	case 3:
		if p.MaxNodes > 0 {
			p.MaxNodes += by
			return p, true
		}
	case 4:
		if p.Accounts[1].MaxNodes > 0 {
			p.Accounts[1].MaxNodes += by
			return p, true
		}
	case 5:
		if p.Users[0].MaxNodes > 0 {
			p.Users[0].MaxNodes += by
			return p, true
		}
	}
	return p, false
}

// places gives, for each waiting job in the order in which jobs are judged, the
// place in its rule's rank of the nodearray that has it after the plan; the
// number of nodearrays for a job that stays.
func places(p Policy, f Facts, plan Plan) (jobs []string, ranks []int) {
	groups := map[string]Group{}
	for _, g := range f.Groups {
		groups[g.Key] = g
	}
	for _, v := range plan.Verdicts {
		for _, job := range groups[v.Group].Jobs {
			rank := len(p.Nodearrays)
			if r, known := recordOf(plan.Memory, job); known && r.RevokedAt.IsZero() {
				rank = rankOf(p, groups[v.Group], r.Nodearray)
			}
			jobs, ranks = append(jobs, job), append(ranks, rank)
		}
	}
	return jobs, ranks
}

// rankOf is the nodearray's place in the first rule that lets the group go.
func rankOf(p Policy, g Group, array NodearrayName) int {
	for _, home := range g.Partitions {
		for _, o := range p.Overflow {
			if o.Partition == home && (o.When == nil || o.When.Judge(&g) == Yes) {
				if i := slices.Index(o.Nodearrays, array); i >= 0 {
					return i
				}
				return len(o.Nodearrays)
			}
		}
	}
	return 0
}

// A higher bound releases no less, in this order: jobs are judged one after the
// other, oldest group first, and at the first job with which two plans differ
// the one under the higher bound places it earlier in rank, or places it at all.
//
// More cannot hold for whole jobs. With two nodes left, a job of three nodes
// stays and the two behind it go; with three left the first goes and the two
// stay. So neither the number nor the set of released jobs grows with a bound,
// but nobody loses a place to somebody who came later.
func TestAHigherBoundReleasesNoLess(t *testing.T) {
	differ, fewer := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p, f := drawCrowded(t)
		higher, raised := raise(t, p)
		if !raised {
			return
		}
		jobs, before := places(p, f, Decide(origin, p, f))
		same, after := places(higher, f, Decide(origin, higher, f))
		if !slices.Equal(jobs, same) {
			t.Fatalf("judged in the order %v, then %v", jobs, same)
		}
		for i := range before {
			switch {
			case before[i] == after[i]:
				continue
			case after[i] > before[i]:
				t.Fatalf("under the higher bound job %s has place %d, under the lower %d", jobs[i], after[i], before[i])
			}
			differ++
			if len(slices.DeleteFunc(after, func(r int) bool { return r == len(p.Nodearrays) })) < len(slices.DeleteFunc(before, func(r int) bool { return r == len(p.Nodearrays) })) {
				fewer++
			}
			return
		}
	})
	t.Logf("%d plans differ, %d of them release fewer jobs", differ, fewer)
	if differ < oneIn(100) {
		t.Errorf("only %d of the drawn bounds mattered", differ)
	}
}

// Under crowding too, no plan breaks an invariant, and what is carried out and
// decided again adds nothing.
func TestACrowdIsHeldToTheInvariants(t *testing.T) {
	released, moved, revoked := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p, f := drawCrowded(t)
		now := origin
		for range 3 { // decided, carried out, and again a minute and a half later
			plan := Decide(now, p, f)
			if err := breach(now, p, f, plan); err != nil {
				t.Fatalf("the plan %v\n%s%s", err, renderOverflow(now, f.Memory, plan), renderPlan(now, plan))
			}
			for _, c := range plan.Commands {
				switch {
				case c.Kind == ReleaseJobs && c.Reason.Code == ReasonMoved:
					moved += len(c.Jobs)
				case c.Kind == ReleaseJobs:
					released += len(c.Jobs)
				case c.Kind == RevokeJobs:
					revoked += len(c.Jobs)
				}
			}
			f = f.After(now, plan)
			if again := withoutNotices(Decide(now, p, f)); again.Acts() {
				t.Fatalf("after\n%s\ncame\n%s", renderPlan(now, plan), renderPlan(now, again))
			}
			now = now.Add(95 * time.Second)
			f.Snapshot.AsOf = now
			f.Snapshot.Sequence++
			f.obey(plan.Commands)
		}
	})
	if released < oneIn(2) || moved < oneIn(1000) || revoked < oneIn(10) {
		t.Errorf("only %d jobs were released, %d moved and %d revoked", released, moved, revoked)
	}
}

// obey does to the waiting jobs what the commands ask for: each becomes a group
// of its own with its new partitions.
func (f *Facts) obey(commands []Command) {
	f.JobCommands = nil
	for _, c := range commands {
		if c.Kind != ReleaseJobs && c.Kind != RevokeJobs {
			continue
		}
		for _, job := range c.Jobs {
			i := slices.IndexFunc(f.Groups, func(g Group) bool { return slices.Contains(g.Jobs, job) })
			f.Groups = slices.Clone(f.Groups)
			g := f.Groups[i]
			f.Groups[i].Jobs = slices.DeleteFunc(slices.Clone(g.Jobs), func(other string) bool { return other == job })
			f.Groups[i].Count--
			if f.Groups[i].Count == 0 {
				f.Groups = slices.Delete(f.Groups, i, i+1)
			}
			g.Key, g.Jobs, g.Count, g.Partitions = g.Key+"/"+job, []string{job}, 1, c.Partitions
			f.Groups = append(f.Groups, g)
		}
	}
}
