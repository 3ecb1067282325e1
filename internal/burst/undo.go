package burst

import (
	"cmp"
	"slices"
	"time"
)

// Without gives the memory as it has to be where commands of the plan did not
// fit the commit: what they are about stays as it was before the decision, so
// that the next one makes them again.
func (m Memory) Without(before Memory, left []Command) Memory {
	moved, told, gated := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, c := range left {
		for _, job := range c.Jobs {
			switch c.Kind {
			case ReleaseJobs, RevokeJobs:
				moved[job] = true
			case NoticeJobs:
				told[job] = true
			case FenceNodes, UnfenceNodes, PowerDownASAP, AbortBoot, BeginNow, PowerDown, PowerDownDone, GatePartition:
			}
		}
		if c.Kind == GatePartition {
			gated[c.Partition] = true
		}
	}
	m.Jobs = restore(m.Jobs, before.Jobs, moved, func(j CloudJob) string { return j.ID })
	for i := range m.Jobs {
		if j := &m.Jobs[i]; moved[j.ID] {
			// It waits now; a run that it made before was settled in this plan,
			// and must not be settled again.
			j.StartedAt, j.MissingAt = time.Time{}, Position{}
		}
	}
	m.Noticed = restore(m.Noticed, before.Noticed, told, func(n Noticed) string { return n.Job })
	m.Gated = restore(m.Gated, before.Gated, gated, func(partition string) string { return partition })
	return m
}

// restore takes the entries of the given ids from before.
func restore[T any](now, before []T, ids map[string]bool, id func(T) string) []T {
	if len(ids) == 0 {
		return now
	}
	var kept []T
	for _, x := range now {
		if !ids[id(x)] {
			kept = append(kept, x)
		}
	}
	for _, x := range before {
		if ids[id(x)] {
			kept = append(kept, x)
		}
	}
	slices.SortFunc(kept, func(a, b T) int { return cmp.Compare(id(a), id(b)) })
	return kept
}
