package agent

import (
	"context"
	"slices"
	"strings"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// jobTargets gives the jobs that a command may touch, each once. Without any,
// the result says why.
func (t *term) jobTargets(c event.SlurmCommand, generations map[event.JobID]int64) ([]event.JobID, event.CommandResult) {
	if len(c.Jobs) == 0 || len(c.Jobs) > maxCommandJobs {
		return nil, refused("%s names %d jobs, want 1 to %d", c.Kind, len(c.Jobs), maxCommandJobs)
	}
	var asked, newer []event.JobID
	seen := map[event.JobID]bool{}
	for _, id := range c.Jobs {
		if err := id.Validate(); err != nil {
			return nil, refused("%v", err)
		}
		switch {
		case seen[id]:
		case isNewer(generations, id, c.Generation):
			newer = append(newer, id)
		default:
			asked = append(asked, id)
		}
		seen[id] = true
	}
	result := event.CommandResult{Stale: joinJobs(newer)}
	if len(asked) == 0 {
		result.State = event.ResultSuperseded
	}
	return asked, result
}

// isNewer reports whether a later command has touched the job, or the whole
// array of a task.
func isNewer(generations map[event.JobID]int64, id event.JobID, generation int64) bool {
	array, _, _ := strings.Cut(string(id), "_")
	return max(generations[id], generations[event.JobID(array)]) > generation
}

// target is one id that a command names, with what Slurm says of it: the job,
// or, for an array, its tasks.
type target struct {
	id   event.JobID
	jobs []slurm.Job
}

// targetsOf re-reads the jobs. A task that is named itself does not count for
// its array as well, nor does one that a later command has touched.
func (t *term) targetsOf(ctx context.Context, asked []event.JobID, read slurm.JobQuery, newer func(event.JobID) bool) ([]target, error) {
	read.Jobs = make([]slurm.JobRef, 0, len(asked))
	at := map[slurm.JobRef]int{}
	targets := make([]target, len(asked))
	for i, id := range asked {
		ref, err := jobRef(id)
		if err != nil {
			return nil, err
		}
		read.Jobs, at[ref], targets[i].id = append(read.Jobs, ref), i, id
	}
	var jobs []slurm.Job
	err := t.insist(ctx, func() (err error) {
		jobs, _, err = t.Slurm.Jobs(ctx, read)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, job := range jobs {
		i, named := at[job.Ref()]
		if !named && job.IsTask && !newer(jobID(job.Ref())) {
			i, named = at[slurm.JobRef{Job: job.ArrayID}]
		}
		if named {
			targets[i].jobs = append(targets[i].jobs, job)
		}
	}
	return targets, nil
}

// isLeaving reports whether a job is on its way out of its nodes, and may wait
// again in a moment.
func isLeaving(job *slurm.Job) bool {
	return job.State == slurm.JobCompleting || job.State == slurm.JobRequeued
}

// verdict is what became of one job of a command.
type verdict int

const (
	// leftAlone: the job is not what the command took it for.
	leftAlone verdict = iota
	// done: it is as the command wants it.
	done
	// wrong: the command was carried out on it and does not show.
	wrong
	// acting: the command is about to be carried out on it.
	acting
)

// verdicts are what became of the jobs of a command so far.
type verdicts map[event.JobID]verdict

// named gives the ids with the verdict. Of an array that was named whole, the
// tasks are named where their fates differ, and those that no longer wait only
// where no task is left.
func (v verdicts) named(targets []target, which verdict) []event.JobID {
	var ids []event.JobID
	for _, target := range targets {
		var some []event.JobID
		others := false
		for i := range target.jobs {
			id := jobID(target.jobs[i].Ref())
			if v[id] == which {
				some = append(some, id)
				continue
			}
			others = true
		}
		switch {
		case !others && (len(some) > 0 || which == leftAlone):
			ids = append(ids, target.id)
		case which == leftAlone:
			some = slices.DeleteFunc(some, func(id event.JobID) bool { return !waits(target, id) })
			ids = append(ids, some...)
		default:
			ids = append(ids, some...)
		}
	}
	return ids
}

func waits(target target, id event.JobID) bool {
	return slices.ContainsFunc(target.jobs, func(job slurm.Job) bool { return jobID(job.Ref()) == id && job.State == slurm.JobPending })
}

// rememberJobs notes the generation of the newest command for the jobs, whether
// or not it fits them: after a crash it may have been carried out already.
func rememberJobs(generations map[event.JobID]int64, ids []event.JobID, generation int64) {
	for _, id := range ids {
		generations[id] = max(generations[id], generation)
	}
}

func joinJobs(ids []event.JobID) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = string(id)
	}
	return strings.Join(words, ",")
}
