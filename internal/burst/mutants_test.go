//go:build mutants

package burst

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// mutant is a fault of one place: what it does wrong, and the text of the file
// that it replaces.
type mutant struct{ breaks, file, old, new string }

// readMutants reads testdata/mutants.txt: a line "what it does wrong: FILE", then
// the replaced line after "-", then what replaces it after "+".
func readMutants(t *testing.T) []mutant {
	t.Helper()
	text, err := os.ReadFile("testdata/mutants.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []mutant
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "-"):
			all[len(all)-1].old = line[1:]
		case strings.HasPrefix(line, "+"):
			m := &all[len(all)-1]
			m.new = strings.TrimPrefix(m.new+"\n"+line[1:], "\n")
		default:
			breaks, file, found := strings.Cut(line, ": ")
			if !found {
				t.Fatalf("want what it breaks and a file, not %q", line)
			}
			all = append(all, mutant{breaks: breaks, file: file})
		}
	}
	return all
}

// overlay writes the mutated file and the list that puts it in the place of the
// real one.
func (m mutant) overlay(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(m.file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), m.old); n != 1 || m.old == "" {
		t.Fatalf("%s: %q stands %d times in %s, want once", m.breaks, m.old, n, m.file)
	}
	mutated := filepath.Join(dir, "mutated.go")
	if err := os.WriteFile(mutated, []byte(strings.Replace(string(text), m.old, m.new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	original, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {original: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, list, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// rounds are the tests of this package, the most exact and quickest ones first.
var rounds = [][]string{
	{"-test.run", "^TestSituations$"},
	{"-test.skip", "Model|Mutant|^TestSituations$", "-rapid.checks", "150"},
	{"-test.run", "Model"},
}

// compile makes the test binary of this package. An empty overlay stands for the
// code as it is.
func compile(t *testing.T, dir, overlay string) string {
	t.Helper()
	binary := filepath.Join(dir, "burst.test")
	args := []string{"test", "-c", "-vet=off", "-ldflags=-s -w", "-o", binary}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	out, err := exec.CommandContext(t.Context(), "go", append(args, ".")...).CombinedOutput()
	if err != nil {
		t.Fatalf("does not compile: %v\n%s", err, out)
	}
	return binary
}

// suite runs the tests of a binary up to the first that fails, and gives its
// name. What does not end has failed too.
func suite(t *testing.T, binary string) string {
	t.Helper()
	for _, round := range rounds {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		args := append([]string{"-test.failfast", "-rapid.shrinktime", "1ms", "-rapid.nofailfile"}, round...)
		out, err := exec.CommandContext(ctx, binary, args...).CombinedOutput()
		cancel()
		if err == nil {
			continue
		}
		names := failed.FindAllSubmatch(out, -1)
		if len(names) == 0 {
			return fmt.Sprintf("%s: %s", err, firstLine(out))
		}
		found := string(names[0][1])
		if len(names) > 1 && strings.HasPrefix(string(names[1][1]), found+"/") {
			found = string(names[1][1])
		}
		return found
	}
	return ""
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// TestMutants holds the suite to its word: each fault of the list makes it fail.
func TestMutants(t *testing.T) {
	if by := suite(t, compile(t, t.TempDir(), "")); by != "" {
		t.Fatalf("without a fault the suite fails: %s", by)
	}
	for _, m := range readMutants(t) {
		t.Run(m.breaks, func(t *testing.T) {
			dir := t.TempDir()
			by := suite(t, compile(t, dir, m.overlay(t, dir)))
			if by == "" {
				t.Errorf("nothing found that it %s (%s)", m.breaks, m.file)
				by = "SURVIVES"
			}
			fmt.Printf("%-64s %-12s %s\n", m.breaks, m.file, by)
		})
	}
}
