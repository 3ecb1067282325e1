package logging_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/logging"
)

// hostLevel is the Functions host's rule for one line.
func hostLevel(stream, line string) string {
	switch {
	case stream == "stdout":
		return "Information"
	case strings.Contains(strings.ToLower(line), "warn"):
		return "Warning"
	}
	return "Error"
}

func TestHostSeesTheLevelThatWasWritten(t *testing.T) {
	tests := []struct {
		name  string
		value any
	}{
		{"plain", "calm"},
		{"hostile word", "this is a WARNING, I warn you: wArN\\warn \"warn\""},
		{"word across an escape", "wa\u2028rn \\u0077arn"},
		{"error", fmt.Errorf("read policy: %w", errors.New("Warn"))},
		{"nested", map[string]string{"warning": "warn"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for level, want := range map[slog.Level]string{
				slog.LevelDebug: "Information", slog.LevelInfo: "Information", slog.LevelWarn: "Warning", slog.LevelError: "Error", slog.LevelError + 4: "Error",
			} {
				var stdout, stderr strings.Builder
				logger := logging.New(&stdout, &stderr, slog.LevelDebug)
				logger.With("before", tt.value).WithGroup("warnings").Log(t.Context(), level, "something happened", "value", tt.value)
				stream, line := "stdout", stdout.String()
				if line == "" {
					stream, line = "stderr", stderr.String()
				}
				if stdout.Len() > 0 && stderr.Len() > 0 || strings.Count(line, "\n") != 1 {
					t.Fatalf("%s wrote %q and %q", level, stdout.String(), stderr.String())
				}
				if got := hostLevel(stream, line); got != want {
					t.Errorf("%s became %s: %s", level, got, line)
				}
				var record struct {
					Before   any
					Warnings struct{ Value any }
				}
				if err := json.Unmarshal([]byte(line), &record); err != nil {
					t.Fatalf("%v: %s", err, line)
				}
				plain := tt.value
				if err, ok := plain.(error); ok {
					plain = err.Error()
				}
				want, _ := json.Marshal(plain)
				got, _ := json.Marshal(record.Warnings.Value)
				if diff := cmp.Diff(string(want), string(got)); diff != "" {
					t.Errorf("value changed on its way (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestLinesBelowTheLevelAreDropped(t *testing.T) {
	var stdout, stderr strings.Builder
	logger := logging.New(&stdout, &stderr, slog.LevelWarn)
	logger.Info("dropped")
	logger.Warn("kept")
	if stdout.Len() != 0 || !strings.Contains(stderr.String(), `"kept"`) {
		t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
	}
}

func TestLongTextsAreCutAndDurationsAreMilliseconds(t *testing.T) {
	var stdout strings.Builder
	logging.New(&stdout, &stdout, slog.LevelInfo).Info("x", "text", strings.Repeat("ä", 5000), logging.Error, errors.New(strings.Repeat("e", 5000)),
		logging.Duration, 1500*time.Millisecond)
	var record struct {
		Text, Error string
		Duration    int `json:"duration_ms"`
	}
	if err := json.Unmarshal([]byte(stdout.String()), &record); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("ä", 2048) + "…"; record.Text != want {
		t.Errorf("text has %d bytes", len(record.Text))
	}
	if len(record.Error) != 4096+len("…") || record.Duration != 1500 {
		t.Errorf("error has %d bytes, duration is %d", len(record.Error), record.Duration)
	}
}

func TestWarningsAndErrorsShareAStreamSafely(t *testing.T) {
	var stdout, stderr strings.Builder
	logger := logging.New(&stdout, &stderr, slog.LevelInfo)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { logger.Warn("coped") })
		wg.Go(func() { logger.Error("needs a person") })
	}
	wg.Wait()
	for line := range strings.Lines(stderr.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("torn line %q", line)
		}
	}
	if got := strings.Count(stderr.String(), "\n"); got != 40 {
		t.Errorf("got %d lines", got)
	}
}

func TestKeysAreSnakeCaseAndDoNotLookLikeALevel(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "keys.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	seen := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		literal, ok := n.(*ast.BasicLit)
		if !ok {
			return true
		}
		key, err := strconv.Unquote(literal.Value)
		if err != nil || !form.MatchString(key) || strings.Contains(key, "warn") || seen[key] {
			t.Errorf("key %s is twice there, not snake_case, or looks like a level", literal.Value)
		}
		seen[key] = true
		return true
	})
	if len(seen) < 10 {
		t.Errorf("found only %d keys", len(seen))
	}
}
