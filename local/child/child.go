// Package child answers one question: how does the local world start a process
// that cannot outlive it? Every child gets its own process group and is killed
// by the kernel when its parent dies, even by SIGKILL or a test's panic. It must
// never signal a process that it did not start.
package child

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is one running child. Its methods may be called from any goroutine.
type Process struct {
	pid  int
	done chan struct{}

	mu     sync.Mutex // guards exited and err; held while signalling, so that a reaped pid is never signalled
	exited bool
	err    error
}

// Start starts cmd in a process group of its own and waits for it in the
// background. cmd must be fresh; its SysProcAttr is extended, not replaced.
//
// Linux delivers the parent-death signal when the thread that forked ends, not
// the process (prctl(2), PR_SET_PDEATHSIG). The thread is therefore kept for as
// long as the child lives.
func Start(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &Process{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("start %s: %w", cmd.Path, err)
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.wait(cmd)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// wait observes the end of the child before it reaps it, so that no other
// process can have taken over its id while a signal is on its way.
func (p *Process) wait(cmd *exec.Cmd) {
	awaitExit(p.pid)
	p.mu.Lock()
	p.exited = true
	p.err = cmd.Wait()
	p.mu.Unlock()
	close(p.done)
}

// PID is the child's process id, which is also its process group.
func (p *Process) PID() int { return p.pid }

// Done is closed once the child has ended and has been reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the child ended: nil for exit code 0, else an *exec.ExitError.
// It is nil as long as the child runs.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Signal sends sig to the child alone. Signalling a child that has ended does
// nothing and is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exited {
		return nil
	}
	if err := syscall.Kill(p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %v to process %d: %w", sig, p.pid, err)
	}
	return nil
}

// Stop asks the child to end with sig, wakes it if it is paused, and kills its
// whole process group when grace is over or ctx ends. It returns once the child
// is reaped.
func (p *Process) Stop(ctx context.Context, sig syscall.Signal, grace time.Duration) error {
	err := errors.Join(p.Signal(sig), p.Signal(syscall.SIGCONT))
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return err
	case <-timer.C:
	case <-ctx.Done():
	}
	p.Kill()
	return err
}

// Kill ends the child's process group with SIGKILL and returns once the child
// is reaped.
func (p *Process) Kill() {
	p.mu.Lock()
	if !p.exited {
		// The group exists at least until the child is reaped; the only
		// possible error is that it has just emptied.
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	}
	p.mu.Unlock()
	<-p.done
}
