package agent

import (
	"cmp"
	"slices"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// ranStates are those of jobs that ended as they were meant to, or at their
// limit. Asking for them together with the active ones costs no further call:
// Slurm remembers them for MinJobAge.
var ranStates = []slurm.JobState{slurm.JobCompleted, slurm.JobTimeout}

// splitEnded takes the jobs that have ended out of an answer.
func splitEnded(all []slurm.Job) (active, ran []slurm.Job) {
	for i := range all {
		if all[i].State.IsFinished() {
			ran = append(ran, all[i])
		}
	}
	if len(ran) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(job slurm.Job) bool { return job.State.IsFinished() }), ran
}

// finishedRuns sums up the jobs that ended since the last accepted snapshot. The
// first snapshot of an agent in charge tells none, because its predecessor may
// have told them.
func (t *term) finishedRuns(ran []slurm.Job) []event.FinishedRuns {
	if t.accepted == 0 {
		return nil
	}
	type owner struct{ user, account string }
	index := map[owner]int{}
	var out []event.FinishedRuns
	for i := range ran {
		job := &ran[i]
		limit, finite := job.TimeLimit.Duration()
		run := job.Ended.Sub(job.Started)
		if told, known := t.memory.told[job.Ref()]; known && told.Equal(job.Ended) || !finite || job.Started.IsZero() || run < 0 {
			continue
		}
		who := owner{user: bounded(string(job.User), maxWordBytes), account: bounded(string(job.Account), maxWordBytes)}
		at, known := index[who]
		if !known {
			at = len(out)
			index[who] = at
			out = append(out, event.FinishedRuns{User: who.user, Account: who.account})
		}
		out[at].Jobs++
		out[at].RunSeconds += int64(run / time.Second)
		out[at].LimitSeconds += int64(limit / time.Second)
	}
	slices.SortFunc(out, func(a, b event.FinishedRuns) int {
		return cmp.Or(cmp.Compare(b.Jobs, a.Jobs), cmp.Compare(a.User, b.User), cmp.Compare(a.Account, b.Account))
	})
	return out[:min(len(out), event.MaxFinished)]
}

// rememberEnded notes the jobs whose end the broker has been told, or was told
// by a predecessor. What Slurm has forgotten is forgotten here, too.
func (m *memory) rememberEnded(ran []slurm.Job) {
	clear(m.told)
	for i := range ran {
		m.told[ran[i].Ref()] = ran[i].Ended
	}
}
