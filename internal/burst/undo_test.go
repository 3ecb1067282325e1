package burst

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCommandsThatDidNotFitLeaveTheMemoryAsItWas(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	before := Memory{
		Jobs:    []CloudJob{{ID: "2", Nodearray: "hpc", StartedAt: at.Add(-time.Hour)}, {ID: "3", Nodearray: "htc"}},
		Noticed: []Noticed{{Job: "8", Code: ReasonPaused}},
		Gated:   []string{"a", "b"},
	}
	after := Memory{
		Jobs:    []CloudJob{{ID: "1", Nodearray: "htc"}, {ID: "2", Nodearray: "hpc", RevokedAt: at}, {ID: "4", Nodearray: "htc"}},
		Noticed: []Noticed{{Job: "8", Code: ReasonStale}, {Job: "9", Code: ReasonStale}},
		Notices: 2,
		Gated:   []string{"a", "c"},
	}
	left := []Command{
		{Kind: RevokeJobs, Jobs: []string{"2"}},
		{Kind: ReleaseJobs, Jobs: []string{"4"}},
		{Kind: NoticeJobs, Jobs: []string{"8", "9"}},
		{Kind: BeginNow, Jobs: []string{"1"}},
		{Kind: GatePartition, Partition: "b", Up: true},
	}
	want := Memory{
		Jobs:    []CloudJob{{ID: "1", Nodearray: "htc"}, {ID: "2", Nodearray: "hpc"}},
		Noticed: before.Noticed,
		Notices: 2,
		Gated:   []string{"a", "b", "c"},
	}
	if diff := cmp.Diff(want, after.Without(before, left)); diff != "" {
		t.Errorf("the memory of what was committed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(after, after.Without(before, nil)); diff != "" {
		t.Errorf("the memory of a plan that fitted (-want +got):\n%s", diff)
	}
}
