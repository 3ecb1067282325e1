package slurmlab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// NodeCommand gives the command that is the cloud node name: a slurmd in the
// foreground. Running it is booting the VM, killing it and then calling
// KillNodeLeftovers is deleting the VM. The error says that the lab has no such
// cloud node.
//
// It has -b, because slurmctld otherwise ignores the registration: it takes the
// boot time from the host's uptime, which is older than the resume request. With
// -b it is the difference of two uptimes in whole seconds, which may be a second
// too long: a slurmd that starts in the second of the request is then ignored,
// too, and the job waits until ResumeTimeout (seen with 22.05.8, once in some
// thirty boots on a busy machine). No VM boots that fast, so neither does this
// one. And it has -d, because slurmd otherwise runs whatever
// /usr/sbin/slurmstepd is.
func (l *Lab) NodeCommand(name string) (argv, env []string, err error) {
	if n, ok := l.nodes[name]; !ok || !n.cloud {
		return nil, nil, fmt.Errorf("find the cloud node %q: no such node in %s", name, l.layout.conf())
	}
	slurmd, env := l.nodeCommand(name)
	argv = append([]string{"/bin/sh", "-c", `sleep 1; exec "$@"`, "slurmd"}, slurmd...)
	return append(argv, "-b"), env, nil
}

func (l *Lab) nodeCommand(name string) (argv, env []string) {
	return []string{
		l.layout.bin("slurmd"), "-D", "-f", l.layout.conf(), "-N", name, "-d", l.layout.bin("slurmstepd"),
	}, l.daemonEnv()
}

// CloudNodes lists the lab's cloud nodes in no particular order.
func (l *Lab) CloudNodes() []string {
	var names []string
	for name, n := range l.nodes {
		if n.cloud {
			names = append(names, name)
		}
	}
	return names
}

// sweepScript kills what nodes leave behind; see its head.
//
//go:embed sweep.sh
var sweepScript string

// KillNodeLeftovers kills what a dead node leaves behind: its slurmstepd and job
// processes, which slurmd lets live by design, and a slurmd that is still there.
func (l *Lab) KillNodeLeftovers(ctx context.Context, name string) error {
	if _, ok := l.nodes[name]; !ok {
		return fmt.Errorf("kill the leftovers of node %q: no such node in %s", name, l.layout.conf())
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", sweepScript, "sweep", l.layout.dir, name)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kill the leftovers of node %s: %w: %s", name, err, out)
	}
	return nil
}

// watchdog sweeps the whole lab once its standard input ends: when asked to, and
// also when this process dies without a chance to do it.
type watchdog struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   strings.Builder
}

func startWatchdog(l layout) (*watchdog, error) {
	w := &watchdog{cmd: exec.Command("/bin/sh", "-c", "cat >/dev/null\n"+sweepScript, "sweep", l.dir, "")}
	w.cmd.Env, w.cmd.Dir = []string{"PATH=/usr/bin:/bin"}, "/"
	w.cmd.Stdout, w.cmd.Stderr = &w.out, &w.out
	// Its own session, so that neither ^C nor a hang-up ends it before its work.
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	w.stdin = stdin
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	return w, nil
}

// sweep kills every slurmd, slurmstepd and job of the lab. It may be called once.
func (w *watchdog) sweep() error {
	if err := w.stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("sweep: %w", err)
	}
	if err := w.cmd.Wait(); err != nil {
		return fmt.Errorf("sweep: %w: %s", err, w.out.String())
	}
	return nil
}
