package agent

import (
	"context"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

const (
	// maxNoticeBytes bounds what is written on a job.
	maxNoticeBytes = 200
	// noticesPerMinute bounds the jobs that are written on: each write is one
	// more that slurmctld has to save.
	noticesPerMinute = 400
	// rateError is the error of jobs that were left out for that reason.
	rateError = "rate"
)

// allowance is a token bucket, full at first.
type allowance struct {
	perMinute float64
	left      float64
	at        time.Time
}

// take gives how many of n are allowed now.
func (a *allowance) take(n int, now time.Time) int {
	if a.at.IsZero() {
		a.left = a.perMinute
	} else if passed := now.Sub(a.at); passed > 0 {
		a.left = min(a.perMinute, a.left+a.perMinute*passed.Minutes())
	}
	a.at = now
	granted := min(n, int(a.left))
	a.left -= float64(granted)
	return granted
}

// noticeJobs writes a text where the owner of a job can read it (scontrol show
// job). "117" is a job or a whole array, its running tasks included; "117_4" is
// one task, which becomes a record of its own.
func (t *term) noticeJobs(ctx context.Context, c event.SlurmCommand) (event.CommandResult, error) {
	text := strings.TrimSpace(bounded(c.Value, maxNoticeBytes))
	if text == "" {
		return refused("notice_jobs has no text"), nil
	}
	asked, result := t.jobTargets(c, t.charge.notices)
	if len(asked) == 0 {
		return result, nil
	}
	rememberJobs(t.charge.notices, asked, c.Generation)
	lookBegan := t.Clock.Now()
	found, err := t.noticed(ctx, asked, text, c.Expect)
	if err != nil {
		return failed(err), nil
	}
	var todo []event.JobID
	var stale []event.JobID
	for _, id := range asked {
		switch found[id] {
		case wrong:
			todo = append(todo, id)
		case leftAlone:
			stale = append(stale, id)
		default: // it bears the text already
		}
	}
	result.Stale = joinLists(result.Stale, joinJobs(stale))
	if len(stale) == len(asked) {
		result.State = event.ResultStale
		return result, nil
	}
	if err := t.mayAct(lookBegan); err != nil {
		return result, err
	}
	granted := t.noticesLeft.take(len(todo), t.Clock.Now())
	todo, over := todo[:granted], todo[granted:]
	bad, complaint := t.write(ctx, todo, text)
	result.State = event.ResultOK
	if len(over) > 0 {
		complaint = strings.TrimSuffix(rateError+"; "+complaint, "; ")
	}
	if bad = append(bad, over...); len(bad) > 0 {
		result.State, result.Failed, result.Error = event.ResultFailed, joinJobs(bad), complaint
	}
	return result, nil
}

// write writes the text and gives the jobs that do not bear it a moment later.
func (t *term) write(ctx context.Context, ids []event.JobID, text string) (bad []event.JobID, complaint string) {
	if len(ids) == 0 {
		return nil, ""
	}
	refs := make([]slurm.JobRef, 0, len(ids))
	for _, id := range ids {
		ref, err := jobRef(id)
		if err != nil {
			return ids, err.Error()
		}
		refs = append(refs, ref)
	}
	outcome, err := t.Slurm.UpdateJobs(ctx, refs, slurm.JobUpdate{AdminComment: text})
	t.crash(pointActed)
	if err != nil && !fault.Is(err, fault.Transient) {
		return ids, err.Error()
	}
	for began := t.Clock.Now(); ; {
		found, err := t.noticed(ctx, ids, text, event.Expect{})
		if err != nil {
			return ids, err.Error()
		}
		bad = nil
		for _, id := range ids {
			if found[id] == wrong {
				bad = append(bad, id)
			}
		}
		if len(bad) == 0 {
			return nil, ""
		}
		if ctx.Err() != nil || t.Clock.Now().Sub(began) > readBackFor {
			return bad, outcome.Stderr
		}
		t.pause(ctx, readBackEvery)
	}
}

// noticed tells which of the ids bear the text: done, wrong, or leftAlone where
// no job is left to bear it.
func (t *term) noticed(ctx context.Context, ids []event.JobID, text string, expect event.Expect) (map[event.JobID]verdict, error) {
	targets, err := t.targetsOf(ctx, ids, slurm.JobQuery{AdminComment: true}, func(event.JobID) bool { return false })
	if err != nil {
		return nil, err
	}
	found := map[event.JobID]verdict{}
	for _, target := range targets {
		waiting, verdict := false, leftAlone
		for i := range target.jobs {
			job := &target.jobs[i]
			waiting = waiting || job.State == slurm.JobPending
			switch {
			case job.State.IsFinished(), isLeaving(job) && job.AdminComment != text: // Slurm would refuse
			case job.AdminComment != text:
				verdict = wrong
			case verdict == leftAlone:
				verdict = done
			}
		}
		if expect.Pending && !waiting {
			verdict = leftAlone
		}
		found[target.id] = verdict
	}
	return found, nil
}
