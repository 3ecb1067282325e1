package agent_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/agent"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/internal/spool"
	"github.com/slurmburst/slurmburst/local/child"
	"github.com/slurmburst/slurmburst/local/slurmlab"
)

// head is a head node with real Slurm, whose hooks write into a spool.
type head struct {
	t     *testing.T
	lab   *slurmlab.Lab
	spool string
}

func startHead(t *testing.T, config slurmlab.Config) *head {
	t.Helper()
	dir := t.TempDir()
	hook := filepath.Join(dir, "burst-hook")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", hook, "../../cmd/burst-hook")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build burst-hook: %v\n%s", err, out)
	}
	h := &head{t: t, spool: filepath.Join(dir, "spool")}
	if err := os.Mkdir(h.spool, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, into := range map[string]*string{
		"burst-resume": &config.ResumeProgram, "burst-suspend": &config.SuspendProgram, "burst-resume-fail": &config.ResumeFailProgram,
	} {
		*into = filepath.Join(dir, name)
		if err := os.Symlink(hook, *into); err != nil {
			t.Fatal(err)
		}
	}
	config.Dir, config.ClusterName, config.Spool = t.TempDir(), cluster, h.spool
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lab, err := slurmlab.Start(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	h.lab = lab
	t.Cleanup(func() {
		if err := lab.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *head) options(c *cloud) agent.Options {
	listener, err := spool.Listen(h.spool)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { listener.Close() })
	return agent.Options{
		Cluster: cluster, Nodearrays: []agent.Nodearray{{Name: "htc", Nodes: []slurm.NodeName{"htc-1", "htc-2", "htc-3", "htc-4", "htc-5"}}},
		Slurm: &slurm.Client{Dir: h.lab.BinDir(), Conf: h.lab.Conf()}, Bus: agent.ServiceBus(connect(h.t, c.addr)),
		Spool: h.spool, Pokes: listener.Pokes(), PressureQueue: pressureQueue, CommandQueue: commandQueue,
		Host: "head", Version: "test", Poll: 300 * time.Millisecond, Heartbeat: 20 * time.Second, Logger: testLogger(h.t),
	}
}

// boot runs a cloud node as CycleCloud's VM would.
func (h *head) boot(name string) *child.Process {
	h.t.Helper()
	argv, env, err := h.lab.NodeCommand(name)
	if err != nil {
		h.t.Fatal(err)
	}
	process, err := child.Start(&exec.Cmd{Path: argv[0], Args: argv, Env: env, Dir: h.lab.Dir()})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(process.Kill)
	return process
}

func (h *head) must(out string, err error) string {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (h *head) spoolFiles() int {
	h.t.Helper()
	listing, err := spool.List(h.spool, 100)
	if err != nil {
		h.t.Fatal(err)
	}
	return len(listing.Entries)
}

// One head node goes through what the cloud can ask of it.
func TestRealSlurmIsReportedAndObeys(t *testing.T) {
	t.Parallel()
	h := startHead(t, slurmlab.Config{
		LocalNodes: 1, SuspendTimeout: 5 * time.Second, Partitions: []slurmlab.CloudPartition{{Name: "htc", Count: 5}},
	})
	c := newCloud(t)
	runAgent(t, h.options(c))
	first := c.await("the first snapshot", 0, func(event.QueuePressure) bool { return true })
	if first.Epoch != 1 || first.Sequence != 1 || first.SlurmVersion == "" || len(first.CloudNodes) != 1 {
		t.Fatalf("first snapshot: %+v", first)
	}
	if got := first.CloudNodes[0]; got.Defined != 5 || got.Usable != 5 || got.PoweredDown != 5 || len(got.Groups) != 0 {
		t.Errorf("nodes at first: %+v", got)
	}
	if len(first.Local) != 1 || first.Local[0].Nodes != 1 || first.Local[0].IdleCores != 4 {
		t.Errorf("local partitions at first: %+v", first.Local)
	}
	if len(first.Partitions) != 2 || first.Partitions[0].Name != "htc" || first.Partitions[0].SuspendTimeSeconds != 900 {
		t.Errorf("partitions: %+v", first.Partitions)
	}
	t.Log("fenced nodes stay fenced until they are given back")
	h.fence(c)
	t.Log("a job boots a node, which is powered down and free again")
	h.life(c)
	t.Log("an aborted boot requeues its batch jobs and spares others")
	h.abort(c)
	t.Log("a job whose nodes are half up may start again at once after an abort")
	h.abortHalf(c)
	t.Log("commands outside the allow-list are refused")
	h.refusals(c)
	if h.spoolFiles() != 0 {
		t.Errorf("%d hook calls are left in the spool", h.spoolFiles())
	}
}

func (h *head) fence(c *cloud) {
	t := h.t
	t.Helper()
	off := event.Expect{States: []string{"IDLE"}, Flags: []string{"POWERED_DOWN"}, NotFlags: []string{"DRAIN"}}
	q := c.orderOK(event.SlurmCommand{Kind: event.FenceNodes, Nodes: "htc-[4-5]", Reason: event.FenceReason, Expect: off})
	if state, group := stateOf(q, "htc-4"); state != "IDLE+DRAIN+POWERED_DOWN" || group.Reason != event.FenceReason || q.CloudNodes[0].Usable != 3 {
		t.Errorf("fenced: %s %+v, usable %d", state, group, q.CloudNodes[0].Usable)
	}
	if result, _ := c.order(event.SlurmCommand{Kind: event.FenceNodes, Nodes: "htc-4", Expect: off}); result.State != event.ResultStale || result.Stale != "htc-4" {
		t.Errorf("fencing a fenced node: %+v", result)
	}
	if err := h.lab.Reconfigure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state := h.must(h.lab.NodeState(t.Context(), "htc-5")); !strings.Contains(state, "DRAIN") {
		t.Errorf("after reconfigure htc-5 is %s", state)
	}
	c.orderOK(event.SlurmCommand{Kind: event.UnfenceNodes, Nodes: "htc-[4-5]", Expect: event.Expect{Flags: []string{"DRAIN"}, Reason: event.FenceReason}})
	if state := h.must(h.lab.NodeState(t.Context(), "htc-5")); state != "IDLE+CLOUD+POWERED_DOWN" {
		t.Errorf("given back, htc-5 is %s", state)
	}
	// An admin's drain is theirs.
	h.must(h.lab.Run(t.Context(), "scontrol", "update", "nodename=htc-3", "state=drain", "reason=bad disk"))
	if result, _ := c.order(event.SlurmCommand{Kind: event.UnfenceNodes, Nodes: "htc-3"}); result.State != event.ResultStale {
		t.Errorf("lifting an admin's drain: %+v", result)
	}
	h.must(h.lab.Run(t.Context(), "scontrol", "update", "nodename=htc-3", "state=idle"))
}

func (h *head) life(c *cloud) {
	t := h.t
	t.Helper()
	from := len(c.taken())
	job := h.lab.Srun(t.Context(), "--partition=htc", "--nodelist=htc-1", "sleep", "2")
	finished := make(chan error, 1)
	go func() { finished <- job.Run() }()
	up := c.await("htc-1 is powering up by a resume call", from, func(q event.QueuePressure) bool {
		p := q.CloudNodes[0].PoweringUp
		return len(p) == 1 && p[0].Node == "htc-1" && p[0].ResumeID != ""
	})
	if boot := up.CloudNodes[0].PoweringUp[0]; len(boot.Jobs) != 1 || boot.Jobs[0].Batch || up.Cause != event.CauseResume {
		t.Errorf("powering up: %+v, cause %s", boot, up.Cause)
	}
	process := h.boot("htc-1")
	if err := <-finished; err != nil {
		t.Fatalf("srun: %v", err)
	}
	ended := c.await("the job has ended", from, func(q event.QueuePressure) bool { return len(q.Ended) > 0 })
	if got := ended.Ended[0]; got.State != "COMPLETED" || got.Nodes != "htc-1" || got.End.IsZero() {
		t.Errorf("ended: %+v", got)
	}
	idle := c.await("htc-1 is idle", from, func(q event.QueuePressure) bool { state, _ := stateOf(q, "htc-1"); return state == "IDLE" })
	if _, group := stateOf(idle, "htc-1"); time.Since(group.Since) > time.Minute {
		t.Errorf("idle since %v", group.Since)
	}
	asap := event.SlurmCommand{
		Kind: event.PowerDownASAP, Nodes: "htc-1", Reason: "slurmburst: idle",
		Expect: event.Expect{States: []string{"IDLE"}, NotFlags: []string{"POWERED_DOWN"}},
	}
	c.orderOK(asap)
	c.await("htc-1 is powering down", from, func(q event.QueuePressure) bool {
		state, _ := stateOf(q, "htc-1")
		return strings.Contains(state, "POWERING_DOWN")
	})
	if result, _ := c.order(asap); result.State != event.ResultStale {
		t.Errorf("power_down_asap on a node that goes down: %+v", result)
	}
	process.Kill()
	if err := h.lab.KillNodeLeftovers(t.Context(), "htc-1"); err != nil {
		t.Fatal(err)
	}
	q := c.orderOK(event.SlurmCommand{Kind: event.PowerDownDone, Nodes: "htc-1", Expect: event.Expect{Flags: []string{"POWERING_DOWN"}}})
	if state, _ := stateOf(q, "htc-1"); state != "off" && state != "IDLE+POWERED_DOWN" {
		t.Errorf("after power_down_done htc-1 is %s", state)
	}
}

func (h *head) abort(c *cloud) {
	t := h.t
	t.Helper()
	from := len(c.taken())
	batch, err := h.lab.Submit(t.Context(), "--partition=htc", "--nodelist=htc-2", "--wrap=true")
	if err != nil {
		t.Fatal(err)
	}
	srun := h.lab.Srun(t.Context(), "--partition=htc", "--nodelist=htc-3", "true")
	if err := srun.Start(); err != nil {
		t.Fatal(err)
	}
	up := func(q event.QueuePressure) bool {
		a, _ := stateOf(q, "htc-2")
		b, _ := stateOf(q, "htc-3")
		return strings.Contains(a, "POWERING_UP") && strings.Contains(b, "POWERING_UP")
	}
	c.await("both nodes boot", from, up)
	result, _ := c.order(event.SlurmCommand{
		Kind: event.AbortBoot, Nodes: "htc-[2-3]",
		Expect: event.Expect{Flags: []string{"POWERING_UP", "NOT_RESPONDING"}, RequeueableBatchOnly: true},
	})
	if result.State != event.ResultOK || result.Stale != "htc-3" {
		t.Fatalf("abort_boot: %+v", result)
	}
	id := event.JobID(decimal(batch))
	q := c.orderOK(event.SlurmCommand{Kind: event.BeginNow, Jobs: event.JobIDs{id}, Expect: event.Expect{Pending: true}})
	if state := h.must(h.lab.JobState(t.Context(), batch)); state != "PENDING" && state != "CONFIGURING" {
		t.Errorf("the batch job is %s after %+v", state, q.Pending)
	}
	if out := h.must(h.lab.Run(t.Context(), "scontrol", "show", "job", decimal(batch))); !strings.Contains(out, "Restarts=1") {
		t.Errorf("the batch job was not requeued:\n%s", out)
	}
	if out := h.must(h.lab.Squeue(t.Context(), "--noheader", "--nodelist=htc-3", "--format=%T")); out != "CONFIGURING" {
		t.Errorf("the job of srun is %q", out)
	}
	if err := h.lab.Cancel(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	srun.Process.Kill()
	_ = srun.Wait() // it was killed
}

// One node of a job is up, the other never comes: after the abort the job takes
// seconds to leave the node that is up, and only then its begin time can be
// lifted.
func (h *head) abortHalf(c *cloud) {
	t := h.t
	t.Helper()
	from := len(c.taken())
	job, err := h.lab.Submit(t.Context(), "--partition=htc", "--nodes=2", "--nodelist=htc-[4-5]", "--wrap=true")
	if err != nil {
		t.Fatal(err)
	}
	id := event.JobID(decimal(job))
	c.await("both nodes boot", from, func(q event.QueuePressure) bool {
		a, _ := stateOf(q, "htc-4")
		b, _ := stateOf(q, "htc-5")
		return strings.Contains(a, "POWERING_UP") && strings.Contains(b, "POWERING_UP")
	})
	h.boot("htc-4")
	c.await("htc-4 is up", from, func(q event.QueuePressure) bool {
		state, _ := stateOf(q, "htc-4")
		return state == "ALLOCATED" || state == "MIXED"
	})
	result, _ := c.order(event.SlurmCommand{
		Kind: event.AbortBoot, Nodes: "htc-[4-5]", Expect: event.Expect{Flags: []string{"POWERING_UP", "NOT_RESPONDING"}, RequeueableBatchOnly: true},
	})
	if result.State != event.ResultOK || result.Stale != "htc-4" {
		t.Fatalf("abort_boot: %+v", result)
	}
	began := time.Now()
	q := c.orderOK(event.SlurmCommand{Kind: event.BeginNow, Jobs: event.JobIDs{id}, Expect: event.Expect{Pending: true}})
	t.Logf("begin_now took %v", time.Since(began).Round(100*time.Millisecond))
	for _, group := range q.Pending {
		if !group.BeginTime.IsZero() {
			t.Errorf("job %s waits until %v, snapshot of %v", id, group.BeginTime, q.TakenAt)
		}
	}
	if err := h.lab.Cancel(t.Context(), job); err != nil {
		t.Fatal(err)
	}
}

func (h *head) refusals(c *cloud) {
	t := h.t
	t.Helper()
	for _, command := range []event.SlurmCommand{
		{Kind: event.PowerDown, Nodes: "local-1"},
		{Kind: event.PowerDown, Nodes: "htc-[1,6]"},
		{Kind: event.PowerUp, Nodes: "htc-1;reboot"},
		{Kind: event.PowerUp},
		{Kind: event.ReleaseJobs, Jobs: event.JobIDs{"1"}, Partitions: []string{"htc"}},
		{Kind: "reboot", Nodes: "htc-1"},
		{Kind: event.SetNodeAddr, Nodes: "htc-[1-2]", Value: "127.0.0.1"},
	} {
		if result, _ := c.order(command); result.State != event.ResultRefused || result.Error == "" {
			t.Errorf("%s of %q: %+v", command.Kind, command.Nodes, result)
		}
	}
	if state := h.must(h.lab.NodeState(t.Context(), "local-1")); state != "IDLE" {
		t.Errorf("local-1 is %s", state)
	}
}
