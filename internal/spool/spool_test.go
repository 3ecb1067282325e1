package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/spool"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)

func record(hostlist string, at time.Time) spool.Record {
	return spool.Record{
		Kind:        spool.Resume,
		Time:        at,
		Hostlist:    hostlist,
		ResumeJSON:  []byte(`{"jobs":[]}`),
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
}

func mustWrite(t *testing.T, dir string, r spool.Record) string {
	t.Helper()
	name, err := spool.Write(dir, r)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func mustList(t *testing.T, dir string) spool.Listing {
	t.Helper()
	listing, err := spool.List(dir, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return listing
}

func TestListGivesBackWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	want := []spool.Entry{
		{Record: record("htc-[1-3]", noon)},
		{Record: spool.Record{Kind: spool.Suspend, Time: noon.Add(time.Second), Hostlist: "hpc-1"}},
		{Record: spool.Record{Kind: spool.ResumeFail, Time: noon.Add(2 * time.Second), Hostlist: "htc-9", ResumeJSON: []byte("\xff\x00 no json\n")}},
		{Record: spool.Record{Kind: spool.Suspend, Time: noon.Add(3 * time.Second), Hostlist: "two\nlines, \"quotes\" and \xff"}},
	}
	for i := range want {
		want[i].Name = mustWrite(t, dir, want[i].Record)
	}
	if diff := cmp.Diff(spool.Listing{Entries: want}, mustList(t, dir)); diff != "" {
		t.Errorf("listing differs (-want +got):\n%s", diff)
	}
}

func TestListIsOrderedByTimeAndBounded(t *testing.T) {
	dir := t.TempDir()
	for _, second := range []int{5, 1, 4, 2, 3} {
		mustWrite(t, dir, record(fmt.Sprintf("n%d", second), noon.Add(time.Duration(second)*time.Second)))
	}
	listing, err := spool.List(dir, 3)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range listing.Entries {
		got = append(got, entry.Record.Hostlist)
	}
	if diff := cmp.Diff([]string{"n1", "n2", "n3"}, got); diff != "" || !listing.More {
		t.Errorf("More is %v; names differ:\n%s", listing.More, diff)
	}
	listing, err = spool.List(dir, 5)
	if err != nil || listing.More || len(listing.Entries) != 5 {
		t.Errorf("an exact bound gave %d entries, more %v, error %v", len(listing.Entries), listing.More, err)
	}
}

func TestRecordsOfOneMomentHaveDifferentNames(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]bool{}
	for range 50 {
		seen[mustWrite(t, dir, record("n1", noon))] = true
	}
	if got := len(mustList(t, dir).Entries); len(seen) != 50 || got != 50 {
		t.Errorf("%d names and %d entries of 50 records", len(seen), got)
	}
}

func TestListPassesOverWhatIsNotItsOwn(t *testing.T) {
	dir := t.TempDir()
	name := mustWrite(t, dir, record("n1", noon))
	for _, foreign := range []string{"README", "agent.sock", ".hidden", "x" + name, name + ".bak", "." + name + ".tmp", "1-2.call", "123-1-1.call", "1795441764000000000-7-1.json"} {
		if err := os.WriteFile(filepath.Join(dir, foreign), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, make := range []func(string) error{
		func(path string) error { return os.Mkdir(path, 0o700) },
		func(path string) error { return os.Symlink("/etc/passwd", path) },
		func(path string) error { return syscall.Mkfifo(path, 0o600) }, // reading one would block
	} {
		if err := make(filepath.Join(dir, fmt.Sprintf("1795441764000000000-7-%d.call", i))); err != nil {
			t.Fatal(err)
		}
	}
	listing := mustList(t, dir)
	if len(listing.Entries) != 1 || len(listing.Corrupt) != 0 {
		t.Errorf("got %d entries and corrupt %v", len(listing.Entries), listing.Corrupt)
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	name := mustWrite(t, dir, record("n1", noon))
	for range 2 { // removing twice is no error
		if err := spool.Remove(dir, name); err != nil {
			t.Fatal(err)
		}
	}
	if got := mustList(t, dir).Entries; len(got) != 0 {
		t.Errorf("still there: %v", got)
	}
	outside := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "../precious", outside, "agent.sock"} {
		if err := spool.Remove(dir, bad); err == nil {
			t.Errorf("removing %q was accepted", bad)
		}
	}
}

func TestWriteRefusesWhatIsOutOfBounds(t *testing.T) {
	tests := []struct {
		name   string
		change func(*spool.Record)
		want   string
	}{
		{"an unknown kind", func(r *spool.Record) { r.Kind = "reboot" }, "kind"},
		{"no time", func(r *spool.Record) { r.Time = time.Time{} }, "time"},
		{"a hostlist too long", func(r *spool.Record) { r.Hostlist = strings.Repeat("a", spool.MaxHostlistBytes+1) }, "hostlist"},
		{"a traceparent too long", func(r *spool.Record) { r.Traceparent = strings.Repeat("0", 4<<10) }, "traceparent"},
		{"a resume file too long", func(r *spool.Record) { r.ResumeJSON = make([]byte, spool.MaxResumeBytes+1) }, "resume file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			r := record("n1", noon)
			tt.change(&r)
			if _, err := spool.Write(dir, r); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error about %s", err, tt.want)
			}
			if files, _ := os.ReadDir(dir); len(files) != 0 {
				t.Errorf("left %v", files)
			}
		})
	}
}

func TestTheIDOfACallIsItsOwn(t *testing.T) {
	dir := t.TempDir()
	mustWrite(t, dir, record("n1", noon))
	mustWrite(t, dir, record("n2", noon))
	entries := mustList(t, dir).Entries
	if first, second := entries[0].ID(), entries[1].ID(); first == second || !strings.HasPrefix(first, "1795435200123456789-") || strings.Contains(first, ".") {
		t.Errorf("ids %s and %s", first, second)
	}
}

func TestWriteNamesAMissingDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	if _, err := spool.Write(dir, record("n1", noon)); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	if _, err := spool.List(dir, 1); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
}

func TestSweepRemovesOldTemporaryFilesOnly(t *testing.T) {
	dir := t.TempDir()
	name := mustWrite(t, dir, record("n1", noon))
	hourAgo := time.Now().Add(-time.Hour)
	for path, old := range map[string]bool{
		".1795441764000000000-7-1.call.tmp": true,
		".1795441764000000000-7-2.call.tmp": false,
		".other.tmp":                        true,
	} {
		full := filepath.Join(dir, path)
		if err := os.WriteFile(full, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if old {
			if err := os.Chtimes(full, hourAgo, hourAgo); err != nil {
				t.Fatal(err)
			}
		}
	}
	removed, err := spool.Sweep(dir, time.Minute)
	if err != nil || removed != 1 {
		t.Fatalf("removed %d, error %v", removed, err)
	}
	var left []string
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		left = append(left, f.Name())
	}
	if diff := cmp.Diff([]string{".1795441764000000000-7-2.call.tmp", ".other.tmp", name}, left); diff != "" {
		t.Errorf("left differs:\n%s", diff)
	}
}

// TestMain lets the test binary play a writer that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("SPOOL_TEST_WRITER"); dir != "" {
		r := record("n1", noon)
		r.ResumeJSON = bytes.Repeat([]byte("x"), 2<<20)
		for {
			if _, err := spool.Write(dir, r); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

func TestAKilledWriterLeavesWholeRecordsAndTemporaryFiles(t *testing.T) {
	leftover := false
	for attempt := 0; attempt < 100 && !leftover; attempt++ {
		dir := t.TempDir()
		writer := exec.CommandContext(t.Context(), os.Args[0])
		writer.Env = append(os.Environ(), "SPOOL_TEST_WRITER="+dir)
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		waitForFile(t, dir)
		if err := writer.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = writer.Wait() // killed, as it should be

		listing := mustList(t, dir)
		if len(listing.Corrupt) != 0 {
			t.Fatalf("half a record is visible: %v", listing.Corrupt)
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		leftover = len(files) > len(listing.Entries)
		removed, err := spool.Sweep(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		if removed != len(files)-len(listing.Entries) {
			t.Fatalf("swept %d of %d leftovers", removed, len(files)-len(listing.Entries))
		}
	}
	if !leftover {
		t.Error("no kill of 100 hit a writer between its steps")
	}
}

func waitForFile(t *testing.T, dir string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if files, err := os.ReadDir(dir); err == nil && len(files) > 0 {
			return
		}
	}
	t.Fatal("the writer wrote nothing")
}

func TestAFullDiskIsNamedAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	full := func() error {
		r := record("n1", noon)
		r.ResumeJSON = bytes.Repeat([]byte("x"), 128<<10)
		_, err := spool.Write(dir, r)
		return err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		// Without the right to mount: a limit on file size stops a write
		// in its middle as well, only the error number differs.
		signal.Ignore(syscall.SIGXFSZ)
		defer signal.Reset(syscall.SIGXFSZ)
		var old syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 64 << 10, Max: old.Max}); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
				t.Error(err)
			}
		}()
		if err := full(); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("got %v", err)
		}
	} else {
		defer func() {
			if err := syscall.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		}()
		if err := full(); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "the disk is full") || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v", err)
		}
		mustWrite(t, dir, record("n1", noon)) // a small record still fits
		if got := len(mustList(t, dir).Entries); got != 1 {
			t.Errorf("%d entries", got)
		}
		return
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("left %v, error %v", files, err)
	}
}
