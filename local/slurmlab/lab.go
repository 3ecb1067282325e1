package slurmlab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/slurmburst/slurmburst/local/child"
)

const (
	// startTimeout bounds Start when the caller's context has no deadline.
	startTimeout = 90 * time.Second
	// stopGrace is how long a daemon may take to save its state. slurmctld
	// waits up to 10 s for hook programs that still run.
	stopGrace = 15 * time.Second
)

// Lab is one running private cluster. Its methods may be called from any
// goroutine, but only one at a time may start or stop the controller.
type Lab struct {
	config Config
	layout layout
	nodes  map[string]node
	ports  *reservation

	munged   *child.Process
	local    []*child.Process
	watchdog *watchdog

	mu         sync.Mutex // guards controller and stopped
	controller *child.Process
	stopped    bool
}

// Start starts a lab and returns once the controller answers and every on-prem
// node is idle. Whatever it has started is gone when it fails. ctx bounds the
// start (90 s without a deadline), not the life of the lab: the lab runs until
// Stop or Kill, or until this process ends.
func Start(ctx context.Context, config Config) (*Lab, error) {
	lab, err := prepare(config.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("start a Slurm lab in %s: %w", config.Dir, err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := lab.start(ctx); err != nil {
		lab.Kill()
		return nil, fmt.Errorf("start a Slurm lab in %s: %w", lab.layout.dir, err)
	}
	return lab, nil
}

// prepare reserves ports and writes every file.
func prepare(config Config) (*Lab, error) {
	l, err := newLayout(config.Dir)
	if err != nil {
		return nil, err
	}
	if _, err = os.Stat(l.conf()); err == nil {
		return nil, fmt.Errorf("%s is there already: want a new directory", l.conf())
	}
	nodes, err := config.nodes()
	if err != nil {
		return nil, err
	}
	ports, err := reservePorts(1 + len(nodes))
	if err != nil {
		return nil, err
	}
	lab := &Lab{config: config, layout: l, ports: ports, nodes: make(map[string]node, len(nodes))}
	for i := range nodes {
		nodes[i].port = ports.ports[1+i]
		lab.nodes[nodes[i].name] = nodes[i]
	}
	if err := lab.writeFiles(nodes); err != nil {
		ports.release()
		return nil, err
	}
	return lab, nil
}

// writeFiles fills the lab's directory.
func (l *Lab) writeFiles(nodes []node) error {
	for _, name := range l.layout.directories() {
		// 0755: munged refuses directories that others may write to, and
		// clients of other users must reach its socket.
		if err := os.MkdirAll(filepath.Join(l.layout.dir, name), 0o755); err != nil {
			return fmt.Errorf("make the directory %s: %w", name, err)
		}
	}
	conf, err := renderSlurmConf(l.config, l.layout, l.ports.ports[0], nodes)
	if err != nil {
		return err
	}
	key := make([]byte, 1024)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("make a munge key: %w", err)
	}
	plugins := filepath.Join(l.layout.dir, "plugstack.conf") // empty: none of the machine's
	files := map[string][]byte{l.layout.conf(): conf, l.layout.munge("key"): key, plugins: nil}
	modes := map[string]os.FileMode{l.layout.conf(): 0o644, l.layout.munge("key"): 0o600, plugins: 0o644}
	if l.config.Spool != "" {
		path := filepath.Join(l.layout.dir, "burst-spool")
		files[path], modes[path] = []byte(l.config.Spool+"\n"), 0o644
	}
	for path, text := range files {
		if err := os.WriteFile(path, text, modes[path]); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return linkPrograms(l.layout)
}

// start starts the daemons in their order and waits for each.
func (l *Lab) start(ctx context.Context) error {
	var err error
	if l.watchdog, err = startWatchdog(l.layout); err != nil {
		return err
	}
	if l.munged, err = l.startDaemon("munged", l.mungedCommand()); err != nil {
		return err
	}
	if err := poll(ctx, "munged's socket is there", l.munged, func(context.Context) (bool, string) {
		_, err := os.Stat(l.layout.mungeSocket())
		return err == nil, ""
	}); err != nil {
		return l.withLog(err, "munged.out")
	}
	l.config.Progress("munged runs")
	if err := l.StartController(ctx); err != nil {
		return err
	}
	l.config.Progress("slurmctld answers")
	for i := range l.config.LocalNodes {
		name := fmt.Sprintf("local-%d", i+1)
		argv, env := l.nodeCommand(name)
		daemon, err := l.startDaemon("slurmd-"+name, &exec.Cmd{Path: argv[0], Args: argv, Env: env})
		if err != nil {
			return err
		}
		l.local = append(l.local, daemon)
	}
	return l.awaitLocalNodes(ctx)
}

// awaitLocalNodes waits until every on-prem node has registered.
func (l *Lab) awaitLocalNodes(ctx context.Context) error {
	for i, daemon := range l.local {
		name := fmt.Sprintf("local-%d", i+1)
		err := poll(ctx, "node "+name+" is idle", daemon, func(ctx context.Context) (bool, string) {
			out, err := l.Sinfo(ctx, "--noheader", "--nodes", name, "--format", "%T")
			return err == nil && firstLine(out) == "idle", out
		})
		if err != nil {
			return l.withLog(err, "slurmd-"+name+".log")
		}
	}
	if len(l.local) > 0 {
		l.config.Progress(fmt.Sprintf("%d on-prem nodes are idle", len(l.local)))
	}
	return nil
}

// Stop ends the lab: slurmds and slurmctld by SIGTERM, so that state is saved
// and logs are complete, then everything that nodes and jobs of this lab left
// behind, then munged. It may be called again, and after Kill.
func (l *Lab) Stop(ctx context.Context) error {
	return l.end(func(daemon *child.Process) error {
		return daemon.Stop(ctx, syscall.SIGTERM, stopGrace)
	})
}

// Kill is Stop by SIGKILL: fast, and no state is saved.
func (l *Lab) Kill() {
	// Killing has no error of its own; what is left is only that the sweep
	// could not run, which Stop reports.
	_ = l.end(func(daemon *child.Process) error {
		daemon.Kill()
		return nil
	})
}

// end stops every daemon by stop and sweeps up.
func (l *Lab) end(stop func(*child.Process) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return nil
	}
	l.stopped = true
	var errs []error
	for _, daemon := range append(append([]*child.Process{}, l.local...), l.controller) {
		if daemon != nil {
			errs = append(errs, stop(daemon))
		}
	}
	if l.watchdog != nil {
		errs = append(errs, l.watchdog.sweep())
	}
	if l.munged != nil {
		errs = append(errs, stop(l.munged))
	}
	l.ports.release()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop the Slurm lab in %s: %w", l.layout.dir, err)
	}
	return nil
}

// Dir is the lab's directory.
func (l *Lab) Dir() string { return l.layout.dir }

// Conf is the path of slurm.conf: what SLURM_CONF must say.
func (l *Lab) Conf() string { return l.layout.conf() }

// BinDir holds links to the daemons and clients of this lab's Slurm.
func (l *Lab) BinDir() string { return filepath.Join(l.layout.dir, "bin") }

// LogPath is the log of slurmctld, for ParseControllerLog.
func (l *Lab) LogPath() string { return l.layout.controllerLog() }

// JobCompletionsPath is Slurm's record of ended jobs, for ParseJobCompletions.
func (l *Lab) JobCompletionsPath() string { return l.layout.jobCompletions() }
