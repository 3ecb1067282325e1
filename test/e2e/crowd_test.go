//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/functionshost"
	"github.com/slurmburst/slurmburst/local/world"
)

const (
	// crowdSize is twice what one host serves at once: maxConcurrentSessions is 32.
	crowdSize = 64
	flooding  = "flooding"
	// ahead is how many events of the flooding cluster always wait.
	ahead = 20
	// mostTurns is how many events of the flooding cluster may be decided while an
	// event of another one waits: twice as many as if there were one session for
	// all, and each cluster had it in turn. Measured: 11 to 14, and more than 900
	// where a session is held for 5 s after its last event.
	mostTurns = 2 * crowdSize
	// lastRound is the one whose events are of a later epoch, so that its
	// heartbeats are noted whatever was noted a moment before.
	lastRound = 4
)

// TestNoClusterOf64Starves has 64 clusters on one host of queue_pressure with
// the shipped host.json. One of them sends more than can be decided, all the
// while; the others send at the same moment, once a round, and in each round
// their events are decided while the flooding one gets a bounded number of
// turns. A host that does not let go of the sessions it holds fails it.
func TestNoClusterOf64Starves(t *testing.T) {
	t.Parallel()
	clusters := []string{flooding}
	for n := len(clusters); n < crowdSize; n++ {
		clusters = append(clusters, fmt.Sprintf("crowd%02d", n))
	}
	s := launch(t, world.Config{
		Remote: clusters, PressureHosts: 1, ReclaimSchedule: "0 */5 * * * *",
		Nodearrays: []world.Nodearray{{Name: "htc", Nodes: 4, MaxNodes: 4, IdleTimeout: time.Hour, BootDeadline: time.Hour}},
	})
	c := &crowd{site: s, waiting: map[string]*waiting{}}
	s.calls.hear(c.ended)
	var err error
	if c.client, err = bus.New(bus.Options{ConnectionString: s.BusConnection()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.client.Close(); err != nil {
			t.Errorf("close the agents' client: %v", err)
		}
	})
	stop := c.flood()
	// The first round makes the rows; nodes are asked for in the second, and the
	// others have no news.
	for round, booting := range [][]string{nil, {"htc-1"}, {"htc-1"}, {"htc-1"}} {
		c.round(int64(round+1), clusters[1:], booting)
	}
	stop()
	for _, cluster := range clusters[1:] {
		c.hasOneNode(cluster)
	}
	c.heartbeatsStand(lastRound, clusters[1:])
	s.nothingSetAside()
}

// crowd is the agents of many clusters.
type crowd struct {
	*site
	client *bus.Client

	mu      sync.Mutex
	waiting map[string]*waiting // by MessageId
	turns   int                 // events of the flooding cluster that were decided
	backlog chan struct{}       // one for each of its events that waits
	dry     int                 // times that none of them waited
}

// waiting is an event of another cluster.
type waiting struct {
	sent   time.Time
	before int // turns of the flooding cluster when it was sent
	done   chan functionshost.Invocation
	turns  int // and how many it got until this one was decided
}

// ended hears of each call.
func (c *crowd) ended(i functionshost.Invocation) {
	if i.Function != "queue_pressure" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i.SessionID == flooding {
		c.turns++
		if len(c.backlog) <= 1 {
			c.dry++
		}
		select {
		case <-c.backlog:
		default:
		}
	}
	if w := c.waiting[i.MessageID]; w != nil {
		w.turns = c.turns - w.before
		w.done <- i
		delete(c.waiting, i.MessageID)
	}
}

// send sends a snapshot as the cluster's agent would.
func (c *crowd) send(q event.QueuePressure) error {
	m, err := q.Encode()
	if err != nil {
		return err
	}
	out := bus.Message{ID: m.ID, SessionID: m.SessionID, ContentType: event.ContentType, Body: m.Body, TTL: m.TTL}
	if m.Encoding != "" {
		out.Properties = map[string]any{event.EncodingProperty: m.Encoding}
	}
	return c.client.Send(context.WithoutCancel(c.ctx), "queue-pressure", out)
}

// snapshotOf is the snapshot of a cluster with that many jobs and those nodes
// powering up.
func snapshotOf(cluster string, sequence int64, jobs int, booting []string) event.QueuePressure {
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	nodes := event.CloudNodes{Nodearray: "htc", Defined: 4, Usable: 4, PoweredDown: 4 - len(booting)}
	for _, name := range booting {
		nodes.Groups = append(nodes.Groups, event.NodeGroup{State: "ALLOCATED", Flags: []string{"POWERING_UP"}, Nodes: name, Since: since})
		nodes.PoweringUp = append(nodes.PoweringUp, event.PoweringUpNode{
			Node: name, ResumeID: "call-1", Jobs: []event.BootJob{{ID: "1", Batch: true, Requeue: true}},
		})
	}
	return event.QueuePressure{
		Cluster: cluster, Epoch: 1, Sequence: sequence, TakenAt: time.Now().UTC(), Cause: event.CausePoll, AgentHost: cluster,
		PendingJobs: jobs, CloudNodes: []event.CloudNodes{nodes},
		Pending: []event.PendingGroup{{
			Partitions: []string{"htc"}, User: "u", Account: "a", StateReason: "Resources", Nodes: 1, CPUs: 4,
			TimeLimitSeconds: 600, Batch: true, Requeue: true, Count: jobs, OldestSubmit: since, NewestSubmit: since,
			Jobs: []event.JobID{"1"},
		}},
	}
}

// flood sends events with news for one cluster, so that some always wait, until
// the function that it gives is called.
func (c *crowd) flood() (stop func()) {
	ctx, cancel := context.WithCancel(c.ctx)
	done := make(chan error, 1)
	c.backlog = make(chan struct{}, ahead)
	go func() {
		for n := int64(1); ; n++ {
			select {
			case c.backlog <- struct{}{}:
			case <-ctx.Done():
				done <- nil
				return
			}
			if err := c.send(snapshotOf(flooding, n, int(1+n%2), nil)); err != nil {
				done <- err
				return
			}
		}
	}()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.Errorf("flood: %v", err)
		}
	})
	c.Cleanup(end)
	c.eventually(soon, "the flooding cluster has had 20 turns", func() (bool, string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.turns >= 20, fmt.Sprint(c.turns)
	})
	return end
}

// round has every cluster send one event at the same moment, and waits until
// all are decided.
func (c *crowd) round(sequence int64, clusters, booting []string) {
	c.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(c.ctx, soon)
	defer cancel()
	var all sync.WaitGroup
	results := make([]*waiting, len(clusters))
	problems := make([]error, len(clusters))
	for i, cluster := range clusters {
		q := snapshotOf(cluster, sequence, 1, booting)
		if sequence == lastRound {
			q.Epoch++
		}
		all.Go(func() { results[i], problems[i] = c.publish(ctx, q) })
	}
	all.Wait()
	if err := errors.Join(problems...); err != nil {
		c.Fatalf("round %d: %v", sequence, err)
	}
	worst := slices.MaxFunc(results, func(a, b *waiting) int { return a.turns - b.turns })
	c.mu.Lock()
	turns, dry := c.turns-results[0].before, c.dry
	c.mu.Unlock()
	c.Logf("round %d: %d events decided in %s, while the flooding cluster had %d turns; the worst waited for %d of them",
		sequence, len(results), time.Since(began).Round(time.Millisecond), turns, worst.turns)
	if worst.turns > mostTurns {
		c.Errorf("round %d: an event waited while the flooding cluster had %d turns, want at most %d", sequence, worst.turns, mostTurns)
	}
	if dry > 0 {
		c.Errorf("the flood was none: %d times the flooding cluster had no event that waited", dry)
	}
}

// publish sends a snapshot and waits until it is decided.
func (c *crowd) publish(ctx context.Context, q event.QueuePressure) (*waiting, error) {
	m, err := q.Encode()
	if err != nil {
		return nil, err
	}
	w := &waiting{sent: time.Now(), done: make(chan functionshost.Invocation, 1)}
	c.mu.Lock()
	w.before = c.turns
	c.waiting[m.ID] = w
	c.mu.Unlock()
	if err := c.send(q); err != nil {
		return nil, err
	}
	select {
	case call := <-w.done:
		if call.Err != nil {
			return nil, fmt.Errorf("decide %s: %w", m.ID, call.Err)
		}
		return w, nil
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		return nil, fmt.Errorf("%s was not decided within %s, while the flooding cluster had %d turns", m.ID, time.Since(w.sent), c.turns-w.before)
	}
}

// hasOneNode checks that the cluster's own CycleCloud made the node that its
// events asked for, once.
func (c *crowd) hasOneNode(cluster string) {
	c.Helper()
	var created []string
	for _, e := range c.Sims[cluster].Journal() {
		if e.Event == cyclecloudsim.Created {
			created = append(created, e.Name)
		}
	}
	if !slices.Equal(created, []string{"htc-1"}) {
		c.Errorf("%s: nodes %v were created, want htc-1", cluster, created)
	}
}

// heartbeatsStand checks that the ledger holds the last event of each cluster.
func (c *crowd) heartbeatsStand(sequence int64, clusters []string) {
	c.Helper()
	last := map[string]string{}
	if err := c.eachRow(c.ctx, "burstclusters", func(row map[string]any) {
		if row["RowKey"] == "heartbeat" {
			last[fmt.Sprint(row["PartitionKey"])] = fmt.Sprint(row["Sequence"])
		}
	}); err != nil {
		c.Fatal(err)
	}
	for _, cluster := range clusters {
		if last[cluster] != fmt.Sprint(sequence) {
			c.Errorf("%s: the heartbeat in the ledger is of event %q, want %d", cluster, last[cluster], sequence)
		}
	}
	if len(last) != crowdSize {
		c.Errorf("%d clusters have a heartbeat, want %d", len(last), crowdSize)
	}
}
