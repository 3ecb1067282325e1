package main

import (
	"strings"
	"testing"

	"github.com/slurmburst/slurmburst/internal/ledger"
)

func TestJobsAndSpendAreShown(t *testing.T) {
	m := tables(t, "onprem")
	err := m.NoteJobs(t.Context(), "onprem", []ledger.Job{
		{ID: "117", Count: 1, State: "running", Nodearray: "htc", User: "eva", Account: "bio", Cost: 2_500_000, Reason: "released\x1b"},
		{ID: "abc", Group: true, Count: 40, State: "held", User: "ada", ReasonCode: "budget_hard", Reason: "the money is spent"},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = m.PutSpend(t.Context(), "onprem", []ledger.Spend{
		{Month: "2026-10", Account: "bio", Nodearray: "htc", Accrued: 1_000_000},
		{Month: "2026-11", Nodearray: "htc", BootWaste: 250_000, NodeSeconds: 5400},
	})
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]struct{ shows, hides string }{
		"jobs":                       {"117 1 running htc eva bio 2.50 released", "\x1b"},
		"jobs --state held":          {"group abc 40 held - ada - 0.00 the money is spent", "117"},
		"jobs --reason budget_hard":  {"group abc", "117"},
		"spend":                      {"2026-10 bio htc 0.00 1.00 0.00 0.00 0.0 0", "\x1b"},
		"spend --month 2026-11":      {"2026-11 - htc 0.00 0.00 0.25 0.00 1.5 0", "2026-10"},
		"spend --account bio --json": {`"Month":"2026-10"`, "2026-11"},
	} {
		code, out, errs := ctlRun(m, strings.Fields(args)...)
		flattened := strings.Join(strings.Fields(out), " ")
		if code != 0 || !strings.Contains(flattened, want.shows) || strings.Contains(out, want.hides) {
			t.Errorf("%s: exit %d, %s\n%s", args, code, errs, out)
		}
	}
	if code, _, errs := ctlRun(m, "spend", "--month", "November"); code == 0 || !strings.Contains(errs, "--month") {
		t.Errorf("a month that is none: exit %d, %s", code, errs)
	}
}
