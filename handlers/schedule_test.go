package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slurmburst/slurmburst/handlers"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
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

func TestTheScheduleAsksForSweeps(t *testing.T) {
	w := newWorld(t, func(o *handlers.Options) { o.Clusters = []string{"a", "b"} })
	body := `{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"IsPastDue":false}},"Metadata":{"sys":{"MethodName":"reclaim_idle"}}}`
	if code := w.post("reclaim_idle", body); code != 200 {
		t.Errorf("status %d", code)
	}
	if len(w.outbox.timers) != 2 || w.outbox.timers[0].Nodearray != "" || w.outbox.timers[1].Cluster != "b" {
		t.Errorf("timers %+v, want a sweep of a and one of b", w.outbox.timers)
	}
	w.outbox.err = fault.New(fault.Transient, "send", errors.New("down"))
	if code := w.post("reclaim_idle", body); code != 500 {
		t.Errorf("status %d although nothing was sent", code)
	}
}

// history deletes as many rows as it is told to, or refuses.
type history struct {
	each     int
	err      error
	clusters []string
}

func (h *history) Purge(_ context.Context, cluster string, _ time.Time) (int, error) {
	h.clusters = append(h.clusters, cluster)
	return h.each, h.err
}

// The sweeps of many clusters come one after the other, so that no event waits
// behind all of them, and all within a moment beside the five minutes to the next.
func TestSweepsOfManyClustersAreSpread(t *testing.T) {
	for count, last := range map[int]time.Duration{1: 0, 2: 1200 * time.Millisecond, 200: 199 * 1200 * time.Millisecond, 1000: 999 * 240 * time.Millisecond} {
		w := newWorld(t, func(o *handlers.Options) { o.Clusters, o.History = clusters(count), &history{} })
		if code := w.post("reclaim_idle", "{}"); code != 200 {
			t.Fatalf("%d clusters: status %d", count, code)
		}
		timers := w.outbox.timers
		if got := timers[count-1].Due.Sub(timers[0].Due); len(timers) != count || got != last {
			t.Errorf("%d clusters: %d sweeps, the last %v after the first, want %v", count, len(timers), got, last)
		}
	}
}

func clusters(count int) (names []string) {
	for i := range count {
		names = append(names, fmt.Sprintf("cluster%d", i))
	}
	return names
}

func TestMuchOldHistoryIsDeletedInSeveralRuns(t *testing.T) {
	for each, want := range map[int]int{0: 5, 4000: 2} { // of 60 clusters a twelfth, and not much at once
		old := &history{each: each}
		w := newWorld(t, func(o *handlers.Options) { o.Clusters, o.History = clusters(60), old })
		if code := w.post("reclaim_idle", "{}"); code != 200 {
			t.Errorf("status %d; log %s", code, w.log)
		}
		if len(w.outbox.timers) != 60 || len(old.clusters) != want {
			t.Errorf("%d rows each: %d sweeps asked for, want 60; deletions for %v, want %d", each, len(w.outbox.timers), old.clusters, want)
		}
	}
}

func TestEachClustersHistoryHasItsTurn(t *testing.T) {
	old := &history{}
	w := newWorld(t, func(o *handlers.Options) { o.Clusters, o.History = clusters(20), old })
	for range 600 { // chance would leave one out once in 10^25 times
		w.post("reclaim_idle", "{}")
	}
	slices.Sort(old.clusters)
	if got := slices.Compact(old.clusters); len(got) != 20 {
		t.Errorf("deletions for %v only", got)
	}
}

func TestTheScheduleDeletesWhatIsTooOld(t *testing.T) {
	w := newWorld(t, nil)
	now := time.Now()
	for days, id := range map[int]string{0: "new", 29: "kept", 32: "old"} {
		at := now.AddDate(0, 0, -days)
		if err := w.ledger.AppendDecision(t.Context(), "onprem", ledger.Decision{ID: id, At: at}); err != nil {
			t.Fatal(err)
		}
		if err := w.ledger.AppendFailures(t.Context(), "onprem", []ledger.Failure{{At: at, Detail: id}}); err != nil {
			t.Fatal(err)
		}
	}
	if code := w.post("reclaim_idle", "{}"); code != 200 {
		t.Errorf("status %d; log %s", code, w.log)
	}
	var left []string
	decisions, _, err := w.ledger.ListDecisions(t.Context(), ledger.DecisionFilter{Cluster: "onprem", Since: now.AddDate(0, 0, -40)}, ledger.Page{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range decisions {
		left = append(left, d.ID)
	}
	failures, _, err := w.ledger.ListFailures(t.Context(), ledger.FailureFilter{Cluster: "onprem"}, ledger.Page{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range failures {
		left = append(left, f.Detail)
	}
	if want := []string{"new", "kept", "new", "kept"}; !slices.Equal(left, want) {
		t.Errorf("decisions and failures left: %v, want %v", left, want)
	}
	if !strings.Contains(w.log.String(), `"purged":2`) {
		t.Errorf("the log does not tell how much was deleted: %s", w.log)
	}
}

func TestWhatCannotBeDeletedKeepsNoSweepBack(t *testing.T) {
	old := &history{err: fault.New(fault.Transient, "purge", errors.New("down"))}
	w := newWorld(t, func(o *handlers.Options) { o.Clusters, o.History = []string{"a", "b"}, old })
	if code := w.post("reclaim_idle", "{}"); code != 500 {
		t.Errorf("status %d although nothing could be deleted", code)
	}
	if len(w.outbox.timers) != 2 || len(old.clusters) != 1 {
		t.Errorf("sweeps asked for %+v, deletions for %v: want a and b, and one of them", w.outbox.timers, old.clusters)
	}
}
