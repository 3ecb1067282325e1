package cyclecloudsim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Isolation says how the processes of a VM are kept together.
type Isolation string

// The isolations. With IsolationNamespace every VM is a PID namespace: the
// kernel ends all of it when its first process ends, however deep a job has
// hidden. It needs CAP_SYS_ADMIN. IsolationTree works for everybody: the VM
// is what descends from its first process or carries its environment.
// IsolationAuto uses the namespace where it may.
const (
	IsolationAuto      Isolation = ""
	IsolationNamespace Isolation = "namespace"
	IsolationTree      Isolation = "tree"
)

// vmMark is the environment variable that names the VM of a process.
const vmMark = "CYCLECLOUDSIM_VM"

// stopDeadline bounds the end of a VM, which takes milliseconds.
const stopDeadline = 20 * time.Second

// ExecLauncher makes every VM a process tree on this machine. In the texts
// below {name}, {node_id}, {instance_id}, {nodearray} and {private_ip} stand
// for those of the VM.
type ExecLauncher struct {
	// Argv is the program that Boot starts, and its arguments.
	Argv []string
	// Env is the whole environment of the VM, as NAME=value; PATH is added
	// when it is missing.
	Env []string
	// Dir is the working directory; empty means the current one.
	Dir string
	// LogDir receives the output of each VM as <name>.log, appended, because
	// names are reused.
	LogDir string
	// Isolation says how the VM's processes are kept together.
	Isolation Isolation
	// JobMarks are NAME=value texts. With IsolationTree, a process whose
	// environment holds all of them belongs to the VM even when it has left
	// the process tree. Slurm gives SLURMD_NODENAME={name} and SLURM_CONF to
	// every job process.
	JobMarks []string
	// JobFiles are absolute paths. With IsolationTree, a process that has one
	// of them open for writing belongs to the VM, as one that writes to the
	// VM's own log does. slurmstepd leaves the tree, overwrites its environment
	// with its title, and is known by slurmd's log only (SlurmdLogFile, which
	// therefore needs a %n).
	JobFiles []string

	probe sync.Once
	auto  Isolation
}

// initScript is the first process of a VM. It says that it is up, waits for
// Boot, runs the program and then stays, because a machine outlives its
// programs; the shell's waiting also reaps what they leave behind, as an init
// does. The program runs in the foreground: in the background it would inherit
// ignored SIGINT and SIGQUIT, and so would the jobs it starts. The arguments
// reach the program untouched, never through the shell's parser.
const initScript = `[ "$0" = namespace ] && { mount -t proc proc /proc || exit 71; }
echo up >&3; exec 3>&-
read -r go || exit 0
"$@" </dev/null
while :; do sleep 1; done`

// Mode reports the isolation in use, resolving IsolationAuto by trying.
func (l *ExecLauncher) Mode() Isolation {
	if l.Isolation != IsolationAuto {
		return l.Isolation
	}
	l.probe.Do(func() {
		l.auto = IsolationTree
		cmd := exec.Command("/bin/sh", "-c", "mount -t proc proc /proc")
		cmd.SysProcAttr = namespaced(&syscall.SysProcAttr{})
		if cmd.Run() == nil {
			l.auto = IsolationNamespace
		}
	})
	return l.auto
}

func namespaced(a *syscall.SysProcAttr) *syscall.SysProcAttr {
	a.Cloneflags = syscall.CLONE_NEWPID
	a.Unshareflags = syscall.CLONE_NEWNS
	return a
}

// Start starts the first process of the VM and waits until it is up.
func (l *ExecLauncher) Start(ctx context.Context, spec VMSpec) (VM, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start VM of node %s: %w", spec.Name, err)
	}
	if len(l.Argv) == 0 {
		return nil, errors.New("start VM: no program given")
	}
	if !nodeName.MatchString(spec.Name) {
		return nil, fmt.Errorf("start VM: name %q is unusable", spec.Name)
	}
	fill := strings.NewReplacer("{name}", spec.Name, "{node_id}", spec.NodeID, "{instance_id}", spec.InstanceID,
		"{nodearray}", spec.NodeArray, "{private_ip}", spec.PrivateIP)
	mode := l.Mode()
	v := &execVM{name: spec.Name, mark: vmMark + "=" + spec.InstanceID, mode: mode, ended: make(chan struct{})}
	for _, m := range l.JobMarks {
		v.jobMarks = append(v.jobMarks, fill.Replace(m))
	}
	logFile, err := filepath.Abs(filepath.Join(l.LogDir, spec.Name+".log"))
	if err != nil {
		return nil, fmt.Errorf("start VM of node %s: %w", spec.Name, err)
	}
	v.jobFiles = []string{logFile}
	for _, f := range l.JobFiles {
		v.jobFiles = append(v.jobFiles, fill.Replace(f))
	}
	args := []string{"-c", initScript, string(mode)}
	for _, a := range l.Argv {
		args = append(args, fill.Replace(a))
	}
	cmd := exec.Command("/bin/sh", args...)
	cmd.Dir, cmd.Env = l.Dir, []string{v.mark}
	for _, e := range l.Env {
		cmd.Env = append(cmd.Env, fill.Replace(e))
	}
	if !hasPath(cmd.Env) {
		cmd.Env = append(cmd.Env, "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if mode == IsolationNamespace {
		namespaced(cmd.SysProcAttr)
	}
	if err := v.start(ctx, cmd, logFile); err != nil {
		return nil, fmt.Errorf("start VM of node %s: %w", spec.Name, err)
	}
	return v, nil
}

func hasPath(env []string) bool {
	for _, e := range env {
		if strings.HasPrefix(e, "PATH=") {
			return true
		}
	}
	return false
}

// execVM is a VM made of processes.
type execVM struct {
	name     string
	mark     string
	mode     Isolation
	jobMarks []string
	jobFiles []string
	process  *os.Process
	ended    chan struct{} // closed when the first process was reaped

	mu   sync.Mutex
	boot io.WriteCloser // nil once used
	stop sync.Mutex     // held while the VM is being killed
}

func (v *execVM) start(ctx context.Context, cmd *exec.Cmd, logFile string) error {
	out, err := os.OpenFile(logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer out.Close()
	upRead, upWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	defer upRead.Close()
	bootRead, bootWrite, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("make pipe: %w", err), upWrite.Close())
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = bootRead, out, out, []*os.File{upWrite}
	started := make(chan error)
	go v.run(cmd, started)
	err = <-started
	_ = errors.Join(upWrite.Close(), bootRead.Close())
	if err != nil {
		return errors.Join(err, bootWrite.Close())
	}
	v.process, v.boot = cmd.Process, bootWrite
	stopWaiting := context.AfterFunc(ctx, func() { _ = upRead.SetReadDeadline(time.Now()) })
	defer stopWaiting()
	if _, err := io.ReadFull(upRead, make([]byte, len("up\n"))); err != nil {
		return errors.Join(fmt.Errorf("wait for its first process (see %s): %w", logFile, err), ctx.Err(), v.Stop())
	}
	return nil
}

// run owns the first process. It keeps its thread, because the kernel sends
// Pdeathsig when the thread that started the process ends, not when the
// program does.
func (v *execVM) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	started <- err
	if err != nil {
		return
	}
	_ = cmd.Wait() // how a machine was switched off says nothing
	close(v.ended)
}

// Boot starts the program.
func (v *execVM) Boot() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.boot == nil {
		return nil
	}
	_, err := io.WriteString(v.boot, "go\n")
	err = errors.Join(err, v.boot.Close())
	v.boot = nil
	if err != nil {
		return fmt.Errorf("boot VM of node %s: %w", v.name, err)
	}
	return nil
}

// Alive reports whether any process of the VM is left.
func (v *execVM) Alive() bool {
	return !v.reaped() || v.mode == IsolationTree && len(v.members()) > 0
}

// Stop kills every process of the VM and waits until they are gone.
func (v *execVM) Stop() error {
	v.stop.Lock()
	defer v.stop.Unlock()
	v.mu.Lock()
	if v.boot != nil {
		_ = v.boot.Close()
		v.boot = nil
	}
	v.mu.Unlock()
	if v.mode == IsolationTree {
		return v.stopTree()
	}
	// The kernel kills the whole namespace before the first process can be
	// reaped, so its end is the end of all.
	if err := v.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill VM of node %s: %w", v.name, err)
	}
	select {
	case <-v.ended:
		return nil
	case <-time.After(stopDeadline):
		return fmt.Errorf("VM of node %s is still there %s after the kill", v.name, stopDeadline)
	}
}

func (v *execVM) reaped() bool {
	select {
	case <-v.ended:
		return true
	default:
		return false
	}
}
