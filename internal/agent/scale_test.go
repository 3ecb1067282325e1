package agent

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// hugeReading is a cluster of 10,000 cloud nodes, half of them up, with so many
// waiting jobs in 5,000 shapes and 10,000 running ones.
func hugeReading(tb testing.TB, waiting int) (*term, reading) {
	tb.Helper()
	r := reading{began: time.Now()}
	var names []slurm.NodeName
	for i := range 10_000 {
		name := slurm.NodeName(fmt.Sprintf("htc-%d", i+1))
		names = append(names, name)
		n := slurm.Node{Name: name, Partitions: []slurm.PartitionName{"htc"}, State: slurm.NodeState{Base: slurm.NodeIdle, Flags: []slurm.NodeFlag{slurm.FlagCloud, slurm.FlagPoweredDown}}}
		if i%2 == 0 {
			n.State = slurm.NodeState{Base: slurm.NodeAllocated, Flags: []slurm.NodeFlag{slurm.FlagCloud}}
		}
		r.nodes = append(r.nodes, n)
	}
	for i := range waiting {
		r.jobs = append(r.jobs, slurm.Job{
			ID: slurm.JobID(i + 1), State: slurm.JobPending, Partitions: []slurm.PartitionName{"local"}, User: slurm.UserName(fmt.Sprintf("user%d", i%250)),
			Account: "physics", QOS: "normal", Reason: "Priority", Description: "(Priority)", NodeCount: 1 + i%5, CPUs: 4, MinMemoryMB: int64(i * 7919 % 5000),
			Submitted: r.began.Add(-time.Duration(i*7919%100_000) * time.Second), IsBatch: true, Requeue: true,
		})
	}
	for i := range 10_000 {
		r.jobs = append(r.jobs, slurm.Job{
			ID: slurm.JobID(200_000 + i), State: slurm.JobRunning, Partitions: []slurm.PartitionName{"htc"}, Nodes: names[i-i%2 : i-i%2+1], Started: r.began,
		})
	}
	a, err := New(Options{
		Cluster: "onprem", Nodearrays: []Nodearray{{Name: "htc", Nodes: names}}, Slurm: &slurm.Client{}, Bus: ServiceBus(nil), Spool: "x",
		PressureQueue: "p", CommandQueue: "c", Poll: time.Second, Heartbeat: time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	c, err := readCharge([]byte(`{"v":1,"epoch":1}`))
	if err != nil {
		tb.Fatal(err)
	}
	return &term{Agent: a, charge: c}, r
}

func TestAHugeClusterFitsIntoOneSnapshot(t *testing.T) {
	const waiting = 20_000 // the race detector is slow; the benchmarks take 100,000
	agent, r := hugeReading(t, waiting)
	q := agent.snapshot(r, event.CausePoll)
	q.Sequence = 1
	if q.PendingJobs != waiting || len(q.Pending) != 5_000 || len(q.Running) != 10_000 {
		t.Errorf("%d jobs in %d groups, %d running", q.PendingJobs, len(q.Pending), len(q.Running))
	}
	counted := 0
	for i := range q.Pending {
		counted += q.Pending[i].Count
	}
	if nodes := q.CloudNodes[0]; counted != waiting || nodes.PoweredDown != 5_000 || len(nodes.Groups) != 1 {
		t.Errorf("%d jobs in groups, nodes %d off, %d groups", counted, nodes.PoweredDown, len(nodes.Groups))
	}
	m, err := q.Encode()
	if err != nil || len(m.Body) > event.MaxBody {
		t.Errorf("body of %d bytes: %v", len(m.Body), err)
	}
}

func BenchmarkSnapshotOf100000Jobs(b *testing.B) {
	agent, r := hugeReading(b, 100_000)
	for b.Loop() {
		q := agent.snapshot(r, event.CausePoll)
		if q.PendingJobs != 100_000 {
			b.Fatal(q.PendingJobs)
		}
	}
}

func BenchmarkEncodeOf100000Jobs(b *testing.B) {
	agent, r := hugeReading(b, 100_000)
	q := agent.snapshot(r, event.CausePoll)
	q.Sequence = 1
	for b.Loop() {
		if _, err := q.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigestOf100000Jobs(b *testing.B) {
	agent, r := hugeReading(b, 100_000)
	q := agent.snapshot(r, event.CausePoll)
	for b.Loop() {
		if steadyDigest(q) == "" {
			b.Fatal("no digest")
		}
	}
}
