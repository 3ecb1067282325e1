// Package logging answers one question: where does a log line go so that the
// Functions host gives it the level it was written with? It makes the one
// logger that a program hands down. It must never be a global, never decide
// what is worth logging, and never let a value change a line's level.
//
// The host reads a custom handler's stdout as Information and its stderr as
// Error, except that a stderr line holding "warn" anywhere, in any case, is a
// Warning (azure-functions-host, WorkerProcess.cs, with
// useStdErrorStreamForErrorsOnly). So records below WARN go to stdout and the
// others to stderr; and in a record of ERROR or above each "warn" that came in
// with a value has its first letter written as a JSON escape, which reads back
// as the same text.
package logging

import (
	"context"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

// maxText bounds one text value in bytes: hostile input ends up in logs.
const maxText = 4096

// New makes a logger that writes JSON lines of level and above, those below
// WARN to stdout and the others to stderr. Messages are constants in lower
// case, in the past tense; whatever varies goes into attributes.
func New(stdout, stderr io.Writer, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: bound}
	shared := &lockedWriter{to: stderr}
	return slog.New(&split{
		level: level,
		info:  slog.NewJSONHandler(stdout, options),
		warn:  slog.NewJSONHandler(shared, options),
		fail:  slog.NewJSONHandler(errorWriter{to: shared}, options),
	})
}

// split sends a record to one of three handlers by its level.
type split struct {
	level            slog.Leveler
	info, warn, fail slog.Handler
}

func (s *split) pick(level slog.Level) slog.Handler {
	switch {
	case level >= slog.LevelError:
		return s.fail
	case level >= slog.LevelWarn:
		return s.warn
	}
	return s.info
}

// Enabled implements slog.Handler.
func (s *split) Enabled(_ context.Context, level slog.Level) bool {
	return level >= s.level.Level()
}

// Handle implements slog.Handler.
func (s *split) Handle(ctx context.Context, r slog.Record) error {
	return s.pick(r.Level).Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (s *split) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &split{s.level, s.info.WithAttrs(attrs), s.warn.WithAttrs(attrs), s.fail.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (s *split) WithGroup(name string) slog.Handler {
	return &split{s.level, s.info.WithGroup(name), s.warn.WithGroup(name), s.fail.WithGroup(name)}
}

// bound cuts long texts and gives durations in milliseconds, the unit of
// every number in our logs.
func bound(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(cut(a.Value.String()))
	case slog.KindDuration:
		a.Value = slog.Int64Value(a.Value.Duration().Milliseconds())
	case slog.KindAny:
		if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.StringValue(cut(err.Error()))
		}
	default: // numbers, times and booleans are short
	}
	return a
}

func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return strings.ToValidUTF8(s[:end], "") + "…"
}

// lockedWriter lets two handlers share one stream.
type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

var warnWord = regexp.MustCompile(`(?i)warn`)

// errorWriter keeps the host from taking an ERROR line for a Warning. Outside
// of strings a JSON line holds no letters but those of true, false and null,
// so every match lies in a string, where an escape is equal to the letter.
type errorWriter struct{ to io.Writer }

func (w errorWriter) Write(p []byte) (int, error) {
	escaped := warnWord.ReplaceAllFunc(p, func(word []byte) []byte {
		letter := `\u0077`
		if word[0] == 'W' {
			letter = `\u0057`
		}
		return append([]byte(letter), word[1:]...)
	})
	if _, err := w.to.Write(escaped); err != nil {
		return 0, err
	}
	return len(p), nil
}
