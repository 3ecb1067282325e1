package slurmlab_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/local/child"
	"github.com/slurmburst/slurmburst/local/slurmlab"
)

// patience is how long one step may take on a slow machine. A batch job on a
// cloud node alone may need 30 s (PERIODIC_TIMEOUT of slurmctld).
const patience = 2 * time.Minute

// startLab starts a lab that is gone when the test ends, however it ends.
func startLab(t *testing.T, config slurmlab.Config) *slurmlab.Lab {
	t.Helper()
	config.Dir = t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lab, err := slurmlab.Start(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, lab)
		}
		if err := lab.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if left := processesOf(t, lab.Dir()); len(left) > 0 {
			t.Errorf("processes left behind: %q", left)
		}
	})
	return lab
}

// everySecond is what slurmctld logs of its scheduler again and again.
var everySecond = regexp.MustCompile(`(?m)^.*debug:  sched.*\n`)

// showLogs tells how each log of the lab ends.
func showLogs(t *testing.T, lab *slurmlab.Lab) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(lab.Dir(), "log", "*"))
	if err != nil {
		t.Fatal(err)
	}
	const tail = 16000
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		text = everySecond.ReplaceAll(text, nil)
		t.Logf("%s ends with:\n%s", filepath.Base(path), text[max(0, len(text)-tail):])
	}
}

// startSrun starts srun, with what it prints among the lab's logs.
func startSrun(t *testing.T, lab *slurmlab.Lab, log string, args ...string) *child.Process {
	t.Helper()
	out, err := os.Create(filepath.Join(lab.Dir(), "log", log))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() // srun has its own copy
	srun := lab.Srun(t.Context(), append([]string{"--verbose"}, args...)...)
	srun.Stdout, srun.Stderr = out, out
	process, err := child.Start(srun)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	return process
}

// processesOf lists the command lines of processes that have the lab's directory
// in their command line or, for jobs, in their environment. Zombies are gone.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, entry := range entries {
		cmdline, _ := os.ReadFile(filepath.Join(entry, "cmdline"))
		environ, _ := os.ReadFile(filepath.Join(entry, "environ"))
		if strings.Contains(string(cmdline), dir+"/") || strings.Contains(string(environ), "\x00SLURM_CONF="+dir+"/") {
			left = append(left, strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return left
}

// eventually polls until claim holds; claim also says what it saw.
func eventually(t *testing.T, what string, claim func(context.Context) (bool, string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		holds, seen := claim(ctx)
		if holds {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("not so after %v: %s; last seen: %s", patience, what, seen)
		}
	}
}

// awaitNode waits until every wanted flag is in the node's state and no unwanted one is.
func awaitNode(t *testing.T, lab *slurmlab.Lab, node, want string, without ...string) {
	t.Helper()
	eventually(t, node+" is "+want, func(ctx context.Context) (bool, string) {
		state, err := lab.NodeState(ctx, node)
		if err != nil {
			return false, err.Error()
		}
		for _, flag := range without {
			if strings.Contains(state, flag) {
				return false, state
			}
		}
		return strings.HasPrefix(state, want), state
	})
}

// bootNode runs a cloud node as the simulator will.
func bootNode(t *testing.T, lab *slurmlab.Lab, name string) *child.Process {
	t.Helper()
	argv, env, err := lab.NodeCommand(name)
	if err != nil {
		t.Fatal(err)
	}
	process, err := child.Start(&exec.Cmd{Path: argv[0], Args: argv, Env: env, Dir: lab.Dir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	return process
}

// deleteNode ends a cloud node as the deletion of its VM would.
func deleteNode(t *testing.T, lab *slurmlab.Lab, name string, process *child.Process) {
	t.Helper()
	process.Kill()
	if err := lab.KillNodeLeftovers(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

func TestJobsRunOnOnPremNodesAndBothRecordsTellIt(t *testing.T) {
	t.Parallel()
	lab := startLab(t, slurmlab.Config{LocalNodes: 2})
	out, err := lab.Srun(t.Context(), "--nodes=2", "sh", "-c", "echo $SLURMD_NODENAME").Output()
	if err != nil {
		t.Fatal(err)
	}
	if text := string(out); !strings.Contains(text, "local-1\n") || !strings.Contains(text, "local-2\n") {
		t.Errorf("srun printed %q, want both nodes", text)
	}
	good, err := lab.Submit(t.Context(), "--wrap=true")
	if err != nil {
		t.Fatal(err)
	}
	array, err := lab.Submit(t.Context(), "--array=0-1", "--job-name= JobState=CANCELLED Partition=forged ", "--wrap=exit 3")
	if err != nil {
		t.Fatal(err)
	}
	var ends []slurmlab.JobEnd
	eventually(t, "4 runs have ended", func(context.Context) (bool, string) {
		ends = jobEnds(t, lab)
		return len(ends) == 4, ""
	})
	states := map[string]int{}
	for _, end := range ends {
		switch {
		case end.ArrayJobID == array:
			states["array "+end.State]++
		case end.JobID == good:
			states["good "+end.State]++
		}
		if end.Partition != "local" || end.Start.IsZero() || end.End.Before(end.Start) {
			t.Errorf("the end %+v is not of a run in local", end)
		}
	}
	if states["array FAILED"] != 2 || states["good COMPLETED"] != 1 {
		t.Errorf("end states %v, want one good job and two failed tasks", states)
	}
	log := controllerLog(t, lab)
	if len(log.Submitted) != 3 || log.Submitted[0].IsBatch || !log.Submitted[1].IsBatch {
		t.Errorf("submissions %+v, want an srun and two sbatch", log.Submitted)
	}
	if len(log.Started) != 4 {
		t.Errorf("starts %+v, want 4", log.Started)
	}
}

func jobEnds(t *testing.T, lab *slurmlab.Lab) []slurmlab.JobEnd {
	t.Helper()
	file, err := os.Open(lab.JobCompletionsPath())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ends, err := slurmlab.ParseJobCompletions(file)
	if err != nil {
		t.Fatal(err)
	}
	return ends
}

func controllerLog(t *testing.T, lab *slurmlab.Lab) slurmlab.ControllerLog {
	t.Helper()
	file, err := os.Open(lab.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	log, err := slurmlab.ParseControllerLog(file)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// sleeps reports whether a process "sleep seconds" runs.
func sleeps(t *testing.T, seconds string) bool {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		cmdline, _ := os.ReadFile(entry)
		if strings.HasSuffix(string(cmdline), "sleep\x00"+seconds+"\x00") && strings.Count(string(cmdline), "\x00") == 2 {
			return true
		}
	}
	return false
}
