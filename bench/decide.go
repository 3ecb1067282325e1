package main

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
)

// measureDecide times burst.Decide with testing.Benchmark: with nodes alone, and
// with jobs that wait.
func measureDecide(ctx context.Context, b *bench) error {
	const target = 10_000
	sizes := []int{1000, target, 2 * target}
	if err := flag.Set("test.benchtime", fmt.Sprintf("%dms", 3*b.effort.samples)); err != nil {
		return fmt.Errorf("set the length of a benchmark: %w", err)
	}
	times, allocations, floors := map[int]series{}, map[int]series{}, map[int]series{}
	for range b.effort.runs {
		for _, size := range sizes {
			if err := ctx.Err(); err != nil {
				return err
			}
			now, policy, facts := situation(size)
			if plan := burst.Decide(now, policy, facts); len(plan.Creates) == 0 || len(plan.Terminates) == 0 || len(plan.Commands) == 0 {
				return fmt.Errorf("the plan for %d nodes does not do all kinds of things: %+v", size, plan.Creates)
			}
			r := testing.Benchmark(func(tb *testing.B) {
				tb.ReportAllocs()
				for tb.Loop() {
					burst.Decide(now, policy, facts)
				}
			})
			floor := testing.Benchmark(func(tb *testing.B) {
				for tb.Loop() {
					index(facts.Nodes)
				}
			})
			times[size] = append(times[size], float64(r.NsPerOp())/1e6)
			allocations[size] = append(allocations[size], float64(r.AllocsPerOp())/float64(size))
			floors[size] = append(floors[size], float64(floor.NsPerOp())/1e6)
		}
	}
	b.add(measure{
		what: "Decide, 10,000 nodes in all states", value: times[target], unit: "ms",
		target: below(times[target].median(), 10, "ms"),
	}.over(floors[target], "one map of the 10,000 nodes by name"))
	for _, size := range []int{1000, 2 * target} {
		growth := times[size].median() / times[target].median() * target / float64(size)
		b.add(measure{
			what: fmt.Sprintf("time per node at %s nodes, as a multiple of that at 10,000", number(float64(size))), value: series{growth},
			target: promise(growth < 1.5, "linear: under 1.5"),
		})
	}
	if err := b.decideCPU(ctx, target); err != nil {
		return err
	}
	b.add(measure{
		what: "allocations per node at 10,000 nodes (1,000 and 20,000 alike)", value: allocations[target],
		target: promise(allocations[2*target].median() < 1.2*allocations[1000].median()+0.1, "bounded: does not grow with the nodes"),
	})
	return measureOverflow(ctx, b)
}

// decideCPU measures Decide and its floor in turns, by the CPU of this process.
func (b *bench) decideCPU(ctx context.Context, size int) error {
	now, policy, facts := situation(size)
	var decide, floor series
	for range b.effort.runs {
		var decides, floors []float64
		for range b.effort.samples {
			if err := ctx.Err(); err != nil {
				return err
			}
			took, err := spending(func() {
				for range b.times {
					burst.Decide(now, policy, facts)
				}
			})
			if err != nil {
				return err
			}
			decides = append(decides, took)
			if took, err = spending(func() { index(facts.Nodes) }); err != nil {
				return err
			}
			floors = append(floors, took)
		}
		// The mean: the garbage collector's share falls on some calls only.
		decide, floor = append(decide, mean(decides)), append(floor, mean(floors))
	}
	b.add(measure{key: "decide_cpu", what: "Decide, 10,000 nodes: CPU", value: decide, unit: "ms"}.over(floor, "one map of the 10,000 nodes by name"))
	return nil
}

// index is the floor of Decide: to find each node by its name.
func index(nodes []burst.Node) map[burst.NodeName]int {
	byName := make(map[burst.NodeName]int, len(nodes))
	for i := range nodes {
		byName[nodes[i].Name] = i
	}
	return byName
}

// pair is a node's state in Slurm and in CycleCloud.
type pair struct {
	slurm  burst.SlurmState
	supply burst.Supply
}

// pairs are what a busy cluster looks like: most nodes work or are off, and
// some are in each of the states in which something has to be done.
var pairs = []pair{
	{burst.Busy, burst.Ready},
	{burst.Busy, burst.Ready},
	{burst.PoweredDown, burst.Absent},
	{burst.PoweredDown, burst.Absent},
	{burst.Busy, burst.Ready},
	{burst.Idle, burst.Ready},
	{burst.PoweringUp, burst.Booting},
	{burst.PoweringUp, burst.Absent},
	{burst.PoweringDown, burst.Ready},
	{burst.Fenced, burst.Absent},
}

// situation is a cluster of four nodearrays with so many nodes.
func situation(nodes int) (time.Time, burst.Policy, burst.Facts) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	policy := burst.Policy{Version: "1", Cluster: "bench", MaxActAge: 90 * time.Second}
	facts := burst.Facts{Snapshot: burst.Snapshot{Position: burst.Position{Epoch: 1, Sequence: 9}, AsOf: now.Add(-time.Second)}}
	for k := range 4 {
		array := burst.Nodearray{
			Name: burst.NodearrayName(fmt.Sprintf("array%d", k)), Partition: fmt.Sprintf("array%d", k), MachineType: "Standard_F4s_v2",
			MaxNodes: nodes / 4 * 3 / 4, IdleTimeout: 5 * time.Minute, BootDeadline: 10 * time.Minute,
		}
		for i := range nodes / 4 {
			name := burst.NodeName(fmt.Sprintf("%s-%d", array.Name, i+1))
			array.Nodes = append(array.Nodes, name)
			facts.Nodes = append(facts.Nodes, nodeIn(pairs[i%len(pairs)], array.Name, name, i, now))
		}
		policy.Nodearrays = append(policy.Nodearrays, array)
		facts.Nodearrays = append(facts.Nodearrays, burst.NodearrayFacts{
			Name: array.Name, Available: burst.Availability{Known: true, Count: nodes, MaxCount: nodes},
		})
	}
	return now, policy, facts
}

func nodeIn(p pair, array burst.NodearrayName, name burst.NodeName, i int, now time.Time) burst.Node {
	n := burst.Node{
		Name: name, Nodearray: array, Slurm: p.slurm, Supply: p.supply, SeenAt: now.Add(-time.Second),
		Since: now.Add(-time.Duration(i%600) * time.Second),
	}
	if p.supply != burst.Absent {
		n.NodeID, n.CreatedAt, n.Created = "id-"+string(name), now.Add(-time.Hour), burst.Generation{Position: burst.Position{Epoch: 1, Sequence: 1}}
	}
	if p.slurm == burst.PoweringUp {
		n.Since, n.CreatedAt = now.Add(-time.Minute), now.Add(-time.Minute)
		if p.supply == burst.Absent {
			n.CreatedAt = time.Time{}
		}
		n.Jobs = []burst.BootJob{{ID: fmt.Sprint(i / 4), Requeueable: true}} // jobs of a few nodes each
	}
	return n
}
