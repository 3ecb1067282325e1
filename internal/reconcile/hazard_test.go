package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// Two processes of the app get the same and different messages at the same
// time, as they do where sessions are switched off.
func TestTwoProcessesDecideForOneCluster(t *testing.T) {
	m := newModel(t, 8)
	shared := &faults{} // strikes nowhere; it makes the fakes safe to share
	first := m.process(faultyLedger{m.ledger, shared}, faultyCloud{m.cloud, shared}, faultyOutbox{m.outbox, shared})
	second := m.process(faultyLedger{m.ledger, shared}, faultyCloud{m.cloud, shared}, faultyOutbox{m.outbox, shared})
	var before event.QueuePressure
	m.pressureTo = func(ctx context.Context, q event.QueuePressure) error {
		var wg sync.WaitGroup
		both := func(q event.QueuePressure) {
			for _, app := range []*reconcile.Reconciler{first, second} {
				wg.Go(func() { _, _ = app.Pressure(ctx, q, m.now) })
			}
		}
		both(q)
		if before.Cluster != "" {
			both(before) // a duplicate that comes late
		}
		sweep := event.ScaleDownTimer{Cluster: clusterName, Purpose: event.Recheck, Generation: q.Sequence, Due: m.now}
		wg.Go(func() { _, _ = second.Timer(ctx, sweep) })
		wg.Wait()
		checkBound(ctx, m.ledger, m.now, m.breaks)
		before = q
		return nil
	}
	m.timerTo = func(ctx context.Context, timer event.ScaleDownTimer) error {
		var wg sync.WaitGroup
		var err1, err2 error
		wg.Go(func() { _, err1 = first.Timer(ctx, timer) })
		wg.Go(func() { _, err2 = second.Timer(ctx, timer) })
		wg.Wait()
		return errors.Join(err1, err2)
	}
	m.finish(t.Context(), 8)
}

// Whatever fails for a while, the world comes back to zero with all jobs done.
func TestTheWorldSurvives(t *testing.T) {
	broken := fault.New(fault.Transient, "call", errors.New("down"))
	type change func(m *model, on bool)
	for name, c := range map[string]change{
		"CycleCloud down": func(m *model, on bool) {
			m.cloud.down = nil
			if on {
				m.cloud.down = broken
			}
		},
		"CycleCloud refuses the credentials": func(m *model, on bool) {
			m.cloud.down = nil
			if on {
				m.cloud.down = fault.New(fault.Denied, "call", errors.New("401"))
			}
		},
		"Service Bus down": func(m *model, on bool) {
			m.outbox.down = nil
			if on {
				m.outbox.down = broken
			}
		},
		"tables deleted": func(m *model, on bool) {
			if on {
				m.ledger.DropTables()
			}
		},
		"a new process": func(m *model, _ bool) { m.site.restart() },
		"all timers lost": func(m *model, _ bool) {
			m.fired = len(m.outbox.timers)
		},
	} {
		for _, from := range []int{1, 3, 6, 10} {
			t.Run(fmt.Sprintf("%s at tick %d", name, from), func(t *testing.T) {
				m := newModel(t, 4)
				for tick := 1; tick <= from+12; tick++ {
					if tick >= from && tick < from+12 && (tick-from)%4 == 0 {
						c(m, true)
					}
					if tick == from+11 {
						c(m, false)
					}
					m.tick(t.Context())
				}
				c(m, false)
				m.finish(t.Context(), 4)
			})
		}
	}
}

func TestDuplicatesAndReorderingChangeNothing(t *testing.T) {
	m := newModel(t, 4)
	deliver := m.pressureTo
	var late []event.QueuePressure
	m.pressureTo = func(ctx context.Context, q event.QueuePressure) error {
		late = append(late, q)
		for _, again := range []event.QueuePressure{q, late[len(late)/2], q, late[max(0, len(late)-2)]} {
			if err := deliver(ctx, again); err != nil {
				return err
			}
		}
		return nil
	}
	m.finish(t.Context(), 4)
	if m.cloud.ids > 4 {
		t.Errorf("%d VMs were made for 4 jobs", m.cloud.ids)
	}
}

// A silent agent means: hold. Nothing is created or terminated on old facts,
// and open work waits for a fresh snapshot.
func TestASilentAgentHoldsEverything(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	s.cloud.failing = map[string]error{"create": fault.New(fault.Transient, "create", errors.New("503"))}
	s.report()
	s.want("open intents", len(s.intents()), 1)
	s.cloud.failing = nil
	s.after(3 * time.Minute)
	sweep := event.ScaleDownTimer{Cluster: clusterName, Purpose: event.Recheck, Generation: 1, Due: s.now}
	if _, err := s.rec.Timer(t.Context(), sweep); err != nil {
		t.Fatal(err)
	}
	s.want("nodes made on old facts", len(s.cloud.nodes), 0)
	s.want("open intents", len(s.intents()), 1)
	s.report()
	s.want("nodes", len(s.cloud.nodes), 1)
	s.want("open intents", len(s.intents()), 0)
}

func TestAnUnchangedHeartbeatIsCheap(t *testing.T) {
	s := quiet(t)
	s.report()
	f := &faults{}
	s.rec = s.process(faultyLedger{s.ledger, f}, faultyCloud{s.cloud, f}, faultyOutbox{s.outbox, f})
	for range 3 {
		s.after(30 * time.Second)
		f.byCall = nil
		s.report()
		if n := f.tableCalls(); n > 3 {
			t.Errorf("%d table operations: %v", n, f.byCall)
		}
		if n := f.byCall["C.Nodes"] + f.byCall["C.Status"]; n > 0 {
			t.Errorf("%d calls of CycleCloud", n)
		}
	}
}

// The call's own deadline ends the work: intents stay open, the next function
// finishes them, and giving up the claim does not hang either.
func TestADeadlineLeavesIntentsOpen(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	ctx, cancel := context.WithCancel(t.Context())
	s.rec = s.process(s.ledger, hangingCloud{s.cloud, cancel}, s.outbox)
	if _, err := s.rec.Pressure(ctx, s.pressure(), s.now); err == nil {
		t.Error("the pass ended well although its time was over")
	}
	s.want("open intents", len(s.intents()), 1)
	s.restart()
	s.after(time.Second) // the claim was given up
	s.report()
	s.want("nodes", len(s.cloud.nodes), 1)
	s.want("ids", s.cloud.ids, 1)
	s.want("open intents", len(s.intents()), 0)
}
