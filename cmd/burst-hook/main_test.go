package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/slurmburst/slurmburst/internal/spool"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"burst-hook":        main,
		"burst-resume":      main,
		"burst-suspend":     main,
		"burst-resume-fail": main,
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Condition: func(name string) (bool, error) {
			if name != "default-spool" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			_, err := os.Stat(defaultSpool)
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"records":   records,
			"status":    status,
			"namespool": nameSpool,
			"manynodes": manyNodes,
			"fifo":      fifo,
		},
	})
}

// records DIR FILE compares the records in the spool with a file that has a
// line "kind hostlist resume-file-in-hex" for each.
func records(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: records DIR FILE")
	}
	listing, err := spool.List(ts.MkAbs(args[0]), 1000)
	ts.Check(err)
	if len(listing.Corrupt) > 0 {
		ts.Fatalf("corrupt: %v", listing.Corrupt)
	}
	var got strings.Builder
	for _, entry := range listing.Entries {
		r := entry.Record
		fmt.Fprintf(&got, "%s %s %s\n", r.Kind, r.Hostlist, r.ResumeJSON)
		if age := time.Since(r.Time); age < 0 || age > time.Hour {
			ts.Fatalf("time %v is wrong", r.Time)
		}
		if !isTraceparent(r.Traceparent) {
			ts.Fatalf("traceparent %q is malformed", r.Traceparent)
		}
	}
	want := ts.ReadFile(args[1])
	if diff := cmp.Diff(want, got.String()); diff != "" {
		ts.Fatalf("records differ (-want +got):\n%s", diff)
	}
}

func isTraceparent(text string) bool {
	parts := strings.Split(text, "-")
	if len(parts) != 4 || parts[0] != "00" || len(parts[1]) != 32 || len(parts[2]) != 16 || parts[3] != "01" {
		return false
	}
	_, err := hex.DecodeString(parts[1] + parts[2])
	return err == nil
}

// status CODE PROGRAM ARGS... checks the exit code.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE PROGRAM ARGS...")
	}
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// namespool DIR SPOOL writes the file burst-spool into DIR.
func nameSpool(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: namespool DIR SPOOL")
	}
	ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[0]), spoolFile), []byte(ts.MkAbs(args[1])+"\n"), 0o600))
}

// manynodes VARIABLE sets an environment variable to a hostlist of 10,000 names
// that do not fold, and writes the record that they make into the file many.
func manyNodes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: manynodes VARIABLE")
	}
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("n%04dx", i)
	}
	list := strings.Join(names, ",")
	ts.Setenv(args[0], list)
	ts.Check(os.WriteFile(ts.MkAbs("many"), []byte("resume "+list+" \n"), 0o600))
}

func fifo(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fifo PATH")
	}
	ts.Check(syscall.Mkfifo(ts.MkAbs(args[0]), 0o600))
}

func buildHook(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "burst-hook")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// TestAsSlurmctldCallsIt starts the built program through its symlink names in
// the environment that slurmctld 22.05.8 was measured to give: SLURM_CONF and
// SLURM_RESUME_FILE alone, descriptors 0 to 2 closed.
func TestAsSlurmctldCallsIt(t *testing.T) {
	hook := buildHook(t)
	dir := t.TempDir()
	spoolDir := filepath.Join(dir, "spool")
	if err := os.Mkdir(spoolDir, 0o700); err != nil {
		t.Fatal(err)
	}
	resumeFile := filepath.Join(dir, "resume.json")
	for path, content := range map[string]string{
		filepath.Join(dir, "burst-spool"): spoolDir + "\n",
		resumeFile:                        `{"jobs":[{"job_id":32,"nodes":"htc-[31-34]"}],"all_nodes":"htc-[31-34]"}`,
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := spool.Listen(spoolDir)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	var got []spool.Kind
	for _, name := range []string{"burst-resume", "burst-suspend", "burst-resume-fail"} {
		link := filepath.Join(dir, name)
		if err := os.Symlink(hook, link); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		shell := exec.CommandContext(ctx, "/bin/sh", "-c", `exec "$0" "$@" 0<&- 1>&- 2>&-`, link, "htc-[31-34]")
		shell.Env = []string{"SLURM_CONF=" + filepath.Join(dir, "slurm.conf"), "SLURM_RESUME_FILE=" + resumeFile}
		err := shell.Run()
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		select {
		case <-listener.Pokes():
		case <-time.After(30 * time.Second):
			t.Fatalf("%s did not poke the agent", name)
		}
	}
	listing, err := spool.List(spoolDir, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range listing.Entries {
		got = append(got, entry.Record.Kind)
		if entry.Record.Hostlist != "htc-[31-34]" {
			t.Errorf("hostlist %q", entry.Record.Hostlist)
		}
		if hasJSON := len(entry.Record.ResumeJSON) > 0; hasJSON != (entry.Record.Kind == spool.Resume) {
			t.Errorf("%s: resume file %q", entry.Record.Kind, entry.Record.ResumeJSON)
		}
	}
	if diff := cmp.Diff([]spool.Kind{spool.Resume, spool.Suspend, spool.ResumeFail}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAFullDisk(t *testing.T) {
	hook := buildHook(t)
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, bytes.Repeat([]byte("x"), 128<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	// A limit on file size stops a write in its middle without any right;
	// the small disk is the real thing, where mounting is allowed.
	disks := []struct{ name, shell, want string }{
		{"limited", `ulimit -f 64; exec "$0" "$@"`, "file too large"},
	}
	small := filepath.Join(dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=64k"); err == nil {
		defer func() {
			if err := syscall.Unmount(small, 0); err != nil {
				t.Error(err)
			}
		}()
		disks = append(disks, struct{ name, shell, want string }{"small", `exec "$0" "$@"`, "the disk is full: "})
	}
	for _, disk := range disks {
		t.Run(disk.name, func(t *testing.T) {
			spoolDir := filepath.Join(dir, disk.name)
			if err := os.MkdirAll(spoolDir, 0o700); err != nil {
				t.Fatal(err)
			}
			start := func(env ...string) (int, string) {
				shell := exec.CommandContext(t.Context(), "/bin/sh", "-c", disk.shell, hook, "--spool", spoolDir, "resume", "htc-1")
				shell.Env = env
				out, err := shell.CombinedOutput()
				var exit *exec.ExitError
				if err != nil && !errors.As(err, &exit) {
					t.Fatal(err)
				}
				return shell.ProcessState.ExitCode(), string(out)
			}
			code, out := start("SLURM_RESUME_FILE=" + large)
			if code != exitFailed || !strings.Contains(out, disk.want) || !strings.Contains(out, `resume of "htc-1" is lost: write spool `+spoolDir) {
				t.Errorf("exit code %d, output %q", code, out)
			}
			if files, err := os.ReadDir(spoolDir); err != nil || len(files) != 0 {
				t.Errorf("left %v, error %v", files, err)
			}
			if code, out := start(); code != exitOK || out != "" {
				t.Errorf("a small record: exit code %d, output %q", code, out)
			}
		})
	}
}

// TestTheHookContainsNoSDK keeps the program small: it starts in about a
// millisecond because nearly nothing is linked in.
func TestTheHookContainsNoSDK(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	want := []string{
		"github.com/slurmburst/slurmburst/internal/spool",
		"github.com/slurmburst/slurmburst/cmd/burst-hook",
	}
	if diff := cmp.Diff(want, strings.Fields(string(out))); diff != "" {
		t.Errorf("packages outside the standard library differ:\n%s", diff)
	}
	all := exec.CommandContext(t.Context(), "go", "list", "-deps", ".")
	out, err = all.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		if pkg == "net" || strings.HasPrefix(pkg, "crypto/") || strings.Contains(strings.ToLower(pkg), "azure") {
			t.Errorf("the hook contains %s", pkg)
		}
	}
}

func TestTraceparentsDiffer(t *testing.T) {
	a, b := newTraceparent(), newTraceparent()
	if a == b || !isTraceparent(a) || !isTraceparent(b) {
		t.Errorf("%s and %s", a, b)
	}
}

// hangingWriter never returns, as a pipe that nobody empties.
type hangingWriter struct{}

func (hangingWriter) Write([]byte) (int, error) { select {} }

func TestTheHookGivesUpOnADiskThatHangs(t *testing.T) {
	for name, stderr := range map[string]io.Writer{"stderr works": io.Discard, "stderr hangs, too": hangingWriter{}} {
		t.Run(name, func(t *testing.T) {
			codes := make(chan int, 1)
			giveUpAfter(time.Millisecond, stderr, func(code int) { codes <- code })
			select {
			case code := <-codes:
				if code != exitFailed {
					t.Errorf("exit code %d", code)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("it did not give up")
			}
		})
	}
}

func TestASilentPipeInPlaceOfTheResumeFileLosesNoCall(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	var stderr bytes.Buffer
	code := run([]string{"burst-hook", "--spool", dir, "resume", "n1"}, func(key string) string {
		return map[string]string{"SLURM_RESUME_FILE": pipe}[key]
	}, &stderr)
	listing, err := spool.List(dir, 10)
	if code != exitOK || err != nil || len(listing.Entries) != 1 {
		t.Errorf("exit code %d, listing %+v, error %v, stderr %q", code, listing, err, stderr.String())
	}
	if !strings.Contains(stderr.String(), "went on without SLURM_RESUME_FILE: read") {
		t.Errorf("stderr %q", stderr.String())
	}
}

// failingWriter refuses everything, as a closed standard error does.
type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("closed") }

func TestTheExitCodeDoesNotDependOnStderr(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	none := func(string) string { return "" }
	if code := run([]string{"burst-hook", "--spool", missing, "resume", "n1"}, none, failingWriter{}); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if code := run([]string{"burst-hook", "--spool", t.TempDir(), "resume", "n1"}, none, failingWriter{}); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}
