package agent

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// maxGroups bounds the groups of one snapshot. Users can make every job differ
// from every other; beyond this the youngest groups are left out, and the count
// of all jobs still says how many there are.
const maxGroups = 20_000

// maxWordBytes bounds a text of a group.
const maxWordBytes = 200

// pendingKey is what the jobs of a group have in common.
type pendingKey struct {
	partitions, user, account, qos, reason, description, features string
	nodes, cpus, gpus                                             int
	memory                                                        int64
	limit                                                         slurm.TimeLimit
	begin                                                         int64
	nodeList, batch, requeue, restarted                           bool
}

// pendingGroups groups the waiting jobs, each task of an array counted as one.
func pendingGroups(jobs []slurm.Job, now time.Time) (count int, groups []event.PendingGroup, truncated bool) {
	waiting := waitingJobs(jobs)
	index := map[pendingKey]int{}
	var key pendingKey // of the job before: jobs that are alike often come together
	at := -1           // its group, if it has one
	for _, w := range waiting {
		if next := keyOf(w.job, now); at < 0 || next != key {
			known := false
			key = next
			if at, known = index[key]; !known {
				at = -1
			}
		}
		if at < 0 && len(groups) < maxGroups {
			at = len(groups)
			index[key] = at
			groups = append(groups, groupOf(key, w.job))
		}
		if at < 0 {
			truncated = true
			continue
		}
		addTo(&groups[at], w.job)
	}
	return len(waiting), groups, truncated
}

// waitingJob is a job and when it was submitted, in seconds since 1970, which is
// as exact as Slurm is.
type waitingJob struct {
	submitted int64
	job       *slurm.Job
}

// waitingJobs gives the jobs that wait, the oldest first.
func waitingJobs(jobs []slurm.Job) []waitingJob {
	waiting := make([]waitingJob, 0, len(jobs))
	for i := range jobs {
		if jobs[i].State == slurm.JobPending {
			waiting = append(waiting, waitingJob{submitted: jobs[i].Submitted.Unix(), job: &jobs[i]})
		}
	}
	slices.SortFunc(waiting, func(a, b waitingJob) int {
		if order := cmp.Compare(a.submitted, b.submitted); order != 0 {
			return order
		}
		return cmp.Or(cmp.Compare(a.job.ID, b.job.ID), cmp.Compare(a.job.Task, b.job.Task))
	})
	return waiting
}

// addTo counts the job, the youngest so far, into its group.
func addTo(g *event.PendingGroup, job *slurm.Job) {
	g.Count++
	g.NewestSubmit = job.Submitted
	g.HighestPriority = max(g.HighestPriority, int64(job.Priority))
	if !job.Started.IsZero() {
		if start := job.Started.UTC().Truncate(time.Minute); g.ExpectedStart.IsZero() || start.Before(g.ExpectedStart) {
			g.ExpectedStart = start
		}
	}
	if len(g.Jobs) < event.MaxGroupIDs {
		g.Jobs = append(g.Jobs, jobID(job.Ref()))
	}
}

func keyOf(job *slurm.Job, now time.Time) pendingKey {
	key := pendingKey{
		partitions: joinPartitions(job.Partitions), user: string(job.User), account: string(job.Account), qos: string(job.QOS),
		reason: job.Reason, description: job.Description, features: job.Features,
		nodes: job.NodeCount, cpus: job.CPUs, gpus: job.GPUs, memory: memoryOf(job), limit: job.TimeLimit,
		nodeList: job.RequiresNodes, batch: job.IsBatch, requeue: job.Requeue, restarted: job.Restarts > 0,
	}
	if job.Eligible.After(now) {
		key.begin = job.Eligible.Unix()
	}
	return key
}

// memoryOf is what the whole job needs. Where Slurm gives no sum, what was asked
// counts once per node, the least that it can mean.
func memoryOf(job *slurm.Job) int64 {
	if job.TotalMemoryMB > 0 {
		return job.TotalMemoryMB
	}
	return job.MinMemoryMB * int64(max(job.NodeCount, 1))
}

func joinPartitions(names []slurm.PartitionName) string {
	if len(names) == 1 {
		return string(names[0])
	}
	words := make([]string, len(names))
	for i, name := range names {
		words[i] = string(name)
	}
	return strings.Join(words, ",")
}

func groupOf(key pendingKey, oldest *slurm.Job) event.PendingGroup {
	g := event.PendingGroup{
		User: bounded(key.user, maxWordBytes), Account: bounded(key.account, maxWordBytes), QOS: bounded(key.qos, maxWordBytes),
		StateReason: bounded(key.reason, maxWordBytes), Description: bounded(key.description, maxWordBytes),
		Nodes: key.nodes, CPUs: key.cpus, MemoryMiB: key.memory, GPUs: key.gpus, TimeLimitSeconds: limitSeconds(key.limit),
		Features: bounded(key.features, maxWordBytes), NodeList: key.nodeList, Batch: key.batch, Requeue: key.requeue, Restarted: key.restarted,
		OldestSubmit: oldest.Submitted,
	}
	for _, name := range oldest.Partitions {
		g.Partitions = append(g.Partitions, string(name))
	}
	if key.begin != 0 {
		g.BeginTime = time.Unix(key.begin, 0).UTC()
	}
	return g
}

// cloudPart gives the nodes of a job that are in the allow-list.
func (a *Agent) cloudPart(job *slurm.Job) []slurm.NodeName {
	var names []slurm.NodeName
	for _, name := range job.Nodes {
		if _, ours := a.owner[name]; ours {
			names = append(names, name)
		}
	}
	return names
}

// runningJobs lists the jobs that hold cloud nodes, configuring ones too.
func (a *Agent) runningJobs(jobs []slurm.Job) []event.RunningJob {
	var out []event.RunningJob
	for i := range jobs {
		job := &jobs[i]
		if job.State == slurm.JobPending || job.State.IsFinished() {
			continue
		}
		if len(a.cloudPart(job)) == 0 {
			continue
		}
		out = append(out, event.RunningJob{
			ID: jobID(job.Ref()), User: bounded(string(job.User), maxWordBytes), Account: bounded(string(job.Account), maxWordBytes),
			QOS: bounded(string(job.QOS), maxWordBytes), Partition: joinPartitions(job.Partitions), State: string(job.State),
			Nodes: slurm.FormatHostlist(job.Nodes), NodeCount: len(job.Nodes),
			Start: job.Started, TimeLimitSeconds: limitSeconds(job.TimeLimit), Batch: job.IsBatch, Requeue: job.Requeue,
		})
	}
	slices.SortFunc(out, func(a, b event.RunningJob) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

const (
	// endUnknown is the end of a job that Slurm no longer remembers.
	endUnknown = "UNKNOWN"
	// endRequeued is that of a job that waits again.
	endRequeued = string(slurm.JobRequeued)
)

// endedJobs lists the jobs that left the cloud nodes since the last accepted
// snapshot. The first snapshot of an agent in charge names all that Slurm
// remembers: telling an end twice does no harm, not telling it does.
func (t *term) endedJobs(running []event.RunningJob, r reading) []event.EndedJob {
	ended := map[event.JobID]event.EndedJob{}
	for id, job := range t.memory.running {
		ended[id] = event.EndedJob{ID: id, State: endUnknown, Nodes: job.Nodes}
	}
	for i := range r.gone {
		job := &r.gone[i]
		id := jobID(job.Ref())
		_, was := ended[id]
		switch {
		case !was && (t.accepted > 0 || len(t.cloudPart(job)) == 0):
		case job.State.IsFinished():
			ended[id] = event.EndedJob{ID: id, State: string(job.State), Nodes: slurm.FormatHostlist(job.Nodes), End: job.Ended}
		}
	}
	were := refsOf(maps.Keys(ended))
	for i := 0; i < len(r.jobs) && len(were) > 0; i++ {
		if r.jobs[i].State != slurm.JobPending {
			continue
		}
		if id, was := were[r.jobs[i].Ref()]; was {
			job := ended[id]
			job.State = endRequeued
			ended[id] = job
		}
	}
	for _, job := range running {
		delete(ended, job.ID)
	}
	out := make([]event.EndedJob, 0, len(ended))
	for _, job := range ended {
		out = append(out, job)
	}
	slices.SortFunc(out, func(a, b event.EndedJob) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
