package burst

import (
	"fmt"
	"strconv"
	"testing"
	"time"
)

// everyRule is a policy with every rule of the file set, and facts in which so
// many jobs wait in so many groups beside so many cloud nodes.
func everyRule(jobs, groups, nodes int) (Policy, Facts) {
	p, f := crowd(nodes)
	p.MaxNodes = nodes
	p.Accounts = []Share{{"physics", nodes / 3}, {"", nodes / 2}}
	p.Users = []Share{{"", nodes / 4}}
	p.Budgets = []Budget{
		{Scope: ScopeCluster, Period: Day, Soft: 1e9, Hard: 40e9},
		{Scope: ScopeCluster, Period: Month, Hard: 400e9},
		{Scope: ScopeAccount, Name: "physics", Period: Day, Medium: 5e9, MediumJobCost: 1e6, Hard: 10e9},
	}
	o := Overflow{Partition: "local", When: fixedAnswer(Yes), Waiting: Waiting{Rule: WaitingWeighted, Kappa: 0.1}}
	for i := range p.Nodearrays {
		a := &p.Nodearrays[i]
		a.Partition, a.Price, a.CPUs, a.MemoryMiB, a.Features = string(a.Name), Money(1e6*(i+1)), 16, 65536, []string{"cloud"}
		a.StepUp, a.BootTime = Step{100, time.Minute}, 3*time.Minute
		o.Nodearrays = append(o.Nodearrays, a.Name)
		f.Partitions = append(f.Partitions, Partition{Name: a.Partition, Up: true, AllowAccounts: []string{"physics", "chemistry"}})
	}
	p.Overflow = []Overflow{o}
	f.Local = []LocalPartition{{Name: "local", Nodes: 100}}
	for i := range groups {
		g := Group{
			Key: strconv.Itoa(i), Partitions: []string{"local"}, User: fmt.Sprintf("user%d", i%200), Account: []string{"physics", "chemistry"}[i%2],
			StateReason: "Priority", Nodes: 1 + i%7, CPUs: 4 * (1 + i%7), TimeLimit: time.Duration(1+i%24) * time.Hour, Batch: true, Requeue: true,
			OldestSubmit: origin.Add(-time.Duration(i) * time.Second), NewestSubmit: origin.Add(-time.Duration(i/2) * time.Second), Count: jobs / groups,
		}
		for k := range min(g.Count, 64) {
			g.Jobs = append(g.Jobs, strconv.Itoa(1_000_000+i*100+k))
		}
		f.Groups = append(f.Groups, g)
	}
	for i := range 2000 {
		f.Memory.Jobs = append(f.Memory.Jobs, CloudJob{
			ID: strconv.Itoa(9_000_000 + i), Nodearray: p.Nodearrays[i%len(p.Nodearrays)].Name, User: fmt.Sprintf("user%d", i%200), Account: "physics", Nodes: 1,
			Home: []string{"local"}, Rate: 1e6, Committed: 1e6, CommittedAt: origin.Add(-time.Hour), TimeLimit: time.Hour, StartedAt: origin.Add(-time.Hour),
		})
		f.Running = append(f.Running, RunningJob{ID: strconv.Itoa(9_000_000 + i), Nodearray: p.Nodearrays[i%len(p.Nodearrays)].Name, Nodes: 1, Account: "physics", TimeLimit: time.Hour, StartedAt: origin.Add(-time.Hour)})
	}
	return p, f
}

// BenchmarkDecideWithEveryRule shows what a decision about waiting jobs costs,
// and that it grows linearly.
func BenchmarkDecideWithEveryRule(b *testing.B) {
	for _, groups := range []int{500, 5000, 50_000} {
		p, f := everyRule(20*groups, groups, 2*groups)
		b.Run(strconv.Itoa(groups)+" groups", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Decide(origin, p, f)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*groups), "ns/group")
		})
	}
}

// BenchmarkDecideWhereRoomIsShort shows what it costs to divide the cluster's
// limit among nodearrays to each of which users send jobs of their own.
func BenchmarkDecideWhereRoomIsShort(b *testing.B) {
	for _, groups := range []int{500, 5000, 50_000} {
		p, f := everyRule(20*groups, groups, 2*groups)
		p.MaxNodes = groups * 3 / 2
		for i := range f.Groups {
			f.Groups[i].Partitions = []string{p.Nodearrays[i%len(p.Nodearrays)].Partition}
		}
		for i := range f.Nodes {
			if n := &f.Nodes[i]; i%3 > 0 {
				n.Slurm, n.Supply, n.Jobs = []SlurmState{PoweredDown, Fenced}[i%2], Absent, nil
			}
		}
		b.Run(strconv.Itoa(groups)+" groups", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Decide(origin, p, f)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*groups), "ns/group")
		})
	}
}
