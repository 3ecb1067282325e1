package cyclecloudsim

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// isolations are both ways to keep a VM together. Where the kernel refuses
// namespaces, there is only one to test.
func isolations() []Isolation {
	if (&ExecLauncher{}).Mode() == IsolationNamespace {
		return []Isolation{IsolationNamespace, IsolationTree}
	}
	return []Isolation{IsolationTree}
}

// eventually polls until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !f(); {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting until %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// running counts the processes whose command line begins with the text.
func running(text string) int {
	n := 0
	for _, p := range processes() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
		if err == nil && strings.HasPrefix(string(line), text) {
			n++
		}
	}
	return n
}

// marker is a number that only this test run gives to sleep.
func marker(i int) string { return fmt.Sprintf("%d.%d", 100_000+i, os.Getpid()) }

// eachIsolation runs the test once for each way to keep a VM together; i is
// different each time.
func eachIsolation(t *testing.T, test func(t *testing.T, i int, isolation Isolation)) {
	for i, isolation := range isolations() {
		t.Run(string(isolation), func(t *testing.T) { test(t, i, isolation) })
	}
}

func TestAVMWaitsForBootAndTakesEverythingAlongWhenItGoes(t *testing.T) {
	eachIsolation(t, func(t *testing.T, i int, isolation Isolation) {
		vmMarker, jobMarker := marker(2*i), marker(2*i+1)
		// The job leaves session, group, parent and environment behind, as a
		// daemon started by a Slurm job does; only the job marks stay.
		script := `env -i A=1 NODE="$2" CONF=x /bin/sh -c 'setsid sleep "$0" & exit' "$1"; sleep "$0"`
		l := &ExecLauncher{
			Argv: []string{"/bin/sh", "-c", script, vmMarker, jobMarker, "{name}"}, LogDir: t.TempDir(),
			Isolation: isolation, JobMarks: []string{"NODE={name}", "CONF=x"},
		}
		vm, err := l.Start(t.Context(), VMSpec{Name: "htc-1", InstanceID: "vm-" + vmMarker})
		if err != nil {
			t.Fatal(err)
		}
		if !vm.Alive() || running("sleep\x00"+vmMarker) > 0 {
			t.Errorf("before Boot: alive=%t, program runs %d times", vm.Alive(), running("sleep\x00"+vmMarker))
		}
		for range 2 {
			if err := vm.Boot(); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "program and job run", func() bool {
			return running("sleep\x00"+vmMarker) == 1 && running("sleep\x00"+jobMarker) == 1
		})
		for range 2 {
			if err := vm.Stop(); err != nil {
				t.Fatal(err)
			}
			if a, b := running("sleep\x00"+vmMarker), running("sleep\x00"+jobMarker); a+b > 0 || vm.Alive() {
				t.Errorf("after Stop: alive=%t, %d programs, %d jobs", vm.Alive(), a, b)
			}
		}
	})
}

func TestAVMWhoseProgramEndsStaysUp(t *testing.T) {
	eachIsolation(t, func(t *testing.T, _ int, isolation Isolation) {
		dir := t.TempDir()
		l := &ExecLauncher{Argv: []string{"echo", "bye {name}"}, LogDir: dir, Isolation: isolation}
		vm, err := l.Start(t.Context(), VMSpec{Name: "htc-2", InstanceID: "vm-2"})
		if err != nil {
			t.Fatal(err)
		}
		if err := vm.Boot(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the program has spoken", func() bool {
			text, _ := os.ReadFile(filepath.Join(dir, "htc-2.log"))
			return string(text) == "bye htc-2\n"
		})
		if !vm.Alive() {
			t.Error("the VM went with its program")
		}
		if err := vm.Stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestArgumentsAndEnvironmentReachTheProgramUntouched(t *testing.T) {
	eachIsolation(t, func(t *testing.T, _ int, isolation Isolation) {
		dir := t.TempDir()
		hostile := "$(touch " + dir + "/owned); `id` 'x\" * \n"
		l := &ExecLauncher{
			Argv: []string{"/bin/sh", "-c", `printf %s "$1$V"`, "sh", hostile}, Env: []string{"V=" + hostile},
			LogDir: dir, Isolation: isolation,
		}
		vm, err := l.Start(t.Context(), VMSpec{Name: "htc-3", InstanceID: "vm-3"})
		if err != nil {
			t.Fatal(err)
		}
		if err := vm.Boot(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the program has spoken", func() bool {
			text, _ := os.ReadFile(filepath.Join(dir, "htc-3.log"))
			return string(text) == hostile+hostile
		})
		if err := vm.Stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir + "/owned"); err == nil {
			t.Error("an argument was executed")
		}
	})
}

func TestStartRefusesWhatIsNoNodeName(t *testing.T) {
	l := &ExecLauncher{Argv: []string{"true"}, LogDir: t.TempDir()}
	for _, name := range []string{"", "../x", "a/b", "-rf", "a b", strings.Repeat("a", 64)} {
		if _, err := l.Start(t.Context(), VMSpec{Name: name}); err == nil {
			t.Errorf("name %q was accepted", name)
		}
	}
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := &ExecLauncher{Argv: []string{"sleep", marker(50)}, LogDir: t.TempDir()}
	if _, err := l.Start(ctx, VMSpec{Name: "htc-1", InstanceID: "x"}); err == nil {
		t.Error("no error from a cancelled context")
	}
}

func TestAMissingLogDirectoryMakesTheNodeFailed(t *testing.T) {
	clock := newManual()
	s := newSim(t, func(c *Config) {
		c.Clock = clock
		c.Launcher = &ExecLauncher{Argv: []string{"true"}, LogDir: filepath.Join(t.TempDir(), "none")}
	})
	create(t, s, "htc", 1, "")
	clock.advance(time.Minute)
	if n := s.Nodes()[0]; n.Status != "Failed" || !strings.Contains(n.StatusMessage, "open log") || len(s.VMs()) > 0 {
		t.Errorf("got %s %q with %d VMs", n.Status, n.StatusMessage, len(s.VMs()))
	}
}

// TestVMsDieWithASimulatorThatIsKilled starts this test binary as a second
// process, which starts VMs, and kills it without a chance to clean up.
func TestVMsDieWithASimulatorThatIsKilled(t *testing.T) {
	const role = "CYCLECLOUDSIM_TEST_VICTIM"
	if text := os.Getenv(role); text != "" {
		isolation, sleep, _ := strings.Cut(text, ",")
		l := &ExecLauncher{Argv: []string{"sleep", sleep}, LogDir: t.TempDir(), Isolation: Isolation(isolation)}
		for i := range 3 {
			vm, err := l.Start(t.Context(), VMSpec{Name: fmt.Sprint("htc-", i), InstanceID: fmt.Sprint(sleep, i)})
			if err == nil {
				err = vm.Boot()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		fmt.Println("victim ready")
		select {}
	}
	if !slices.Contains(isolations(), IsolationNamespace) {
		t.Log("without namespaces only the first process of each VM is tied to the simulator")
		return
	}
	sleep := marker(60)
	cmd := exec.Command(os.Args[0], "-test.run=^TestVMsDieWithASimulatorThatIsKilled$")
	cmd.Env = append(os.Environ(), role+"=namespace,"+sleep)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "victim ready"; {
		t.Log(lines.Text())
	}
	eventually(t, "the victim's VMs run", func() bool { return running("sleep\x00"+sleep) == 3 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	eventually(t, "the victim's VMs are gone", func() bool { return running("sleep\x00"+sleep) == 0 })
}
