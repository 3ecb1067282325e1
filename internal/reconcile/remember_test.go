package reconcile_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// countedRows counts how the table of nodes is read.
type countedRows struct {
	reconcile.Ledger
	whole, since, named int
	rows                int // of the last read but a whole one
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

func (l *countedRows) NodesNamed(ctx context.Context, cluster string, names []string) ([]ledger.Node, error) {
	rows, err := l.Ledger.NodesNamed(ctx, cluster, names)
	l.named, l.rows = l.named+1, len(rows)
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
	s.want("times that the rows written since were read by name", counted.named, 1)
	s.want("times that the table was searched for them", counted.since, 0)
	s.want("rows read: the one that the other process wrote", counted.rows, 1)
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
	s.want("incremental reads", counted.since+counted.named, 0)
}

// silentWriter is a process of a version that keeps no history of the rows that
// its commits change.
type silentWriter struct{ reconcile.Ledger }

func (l silentWriter) Commit(ctx context.Context, c ledger.Commit) (ledger.Committed, error) {
	c.Changes = nil
	return l.Ledger.Commit(ctx, c)
}

func TestACommitThatAnnouncesNoRowsIsSearchedFor(t *testing.T) {
	s := running(t)
	counted := &countedRows{Ledger: s.ledger}
	first, old := s.process(counted, s.cloud, s.outbox), s.process(silentWriter{s.ledger}, s.cloud, s.outbox)
	for i, step := range []struct {
		app         *reconcile.Reconciler
		node, state string
		since       int
	}{{first, "htc-1", "MIXED", 0}, {old, "htc-1", "ALLOCATED", 0}, {first, "htc-1", "MIXED", 1}, {first, "htc-1", "ALLOCATED", 1}} {
		s.after(10 * time.Second)
		s.in(step.node, step.state)
		if _, err := step.app.Pressure(t.Context(), s.pressure(), s.now); err != nil {
			t.Fatal(err)
		}
		s.want(fmt.Sprintf("searches after step %d", i+1), counted.since, step.since)
	}
	s.want("whole tables read", counted.whole, 1)
	s.want("state of htc-1", s.row("htc-1").SlurmState, "ALLOCATED")
}

// lateRows is a process that stands still between its commit and its rows.
type lateRows struct {
	reconcile.Ledger
	meanwhile func()
}

func (l *lateRows) PutNodes(ctx context.Context, cluster string, nodes []ledger.Node) ([]ledger.Node, []string, error) {
	if then := l.meanwhile; then != nil {
		l.meanwhile = nil
		then()
	}
	return l.Ledger.PutNodes(ctx, cluster, nodes)
}

// A row may come after another process has seen its commit and found nothing to
// do: that process reads it at its next look, by name.
func TestARowThatComesLateIsRead(t *testing.T) {
	s := running(t)
	counted, late := &countedRows{Ledger: s.ledger}, &lateRows{Ledger: s.ledger}
	rows := &announcedRows{Ledger: counted, breaks: t.Errorf}
	quick, slow := s.process(rows, s.cloud, s.outbox), s.process(late, s.cloud, s.outbox)
	pressure := func(app *reconcile.Reconciler) {
		t.Helper()
		s.after(10 * time.Second)
		if _, err := app.Pressure(t.Context(), s.pressure(), s.now); err != nil {
			t.Fatal(err)
		}
	}
	s.in("htc-1", "MIXED")
	pressure(quick)
	pressure(slow)
	late.meanwhile = func() {
		before := s.revision()
		timer := event.ScaleDownTimer{Cluster: clusterName, Nodearray: "htc", Purpose: event.Retry, Generation: before + 9, Due: s.now}
		if _, err := quick.Timer(t.Context(), timer); err != nil {
			t.Fatal(err)
		}
		s.want("revision after a look that found nothing to do", s.revision(), before)
		s.want("state of htc-1, whose row is late", s.row("htc-1").SlurmState, "MIXED")
	}
	s.in("htc-1", "ALLOCATED")
	pressure(slow)
	if late.meanwhile != nil {
		t.Fatal("no row was written")
	}
	s.want("state of htc-1, whose row has come", s.row("htc-1").SlurmState, "ALLOCATED")
	s.in("htc-1", "IDLE")
	pressure(quick)
	s.want("rows read: the late one", counted.rows, 1)
	s.want("state of htc-1", s.row("htc-1").SlurmState, "IDLE") // a stale version could not have been written
	s.want("whole tables read", counted.whole, 1)
	s.want("searches", counted.since, 0)
}

// announcedRows complains of a row that its commit did not announce, and of one
// that could not be written because the process did not know the stored one.
type announcedRows struct {
	reconcile.Ledger
	breaks  func(format string, args ...any)
	changes ledger.Changes
	at      int64
	written int
}

func (l *announcedRows) Commit(ctx context.Context, c ledger.Commit) (ledger.Committed, error) {
	done, err := l.Ledger.Commit(ctx, c)
	if err == nil {
		l.changes, l.at = *c.Changes, done.Cluster.Revision
	}
	return done, err
}

func (l *announcedRows) PutNodes(ctx context.Context, cluster string, nodes []ledger.Node) ([]ledger.Node, []string, error) {
	named, known := l.changes.After(l.at-1, l.at)
	for _, n := range nodes {
		if _, ok := named[n.Name]; !known || !ok || n.Revision != l.at {
			l.breaks("row of %s, revision %d: commit %d announced %v", n.Name, n.Revision, l.at, named)
		}
	}
	l.written += len(nodes)
	written, lost, err := l.Ledger.PutNodes(ctx, cluster, nodes)
	if len(lost) > 0 {
		l.breaks("rows of %v were not known as they are stored", lost)
	}
	return written, lost, err
}

// Two processes take turns through the whole life of a cluster: each knows what
// the other wrote, without ever searching the table for it.
func TestTwoProcessesFollowEachOthersRows(t *testing.T) {
	const jobs = 12
	m := newModel(t, jobs)
	counted := &countedRows{Ledger: m.ledger}
	rows := &announcedRows{Ledger: counted, breaks: m.breaks}
	apps := []*reconcile.Reconciler{m.process(rows, m.cloud, m.outbox), m.process(rows, m.cloud, m.outbox)}
	m.cloud.refuse = map[string]string{"htc-2": "no capacity"} // so that a pass looks twice
	turn := 0
	next := func() *reconcile.Reconciler {
		if turn++; turn == 60 {
			m.cloud.refuse = nil
		}
		return apps[turn%2]
	}
	m.pressureTo = func(ctx context.Context, q event.QueuePressure) error {
		_, err := next().Pressure(ctx, q, m.now)
		return err
	}
	m.timerTo = func(ctx context.Context, timer event.ScaleDownTimer) error {
		_, err := next().Timer(ctx, timer)
		return err
	}
	m.finish(t.Context(), jobs)
	m.want("searches of the table", counted.since, 0)
	if counted.named < 5 || rows.written < 20 {
		t.Errorf("%d reads by name, %d rows written: the test proves nothing", counted.named, rows.written)
	}
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
