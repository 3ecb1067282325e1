package agent_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/agent"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/local/slurmlab"
)

// One head node, whose local partition is full, goes through what the cloud can
// ask of jobs and partitions.
func TestRealSlurmReleasesAndRevokesJobs(t *testing.T) {
	t.Parallel()
	h := startHead(t, slurmlab.Config{
		LocalNodes: 1, SuspendTimeout: 5 * time.Second, Partitions: []slurmlab.CloudPartition{{Name: "htc", Count: 3}, {Name: "hpc", Count: 2}},
	})
	c := newCloud(t)
	options := h.options(c)
	options.Nodearrays = []agent.Nodearray{
		{Name: "htc", Partition: "htc", Nodes: []slurm.NodeName{"htc-1", "htc-2", "htc-3"}},
		{Name: "hpc", Partition: "hpc", Nodes: []slurm.NodeName{"hpc-1", "hpc-2"}},
	}
	runAgent(t, options)
	full := h.submit("--partition=local", "--ntasks=4", "--time=10", "--wrap=sleep 600")
	eventually(t, "the local partition is full", func() (bool, string) {
		state := h.must(h.lab.Run(t.Context(), "squeue", "--noheader", "--jobs="+string(full), "--format=%T"))
		return state == "RUNNING", state
	})
	later := h.submit("--partition=local", "--time=5", "--wrap=true")
	t.Log("a released job starts in the cloud")
	h.releaseOne(c, full)
	t.Log("a job whose boot is aborted moves to the next nodearray")
	h.moveAfterAbort(c)
	t.Log("lists change only as the policy's partitions allow")
	h.moves(c)
	t.Log("tasks of arrays are moved without splitting what need not be split")
	h.arrays(c)
	t.Log("notices are read as they were written")
	h.notices(c, full)
	t.Log("a gate stops starts and shows in the next snapshot")
	h.gates(c)
	t.Log("a node is powered up without a job")
	h.powerUp(c)
	t.Log("a job that waits is told with the start that Slurm foresees")
	began := time.Now()
	q := c.await("an expected start", 0, func(q event.QueuePressure) bool {
		return slices.ContainsFunc(q.Pending, func(g event.PendingGroup) bool { return slices.Contains(g.Jobs, later) && !g.ExpectedStart.IsZero() })
	})
	// The job that fills the partition has ten minutes.
	if wait := q.Pending[0].ExpectedStart.Sub(began); wait < 5*time.Minute || wait > 11*time.Minute {
		t.Errorf("expected to start in %v", wait)
	}
}

func (h *head) submit(args ...string) event.JobID {
	h.t.Helper()
	id, err := h.lab.Submit(h.t.Context(), args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return event.JobID(decimal(id))
}

// lists gives Slurm's records of a job or an array, "5 4-7 local,htc". squeue
// shows records that look alike as one.
func (h *head) lists(id event.JobID) []string {
	h.t.Helper()
	out := h.must(h.lab.Run(h.t.Context(), "scontrol", "--oneliner", "show", "job", string(id)))
	var lines []string
	for record := range strings.Lines(out) {
		words := map[string]string{}
		for word := range strings.FieldsSeq(record) {
			key, value, _ := strings.Cut(word, "=")
			words[key] = value
		}
		line := words["Partition"]
		if tasks, isTask := words["ArrayTaskId"]; isTask {
			line = tasks + " " + line
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

func (h *head) wantLists(what string, id event.JobID, want ...string) {
	h.t.Helper()
	slices.Sort(want)
	if got := h.lists(id); !slices.Equal(got, want) {
		h.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func release(list string, jobs ...event.JobID) event.SlurmCommand {
	return event.SlurmCommand{Kind: event.ReleaseJobs, Jobs: jobs, Partitions: strings.Split(list, ","), Expect: event.Expect{Pending: true}}
}

func revoke(list string, jobs ...event.JobID) event.SlurmCommand {
	command := release(list, jobs...)
	command.Kind = event.RevokeJobs
	return command
}

func (h *head) releaseOne(c *cloud, full event.JobID) {
	t := h.t
	t.Helper()
	from := len(c.taken())
	job := h.submit("--partition=local", "--time=2", "--wrap=sleep 1")
	c.await("the job waits", from, func(q event.QueuePressure) bool {
		return slices.ContainsFunc(q.Pending, func(g event.PendingGroup) bool { return slices.Contains(g.Jobs, job) })
	})
	result, _ := c.order(release("local,htc", job, full, "999999"))
	if result.State != event.ResultOK || result.Stale != string(full)+",999999" || result.Failed != "" {
		t.Errorf("release: %+v", result)
	}
	c.await("htc-1 boots for it", from, func(q event.QueuePressure) bool {
		up := q.CloudNodes[1].PoweringUp
		if q.CloudNodes[0].Nodearray == "htc" {
			up = q.CloudNodes[0].PoweringUp
		}
		return len(up) == 1 && up[0].Node == "htc-1" && len(up[0].Jobs) == 1 && up[0].Jobs[0].ID == job
	})
	if result, _ := c.order(revoke("local", job)); result.State != event.ResultStale || result.Stale != string(job) {
		t.Errorf("revoking a job that boots a node: %+v", result)
	}
	h.boot("htc-1")
	ended := c.await("the job has run", from, func(q event.QueuePressure) bool { return len(q.Ended) > 0 })
	c.await("its run is summed up", from, func(q event.QueuePressure) bool {
		return len(q.Finished) == 1 && q.Finished[0].Jobs == 1 && q.Finished[0].LimitSeconds == 120 && q.Finished[0].RunSeconds > 0
	})
	if got := ended.Ended[0]; got.ID != job || got.State != "COMPLETED" || got.Nodes != "htc-1" {
		t.Errorf("ended: %+v", got)
	}
}

// One node of the job is up, so that it takes seconds to leave it, and until
// then it cannot be moved.
func (h *head) moveAfterAbort(c *cloud) {
	t := h.t
	t.Helper()
	from := len(c.taken())
	job := h.submit("--partition=htc", "--nodes=2", "--exclude=htc-3", "--wrap=true")
	c.await("htc-2 boots", from, func(q event.QueuePressure) bool {
		state, _ := stateOf(q, "htc-2")
		return strings.Contains(state, "POWERING_UP")
	})
	if result, _ := c.order(release("hpc", job)); result.State != event.ResultStale || result.Stale != string(job) {
		t.Errorf("moving a job that boots a node: %+v", result)
	}
	c.orderOK(event.SlurmCommand{
		Kind: event.AbortBoot, Nodes: "htc-2", Expect: event.Expect{Flags: []string{"POWERING_UP", "NOT_RESPONDING"}, RequeueableBatchOnly: true},
	})
	began := time.Now()
	c.orderOK(release("hpc", job))
	t.Logf("the move after the abort took %v", time.Since(began).Round(100*time.Millisecond))
	h.wantLists("after the abort", job, "hpc")
	c.orderOK(event.SlurmCommand{Kind: event.BeginNow, Jobs: event.JobIDs{job}})
	c.await("the next nodearray boots for it", from, func(q event.QueuePressure) bool {
		state, _ := stateOf(q, "hpc-1")
		return strings.Contains(state, "POWERING_UP") || strings.Contains(state, "ALLOCATED")
	})
	if _, err := h.lab.Run(t.Context(), "scancel", string(job)); err != nil {
		t.Error(err)
	}
}

func (h *head) moves(c *cloud) {
	t := h.t
	t.Helper()
	job := h.submit("--partition=local", "--begin=now+1hour", "--wrap=true")
	for _, step := range []struct {
		what    string
		command event.SlurmCommand
		want    event.ResultState
		list    string
	}{
		{"released into the first nodearray", release("local,htc", job), event.ResultOK, "local,htc"},
		{"released there again, in another order", release("htc,local", job), event.ResultOK, "local,htc"},
		{"moved to the next", release("local,hpc", job), event.ResultOK, "local,hpc"},
		{"its own partition may not be dropped", release("hpc", job), event.ResultStale, "local,hpc"},
		{"a partition that Slurm does not know", release("local,hpc,nosuch", job), event.ResultRefused, "local,hpc"},
		{"a revocation adds nothing", revoke("local,htc", job), event.ResultStale, "local,hpc"},
		{"revoked", revoke("local", job), event.ResultOK, "local"},
		{"revoked again", revoke("local", job), event.ResultOK, "local"},
		{"a list of nothing", revoke("", job), event.ResultRefused, "local"},
	} {
		if result, _ := c.order(step.command); result.State != step.want {
			t.Errorf("%s: %+v, want %s", step.what, result, step.want)
		}
		h.wantLists(step.what, job, step.list)
	}
	c.orderOK(event.SlurmCommand{Kind: event.BeginNow, Jobs: event.JobIDs{job}})
	if got := h.must(h.lab.Run(t.Context(), "squeue", "--noheader", "--jobs="+string(job), "--format=%r")); strings.Contains(got, "BeginTime") {
		t.Errorf("the job waits for %s", got)
	}
	if _, err := h.lab.Run(t.Context(), "scancel", string(job)); err != nil {
		t.Error(err)
	}
}

func (h *head) arrays(c *cloud) {
	t := h.t
	t.Helper()
	job := h.submit("--partition=local", "--begin=now+1hour", "--wrap=true")
	array := h.submit("--partition=local", "--begin=now+1hour", "--array=1-8", "--wrap=true")
	task := func(i int) event.JobID { return event.JobID(fmt.Sprintf("%s_%d", array, i)) }

	c.orderOK(release("local,htc", task(3)))
	h.wantLists("one task", array, "1-2,4-8 local", "3 local,htc")
	c.orderOK(release("local,htc", job, task(6), task(4)))
	h.wantLists("two tasks and a job", array, "1-2,5,7-8 local", "3 local,htc", "4 local,htc", "6 local,htc")
	h.wantLists("two tasks and a job", job, "local,htc")
	c.orderOK(release("local,hpc", task(1), task(2), task(5), task(7), task(8)))
	h.wantLists("all tasks of the record that is left", array, "1-2,5,7-8 local,hpc", "3 local,htc", "4 local,htc", "6 local,htc")
	c.orderOK(revoke("local", array, job))
	h.wantLists("the whole array", array, "1-2,5,7-8 local", "3 local", "4 local", "6 local")

	c.orderOK(event.SlurmCommand{Kind: event.BeginNow, Jobs: event.JobIDs{task(4), task(8)}})
	eligible := h.must(h.lab.Run(t.Context(), "squeue", "--noheader", "--array", "--jobs="+string(array), "--Format=ArrayTaskID:10,EligibleTime:30"))
	for line := range strings.Lines(eligible) {
		fields := strings.Fields(line)
		at, err := time.ParseInLocation("2006-01-02T15:04:05", fields[1], time.Local)
		if waits := time.Until(at) > 30*time.Minute; err != nil || waits == (fields[0] == "4" || fields[0] == "8") {
			t.Errorf("after begin_now of tasks 4 and 8, task %s waits until %v: %v", fields[0], at, err)
		}
	}
	for _, id := range []event.JobID{array, job} {
		if _, err := h.lab.Run(t.Context(), "scancel", string(id)); err != nil {
			t.Error(err)
		}
	}
}

func (h *head) notices(c *cloud, running event.JobID) {
	t := h.t
	t.Helper()
	job := h.submit("--partition=local", "--begin=now+1hour", "--wrap=true")
	array := h.submit("--partition=local", "--begin=now+1hour", "--array=1-4", "--wrap=true")
	comment := func(id event.JobID) string {
		return h.must(h.lab.Run(t.Context(), "squeue", "--noheader", "--array", "--jobs="+string(id), "--Format=admin_comment:0"))
	}
	for _, text := range []struct{ what, write, read string }{
		{"plain", "held: budget of 12.50 EUR per day is used up", "held: budget of 12.50 EUR per day is used up"},
		{"quotes and shell", `it's "x"; $(reboot) | %s %n \ & > ~`, `it's "x"; $(reboot) | %s %n \ & > ~`},
		{"keys", "Partition=nosuch Priority=1,JobId=1 a=b", "Partition=nosuch Priority=1,JobId=1 a=b"},
		{"lines and controls", "a\nb\x1f\x00\x1b[31mc\u202e", "a?b???[31mc?"},
		{"long", strings.Repeat("x", 130_000), strings.Repeat("x", 200)},
		{"other scripts", "Größe ≥ 5 節", "Größe ≥ 5 節"},
		{"an option", "--help", "--help"},
	} {
		c.orderOK(event.SlurmCommand{Kind: event.NoticeJobs, Jobs: event.JobIDs{job, running}, Value: text.write})
		if got := comment(job); got != text.read {
			t.Errorf("%s: %q, want %q", text.what, got, text.read)
		}
		h.wantLists(text.what, job, "local")
	}
	if got := comment(running); got != "--help" {
		t.Errorf("the running job bears %q", got)
	}
	c.orderOK(event.SlurmCommand{Kind: event.NoticeJobs, Jobs: event.JobIDs{array}, Value: "all"})
	h.wantLists("a notice on a whole array", array, "1-4 local")
	c.orderOK(event.SlurmCommand{Kind: event.NoticeJobs, Jobs: event.JobIDs{array + "_2"}, Value: "one"})
	if got := strings.Fields(comment(array)); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"all", "all", "all", "one"}) {
		t.Errorf("the array bears %q", got)
	}
	if result, _ := c.order(event.SlurmCommand{Kind: event.NoticeJobs, Jobs: event.JobIDs{"999999"}, Value: "x"}); result.State != event.ResultStale {
		t.Errorf("a notice on no job: %+v", result)
	}
	for _, id := range []event.JobID{array, job} {
		if _, err := h.lab.Run(t.Context(), "scancel", string(id)); err != nil {
			t.Error(err)
		}
	}
}

func (h *head) gates(c *cloud) {
	t := h.t
	t.Helper()
	gate := func(name, state string) event.SlurmCommand {
		return event.SlurmCommand{Kind: event.GatePartition, Partition: name, Value: state}
	}
	stateIn := func(q event.QueuePressure) string {
		for _, p := range q.Partitions {
			if p.Name == "hpc" {
				return p.State
			}
		}
		return "absent"
	}
	for _, state := range []string{"DOWN", "UP"} {
		if q := c.orderOK(gate("hpc", state)); stateIn(q) != state {
			t.Errorf("the snapshot says %s, want %s", stateIn(q), state)
		}
		want := map[string]string{"UP": "up", "DOWN": "down"}[state]
		if got := h.must(h.lab.Run(t.Context(), "sinfo", "--noheader", "--partition=hpc", "--format=%a")); got != want {
			t.Errorf("hpc is %s, want %s", got, want)
		}
	}
	for _, bad := range []event.SlurmCommand{gate("local", "DOWN"), gate("hpc", "INACTIVE"), gate("", "DOWN"), gate("hpc State=DOWN", "UP")} {
		if result, _ := c.order(bad); result.State != event.ResultRefused {
			t.Errorf("gate of %q to %q: %+v", bad.Partition, bad.Value, result)
		}
	}
	h.must(h.lab.Run(t.Context(), "scontrol", "update", "partitionname=hpc", "state=drain"))
	if result, _ := c.order(gate("hpc", "UP")); result.State != event.ResultStale || result.Stale != "hpc" {
		t.Errorf("an admin's drain: %+v", result)
	}
}

func (h *head) powerUp(c *cloud) {
	t := h.t
	t.Helper()
	from := len(c.taken())
	c.orderOK(event.SlurmCommand{Kind: event.PowerUp, Nodes: "htc-3", Expect: event.Expect{Flags: []string{"POWERED_DOWN"}}})
	c.await("htc-3 boots by a resume call", from, func(q event.QueuePressure) bool {
		for _, array := range q.CloudNodes {
			for _, up := range array.PoweringUp {
				if up.Node == "htc-3" && up.ResumeID != "" && len(up.Jobs) == 0 {
					return true
				}
			}
		}
		return false
	})
	h.boot("htc-3")
	c.await("htc-3 is idle", from, func(q event.QueuePressure) bool { state, _ := stateOf(q, "htc-3"); return state == "IDLE" })
	if result, _ := c.order(event.SlurmCommand{Kind: event.PowerUp, Nodes: "htc-3"}); result.State != event.ResultStale {
		t.Errorf("power_up of a node that is up: %+v", result)
	}
	if got := h.must(h.lab.NodeState(t.Context(), "htc-3")); got != "IDLE+CLOUD" {
		t.Errorf("htc-3 is %s", got)
	}
}
