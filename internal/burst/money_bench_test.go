package burst

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"
)

// busyMonth is a cluster with so many cloud jobs, of which a tenth ends and a
// tenth waits, so many nodes and the books of fifty accounts.
func busyMonth(jobs, nodes int) (Policy, Facts) {
	p, f := crowd(nodes)
	for i := range p.Nodearrays {
		p.Nodearrays[i].Partition, p.Nodearrays[i].Price = string(p.Nodearrays[i].Name), Money(i+1)*unit
	}
	p.Budgets = []Budget{{Scope: ScopeCluster, Period: Hour, Hard: 1e9 * unit}, {Scope: ScopeCluster, Period: Month, Soft: 1, Medium: 1e9 * unit, Hard: 1e10 * unit}}
	for i := range 50 {
		p.Budgets = append(p.Budgets, Budget{Scope: ScopeAccount, Name: fmt.Sprintf("account%d", i), Period: Day, Hard: 1e9 * unit})
	}
	for i := range jobs {
		j := CloudJob{
			ID: fmt.Sprintf("%06d", i), Nodearray: p.Nodearrays[i%4].Name, User: fmt.Sprintf("user%d", i%300), Account: fmt.Sprintf("account%d", i%50), Nodes: 1 + i%8,
			Home: []string{"local"}, Rate: unit, Committed: 10 * unit, CommittedAt: origin.Add(-time.Duration(i) * time.Second), TimeLimit: 10 * time.Hour,
		}
		switch i % 10 {
		case 0:
			f.Ended = append(f.Ended, EndedJob{ID: j.ID, EndedAt: origin})
			j.StartedAt = origin.Add(-time.Hour)
		case 1:
		default:
			j.StartedAt = origin.Add(-time.Hour)
			f.Running = append(f.Running, RunningJob{ID: j.ID, User: j.User, Account: j.Account, Nodearray: j.Nodearray, Nodes: j.Nodes, StartedAt: j.StartedAt, TimeLimit: j.TimeLimit})
		}
		f.Memory.Jobs = append(f.Memory.Jobs, j)
	}
	f.Groups = make([]Group, 5000)
	for i := range f.Groups {
		g := Group{Partitions: []string{"local"}, User: fmt.Sprintf("user%d", i%300), Account: fmt.Sprintf("account%d", i%50), Count: 20}
		for k := range 4 { // a snapshot of so many groups has room to name two of each
			g.Jobs = append(g.Jobs, strconv.Itoa(1_000_000+20*i+k))
		}
		f.Groups[i] = g
	}
	f.Memory = advance(origin.Add(-10*time.Minute), p, Facts{Nodes: f.Nodes, Memory: f.Memory})
	for _, period := range periods {
		for i := range 50 {
			for _, a := range p.Nodearrays {
				f.Memory.Books = append(f.Memory.Books, Book{Period: period, From: periodStart(period, origin, nil), Account: fmt.Sprintf("account%d", i), Nodearray: a.Name, Settled: unit})
			}
		}
	}
	return p, f
}

// BenchmarkAdvance shows the cost of taking in a snapshot of 10,000 cloud jobs,
// 10,000 nodes and 100,000 waiting jobs in 5,000 groups.
func BenchmarkAdvance(b *testing.B) {
	p, f := busyMonth(10_000, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		advance(origin, p, f)
	}
}

// BenchmarkTill shows what it costs to count all budgets and then ask and
// commit for each of 5,000 groups.
func BenchmarkTill(b *testing.B) {
	p, f := busyMonth(10_000, 10_000)
	m := f.Memory
	b.Run("count", func(b *testing.B) {
		for b.Loop() {
			newTill(origin, p, &m)
		}
	})
	at := newTill(origin, p, &m)
	ask := func(b *testing.B, at *till) {
		b.ReportAllocs()
		for b.Loop() {
			for i := range f.Groups {
				a := p.Nodearrays[i%4].Name
				if fits, _ := at.afford(a, f.Groups[i].Account, unit); fits {
					at.commit(a, f.Groups[i].Account, 0)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(f.Groups)), "ns/group")
	}
	b.Run("afford", func(b *testing.B) { ask(b, at) })
	b.Run("refuse", func(b *testing.B) {
		full := *at
		full.budgets = slices.Clone(at.budgets)
		full.budgets[0].used = full.budgets[0].Hard
		ask(b, &full)
	})
}
