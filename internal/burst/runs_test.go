package burst

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestExpectedRun(t *testing.T) {
	ada := func(jobs int, run, limit time.Duration) FinishedRuns {
		return FinishedRuns{User: "ada", Account: "chem", Jobs: jobs, Run: run, Limit: limit}
	}
	for name, c := range map[string]struct {
		finished []FinishedRuns
		want     time.Duration // of ten hours
	}{
		"nothing known counts the whole limit":             {nil, 10 * time.Hour},
		"another user's runs say nothing":                  {[]FinishedRuns{{User: "bob", Account: "chem", Jobs: 5, Run: time.Hour, Limit: 10 * time.Hour}}, 10 * time.Hour},
		"another account's runs say nothing":               {[]FinishedRuns{{User: "ada", Account: "bio", Jobs: 5, Run: time.Hour, Limit: 10 * time.Hour}}, 10 * time.Hour},
		"a tenth of the limit was used":                    {[]FinishedRuns{ada(5, time.Hour, 10*time.Hour)}, time.Hour},
		"jobs count, not their length":                     {[]FinishedRuns{ada(3, time.Hour, 10*time.Hour), ada(1, time.Minute, 2*time.Minute)}, 2 * time.Hour},
		"the last hundred jobs outweigh all before":        {[]FinishedRuns{ada(5000, time.Hour, 10*time.Hour), ada(100, 5*time.Hour, 10*time.Hour)}, 5 * time.Hour},
		"fifty jobs move half the mean of many":            {[]FinishedRuns{ada(5000, time.Hour, 10*time.Hour), ada(50, 5*time.Hour, 10*time.Hour)}, 3 * time.Hour},
		"a run past its limit counts as the limit":         {[]FinishedRuns{ada(5, 20*time.Hour, 10*time.Hour)}, 10 * time.Hour},
		"jobs that fail at once count as a hundredth":      {[]FinishedRuns{ada(5, 0, 10*time.Hour)}, 6 * time.Minute},
		"a run that ended before it began is no less":      {[]FinishedRuns{ada(5, -time.Hour, 10*time.Hour)}, 6 * time.Minute},
		"runs without a limit or without jobs say nothing": {[]FinishedRuns{ada(5, time.Hour, 0), ada(0, time.Hour, 10*time.Hour), ada(-3, time.Hour, 10*time.Hour)}, 10 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			m := Memory{}
			for i, finished := range c.finished {
				m = advance(origin, priced(), Facts{Snapshot: Snapshot{Position{1, int64(i + 1)}, origin}, Memory: m, Finished: []FinishedRuns{finished}})
			}
			if got := m.expectedRun("chem", "ada", 10*time.Hour); got.Round(time.Second) != c.want {
				t.Errorf("expected to run %s, want %s", got, c.want)
			}
		})
	}
}

func TestTheOwnersOfTheFewestJobsAreForgotten(t *testing.T) {
	var finished []FinishedRuns
	for i := range maxRuns + 10 {
		jobs := 20
		if i%200 == 0 {
			jobs = 3
		}
		finished = append(finished, FinishedRuns{User: fmt.Sprintf("u%05d", i*7919%100_003), Account: "a", Jobs: jobs, Run: time.Minute, Limit: time.Hour})
	}
	runs := learnRuns(nil, finished)
	if len(runs) != maxRuns || !slices.IsSortedFunc(runs, func(a, b RunRatio) int { return cmp.Compare(a.User, b.User) }) {
		t.Fatalf("%d owners are known, not %d in order", len(runs), maxRuns)
	}
	few := 0
	for _, r := range runs {
		if r.Jobs == 3 {
			few++
		}
	}
	if few != 1 {
		t.Errorf("%d owners of three jobs are left of 11, of which 10 had to go", few)
	}
}

// No history makes an expectation that is not within the limit.
func TestAnExpectedRunIsWithinTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var runs []RunRatio
		for range rapid.IntRange(0, 5).Draw(t, "snapshots") {
			runs = learnRuns(runs, rapid.SliceOf(rapid.Custom(func(t *rapid.T) FinishedRuns {
				return FinishedRuns{
					User: rapid.SampledFrom([]string{"", "ada", "bob"}).Draw(t, "user"), Account: rapid.SampledFrom([]string{"", "a"}).Draw(t, "account"),
					Jobs: rapid.Int().Draw(t, "jobs"), Run: time.Duration(rapid.Int64().Draw(t, "run")), Limit: time.Duration(rapid.Int64().Draw(t, "limit")),
				}
			})).Draw(t, "finished"))
		}
		limit := time.Duration(rapid.Int64().Draw(t, "limit"))
		got := Memory{Runs: runs}.expectedRun("a", "ada", limit)
		if limit > 0 && (got > limit || got < limit/100-1) || limit <= 0 && got != unlimitedRun {
			t.Errorf("a job with a limit of %d is expected to run %d", limit, got)
		}
		for _, r := range runs {
			if math.IsNaN(r.Ratio) || r.Ratio < minRunRatio || r.Ratio > maxRunRatio || r.Jobs < 1 || r.Jobs > runWeight {
				t.Errorf("%+v", r)
			}
		}
	})
}
