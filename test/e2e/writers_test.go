//go:build e2e

package e2e

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/functionshost"
	"github.com/slurmburst/slurmburst/local/world"
)

// TestFourWritersOnOneCluster has the sessions switched off: two processes of
// queue_pressure and two of scale_down decide for one cluster at once, and only
// the commit keeps them apart.
func TestFourWritersOnOneCluster(t *testing.T) {
	t.Parallel()
	s := start(t, world.Config{
		Cluster: "crowded", LocalNodes: 1, NoSessions: true, Heartbeat: 2 * time.Second,
		Nodearrays: []world.Nodearray{
			{Name: "htc", Nodes: 6, MaxNodes: 4, IdleTimeout: 5 * time.Second, BootDeadline: 90 * time.Second},
			{Name: "hpc", Nodes: 6, MaxNodes: 4, IdleTimeout: 5 * time.Second, BootDeadline: 90 * time.Second},
		},
	})
	stop := s.askForSweeps()
	// Each job comes alone, so that many snapshots follow each other closely.
	var jobs []int
	for n := range 4 {
		jobs = append(jobs, s.batch(1+n, "--partition=htc", "--nodes=1"), s.batch(1, "--partition=hpc", "--nodes=1"))
		s.lasts(700 * time.Millisecond)
	}
	jobs = append(jobs, s.batch(1, "--partition=hpc", "--nodes=4"), s.batch(1, "--partition=htc", "--nodes=1", "--array=1-3"))
	s.awaitCompleted(jobs...)
	s.awaitZero()
	stop()
	s.awaitZero()

	s.noneLostItsNode()
	s.createdOnce()
	s.nothingSetAside()
	for array, most := range s.mostNodes() {
		if most > 4 {
			s.Errorf("CycleCloud had %d nodes of %s at once, want at most 4", most, array)
		}
	}
	s.fourDecidedAtOnce()
}

// askForSweeps asks for sweeps as reclaim_idle does, two at a time and much more
// often, until the function that it gives is called.
func (s *site) askForSweeps() (stop func()) {
	s.Helper()
	client, err := bus.New(bus.Options{ConnectionString: s.BusConnection()})
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan error, 1)
	go func() { done <- s.sendSweeps(ctx, client) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, client.Close()); err != nil {
			s.Errorf("ask for sweeps: %v", err)
		}
	})
	s.Cleanup(end)
	return end
}

func (s *site) sendSweeps(ctx context.Context, client *bus.Client) error {
	every := time.NewTicker(150 * time.Millisecond)
	defer every.Stop()
	for generation := int64(1); ctx.Err() == nil; generation++ {
		timer := event.ScaleDownTimer{Cluster: s.Cluster, Purpose: event.Recheck, Generation: generation, Due: time.Now()}
		m, err := timer.Encode(time.Now())
		if err != nil {
			return err
		}
		// What was begun is sent: a message that is half sent is no message.
		err = client.Send(context.WithoutCancel(ctx), "scale-down", bus.Message{ID: m.ID, ContentType: event.ContentType, Body: m.Body, TTL: m.TTL})
		if err != nil {
			return err
		}
		if generation%2 == 0 {
			select {
			case <-every.C:
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// createdOnce compares the simulator's journal with slurmctld's log: no name
// had two nodes at once, no request made a name twice, and each name was made
// as often as Slurm resumed it.
func (s *site) createdOnce() {
	s.Helper()
	type making struct{ request, name string }
	live, made := map[string]bool{}, map[making]bool{}
	created, resumed := map[string]int{}, map[string]int{}
	for _, e := range s.Sim.Journal() {
		if e.Event == cyclecloudsim.Terminated || e.Event == cyclecloudsim.Vanished {
			delete(live, e.Name)
		}
		if e.Event != cyclecloudsim.Created {
			continue
		}
		m := making{e.RequestID, e.Name}
		if live[e.Name] || made[m] || e.RequestID == "" {
			s.Errorf("%s was created twice at once or by one request: %+v", e.Name, e)
		}
		live[e.Name], made[m] = true, true
		created[e.Name]++
	}
	for _, call := range s.log().Resumes {
		for _, name := range call.Nodes {
			resumed[name]++
		}
	}
	if diff := cmp.Diff(resumed, created); diff != "" {
		s.Errorf("nodes resumed by Slurm (-) and created in CycleCloud (+):\n%s", diff)
	}
	if len(created) == 0 {
		s.Error("nothing was created at all")
	}
	if len(live) > 0 {
		s.Errorf("never terminated: %v", slices.Sorted(maps.Keys(live)))
	}
}

// nothingSetAside checks that every message was of use: none was dead-lettered
// or rejected.
func (s *site) nothingSetAside() {
	s.Helper()
	for name, q := range s.Bus.Stats() {
		if q.EverDeadLettered > 0 {
			s.Errorf("%d messages of %s were dead-lettered", q.EverDeadLettered, name)
		}
	}
	if n := s.Bus.Stats()["rejected"].Sent; n > 0 {
		s.Errorf("%d messages were rejected", n)
	}
}

// fourDecidedAtOnce checks that the test was one: all four processes worked on
// the cluster, and often two or more at the same time.
func (s *site) fourDecidedAtOnce() {
	s.Helper()
	calls := slices.DeleteFunc(s.calls.list(), func(c functionshost.Invocation) bool {
		return c.Function != "queue_pressure" && c.Function != "scale_down"
	})
	slices.SortFunc(calls, func(a, b functionshost.Invocation) int { return a.Start.Compare(b.Start) })
	writers, overlaps := map[string]int{}, 0
	var busyUntil time.Time
	for _, c := range calls {
		writers[c.Instance]++
		if c.Start.Before(busyUntil) {
			overlaps++
		}
		if end := c.Start.Add(c.Duration); end.After(busyUntil) {
			busyUntil = end
		}
	}
	s.Logf("%d calls by %v, %d of them while another one ran", len(calls), writers, overlaps)
	if len(writers) != 4 {
		s.Errorf("%d processes decided, want 4: %v", len(writers), writers)
	}
	if overlaps < 20 {
		s.Errorf("only %d of %d calls began while another one ran", overlaps, len(calls))
	}
}
