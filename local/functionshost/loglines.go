package functionshost

import (
	"bytes"
	"context"
	"log/slog"
	"os/exec"
	"strings"
	"sync"

	"github.com/slurmburst/slurmburst/local/child"
)

// maxLine bounds one line of the handler's output; the rest is cut.
const maxLine = 64 << 10

// lineWriter cuts a stream into lines. os/exec writes to it from one goroutine.
type lineWriter struct {
	buf     []byte
	cut     bool
	deliver func(line string)
}

// Write never fails: the handler must not notice its reader.
func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		part := p
		if i >= 0 {
			part = p[:i]
		}
		if room := maxLine - len(w.buf); len(part) > room {
			w.buf, w.cut = append(w.buf, part[:room]...), true
		} else {
			w.buf = append(w.buf, part...)
		}
		if i < 0 {
			break
		}
		w.flush()
		p = p[i+1:]
	}
	return n, nil
}

func (w *lineWriter) flush() {
	line := strings.TrimSuffix(string(w.buf), "\r")
	if w.cut {
		line += " […]"
	}
	w.buf, w.cut = w.buf[:0], false
	if line != "" {
		w.deliver(line)
	}
}

// stdoutLevel and stderrLevel give a line the level that Application Insights
// shows (ProcessManagement: WorkerConsoleLogService, category
// Host.Function.Console).
func stdoutLevel(line string) slog.Level {
	if forTooling(line) {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func (h hostFile) stderrLevel(line string) slog.Level {
	lower := strings.ToLower(line)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(lower, w) {
				return true
			}
		}
		return false
	}
	switch {
	case forTooling(line):
		return slog.LevelDebug
	case has("warn"):
		return slog.LevelWarn
	case h.stderrIsErrors || has("error", "fail", "severe"):
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// forTooling reports lines that the host sends to its own system log.
func forTooling(line string) bool {
	return strings.HasPrefix(line, "LanguageWorkerConsoleLog") || strings.HasPrefix(line, "azfuncjsonlog:")
}

// console collects what one handler process writes.
type console struct {
	w   *worker
	mu  sync.Mutex
	pid int
	// lastErrors are the last three lines of level Error: they go into the
	// message of a crash.
	lastErrors []string
}

func (c *console) writer(stream string, level func(string) slog.Level) *lineWriter {
	return &lineWriter{deliver: func(text string) {
		l := level(text)
		c.mu.Lock()
		pid := c.pid
		if stream == "stderr" && l == slog.LevelError {
			c.lastErrors = append(c.lastErrors, text)
			c.lastErrors = c.lastErrors[max(0, len(c.lastErrors)-3):]
		}
		c.mu.Unlock()
		c.w.cfg.Logger.Log(context.Background(), l, "handler wrote", "instance", c.w.name, "stream", stream, "text", text)
		c.w.cfg.OnLog(LogLine{Instance: c.w.name, PID: pid, Stream: stream, Level: l, Text: text})
	}}
}

// start starts the process whose lines these are; no line is read before its
// process id is known.
func (c *console) start(cmd *exec.Cmd) (*child.Process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := child.Start(cmd)
	if err == nil {
		c.pid = p.PID()
	}
	return p, err
}

func (c *console) errors() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lastErrors, " | ")
}
