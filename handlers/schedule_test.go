package handlers_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slurmburst/slurmburst/handlers"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
)

// What the schedule asks for is what scale_down takes: a sweep that its own
// decoder refused would never be noticed.
func TestASweepThatTheScheduleAskedForIsCarriedOut(t *testing.T) {
	now := time.Now()
	w := newWorld(t, func(o *handlers.Options) { o.Now = func() time.Time { return now } })
	w.post("queue_pressure", snapshot(t, 1).invocation())
	ids := map[string]bool{}
	for range 2 {
		if code := w.post("reclaim_idle", "{}"); code != 200 {
			t.Fatalf("status %d; log %s", code, w.log)
		}
		asked := w.outbox.timers[len(w.outbox.timers)-1]
		if !asked.Due.Equal(now) {
			t.Errorf("the only sweep is due at %v, want %v", asked.Due, now)
		}
		m, err := asked.Encode(now)
		if ids[m.ID] {
			t.Errorf("two runs ask with one message id, %s", m.ID)
		}
		ids[m.ID] = true
		if code := w.post("scale_down", of(t, m, err).invocation()); code != 200 || len(w.outbox.rejected) > 0 {
			t.Errorf("status %d, rejected %+v", code, w.outbox.rejected)
		}
		now = now.Add(5 * time.Minute)
	}
	p, err := w.ledger.Load(t.Context(), "onprem")
	if err != nil || p.Cluster.SweptAt.IsZero() {
		t.Errorf("the cluster was not swept: %+v, %v", p.Cluster, err)
	}
}

// oneFails is a bus and a history that fail for one cluster.
type oneFails struct {
	cluster     string
	asked, kept []string
}

func (o *oneFails) fails(cluster string) error {
	if cluster == o.cluster {
		return fault.New(fault.Transient, "ask", errors.New("down"))
	}
	return nil
}

func (o *oneFails) ScheduleTimer(_ context.Context, timer event.ScaleDownTimer) (int64, error) {
	o.asked = append(o.asked, timer.Cluster)
	return 1, o.fails(timer.Cluster)
}

func (o *oneFails) Purge(_ context.Context, cluster string, _ time.Time) (int, error) {
	o.kept = append(o.kept, cluster)
	return 1, o.fails(cluster)
}

// What cannot be done for one cluster is done for the others, and the call says
// that it failed, at once: no message caused it that could come back too soon.
func TestAClusterThatFailsKeepsNoOtherBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, which := range clusters(24) { // of 24, history is deleted of two: chance picks which
			f := &oneFails{cluster: which}
			w := newWorld(t, func(o *handlers.Options) { o.Clusters, o.Rechecks, o.History = clusters(24), f, f })
			began := time.Now()
			if code := w.post("reclaim_idle", "{}"); code != 500 {
				t.Errorf("%s fails: status %d", which, code)
			}
			if took := time.Since(began); took != 0 {
				t.Errorf("%s fails: the answer took %v", which, took)
			}
			if !slices.Equal(f.asked, clusters(24)) || len(f.kept) != 2 {
				t.Errorf("%s fails: sweeps asked for %v, history deleted of %v", which, f.asked, f.kept)
			}
		}
	})
}

// The same for the history alone: only the purge fails, whoever is picked.
func TestHistoryThatCannotBeDeletedOfOneClusterIsDeletedOfTheNext(t *testing.T) {
	old := &history{err: fault.New(fault.Transient, "purge", errors.New("down"))}
	w := newWorld(t, func(o *handlers.Options) { o.Clusters, o.History = clusters(36), old })
	if code := w.post("reclaim_idle", "{}"); code != 500 || len(old.clusters) != 3 {
		t.Errorf("status %d, deletions tried for %v, want three", code, old.clusters)
	}
}

// The age of a snapshot is the broker's time in the queue and the agent's before
// it sent: never the time of the call, and never the agent's clock.
func TestASnapshotIsAsOldAsTheBrokerSays(t *testing.T) {
	w := newWorld(t, nil)
	enqueued := time.Now().UTC().Truncate(time.Second).Add(-40 * time.Second)
	q := event.QueuePressure{
		Cluster: "onprem", Epoch: 1, Sequence: 1, TakenAt: time.Now().Add(300 * time.Hour), AgeAtSendMS: 7000, Cause: event.CausePoll,
		CloudNodes: []event.CloudNodes{{Nodearray: "htc", Defined: 2, Usable: 2, PoweredDown: 2}},
	}
	m, err := q.Encode()
	d := of(t, m, err)
	d.enqueued = enqueued
	if code := w.post("queue_pressure", d.invocation()); code != 200 {
		t.Fatalf("status %d; log %s", code, w.log)
	}
	p, err := w.ledger.Load(t.Context(), "onprem")
	if want := enqueued.Add(-7 * time.Second); err != nil || !p.Heartbeat.AsOf.Equal(want) {
		t.Errorf("Slurm was read at %v, want %v; %v", p.Heartbeat.AsOf, want, err)
	}
}

// What cannot be moved out of the way comes back again and again: it is held as
// long as may be each time, however often that was.
func TestAMessageThatComesBackForEverIsHeldAsLongAsMayBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.outbox.err = fault.New(fault.Transient, "send", errors.New("the bus is down"))
		for _, count := range []int{9, 30, 31, 40, 63, 64, 1000} {
			d := timer(t, "htc")
			d.count = count
			began := time.Now()
			if code := w.post("scale_down", d.invocation()); code != 500 || time.Since(began) != 20*time.Second {
				t.Errorf("delivery %d: status %d after %v", count, code, time.Since(began))
			}
		}
	})
}

func TestARejectedTimerNamesItsQueue(t *testing.T) {
	for name, d := range map[string]delivery{
		"that cannot be read":               {body: []byte("noise")},
		"of a cluster that no policy names": timerOf(t, "nobody", event.Retry),
		"of a purpose that nobody knows":    timerOf(t, "onprem", "tea"),
		"that was delivered too often":      {body: []byte("noise"), count: 9},
	} {
		w := newWorld(t, nil)
		if code := w.post("scale_down", d.invocation()); code != 200 || len(w.outbox.rejected) != 1 || w.outbox.rejected[0].Queue != "scale-down" {
			t.Errorf("a timer %s: status %d, rejected %+v", name, code, w.outbox.rejected)
		}
	}
}

func timerOf(t *testing.T, cluster string, purpose event.TimerPurpose) delivery {
	t.Helper()
	m, err := event.ScaleDownTimer{Cluster: cluster, Nodearray: "htc", Purpose: purpose, Generation: 1, Due: time.Now()}.Encode(time.Now())
	return of(t, m, err)
}
