package agent

import (
	"context"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// leavingPatience bounds the wait for a job to leave its nodes. With some nodes
// of a job up, the abort of another's boot takes 11 s (measured on 22.05.8).
const leavingPatience = 30 * time.Second

// jobRule is what one command does to waiting jobs. As with nodes, it holds
// whatever the command expects.
type jobRule struct {
	// refuse, where not nil, looks at all targets before anything is done.
	refuse func(targets []target) error
	// judge says of a waiting job whether the act fits it: acting, leftAlone,
	// or done where nothing is left to do.
	judge  func(job *slurm.Job) verdict
	change slurm.JobUpdate
	// shows says what became of a job after the act: done, wrong, or leftAlone
	// where it had changed before. A job that Slurm no longer knows is nil.
	shows func(job *slurm.Job) verdict
}

// jobPass is what is known of a command whose jobs are not all ready yet.
type jobPass struct {
	since time.Time
	verdicts
	outcome slurm.Outcome
}

// passOf gives what was found and done when the command was looked at before.
func (t *term) passOf(id string) *jobPass {
	pass := t.postponed[id]
	if pass == nil {
		pass = &jobPass{since: t.Clock.Now(), verdicts: verdicts{}}
		t.postponed[id] = pass
	}
	return pass
}

// carryOutOnJobs does what a command asks of waiting jobs. While some of its
// jobs are leaving their nodes, as requeued ones do, the others are taken care
// of, and the error is errNotYet: only jobs that wait again can be changed, and
// what squeue says of them before is not yet what they will wait with.
func (t *term) carryOutOnJobs(ctx context.Context, c event.SlurmCommand, rule jobRule) (event.CommandResult, error) {
	asked, result := t.jobTargets(c, t.charge.jobs)
	if len(asked) == 0 {
		return result, nil
	}
	rememberJobs(t.charge.jobs, asked, c.Generation)
	lookBegan := t.Clock.Now()
	newer := func(id event.JobID) bool { return isNewer(t.charge.jobs, id, c.Generation) }
	targets, err := t.targetsOf(ctx, asked, slurm.JobQuery{}, newer)
	if err != nil {
		delete(t.postponed, c.ID)
		return failed(err), nil
	}
	if rule.refuse != nil {
		if err := rule.refuse(targets); err != nil {
			delete(t.postponed, c.ID)
			return refused("%v", err), nil
		}
	}
	pass := t.passOf(c.ID)
	refs, leaving := pass.sort(targets, rule)
	if len(refs) > 0 {
		if err := t.mayAct(lookBegan); err != nil {
			return result, err
		}
		if err := t.change(ctx, pass, refs, rule); err != nil {
			delete(t.postponed, c.ID)
			result.State, result.Error = event.ResultFailed, err.Error()
			result.Stale = joinLists(result.Stale, joinJobs(pass.named(targets, leftAlone)))
			result.Failed = joinJobs(pass.named(targets, acting))
			return result, nil
		}
	}
	if leaving && t.Clock.Now().Sub(pass.since) < leavingPatience {
		return event.CommandResult{}, errNotYet
	}
	delete(t.postponed, c.ID)
	return pass.conclude(result, targets), nil
}

// sort judges the jobs, and gives those to act on and whether any is leaving
// its nodes.
func (p *jobPass) sort(targets []target, rule jobRule) (refs []slurm.JobRef, leaving bool) {
	for _, target := range targets {
		for i := range target.jobs {
			job := &target.jobs[i]
			id := jobID(job.Ref())
			switch {
			case p.verdicts[id] == done: // by an earlier pass; it may have started since
			case isLeaving(job):
				leaving = true
			case job.State == slurm.JobPending:
				p.verdicts[id] = rule.judge(job)
				if p.verdicts[id] == acting {
					refs = append(refs, job.Ref())
				}
			}
		}
	}
	return refs, leaving
}

// change acts on the jobs and reads back what became of them. An error means
// that scontrol could not be asked, or refused to be.
func (t *term) change(ctx context.Context, pass *jobPass, refs []slurm.JobRef, rule jobRule) error {
	outcome, err := t.Slurm.UpdateJobs(ctx, refs, rule.change)
	t.crash(pointActed)
	if err != nil && !fault.Is(err, fault.Transient) {
		return err
	}
	pass.outcome = outcome
	ids := make([]event.JobID, len(refs))
	for i, ref := range refs {
		ids[i] = jobID(ref)
	}
	for began := t.Clock.Now(); ; {
		targets, err := t.targetsOf(ctx, ids, slurm.JobQuery{}, func(event.JobID) bool { return false })
		if err != nil {
			return err
		}
		wrongs := 0
		for _, target := range targets {
			var job *slurm.Job
			if len(target.jobs) > 0 {
				job = &target.jobs[0]
			}
			pass.verdicts[target.id] = rule.shows(job)
			if pass.verdicts[target.id] == wrong {
				wrongs++
			}
		}
		if wrongs == 0 || ctx.Err() != nil || t.Clock.Now().Sub(began) > readBackFor {
			return nil
		}
		t.pause(ctx, readBackEvery)
	}
}

// conclude says what became of the command.
func (p *jobPass) conclude(result event.CommandResult, targets []target) event.CommandResult {
	result.Stale = joinLists(result.Stale, joinJobs(p.named(targets, leftAlone)))
	result.State = event.ResultStale
	for _, v := range p.verdicts {
		if v == done {
			result.State = event.ResultOK
		}
	}
	if bad := p.named(targets, wrong); len(bad) > 0 {
		result.State, result.Failed, result.Error = event.ResultFailed, joinJobs(bad), p.outcome.Stderr
	}
	return result
}
