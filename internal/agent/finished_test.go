package agent_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

func TestAGroupIsExpectedToStartWithItsFirstJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		now := time.Now().UTC().Truncate(time.Minute)
		for i, start := range []time.Time{{}, now.Add(90 * time.Minute), now.Add(20*time.Minute + 59*time.Second), now.Add(time.Hour)} {
			w.slurm.jobs = append(w.slurm.jobs, slurm.Job{ID: slurm.JobID(i + 1), State: slurm.JobPending, Account: "a", Started: start})
		}
		w.slurm.jobs = append(w.slurm.jobs, slurm.Job{ID: 9, State: slurm.JobPending, Account: "b"})
		runAgent(t, w.options())
		time.Sleep(time.Second)
		groups := w.bus.last(t).Pending
		if len(groups) != 2 || !groups[0].ExpectedStart.Equal(now.Add(20*time.Minute)) || !groups[1].ExpectedStart.IsZero() {
			t.Fatalf("groups %+v", groups)
		}
		// An estimate that moves is no news.
		sent := len(w.bus.all())
		w.slurm.change(func(s *fakeSlurm) { s.jobs[2].Started = now.Add(10 * time.Minute) })
		time.Sleep(poll + time.Second)
		if got := len(w.bus.all()); got != sent {
			t.Errorf("%d snapshots were sent for it", got-sent)
		}
		time.Sleep(2 * heartbeat)
		if got := w.bus.last(t).Pending[0].ExpectedStart; !got.Equal(now.Add(10 * time.Minute)) {
			t.Errorf("the next snapshot expects %v", got)
		}
	})
}

func TestFinishedRunsAreSummedUpOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		now := time.Now().UTC().Truncate(time.Second)
		next := slurm.JobID(100)
		ran := func(user string, state slurm.JobState, limit slurm.TimeLimit, run time.Duration) slurm.Job {
			next++
			return slurm.Job{ID: next, State: state, User: slurm.UserName(user), Account: "a", TimeLimit: limit, Started: now, Ended: now.Add(run), Nodes: []slurm.NodeName{"local-1"}}
		}
		hour := slurm.TimeLimit(time.Hour)
		w.slurm.jobs = []slurm.Job{ran("ada", slurm.JobCompleted, hour, time.Minute)}
		stop := runAgent(t, w.options())
		time.Sleep(time.Second)
		if got := w.bus.last(t).Finished; len(got) != 0 {
			t.Errorf("at first %+v: a predecessor may have told it", got)
		}
		w.bus.set(func(b *fakeBus) { b.down = errOutage })
		w.slurm.change(func(s *fakeSlurm) {
			s.jobs = append(s.jobs,
				ran("ada", slurm.JobCompleted, hour, 10*time.Minute), ran("ada", slurm.JobTimeout, hour, time.Hour),
				ran("eve", slurm.JobCompleted, 2*hour, time.Second), ran("eve", slurm.JobFailed, hour, time.Minute), ran("eve", slurm.JobCancelled, hour, time.Minute),
				ran("eve", slurm.JobCompleted, slurm.Unlimited, time.Minute), ran("eve", slurm.JobCompleted, slurm.LimitNotSet, time.Minute),
				ran("eve", slurm.JobCompleted, hour, -time.Minute))
		})
		time.Sleep(20 * time.Second) // the outage costs nothing
		before := len(w.bus.all())
		w.bus.set(func(b *fakeBus) { b.down = nil })
		time.Sleep(time.Minute)
		// The same job once more: a requeued one has another end.
		w.slurm.change(func(s *fakeSlurm) { s.jobs[1].Ended = s.jobs[1].Ended.Add(time.Hour) })
		time.Sleep(2 * time.Minute)
		var told []event.FinishedRuns
		for _, s := range w.bus.all()[before:] {
			told = append(told, s.q.Finished...)
			if s.q.PendingJobs+len(s.q.Running)+len(s.q.Ended) > 0 {
				t.Errorf("jobs that have ended are told as others: %+v", s.q)
			}
		}
		want := []event.FinishedRuns{
			{User: "ada", Account: "a", Jobs: 2, RunSeconds: 4200, LimitSeconds: 7200},
			{User: "eve", Account: "a", Jobs: 1, RunSeconds: 1, LimitSeconds: 7200},
			{User: "ada", Account: "a", Jobs: 1, RunSeconds: 4200, LimitSeconds: 3600},
		}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		stop()
		runAgent(t, w.options())
		time.Sleep(2 * time.Minute)
		for _, s := range w.bus.all() {
			if s.q.Epoch > 1 && len(s.q.Finished) > 0 {
				t.Errorf("the next agent tells %+v again", s.q.Finished)
			}
		}
	})
}

func TestFinishedRunsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Second)
		now := time.Now()
		w.slurm.change(func(s *fakeSlurm) {
			for i := range 1200 {
				user := slurm.UserName(fmt.Sprintf("user%d", i%600))
				if i >= 600 {
					user = slurm.UserName(fmt.Sprintf("user%d", 300+i%300))
				}
				s.jobs = append(s.jobs, slurm.Job{ID: slurm.JobID(i + 1), State: slurm.JobCompleted, User: user, TimeLimit: slurm.TimeLimit(time.Hour), Started: now, Ended: now})
			}
		})
		time.Sleep(time.Minute)
		var told []event.FinishedRuns
		for _, s := range w.bus.all() {
			told = append(told, s.q.Finished...)
		}
		if len(told) != event.MaxFinished || told[0].Jobs != 3 || told[299].Jobs != 3 || told[300].Jobs != 1 {
			t.Errorf("%d rows are told, the first of %d jobs", len(told), told[0].Jobs)
		}
	})
}
