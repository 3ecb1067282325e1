package slurmlab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/slurmburst/slurmburst/local/child"
)

// pollInterval is how often a state is looked at that nothing announces.
const pollInterval = 25 * time.Millisecond

// clients are the programs that are linked into BinDir as they are.
var clients = []string{"salloc", "sbatch", "scancel", "scontrol", "sdiag", "sinfo", "squeue", "srun"}

// linkPrograms links daemons and clients into the lab's bin directory.
//
// The daemons compare the name they were started by with "slurmctld", "slurmd"
// and "slurmstepd": started as Debian's slurmctld-wlm, PrologSlurmctld is
// silently never run. And /usr/sbin/slurmctld may be the emulator, which wins
// in Debian's alternatives once it is installed. Hence links with plain names to
// the real builds (measured on Debian 12, Slurm 22.05.8).
func linkPrograms(l layout) error {
	for _, name := range []string{"slurmctld", "slurmd", "slurmstepd"} {
		target, err := lookDaemon(name)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, l.bin(name)); err != nil {
			return fmt.Errorf("link %s: %w", name, err)
		}
	}
	for _, name := range clients {
		target, err := exec.LookPath(name)
		if err != nil {
			return fmt.Errorf("find %s: %w: install slurm-client", name, err)
		}
		if err := os.Symlink(target, l.bin(name)); err != nil {
			return fmt.Errorf("link %s: %w", name, err)
		}
	}
	return nil
}

// lookDaemon finds the real build of a daemon. The directories for daemons are
// searched too, because they are often not in the PATH of ordinary users.
func lookDaemon(name string) (string, error) {
	directories := append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/sbin", "/sbin")
	for _, candidate := range []string{name + "-wlm", name} {
		for _, directory := range directories {
			path := filepath.Join(directory, candidate)
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("find %s: %w: run `go run ./local/cmd/burstlocal setup`", name, fs.ErrNotExist)
}

// startDaemon starts one daemon with its output in log/name.out.
func (l *Lab) startDaemon(name string, cmd *exec.Cmd) (*child.Process, error) {
	out, err := os.OpenFile(l.layout.log(name+".out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close() // the child has its own copy
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, l.layout.dir
	return child.Start(cmd)
}

// mungedCommand has --force, because munged otherwise refuses a socket below a
// directory that other users cannot enter, such as a test's. For this lab that
// is a protection and no mistake.
func (l *Lab) mungedCommand() *exec.Cmd {
	path, err := lookDaemon("munged")
	if err != nil {
		path = "munged" // starting it says that it is missing
	}
	return &exec.Cmd{Path: path, Env: l.daemonEnv(), Args: []string{
		"munged", "--foreground", "--force", "--num-threads=2", "--key-file=" + l.layout.munge("key"),
		"--socket=" + l.layout.mungeSocket(), "--pid-file=" + l.layout.munge("pid"),
		"--log-file=" + l.layout.munge("log"), "--seed-file=" + l.layout.munge("seed"),
	}}
}

// daemonEnv is all that a daemon needs. Nothing of ours leaks into hooks and jobs.
func (l *Lab) daemonEnv() []string {
	env := []string{"SLURM_CONF=" + l.layout.conf(), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	if zone, ok := os.LookupEnv("TZ"); ok { // Slurm's times must be read back in the zone they were written in
		env = append(env, "TZ="+zone)
	}
	return env
}

// StartController starts slurmctld and waits until it answers. It is for use
// after StopController or KillController; Start has called it already.
func (l *Lab) StartController(ctx context.Context) error {
	controller, err := l.startDaemon("slurmctld", &exec.Cmd{
		Path: l.layout.bin("slurmctld"), Env: l.daemonEnv(),
		Args: []string{l.layout.bin("slurmctld"), "-D", "-f", l.layout.conf()},
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.controller = controller
	l.mu.Unlock()
	// A client that finds nobody listening retries for 9 s, so the port is tried first.
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(l.ports.ports[0]))
	err = poll(ctx, "slurmctld listens on "+address, controller, func(ctx context.Context) (bool, string) {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if err != nil {
			return false, err.Error()
		}
		return conn.Close() == nil, ""
	})
	if err != nil {
		return l.withLog(err, "slurmctld.log")
	}
	err = poll(ctx, "scontrol ping says UP", controller, func(ctx context.Context) (bool, string) {
		out, err := l.Run(ctx, "scontrol", "ping")
		return err == nil && strings.Contains(out, "is UP"), out
	})
	if err != nil {
		return l.withLog(err, "slurmctld.log")
	}
	return nil
}

// RestartController ends slurmctld cleanly, so that its state is saved, starts
// it again and waits until it answers.
func (l *Lab) RestartController(ctx context.Context) error {
	if err := l.StopController(ctx); err != nil {
		return fmt.Errorf("restart slurmctld: %w", err)
	}
	if err := l.StartController(ctx); err != nil {
		return fmt.Errorf("restart slurmctld: %w", err)
	}
	return nil
}

// StopController ends slurmctld cleanly, so that its state is saved.
// StartController brings it back.
func (l *Lab) StopController(ctx context.Context) error {
	if err := l.process().Stop(ctx, syscall.SIGTERM, stopGrace); err != nil {
		return fmt.Errorf("stop slurmctld: %w", err)
	}
	return nil
}

// KillController ends slurmctld with SIGKILL; up to 5 s of state are lost, as
// after a crash. StartController brings it back.
func (l *Lab) KillController() { l.process().Kill() }

// PauseController freezes slurmctld: it accepts connections and answers none.
func (l *Lab) PauseController() error { return l.process().Signal(syscall.SIGSTOP) }

// ResumeController ends PauseController.
func (l *Lab) ResumeController() error { return l.process().Signal(syscall.SIGCONT) }

// ControllerDone is closed once the current slurmctld has ended.
func (l *Lab) ControllerDone() <-chan struct{} { return l.process().Done() }

func (l *Lab) process() *child.Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.controller
}

var errDaemonEnded = errors.New("the daemon ended")

// poll looks until claim holds. It fails when the daemon ends or ctx does; the
// error then tells what claim saw last.
func poll(ctx context.Context, what string, daemon *child.Process, claim func(context.Context) (bool, string)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		holds, seen := claim(ctx)
		if holds {
			return nil
		}
		select {
		case <-ticker.C:
		case <-daemon.Done():
			return fmt.Errorf("wait until %s: %w: %w", what, errDaemonEnded, daemon.Err())
		case <-ctx.Done():
			return fmt.Errorf("wait until %s (last seen: %q): %w", what, seen, ctx.Err())
		}
	}
}

// withLog adds the end of a daemon's log to err.
func (l *Lab) withLog(err error, name string) error {
	text, readErr := os.ReadFile(l.layout.log(name))
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	const tail = 2000
	if len(text) > tail {
		text = text[len(text)-tail:]
	}
	return fmt.Errorf("%w; the log %s ends with:\n%s", err, name, text)
}
