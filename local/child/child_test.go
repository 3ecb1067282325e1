package child_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/local/child"
)

// parentRole makes this test binary play a parent that starts a child, prints
// its process id and hangs.
const parentRole = "CHILD_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentRole) == "" {
		os.Exit(m.Run())
	}
	process, err := child.Start(exec.Command("sleep", "300"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(process.PID())
	<-process.Done()
}

// eventually polls until claim holds and fails the test when it does not do so in time.
func eventually(t *testing.T, what string, claim func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(20 * time.Second)
	for !claim() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("not so after 20 s: %s", what)
		}
	}
}

// isGone counts a zombie as gone: whoever inherits it may reap it late.
func isGone(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err != nil || strings.Contains(string(status), "State:\tZ")
}

func TestChildDiesWithAParentThatIsKilled(t *testing.T) {
	t.Parallel()
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), parentRole+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent said %q: %v", line, err)
	}
	if isGone(pid) {
		t.Fatalf("child %d does not run", pid)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child is gone", func() bool { return isGone(pid) })
	if err := parent.Wait(); err == nil {
		t.Error("the parent ended well although it was killed")
	}
}

func TestStopKillsAChildThatIgnoresTheSignal(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", `trap "" TERM; echo ready; while :; do sleep 60; done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	process, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := process.Stop(t.Context(), syscall.SIGTERM, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if !errors.As(process.Err(), &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("ended with %v, want SIGKILL", process.Err())
	}
}

func TestStopWakesAPausedChildSoThatItCanEndWell(t *testing.T) {
	t.Parallel()
	process, err := child.Start(exec.Command("sh", "-c", `trap "exit 7" TERM; while :; do sleep 0.01; done`))
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := process.Stop(context.Background(), syscall.SIGTERM, time.Minute); err != nil {
		t.Fatal(err)
	}
	if process.Err() == nil {
		t.Error("the child ended with exit code 0")
	}
}

func TestSignalAndKillAfterTheEndDoNothing(t *testing.T) {
	t.Parallel()
	process, err := child.Start(exec.Command("true"))
	if err != nil {
		t.Fatal(err)
	}
	<-process.Done()
	if err := process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	process.Kill()
	if err := process.Err(); err != nil {
		t.Errorf("ended with %v, want exit code 0", err)
	}
}

func TestProgramThatDoesNotExistIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := child.Start(exec.Command("/nonexistent/program")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want not exist", err)
	}
}
