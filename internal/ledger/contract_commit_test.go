package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// fullIntent is an intent with something in every field.
func fullIntent(id string) ledger.Intent {
	return ledger.Intent{
		ID: id, Kind: "create_nodes", Nodearray: "htc",
		Targets:   []ledger.Target{{Node: "htc-1"}, {Node: "htc-2", NodeID: "9f"}},
		RequestID: "6b1c", Attempt: 2, Body: []byte(`{"count":2}`), Reserved: 1_250_000,
		NotAfter: moment(10), Epoch: 3, Sequence: 1 << 40, Generation: 1 << 50,
		Owner: "app-1", ClaimUntil: moment(2), State: ledger.IntentOpen, OperationID: "op-7",
		TimerSequences: []int64{1 << 60, 5},
		Outcome:        []ledger.Outcome{{Node: "htc-1", NodeID: "aa", Code: "created", Detail: "at once"}},
		Reason:         "demand", Detail: "two nodes are powering up", CreatedAt: moment(0), SettledAt: moment(3),
	}
}

func firstCommit(t *testing.T, w world) {
	before := time.Now().UnixMilli()
	p := mustLoad(t, w, "c1")
	switch {
	case p.Found:
		t.Error("the cluster is found before its first commit")
	case p.Cluster.Cluster != "c1" || p.Cluster.LedgerID == "":
		t.Errorf("it cannot be committed: %+v", p.Cluster)
	case p.Cluster.Revision < before:
		t.Errorf("revision %d can be one that a lost ledger used before", p.Cluster.Revision)
	}
	done := mustCommit(t, w, ledger.Commit{Cluster: p.Cluster})
	if done.Cluster.Revision != p.Cluster.Revision+1 || done.Cluster.LedgerID != p.Cluster.LedgerID {
		t.Errorf("got %+v after %+v", done.Cluster, p.Cluster)
	}
	again := mustLoad(t, w, "c1")
	if !again.Found {
		t.Error("the cluster is not found after its first commit")
	}
	same(t, "the cluster read back", again.Cluster, done.Cluster)
}

func commitReadBack(t *testing.T, w world) {
	p := mustLoad(t, w, "c1")
	c := p.Cluster
	c.Epoch, c.Sequence, c.Paused, c.PausedBy, c.PausedReason = 2, 77, true, "eva", "maintenance"
	c.PausedAt, c.NextDue, c.MinWriter, c.PolicyVersion = moment(1), moment(2), 3, "v7"
	c.SweptAt, c.SweepDue, c.CommandsSince = moment(3), moment(4), c.Revision-5
	beat := ledger.Heartbeat{Epoch: 2, Sequence: 78, ReceivedAt: moment(5), AsOf: moment(4), Digest: "d", AgentHost: "head1"}
	snapshot := ledger.Snapshot{Epoch: 2, Sequence: 77, AsOf: moment(4), Digest: "s", Body: noise(1000, 1)}
	budget := ledger.Budget{Body: []byte(`{"day":5}`)}
	intents := []ledger.Intent{fullIntent("10/02"), fullIntent("9/11"), fullIntent("10/01")}
	done := mustCommit(t, w, ledger.Commit{Cluster: c, Heartbeat: &beat, Snapshot: &snapshot, Budget: &budget, NewIntents: intents, Writer: 3})
	c.Revision++
	got := mustLoad(t, w, "c1")
	same(t, "the partition", got, ledger.Partition{
		Cluster: c, Heartbeat: beat, Snapshot: snapshot, Budget: budget, Found: true,
		Intents: []ledger.Intent{intents[1], intents[2], intents[0]},
	})
	same(t, "what the commit returned", done, ledger.Committed{Cluster: c, Intents: intents})
}

func oldWriters(t *testing.T, w world) {
	load := func() ledger.Cluster { return mustLoad(t, w, "c1").Cluster }
	mustCommit(t, w, ledger.Commit{Cluster: load()})
	read := load() // by a process of this version, before the newer one comes
	mustCommit(t, w, ledger.Commit{Cluster: load(), Writer: 7, Requires: 3})
	same(t, "the lowest writer", load().MinWriter, 3)

	_, err := w.Commit(t.Context(), ledger.Commit{Cluster: load(), Heartbeat: &ledger.Heartbeat{Epoch: 9}, NewIntents: []ledger.Intent{fullIntent("1/01")}})
	if !errors.Is(err, ledger.ErrOldWriter) || fault.Of(err) != fault.Denied || errors.Is(err, ledger.ErrConflict) {
		t.Fatalf("version %d committed: %v", ledger.Writer, err)
	}
	for _, says := range []string{"version 1", "may write is 3", "c1"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%q does not say %q", err, says)
		}
	}
	// One that loaded before is stopped by the lock, and then by the version.
	_, err = w.Commit(t.Context(), ledger.Commit{Cluster: read})
	mustConflict(t, err)
	if p := mustLoad(t, w, "c1"); len(p.Intents) > 0 || p.Heartbeat.Epoch == 9 {
		t.Errorf("the refused commit left something: %+v", p)
	}
	// Nobody can shut itself out, nor lower the bar for others.
	if _, err := w.Commit(t.Context(), ledger.Commit{Cluster: load(), Writer: 7, Requires: 8}); !errors.Is(err, ledger.ErrOldWriter) {
		t.Errorf("version 7 asked for 8: %v", err)
	}
	mustCommit(t, w, ledger.Commit{Cluster: load(), Writer: 3, Requires: 1})
	same(t, "the lowest writer", load().MinWriter, 3)
}

func commitRace(t *testing.T, w world) {
	first := mustCommit(t, w, ledger.Commit{Cluster: mustLoad(t, w, "c1").Cluster})
	won := race(t, w, func(n int) ledger.Commit {
		intent := fullIntent(fmt.Sprintf("%d/%02d", first.Cluster.Revision+1, n))
		return ledger.Commit{Cluster: first.Cluster, NewIntents: []ledger.Intent{intent}, Snapshot: &ledger.Snapshot{Body: noise(100+n, n)}}
	})
	got := mustLoad(t, w, "c1")
	if got.Cluster.Revision != first.Cluster.Revision+1 {
		t.Errorf("revision %d follows %d", got.Cluster.Revision, first.Cluster.Revision)
	}
	if len(got.Intents) != 1 || got.Intents[0].ID != fmt.Sprintf("%d/%02d", first.Cluster.Revision+1, won) {
		t.Errorf("committer %d won and the intents are %v", won, got.Intents)
	}
	if !bytes.Equal(got.Snapshot.Body, noise(100+won, won)) {
		t.Error("the snapshot is not the winner's")
	}
}

func firstCommitRace(t *testing.T, w world) {
	won := race(t, w, func(n int) ledger.Commit {
		c := mustLoad(t, w, "new").Cluster
		c.PolicyVersion = fmt.Sprint(n)
		return ledger.Commit{Cluster: c}
	})
	if got := mustLoad(t, w, "new").Cluster.PolicyVersion; got != fmt.Sprint(won) {
		t.Errorf("committer %d won and the row is of %s", won, got)
	}
}

// race lets eight committers commit at once and gives the one that won.
func race(t *testing.T, w world, commit func(n int) ledger.Commit) int {
	t.Helper()
	const committers = 8
	var commits [committers]ledger.Commit
	for n := range commits {
		commits[n] = commit(n)
	}
	var (
		wg   sync.WaitGroup
		errs [committers]error
		gate = make(chan struct{})
	)
	for n := range committers {
		wg.Go(func() {
			<-gate
			_, errs[n] = w.Commit(t.Context(), commits[n])
		})
	}
	close(gate)
	wg.Wait()
	won := -1
	for n, err := range errs {
		switch {
		case err != nil:
			mustConflict(t, err, "clusters/", "commit")
		case won >= 0:
			t.Fatalf("committers %d and %d both won", won, n)
		default:
			won = n
		}
	}
	if won < 0 {
		t.Fatal("nobody won")
	}
	return won
}

func largeCommit(t *testing.T, w world) {
	p := mustLoad(t, w, "c1")
	snapshot := ledger.Snapshot{Epoch: 1, Sequence: 1, AsOf: moment(0), Digest: "x", Body: noise(2_500_000, 5)}
	var intents []ledger.Intent
	for n := range ledger.MaxIntents {
		intent := fullIntent(fmt.Sprintf("%d/%02d", p.Cluster.Revision+1, n))
		intent.Body = noise(2000, n)
		intents = append(intents, intent)
	}
	commit := ledger.Commit{Cluster: p.Cluster, Snapshot: &snapshot, NewIntents: intents, Heartbeat: &ledger.Heartbeat{Epoch: 1}, Budget: &ledger.Budget{Body: []byte("{}")}}
	done := mustCommit(t, w, commit)
	got := mustLoad(t, w, "c1")
	same(t, "the intents", got.Intents, intents)
	same(t, "the snapshot", got.Snapshot, snapshot)
	settled, err := w.UpdateIntent(t.Context(), "c1", done.Intents[89])
	if err != nil {
		t.Fatalf("the last intent of the commit has the wrong version: %v", err)
	}
	done.Intents[89] = settled
	rest := ledger.Commit{Cluster: done.Cluster, DropIntents: done.Intents}
	mustCommit(t, w, rest)
	if left := mustLoad(t, w, "c1").Intents; len(left) != 0 {
		t.Errorf("%d intents are left of those dropped", len(left))
	}
}

func snapshotSizes(t *testing.T, w world) {
	cluster := mustLoad(t, w, "c1").Cluster
	for n, size := range []int{0, 10, w.long, 60_000, 60_001, 0, 720_000, 720_001, 1} {
		snapshot := ledger.Snapshot{Epoch: 1, Sequence: int64(n), Digest: fmt.Sprint(n), AsOf: moment(n), Body: noise(size, n)}
		if n == 5 {
			snapshot = ledger.Snapshot{}
		}
		done := mustCommit(t, w, ledger.Commit{Cluster: cluster, Snapshot: &snapshot})
		cluster = done.Cluster
		if n%2 == 1 {
			cluster = mustLoad(t, w, "c1").Cluster
		}
		same(t, fmt.Sprintf("the snapshot of %d bytes", size), mustLoad(t, w, "c1").Snapshot, snapshot)
	}
}

func commitIsAtomic(t *testing.T, w world) {
	ctx := t.Context()
	p := mustLoad(t, w, "c1")
	done := mustCommit(t, w, ledger.Commit{
		Cluster: p.Cluster, Snapshot: &ledger.Snapshot{Sequence: 1, Body: []byte("old")},
		NewIntents: []ledger.Intent{fullIntent("1/01"), fullIntent("1/02")},
	})
	stale := done.Intents[0]
	moved, err := w.UpdateIntent(ctx, "c1", done.Intents[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, commit := range map[string]ledger.Commit{
		"an intent that exists": {NewIntents: []ledger.Intent{fullIntent("2/01"), fullIntent("1/02")}},
		"an intent that moved":  {DropIntents: []ledger.Intent{done.Intents[1], stale}},
		"a fact that is gone":   {DropFacts: []ledger.Fact{goneFact(t, w)}},
	} {
		commit.Cluster, commit.Snapshot = done.Cluster, &ledger.Snapshot{Sequence: 2, Body: noise(100_000, 2)}
		commit.Cluster.PolicyVersion = "new"
		_, err := w.Commit(ctx, commit)
		mustConflict(t, err, "c1")
		got := mustLoad(t, w, "c1")
		if got.Cluster.Revision != done.Cluster.Revision || got.Cluster.PolicyVersion != "" || string(got.Snapshot.Body) != "old" {
			t.Errorf("%s: part of the commit was written: %+v, snapshot of %d bytes", name, got.Cluster, len(got.Snapshot.Body))
		}
		if len(got.Intents) != 2 {
			t.Errorf("%s: the intents are %v", name, got.Intents)
		}
	}
	// After all of that the loaded versions are still good.
	mustCommit(t, w, ledger.Commit{Cluster: done.Cluster, DropIntents: []ledger.Intent{moved, done.Intents[1]}})
}

// goneFact is a fact that was loaded and has since been dropped, in a cluster
// of its own name and the same key elsewhere absent.
func goneFact(t *testing.T, w world) ledger.Fact {
	t.Helper()
	if err := w.AddFacts(t.Context(), "other", []ledger.Fact{{ID: "gone", At: moment(0)}}); err != nil {
		t.Fatal(err)
	}
	return mustLoad(t, w, "other").Facts[0]
}

func heartbeatAlone(t *testing.T, w world) {
	ctx := t.Context()
	beat := ledger.Heartbeat{Epoch: 1, Sequence: 1, ReceivedAt: moment(1), AsOf: moment(0), Digest: "a", AgentHost: "head1"}
	if err := w.NoteHeartbeat(ctx, "c1", beat); err != nil {
		t.Fatal(err)
	}
	p := mustLoad(t, w, "c1")
	if p.Found {
		t.Error("a heartbeat alone makes a cluster")
	}
	same(t, "the heartbeat before any commit", p.Heartbeat, beat)
	done := mustCommit(t, w, ledger.Commit{Cluster: p.Cluster})
	beat = ledger.Heartbeat{Epoch: 1, Sequence: 2, ReceivedAt: moment(2)}
	if err := w.NoteHeartbeat(ctx, "c1", beat); err != nil {
		t.Fatal(err)
	}
	same(t, "the second heartbeat", mustLoad(t, w, "c1").Heartbeat, beat)
	mustCommit(t, w, ledger.Commit{Cluster: done.Cluster})
}

func conditionalSettle(t *testing.T, w world) {
	ctx := t.Context()
	done := mustCommit(t, w, ledger.Commit{Cluster: mustLoad(t, w, "c1").Cluster, NewIntents: []ledger.Intent{fullIntent("1/01")}})
	mine, theirs := done.Intents[0], mustLoad(t, w, "c1").Intents[0]
	mine.Owner, mine.ClaimUntil, mine.Attempt = "app-2", moment(90), 3
	mine, err := w.UpdateIntent(ctx, "c1", mine)
	if err != nil {
		t.Fatal(err)
	}
	theirs.State = ledger.IntentFailed
	_, err = w.UpdateIntent(ctx, "c1", theirs)
	mustConflict(t, err, "c1", "1/01")
	mine.State, mine.SettledAt = ledger.IntentDone, moment(91)
	mine.Outcome = []ledger.Outcome{{Node: "htc-1", Code: "created"}, {Node: "htc-2", Code: "refused", Detail: "no capacity"}}
	if mine, err = w.UpdateIntent(ctx, "c1", mine); err != nil {
		t.Fatalf("the owner cannot settle after it claimed: %v", err)
	}
	got := mustLoad(t, w, "c1")
	same(t, "the settled intent", got.Intents, []ledger.Intent{mine})
	if got.Cluster.Revision != done.Cluster.Revision {
		t.Error("settling moved the revision")
	}
	never := fullIntent("1/01")
	if _, err := w.UpdateIntent(ctx, "c1", never); fault.Of(err) != fault.Bug {
		t.Errorf("an intent that was never loaded is updated: %v", err)
	}
}

func deleteIntents(t *testing.T, w world) {
	ctx := t.Context()
	intents := []ledger.Intent{fullIntent("1/01"), fullIntent("1/02"), fullIntent("1/03")}
	done := mustCommit(t, w, ledger.Commit{Cluster: mustLoad(t, w, "c1").Cluster, NewIntents: intents})
	if err := w.DeleteIntents(ctx, "c1", done.Intents[:1]); err != nil {
		t.Fatal(err)
	}
	if _, err := w.UpdateIntent(ctx, "c1", done.Intents[1]); err != nil {
		t.Fatal(err)
	}
	err := w.DeleteIntents(ctx, "c1", done.Intents)
	mustConflict(t, err, "1/02")
	left := mustLoad(t, w, "c1").Intents
	if len(left) != 1 || left[0].ID != "1/02" {
		t.Errorf("left are %v", left)
	}
	if err := w.DeleteIntents(ctx, "c1", left); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteIntents(ctx, "c1", left); err != nil {
		t.Errorf("deleting what is gone: %v", err)
	}
}

func factsOnce(t *testing.T, w world) {
	ctx := t.Context()
	var facts []ledger.Fact
	for n := range 130 {
		facts = append(facts, ledger.Fact{ID: fmt.Sprintf("event/%03d", n), Kind: "node", At: moment(n / 2), Body: noise(n, n)})
	}
	if err := w.AddFacts(ctx, "c1", facts[20:60]); err != nil {
		t.Fatal(err)
	}
	if err := w.AddFacts(ctx, "c1", append([]ledger.Fact{facts[25], facts[1], facts[1]}, facts...)); err != nil {
		t.Fatal(err)
	}
	p := mustLoad(t, w, "c1")
	same(t, "the facts", p.Facts, facts)
	mustCommit(t, w, ledger.Commit{Cluster: p.Cluster, DropFacts: p.Facts[:90]})
	same(t, "the facts left", mustLoad(t, w, "c1").Facts, facts[90:])
	big := ledger.Fact{ID: "big", At: moment(0), Body: make([]byte, ledger.MaxFact+1)}
	if err := w.AddFacts(ctx, "c1", []ledger.Fact{big}); !errors.Is(err, ledger.ErrTooLarge) {
		t.Errorf("a fact that is too long: %v", err)
	}
}

func healing(t *testing.T, w world) {
	ctx := t.Context()
	done := mustCommit(t, w, ledger.Commit{Cluster: mustLoad(t, w, "c1").Cluster, NewIntents: []ledger.Intent{fullIntent("1/01")}})
	nodes, _, err := w.PutNodes(ctx, "c1", []ledger.Node{{Name: "n1"}, {Name: "n2"}})
	if err != nil {
		t.Fatal(err)
	}
	w.dropTables(t)
	_, err = w.Commit(ctx, ledger.Commit{Cluster: done.Cluster})
	mustConflict(t, err)
	_, err = w.UpdateIntent(ctx, "c1", done.Intents[0])
	mustConflict(t, err)
	if _, conflicted, err := w.PutNodes(ctx, "c1", nodes); err != nil || len(conflicted) != 2 {
		t.Fatalf("rows of a table that was deleted: conflicts %v, %v", conflicted, err)
	}
	if _, _, err := w.PutNodes(ctx, "c1", []ledger.Node{{Name: "n1"}, {Name: "n2"}}); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Nodes(ctx, "c1"); err != nil || len(got) != 2 {
		t.Fatalf("got %v, %v", got, err)
	}
	for time.Now().UnixMilli() <= done.Cluster.Revision {
		runtime.Gosched() // a loss within the millisecond of the first commit is no loss
	}
	p := mustLoad(t, w, "c1")
	if p.Found || p.Cluster.Revision <= done.Cluster.Revision {
		t.Errorf("after the loss the revision begins at %d, below %d", p.Cluster.Revision, done.Cluster.Revision)
	}
	if p.Cluster.LedgerID == done.Cluster.LedgerID {
		t.Error("the ledger that began anew has the name of the lost one")
	}
	mustCommit(t, w, ledger.Commit{Cluster: p.Cluster, NewIntents: []ledger.Intent{fullIntent("1/01")}})
	for name, call := range map[string]func() error{
		"heartbeat": func() error { return w.NoteHeartbeat(ctx, "c1", ledger.Heartbeat{}) },
		"facts":     func() error { return w.AddFacts(ctx, "c1", []ledger.Fact{{ID: "f", At: moment(0)}}) },
		"decision":  func() error { return w.AppendDecision(ctx, "c1", ledger.Decision{ID: "d", At: moment(0)}) },
		"failures":  func() error { return w.AppendFailures(ctx, "c1", []ledger.Failure{{At: moment(0)}}) },
		"listing":   func() error { _, _, err := w.ListJobs(ctx, ledger.JobFilter{}, ledger.Page{}); return err },
		"policy":    func() error { return w.ApplyPolicy(ctx, "c1", ledger.Policy{Version: "1"}) },
	} {
		if err := call(); err != nil {
			t.Errorf("%s after the tables were deleted: %v", name, err)
		}
	}
}

func cancelled(t *testing.T, w world) {
	p := mustLoad(t, w, "c1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Commit(ctx, ledger.Commit{Cluster: p.Cluster}); fault.Of(err) != fault.Transient || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want a transient error", err)
	}
	if _, err := w.Load(ctx, "c1"); fault.Of(err) != fault.Transient {
		t.Errorf("got %v, want a transient error", err)
	}
	if mustLoad(t, w, "c1").Found {
		t.Error("a cancelled commit was written")
	}
}
