package setup

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// interruptGrace is how long an installer may take to end after ctx has: both
// apt and npm undo or finish what they are at.
const interruptGrace = 20 * time.Second

// run runs one long command and shows every few seconds that it goes on, with
// the last line of its output. The error has all of the output's end.
func (m machine) run(ctx context.Context, what, dir string, argv ...string) error {
	m.say("%s …", what)
	begin := time.Now()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdin = dir, os.Stdin // sudo may ask for a password
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = interruptGrace
	output := &tail{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	ticker := time.NewTicker(m.tick)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%s: %w:\n%s", what, err, output.text())
			}
			m.say("%s: done in %.1f s", what, time.Since(begin).Seconds())
			return nil
		case <-ticker.C:
			m.say("  %.0f s: %s", time.Since(begin).Seconds(), output.lastLine())
		}
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

const (
	tailBytes = 4000
	lineRunes = 100
)

// Write never errs.
func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, text...)
	if excess := len(t.kept) - tailBytes; excess > 0 {
		t.kept = append(t.kept[:0], t.kept[excess:]...)
	}
	return len(text), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.kept))
}

// lastLine gives the last line, cut to what fits a terminal.
func (t *tail) lastLine() string {
	lines := strings.FieldsFunc(t.text(), func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 0 {
		return "working"
	}
	line := []rune(strings.TrimSpace(lines[len(lines)-1]))
	return string(line[:min(len(line), lineRunes)])
}
