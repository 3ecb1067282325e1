package spool_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/slurmburst/slurmburst/internal/spool"
)

func TestCorruptFilesAreNamedAndKept(t *testing.T) {
	tests := []struct {
		name, content, want string
	}{
		{"a cut header", `{"version":2,"kind":"res`, "no header line"},
		{"an empty file", "", "no header line"},
		{"zeros after a power failure", strings.Repeat("\x00", 4096), "no header line"},
		{"a header that is no JSON", "\x00\n", "invalid character"},
		{"a cut hostlist", `{"version":2,"kind":"resume","hostlist_bytes":5,"resume_bytes":0}` + "\nhtc-", "4 bytes follow the header, which tells of 5"},
		{"a cut resume file", `{"version":2,"kind":"resume","hostlist_bytes":5,"resume_bytes":2}` + "\nhtc-1{", "6 bytes follow the header, which tells of 7"},
		{"more than the header tells of", `{"version":2,"kind":"resume","hostlist_bytes":5,"resume_bytes":0}` + "\nhtc-1\n", "6 bytes follow the header, which tells of 5"},
		{"a length below zero", `{"version":2,"kind":"resume","hostlist_bytes":-1,"resume_bytes":1}` + "\n", "out of bounds"},
		{"a length too large", `{"version":2,"kind":"resume","hostlist_bytes":5,"resume_bytes":9223372036854775807}` + "\nhtc-1", "out of bounds"},
		{"another version", `{"version":3,"kind":"resume"}` + "\n", "version 3 is not known"},
		{"an unknown kind", `{"version":2,"kind":"reboot"}` + "\n", `kind "reboot" is not known`},
		{"a file too large", strings.Repeat(" ", 9<<20), "longer than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			const name = "1795441764000000000-7-1.call"
			if err := os.WriteFile(filepath.Join(dir, name), []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			good := mustWrite(t, dir, record("n1", noon))
			listing := mustList(t, dir)
			if len(listing.Entries) != 1 || listing.Entries[0].Name != good {
				t.Errorf("the good record is missing: %v", listing.Entries)
			}
			if len(listing.Corrupt) != 1 || listing.Corrupt[0].Name != name || !strings.Contains(listing.Corrupt[0].Err.Error(), tt.want) {
				t.Fatalf("corrupt: %v, want %s: %s", listing.Corrupt, name, tt.want)
			}
			kept, err := os.ReadFile(filepath.Join(dir, "corrupt", name))
			if err != nil || string(kept) != tt.content {
				t.Errorf("the file was not kept: %v", err)
			}
			if again := mustList(t, dir); len(again.Corrupt) != 0 || len(again.Entries) != 1 {
				t.Errorf("the second listing differs: %v", again)
			}
		})
	}
}

func TestTheLargestRecordIsReadBack(t *testing.T) {
	dir := t.TempDir()
	r := record(strings.Repeat("a", spool.MaxHostlistBytes), noon)
	r.ResumeJSON = bytes.Repeat([]byte{0xfe}, spool.MaxResumeBytes)
	mustWrite(t, dir, r)
	listing := mustList(t, dir)
	if len(listing.Entries) != 1 || !reflect.DeepEqual(r, listing.Entries[0].Record) {
		t.Errorf("%d entries, corrupt %v", len(listing.Entries), listing.Corrupt)
	}
}

func TestAFileHoldsItsTextsAsTheyAre(t *testing.T) {
	dir := t.TempDir()
	r := record(strings.Repeat("htc-1,", 10_000), noon)
	r.ResumeJSON = bytes.Repeat([]byte(`"`), 200_000)
	content, err := os.ReadFile(filepath.Join(dir, mustWrite(t, dir, r)))
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(content), "\n")
	if body != r.Hostlist+string(r.ResumeJSON) {
		t.Errorf("%d bytes follow the header %s", len(body), head)
	}
}

func FuzzList(f *testing.F) {
	f.Add([]byte(`{"version":2,"kind":"resume","time":"2026-11-23T12:00:00Z","hostlist_bytes":1,"resume_bytes":2}` + "\na{}"))
	f.Add([]byte(`{"version":2,"kind":"resume","hostlist_bytes":-1,"resume_bytes":5}` + "\na{}"))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		const name = "1795441764000000000-7-1.call"
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		listing := mustList(t, dir)
		if len(listing.Entries)+len(listing.Corrupt) != 1 {
			t.Fatalf("the file was lost: %+v", listing)
		}
	})
}
