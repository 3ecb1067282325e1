package reconcile_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// countedGroups counts how often the rows of held groups are searched for.
type countedGroups struct {
	reconcile.Ledger
	reads int
}

func (l *countedGroups) Groups(ctx context.Context, cluster string, since int64) ([]ledger.Job, error) {
	l.reads++
	return l.Ledger.Groups(ctx, cluster, since)
}

// held has every job wait for an hour, and so makes groups that are held.
func held(p *burst.Policy) {
	p.Overflow[0].Waiting = burst.Waiting{Rule: burst.WaitingWait, Wait: time.Hour}
}

// Two processes take turns. Each searches for the rows of groups only after the
// other has announced that it writes some, and drops what the other deleted.
func TestGroupsAreSearchedForOnlyWhereACommitAnnouncedThem(t *testing.T) {
	s := overflowing(t, held)
	counted := &countedGroups{Ledger: s.ledger}
	first, second := s.process(counted, s.cloud, s.outbox), s.process(s.ledger, s.cloud, s.outbox)
	look := func(app *reconcile.Reconciler) {
		t.Helper()
		s.after(10 * time.Second)
		if _, err := app.Pressure(t.Context(), s.pressure(), s.now); err != nil {
			t.Fatal(err)
		}
	}
	step := func(what string, app *reconcile.Reconciler, searches int) {
		t.Helper()
		before := counted.reads
		look(app)
		s.want("searches for groups, "+what, counted.reads-before, searches)
	}
	s.wait("eva", "100")
	step("the first look", first, 1)
	for range 3 { // news that is about no group
		s.local[0].Nodes++
		look(second)
		s.local[0].Nodes++
		step("after commits about other things", first, 0)
	}
	s.wait("ada", "200")
	look(second)
	s.local[0].Nodes++
	step("after a group of the other process", first, 1)
	s.local[0].Nodes++
	step("and once it is known", first, 0)
	s.want("groups", groupsHeld(s), "ada eva")

	s.pending = slices.DeleteFunc(s.pending, func(g event.PendingGroup) bool { return g.User == "ada" })
	look(second)
	s.want("groups once ada's are gone", groupsHeld(s), "eva")
	s.wait("ada", "201")
	step("after the other deleted one", first, 0)
	s.want("a group that comes again", groupsHeld(s), "ada eva")
}

// groupsHeld gives the users of the groups that are shown.
func groupsHeld(s *site) string {
	var users []string
	for _, row := range s.jobs() {
		if row.Group {
			users = append(users, row.User)
		}
	}
	slices.Sort(users)
	return strings.Join(users, " ")
}

// Where more groups change than a commit names, the other process searches.
func TestManyGroupsAreNotNamedOneByOne(t *testing.T) {
	s := overflowing(t, held)
	counted := &countedGroups{Ledger: s.ledger}
	first, second := s.process(counted, s.cloud, s.outbox), s.process(s.ledger, s.cloud, s.outbox)
	look := func(app *reconcile.Reconciler) {
		t.Helper()
		s.after(10 * time.Second)
		if _, err := app.Pressure(t.Context(), s.pressure(), s.now); err != nil {
			t.Fatal(err)
		}
	}
	look(first)
	for i := range 60 {
		s.wait(fmt.Sprintf("user%d", i), event.JobID(fmt.Sprint(1000+i)))
	}
	look(second)
	part, err := s.ledger.Load(t.Context(), clusterName)
	if err != nil {
		t.Fatal(err)
	}
	if named, known := part.Changes.After(part.Cluster.Revision-1, part.Cluster.Revision); !known || len(named) > 5 {
		t.Errorf("the commit names %d rows, want next to none", len(named))
	}
	before := counted.reads
	s.local[0].Nodes++
	look(first)
	s.want("searches", counted.reads-before, 1)
	s.want("groups", len(strings.Fields(groupsHeld(s))), 60)
}
