package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/policy"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// measureOverflow times burst.Decide with every rule of the policy file set, its
// expressions compiled by internal/policy: 20 jobs wait in each group, beside
// twice as many nodes as groups and 2,000 jobs in the cloud.
func measureOverflow(ctx context.Context, b *bench) error {
	const target = 5000
	sizes := []int{target, 2 * target}
	times, allocations, floors := map[int]series{}, map[int]series{}, map[int]series{}
	for range b.effort.runs {
		for _, groups := range sizes {
			if err := ctx.Err(); err != nil {
				return err
			}
			now, p, facts, err := everyRule(groups)
			if err != nil {
				return err
			}
			if err := showsEveryRule(burst.Decide(now, p, facts), groups); err != nil {
				return err
			}
			r := testing.Benchmark(func(tb *testing.B) {
				tb.ReportAllocs()
				for tb.Loop() {
					burst.Decide(now, p, facts)
				}
			})
			floor := testing.Benchmark(func(tb *testing.B) {
				for tb.Loop() {
					index(facts.Nodes)
				}
			})
			times[groups] = append(times[groups], float64(r.NsPerOp())/1e6)
			allocations[groups] = append(allocations[groups], float64(r.AllocsPerOp())/float64(groups))
			floors[groups] = append(floors[groups], float64(floor.NsPerOp())/1e6)
		}
	}
	b.add(measure{
		what: "Decide with every rule and CEL: 100,000 jobs in 5,000 groups, 10,000 nodes", value: times[target], unit: "ms",
		target: below(times[target].median(), 25, "ms"),
	}.over(floors[target], "one map of the 10,000 nodes by name"))
	growth := times[2*target].median() / times[target].median() / 2
	b.add(measure{
		what: "the same per group at 10,000 groups, as a multiple of that at 5,000", value: series{growth},
		target: promise(growth < 1.5, "linear: under 1.5"),
	})
	b.add(measure{
		what: "the same: allocations per group", value: allocations[target],
		target: promise(allocations[2*target].median() < 1.2*allocations[target].median()+0.5, "bounded: does not grow with the groups"),
	})
	return nil
}

// showsEveryRule reports what a plan lacks that the measurement is about.
func showsEveryRule(plan burst.Plan, groups int) error {
	released, reasons := 0, map[burst.Code]bool{}
	for _, v := range plan.Verdicts {
		released += len(v.Released)
		reasons[v.Reason.Code] = true
	}
	if len(plan.Verdicts) != groups || released == 0 || len(reasons) < 5 {
		return fmt.Errorf("the plan judges %d of %d groups, releases %d jobs and knows the reasons %v", len(plan.Verdicts), groups, released, reasons)
	}
	return nil
}

// rules is a policy file in which every kind of rule is set.
func rules(nodes int) string {
	var text strings.Builder
	text.WriteString("version: 1\ncluster: bench\ncyclecloud: {url: https://cc.example.com, cluster: bench, credential: cc}\n")
	fmt.Fprintf(&text, "maxNodes: %d\ncurrency: EUR\nbreaker: {first: 5m, max: 2h}\nnodearrays:\n", nodes)
	for k := range 4 {
		fmt.Fprintf(&text, "  - {name: array%d, partition: array%d, nodes: 'array%d-[1-%d]', machineType: Standard_F4s_v2, price: {onDemand: %d.5},\n", k, k, k, nodes/4, k+1)
		fmt.Fprintf(&text, "     cpus: 16, memory: 64GiB, features: [cloud], maxNodes: %d, stepUp: {nodes: 100, every: 1m},\n", nodes/4)
		text.WriteString("     stepDown: {nodes: 50, every: 1m}, cooldownDown: 1m, idleTimeout: 5m, bootDeadline: 10m, bootTime: 3m}\n")
	}
	text.WriteString(`overflow:
  - {partition: local, nodearrays: [array3], waiting: {rule: immediate}, when: 'job.gpus > 0 && job.requeue'}
  - {partition: local, nodearrays: [array0, array1], waiting: {rule: wait, wait: 10m}, maxJobCost: 500, when: 'job.nodes > 4 && job.account in ["cfd", "physics"] && job.timeLimit > duration("30m")'}
  - {partition: local, nodearrays: [array0, array1, array2, array3], waiting: {rule: weighted, kappa: 0.1}, when: '!job.nodeList'}
budgets:
  - {scope: cluster, period: day, soft: 1000, hard: 40000}
  - {scope: cluster, period: month, hard: 400000}
  - {scope: account, name: physics, period: day, medium: 5000, mediumJobCost: 1, hard: 10000}
  - {scope: nodearray, name: array0, period: hour, hard: 9000}
`)
	fmt.Fprintf(&text, "accounts:\n  - {name: physics, maxNodes: %d}\n  - {name: \"*\", maxNodes: %d}\n", nodes*3/10, nodes/2)
	fmt.Fprintf(&text, "users:\n  - {name: \"*\", maxNodes: %d}\n", nodes/50)
	return text.String()
}

// everyRule is the situation of the other measurement with the rules, and with
// jobs that wait and that were released before.
func everyRule(groups int) (time.Time, burst.Policy, burst.Facts, error) {
	nodes := 2 * groups
	now, _, facts := situation(nodes)
	d, err := policy.Parse([]byte(rules(nodes)), slurm.ParseHostlist)
	if err != nil {
		return now, burst.Policy{}, facts, err
	}
	p := d.Burst()
	for _, a := range p.Nodearrays {
		facts.Partitions = append(facts.Partitions, burst.Partition{Name: a.Partition, Up: true, AllowAccounts: []string{"physics", "chemistry"}})
	}
	facts.Local = []burst.LocalPartition{{Name: "local", Nodes: 100}}
	for i := range groups {
		g := burst.Group{
			Key: fmt.Sprint(i), Partitions: []string{"local"}, User: fmt.Sprintf("user%d", i%200), Account: []string{"physics", "chemistry"}[i/200%2],
			StateReason: []string{"Priority", "Resources", "Priority", "Dependency"}[i%4], Nodes: 1 + i%7, CPUs: 4 * (1 + i%7), MemoryMiB: int64(i%80) << 12,
			TimeLimit: time.Duration(1+i%24) * time.Hour, Batch: true, Requeue: true, Priority: int64(i),
			OldestSubmit: now.Add(-time.Duration(i*9) * time.Second), NewestSubmit: now.Add(-time.Duration(i*4) * time.Second), Count: 20,
		}
		for k := range g.Count {
			g.Jobs = append(g.Jobs, fmt.Sprint(1_000_000+i*100+k))
		}
		facts.Groups = append(facts.Groups, g)
	}
	for i := range 2000 {
		id, array := fmt.Sprint(9_000_000+i), p.Nodearrays[i%len(p.Nodearrays)].Name
		started := now.Add(-time.Hour)
		user := fmt.Sprintf("user%d", i%200)
		facts.Memory.Jobs = append(facts.Memory.Jobs, burst.CloudJob{
			ID: id, Nodearray: array, User: user, Account: "physics", Nodes: 1, Home: []string{"local"}, Rate: 1e6,
			Committed: 2e6, CommittedAt: started, TimeLimit: 2 * time.Hour, StartedAt: started,
		})
		facts.Running = append(facts.Running, burst.RunningJob{
			ID: id, Nodearray: array, User: user, Account: "physics", Nodes: 1, TimeLimit: 2 * time.Hour, StartedAt: started,
		})
	}
	return now, p, facts, nil
}
