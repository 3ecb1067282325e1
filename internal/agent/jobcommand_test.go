package agent_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/agent"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// bothArrays are options with two partitions of the policy, htc and hpc.
func (w *world) bothArrays() agent.Options {
	options := w.options()
	options.Nodearrays = append(options.Nodearrays, agent.Nodearray{Name: "hpc", Partition: "hpc", Nodes: []slurm.NodeName{"hpc-1"}})
	return options
}

func partitions(list string) []slurm.PartitionName {
	var names []slurm.PartitionName
	for name := range strings.SplitSeq(list, ",") {
		names = append(names, slurm.PartitionName(name))
	}
	return names
}

// waiting is a job that waits in the partitions; taskOf is a task that does.
func waiting(id int, list string) slurm.Job {
	return slurm.Job{ID: slurm.JobID(id), State: slurm.JobPending, Partitions: partitions(list)}
}

func taskOf(array, index int, state slurm.JobState, list string) slurm.Job {
	return slurm.Job{
		ID: slurm.JobID(array), ArrayID: slurm.JobID(array), IsTask: true, Task: uint32(index), State: state, Partitions: partitions(list),
	}
}

// listsOf gives the partitions of each job.
func (w *world) listsOf() map[string]string {
	w.slurm.mu.Lock()
	defer w.slurm.mu.Unlock()
	lists := map[string]string{}
	for _, job := range w.slurm.jobs {
		var words []string
		for _, name := range job.Partitions {
			words = append(words, string(name))
		}
		lists[job.Ref().String()] = strings.Join(words, ",")
	}
	return lists
}

func TestListsOfPartitionsChangeOnlyByThoseOfThePolicy(t *testing.T) {
	for _, c := range []struct {
		what    string
		has     string
		command event.SlurmCommand
		want    event.ResultState
		becomes string
	}{
		{"a local job may use the cloud", "local", release("local,htc", "7"), event.ResultOK, "htc,local"},
		{"into two nodearrays", "local", release("local,htc,hpc", "7"), event.ResultOK, "hpc,htc,local"},
		{"from one nodearray to the next", "local,htc", release("local,hpc", "7"), event.ResultOK, "hpc,local"},
		{"a job without a local partition, too", "htc", release("hpc", "7"), event.ResultOK, "hpc"},
		{"both local partitions stay", "local,big", release("local,big,htc", "7"), event.ResultOK, "big,htc,local"},
		{"what it has already is enough", "local,htc", release("htc,local", "7"), event.ResultOK, "local,htc"},
		{"a local partition would go", "local,big", release("local,htc", "7"), event.ResultStale, "local,big"},
		{"the only local partition would go", "local", release("htc", "7"), event.ResultStale, "local"},
		{"a foreign partition would come", "local", release("local,htc,big", "7"), event.ResultRefused, "local"},
		{"a release into no cloud", "local,htc", release("local", "7"), event.ResultRefused, "local,htc"},
		{"a partition twice", "local", release("local,htc,htc", "7"), event.ResultRefused, "local"},
		{"a partition with a second key", "local", release("local,htc Priority=1", "7"), event.ResultRefused, "local"},
		{"a list too long", "local", release("htc"+strings.Repeat(",x", 64), "7"), event.ResultRefused, "local"},
		{"the cloud is taken back", "local,htc,hpc", revoke("local", "7"), event.ResultOK, "local"},
		{"one of two clouds is taken back", "local,htc,hpc", revoke("local,hpc", "7"), event.ResultOK, "hpc,local"},
		{"taken back already", "local", revoke("local", "7"), event.ResultOK, "local"},
		{"nothing would be left", "htc", revoke("", "7"), event.ResultRefused, "htc"},
		{"another cloud would come", "local,htc", revoke("local,hpc", "7"), event.ResultStale, "local,htc"},
		{"a local partition would go with it", "local,big,htc", revoke("local", "7"), event.ResultStale, "local,big,htc"},
		{"a foreign one would replace it", "local,htc", revoke("big", "7"), event.ResultRefused, "local,htc"},
		{"no job", "local", release("local,htc"), event.ResultRefused, "local"},
		{"no such job", "local", release("local,htc", "8"), event.ResultStale, "local"},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.slurm.jobs = []slurm.Job{waiting(7, c.has)}
				runAgent(t, w.bothArrays())
				c.command.ID = "c"
				result := w.order(c.command)
				if result.State != c.want || (result.State == event.ResultRefused) != (result.Error != "") {
					t.Errorf("result %+v, want %s", result, c.want)
				}
				if got := w.listsOf()["7"]; got != c.becomes {
					t.Errorf("the job has %s, want %s", got, c.becomes)
				}
				if calls := len(w.slurm.done()); calls != 0 && c.has == c.becomes {
					t.Errorf("Slurm was asked %d times for nothing", calls)
				}
			})
		})
	}
}

func TestOnlyJobsThatStillWaitAreMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		started := waiting(8, "local")
		started.State = slurm.JobRunning
		booting := waiting(9, "htc")
		booting.State = slurm.JobConfiguring
		w.slurm.jobs = []slurm.Job{
			waiting(7, "local"), started, booting, waiting(10, "local,big"),
			taskOf(20, 1, slurm.JobRunning, "local"), taskOf(20, 2, slurm.JobCompleted, "local"), taskOf(20, 3, slurm.JobPending, "local"), taskOf(20, 4, slurm.JobPending, "local"),
			taskOf(30, 1, slurm.JobPending, "local"), taskOf(30, 2, slurm.JobPending, "local"), taskOf(40, 1, slurm.JobRunning, "local"),
			taskOf(50, 1, slurm.JobPending, "local"), taskOf(50, 2, slurm.JobPending, "local,big"),
		}
		runAgent(t, w.bothArrays())
		command := release("local,htc", "7", "8", "9", "10", "11", "20", "30_2", "40", "50", "7")
		command.ID = "c"
		result := w.order(command)
		// Of an array only the task that still waits and does not fit is named.
		if want := (event.CommandResult{ID: "c", Generation: 10, State: event.ResultOK, Stale: "8,9,10,11,40,50_2"}); result != want {
			t.Errorf("result %+v, want %+v", result, want)
		}
		var touched []string
		for _, update := range w.slurm.done() {
			touched = append(touched, strings.Fields(update)[1])
		}
		if want := []string{"7", "20_3", "20_4", "30_2", "50_1"}; !slices.Equal(touched, want) {
			t.Errorf("touched %v, want %v", touched, want)
		}
	})
}

func TestAMoveThatDoesNotShowHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.slurm.jobs = []slurm.Job{waiting(7, "local"), waiting(8, "local,htc"), taskOf(20, 1, slurm.JobPending, "local"), taskOf(20, 2, slurm.JobPending, "local,htc")}
		w.slurm.deaf = true
		runAgent(t, w.bothArrays())
		command := release("local,htc", "7", "8", "20")
		command.ID = "c"
		result := w.order(command)
		if result.State != event.ResultFailed || result.Failed != "7,20_1" || result.Stale != "" || !strings.Contains(result.Error, "slurm_update error") {
			t.Errorf("result %+v", result)
		}
	})
}

// A job that an abort has requeued is leaving its nodes for seconds, and its
// list is not what squeue shows.
func TestJobsThatLeaveTheirNodesAreMovedOnceTheyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		leaving, never := waiting(7, "htc"), waiting(9, "htc")
		leaving.State, never.State = slurm.JobCompleting, slurm.JobCompleting
		w.slurm.jobs = []slurm.Job{leaving, waiting(8, "local,htc"), never}
		runAgent(t, w.bothArrays())
		time.Sleep(time.Second)
		command := release("local,hpc", "7", "8", "9")
		command.ID, command.Generation = "c", 5
		w.bus.put(t, command)
		time.Sleep(5 * time.Second)
		if got := w.listsOf(); got["8"] != "hpc,local" || got["7"] != "htc" || len(of(w.bus, completed)) != 0 {
			t.Fatalf("lists %v, settled %v: want the job that waits moved, and the command kept", got, of(w.bus, completed))
		}
		w.slurm.change(func(s *fakeSlurm) {
			s.jobs[0].State, s.jobs[0].Partitions = slurm.JobPending, partitions("local,htc")
			s.jobs[1].State, s.jobs[1].Partitions = slurm.JobRunning, partitions("hpc") // started where it was moved to
		})
		time.Sleep(time.Minute)
		got := w.bus.last(t).CommandResults
		if len(got) != 1 || got[0].State != event.ResultOK || got[0].Stale != "9" {
			t.Errorf("results %+v, want the job that never came back as stale", got)
		}
		if lists := w.listsOf(); lists["7"] != "hpc,local" || len(w.slurm.done()) != 2 {
			t.Errorf("lists %v after %v", lists, w.slurm.done())
		}
	})
}

func TestALaterCommandOnAJobStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.slurm.jobs = []slurm.Job{waiting(7, "local"), taskOf(20, 1, slurm.JobPending, "local"), taskOf(20, 2, slurm.JobPending, "local")}
		stop := runAgent(t, w.bothArrays())
		at := func(generation int64, c event.SlurmCommand) event.CommandResult {
			t.Helper()
			c.ID, c.Generation = fmt.Sprintf("%d/%s/%v", generation, c.Kind, c.Jobs), generation
			return w.order(c)
		}
		if r := at(8, release("local,htc", "7", "20_1")); r.State != event.ResultOK {
			t.Fatalf("result %+v", r)
		}
		if r := at(9, event.SlurmCommand{Kind: event.NoticeJobs, Jobs: event.JobIDs{"7"}, Value: "released"}); r.State != event.ResultOK {
			t.Errorf("notice: %+v", r)
		}
		stop()
		runAgent(t, w.bothArrays()) // what is remembered survives the agent
		time.Sleep(time.Second)
		for _, c := range []struct {
			what       string
			generation int64
			command    event.SlurmCommand
			want       event.ResultState
			stale      string
		}{
			{"an older revocation", 7, revoke("local", "7"), event.ResultSuperseded, "7"},
			{"a notice does not stand in the way", 8, release("local,htc", "7"), event.ResultOK, ""},
			{"an older command on the array spares the task", 7, release("local,hpc", "20"), event.ResultOK, ""},
			{"an older notice", 8, event.SlurmCommand{Kind: event.NoticeJobs, Jobs: event.JobIDs{"7"}, Value: "held"}, event.ResultSuperseded, "7"},
			{"the array as a whole", 12, revoke("local", "20"), event.ResultOK, ""},
			{"an older command on a task of it", 11, release("local,htc", "20_2"), event.ResultSuperseded, "20_2"},
		} {
			if r := at(c.generation, c.command); r.State != c.want || r.Stale != c.stale {
				t.Errorf("%s: %+v, want %s, stale %q", c.what, r, c.want, c.stale)
			}
			if lists := w.listsOf(); c.generation == 7 && c.command.Kind == event.ReleaseJobs && (lists["20_1"] != "htc,local" || lists["20_2"] != "hpc,local") {
				t.Errorf("%s: lists %v", c.what, lists)
			}
		}
		if diff := cmp.Diff(map[string]string{"7": "htc,local", "20_1": "local", "20_2": "local"}, w.listsOf()); diff != "" {
			t.Errorf("lists (-want +got):\n%s", diff)
		}
	})
}

func TestBeginNowTakesAWholeArray(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.slurm.jobs = []slurm.Job{taskOf(20, 1, slurm.JobPending, "htc"), taskOf(20, 2, slurm.JobRunning, "htc"), taskOf(20, 3, slurm.JobPending, "htc")}
		for i := range w.slurm.jobs {
			w.slurm.jobs[i].Eligible = time.Now().Add(time.Hour)
		}
		runAgent(t, w.options())
		if r := w.order(event.SlurmCommand{ID: "c", Kind: event.BeginNow, Jobs: event.JobIDs{"20"}}); r.State != event.ResultOK || r.Stale != "" {
			t.Errorf("result %+v", r)
		}
		if got := w.slurm.done(); len(got) != 2 || !strings.Contains(got[0], "20_1") || !strings.Contains(got[1], "20_3") {
			t.Errorf("updates %v", got)
		}
	})
}

func TestNoticesAreBoundedInLengthAndNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var all event.JobIDs
		for i := range 1000 {
			w.slurm.jobs = append(w.slurm.jobs, waiting(i+1, "local"))
			all = append(all, event.JobID(decimal(i+1)))
		}
		runAgent(t, w.options())
		written := func(text string) (count int) {
			w.slurm.mu.Lock()
			defer w.slurm.mu.Unlock()
			for _, job := range w.slurm.jobs {
				if job.AdminComment == text {
					count++
				}
			}
			return count
		}
		notice := func(id, text string, jobs event.JobIDs) event.CommandResult {
			t.Helper()
			return w.order(event.SlurmCommand{ID: id, Kind: event.NoticeJobs, Jobs: jobs, Value: text})
		}
		first := notice("a", strings.Repeat("é", 65_000)+"\n", all)
		if got := written(strings.Repeat("é", 100)); got != 400 {
			t.Errorf("%d jobs were written on at once, want 400", got)
		}
		over := strings.Split(first.Failed, ",")
		if first.State != event.ResultFailed || first.Error != "rate" || len(over) != 600 || over[0] != "401" || over[599] != "1000" {
			t.Errorf("result %s %q, %d failed from %s to %s", first.State, first.Error, len(over), over[0], over[len(over)-1])
		}
		if r := notice("b", strings.Repeat("é", 100), all[:400]); r.State != event.ResultOK {
			t.Errorf("what is written already costs nothing: %+v", r)
		}
		time.Sleep(30 * time.Second)
		if r := notice("c", "later", all); len(strings.Split(r.Failed, ",")) < 600 || written("later") < 200 || written("later") > 300 {
			t.Errorf("after half a minute %d were written", written("later"))
		}
		time.Sleep(time.Hour)
		if r := notice("d", "much later", all[:401]); r.Failed != "401" || written("much later") != 400 {
			t.Errorf("after an hour %d were written, failed %s", written("much later"), r.Failed)
		}
		for id, text := range map[string]string{"e": "", "f": "   "} {
			if r := notice(id, text, all[:1]); r.State != event.ResultRefused {
				t.Errorf("a notice of %q: %+v", text, r)
			}
		}
		if r := notice("h", "x", append(all, "1001")); r.State != event.ResultRefused {
			t.Errorf("1001 jobs: %+v", r)
		}
	})
}

func TestNoticesGoToJobsThatAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ended, running, leaving := waiting(7, "local"), waiting(8, "local"), waiting(9, "local")
		ended.State, running.State, leaving.State = slurm.JobCompleted, slurm.JobRunning, slurm.JobCompleting
		w.slurm.jobs = []slurm.Job{ended, running, leaving, taskOf(20, 1, slurm.JobCompleted, "local"), taskOf(20, 2, slurm.JobRunning, "local"), taskOf(20, 3, slurm.JobPending, "local")}
		runAgent(t, w.options())
		r := w.order(event.SlurmCommand{ID: "a", Kind: event.NoticeJobs, Jobs: event.JobIDs{"7", "8", "9", "10", "20"}, Value: "why"})
		if r.State != event.ResultOK || r.Stale != "7,9,10" {
			t.Errorf("result %+v", r)
		}
		if got := w.slurm.done(); len(got) != 2 || !strings.HasPrefix(got[1], "job 20 ") {
			t.Errorf("updates %v: want the array under its own id", got)
		}
		r = w.order(event.SlurmCommand{ID: "b", Kind: event.NoticeJobs, Jobs: event.JobIDs{"8", "20_2", "20_3"}, Value: "held", Expect: event.Expect{Pending: true}})
		if r.State != event.ResultOK || r.Stale != "8,20_2" {
			t.Errorf("only jobs that wait: %+v", r)
		}
		w.slurm.change(func(s *fakeSlurm) { s.deaf = true })
		r = w.order(event.SlurmCommand{ID: "c", Kind: event.NoticeJobs, Jobs: event.JobIDs{"8", "20_3"}, Value: "held"})
		if r.State != event.ResultFailed || r.Failed != "8" || r.Error != "slurm_update error: no" {
			t.Errorf("not taken: %+v", r)
		}
	})
}

func TestAGateIsAPartitionOfThePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := runAgent(t, w.bothArrays())
		gate := func(id string, generation int64, partition, value string, states ...string) event.CommandResult {
			t.Helper()
			return w.order(event.SlurmCommand{
				ID: id, Generation: generation, Kind: event.GatePartition, Partition: partition, Value: value, Expect: event.Expect{States: states},
			})
		}
		shown := func() string { t.Helper(); return w.bus.last(t).Partitions[0].State }
		if r := gate("a", 8, "htc", "DOWN"); r.State != event.ResultOK || shown() != "DOWN" {
			t.Errorf("closed: %+v, shown as %s", r, shown())
		}
		stop()
		runAgent(t, w.bothArrays())
		time.Sleep(time.Second)
		if r := gate("b", 7, "htc", "UP"); r.State != event.ResultSuperseded || r.Stale != "htc" || shown() != "DOWN" {
			t.Errorf("an older command: %+v", r)
		}
		if r := gate("c", 9, "htc", "UP", "UP"); r.State != event.ResultStale || r.Stale != "htc" {
			t.Errorf("it was expected to be open: %+v", r)
		}
		if r := gate("d", 9, "htc", "DOWN"); r.State != event.ResultOK || len(w.slurm.done()) != 1 {
			t.Errorf("closed already: %+v, did %v", r, w.slurm.done())
		}
		for id, partition := range map[string]string{"e": "local", "f": "", "g": "htc,hpc"} {
			if r := gate(id, 10, partition, "DOWN"); r.State != event.ResultRefused || r.Error == "" {
				t.Errorf("gate of %q: %+v", partition, r)
			}
		}
		if r := gate("h", 10, "htc", "DRAIN"); r.State != event.ResultRefused {
			t.Errorf("drained: %+v", r)
		}
		if r := gate("i", 10, "hpc", "DOWN"); r.State != event.ResultFailed || !strings.Contains(r.Error, "hpc") {
			t.Errorf("a partition that Slurm does not know: %+v", r)
		}
		w.slurm.change(func(s *fakeSlurm) { s.deaf = true })
		if r := gate("j", 11, "htc", "UP"); r.State != event.ResultFailed || r.Failed != "htc" || !strings.Contains(r.Error, "slurm_update error") {
			t.Errorf("not taken: %+v", r)
		}
		w.slurm.change(func(s *fakeSlurm) { s.deaf, s.gate = false, slurm.PartitionInactive })
		if r := gate("k", 12, "htc", "UP"); r.State != event.ResultStale {
			t.Errorf("an admin has taken it out of use: %+v", r)
		}
	})
}

func TestResultsOfManyJobsLeaveRoomInTheSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.bothArrays())
		var jobs event.JobIDs
		for i := range 1000 {
			jobs = append(jobs, event.JobID(fmt.Sprintf("%d_%d", 4_000_000_000-i*7919, i*31)))
		}
		for i := range 25 {
			command := release("local,htc", jobs...)
			command.ID, command.Generation = "c"+decimal(i), int64(i+1)
			w.bus.put(t, command)
		}
		time.Sleep(time.Minute)
		told := w.bus.last(t).CommandResults
		if len(told) == 0 || len(told) > 20 || told[0].ID != "c0" || len(strings.Split(told[0].Stale, ",")) != 1000 {
			t.Fatalf("%d results are told, the first %.100v", len(told), told)
		}
		var known []string
		for _, r := range told {
			known = append(known, r.ID)
		}
		w.bus.put(t, event.SlurmCommand{ID: "last", Kind: event.PowerUp, Generation: 1000, Nodes: "htc-1", Known: known})
		time.Sleep(10 * time.Second)
		if next := w.bus.last(t).CommandResults; len(next) == 0 || next[0].ID != "c"+decimal(len(told)) {
			t.Errorf("once those are known the next follow, not %.100v", next)
		}
		if size := len(of(w.bus, stored)); size > 200_000 {
			t.Errorf("state of %d bytes", size)
		}
	})
}
