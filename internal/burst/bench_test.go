package burst

import (
	"fmt"
	"strconv"
	"testing"
	"time"
)

// crowd makes a cluster of four nodearrays in which half of all nodes power up
// for jobs of two nodes and the rest are in every other state.
func crowd(nodes int) (Policy, Facts) {
	p := Policy{Version: "1", Cluster: "onprem", MaxActAge: 90 * time.Second}
	f := Facts{Snapshot: Snapshot{Position{1, 5}, origin.Add(-time.Second)}}
	const arrays = 4
	for i := range arrays {
		a := Nodearray{
			Name: NodearrayName("array" + strconv.Itoa(i)), MaxNodes: nodes / arrays * 9 / 10, IdleTimeout: 5 * time.Minute, BootDeadline: 10 * time.Minute,
		}
		for k := range nodes / arrays {
			n := Node{
				Name: NodeName(fmt.Sprintf("%s-%d", a.Name, k)), Nodearray: a.Name, Since: origin.Add(-4 * time.Minute), SeenAt: origin.Add(-time.Second),
				Slurm: SlurmState(1 + k/2%int(slurmStates-1)), Supply: Supply(1 + k%int(supplies-1)),
			}
			if n.Supply.present() {
				n.NodeID = "id-" + string(n.Name)
			}
			if k%2 == 0 {
				n.Slurm, n.Supply, n.ResumeID = PoweringUp, Absent, "r"+strconv.Itoa(k)
				n.Jobs = []BootJob{{ID: strconv.Itoa(k / 4), Requeueable: true}}
			}
			a.Nodes = append(a.Nodes, n.Name)
			f.Nodes = append(f.Nodes, n)
		}
		p.Nodearrays = append(p.Nodearrays, a)
		f.Nodearrays = append(f.Nodearrays, NodearrayFacts{Name: a.Name, Available: Availability{Known: true, Count: nodes, MaxCount: nodes}})
	}
	return p, f
}

// BenchmarkDecide shows the cost of a decision and that it grows linearly.
func BenchmarkDecide(b *testing.B) {
	for _, nodes := range []int{100, 1000, 10_000, 100_000} {
		p, f := crowd(nodes)
		b.Run(strconv.Itoa(nodes)+" nodes", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Decide(origin, p, f)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*nodes), "ns/node")
		})
	}
}

// BenchmarkAfter shows the cost of laying a plan over the facts.
func BenchmarkAfter(b *testing.B) {
	p, f := crowd(10_000)
	plan := Decide(origin, p, f)
	b.ReportAllocs()
	for b.Loop() {
		f.After(origin, plan)
	}
}
