package reconcile_test

import (
	"context"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// countedRows counts how the table of nodes is read.
type countedRows struct {
	reconcile.Ledger
	whole, since, rows int
}

func (l *countedRows) Nodes(ctx context.Context, cluster string) ([]ledger.Node, error) {
	l.whole++
	return l.Ledger.Nodes(ctx, cluster)
}

func (l *countedRows) NodesSince(ctx context.Context, cluster string, revision int64) ([]ledger.Node, error) {
	rows, err := l.Ledger.NodesSince(ctx, cluster, revision)
	l.since, l.rows = l.since+1, len(rows)
	return rows, err
}

// Each function runs in a process of its own. One that remembers the nodes as
// of its own last commit reads only what others have written since.
func TestAProcessReadsOnlyTheRowsThatOthersWroteSince(t *testing.T) {
	s := running(t)
	counted := &countedRows{Ledger: s.ledger}
	first, second := s.process(counted, s.cloud, s.outbox), s.rec
	pressure := func(app *reconcile.Reconciler) {
		t.Helper()
		s.after(10 * time.Second)
		if _, err := app.Pressure(t.Context(), s.pressure(), s.now); err != nil {
			t.Fatal(err)
		}
	}
	s.in("htc-1", "MIXED")
	pressure(first)
	s.want("whole tables read by a new process", counted.whole, 1)

	s.resume("htc-2", "r2", batch) // seen by another process, which has the VM made
	pressure(second)
	created := s.row("htc-2")
	if created.NodeID == "" {
		t.Fatalf("htc-2 has no VM: %+v", created)
	}
	s.in("htc-2", "ALLOCATED")
	pressure(first)
	s.want("whole tables read after somebody else's commit", counted.whole, 1)
	s.want("times that the rows written since were read", counted.since, 1)
	if counted.rows == 0 {
		t.Error("the row that the other process wrote was not among them")
	}
	s.want("VM of htc-2", s.row("htc-2").NodeID, created.NodeID)
	s.want("state of htc-2", s.row("htc-2").State, "busy")
	s.want("ids", s.cloud.ids, 2) // it was not created again

	if _, err := first.Timer(t.Context(), event.ScaleDownTimer{Cluster: clusterName, Purpose: event.Recheck, Due: s.now}); err != nil {
		t.Fatal(err)
	}
	s.want("whole tables read by a sweep", counted.whole, 2)
}

// A ledger that began anew has other rows, whatever its revision.
func TestRowsOfALedgerThatWasLostAreNotRemembered(t *testing.T) {
	s := running(t)
	counted := &countedRows{Ledger: s.ledger}
	s.rec = s.process(counted, s.cloud, s.outbox)
	s.in("htc-1", "MIXED")
	s.report()
	s.ledger = ledger.NewMemory()
	counted.Ledger = s.ledger
	s.after(10 * time.Second)
	s.report()
	s.want("whole tables read", counted.whole, 2)
	s.want("incremental reads", counted.since, 0)
}

// Most timers that fire were replaced; a cluster's nodes are not read for one.
func TestAVoidTimerReadsNoNodes(t *testing.T) {
	s := running(t)
	counted := &countedRows{Ledger: s.ledger}
	app := s.process(counted, s.cloud, s.outbox)
	if len(s.outbox.timers) == 0 {
		t.Fatal("no timer was armed")
	}
	old := s.outbox.timers[0]
	old.Generation--
	result, err := app.Timer(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	s.want("outcome", result.Outcome, reconcile.OutcomeVoid)
	s.want("reads of the nodes", counted.whole+counted.since, 0)
}
