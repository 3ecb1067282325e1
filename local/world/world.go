// Package world answers one question: how does all of slurmburst run on one
// machine? It starts a real Slurm, the Service Bus emulator, Azurite, the
// CycleCloud simulator whose VMs are real slurmd processes, the Functions host
// with the packaged app, and burst-agent, all on free loopback ports and in
// one directory. It must never short-cut a joint: everything talks over the
// wire it uses in production, and Stop leaves no process behind.
package world

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/slurmburst/slurmburst/local/azurite"
	"github.com/slurmburst/slurmburst/local/child"
	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/functionshost"
	"github.com/slurmburst/slurmburst/local/servicebusemu"
	"github.com/slurmburst/slurmburst/local/slurmlab"
)

// Nodearray is a nodearray and the cloud partition that it backs.
type Nodearray struct {
	// Name is that of the nodearray, the partition and the nodes' prefix.
	Name string
	// Nodes is how many names there are, MaxNodes how many may exist at once.
	Nodes, MaxNodes int
	// IdleTimeout and BootDeadline go into the policy.
	IdleTimeout, BootDeadline time.Duration
	// CPUs of one node as Slurm sees it. Default: 4.
	CPUs int
	// PriorityTier of the partition: a job that names several partitions
	// starts in the one with the highest. Default: 1.
	PriorityTier int
	// Price of a node-hour, such as "0.384". Default: none, so that budgets
	// count nothing.
	Price string
	// Spot makes its VMs spot VMs.
	Spot bool
	// BootTime is how long the policy expects a boot to take. Default: the
	// product's.
	BootTime time.Duration
}

// Config describes a world. The zero value of most fields means a default.
type Config struct {
	// Root is the repository: infra/queues.json and build/ are found there.
	Root string
	// Dir holds everything that the world writes. It must be new, and short:
	// Unix sockets are in it.
	Dir string
	// Cluster is Slurm's ClusterName. Default: onprem.
	Cluster string
	// LocalNodes is how many on-prem nodes of 4 CPUs the partition local has.
	LocalNodes int
	Nodearrays []Nodearray
	// Policy is added to the policy file: overflow rules, budgets, limits, mode.
	Policy string
	// BootDelay and TerminateDelay are those of a VM. Defaults: 1 s to 3 s, and
	// 1 s to 2 s.
	BootDelay, TerminateDelay cyclecloudsim.Range
	// SuspendTime is Slurm's own idle timer on the cloud partitions. Default:
	// 900 s.
	SuspendTime time.Duration
	// ResumeTimeout and SuspendTimeout are Slurm's. Defaults: 180 s, 60 s.
	ResumeTimeout, SuspendTimeout time.Duration
	// Heartbeat is burst-agent's. Default: its own.
	Heartbeat time.Duration
	// SimQuirks pins what the simulator otherwise draws by Seed.
	SimQuirks cyclecloudsim.Quirks
	Seed      int64
	// NoSessions takes the sessions off queue-pressure and scale-down, so that
	// several functions decide for one cluster at once.
	NoSessions bool
	// Remote names clusters whose head nodes are elsewhere: each has its queue, its
	// policy and a CycleCloud of its own, whose VMs have no processes. With them
	// the world has no Slurm and no burst-agent, and Cluster is not used: whoever
	// starts it sends what their agents would.
	Remote []string
	// PressureHosts is how many hosts queue_pressure gets. Default: 2.
	PressureHosts int
	// LikeAzure has everybody use managed identities and TLS, as in Azure: there is
	// no connection string, and no other way in.
	LikeAzure bool
	// ReclaimSchedule is NCRONTAB. Default: every 30 s.
	ReclaimSchedule string
	// Progress hears what Start has done; OnInvocation each call of a function.
	Progress     func(step string)
	OnInvocation func(functionshost.Invocation)
	// Log receives the programs' own logs. Default: Dir/world.log.
	Log io.Writer
}

func (c Config) withDefaults() Config {
	if c.Cluster == "" {
		c.Cluster = "onprem"
	}
	if c.BootDelay == (cyclecloudsim.Range{}) {
		c.BootDelay = cyclecloudsim.Range{Min: time.Second, Max: 3 * time.Second}
	}
	if c.TerminateDelay == (cyclecloudsim.Range{}) {
		c.TerminateDelay = cyclecloudsim.Range{Min: time.Second, Max: 2 * time.Second}
	}
	if c.SuspendTime == 0 {
		c.SuspendTime = 900 * time.Second
	}
	if c.ResumeTimeout == 0 {
		c.ResumeTimeout = 180 * time.Second
	}
	if c.SuspendTimeout == 0 {
		c.SuspendTimeout = 60 * time.Second
	}
	if c.ReclaimSchedule == "" {
		c.ReclaimSchedule = "*/30 * * * * *"
	}
	if c.PressureHosts == 0 {
		c.PressureHosts = 2
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	return c
}

// World is everything that runs.
type World struct {
	Config
	// Lab and Sim are nil with Remote, which has Sims, by cluster.
	Lab     *slurmlab.Lab
	Sim     *cyclecloudsim.Sim
	Sims    map[string]*cyclecloudsim.Sim
	Bus     *servicebusemu.Server
	Host    *functionshost.Host
	Azurite *azurite.Server

	busAddress, simURL, frontURL string
	appBusAddress                string // Service Bus as host and handlers reach it
	busGate, appBusGate          *gate
	tablesGate, simGate          *gate
	tablesConnection             string // with the account's key
	tablesEndpoint               string
	azure                        *azure // nil unless LikeAzure
	functionKey                  string
	policyPath                   string
	journal                      *os.File
	log                          *os.File

	mu             sync.Mutex
	agent          *child.Process
	closers        []func(context.Context) error
	running        sync.WaitGroup
	hasAgentCloser bool
	stopHost       func(context.Context) error
}

// Start brings the world up. On error, what was started is stopped.
func Start(ctx context.Context, config Config) (w *World, err error) {
	w = &World{Config: config.withDefaults()}
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			defer cancel()
			err = errors.Join(err, w.Stop(stop))
			w = nil
		}
	}()
	if err := w.prepare(); err != nil {
		return w, err
	}
	for _, step := range w.steps() {
		began := time.Now()
		if err := step.do(ctx); err != nil {
			return w, fmt.Errorf("start %s: %w", step.name, err)
		}
		w.Progress(fmt.Sprintf("%-30s up after %5.2f s", step.name, time.Since(began).Seconds()))
	}
	return w, nil
}

// step is a part of the world that is started.
type step struct {
	name string
	do   func(context.Context) error
}

func (w *World) steps() []step {
	steps := []step{
		{"Service Bus emulator", w.startBus},
		{"Azurite tables", w.startAzurite},
		{"Slurm", w.startSlurm},
		{"CycleCloud simulator", w.startCycleCloud},
		{"Functions host with build/app", w.startHost},
		{"burst-agent", w.StartAgent},
	}
	if len(w.Remote) > 0 {
		steps = []step{
			{"Service Bus emulator", w.startBus},
			{"Azurite tables", w.startAzurite},
			{"CycleCloud simulators", w.startRemote},
			{"Functions host with build/app", w.startHost},
		}
	}
	if w.LikeAzure {
		return append([]step{{"identity endpoint", w.startIdentity}}, steps...)
	}
	return steps
}

// prepare makes the directories and the links by which Slurm calls burst-hook.
func (w *World) prepare() error {
	hook := filepath.Join(w.Root, "build", "bin", "burst-hook")
	for _, program := range []string{hook, w.agentPath(), filepath.Join(w.appDir(), "handler")} {
		if _, err := os.Stat(program); err != nil {
			return fmt.Errorf("%s is not built: run `make build package`: %w", program, err)
		}
	}
	for _, dir := range []string{"hooks", "spool", "azurite", "vms", "state"} {
		if err := os.MkdirAll(filepath.Join(w.Dir, dir), 0o755); err != nil {
			return fmt.Errorf("prepare world: %w", err)
		}
	}
	for _, name := range []string{"burst-resume", "burst-suspend", "burst-resume-fail"} {
		if err := os.Symlink(hook, w.hook(name)); err != nil {
			return fmt.Errorf("prepare world: %w", err)
		}
	}
	var err error
	if w.log, err = os.Create(filepath.Join(w.Dir, "world.log")); err != nil {
		return fmt.Errorf("prepare world: %w", err)
	}
	w.onStop(func(context.Context) error { return w.log.Close() })
	if w.Log == nil {
		w.Log = w.log
	}
	return nil
}

// clusters names all that the app serves.
func (w *World) clusters() []string {
	if len(w.Remote) > 0 {
		return w.Remote
	}
	return []string{w.Cluster}
}

func (w *World) hook(name string) string { return filepath.Join(w.Dir, "hooks", name) }
func (w *World) spool() string           { return filepath.Join(w.Dir, "spool") }
func (w *World) appDir() string          { return filepath.Join(w.Root, "build", "app") }
func (w *World) agentPath() string       { return filepath.Join(w.Root, "build", "bin", "burst-agent") }

// onStop notes what Stop has to do, last first.
func (w *World) onStop(do func(context.Context) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closers = append(w.closers, do)
}

// Stop ends everything, last first, and waits for it.
func (w *World) Stop(ctx context.Context) error {
	w.mu.Lock()
	closers := w.closers
	w.closers = nil
	w.mu.Unlock()
	var problems []error
	for i := len(closers) - 1; i >= 0; i-- {
		if err := closers[i](ctx); err != nil {
			problems = append(problems, err)
		}
	}
	w.running.Wait()
	return errors.Join(problems...)
}

func (w *World) startBus(context.Context) error {
	queues, err := servicebusemu.LoadQueues(filepath.Join(w.Root, "infra", "queues.json"), w.clusters()...)
	if err != nil {
		return err
	}
	if w.NoSessions {
		for i := range queues {
			queues[i].RequiresSession = queues[i].RequiresSession && strings.HasPrefix(queues[i].Name, "slurm-commands-")
		}
	}
	config := servicebusemu.Config{Queues: queues}
	if w.azure != nil {
		if err := w.azure.secure(&config); err != nil {
			return err
		}
	}
	if w.Bus, err = servicebusemu.New(config); err != nil {
		return err
	}
	w.onStop(func(context.Context) error { return w.Bus.Close() })
	if w.busAddress, w.busGate, err = w.openBus(); err != nil {
		return err
	}
	w.appBusAddress, w.appBusGate, err = w.openBus()
	return err
}

// openBus opens one more way to the emulator.
func (w *World) openBus() (address string, front *gate, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	front = newGate(listener)
	w.serve(func() error { return w.Bus.Serve(front) })
	return listener.Addr().String(), front, nil
}

// serve runs one server until it is closed.
func (w *World) serve(do func() error) {
	w.running.Add(1)
	go func() {
		defer w.running.Done()
		if err := do(); err != nil && !errors.Is(err, net.ErrClosed) {
			w.logger().Error("server ended", "error", err)
		}
	}()
}

func (w *World) logger() *slog.Logger { return slog.New(slog.NewTextHandler(w.Log, nil)) }

func (w *World) startAzurite(ctx context.Context) error {
	build, dir := filepath.Join(w.Root, "build"), filepath.Join(w.Dir, "azurite")
	var err error
	if w.azure == nil {
		w.Azurite, err = azurite.StartFrom(ctx, build, dir)
	} else {
		var leaf tls.Certificate
		if leaf, err = w.azure.authority.Leaf(); err != nil {
			return err
		}
		w.Azurite, err = azurite.StartTLS(ctx, build, dir, leaf)
	}
	if err != nil {
		return err
	}
	w.onStop(w.Azurite.Stop)
	return w.proxyTables()
}

func (w *World) startSlurm(ctx context.Context) error {
	config := slurmlab.Config{
		Dir: filepath.Join(w.Dir, "slurm"), ClusterName: w.Cluster, LocalNodes: w.LocalNodes,
		ResumeProgram: w.hook("burst-resume"), SuspendProgram: w.hook("burst-suspend"), ResumeFailProgram: w.hook("burst-resume-fail"),
		ResumeTimeout: w.ResumeTimeout, SuspendTimeout: w.SuspendTimeout, Spool: w.spool(),
	}
	for _, a := range w.Nodearrays {
		config.Partitions = append(config.Partitions, slurmlab.CloudPartition{
			Name: a.Name, NodePrefix: a.Name, Count: a.Nodes, CPUs: a.CPUs, PriorityTier: a.PriorityTier, SuspendTime: w.SuspendTime,
		})
	}
	var err error
	if w.Lab, err = slurmlab.Start(ctx, config); err != nil {
		return err
	}
	w.onStop(w.Lab.Stop)
	return nil
}
