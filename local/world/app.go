package world

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/slurmburst/slurmburst/local/child"
	"github.com/slurmburst/slurmburst/local/servicebusemu"
)

// StartAgent starts burst-agent, unless it runs already.
func (w *World) StartAgent(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.agent != nil {
		return nil
	}
	log, err := os.OpenFile(filepath.Join(w.Dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(w.agentPath())
	cmd.Env = []string{
		"PATH=" + w.Lab.BinDir() + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + w.Dir,
		"SLURM_CONF=" + w.Lab.Conf(), "BURST_SPOOL=" + w.spool(), "BURST_POLL=1s", "BURST_SLURM_BIN=" + w.Lab.BinDir(),
	}
	if w.Heartbeat > 0 {
		cmd.Env = append(cmd.Env, "BURST_HEARTBEAT="+w.Heartbeat.String())
	}
	cmd.Env = append(cmd.Env, "BURST_POLICY="+w.policyPath)
	cmd.Env = append(cmd.Env, environment(w.busSettings(w.busAddress, agentIdentity))...)
	cmd.Stdout, cmd.Stderr = log, log
	if w.agent, err = child.Start(cmd); err != nil {
		return err
	}
	if !w.hasAgentCloser {
		w.hasAgentCloser = true
		w.closers = append(w.closers, w.stopAgent)
	}
	return nil
}

// takeAgent gives the agent's process, which then counts as ended.
func (w *World) takeAgent() *child.Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.agent
	w.agent = nil
	return p
}

func (w *World) stopAgent(ctx context.Context) error {
	p := w.takeAgent()
	if p == nil {
		return nil
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.Done():
		return nil
	case <-time.After(10 * time.Second):
	case <-ctx.Done():
	}
	p.Kill()
	return errors.New("burst-agent did not end within 10 s of SIGTERM")
}

// KillAgent ends burst-agent with SIGKILL; StartAgent brings it back.
func (w *World) KillAgent() {
	if p := w.takeAgent(); p != nil {
		p.Kill()
	}
}

// AgentRunning reports whether burst-agent is alive.
func (w *World) AgentRunning() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.agent == nil {
		return false
	}
	select {
	case <-w.agent.Done():
		return false
	default:
		return true
	}
}

// Environment is what a person needs to use the world by hand: Slurm's
// clients, burstctl and the HTTP API.
func (w *World) Environment() []string {
	env := []string{
		"PATH=" + w.Lab.BinDir() + ":" + filepath.Join(w.Root, "build", "bin") + ":$PATH", "SLURM_CONF=" + w.Lab.Conf(),
		"BURST_POLICY=" + w.policyPath,
	}
	for name, value := range w.tableSettings("") {
		env = append(env, name+"='"+value+"'")
	}
	return env
}

// Key opens the HTTP functions.
func (w *World) Key() string { return w.functionKey }

// BusConnection is the connection string of the Service Bus emulator. It opens
// nothing where LikeAzure is set.
func (w *World) BusConnection() string { return servicebusemu.ConnectionString(w.busAddress) }

// CycleCloud is what a client of the simulator's REST API needs: the URL of the
// cluster, and the user and password of HTTP Basic.
func (w *World) CycleCloud() (clusterURL, user, password string) {
	return w.simURL + "/clusters/" + url.PathEscape(simCluster), simUser, simPassword
}

// Hook prepares a call of one of the programs that slurm.conf names, such as
// burst-resume, as slurmctld would make it.
func (w *World) Hook(ctx context.Context, program, hostlist string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.hook(program), hostlist)
	cmd.Env = []string{"SLURM_CONF=" + w.Lab.Conf()}
	return cmd
}

// Ctl prepares burstctl for this world.
func (w *World) Ctl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(w.Root, "build", "bin", "burstctl"), args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + w.Dir, "BURST_POLICY=" + w.policyPath}
	cmd.Env = append(cmd.Env, environment(w.tableSettings(""))...)
	return cmd
}
