package agent

import (
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// beginNow lifts the begin time of waiting jobs that our abort of a boot has
// requeued: Slurm puts it 121 s into the future, but only once the job has left
// its nodes; what is set before that is overwritten.
func (t *term) beginNow() jobRule {
	return jobRule{
		judge:  func(*slurm.Job) verdict { return acting },
		change: slurm.JobUpdate{StartNow: true},
		shows: func(job *slurm.Job) verdict {
			if job != nil && job.State == slurm.JobPending && job.Eligible.After(t.Clock.Now()) {
				return wrong
			}
			return done
		},
	}
}
