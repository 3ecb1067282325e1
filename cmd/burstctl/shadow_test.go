package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/slurmburst/slurmburst/internal/ledger"
)

func TestTheShadowReportSumsWhatWouldHaveBeenBought(t *testing.T) {
	m, now := tables(t, "onprem"), time.Now()
	job := func(id, account, array, state string, nodes int, limit, cost int64, ago time.Duration) ledger.Job {
		return ledger.Job{
			ID: id, Count: 1, State: state, Account: account, Nodearray: array, NodeCount: nodes, LimitSeconds: limit, Cost: cost, ReleasedAt: now.Add(-ago),
		}
	}
	err := m.NoteJobs(t.Context(), "onprem", []ledger.Job{
		job("1", "bio", "htc", "shadow", 2, 1800, 3_000_000, time.Hour),
		job("2", "bio", "hpc", "shadow", 4, 3600, 40_000_000, time.Hour),
		job("3", "", "htc", "shadow", 1, 0, 500_000, time.Hour),
		job("4", "bio", "htc", "shadow", 9, 3600, 90_000_000, 3*time.Hour), // too long ago
		job("5", "bio", "htc", "running", 9, 3600, 90_000_000, time.Hour),
		{ID: "s", Group: true, Count: 9, State: "shadow", ReleasedAt: now, Cost: 7},
		{ID: "a", Group: true, Count: 70, State: "held", ReasonCode: "budget_spent", Reason: "the month's money is spent"},
		{ID: "b", Group: true, Count: 5, State: "held", ReasonCode: "too_short", Reason: "shorter than a boot"},
		{ID: "c", Group: true, Count: 2, State: "held", ReasonCode: "budget_spent", Reason: "the month's money is spent"},
	})
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := ctlRun(m, "--json", "shadow", "report", "--since", "2h")
	var got shadowReport
	if err := json.Unmarshal([]byte(stdout), &got); code != 0 || err != nil {
		t.Fatalf("exit %d, %v\n%s%s", code, err, stdout, stderr)
	}
	want := shadowReport{
		Cluster: "onprem", purchase: purchase{Jobs: 3, NodeHours: 5, Money: 43_500_000, Unlimited: 1},
		Nodearrays: []purchase{{Name: "hpc", Jobs: 1, NodeHours: 4, Money: 40_000_000}, {Name: "htc", Jobs: 2, NodeHours: 1, Money: 3_500_000, Unlimited: 1}},
		Accounts:   []purchase{{Name: "bio", Jobs: 2, NodeHours: 5, Money: 43_000_000}, {Name: "(none)", Jobs: 1, Money: 500_000, Unlimited: 1}},
		Held: []heldFor{
			{Code: "budget_spent", Groups: 2, Jobs: 72, Reason: "the month's money is spent"},
			{Code: "too_short", Groups: 1, Jobs: 5, Reason: "shorter than a boot"},
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(shadowReport{}), cmpopts.IgnoreFields(shadowReport{}, "Since")); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if _, stdout, _ = ctlRun(m, "shadow", "report"); !strings.Contains(stdout, "4 jobs would have been released, for at most 14.0 node-hours and 133.5") ||
		!strings.Contains(stdout, "the month's money is spent") {
		t.Errorf("the report reads\n%s", stdout)
	}
	if code, _, stderr = ctlRun(m, "shadow", "report", "--since", "-1h"); code == 0 || !strings.Contains(stderr, "--since") {
		t.Errorf("a time to come: exit %d, %s", code, stderr)
	}
}

func TestAnEmptyShadowReportHasEmptyLists(t *testing.T) {
	_, stdout, _ := ctlRun(tables(t, "onprem"), "--json", "shadow", "report")
	if !strings.Contains(stdout, `"nodearrays":[],"accounts":[],"held":[]`) {
		t.Errorf("the report is %s", stdout)
	}
}
