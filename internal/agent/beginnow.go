package agent

import (
	"context"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// leavingPatience bounds the wait for a job to leave its nodes. With some nodes
// of a job up, the abort of another's boot takes 11 s (measured on 22.05.8).
const leavingPatience = 30 * time.Second

// beginNow lifts the begin time of waiting jobs that our abort of a boot has
// requeued: Slurm puts it 121 s into the future, but only once the job has left
// its nodes; what is set before that is overwritten. Such a command waits.
func (t *term) beginNow(ctx context.Context, c event.SlurmCommand) (event.CommandResult, error) {
	if len(c.Jobs) == 0 || len(c.Jobs) > maxCommandJobs {
		return refused("%s names %d jobs, want 1 to %d", c.Kind, len(c.Jobs), maxCommandJobs), nil
	}
	asked, result := t.jobTargets(c)
	if len(asked) == 0 {
		return result, nil
	}
	for _, id := range asked {
		t.charge.jobs[id] = max(t.charge.jobs[id], c.Generation)
	}
	lookBegan := t.Clock.Now()
	jobs, err := t.readJobs(ctx, asked)
	if err != nil {
		return failed(err), nil
	}
	waiting := map[event.JobID]slurm.JobRef{}
	for i := range jobs {
		switch jobs[i].State {
		case slurm.JobCompleting, slurm.JobRequeued:
			if t.Clock.Now().Sub(t.since(c.ID)) < leavingPatience {
				return event.CommandResult{}, errNotYet
			}
		case slurm.JobPending:
			waiting[jobID(jobs[i].Ref())] = jobs[i].Ref()
		default: // started or ended meanwhile
		}
	}
	if len(waiting) > 0 {
		if err := t.mayAct(lookBegan); err != nil {
			return result, err
		}
	}
	delete(t.postponed, c.ID)
	return t.start(ctx, asked, waiting, result), nil
}

// since gives when a command was first looked at.
func (t *term) since(id string) time.Time {
	began, seen := t.postponed[id]
	if !seen {
		began = t.Clock.Now()
		t.postponed[id] = began
	}
	return began
}

// jobTargets gives the jobs that a command may touch. Without any, the result
// says why.
func (t *term) jobTargets(c event.SlurmCommand) ([]event.JobID, event.CommandResult) {
	var asked []event.JobID
	var newer []event.JobID
	for _, id := range c.Jobs {
		if err := id.Validate(); err != nil {
			return nil, refused("%v", err)
		}
		if t.charge.jobs[id] > c.Generation {
			newer = append(newer, id)
			continue
		}
		asked = append(asked, id)
	}
	result := event.CommandResult{Stale: joinJobs(newer)}
	if len(asked) == 0 {
		result.State = event.ResultSuperseded
	}
	return asked, result
}

// start starts those of the asked jobs that wait.
func (t *term) start(ctx context.Context, asked []event.JobID, waiting map[event.JobID]slurm.JobRef, result event.CommandResult) event.CommandResult {
	var acting []slurm.JobRef
	var ids, stale []event.JobID
	for _, id := range asked {
		if ref, ok := waiting[id]; ok {
			acting, ids = append(acting, ref), append(ids, id)
			continue
		}
		stale = append(stale, id)
	}
	result.Stale = joinLists(result.Stale, joinJobs(stale))
	if len(acting) == 0 {
		result.State = event.ResultStale
		return result
	}
	outcome, err := t.Slurm.UpdateJobs(ctx, acting, slurm.JobUpdate{StartNow: true})
	t.crash(pointActed)
	if err != nil && !fault.Is(err, fault.Transient) {
		result.State, result.Failed, result.Error = event.ResultFailed, joinJobs(ids), err.Error()
		return result
	}
	return t.startedBack(ctx, result, ids, outcome)
}

// startedBack reads back that no job waits for its begin time any more.
func (t *term) startedBack(ctx context.Context, result event.CommandResult, ids []event.JobID, outcome slurm.Outcome) event.CommandResult {
	for began := t.Clock.Now(); ; {
		jobs, err := t.readJobs(ctx, ids)
		if err != nil {
			result.State, result.Failed, result.Error = event.ResultFailed, joinJobs(ids), err.Error()
			return result
		}
		var wrong []event.JobID
		for i := range jobs {
			if jobs[i].State == slurm.JobPending && jobs[i].Eligible.After(t.Clock.Now()) {
				wrong = append(wrong, jobID(jobs[i].Ref()))
			}
		}
		if len(wrong) == 0 {
			result.State = event.ResultOK
			return result
		}
		if ctx.Err() != nil || t.Clock.Now().Sub(began) > readBackFor {
			result.State, result.Failed, result.Error = event.ResultFailed, joinJobs(wrong), outcome.Stderr
			return result
		}
		t.pause(ctx, readBackEvery)
	}
}

func (t *term) readJobs(ctx context.Context, ids []event.JobID) (jobs []slurm.Job, err error) {
	refs := make([]slurm.JobRef, 0, len(ids))
	for _, id := range ids {
		ref, err := jobRef(id)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	err = t.insist(ctx, func() (err error) {
		jobs, _, err = t.Slurm.Jobs(ctx, slurm.JobQuery{Jobs: refs})
		return err
	})
	return jobs, err
}

func joinJobs(ids []event.JobID) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = string(id)
	}
	return strings.Join(words, ",")
}
