package slurm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// script puts a shell program of that name into a directory of its own and
// gives a client that runs it.
func script(t *testing.T, name, body string) *slurm.Client {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return &slurm.Client{Dir: dir, Conf: "/etc/slurm/lab.conf", Timeout: 30 * time.Second}
}

func TestProgramsGetAnEnvironmentOfTheirOwn(t *testing.T) {
	t.Setenv("SQUEUE_FORMAT", "%j")
	t.Setenv("SLURM_TIME_FORMAT", "relative")
	out := filepath.Join(t.TempDir(), "env")
	client := script(t, "scontrol", `/usr/bin/env > `+out+`; echo "Slurmctld(primary) at ctl1 is UP"`)
	if _, err := client.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "PWD" && key != "SHLVL" && key != "_" { // the shell's own
			got[key] = value
		}
	}
	want := map[string]string{
		"PATH":              "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin",
		"LC_ALL":            "C",
		"TZ":                "UTC",
		"SLURM_TIME_FORMAT": "%s",
		"SLURM_CONF":        "/etc/slurm/lab.conf",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment differs (-want +got):\n%s", diff)
	}
}

func TestTheDeadlineEndsACall(t *testing.T) {
	client := script(t, "sdiag", "exec sleep 600")
	client.Timeout = 200 * time.Millisecond
	_, err := client.Gate(t.Context())
	if fault.Of(err) != fault.Transient || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestTheEndOfACallKillsTheWholeProcessGroup(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	client := script(t, "sdiag", `sleep 600 & echo $! > `+pidFile+`.new; mv `+pidFile+`.new `+pidFile+`; wait`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := client.Gate(ctx)
		ended <- err
	}()
	var pid int
	eventually(t, "the program starts its child", func() bool {
		data, err := os.ReadFile(pidFile)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	eventually(t, "the child dies", func() bool { return !isAlive(pid) })
}

// eventually polls for at most 30 s.
func eventually(t *testing.T, what string, isSo func() bool) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !isSo() {
		select {
		case <-timeout:
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// isAlive is false for a zombie, too.
func isAlive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestACancelledCallerStopsTheProgram(t *testing.T) {
	client := script(t, "sdiag", "sleep 600")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Gate(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestEndlessOutputIsCutOffAsAnError(t *testing.T) {
	client := script(t, "sdiag", "exec cat /dev/zero")
	_, err := client.Gate(t.Context())
	if fault.Of(err) != fault.Invalid || !strings.Contains(err.Error(), "output is longer than 64 MB") {
		t.Errorf("got %v", err)
	}
}

func TestAnEndlessRecordIsDroppedNotKept(t *testing.T) {
	client := script(t, "squeue", "head -c 20000000 /dev/zero")
	jobs, dropped, err := client.Jobs(t.Context(), slurm.JobQuery{})
	if err != nil || len(jobs) != 0 || dropped != 1 {
		t.Errorf("%d jobs, %d dropped, error %v", len(jobs), dropped, err)
	}
}

func TestErrorsOfProgramsAreClassified(t *testing.T) {
	tests := []struct {
		name, body string
		kind       fault.Kind
		want       string
	}{
		{"no controller", `echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1`, fault.Transient, "ended with status 1: slurm_load_jobs error: Unable to contact slurm controller"},
		{"a timeout", `echo "squeue: error: Socket timed out on send/recv operation" >&2; exit 1`, fault.Transient, "Socket timed out"},
		{"no permission", `echo "slurm_load_jobs error: Access/permission denied" >&2; exit 1`, fault.Denied, "Access/permission denied"},
		{"wrong munge key", `echo "squeue: error: Protocol authentication error" >&2; exit 1`, fault.Denied, "Protocol authentication error"},
		{"a refused field, exit status 0", `echo "squeue: error: Invalid job format specification: ExcNodes" >&2`, fault.Bug, "squeue refused an output field"},
		{"a signal", `kill -9 $$`, fault.Transient, "ended with status -1"},
		{"a long complaint", `head -c 100000 /dev/zero | tr '\0' x >&2; exit 3`, fault.Transient, "ended with status 3: xxx"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := script(t, "squeue", tt.body).Jobs(t.Context(), slurm.JobQuery{})
			if err == nil || fault.Of(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v (%v), want %v with %q", err, fault.Of(err), tt.kind, tt.want)
			}
			if err != nil && len(err.Error()) > 3000 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
	t.Run("a missing program", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := (&slurm.Client{}).Gate(t.Context())
		if fault.Of(err) != fault.Invalid || !strings.Contains(err.Error(), "sdiag") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a missing directory", func(t *testing.T) {
		_, err := (&slurm.Client{Dir: filepath.Join(t.TempDir(), "none")}).Gate(t.Context())
		if err == nil || !strings.Contains(err.Error(), "sdiag") {
			t.Errorf("got %v", err)
		}
	})
}

func TestADownControllerIsAnAnswer(t *testing.T) {
	client := script(t, "scontrol", `echo "Slurmctld(primary) at ctl1 is DOWN"; exit 1`)
	got, err := client.Ping(t.Context())
	if diff := cmp.Diff([]slurm.Controller{{Role: "primary", Host: "ctl1"}}, got); diff != "" || err != nil {
		t.Errorf("error %v\n%s", err, diff)
	}
	client = script(t, "scontrol", `echo "scontrol: error: cannot stat slurm.conf" >&2; exit 1`)
	if _, err := client.Ping(t.Context()); fault.Of(err) != fault.Transient || !strings.Contains(err.Error(), "cannot stat slurm.conf") {
		t.Errorf("got %v", err)
	}
}

// runnerFunc is a Runner made of what a program answers.
type runnerFunc func(cmd slurm.Command) (stdout string, exit slurm.Exit, err error)

func (f runnerFunc) Run(_ context.Context, cmd slurm.Command, read func(io.Reader) error) (slurm.Exit, error) {
	stdout, exit, err := f(cmd)
	if err != nil {
		return exit, err
	}
	return exit, read(strings.NewReader(stdout))
}

func TestJobQueriesBecomeArguments(t *testing.T) {
	tests := []struct {
		name  string
		query slurm.JobQuery
		want  []string
	}{
		{"all jobs", slurm.JobQuery{}, []string{"-a", "-h", "-r", "--noconvert", "-t", "all"}},
		{"some states", slurm.JobQuery{States: []slurm.JobState{slurm.JobPending, slurm.JobConfiguring}}, []string{"-a", "-h", "-r", "--noconvert", "-t", "PENDING,CONFIGURING"}},
		{"some jobs", slurm.JobQuery{Jobs: []slurm.JobRef{{Job: 7}, {Job: 8, IsTask: true}}}, []string{"-a", "-h", "-r", "--noconvert", "-t", "all", "-j", "7,8_0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got slurm.Command
			client := &slurm.Client{Dir: "/opt/slurm/bin", Runner: runnerFunc(func(cmd slurm.Command) (string, slurm.Exit, error) {
				got = cmd
				return "", slurm.Exit{}, nil
			})}
			if _, _, err := client.Jobs(t.Context(), tt.query); err != nil {
				t.Fatal(err)
			}
			if got.Path != "/opt/slurm/bin/squeue" {
				t.Errorf("path %s", got.Path)
			}
			args, format := got.Args[:len(got.Args)-2], got.Args[len(got.Args)-1]
			if diff := cmp.Diff(tt.want, args); diff != "" {
				t.Errorf("arguments differ (-want +got):\n%s", diff)
			}
			for _, userText := range []string{"Name", "Comment", "comment", "WorkDir", "Command", "Dependency", "ExcNodes", "Exclusive"} {
				if strings.Contains(format, userText+":") && !strings.Contains(format, "User"+userText+":") {
					t.Errorf("%s is asked for: %q", userText, format)
				}
			}
		})
	}
	client := &slurm.Client{Runner: runnerFunc(func(slurm.Command) (string, slurm.Exit, error) {
		t.Error("a bad query was run")
		return "", slurm.Exit{}, nil
	})}
	for _, bad := range []slurm.JobQuery{
		{States: []slurm.JobState{"PD --json"}},
		{Jobs: make([]slurm.JobRef, 60_000)}, // one argument takes 128 KB
	} {
		if _, _, err := client.Jobs(t.Context(), bad); fault.Of(err) != fault.Invalid {
			t.Errorf("got %v", err)
		}
	}
}

func TestEachCallHasARecordMarkOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	client := &slurm.Client{Runner: runnerFunc(func(cmd slurm.Command) (string, slurm.Exit, error) {
		_, mark, _ := strings.Cut(cmd.Args[len(cmd.Args)-1], "\x1e")
		seen[mark] = true
		return "", slurm.Exit{}, nil
	})}
	for range 20 {
		if _, _, err := client.Nodes(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 20 || seen[""] {
		t.Errorf("marks %v", seen)
	}
}

func TestAnUnknownJobIsAbsentNotAnError(t *testing.T) {
	client := script(t, "squeue", `echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1`)
	jobs, dropped, err := client.Jobs(t.Context(), slurm.JobQuery{Jobs: []slurm.JobRef{{Job: 999999}}})
	if err != nil || dropped != 0 || len(jobs) != 0 {
		t.Errorf("%v, %d dropped, error %v", jobs, dropped, err)
	}
	if _, _, err := client.Jobs(t.Context(), slurm.JobQuery{}); err == nil {
		t.Error("without an id it is an error")
	}
}

func TestAHalfAnswerIsNoAnswer(t *testing.T) {
	client := script(t, "sinfo", `echo "gpu-1"; echo "slurm_load_node: Zero Bytes were transmitted or received" >&2; exit 1`)
	if nodes, _, err := client.Nodes(t.Context()); fault.Of(err) != fault.Transient || nodes != nil {
		t.Errorf("%v, error %v", nodes, err)
	}
}
