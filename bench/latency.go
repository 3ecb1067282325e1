package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/local/functionshost"
)

// sessionHold is how long an idle session stays with its process: see
// sessionIdleTimeout in host.json.
const sessionHold = 100 * time.Millisecond

// pauseBetween lets what an event set in motion end before the next.
const pauseBetween = 30 * time.Millisecond

// measureEvents times events of a cluster of 200 nodes and 200 pending groups.
func measureEvents(ctx context.Context, b *bench) (err error) {
	const nodes, groups, fresh = 200, 200, "counted"
	var clusters []string
	for i := range b.effort.runs {
		clusters = append(clusters, fmt.Sprintf("bench%d", i+1))
	}
	clusters = append(clusters, fresh)
	s, err := b.startSite(ctx, siteOptions{name: "event", clusters: clusters, nodes: nodes, reclaim: never})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	l := latencies{}
	count, warmUp := min(b.effort.samples, nodes/2), warming{least: 20, most: 20}
	for _, cluster := range clusters[:b.effort.runs] {
		a := s.standIn(cluster, nodes, groups, 0)
		if err := a.grow(ctx, 1, nodes-count-warmUp.most); err != nil {
			return err
		}
		if err := l.run(ctx, a, warmUp, count); err != nil {
			return err
		}
	}
	l.add(b, "event on the queue to nodes/create, 200 nodes, 200 groups, warm", 50, 250)
	b.add(measure{key: "event_cpu", what: "the same: CPU of the handler per event", value: l.cpu, unit: "ms"}.
		over(l.cpuFloor, "to read the snapshot's message and write it again, once"))
	return s.measureRequests(ctx, s.standIn(fresh, nodes, groups, 0))
}

// measureLarge times events of a cluster of 10,000 nodes and 5,000 groups, and
// counts what an unchanged snapshot costs when every node has a row.
func measureLarge(ctx context.Context, b *bench) (err error) {
	const nodes, groups, atOnce = 10_000, 5000, 2500
	s, err := b.startSite(ctx, siteOptions{name: "large", clusters: []string{"large"}, nodes: nodes, reclaim: never})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	a := s.standIn("large", nodes, groups, 0)
	count, warmUp := max(10, b.effort.samples/5), warming{least: 3, most: 12}
	seed := nodes - b.effort.runs*(count+warmUp.most)
	for n := 1; n <= seed; n += atOnce {
		if err := a.grow(ctx, n, min(n+atOnce-1, seed)); err != nil {
			return err
		}
		b.say("  %s nodes have a VM", number(float64(len(a.up))))
	}
	l := latencies{}
	for range b.effort.runs {
		if err := l.run(ctx, a, warmUp, count); err != nil {
			return err
		}
	}
	l.add(b, "the same, 10,000 nodes, 5,000 groups", 0, 1500)
	return s.measureHeartbeats(ctx, a)
}

// latencies collects the runs of one figure.
type latencies struct {
	p50, p99, floor series
	cpu, cpuFloor   series // of the handler, per event
	parts           floors
	all             []float64
}

// warming bounds how many events are not counted.
type warming struct{ least, most int }

// warm has every process that decides for the cluster do so: each instance of
// queue_pressure, and that of scale_down, which a sweep has read all rows. A
// process that has never seen a cluster of 10,000 nodes reads for seconds, and
// Azurite, which has one thread, answers nobody else meanwhile.
func (a *standIn) warm(ctx context.Context, w warming) error {
	if err := a.sweep(ctx); err != nil {
		return err
	}
	served := map[string]bool{}
	for i := range w.most {
		if i >= w.least && len(served) == a.site.pressureInstances() {
			return nil
		}
		_, call, err := a.resume(ctx)
		if err != nil {
			return err
		}
		served[call.Instance] = true
		time.Sleep(2 * sessionHold) // the next event may reach the other process
	}
	if n := a.site.pressureInstances(); len(served) < n {
		a.site.b.say("  %d events warmed only %d of %d processes", w.most, len(served), n)
	}
	return nil
}

// resume powers up one more node, and gives the time until its create arrived at
// CycleCloud.
func (a *standIn) resume(ctx context.Context) (took time.Duration, call functionshost.Invocation, err error) {
	a.join()
	n := len(a.up) + 1
	a.powerUp(n)
	began, call, err := a.publish(ctx)
	if err != nil {
		return 0, call, err
	}
	arrived, err := a.site.clouds[a.cluster].await(ctx, string(nodeName(n)))
	return arrived.Sub(began), call, err
}

// run times one event after the other: each powers up one more node, whose
// create has to arrive at CycleCloud. The warm-up is not counted.
func (l *latencies) run(ctx context.Context, a *standIn, w warming, count int) error {
	if err := a.warm(ctx, w); err != nil {
		return err
	}
	var took, reading []float64
	before, err := familyCPU()
	if err != nil {
		return err
	}
	for range count {
		one, _, err := a.resume(ctx)
		if err != nil {
			return err
		}
		took = append(took, milliseconds(one))
		floor, err := snapshotCPU(a)
		if err != nil {
			return err
		}
		reading = append(reading, floor)
		time.Sleep(pauseBetween + rand.N(pauseBetween))
	}
	after, err := familyCPU()
	if err != nil {
		return err
	}
	l.cpu, l.cpuFloor = append(l.cpu, milliseconds(after["handler"]-before["handler"])/float64(count)), append(l.cpuFloor, percentile(reading, 50))
	parts, err := a.site.floors(ctx, a)
	if err != nil {
		return err
	}
	l.parts, l.all = parts, append(l.all, took...)
	l.p50, l.p99, l.floor = append(l.p50, percentile(took, 50)), append(l.p99, percentile(took, 99)), append(l.floor, parts.sum())
	return nil
}

func (l *latencies) add(b *bench, what string, p50, p99 float64) {
	median := measure{what: what + ": p50", value: l.p50, unit: "ms"}
	if p50 > 0 {
		median.target = below(l.p50.median(), p50, "ms")
	}
	b.add(median.over(l.floor, l.parts.String()))
	worst := percentile(l.all, 99)
	b.add(measure{
		what: fmt.Sprintf("%s: p99 of all %d events", what, len(l.all)), value: series{worst}, unit: "ms", target: below(worst, p99, "ms"),
	})
}

// floors are the medians of what an event cannot do without.
type floors struct{ bus, http, load, commit float64 }

// The calls of one event: the host calls the handler, the handler asks
// CycleCloud for its limits and sends the create; it loads the commit partition
// and the open commands, and commits.
const httpCalls, tableReads = 3, 2

func (f floors) sum() float64 { return f.bus + httpCalls*f.http + tableReads*f.load + f.commit }

func (f floors) String() string {
	return fmt.Sprintf("send to receive %s + %d HTTP round trips of %s + %d table reads of %s + commit %s",
		show(f.bus, "ms"), httpCalls, show(f.http, "ms"), tableReads, show(f.load, "ms"), show(f.commit, "ms"))
}

// floors measures them with the body of the agent's next snapshot.
func (s *site) floors(ctx context.Context, a *standIn) (floors, error) {
	const count = 40
	m, err := a.message()
	if err != nil {
		return floors{}, err
	}
	m.SessionID = fmt.Sprintf("floor-%d", time.Now().UnixNano())
	var f floors
	trips, err := roundTrips(ctx, 10*count)
	if err != nil {
		return f, err
	}
	f.http = percentile(trips, 50)
	session, err := s.client.AcceptSession(ctx, "floor", m.SessionID)
	if err != nil {
		return f, err
	}
	var sends []float64
	for range count {
		began := time.Now()
		if err := s.client.Send(ctx, "floor", m); err != nil {
			return f, err
		}
		received, err := session.Receive(ctx, 1)
		if err != nil || len(received) != 1 {
			return f, fmt.Errorf("receive what was just sent: got %d messages: %w", len(received), err)
		}
		sends = append(sends, milliseconds(time.Since(began)))
		if err := session.Complete(ctx, received[0]); err != nil {
			return f, err
		}
	}
	f.bus = percentile(sends, 50)
	if err := session.Close(ctx); err != nil {
		return f, err
	}
	f.load, f.commit, err = s.tableFloors(ctx, m.Body, count)
	return f, err
}

// tableFloors times loads and commits of a partition that holds one snapshot.
func (s *site) tableFloors(ctx context.Context, body []byte, count int) (load, commit float64, err error) {
	store, err := ledger.Open(ledger.Config{ConnectionString: s.azurite.ConnectionString(), Prefix: "floor"})
	if err != nil {
		return 0, 0, err
	}
	var loads, commits []float64
	for i := range count {
		began := time.Now()
		part, err := store.Load(ctx, "floor")
		if err != nil {
			return 0, 0, err
		}
		loaded := time.Now()
		now := loaded.UTC()
		_, err = store.Commit(ctx, ledger.Commit{
			Cluster:   part.Cluster,
			Heartbeat: &ledger.Heartbeat{Epoch: 1, Sequence: int64(i), ReceivedAt: now, AsOf: now, Digest: "d"},
			Snapshot:  &ledger.Snapshot{Epoch: 1, Sequence: int64(i), AsOf: now, Digest: "d", Body: body},
		})
		if err != nil {
			return 0, 0, err
		}
		loads, commits = append(loads, milliseconds(loaded.Sub(began))), append(commits, milliseconds(time.Since(loaded)))
	}
	return percentile(loads, 50), percentile(commits, 50), nil
}
