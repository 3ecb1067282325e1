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
)

// order gives the agent a command and waits for its result.
func (w *world) order(c event.SlurmCommand) event.CommandResult {
	w.t.Helper()
	if c.Generation == 0 {
		c.Generation = 10
	}
	w.bus.put(w.t, c)
	time.Sleep(5 * time.Second)
	for _, r := range w.bus.last(w.t).CommandResults {
		if r.ID == c.ID {
			return r
		}
	}
	w.t.Fatalf("no result of %s %s", c.Kind, c.ID)
	return event.CommandResult{}
}

func TestCommandsTouchOnlyNodesThatTheyAreSafeOn(t *testing.T) {
	const off, up = "IDLE+CLOUD+POWERED_DOWN", "IDLE+CLOUD"
	const booting = "ALLOCATED+CLOUD+POWERING_UP+NOT_RESPONDING"
	for _, c := range []struct {
		what   string
		kind   event.CommandKind
		state  string
		reason string
		want   event.ResultState
		update string
	}{
		{"a powered-down node is fenced", event.FenceNodes, off, "", event.ResultOK, `DRAIN htc-1 "slurmburst: held back"`},
		{"a node that is up is not fenced", event.FenceNodes, up, "", event.ResultStale, ""},
		{"a node that a job waits for is not fenced", event.FenceNodes, "ALLOCATED+CLOUD+POWERED_DOWN", "", event.ResultStale, ""},
		{"a node that is waking is not fenced", event.FenceNodes, off + "+POWER_UP", "", event.ResultStale, ""},
		{"a node that a job is leaving is not fenced", event.FenceNodes, off + "+COMPLETING", "", event.ResultStale, ""},
		{"an admin's drain is not made ours", event.FenceNodes, off + "+DRAIN", "bad disk", event.ResultStale, ""},
		{"our fence is lifted", event.UnfenceNodes, off + "+DRAIN", event.FenceReason + " (quota)", event.ResultOK, `IDLE htc-1 ""`},
		{"an admin's drain is not lifted", event.UnfenceNodes, off + "+DRAIN", "bad disk", event.ResultStale, ""},
		{"a drain on a node that is up is not lifted", event.UnfenceNodes, up + "+DRAIN", event.FenceReason, event.ResultStale, ""},
		{"a powered-down node is powered up", event.PowerUp, off, "", event.ResultOK, `POWER_UP htc-1 "why"`},
		{"a node that is up is not powered up", event.PowerUp, up, "", event.ResultStale, ""},
		{"an idle node is powered down", event.PowerDownASAP, up, "", event.ResultOK, `POWER_DOWN_ASAP htc-1 "why"`},
		{"a powered-down node is not powered down again", event.PowerDownASAP, off, "", event.ResultStale, ""},
		{"a booting node is not powered down", event.PowerDownASAP, booting, "", event.ResultStale, ""},
		{"a boot is aborted", event.AbortBoot, booting, "", event.ResultOK, `POWER_DOWN_FORCE htc-1 "why"`},
		{"a boot that has arrived is not aborted", event.AbortBoot, "ALLOCATED+CLOUD+POWERING_UP", "", event.ResultStale, ""},
		{"a running node is not aborted", event.AbortBoot, "ALLOCATED+CLOUD", "", event.ResultStale, ""},
		{"a node left down is repaired", event.PowerDown, "DOWN+CLOUD+POWERED_DOWN", "ResumeTimeout reached", event.ResultOK, `POWER_DOWN htc-1 "why"`},
		{"a running node is not repaired", event.PowerDown, "MIXED+CLOUD", "", event.ResultStale, ""},
		{"a node promised to a job is not repaired", event.PowerDown, "ALLOCATED+CLOUD+POWERED_DOWN", "", event.ResultStale, ""},
		{"powering down is ended", event.PowerDownDone, "IDLE+CLOUD+POWERING_DOWN", "", event.ResultOK, `RESUME htc-1 ""`},
		{"resume is never sent to a powered-down node", event.PowerDownDone, off, "", event.ResultStale, ""},
		{"resume is never sent to a drained one", event.PowerDownDone, off + "+DRAIN", event.FenceReason, event.ResultStale, ""},
		{"a node that is no cloud node is left alone", event.PowerDownASAP, "IDLE", "", event.ResultStale, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.slurm.setNode("htc-1", c.state, c.reason)
				runAgent(t, w.options())
				result := w.order(event.SlurmCommand{ID: "c", Kind: c.kind, Nodes: "htc-1", Reason: "why"})
				want := event.CommandResult{ID: "c", Generation: 10, State: c.want}
				if c.want == event.ResultStale {
					want.Stale = "htc-1"
				}
				if diff := cmp.Diff(want, result); diff != "" {
					t.Errorf("result (-want +got):\n%s", diff)
				}
				if got := strings.Join(w.slurm.done(), "; "); got != c.update {
					t.Errorf("updates %q, want %q", got, c.update)
				}
			})
		})
	}
}

func TestWhatTheCloudExpectedMustStillHold(t *testing.T) {
	for what, c := range map[string]struct {
		expect event.Expect
		stale  string
	}{
		"nothing was expected":    {event.Expect{}, ""},
		"the state holds":         {event.Expect{States: []string{"IDLE", "DOWN"}}, ""},
		"the state has changed":   {event.Expect{States: []string{"ALLOCATED"}}, "htc-[1-2]"},
		"a flag is on one only":   {event.Expect{Flags: []string{"DRAIN"}}, "htc-2"},
		"a flag must be absent":   {event.Expect{NotFlags: []string{"DRAIN"}}, "htc-1"},
		"the reason has a prefix": {event.Expect{Reason: "bad"}, "htc-2"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.slurm.setNode("htc-1", "IDLE+CLOUD+DRAIN", "bad disk")
			w.slurm.setNode("htc-2", "IDLE+CLOUD", "")
			runAgent(t, w.options())
			result := w.order(event.SlurmCommand{ID: "c", Kind: event.PowerDownASAP, Nodes: "htc-[1-2]", Expect: c.expect})
			wanted := event.ResultOK
			if c.stale == "htc-[1-2]" {
				wanted = event.ResultStale
			}
			if result.State != wanted || result.Stale != c.stale || result.Failed != "" {
				t.Errorf("%s: %+v", what, result)
			}
		})
	}
}

func TestAnAbortSparesJobsThatItWouldEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i, job := range []slurm.Job{{IsBatch: true, Requeue: true}, {IsBatch: true}, {Requeue: true}} {
			name := slurm.NodeName(fmt.Sprintf("htc-%d", i+1))
			w.slurm.setNode(string(name), "ALLOCATED+CLOUD+POWERING_UP+NOT_RESPONDING", "")
			job.ID, job.State, job.Nodes = slurm.JobID(i+1), slurm.JobConfiguring, []slurm.NodeName{name}
			w.slurm.jobs = append(w.slurm.jobs, job)
		}
		runAgent(t, w.options())
		// Even where the command does not ask for it.
		result := w.order(event.SlurmCommand{ID: "c", Kind: event.AbortBoot, Nodes: "htc-[1-3]", Reason: "boot deadline"})
		if result.State != event.ResultOK || result.Stale != "htc-[2-3]" {
			t.Errorf("result %+v", result)
		}
		if got := w.slurm.done(); !slices.Equal(got, []string{`POWER_DOWN_FORCE htc-1 "boot deadline"`}) {
			t.Errorf("updates %v", got)
		}
	})
}

func TestACommandIsCarriedOutOnceAndStoredBeforeItIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := runAgent(t, w.options())
		c := event.SlurmCommand{ID: "c", Kind: event.PowerUp, Generation: 3, Nodes: "htc-1"}
		if result := w.order(c); result.State != event.ResultOK {
			t.Fatalf("result %+v", result)
		}
		entries := of(w.bus, journal)
		settled := slices.Index(entries, "completed c/1")
		if settled < 1 || entries[settled-1] != "stored" || !slices.Contains(entries[settled:], "sent") {
			t.Errorf("order of events: %v", entries)
		}
		w.slurm.setNode("htc-1", "IDLE+CLOUD+POWERED_DOWN", "")
		w.bus.put(t, c) // delivered again
		c.Attempt = 2
		w.bus.put(t, c) // and sent again
		time.Sleep(5 * time.Second)
		if got := w.slurm.done(); len(got) != 1 || len(of(w.bus, completed)) != 3 {
			t.Errorf("carried out %v, settled %v", got, of(w.bus, completed))
		}
		// The next agent knows it, too, and repeats the result.
		stop()
		runAgent(t, w.options())
		time.Sleep(5 * time.Second)
		w.bus.put(t, c)
		time.Sleep(5 * time.Second)
		q := w.bus.last(t)
		if len(w.slurm.done()) != 1 || q.Epoch != 2 || len(q.CommandResults) != 1 || q.CommandResults[0].State != event.ResultOK {
			t.Errorf("epoch %d: carried out %v, results %+v", q.Epoch, w.slurm.done(), q.CommandResults)
		}
	})
}

func TestAnOlderCommandIsSuperseded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := runAgent(t, w.options())
		if r := w.order(event.SlurmCommand{ID: "new", Kind: event.FenceNodes, Generation: 8, Nodes: "htc-[1-2]"}); r.State != event.ResultOK {
			t.Fatalf("result %+v", r)
		}
		stop()
		runAgent(t, w.options()) // what is remembered survives the agent
		time.Sleep(time.Second)
		if r := w.order(event.SlurmCommand{ID: "old", Kind: event.UnfenceNodes, Generation: 7, Nodes: "htc-1"}); r.State != event.ResultSuperseded || r.Stale != "htc-1" {
			t.Errorf("all targets have a newer command: %+v", r)
		}
		if r := w.order(event.SlurmCommand{ID: "mixed", Kind: event.FenceNodes, Generation: 7, Nodes: "htc-[2-3]"}); r.State != event.ResultOK || r.Stale != "htc-2" {
			t.Errorf("one target has a newer command: %+v", r)
		}
		if r := w.order(event.SlurmCommand{ID: "same", Kind: event.UnfenceNodes, Generation: 8, Nodes: "htc-1"}); r.State != event.ResultOK {
			t.Errorf("an equal generation: %+v", r)
		}
		// The newer one may find its work done, by an agent that died after it.
		if r := w.order(event.SlurmCommand{ID: "newest", Kind: event.FenceNodes, Generation: 12, Nodes: "htc-2", Expect: event.Expect{NotFlags: []string{"DRAIN"}}}); r.State != event.ResultStale {
			t.Errorf("fencing a fenced node: %+v", r)
		}
		if r := w.order(event.SlurmCommand{ID: "late", Kind: event.UnfenceNodes, Generation: 11, Nodes: "htc-2"}); r.State != event.ResultSuperseded {
			t.Errorf("after a newer command that did not fit: %+v", r)
		}
	})
}

func TestResultsAreRepeatedUntilTheyAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		w.order(event.SlurmCommand{ID: "a", Kind: event.PowerUp, Nodes: "htc-1"})
		time.Sleep(10 * time.Minute)
		if got := w.bus.last(t).CommandResults; len(got) != 1 || got[0].ID != "a" {
			t.Fatalf("after ten minutes %+v", got)
		}
		w.order(event.SlurmCommand{ID: "b", Kind: event.PowerUp, Nodes: "htc-2", Known: []string{"a", "never heard of"}})
		if got := w.bus.last(t).CommandResults; len(got) != 1 || got[0].ID != "b" {
			t.Errorf("once a is known: %+v", got)
		}
		w.slurm.setNode("htc-1", "IDLE+CLOUD+POWERED_DOWN", "")
		w.bus.put(t, event.SlurmCommand{ID: "a", Kind: event.PowerUp, Generation: 10, Nodes: "htc-1"})
		time.Sleep(5 * time.Second)
		if got := w.slurm.done(); len(got) != 2 {
			t.Errorf("a known command was carried out again: %v", got)
		}
		time.Sleep(61 * time.Minute)
		if got := w.bus.last(t).CommandResults; len(got) != 0 {
			t.Errorf("repeated for more than an hour: %+v", got)
		}
	})
}

func TestAResultComesWithNodesReadAfterTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		w.order(event.SlurmCommand{ID: "a", Kind: event.FenceNodes, Nodes: "htc-[1-2]"})
		for _, s := range w.bus.all() {
			if len(s.q.CommandResults) == 0 {
				continue
			}
			if state, _ := stateOf(s.q, "htc-2"); state != "IDLE+DRAIN+POWERED_DOWN" || s.q.Cause != event.CauseCommand {
				t.Errorf("the first snapshot with the result shows %s, cause %s", state, s.q.Cause)
			}
			return
		}
		t.Error("no result came")
	})
}

func TestACommandThatDoesNotShowHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.slurm.deaf = true
		runAgent(t, w.options())
		result := w.order(event.SlurmCommand{ID: "a", Kind: event.FenceNodes, Nodes: "htc-[1-2]"})
		if result.State != event.ResultFailed || result.Failed != "htc-[1-2]" || result.Error == "" {
			t.Errorf("result %+v", result)
		}
		result = w.order(event.SlurmCommand{ID: "b", Kind: event.ExcludeFromSuspend, Nodes: "htc-1", Value: event.ExcludeKeep})
		if result.State != event.ResultFailed || result.Failed != "htc-1" || !strings.Contains(result.Error, "No valid entity") {
			t.Errorf("what 22.05 cannot do: %+v", result)
		}
		result = w.order(event.SlurmCommand{ID: "c", Kind: event.SetNodeAddr, Nodes: "htc-1", Value: "10.0.0.4"})
		if result.State != event.ResultOK {
			t.Errorf("set_node_addr: %+v", result)
		}
	})
}

func TestCommandsWaitForASlurmctldThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Second)
		w.slurm.change(func(s *fakeSlurm) { s.down = errOutage })
		w.bus.put(t, event.SlurmCommand{ID: "a", Kind: event.PowerUp, Generation: 1, Nodes: "htc-1"})
		time.Sleep(time.Minute)
		if len(of(w.bus, completed)) != 0 {
			t.Fatal("the command was settled while slurmctld was away")
		}
		w.slurm.change(func(s *fakeSlurm) { s.down = nil })
		time.Sleep(20 * time.Second)
		if got := w.bus.last(t).CommandResults; len(got) != 1 || got[0].State != event.ResultOK {
			t.Errorf("results %+v", got)
		}
		// It does not wait for ever.
		w.slurm.change(func(s *fakeSlurm) { s.down = errOutage })
		w.bus.put(t, event.SlurmCommand{ID: "b", Kind: event.PowerUp, Generation: 1, Nodes: "htc-2"})
		time.Sleep(5 * time.Minute)
		w.slurm.change(func(s *fakeSlurm) { s.down = nil })
		time.Sleep(20 * time.Second)
		if got := w.bus.last(t).CommandResults; len(got) != 2 || got[1].State != event.ResultFailed || len(w.slurm.done()) != 1 {
			t.Errorf("results %+v, done %v", got, w.slurm.done())
		}
	})
}

func TestBeginNowIsForWaitingJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.slurm.jobs = []slurm.Job{
			{ID: 7, State: slurm.JobPending, Eligible: time.Now().Add(121 * time.Second)},
			{ID: 9, ArrayID: 8, IsTask: true, Task: 3, State: slurm.JobPending},
			{ID: 10, State: slurm.JobRunning},
		}
		runAgent(t, w.options())
		time.Sleep(time.Second)
		if groups := w.bus.last(t).Pending; len(groups) != 2 || groups[0].BeginTime.IsZero() == groups[1].BeginTime.IsZero() {
			t.Errorf("groups %+v", groups)
		}
		result := w.order(event.SlurmCommand{ID: "a", Kind: event.BeginNow, Jobs: event.JobIDs{"7", "8_3", "10", "11"}})
		if result.State != event.ResultOK || result.Stale != "10,11" {
			t.Errorf("result %+v", result)
		}
		if got := w.slurm.done(); len(got) != 2 || !strings.Contains(got[1], "job 8_3 ") || !strings.Contains(got[0], "StartNow:true") {
			t.Errorf("updates %v", got)
		}
		if result := w.order(event.SlurmCommand{ID: "b", Kind: event.BeginNow, Generation: 9, Jobs: event.JobIDs{"7"}}); result.State != event.ResultSuperseded {
			t.Errorf("an older generation: %+v", result)
		}
		if result := w.order(event.SlurmCommand{ID: "c", Kind: event.BeginNow, Jobs: event.JobIDs{"10"}}); result.State != event.ResultStale {
			t.Errorf("a running job: %+v", result)
		}
		if result := w.order(event.SlurmCommand{ID: "d", Kind: event.BeginNow}); result.State != event.ResultRefused {
			t.Errorf("no jobs: %+v", result)
		}
	})
}

func TestBeginNowWaitsUntilTheJobHasLeftItsNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.slurm.jobs = []slurm.Job{{ID: 7, State: slurm.JobCompleting}, {ID: 8, State: slurm.JobCompleting}}
		runAgent(t, w.options())
		time.Sleep(time.Second)
		w.bus.put(t, event.SlurmCommand{ID: "a", Kind: event.BeginNow, Generation: 1, Jobs: event.JobIDs{"7"}})
		w.bus.put(t, event.SlurmCommand{ID: "b", Kind: event.BeginNow, Generation: 1, Jobs: event.JobIDs{"8"}})
		sent := len(w.bus.all())
		time.Sleep(10 * time.Second)
		if len(w.slurm.done()) != 0 || len(of(w.bus, completed)) != 0 {
			t.Fatalf("did %v, settled %v too early", w.slurm.done(), of(w.bus, completed))
		}
		if got := len(w.bus.all()) - sent; got > 1 {
			t.Errorf("%d snapshots were sent while nothing happened", got)
		}
		if r := w.order(event.SlurmCommand{ID: "c", Kind: event.PowerUp, Nodes: "htc-1"}); r.State != event.ResultOK {
			t.Errorf("another command meanwhile: %+v", r)
		}
		w.slurm.change(func(s *fakeSlurm) {
			s.jobs[0].State, s.jobs[0].Eligible = slurm.JobPending, time.Now().Add(121*time.Second)
		})
		time.Sleep(2 * time.Second)
		if got := w.slurm.done(); len(got) != 2 || !strings.HasPrefix(got[1], "job 7 ") {
			t.Errorf("did %v", got)
		}
		time.Sleep(time.Minute) // the other job never leaves
		states := map[string]event.ResultState{}
		for _, r := range w.bus.last(t).CommandResults {
			states[r.ID] = r.State
		}
		if diff := cmp.Diff(map[string]event.ResultState{"a": event.ResultOK, "b": event.ResultStale, "c": event.ResultOK}, states); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
	})
}

func TestUnreadableCommandsAreSettledAndReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Second)
		w.bus.putBody("garbage", []byte("\x00\xffnot JSON"))
		w.bus.putBody("foreign", []byte(`{"specversion":"1.0","type":"slurmburst.slurm_command.v1","source":"/slurm/other","data":{"id":"x","cluster":"other","kind":"power_up","generation":1,"nodes":"htc-1"}}`))
		time.Sleep(2 * time.Second)
		q := w.bus.last(t)
		codes := 0
		for _, p := range q.Problems {
			if p.Code == "unreadable_command" && len(p.Detail) <= 300 {
				codes++
			}
		}
		if codes != 2 || len(of(w.bus, completed)) != 2 || len(w.slurm.done()) != 0 {
			t.Errorf("problems %+v, settled %v, done %v", q.Problems, of(w.bus, completed), w.slurm.done())
		}
	})
}
