package burst

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSpentSumsBooksAndOpenCommitments(t *testing.T) {
	now := time.Date(2026, 11, 1, 9, 30, 0, 0, time.UTC)
	november, october := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	m := Memory{
		Books: []Book{
			{Period: Day, From: november, Account: "bio", Nodearray: "htc", Settled: 1},
			{Period: Month, From: october, Account: "bio", Nodearray: "htc", Settled: 40, NodeTime: time.Hour, JobsSettled: 3},
			{Period: Month, From: november, Nodearray: "htc", BootWaste: 5, IdleWaste: 6, WastedTime: time.Minute},
		},
		Jobs: []CloudJob{
			{ID: "1", Account: "bio", Nodearray: "htc", Committed: 100, CommittedAt: november.Add(-time.Hour)},
			{ID: "2", Account: "bio", Nodearray: "htc", Committed: 7, CommittedAt: november.Add(time.Hour)},
			{ID: "3", Account: "bio", Nodearray: "htc", Committed: 9, CommittedAt: november.Add(2 * time.Hour)},
			{ID: "4", Account: "bio", Nodearray: "htc", Committed: 1000, CommittedAt: november, Shadow: true},
			{ID: "5", Account: "bio", Nodearray: "hpc", CommittedAt: november},
		},
	}
	want := []Spend{
		{From: october, Account: "bio", Nodearray: "htc", Committed: 100, Settled: 40, NodeTime: time.Hour, Jobs: 3},
		{From: november, Nodearray: "htc", BootWaste: 5, IdleWaste: 6, WastedTime: time.Minute},
		{From: november, Account: "bio", Nodearray: "htc", Committed: 16},
	}
	got := m.Spent(Month, now, nil)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("by month (-want +got):\n%s", diff)
	}
	if total := got[0].Total(); total != 140 {
		t.Errorf("the total of October is %d", total)
	}
}

func TestAJobCostsWhatItRan(t *testing.T) {
	began := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	j := CloudJob{Nodes: 2, Rate: 3_000_000, StartedAt: began}
	if got := j.Ran(began.Add(30 * time.Minute)); got != 3_000_000 {
		t.Errorf("half an hour on two nodes costs %d", got)
	}
	if got := j.Ran(began.Add(-time.Minute)); got != 0 {
		t.Errorf("before it started it costs %d", got)
	}
	j.StartedAt = time.Time{}
	if got := j.Ran(began); got != 0 {
		t.Errorf("a job that waits costs %d", got)
	}
}
