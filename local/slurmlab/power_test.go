package slurmlab_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/local/child"
	"github.com/slurmburst/slurmburst/local/slurmlab"
)

// One node name goes up, down, up and down again on one host, and its jobs run
// each time, while slurmctld never stops answering for long.
func TestSameNodeNameSurvivesPowerCycles(t *testing.T) {
	t.Parallel()
	lab := startLab(t, slurmlab.Config{
		SuspendTimeout: 2 * time.Second,
		Partitions:     []slurmlab.CloudPartition{{Name: "htc", Count: 3}, {Name: "hpc", NodeNames: "big-[01-02]"}},
	})
	slowest := watchAnswers(t, lab)
	const cycles = 3
	for range cycles {
		runOnce(t, lab, "htc-2")
	}
	if got := slowest(); got > 5*time.Second {
		t.Errorf("slurmctld once took %v to answer", got)
	}
	log := controllerLog(t, lab)
	if len(log.Resumes) != cycles || len(log.Suspends) != cycles || len(log.PowerDowns) != cycles {
		t.Errorf("resumes %+v, suspends %+v, power downs %+v: want %d each", log.Resumes, log.Suspends, log.PowerDowns, cycles)
	}
	for _, call := range append(log.Resumes, log.Suspends...) {
		if call.Hostlist != "htc-2" || len(call.Nodes) != 1 || time.Since(call.Time) > time.Hour {
			t.Errorf("call %+v is not for htc-2, just now", call)
		}
	}
	for _, down := range log.PowerDowns {
		if down.Node != "htc-2" || !down.Drained || down.Repeated {
			t.Errorf("power down %+v is not the power_down_asap of htc-2", down)
		}
	}
}

// runOnce takes a node through one life: a job wants it, it boots, the job runs,
// it is powered down and deleted.
func runOnce(t *testing.T, lab *slurmlab.Lab, node string) {
	t.Helper()
	srun := lab.Srun(t.Context(), "--partition=htc", "--nodelist="+node, "sh", "-c", "echo $SLURMD_NODENAME")
	var out []byte
	var failure error
	done := make(chan struct{})
	go func() {
		defer close(done)
		out, failure = srun.Output()
	}()
	eventually(t, "ResumeProgram was called", func(ctx context.Context) (bool, string) {
		log := controllerLog(t, lab)
		return len(log.Resumes) > len(log.Suspends), ""
	})
	process := bootNode(t, lab, node)
	<-done
	if failure != nil || string(out) != node+"\n" {
		t.Fatalf("srun on %s printed %q: %v", node, out, failure)
	}
	awaitNode(t, lab, node, "IDLE", "POWER", "COMPLETING", "NOT_RESPONDING")
	if _, err := lab.Run(t.Context(), "scontrol", "update", "nodename="+node, "state=power_down_asap", "reason=idle"); err != nil {
		t.Fatal(err)
	}
	awaitNode(t, lab, node, "IDLE+CLOUD+POWERING_DOWN")
	deleteNode(t, lab, node, process)
	awaitNode(t, lab, node, "IDLE+CLOUD+POWERED_DOWN")
}

// watchAnswers asks slurmctld all the time and gives the longest wait.
func watchAnswers(t *testing.T, lab *slurmlab.Lab) (slowest func() time.Duration) {
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan time.Duration, 1)
	go func() {
		var longest time.Duration
		for ctx.Err() == nil {
			begin := time.Now()
			_, err := lab.Sinfo(ctx, "--noheader")
			if err == nil {
				longest = max(longest, time.Since(begin))
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		result <- longest
	}()
	return func() time.Duration {
		cancel()
		return <-result
	}
}

func TestNodeThatNeverBootsIsToldByTheLog(t *testing.T) {
	t.Parallel()
	lab := startLab(t, slurmlab.Config{
		ResumeTimeout: 2 * time.Second,
		Partitions:    []slurmlab.CloudPartition{{Name: "htc", Count: 2}},
	})
	requeued, err := lab.Submit(t.Context(), "--nodelist=htc-1", "--wrap=true")
	if err != nil {
		t.Fatal(err)
	}
	failed, err := lab.Submit(t.Context(), "--no-requeue", "--nodelist=htc-2", "--wrap=true")
	if err != nil {
		t.Fatal(err)
	}
	var log slurmlab.ControllerLog
	eventually(t, "ResumeFailProgram was called for both nodes", func(context.Context) (bool, string) {
		log = controllerLog(t, lab)
		nodes := 0
		for _, call := range log.ResumeFails {
			nodes += len(call.Nodes)
		}
		return nodes == 2, ""
	})
	if len(log.BootTimeouts) != 2 || len(log.Requeued) != 1 || len(log.NodeFailed) != 1 {
		t.Errorf("boot timeouts %+v, requeued %v, failed %v: want 2, 1, 1", log.BootTimeouts, log.Requeued, log.NodeFailed)
	}
	for id, want := range map[int]string{requeued: "PENDING", failed: "NODE_FAIL"} {
		if state, err := lab.JobState(t.Context(), id); err != nil || state != want {
			t.Errorf("job %d is %s, want %s: %v", id, state, want, err)
		}
	}
	for _, end := range jobEnds(t, lab) {
		if end.State != "NODE_FAIL" {
			t.Errorf("end %+v, want NODE_FAIL", end)
		}
	}
}

func TestDeletedNodeTakesItsJobProcessesWithIt(t *testing.T) {
	t.Parallel()
	lab := startLab(t, slurmlab.Config{LocalNodes: 1, Partitions: []slurmlab.CloudPartition{{Name: "htc", Count: 1}}})
	local := startSrun(t, lab, "srun-local.out", "--partition=local", "sleep", "4711")
	cloud := startSrun(t, lab, "srun-htc.out", "--partition=htc", "sleep", "4712")
	eventually(t, "ResumeProgram was called", func(context.Context) (bool, string) {
		return len(controllerLog(t, lab).Resumes) == 1, ""
	})
	process := bootNode(t, lab, "htc-1")
	eventually(t, "both jobs sleep", func(context.Context) (bool, string) {
		for name, srun := range map[string]*child.Process{"local": local, "htc": cloud} {
			select {
			case <-srun.Done():
				t.Fatalf("srun for %s has ended: %v", name, srun.Err())
			default:
			}
		}
		return sleeps(t, "4711") && sleeps(t, "4712"), ""
	})
	// A shell of a user who works with this lab is none of its leftovers.
	shell := &exec.Cmd{Path: "/bin/sleep", Args: []string{"sleep", "4713"}, Env: lab.Env()}
	user := start(t, shell)
	t.Cleanup(user.Kill)
	deleteNode(t, lab, "htc-1", process)
	eventually(t, "the cloud job's process is gone", func(context.Context) (bool, string) {
		return !sleeps(t, "4712"), ""
	})
	if !sleeps(t, "4711") || !sleeps(t, "4713") {
		t.Error("a process of another node, or of a user, was killed too")
	}
}

func start(t *testing.T, cmd *exec.Cmd) *child.Process {
	t.Helper()
	process, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return process
}

// powerUp brings up a cloud node without a job.
func powerUp(t *testing.T, lab *slurmlab.Lab, node string) *child.Process {
	t.Helper()
	if _, err := lab.Run(t.Context(), "scontrol", "update", "nodename="+node, "state=power_up"); err != nil {
		t.Fatal(err)
	}
	awaitNode(t, lab, node, "IDLE+CLOUD+NOT_RESPONDING+POWERING_UP")
	process := bootNode(t, lab, node)
	awaitNode(t, lab, node, "IDLE", "POWER", "NOT_RESPONDING")
	return process
}

// The global SuspendTime is INFINITE, so only partitions with a value of their
// own are suspended by Slurm, and on-prem nodes never are.
func TestOnlyThePartitionsOwnTimerSuspends(t *testing.T) {
	t.Parallel()
	lab := startLab(t, slurmlab.Config{LocalNodes: 1, Partitions: []slurmlab.CloudPartition{
		{Name: "quick", Count: 1, SuspendTime: 2 * time.Second},
		{Name: "slow", Count: 1},
	}})
	powerUp(t, lab, "slow-1")
	powerUp(t, lab, "quick-1")
	awaitNode(t, lab, "quick-1", "IDLE+CLOUD+POWER")
	eventually(t, "SuspendProgram was called", func(context.Context) (bool, string) {
		return len(controllerLog(t, lab).Suspends) == 1, ""
	})
	log := controllerLog(t, lab)
	if log.Suspends[0].Hostlist != "quick-1" || len(log.PowerDowns) != 0 || len(log.PowerUps) != 2 {
		t.Errorf("suspends %+v, power downs %+v, power ups %+v: want quick-1 alone, by no request", log.Suspends, log.PowerDowns, log.PowerUps)
	}
	for node, want := range map[string]string{"slow-1": "IDLE+CLOUD", "local-1": "IDLE"} {
		if state, err := lab.NodeState(t.Context(), node); err != nil || state != want {
			t.Errorf("%s is %s, want %s: %v", node, state, want, err)
		}
	}
}

func TestBatchJobRunsOnACloudNodeAfterARestartAndAReconfigure(t *testing.T) {
	t.Parallel()
	lab := startLab(t, slurmlab.Config{Partitions: []slurmlab.CloudPartition{{Name: "htc", Count: 2}}})
	powerUp(t, lab, "htc-2")
	if err := lab.RestartController(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := lab.Reconfigure(t.Context()); err != nil {
		t.Fatal(err)
	}
	id, err := lab.Submit(t.Context(), "--nodelist=htc-2", "--wrap=echo on $SLURMD_NODENAME", "--output=out.txt")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job is complete", func(ctx context.Context) (bool, string) {
		state, err := lab.JobState(ctx, id)
		return err == nil && state == "COMPLETED", state
	})
	ends := jobEnds(t, lab)
	if len(ends) != 1 || ends[0].JobID != id || ends[0].Nodes != "htc-2" || ends[0].State != "COMPLETED" {
		t.Errorf("ends %+v, want one of job %d on htc-2", ends, id)
	}
}
