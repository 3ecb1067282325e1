package reconcile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// Bounds of what a snapshot may say about jobs. Users choose their jobs' shapes
// and names; no number of theirs may overflow a sum of ours.
const (
	maxGroups = 20_000
	maxNodes  = 1_000_000
	maxCPUs   = 1_000_000_000
	maxMiB    = 1 << 40
	maxJobs   = 100_000_000
	maxSpan   = 10 * 365 * 24 * time.Hour
	maxWord   = 256 // bytes of a name
)

func within[N int | int64](n, low, high N) N { return min(max(n, low), high) }

// word bounds a name or a text of somebody else's.
func word(text string) string {
	if len(text) <= maxWord {
		return text
	}
	return strings.ToValidUTF8(text[:maxWord], "")
}

// span is a number of seconds; 0 for none and for what cannot be.
func span(seconds int64) time.Duration {
	return time.Duration(within(seconds, 0, int64(maxSpan/time.Second))) * time.Second
}

// moment is a time of the head node's clock in the cloud's; no time stays none.
func (v view) moment(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	at := v.cloudTime(t)
	switch earliest, latest := v.takenAt.Add(-maxSpan), v.takenAt.Add(maxSpan); {
	case at.Before(earliest):
		return earliest
	case at.After(latest):
		return latest
	}
	return at
}

// past is a moment that cannot be later than the snapshot.
func (v view) past(t time.Time) time.Time {
	if at := v.moment(t); !at.IsZero() && at.Before(v.takenAt) {
		return at
	}
	return v.takenAt
}

// addQueue adds to the facts what the snapshot says about jobs and partitions.
func (v view) addQueue(f *burst.Facts, policy burst.Policy, owner func(burst.NodeName) (burst.NodearrayName, bool)) {
	f.Groups = v.groups(policy)
	f.Running = v.running(policy, owner)
	for _, j := range v.pressure.Ended {
		ended := burst.EndedJob{ID: string(j.ID), EndedAt: v.moment(j.End), Requeued: j.State == string(slurm.JobRequeued)}
		if ended.EndedAt.After(v.takenAt) {
			ended.EndedAt = v.takenAt
		}
		f.Ended = append(f.Ended, ended)
	}
	slices.SortFunc(f.Ended, func(a, b burst.EndedJob) int { return cmp.Compare(a.ID, b.ID) })
	for _, l := range v.pressure.Local {
		f.Local = append(f.Local, burst.LocalPartition{
			Name: l.Name, Nodes: within(l.Nodes, 0, maxNodes), IdleNodes: within(l.IdleNodes, 0, maxNodes), DownNodes: within(l.DownNodes, 0, maxNodes),
		})
	}
	slices.SortFunc(f.Local, func(a, b burst.LocalPartition) int { return cmp.Compare(a.Name, b.Name) })
	for _, q := range v.pressure.Partitions {
		f.Partitions = append(f.Partitions, burst.Partition{
			Name: q.Name, Up: strings.EqualFold(q.State, "UP"), MaxTime: span(q.MaxTimeSeconds), MaxNodes: within(q.MaxNodes, 0, maxNodes),
			AllowAccounts: allowed(q.AllowAccounts), AllowQOS: allowed(q.AllowQOS), AllowGroups: allowed(q.AllowGroups),
		})
	}
	for _, r := range v.pressure.Finished[:min(len(v.pressure.Finished), event.MaxFinished)] {
		f.Finished = append(f.Finished, finished(r))
	}
	slices.SortFunc(f.Partitions, func(a, b burst.Partition) int { return cmp.Compare(a.Name, b.Name) })
}

// allowed reads one of Slurm's lists; nil for everybody.
func allowed(list string) []string {
	switch list {
	case "", "ALL", "(null)", "N/A":
		return nil
	}
	return strings.Split(list, ",")
}

// finished translates the runs of an owner's jobs. Where so many ended that
// their time limits add up to more than a duration holds, both sums shrink: what
// counts is their ratio.
func finished(r event.FinishedRuns) burst.FinishedRuns {
	const most = int64(maxSpan / time.Second)
	run, limit := max(r.RunSeconds, 0), max(r.LimitSeconds, 0)
	if limit > most {
		parts := limit/most + 1
		run, limit = run/parts, limit/parts
	}
	return burst.FinishedRuns{User: word(r.User), Account: word(r.Account), Jobs: within(r.Jobs, 0, maxJobs), Run: span(run), Limit: span(limit)}
}

// groups translates the waiting jobs, those that wait longest first.
func (v view) groups(policy burst.Policy) []burst.Group {
	cloud := map[string]bool{}
	for _, array := range policy.Nodearrays {
		cloud[array.Partition] = true
	}
	released := func(e event.PendingGroup) bool {
		return slices.ContainsFunc(e.Partitions, func(name string) bool { return cloud[name] })
	}
	pending := slices.Clone(v.pressure.Pending)
	slices.SortStableFunc(pending, func(a, b event.PendingGroup) int {
		switch {
		case released(a) == released(b):
			return 0
		case released(a):
			return 1 // jobs that stay keep their name while others of them go
		}
		return -1
	})
	var groups []burst.Group
	taken := map[string]bool{}
	for i := range pending {
		e := &pending[i]
		if e.Count <= 0 && len(e.Jobs) == 0 {
			continue
		}
		g := v.group(e)
		short, whole := keysOf(e, cloud)
		g.Key = short
		if taken[short] || e.Restarted || !e.BeginTime.IsZero() {
			g.Key = whole
		}
		for n, first := 2, g.Key; taken[g.Key]; n++ {
			g.Key = fmt.Sprintf("%s-%d", first, n)
		}
		taken[g.Key] = true
		groups = append(groups, g)
	}
	slices.SortStableFunc(groups, func(a, b burst.Group) int {
		return cmp.Or(a.OldestSubmit.Compare(b.OldestSubmit), cmp.Compare(a.Key, b.Key))
	})
	return groups[:min(len(groups), maxGroups)]
}

func (v view) group(e *event.PendingGroup) burst.Group {
	g := burst.Group{
		Partitions: slices.Clone(e.Partitions), User: word(e.User), Account: word(e.Account), QOS: word(e.QOS),
		StateReason: word(e.StateReason), Description: word(e.Description), Features: word(e.Features),
		Nodes: within(e.Nodes, 1, maxNodes), CPUs: within(e.CPUs, 0, maxCPUs), MemoryMiB: within(e.MemoryMiB, 0, maxMiB), GPUs: within(e.GPUs, 0, maxCPUs),
		TimeLimit: span(e.TimeLimitSeconds), NodeList: e.NodeList, Batch: e.Batch, Requeue: e.Requeue, Restarted: e.Restarted,
		BeginTime: v.moment(e.BeginTime), ExpectedStart: v.moment(e.ExpectedStart), Count: within(max(e.Count, len(e.Jobs)), 1, maxJobs),
		OldestSubmit: v.past(e.OldestSubmit), NewestSubmit: v.past(e.NewestSubmit), Priority: e.HighestPriority,
	}
	for _, id := range e.Jobs {
		g.Jobs = append(g.Jobs, string(id))
	}
	return g
}

// keysOf names a group by what its jobs are like, so that it keeps its name
// while jobs come and go. A release adds our partitions and must not change the
// short name. Where two groups would have one, the second takes the whole name.
func keysOf(e *event.PendingGroup, cloud map[string]bool) (short, whole string) {
	sum := sha256.New()
	for _, name := range e.Partitions {
		if !cloud[name] {
			add(sum, name)
		}
	}
	add(sum, "", e.User, e.Account, e.QOS, e.StateReason, e.Features)
	fmt.Fprint(sum, e.Nodes, e.CPUs, e.MemoryMiB, e.GPUs, e.TimeLimitSeconds, e.NodeList, e.Batch, e.Requeue)
	short = hex.EncodeToString(sum.Sum(nil)[:8])
	add(sum, e.Partitions...)
	add(sum, "", e.Description)
	fmt.Fprint(sum, e.Restarted, !e.BeginTime.IsZero())
	return short, hex.EncodeToString(sum.Sum(nil)[:8])
}

func add(sum hash.Hash, words ...string) {
	for _, w := range words {
		fmt.Fprintf(sum, "%d:%s", len(w), w)
	}
}

// running translates the jobs on cloud nodes. Those that hold none of the
// policy's nodes are nobody's business here.
func (v view) running(policy burst.Policy, owner func(burst.NodeName) (burst.NodearrayName, bool)) []burst.RunningJob {
	var jobs []burst.RunningJob
	for i := range v.pressure.Running {
		e := &v.pressure.Running[i]
		j := burst.RunningJob{
			ID: string(e.ID), User: word(e.User), Account: word(e.Account), Configuring: e.State == string(slurm.JobConfiguring),
			TimeLimit: span(e.TimeLimitSeconds),
		}
		if !e.Start.IsZero() || !j.Configuring {
			j.StartedAt = v.past(e.Start)
		}
		j.Nodearray, j.Nodes = v.holds(e, policy, owner)
		if j.Nodes > 0 {
			jobs = append(jobs, j)
		}
	}
	slices.SortFunc(jobs, func(a, b burst.RunningJob) int { return cmp.Compare(a.ID, b.ID) })
	return jobs
}

// holds tells how many cloud nodes a job holds and where. A list that cannot be
// read leaves the job's partition to say it.
func (v view) holds(e *event.RunningJob, policy burst.Policy, owner func(burst.NodeName) (burst.NodearrayName, bool)) (burst.NodearrayName, int) {
	var array burst.NodearrayName
	count := 0
	names, err := slurm.ParseHostlist(e.Nodes)
	for _, name := range names {
		if of, ours := owner(burst.NodeName(name)); ours {
			if count == 0 {
				array = of
			}
			count++
		}
	}
	if err != nil {
		for _, a := range policy.Nodearrays {
			if a.Partition == e.Partition {
				return a.Name, within(e.NodeCount, 1, len(a.Nodes))
			}
		}
	}
	return array, count
}
