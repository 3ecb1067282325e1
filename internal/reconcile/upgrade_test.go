package reconcile_test

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// newerWriter is a process of the next version. From some commit on it writes
// what this version must not touch.
type newerWriter struct {
	reconcile.Ledger
	requires int
}

func (l *newerWriter) Load(ctx context.Context, cluster string) (ledger.Partition, error) {
	p, err := l.Ledger.Load(ctx, cluster)
	p.Cluster.MinWriter = 0 // it is admitted
	return p, err
}

func (l *newerWriter) Commit(ctx context.Context, c ledger.Commit) (ledger.Committed, error) {
	c.Writer, c.Requires = ledger.Writer+1, l.requires
	done, err := l.Ledger.Commit(ctx, c)
	done.Cluster.MinWriter = 0
	return done, err
}

// While the cloud is upgraded, processes of both versions work on one cluster.
// They share it until the newer one writes what the older must not touch; from
// then on the older writes nothing, and what it was given goes to the newer.
func TestARollingUpgrade(t *testing.T) {
	const jobs = 12
	m := newModel(t, jobs)
	calls, newer := &faults{}, &newerWriter{Ledger: m.ledger, requires: 1}
	old, next := m.process(faultyLedger{m.ledger, calls}, m.cloud, m.outbox), m.process(newer, m.cloud, m.outbox)
	turn, refused, oldCommits := 0, 0, 0
	deliver := func(call func(*reconcile.Reconciler) error) error {
		if turn++; turn == 28 {
			newer.requires = ledger.Writer + 1
		}
		if turn%2 == 0 {
			return call(next)
		}
		before, revision := maps.Clone(calls.byCall), m.revision()
		err := call(old)
		if !errors.Is(err, ledger.ErrOldWriter) {
			if m.revision() != revision {
				oldCommits++
			}
			return err
		}
		refused++
		if fault.Of(err) != fault.Denied {
			t.Errorf("it is %v, want denied: %v", fault.Of(err), err)
		}
		before["L.Load"]++
		if !maps.Equal(before, calls.byCall) {
			t.Errorf("the old process did more than load: %v, before %v", calls.byCall, before)
		}
		return call(next) // the broker delivers the message again, to the other process
	}
	m.pressureTo = func(ctx context.Context, q event.QueuePressure) error {
		return deliver(func(app *reconcile.Reconciler) error { _, err := app.Pressure(ctx, q, m.now); return err })
	}
	m.timerTo = func(ctx context.Context, timer event.ScaleDownTimer) error {
		return deliver(func(app *reconcile.Reconciler) error { _, err := app.Timer(ctx, timer); return err })
	}
	m.finish(t.Context(), jobs)
	if oldCommits < 3 || refused < 4 {
		t.Errorf("the old process committed %d times and was refused %d times: the test proves nothing", oldCommits, refused)
	}
	p, err := m.ledger.Load(t.Context(), clusterName)
	if err != nil {
		t.Fatal(err)
	}
	m.want("lowest writer", p.Cluster.MinWriter, ledger.Writer+1)
}
