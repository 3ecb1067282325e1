package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/internal/spool"
)

const (
	// maxSpool is how many hook calls one snapshot tells of.
	maxSpool = 1000
	// settingsEvery is how often partitions and Slurm's configuration, which
	// rarely change, are read.
	settingsEvery = 3 * time.Minute
	// maxEndedAsked bounds the jobs whose end is asked for by id.
	maxEndedAsked = 2000
)

// activeStates are those of jobs that wait for nodes or hold some.
var activeStates = []slurm.JobState{
	slurm.JobPending, slurm.JobConfiguring, slurm.JobRunning, slurm.JobSuspended, slurm.JobCompleting, slurm.JobStopped, slurm.JobResizing,
}

// finishedStates are those of jobs that Slurm remembers for MinJobAge.
var finishedStates = []slurm.JobState{
	slurm.JobCompleted, slurm.JobCancelled, slurm.JobFailed, slurm.JobTimeout, slurm.JobNodeFail, slurm.JobPreempted,
	slurm.JobBootFail, slurm.JobDeadline, slurm.JobOutOfMemory,
}

// reading is one whole look at Slurm.
type reading struct {
	began    time.Time
	counters slurm.Counters
	hooks    spool.Listing
	nodes    []slurm.Node
	jobs     []slurm.Job
	// ran are the jobs of any partition that ended lately.
	ran []slurm.Job
	// gone are jobs that have left the cloud nodes, as Slurm remembers them.
	gone     []slurm.Job
	lastBusy map[slurm.NodeName]time.Time
}

// settings are the parts of Slurm that rarely change.
type settings struct {
	readAt     time.Time
	version    string
	partitions []slurm.Partition
}

// look reads Slurm: hook calls before nodes, so that no node seems to be
// powering up without its call; nodes before jobs, because the other way round
// a job would count as waiting and its node as powering up.
func (t *term) look(ctx context.Context) (reading, error) {
	r := reading{began: t.Clock.Now()}
	var err error
	if r.counters, err = t.Slurm.Gate(ctx); err != nil {
		return r, err
	}
	if r.hooks, err = spool.List(t.Spool, maxSpool); err != nil {
		return r, err
	}
	t.crash(pointListed)
	var dropped int
	if r.nodes, dropped, err = t.Slurm.Nodes(ctx); err != nil {
		return r, err
	}
	t.problems.addDropped("sinfo", dropped, r.began)
	jobs, dropped, err := t.Slurm.Jobs(ctx, slurm.JobQuery{States: slices.Concat(activeStates, ranStates), Expect: t.jobs})
	if err != nil {
		return r, err
	}
	t.jobs = len(jobs)
	r.jobs, r.ran = splitEnded(jobs)
	t.problems.addDropped("squeue", dropped, r.began)
	if err := t.lookBack(ctx, &r); err != nil {
		return r, err
	}
	return r, t.readSettings(ctx, r.began)
}

// lookBack asks what became of the jobs that were on cloud nodes. The first look
// of an agent in charge asks for every job that Slurm remembers, because it does
// not know what its predecessor told.
func (t *term) lookBack(ctx context.Context, r *reading) (err error) {
	if t.accepted == 0 {
		if r.gone, _, err = t.Slurm.Jobs(ctx, slurm.JobQuery{States: finishedStates}); err != nil {
			return err
		}
		r.lastBusy, err = t.Slurm.LastBusy(ctx)
		return err
	}
	// A job may have come and gone since the last look. The counts of another
	// slurmctld tell nothing, and its LastBusyTime is that of its start.
	if r.counters.Since.Equal(t.counters.Since) && r.counters.Started > t.counters.Started {
		if r.lastBusy, err = t.Slurm.LastBusy(ctx); err != nil {
			return err
		}
	}
	missing := t.leftNodes(r.jobs)
	const perCall = 500
	for len(missing) > 0 {
		some := missing[:min(len(missing), perCall)]
		missing = missing[len(some):]
		jobs, _, err := t.Slurm.Jobs(ctx, slurm.JobQuery{Jobs: some})
		if err != nil {
			return err
		}
		r.gone = append(r.gone, jobs...)
	}
	return nil
}

// leftNodes names jobs that held cloud nodes when the last accepted snapshot was
// taken and are not among these, maxEndedAsked at most.
func (t *term) leftNodes(jobs []slurm.Job) []slurm.JobRef {
	left := refsOf(maps.Keys(t.memory.running))
	for i := 0; i < len(jobs) && len(left) > 0; i++ {
		delete(left, jobs[i].Ref())
	}
	missing := slices.Collect(maps.Keys(left))
	return missing[:min(len(missing), maxEndedAsked)]
}

func (t *term) readSettings(ctx context.Context, now time.Time) error {
	if !t.settings.readAt.IsZero() && now.Sub(t.settings.readAt) < settingsEvery {
		return nil
	}
	config, err := t.Slurm.Config(ctx)
	if err != nil {
		return err
	}
	partitions, err := t.Slurm.Partitions(ctx)
	if err != nil {
		return err
	}
	t.settings = settings{readAt: now, version: config.Version, partitions: partitions}
	return nil
}

// snapshot says what was read. It is the only place where Slurm's words become
// those of the message.
func (t *term) snapshot(r reading, otherwise event.Cause) event.QueuePressure {
	now := r.began
	t.memory.reconsider(r.lastBusy, t.lookedAt)
	t.lookedAt = r.began
	t.hooks(r.hooks, now)
	q := event.QueuePressure{
		Cluster: t.Cluster, Epoch: t.charge.Epoch, TakenAt: now.UTC(), Cause: causeOf(r.hooks, otherwise),
		AgentHost: t.Host, AgentVersion: t.Version, SlurmVersion: t.settings.version,
	}
	onNode := t.jobsByNode(r.jobs)
	q.CloudNodes = t.cloudNodes(r, onNode)
	q.PendingJobs, q.Pending, q.Truncated = pendingGroups(r.jobs, now)
	q.Running = t.runningJobs(r.jobs)
	q.Ended = t.endedJobs(q.Running, r)
	q.Finished = t.finishedRuns(r.ran)
	q.Local = t.localPartitions(r.nodes)
	q.Partitions = partitionRules(t.settings.partitions)
	q.CommandResults = t.charge.toRepeat(now)
	q.Problems = append([]event.Problem(nil), t.problems.waiting...)
	return q
}

// restless reports whether cloud nodes are between two power states, or jobs
// wait for a boot: none of that moves the cheap counters.
func (t *term) restless(r reading) bool {
	for i := range r.nodes {
		n := &r.nodes[i]
		if _, ours := t.owner[n.Name]; !ours {
			continue
		}
		moving := n.State.Has(slurm.FlagPoweringUp) || n.State.Has(slurm.FlagPoweringDown) || n.State.Has(slurm.FlagPowerUp) ||
			n.State.Has(slurm.FlagPowerDown) || n.State.Has(slurm.FlagPoweredDown) && isBusy(n.State) || n.State.Has(slurm.FlagCompleting)
		if moving {
			return true
		}
	}
	for i := range r.jobs {
		if r.jobs[i].State == slurm.JobConfiguring {
			return true
		}
	}
	return false
}

// steadyDigest identifies what a snapshot says about the state of things, as
// opposed to what it tells once: a snapshot that differs in it has to be sent.
func steadyDigest(q event.QueuePressure) string {
	q.Ended, q.Problems, q.CommandResults = nil, nil, nil
	return q.Digest()
}

// wrapRead says what a failed look means.
func wrapRead(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read Slurm: %w", err)
}
