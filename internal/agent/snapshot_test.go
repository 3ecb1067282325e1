package agent_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/internal/spool"
)

func TestASpoolFileIsRemovedOnlyOnceItsSnapshotWasAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Second)
		w.bus.set(func(b *fakeBus) { b.noSend = errOutage })
		w.slurm.setNode("htc-1", "ALLOCATED+CLOUD+POWERING_UP+NOT_RESPONDING", "")
		id := w.hook(spool.Resume, "htc-1")
		time.Sleep(20 * time.Second)
		if w.spooled() != 1 {
			t.Fatal("the hook call was removed before anybody took it")
		}
		before := len(w.bus.all())
		w.bus.set(func(b *fakeBus) { b.noSend = nil })
		time.Sleep(20 * time.Second)
		if trace := w.bus.all()[before].trace; trace != "00-trace-htc-1" {
			t.Errorf("the snapshot belongs to trace %v, want the hook call's", trace)
		}
		told := w.bus.all()[before].q
		if up := told.CloudNodes[0].PoweringUp; len(up) != 1 || up[0].ResumeID != id || told.Cause != event.CauseResume {
			t.Errorf("told %+v, cause %s, want call %s", up, told.Cause, id)
		}
		if w.spooled() != 0 {
			t.Error("the hook call was told and is still there")
		}
		numbers := map[int64]bool{}
		for _, s := range w.bus.all() {
			if numbers[s.q.Sequence] {
				t.Errorf("sequence %d was used twice", s.q.Sequence)
			}
			numbers[s.q.Sequence] = true
		}
		if told.Sequence <= int64(before)+1 {
			t.Errorf("sequence %d after failed attempts: the broker drops a repeated number", told.Sequence)
		}
	})
}

func TestAHookCallIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Second)
		w.hook(spool.Suspend, "htc-1")
		time.Sleep(10 * time.Millisecond)
		if q := w.bus.last(t); q.Cause != event.CauseSuspend || w.spooled() != 0 {
			t.Errorf("cause %s, %d in the spool", q.Cause, w.spooled())
		}
		// And without a poke, at the next poll.
		if _, err := spool.Write(w.spool, spool.Record{Kind: spool.ResumeFail, Time: time.Now(), Hostlist: "htc-1"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(poll + time.Second)
		if q := w.bus.last(t); q.Cause != event.CauseResumeFail || w.spooled() != 0 {
			t.Errorf("cause %s, %d in the spool", q.Cause, w.spooled())
		}
	})
}

func TestEachResumeCallIsAGenerationUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		const booting = "ALLOCATED+CLOUD+POWERING_UP+NOT_RESPONDING"
		resumeID := func() string {
			t.Helper()
			time.Sleep(poll + time.Second)
			up := w.bus.last(t).CloudNodes[0].PoweringUp
			if len(up) != 1 {
				t.Fatalf("powering up: %+v", up)
			}
			return up[0].ResumeID
		}
		w.slurm.setNode("htc-1", booting, "")
		if got := resumeID(); got != "" {
			t.Errorf("call %q before any came", got)
		}
		_, group := stateOf(w.bus.last(t), "htc-1")
		first := w.hook(spool.Resume, "htc-[1-2]")
		if got := resumeID(); got != first {
			t.Errorf("call %q, want %q", got, first)
		}
		if _, later := stateOf(w.bus.last(t), "htc-1"); !later.Since.Equal(group.Since) {
			t.Errorf("the call moved the begin of the boot from %v to %v", group.Since, later.Since)
		}
		if got := resumeID(); got != first {
			t.Errorf("later call %q, want %q", got, first)
		}
		w.hook(spool.Suspend, "htc-1")
		second := w.hook(spool.Resume, "htc-1")
		if got := resumeID(); got != second || second == first {
			t.Errorf("after suspend and resume %q, want %q", got, second)
		}
		w.slurm.setNode("htc-1", "IDLE+CLOUD+POWERED_DOWN", "")
		time.Sleep(poll + time.Second)
		w.slurm.setNode("htc-1", booting, "")
		if got := resumeID(); got != "" {
			t.Errorf("call %q survived the power-down", got)
		}
	})
}

func TestCallsForNodesOutsideThePolicyAreOnlyReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Second)
		w.bus.set(func(b *fakeBus) { b.down = errOutage })
		w.hook(spool.Resume, "htc-1,gpu-[1-2]")
		w.hook(spool.Resume, "htc-[1-")
		w.corrupt("1795441764000000000-1-1.call", "half a fi")
		time.Sleep(10 * time.Second)
		before := len(w.bus.all())
		w.bus.set(func(b *fakeBus) { b.down = nil })
		time.Sleep(time.Minute)
		var told []string
		for _, s := range w.bus.all()[before:] {
			for _, p := range s.q.Problems {
				if p.At.IsZero() {
					t.Errorf("problem without a time: %+v", p)
				}
				told = append(told, p.Code)
			}
		}
		slices.Sort(told)
		if want := []string{"corrupt_spool_file", "unknown_node", "unknown_node"}; !slices.Equal(told, want) {
			t.Errorf("told %v, want each once: %v", told, want)
		}
		if len(w.slurm.done()) != 0 {
			t.Errorf("Slurm was changed: %v", w.slurm.done())
		}
	})
}

func TestNothingIsPublishedFromHalfAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Second)
		before := len(w.bus.all())
		w.slurm.change(func(s *fakeSlurm) { s.down = errOutage; s.nodes = nil })
		w.hook(spool.Resume, "htc-1")
		time.Sleep(10 * time.Minute)
		if got := len(w.bus.all()); got != before || w.spooled() != 1 {
			t.Errorf("%d snapshots during the outage, %d in the spool", got-before, w.spooled())
		}
		if asks := w.slurm.count("gate"); asks > 100 {
			t.Errorf("asked %d times in ten minutes of outage", asks)
		}
		w.slurm.change(func(s *fakeSlurm) { s.down = nil; s.nodes = newFakeSlurm().nodes })
		time.Sleep(20 * time.Second)
		if len(w.bus.all()) == before || w.spooled() != 0 {
			t.Error("nothing came after the outage")
		}
		if q := w.bus.last(t); q.Epoch != 1 {
			t.Errorf("slurmctld's outage cost the charge: epoch %d", q.Epoch)
		}
		if bad, good := w.log.count("did not work"), w.log.count("works again"); bad != 1 || good != 1 {
			t.Errorf("the outage was logged %d times, its end %d times", bad, good)
		}
	})
}

func TestIdleSinceMovesOnlyWhenAJobWasSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		began := time.Now().UTC().Truncate(time.Second)
		w.slurm.setNode("htc-1", "IDLE+CLOUD", "")
		w.slurm.setNode("htc-2", "IDLE+CLOUD", "")
		w.slurm.setNode("htc-3", "DOWN+CLOUD", "Not responding")
		w.slurm.nodes["htc-3"].ReasonTime = began.Add(-2 * time.Hour)
		w.slurm.busy["htc-1"] = began.Add(-time.Hour)
		stop := runAgent(t, w.options())
		since := func(node string) time.Duration {
			t.Helper()
			time.Sleep(poll + time.Second)
			state, group := stateOf(w.bus.last(t), node)
			if state == "off" {
				t.Fatalf("%s is off", node)
			}
			return group.Since.Sub(began)
		}
		if got := since("htc-1"); got != -time.Hour {
			t.Errorf("at first idle since %v: Slurm knows better", got)
		}
		if got := since("htc-2"); got != 0 {
			t.Errorf("idle since %v, want the first look", got)
		}
		if got := since("htc-3"); got != -2*time.Hour {
			t.Errorf("down since %v, want the time of the reason", got)
		}
		w.slurm.setNode("htc-1", "IDLE+CLOUD+PLANNED", "")
		since("htc-1")
		w.slurm.setNode("htc-1", "IDLE+CLOUD", "")
		w.slurm.change(func(s *fakeSlurm) { s.busy["htc-1"], s.counters.Since = time.Now(), time.Now() }) // a restart of slurmctld
		if got := since("htc-1"); got != -time.Hour {
			t.Errorf("idle since %v although no job was seen", got)
		}
		w.slurm.change(func(s *fakeSlurm) {
			s.jobs = []slurm.Job{{ID: 5, State: slurm.JobRunning, Nodes: []slurm.NodeName{"htc-1"}}}
		})
		if got := since("htc-1"); got <= 0 {
			t.Errorf("since %v while a job runs", got)
		}
		w.slurm.change(func(s *fakeSlurm) { s.jobs = nil })
		moved := since("htc-1")
		if moved <= 0 {
			t.Errorf("idle since %v after a job", moved)
		}
		if got := since("htc-2"); got != 0 {
			t.Errorf("htc-2 is idle since %v although no job was on it", got)
		}
		restarted := time.Now()
		w.slurm.change(func(s *fakeSlurm) { s.counters.Since, s.busy["htc-2"] = restarted, restarted })
		since("htc-2")
		w.slurm.change(func(s *fakeSlurm) { s.counters.Started++ }) // somewhere else
		if got := since("htc-2"); got != 0 {
			t.Errorf("htc-2 is idle since %v: slurmctld restarted, and no job was on it", got)
		}
		ran := time.Now().UTC().Truncate(time.Second)
		w.slurm.change(func(s *fakeSlurm) { s.counters.Started++; s.busy["htc-2"] = ran })
		if got := since("htc-2"); got != ran.Sub(began) {
			t.Errorf("htc-2 is idle since %v, want %v: a job came and went between two looks", got, ran.Sub(began))
		}
		stop()
		w.slurm.change(func(s *fakeSlurm) { s.busy["htc-1"] = began.Add(moved) })
		time.Sleep(time.Hour)
		runAgent(t, w.options())
		if got := since("htc-1"); got != moved {
			t.Errorf("a new agent says idle since %v, want %v", got, moved)
		}
	})
}

func TestJobsThatLeftAreToldWithTheirEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		end := time.Now().UTC().Truncate(time.Second)
		on := []slurm.NodeName{"htc-1"}
		// What ended before this agent came is told once, as long as Slurm knows.
		w.slurm.jobs = []slurm.Job{
			{ID: 1, State: slurm.JobFailed, Nodes: on, Ended: end},
			{ID: 2, State: slurm.JobCompleted, Nodes: []slurm.NodeName{"local-1"}},
			{ID: 11, State: slurm.JobRunning, Nodes: on},
			{ID: 12, State: slurm.JobConfiguring, Nodes: on},
			{ID: 14, ArrayID: 13, IsTask: true, Task: 2, State: slurm.JobRunning, Nodes: on},
			{ID: 15, State: slurm.JobRunning, Nodes: []slurm.NodeName{"local-1"}},
			{ID: 16, State: slurm.JobRunning, Nodes: on},
		}
		runAgent(t, w.options())
		time.Sleep(time.Second)
		first := w.bus.last(t)
		if diff := cmp.Diff([]event.EndedJob{{ID: "1", State: "FAILED", Nodes: "htc-1", End: end}}, first.Ended); diff != "" {
			t.Errorf("at first (-want +got):\n%s", diff)
		}
		var running []string
		for _, job := range first.Running {
			running = append(running, string(job.ID)+" "+job.State)
		}
		if want := []string{"11 RUNNING", "12 CONFIGURING", "13_2 RUNNING", "16 RUNNING"}; !slices.Equal(running, want) {
			t.Errorf("running %v, want %v", running, want)
		}
		w.bus.set(func(b *fakeBus) { b.down = errOutage })
		w.slurm.change(func(s *fakeSlurm) {
			s.jobs = []slurm.Job{
				{ID: 11, State: slurm.JobCompleted, Nodes: on, Ended: end},
				{ID: 12, State: slurm.JobPending, Restarts: 1}, // requeued
				{ID: 16, State: slurm.JobRunning, Nodes: on},
			}
		})
		time.Sleep(20 * time.Second) // told again until it is accepted
		before := len(w.bus.all())
		w.bus.set(func(b *fakeBus) { b.down = nil })
		time.Sleep(time.Minute)
		want := []event.EndedJob{
			{ID: "11", State: "COMPLETED", Nodes: "htc-1", End: end}, {ID: "12", State: "REQUEUED", Nodes: "htc-1"}, {ID: "13_2", State: "UNKNOWN", Nodes: "htc-1"},
		}
		all := w.bus.all()
		if diff := cmp.Diff(want, all[before].q.Ended); diff != "" {
			t.Errorf("after the outage (-want +got):\n%s", diff)
		}
		if got := all[len(all)-1].q.Ended; len(got) != 0 {
			t.Errorf("told twice: %+v", got)
		}
	})
}

func TestNodesAreDescribedInSlurmsWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		options := w.options()
		options.Nodearrays[0].Nodes = append(options.Nodearrays[0].Nodes, "htc-5", "htc-9")
		w.slurm.setNode("htc-1", "IDLE+CLOUD+POWERED_DOWN", "slurmburst: idle") // left over
		w.slurm.setNode("htc-2", "IDLE+CLOUD+POWERED_DOWN+DRAIN", "bad\ndisk\x1b[31m "+strings.Repeat("é", 300))
		w.slurm.setNode("htc-5", "MIXED+CLOUD+PLANNED+COMPLETING", "")
		w.slurm.dropped = 3
		runAgent(t, options)
		time.Sleep(time.Second)
		q := w.bus.last(t)
		now := q.TakenAt.Truncate(time.Second)
		reason := "bad?disk?[31m " + strings.Repeat("é", 93)
		want := []event.CloudNodes{{
			Nodearray: "htc", Defined: 5, Usable: 4, PoweredDown: 2, Undefined: "htc-9",
			Groups: []event.NodeGroup{
				{State: "IDLE", Flags: []string{"DRAIN", "POWERED_DOWN"}, Nodes: "htc-2", Since: now, Reason: reason},
				{State: "IDLE", Flags: []string{"POWERED_DOWN"}, Nodes: "htc-1", Reason: "slurmburst: idle"},
				{State: "MIXED", Flags: []string{"COMPLETING", "PLANNED"}, Nodes: "htc-5", Since: now},
			},
		}}
		if diff := cmp.Diff(want, q.CloudNodes); diff != "" {
			t.Errorf("nodes (-want +got):\n%s", diff)
		}
		if len(reason) > 200 {
			t.Errorf("reason of %d bytes", len(reason))
		}
		if diff := cmp.Diff([]event.LocalPartition{{Name: "local", Nodes: 1, IdleNodes: 1, Cores: 8, IdleCores: 8}}, q.Local); diff != "" {
			t.Errorf("local (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]event.Partition{{Name: "htc", State: "UP", SuspendTimeSeconds: -1}}, q.Partitions); diff != "" {
			t.Errorf("partitions (-want +got):\n%s", diff)
		}
		if len(q.Problems) != 1 || q.Problems[0].Code != "dropped_lines" || !strings.Contains(q.Problems[0].Detail, "3") {
			t.Errorf("problems %+v", q.Problems)
		}
		time.Sleep(10 * time.Minute) // the same three lines are no news
		for _, s := range w.bus.all()[1:] {
			if len(s.q.Problems) > 0 {
				t.Errorf("told again: %+v", s.q.Problems)
			}
		}
	})
}

func TestWaitingJobsAreGroupedByWhatTheyHaveInCommon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		now := time.Now().UTC().Truncate(time.Second)
		alike := slurm.Job{
			State: slurm.JobPending, Partitions: []slurm.PartitionName{"local", "htc"}, User: "ada", Account: "physics", QOS: "normal",
			Reason: "Resources", Description: "(Resources)", NodeCount: 2, CPUs: 8, TotalMemoryMB: 4000, GPUs: 1,
			TimeLimit: slurm.TimeLimit(time.Hour), Features: "cloud", RequiresNodes: true, IsBatch: true, Requeue: true, Restarts: 1,
			Eligible: now.Add(-time.Hour),
		}
		for i := range 70 {
			job := alike
			job.ID, job.ArrayID, job.IsTask, job.Task = 100, 100, true, uint32(i)
			job.Submitted, job.Priority = now.Add(-time.Duration(i)*time.Minute), uint32(i)
			w.slurm.jobs = append(w.slurm.jobs, job)
		}
		other := alike
		other.ID, other.Submitted, other.TimeLimit, other.TotalMemoryMB, other.MinMemoryMB = 7, now.Add(-100*time.Hour), slurm.Unlimited, 0, 500
		w.slurm.jobs = append(w.slurm.jobs, other)
		runAgent(t, w.options())
		time.Sleep(time.Second)
		q := w.bus.last(t)
		group := event.PendingGroup{
			Partitions: []string{"local", "htc"}, User: "ada", Account: "physics", QOS: "normal", StateReason: "Resources", Description: "(Resources)",
			Nodes: 2, CPUs: 8, MemoryMiB: 1000, GPUs: 1, Features: "cloud", NodeList: true, Batch: true, Requeue: true, Restarted: true,
			Count: 1, OldestSubmit: other.Submitted, NewestSubmit: other.Submitted, Jobs: event.JobIDs{"7"},
		}
		tasks := group
		tasks.MemoryMiB, tasks.TimeLimitSeconds, tasks.Count, tasks.HighestPriority, tasks.Jobs = 4000, 3600, 70, 69, nil
		tasks.OldestSubmit, tasks.NewestSubmit = now.Add(-69*time.Minute), now
		for i := range event.MaxGroupIDs {
			tasks.Jobs = append(tasks.Jobs, event.JobID(fmt.Sprintf("100_%d", 69-i)))
		}
		if diff := cmp.Diff([]event.PendingGroup{group, tasks}, q.Pending); diff != "" || q.PendingJobs != 71 {
			t.Errorf("%d jobs in groups (-want +got):\n%s", q.PendingJobs, diff)
		}
	})
}
