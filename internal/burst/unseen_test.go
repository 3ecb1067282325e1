package burst

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A released job that no snapshot names any more gives back its money at the
// second one. Whether it waits unnamed, taken back, only a later one can tell.
func TestAReleasedJobThatIsMissedInALongQueueIsRemembered(t *testing.T) {
	other := func(count int) []Group {
		return []Group{{Partitions: []string{"local"}, Count: count, Jobs: []string{"8"}}}
	}
	took := []UnseenJob{{ID: "7", Nodearray: "htc", ListedIn: "htc-part", At: origin}}
	for _, c := range []struct {
		name string
		was  CloudJob
		f    Facts
		want []UnseenJob
	}{
		{"while others wait that are not named", released(listed, missing), Facts{Groups: other(9)}, took},
		{"and was taken back before, and moved", released(listed, back, missing, func(j *CloudJob) { j.Home = []string{"elsewhere"} }), Facts{Groups: other(9)}, took},
		{"but not at the first look", released(listed), Facts{Groups: other(9)}, nil},
		{"unless all that wait are named", released(listed, missing), Facts{Groups: other(1)}, nil},
		{"unless it ran", released(listed, missing, begun(time.Minute)), Facts{Groups: other(9)}, nil},
		{"unless no snapshot showed its release", released(missing, func(j *CloudJob) { j.Listed = true }), Facts{Groups: other(9)}, nil},
		{"unless it was revoked by us", released(listed, revoked, missing, func(j *CloudJob) { j.Home = []string{"elsewhere"} }), Facts{Groups: other(9)}, nil},
	} {
		c.f.Snapshot, c.f.Memory.Jobs = Snapshot{Position{1, 5}, origin}, []CloudJob{c.was}
		if diff := cmp.Diff(c.want, advance(origin, priced(), c.f).Unseen); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
}

// The memory of jobs that nobody hears of is bounded; those that were missed
// first are forgotten first.
func TestTheJobsThatWereMissedFirstAreForgottenFirst(t *testing.T) {
	f := Facts{Snapshot: Snapshot{Position{1, 5}, origin}, Groups: []Group{{Partitions: []string{"local"}, Count: 9}}}
	for i := range maxUnseen + 10 {
		f.Memory.Unseen = append(f.Memory.Unseen, UnseenJob{ID: fmt.Sprintf("%05d", i), ListedIn: "htc-part", At: origin.Add(-time.Duration(i) * time.Second)})
	}
	got := advance(origin, priced(), f).Unseen
	if len(got) != maxUnseen || got[0].ID != "00000" || got[maxUnseen-1].ID != fmt.Sprintf("%05d", maxUnseen-1) {
		t.Errorf("%d are remembered, from %s to %s", len(got), got[0].ID, got[len(got)-1].ID)
	}
}
