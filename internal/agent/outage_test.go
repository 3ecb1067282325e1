package agent_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/local/child"
	"github.com/slurmburst/slurmburst/local/servicebusemu"
	"github.com/slurmburst/slurmburst/local/slurmlab"
)

// line is the network between head node and broker. It can be cut.
type line struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	isCut bool
	open  map[net.Conn]struct{}
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{listener: listener, to: to, open: map[net.Conn]struct{}{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { l.carry(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		l.cut()
		running.Wait()
	})
	return l
}

func (l *line) carry(client net.Conn) {
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", l.to)
	if err != nil {
		client.Close()
		return
	}
	l.mu.Lock()
	l.open[client], l.open[server] = struct{}{}, struct{}{}
	cut := l.isCut
	l.mu.Unlock()
	if cut {
		client.Close()
		server.Close()
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(client, server) // ends with the connection
		client.Close()
	}()
	_, _ = io.Copy(server, client)
	server.Close()
	<-back
	l.mu.Lock()
	delete(l.open, client)
	delete(l.open, server)
	l.mu.Unlock()
}

// cut ends every connection, and each new one at once.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = true
	for conn := range l.open {
		conn.Close()
	}
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = false
}

// program is the built burst-agent with its settings.
type program struct {
	t    *testing.T
	path string
	env  []string
	log  string
}

// buildAgent builds the program with build tags.
func buildAgent(t *testing.T, h *head, addr, tags string) *program {
	t.Helper()
	dir := t.TempDir()
	p := &program{t: t, path: filepath.Join(dir, "burst-agent"), log: filepath.Join(dir, "log")}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", tags, "-o", p.path, "../../cmd/burst-agent").CombinedOutput(); err != nil {
		t.Fatalf("build burst-agent: %v\n%s", err, out)
	}
	policy := filepath.Join(dir, "policy.yaml")
	text := fmt.Sprintf(`version: 1
cluster: %s
cyclecloud:
  url: https://cyclecloud.example.com
  cluster: hpc-burst
  credential: cyclecloud
nodearrays:
  - name: htc
    partition: htc
    nodes: htc-[1-5]
    machineType: Standard_D4s_v5
    maxNodes: 5
    idleTimeout: 5m
    bootDeadline: 15m
`, cluster)
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.env = []string{
		"BURST_POLICY=" + policy, "BURST_SPOOL=" + h.spool, "SLURM_CONF=" + h.lab.Conf(), "BURST_SLURM_BIN=" + h.lab.BinDir(),
		"SERVICEBUS=" + servicebusemu.ConnectionString(addr), "BURST_POLL=300ms", "BURST_HEARTBEAT=5s",
	}
	return p
}

func (p *program) start() *child.Process {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	process, err := child.Start(&exec.Cmd{Path: p.path, Args: []string{p.path}, Env: p.env, Stdout: log, Stderr: log})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		process.Kill()
		if text, err := os.ReadFile(p.log); err == nil && p.t.Failed() {
			p.t.Logf("log of burst-agent:\n%s", text)
		}
	})
	return process
}

// The agent is killed while Service Bus is out of reach and Slurm asks for a
// node; its successor tells of it. Then slurmctld is away while a command comes.
func TestOutagesAndKillsLoseNothing(t *testing.T) {
	t.Parallel()
	h := startHead(t, slurmlab.Config{Partitions: []slurmlab.CloudPartition{{Name: "htc", Count: 5}}})
	c := newCloud(t)
	network := newLine(t, c.addr)
	p := buildAgent(t, h, network.listener.Addr().String(), "")
	first := p.start()
	c.await("the first agent leads", 0, func(q event.QueuePressure) bool { return q.Epoch == 1 })

	network.cut()
	job := h.lab.Srun(t.Context(), "--partition=htc", "--nodelist=htc-1", "true")
	if err := job.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = job.Process.Kill() // it may have ended
		_ = job.Wait()
	})
	eventually(t, "the hook call is in the spool", func() (bool, string) { return h.spoolFiles() == 1, "" })
	first.Kill()
	second := p.start()
	if h.spoolFiles() != 1 {
		t.Fatal("the hook call is gone and nobody was told")
	}
	before := len(c.taken())
	network.mend()
	told := c.await("the second agent tells of the call", before, func(q event.QueuePressure) bool {
		up := q.CloudNodes[0].PoweringUp
		return q.Epoch == 2 && len(up) == 1 && up[0].ResumeID != ""
	})
	if up := told.CloudNodes[0].PoweringUp[0]; up.Node != "htc-1" || len(up.Jobs) != 1 || told.Cause != event.CauseResume || told.Sequence < 1 {
		t.Errorf("told %+v, cause %s", up, told.Cause)
	}
	eventually(t, "the spool is empty", func() (bool, string) { return h.spoolFiles() == 0, "" })

	// The connection breaks and comes back at once: the same agent goes on.
	network.cut()
	network.mend()
	from := len(c.taken())
	c.await("snapshots come again", from, func(q event.QueuePressure) bool { return q.Epoch >= 2 })

	h.lab.KillController()
	<-h.lab.ControllerDone()
	command := c.send(event.SlurmCommand{Kind: event.FenceNodes, Nodes: "htc-5"})
	if err := h.lab.StartController(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.await("the command was carried out once slurmctld was back", from, func(q event.QueuePressure) bool {
		for _, r := range q.CommandResults {
			if r.ID == command.ID && r.State == event.ResultOK {
				state, _ := stateOf(q, "htc-5")
				return state == "IDLE+DRAIN+POWERED_DOWN"
			}
		}
		return false
	})
	if err := second.Stop(t.Context(), syscall.SIGTERM, patience); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	epochs := map[int64]int64{}
	for _, q := range c.taken() {
		if q.Sequence <= epochs[q.Epoch] {
			t.Errorf("sequence %d of epoch %d came after %d", q.Sequence, q.Epoch, epochs[q.Epoch])
		}
		epochs[q.Epoch] = q.Sequence
	}
}

func TestTheProgramSaysWhatItLacks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "burst-agent")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../../cmd/burst-agent").CombinedOutput(); err != nil {
		t.Fatalf("build burst-agent: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	run := func(env []string, args ...string) (string, int) {
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Env = env
		out, _ := cmd.CombinedOutput() // the exit status is judged below
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := run([]string{"NONE=1"}, "--version"); code != 0 || strings.TrimSpace(out) == "" {
		t.Errorf("--version printed %q, status %d", out, code)
	}
	if out, code := run([]string{"BURST_POLL=never", "BURST_SPOIL=/x"}); code != 1 || !strings.Contains(out, "BURST_POLL") ||
		!strings.Contains(out, "SERVICEBUS") || !strings.Contains(out, "BURST_SPOIL") {
		t.Errorf("wrong settings: %q, status %d", out, code)
	}
	env := []string{"SERVICEBUS=" + servicebusemu.ConnectionString("127.0.0.1:1"), "BURST_SPOOL=" + dir, "BURST_POLICY=" + filepath.Join(dir, "none.yaml")}
	if out, code := run(env); code != 1 || !strings.Contains(out, "none.yaml") {
		t.Errorf("no policy: %q, status %d", out, code)
	}
}
