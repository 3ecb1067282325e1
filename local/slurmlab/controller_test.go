package slurmlab_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/local/slurmlab"
)

func TestJobsOutliveACleanRestartAndACrashOfTheController(t *testing.T) {
	t.Parallel()
	lab := startLab(t, slurmlab.Config{LocalNodes: 1})
	held, err := lab.Submit(t.Context(), "--hold", "--wrap=true")
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.RestartController(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state, err := lab.JobState(t.Context(), held); err != nil || state != "PENDING" {
		t.Fatalf("after a clean restart the job is %q: %v", state, err)
	}
	lab.KillController()
	select {
	case <-lab.ControllerDone():
	default:
		t.Error("slurmctld still runs after KillController")
	}
	if err := lab.StartController(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state, err := lab.JobState(t.Context(), held); err != nil || state != "PENDING" {
		t.Errorf("after a crash the job is %q: %v", state, err)
	}
	if err := lab.Cancel(t.Context(), held); err != nil {
		t.Error(err)
	}
	if state, err := lab.JobState(t.Context(), held); err != nil || state != "CANCELLED" {
		t.Errorf("after scancel the job is %q: %v", state, err)
	}
}

func TestPausedControllerAnswersNothingUntilResumed(t *testing.T) {
	t.Parallel()
	lab := startLab(t, slurmlab.Config{LocalNodes: 1})
	if err := lab.PauseController(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if out, err := lab.Squeue(ctx); err == nil {
		t.Errorf("a paused slurmctld answered %q", out)
	}
	if err := lab.ResumeController(); err != nil {
		t.Fatal(err)
	}
	if _, err := lab.Squeue(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReconfigureTakesInAChangedFile(t *testing.T) {
	t.Parallel()
	lab := startLab(t, slurmlab.Config{
		Partitions: []slurmlab.CloudPartition{{Name: "htc", Count: 2, SuspendTime: 1000 * time.Second}},
		Extra:      []string{"KillWait=17"},
	})
	conf, err := os.ReadFile(lab.Conf())
	if err != nil {
		t.Fatal(err)
	}
	if err = os.WriteFile(lab.Conf(), append(conf, "\nMinJobAge=299\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	if err = lab.Reconfigure(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, err := lab.Run(t.Context(), "scontrol", "show", "config")
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(line, "=")
		settings[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	for key, want := range map[string]string{
		"MinJobAge": "299 sec", "KillWait": "17 sec", "SuspendTime": "INFINITE", "ResumeRate": "0 nodes/min",
		"SuspendRate": "0 nodes/min", "PrivateData": "cloud", "ReturnToService": "2", "TreeWidth": "65533", "ClusterName": "onprem",
	} {
		if settings[key] != want {
			t.Errorf("%s is %q, want %q", key, settings[key], want)
		}
	}
}

func TestTwoLabsAtOnceShareNothing(t *testing.T) {
	t.Parallel()
	one := startLab(t, slurmlab.Config{ClusterName: "one", LocalNodes: 1})
	two := startLab(t, slurmlab.Config{ClusterName: "two", LocalNodes: 1, LocalPartition: "batch"})
	for lab, want := range map[*slurmlab.Lab]string{one: "one local", two: "two batch"} {
		out, err := lab.Srun(t.Context(), "sh", "-c", "echo $SLURM_CLUSTER_NAME $SLURM_JOB_PARTITION").Output()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("srun printed %q, want %q: %v", out, want, err)
		}
	}
	if err := one.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Srun(t.Context(), "true").Output(); err != nil {
		t.Errorf("the second lab after the end of the first: %v", err)
	}
}

func TestKillLeavesNoJobBehind(t *testing.T) {
	t.Parallel()
	lab := startLab(t, slurmlab.Config{LocalNodes: 1})
	if _, err := lab.Submit(t.Context(), "--export=NONE", "--wrap=sleep 4714"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job sleeps", func(context.Context) (bool, string) { return sleeps(t, "4714"), "" })
	lab.Kill()
	eventually(t, "the job's process is gone", func(context.Context) (bool, string) { return !sleeps(t, "4714"), "" })
}

func TestSpoolAndProgressAreTold(t *testing.T) {
	t.Parallel()
	var steps []string
	lab := startLab(t, slurmlab.Config{LocalNodes: 1, Spool: "/var/lib/spool", Progress: func(step string) { steps = append(steps, step) }})
	text, err := os.ReadFile(filepath.Join(filepath.Dir(lab.Conf()), "burst-spool"))
	if err != nil || string(text) != "/var/lib/spool\n" {
		t.Errorf("burst-spool is %q: %v", text, err)
	}
	if got := strings.Join(steps, ", "); got != "munged runs, slurmctld answers, 1 on-prem nodes are idle" {
		t.Errorf("steps told: %q", got)
	}
}

func TestWrongConfigurationIsNamedAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		config slurmlab.Config
		want   string
	}{
		"no nodes":         {slurmlab.Config{}, "no nodes"},
		"empty partition":  {slurmlab.Config{Partitions: []slurmlab.CloudPartition{{Name: "htc"}}}, "partition htc: it has no nodes"},
		"bad hostlist":     {slurmlab.Config{Partitions: []slurmlab.CloudPartition{{Name: "htc", NodeNames: "a[3-1]"}}}, `"a[3-1]"`},
		"node twice":       {slurmlab.Config{LocalNodes: 1, Partitions: []slurmlab.CloudPartition{{Name: "x", NodeNames: "local-1"}}}, "local-1 is defined twice"},
		"too many nodes":   {slurmlab.Config{LocalNodes: 60_000}, "no free block of ports"},
		"refused by Slurm": {slurmlab.Config{LocalNodes: 1, Extra: []string{"SelectType=select/nonsense"}}, "select/nonsense"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.config.Dir = t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := slurmlab.Start(ctx, test.config)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want it to have %q", err, test.want)
			}
			if left := processesOf(t, test.config.Dir); len(left) > 0 {
				t.Errorf("processes left behind: %q", left)
			}
		})
	}
}

func TestLongDirectoryIsRefusedBeforeMungeDoes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 25))
	if _, err := slurmlab.Start(t.Context(), slurmlab.Config{Dir: dir, LocalNodes: 1}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("error %v, want it to say that the path is too long", err)
	}
}

func TestDirectoryWithALabIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "slurm.conf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := slurmlab.Start(t.Context(), slurmlab.Config{Dir: dir, LocalNodes: 1}); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("error %v, want it to say that a lab is there", err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := slurmlab.Start(ctx, slurmlab.Config{Dir: dir, LocalNodes: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want canceled", err)
	}
	if left := processesOf(t, dir); len(left) > 0 {
		t.Errorf("processes left behind: %q", left)
	}
}

func TestOnlyCloudNodesHaveANodeCommand(t *testing.T) {
	t.Parallel()
	lab := startLab(t, slurmlab.Config{LocalNodes: 1, Partitions: []slurmlab.CloudPartition{{Name: "htc", Count: 1}}})
	for _, name := range []string{"local-1", "htc-2", "", "../htc-1"} {
		if _, _, err := lab.NodeCommand(name); err == nil {
			t.Errorf("NodeCommand(%q) gave a command", name)
		}
	}
	if err := lab.KillNodeLeftovers(t.Context(), "htc-2"); err == nil {
		t.Error("KillNodeLeftovers of an unknown node gave no error")
	}
}
