package main

import (
	"strings"
	"testing"
	"time"

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
		"jobs --state held":          {"group abc 40 held - ada - unknown the money is spent", "117"},
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

// Nothing is shown to have cost 0.00 that only has no price; what never ran has.
func TestWhatHasNoPriceIsUnknown(t *testing.T) {
	m, now := tables(t, "onprem"), time.Now()
	err := m.NoteJobs(t.Context(), "onprem", []ledger.Job{
		{ID: "1", Count: 1, State: "running", Nodearray: "free", StartedAt: now},
		{ID: "2", Count: 1, State: "ended", Nodearray: "free", StartedAt: now.Add(-time.Hour), EndedAt: now},
		{ID: "3", Count: 1, State: "ended", Nodearray: "htc", EndedAt: now},
		{ID: "4", Count: 1, State: "shadow", Nodearray: "free", ReleasedAt: now},
		{ID: "5", Count: 1, State: "shadow", Nodearray: "htc", ReleasedAt: now, Cost: 1_500_000},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = m.PutSpend(t.Context(), "onprem", []ledger.Spend{
		{Month: "2026-10", Nodearray: "free", NodeSeconds: 7200, Jobs: 2}, {Month: "2026-11", Nodearray: "htc"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string][]string{
		"jobs":                        {"1 1 running free - - unknown", "2 1 ended free - - unknown", "3 1 ended htc - - 0.00", "5 1 shadow htc - - 1.50"},
		"spend":                       {"2026-10 - free unknown unknown unknown unknown 2.0 2", "2026-11 - htc 0.00 0.00 0.00 0.00 0.0 0"},
		"jobs --state running --json": {`"Cost":null`}, "jobs --state ended --nodearray htc --json": {`"Cost":0`},
		"spend --month 2026-10 --json": {`"Committed":null,"Accrued":null,"BootWaste":null,"IdleWaste":null`}, "spend --month 2026-11 --json": {`"Accrued":0`},
		"shadow report":        {"and 1.50 and what 1 without a price cost", "free 1 0.0 unknown", "htc 1 0.0 1.50"},
		"shadow report --json": {`"name":"free","jobs":1,"nodeHours":0,"unpriced":1`, `"money":1500000,"unpriced":1`},
	} {
		_, out, errs := ctlRun(m, strings.Fields(args)...)
		for _, text := range want {
			if !strings.Contains(strings.Join(strings.Fields(out), " "), text) {
				t.Errorf("%s does not say %q: %s\n%s", args, text, errs, out)
			}
		}
		if strings.Contains(args, "--json") && strings.Count(out, `"Cost"`)+strings.Count(out, `"Accrued"`) > 1 {
			t.Errorf("%s says it twice: %s", args, out)
		}
	}
}
