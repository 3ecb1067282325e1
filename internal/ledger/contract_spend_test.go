package ledger_test

import (
	"fmt"
	"testing"

	"github.com/slurmburst/slurmburst/internal/ledger"
)

func groups(t *testing.T, w world) {
	ctx := t.Context()
	var rows []ledger.Job
	for n := range 5 {
		rows = append(rows, ledger.Job{Cluster: "c1", ID: fmt.Sprintf("g|%d", n), Group: true, Count: n + 1, State: "held", ReasonCode: "x", Revision: int64(10 + n)})
	}
	written, conflicted, err := w.PutJobs(ctx, "c1", append(rows, ledger.Job{ID: "117", Revision: 99}, ledger.Job{ID: "group", Revision: 99}))
	if err != nil || len(conflicted) > 0 {
		t.Fatal(conflicted, err)
	}
	if _, _, err := w.PutJobs(ctx, "c2", rows); err != nil {
		t.Fatal(err)
	}
	all, err := w.Groups(ctx, "c1", 0)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "all groups", all, rows)
	newer, err := w.Groups(ctx, "c1", 13)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "groups since revision 13", newer, rows[3:])

	changed := all[1]
	changed.Count = 50
	if _, conflicted, err := w.PutJobs(ctx, "c1", []ledger.Job{changed}); err != nil || len(conflicted) > 0 {
		t.Fatal(conflicted, err)
	}
	if conflicted, err := w.DeleteGroups(ctx, "c1", written[:1]); err != nil || len(conflicted) > 0 {
		t.Fatal(conflicted, err)
	}
	// The first is gone, the second has another version by now.
	conflicted, err = w.DeleteGroups(ctx, "c1", all[:3])
	if err != nil {
		t.Fatal(err)
	}
	same(t, "conflicts", conflicted, []string{"g|1"})
	left, err := w.Groups(ctx, "c1", 0)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "what is left", left, []ledger.Job{changed, rows[3], rows[4]})
}

func notedJobs(t *testing.T, w world) {
	ctx := t.Context()
	for _, job := range []ledger.Job{
		{ID: "7", Count: 1, State: "released", Partition: "batch", Nodearray: "htc", User: "eva", ReasonCode: "released", Reason: "why", ReleasedAt: moment(1), SubmittedAt: moment(0), Cost: 70},
		{ID: "7", Count: 1, State: "running", Nodearray: "htc", Nodes: "htc-1", StartedAt: moment(2), Cost: 70},
		{ID: "7", Count: 1, State: "ended", Nodearray: "htc", EndedAt: moment(3), Cost: 12, Revision: 4},
	} {
		for range 2 {
			if err := w.NoteJobs(ctx, "c1", []ledger.Job{job}); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := w.Jobs(ctx, "c1")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the job", got, []ledger.Job{{
		Cluster: "c1", ID: "7", Count: 1, State: "ended", Partition: "batch", Nodearray: "htc", Nodes: "htc-1", User: "eva", ReasonCode: "released", Reason: "why",
		ReleasedAt: moment(1), SubmittedAt: moment(0), StartedAt: moment(2), EndedAt: moment(3), Cost: 12, Revision: 4,
	}})
}

func spend(t *testing.T, w world) {
	ctx := t.Context()
	row := func(month, account, array string, committed int64) ledger.Spend {
		return ledger.Spend{Cluster: "c1", Month: month, Account: account, Nodearray: array, Committed: committed, Accrued: 5, Jobs: 2, UpdatedAt: moment(1)}
	}
	first := []ledger.Spend{row("2026-11", "bio/2", "htc", 7), row("2026-10", "", "htc", 1), row("2026-11", "", "hpc", 3)}
	if err := w.PutSpend(ctx, "c1", first); err != nil {
		t.Fatal(err)
	}
	first[0].Committed = 0
	if err := w.PutSpend(ctx, "c1", first[:1]); err != nil {
		t.Fatal(err)
	}
	if err := w.PutSpend(ctx, "c1x", first[1:]); err != nil {
		t.Fatal(err)
	}
	got, next, err := w.ListSpend(ctx, ledger.SpendFilter{Cluster: "c1"}, ledger.Page{})
	if err != nil || next != "" {
		t.Fatal(next, err)
	}
	same(t, "spend", got, []ledger.Spend{first[1], first[0], first[2]})
	got, _, err = w.ListSpend(ctx, ledger.SpendFilter{Cluster: "c1", Month: "2026-11", Account: "bio/2"}, ledger.Page{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "spend of one account in a month", got, first[:1])
}
