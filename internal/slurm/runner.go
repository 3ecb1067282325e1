package slurm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is one program to run: an absolute path or a name without slashes,
// its arguments and its whole environment.
type Command struct {
	Path string
	Args []string
	Env  []string
}

// Exit is how a program ended.
type Exit struct {
	// Code is the exit status, or -1 when a signal ended the program.
	Code int
	// Stderr is the beginning of what it wrote there, at most 64 KB: an
	// update of many jobs complains once for each.
	Stderr string
}

// Runner runs programs. Tests put their own in its place.
type Runner interface {
	// Run starts the program, hands its standard output to read, and waits
	// for its end. An exit status other than 0 is no error. An error is
	// returned when the program could not be started, when ctx ended (the
	// whole process group is then killed), or when read returned one.
	Run(ctx context.Context, cmd Command, read func(stdout io.Reader) error) (Exit, error)
}

const (
	maxStderrBytes = 64 << 10
	maxStdoutBytes = 64 << 20
	// killGrace is how long a killed program may hold its pipes open.
	killGrace = time.Second
)

// errOutputTooLarge says that a program wrote more than maxStdoutBytes.
var errOutputTooLarge = fmt.Errorf("output is longer than %d MB", maxStdoutBytes>>20)

// execRunner runs real programs.
type execRunner struct{}

// Run implements Runner. The program gets a process group of its own, so that
// the deadline also ends what it started.
func (execRunner) Run(ctx context.Context, command Command, read func(io.Reader) error) (Exit, error) {
	cmd := exec.CommandContext(ctx, command.Path, command.Args...)
	cmd.Env = command.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = kill
	cmd.WaitDelay = killGrace
	stderr := &headWriter{room: maxStderrBytes}
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return Exit{}, fmt.Errorf("open pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return Exit{}, fmt.Errorf("start: %w", err)
	}
	// A grandchild that left the group could keep the pipe open for ever.
	stop := context.AfterFunc(ctx, func() { _ = stdout.Close() })
	defer stop()

	limited := &boundedReader{r: newPacedReader(stdout), room: maxStdoutBytes}
	readErr := read(limited)
	if readErr == nil {
		_, readErr = io.Copy(io.Discard, limited) // a program that cannot write does not end
	}
	if readErr != nil {
		_ = kill() // the program may be gone already
	}
	waitErr := cmd.Wait()
	exit := Exit{Code: cmd.ProcessState.ExitCode(), Stderr: stderr.String()}
	if err := ctx.Err(); err != nil {
		return exit, fmt.Errorf("wait for its end: %w", err)
	}
	if readErr != nil {
		return exit, fmt.Errorf("read output: %w", readErr)
	}
	var exitErr *exec.ExitError
	if waitErr != nil && !errors.As(waitErr, &exitErr) {
		return exit, fmt.Errorf("wait for its end: %w", waitErr)
	}
	return exit, nil
}

// headWriter keeps the first bytes written and drops the rest.
type headWriter struct {
	buf  bytes.Buffer
	room int
}

// Write implements io.Writer and never refuses.
func (w *headWriter) Write(p []byte) (int, error) {
	if keep := min(len(p), w.room-w.buf.Len()); keep > 0 {
		w.buf.Write(p[:keep])
	}
	return len(p), nil
}

// String gives what was kept.
func (w *headWriter) String() string { return w.buf.String() }

const (
	// pacedAbove is the length of an answer from which it is read at a pace, so
	// that short ones are not held up.
	pacedAbove = 64 << 10
	// pipeBytes is what the pipe is asked to hold: Linux's bound for processes
	// without privileges, 64 KB being the default.
	pipeBytes = 1 << 20
	// fillBytes makes the pause: a millisecond for so many bytes that the pipe
	// holds. squeue of 22.05.8 writes half as much, so it does not find the pipe
	// full. At the default size there is no pause.
	fillBytes = 100 << 10
)

// pacedReader lets a long answer gather in its pipe. squeue writes 4 KB at a
// time; 100,000 jobs took 6,500 reads, and now they take 750.
type pacedReader struct {
	r     io.Reader
	pause time.Duration
	read  int64
	dry   bool // the last read left little in the pipe
}

// newPacedReader widens the pipe and says how long it takes to fill.
func newPacedReader(pipe io.Reader) *pacedReader {
	size := 64 << 10
	if file, ok := pipe.(syscall.Conn); ok {
		if raw, err := file.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				// Where the user has too many pipes the size stays as it is.
				if got, err := unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeBytes); err == nil {
					size = got
				}
			})
		}
	}
	return &pacedReader{r: pipe, pause: time.Duration(size/fillBytes) * time.Millisecond}
}

// Read implements io.Reader.
func (p *pacedReader) Read(b []byte) (int, error) {
	if p.dry && p.read > pacedAbove {
		time.Sleep(p.pause)
	}
	n, err := p.r.Read(b)
	p.read += int64(n)
	p.dry = n < len(b)
	return n, err
}

// boundedReader reports an error, not an end, once its room is used up: a cut
// answer must not pass for a whole one.
type boundedReader struct {
	r    io.Reader
	room int64
}

// Read implements io.Reader.
func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.room -= int64(n)
	if b.room < 0 {
		return 0, errOutputTooLarge
	}
	return n, err
}
