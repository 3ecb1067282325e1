package ledger

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// odd is a table service with habits that Azure may have and Azurite has not.
type odd struct {
	*memoryTables
	// silent refusals do not say which operation they are about.
	silent bool
	// pageRows is the length of a page, where it is not zero.
	pageRows int
	// between runs after each page but the last.
	between func()
	calls   int
}

func (o *odd) submit(ctx context.Context, table string, ops []op) ([]string, error) {
	o.calls++
	etags, err := o.memoryTables.submit(ctx, table, ops)
	var refused *refusal
	if o.silent && errors.As(err, &refused) {
		refused.index = -1
	}
	return etags, err
}

func (o *odd) query(ctx context.Context, table string, q query) (page, error) {
	o.calls++
	if o.pageRows > 0 && (q.top == 0 || q.top > o.pageRows) {
		q.top = o.pageRows
	}
	got, err := o.memoryTables.query(ctx, table, q)
	if o.between != nil && !got.next.isEnd() {
		o.between()
	}
	return got, err
}

func oddStore(t *testing.T) (*Store, *odd) {
	t.Helper()
	service := &odd{memoryTables: &memoryTables{tables: map[string]map[string]*memoryPartition{}}}
	store, err := newStore(service, "odd")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.CreateTables(t.Context()); err != nil {
		t.Fatal(err)
	}
	return store, service
}

func TestRowsAroundAConflictAreWrittenWhenTheServiceDoesNotSayWhich(t *testing.T) {
	for _, stale := range []int{0, 1, 3, 50, 100} {
		t.Run(fmt.Sprintf("%d of 100 rows moved", stale), func(t *testing.T) {
			store, service := oddStore(t)
			service.silent = true
			nodes := make([]Node, 100)
			for i := range nodes {
				nodes[i].Name = fmt.Sprintf("n%03d", i*37%100)
			}
			nodes, _, err := store.PutNodes(t.Context(), "c", nodes)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := store.PutNodes(t.Context(), "c", nodes[:stale]); err != nil {
				t.Fatal(err)
			}
			service.calls = 0
			written, conflicted, err := store.PutNodes(t.Context(), "c", nodes)
			if err != nil || len(conflicted) != stale || len(written) != 100-stale {
				t.Errorf("%d rows were written, %d in conflict, %v", len(written), len(conflicted), err)
			}
			if service.calls > 40 {
				t.Errorf("it took %d calls", service.calls)
			}
		})
	}
}

func TestAPartitionOfManyPagesIsReadAsOnePicture(t *testing.T) {
	ctx := t.Context()
	store, service := oddStore(t)
	p, err := store.Load(ctx, "c")
	if err != nil {
		t.Fatal(err)
	}
	done, err := store.Commit(ctx, Commit{Cluster: p.Cluster, Snapshot: &Snapshot{Body: make([]byte, 800_000)}})
	if err != nil {
		t.Fatal(err)
	}
	facts := make([]Fact, 30)
	for i := range facts {
		facts[i] = Fact{ID: fmt.Sprint(i), At: time.Unix(int64(i), 0)}
	}
	if err := store.AddFacts(ctx, "c", facts); err != nil {
		t.Fatal(err)
	}
	service.pageRows = 7
	if p, err = store.Load(ctx, "c"); err != nil || len(p.Facts) != 30 || len(p.Snapshot.Body) != 800_000 {
		t.Fatalf("%d facts and %d bytes came from pages, %v", len(p.Facts), len(p.Snapshot.Body), err)
	}
	moves := 0
	service.between = func() {
		if moves++; moves > 4 && moves < 9 {
			return // the second reading is left alone
		}
		if done, err = store.Commit(ctx, Commit{Cluster: done.Cluster}); err != nil {
			t.Error(err)
		}
	}
	if p, err = store.Load(ctx, "c"); err != nil || p.Cluster.Revision != done.Cluster.Revision || p.Cluster.etag != done.Cluster.etag {
		t.Errorf("revision %d was read where %d is stored, %v", p.Cluster.Revision, done.Cluster.Revision, err)
	}
	moves = 100
	if _, err := store.Load(ctx, "c"); !errors.Is(err, ErrConflict) || fault.Of(err) != fault.Conflict {
		t.Errorf("a partition that never holds still: %v", err)
	}
}

func TestASnapshotThatIsNotWholeCountsAsNone(t *testing.T) {
	ctx := t.Context()
	store, service := oddStore(t)
	p, err := store.Load(ctx, "c")
	if err != nil {
		t.Fatal(err)
	}
	done, err := store.Commit(ctx, Commit{Cluster: p.Cluster, Snapshot: &Snapshot{Sequence: 1, Body: make([]byte, 2_000_000)}})
	if err != nil {
		t.Fatal(err)
	}
	service.tables["oddclusters"]["c"].drop(snapshotKey(1))
	if p, err = store.Load(ctx, "c"); err != nil || p.Snapshot.Body != nil || p.Snapshot.Sequence != 0 {
		t.Fatalf("got a snapshot of %d bytes, %v", len(p.Snapshot.Body), err)
	}
	if _, err := store.Commit(ctx, Commit{Cluster: done.Cluster, Snapshot: &Snapshot{Sequence: 2, Body: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	if p, err = store.Load(ctx, "c"); err != nil || string(p.Snapshot.Body) != "x" {
		t.Errorf("the next snapshot came back as %q, %v", p.Snapshot.Body, err)
	}
}

func TestFiltersAreQuoted(t *testing.T) {
	at := time.Date(2026, 3, 1, 13, 0, 0, 5000, time.FixedZone("", 3600))
	got := filterText([]condition{
		{"A", equal, "it's ' or true"}, {"B", unequal, true}, {"C", atLeast, int64(5)}, {"D", below, at}, {"E", atMost, int32(7)},
	})
	want := "A eq 'it''s '' or true' and B ne true and C ge 5L and D lt datetime'2026-03-01T12:00:00.000005Z' and E le 7"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// reclaim_idle purges every few minutes: where nothing is old, only two queries
// by key may be made of it, however many commands and jobs there are.
func TestAPurgeThatFindsNothingAsksTwice(t *testing.T) {
	store, service := oddStore(t)
	service.pageRows = 1 // each row that is searched would show
	ctx, now := t.Context(), time.Now().UTC()
	var commands []Command
	var failures []Failure
	for n := range 5 {
		commands = append(commands, Command{ID: fmt.Sprint(n), SentAt: now, State: CommandOK})
		failures = append(failures, Failure{At: now.Add(-time.Duration(n) * time.Hour), Detail: fmt.Sprint(n)})
	}
	if _, _, err := store.PutCommands(ctx, "c1", commands); err != nil {
		t.Fatal(err)
	}
	if err := store.AppendFailures(ctx, "c1", failures); err != nil {
		t.Fatal(err)
	}
	if err := store.AppendDecision(ctx, "c1", Decision{ID: "1", At: now}); err != nil {
		t.Fatal(err)
	}
	service.calls = 0
	removed, err := store.Purge(ctx, "c1", now.AddDate(0, 0, -1))
	if removed != 0 || err != nil || service.calls != 2 {
		t.Errorf("%d rows removed with %d calls, want none with 2: %v", removed, service.calls, err)
	}
}
