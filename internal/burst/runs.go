package burst

import (
	"cmp"
	"math"
	"slices"
	"time"
)

const (
	// runWeight is how many jobs the mean of run to limit remembers.
	runWeight = 100
	// minRunRatio and maxRunRatio bound the mean: jobs that end at once, as
	// those that fail do, must not make every other one look free.
	minRunRatio, maxRunRatio = 0.01, 1
	// maxRuns bounds the owners whose mean is kept.
	maxRuns = 2000
)

func compareOwner(r RunRatio, account, user string) int {
	return cmp.Or(cmp.Compare(r.Account, account), cmp.Compare(r.User, user))
}

// expectedRun is how long a job of the owner with this limit is likely to run.
// A limit of 0 is UNLIMITED.
func (m Memory) expectedRun(account, user string, limit time.Duration) time.Duration {
	if limit <= 0 {
		return unlimitedRun
	}
	i, known := slices.BinarySearchFunc(m.Runs, user, func(r RunRatio, user string) int { return compareOwner(r, account, user) })
	if !known || m.Runs[i].Ratio >= maxRunRatio {
		return limit
	}
	return time.Duration(float64(limit) * m.Runs[i].Ratio)
}

// learnRuns takes finished jobs into the means of their owners.
func learnRuns(runs []RunRatio, finished []FinishedRuns) []RunRatio {
	for _, f := range finished {
		if f.Jobs <= 0 || f.Limit <= 0 {
			continue
		}
		ratio := clampRatio(float64(f.Run) / float64(f.Limit))
		i, known := slices.BinarySearchFunc(runs, f.User, func(r RunRatio, user string) int { return compareOwner(r, f.Account, user) })
		if !known {
			runs = slices.Insert(runs, i, RunRatio{Account: f.Account, User: f.User})
		}
		r := &runs[i]
		newest := min(f.Jobs, runWeight)
		before := min(max(r.Jobs, 0), runWeight-newest)
		r.Jobs = before + newest
		r.Ratio = clampRatio((clampRatio(r.Ratio)*float64(before) + ratio*float64(newest)) / float64(r.Jobs))
	}
	return boundRuns(runs)
}

// boundRuns drops the owners of the fewest jobs where there are too many.
func boundRuns(runs []RunRatio) []RunRatio {
	if len(runs) <= maxRuns {
		return runs
	}
	slices.SortStableFunc(runs, func(a, b RunRatio) int { return cmp.Compare(b.Jobs, a.Jobs) })
	runs = runs[:maxRuns]
	slices.SortFunc(runs, func(a, b RunRatio) int { return compareOwner(a, b.Account, b.User) })
	return runs
}

func clampRatio(r float64) float64 {
	if math.IsNaN(r) {
		return maxRunRatio
	}
	return min(max(r, minRunRatio), maxRunRatio)
}
