package handlers_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slurmburst/slurmburst/handlers"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

func TestWhatEachFailureComesTo(t *testing.T) {
	type outcome struct {
		code, rejected int
		waits          time.Duration
	}
	third := 8 * time.Second // 2 to the power of the delivery count
	for function, want := range map[string]map[string]outcome{
		"queue_pressure": {
			"transient": {200, 0, 0}, "conflict": {200, 0, 0}, "invalid": {200, 1, 0},
			"denied": {500, 0, third}, "bug": {500, 0, third}, "unclassified": {500, 0, third},
		},
		"scale_down": {
			"transient": {500, 0, third}, "conflict": {500, 0, third}, "invalid": {200, 1, 0},
			"denied": {500, 0, third}, "bug": {500, 0, third}, "unclassified": {500, 0, third},
		},
	} {
		for _, kind := range slices.Sorted(maps.Keys(want)) {
			t.Run(function+" "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, func(o *handlers.Options) { o.Reconciler = &stub{err: kinds()[kind]} })
					d := snapshot(t, 1)
					if function == "scale_down" {
						d = timer(t, "htc")
					}
					d.count = 3
					began := time.Now()
					got := outcome{w.post(function, d.invocation()), len(w.outbox.rejected), time.Since(began)}
					if got != want[kind] {
						t.Errorf("got %+v, want %+v", got, want[kind])
					}
				})
			})
		}
	}
}

func TestTheWaitGrowsAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *handlers.Options) { o.Reconciler = &stub{err: kinds()["transient"]} })
		for count, want := range []time.Duration{1: 2 * time.Second, 2: 4 * time.Second, 4: 16 * time.Second, 5: 20 * time.Second, 8: 20 * time.Second} {
			if want == 0 {
				continue
			}
			d := timer(t, "htc")
			d.count = count
			began := time.Now()
			w.post("scale_down", d.invocation())
			if got := time.Since(began); got != want {
				t.Errorf("delivery %d: waited %v, want %v", count, got, want)
			}
		}
	})
}

// An instance of the version before does not touch a cluster that a newer one
// has written to. It holds the event for a while and gives it back, for a newer
// process to take; and does not spin.
func TestAnInstanceThatIsTooOldGivesEventsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p, err := w.ledger.Load(t.Context(), "onprem")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.ledger.Commit(t.Context(), ledger.Commit{Cluster: p.Cluster, Writer: 9, Requires: 9}); err != nil {
			t.Fatal(err)
		}
		before, err := w.ledger.Load(t.Context(), "onprem")
		if err != nil {
			t.Fatal(err)
		}
		for function, d := range map[string]delivery{"queue_pressure": snapshot(t, 1), "scale_down": timer(t, "htc")} {
			for d.count = 1; d.count < 4; d.count++ {
				began := time.Now()
				if code := w.post(function, d.invocation()); code != 500 {
					t.Errorf("%s: status %d, which loses the event", function, code)
				}
				if waited := time.Since(began); waited != 20*time.Second {
					t.Errorf("%s: delivery %d was given back after %v", function, d.count, waited)
				}
			}
		}
		if len(w.outbox.rejected)+len(w.outbox.commands)+len(w.outbox.timers) > 0 {
			t.Errorf("it sent something: %+v", w.outbox)
		}
		after, err := w.ledger.Load(t.Context(), "onprem")
		if err != nil || after.Cluster.Revision != before.Cluster.Revision || after.Heartbeat.Sequence != 0 {
			t.Errorf("it wrote something: %+v, %v", after, err)
		}
		for _, says := range []string{`"fault":"denied"`, "version 1", "may write is 9"} {
			if !strings.Contains(w.log.String(), says) {
				t.Errorf("the log does not say %q: %s", says, w.log)
			}
		}
	})
}

func TestAPanicIsAFailedCallAndNotTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{panic: "index out of range"}
		w := newWorld(t, func(o *handlers.Options) { o.Reconciler = s })
		if code := w.post("queue_pressure", snapshot(t, 1).invocation()); code != 500 {
			t.Errorf("status %d", code)
		}
		if !strings.Contains(w.log.String(), "index out of range") || !strings.Contains(w.log.String(), `"fault":"bug"`) {
			t.Errorf("log %s", w.log)
		}
		s.panic = nil
		if code := w.post("queue_pressure", snapshot(t, 2).invocation()); code != 200 {
			t.Errorf("status %d after the panic", code)
		}
	})
}
