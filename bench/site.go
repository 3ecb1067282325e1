package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/local/azurite"
	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/functionshost"
	"github.com/slurmburst/slurmburst/local/servicebusemu"
)

const (
	simUser     = "slurmburst"
	simPassword = "only-on-loopback"
	nodearray   = "htc"
	// shippedReclaim is the default of BURST_RECLAIM_SCHEDULE; never is used
	// where a sweep in the middle would be measured at random.
	shippedReclaim = "0 */5 * * * *"
	never          = "0 0 0 1 1 *"
)

// appSettings are what the Functions app is deployed with.
func appSettings(serviceBus, tables, policy string) map[string]string {
	return map[string]string{
		"SERVICEBUS": serviceBus, "BURST_TABLES": tables, "BURST_POLICY": policy,
		"FUNCTIONS_WORKER_RUNTIME": "custom", "BURST_QUEUE_PRESSURE": "queue-pressure", "BURST_SCALE_DOWN": "scale-down",
		"BURST_RECLAIM_SCHEDULE": never, "BURST_CREDENTIAL_CYCLECLOUD": simUser + ":" + simPassword,
	}
}

func environment(settings map[string]string) []string {
	var env []string
	for name, value := range settings {
		env = append(env, name+"="+value)
	}
	return env
}

// policyText is the policy of one cluster. Its timers are too long to fire.
func policyText(cluster, url, pin string, nodes int) []byte {
	return fmt.Appendf(nil, `version: 1
cluster: %s
cyclecloud:
  url: %s
  cluster: Burst Cluster
  credential: cyclecloud
  pin: %s
nodearrays:
  - name: %s
    partition: %s
    nodes: %s
    machineType: Standard_F4s_v2
    maxNodes: %d
    idleTimeout: 12h
    bootDeadline: 12h
`, cluster, url, pin, nodearray, nodearray, nodelist(nodes), nodes)
}

func nodelist(nodes int) string { return fmt.Sprintf("%s-[1-%d]", nodearray, nodes) }

// siteOptions say what is started.
type siteOptions struct {
	name     string // of the scratch directory
	clusters []string
	nodes    int    // of each cluster
	reclaim  string // schedule of reclaim_idle
	// instances of queue_pressure; 0 for the two that Flex Consumption is
	// told to keep.
	instances int
	// serviceBus replaces settings of host.json's serviceBus; nil for
	// host.json as it ships.
	serviceBus map[string]any
}

// site is everything but Slurm, as local/world starts it: the emulator, Azurite,
// the Functions host with the packaged app, and one CycleCloud per cluster. The
// bench takes the agents' place.
type site struct {
	b          *bench
	dir        string
	bus        *servicebusemu.Server
	connection string
	client     *bus.Client // the agents' side
	azurite    *azurite.Server
	host       *functionshost.Host
	policies   string
	clouds     map[string]*cloud // by cluster
	calls      *calls
	siteOptions
	stopHost func() error
	closers  []func() error
	log      *os.File
}

func (b *bench) startSite(ctx context.Context, o siteOptions) (s *site, err error) {
	s = &site{b: b, clouds: map[string]*cloud{}, calls: newCalls(), siteOptions: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if s.dir, err = b.scratch(o.name); err != nil {
		return s, err
	}
	if s.log, err = os.Create(filepath.Join(s.dir, "site.log")); err != nil {
		return s, err
	}
	s.onStop(s.log.Close)
	queues, err := servicebusemu.LoadQueues(filepath.Join(b.root, "infra", "queues.json"), o.clusters...)
	if err != nil {
		return s, err
	}
	queues = append(queues, servicebusemu.QueueConfig{Name: "floor", RequiresSession: true})
	if err := s.startBus(ctx, queues); err != nil {
		return s, err
	}
	if s.azurite, err = azurite.StartInMemory(ctx, filepath.Join(b.root, "build"), filepath.Join(s.dir, "azurite")); err != nil {
		return s, err
	}
	s.onStop(func() error { return s.azurite.Stop(context.WithoutCancel(ctx)) })
	s.policies = filepath.Join(s.dir, "policies")
	if err := os.Mkdir(s.policies, 0o755); err != nil {
		return s, err
	}
	for _, cluster := range o.clusters {
		if err := s.startCloud(ctx, cluster, o.nodes); err != nil {
			return s, err
		}
	}
	return s, s.startHost(ctx, s.azurite.ConnectionString())
}

func (s *site) onStop(do func() error) { s.closers = append(s.closers, do) }

// stop ends everything, last first.
func (s *site) stop() error {
	var problems []error
	if s.stopHost != nil {
		problems = append(problems, s.stopHost())
		s.stopHost = nil
	}
	for i := len(s.closers) - 1; i >= 0; i-- {
		problems = append(problems, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(problems...)
}

func (s *site) logger() *slog.Logger { return slog.New(slog.NewTextHandler(s.log, nil)) }

func (s *site) startBus(ctx context.Context, queues []servicebusemu.QueueConfig) error {
	var err error
	if s.bus, err = servicebusemu.New(servicebusemu.Config{Queues: queues}); err != nil {
		return err
	}
	l, err := listen(ctx)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.bus.Serve(l) }()
	s.onStop(func() error { return errors.Join(s.bus.Close(), <-served) })
	s.connection = servicebusemu.ConnectionString(l.Addr().String())
	if s.client, err = bus.New(bus.Options{ConnectionString: s.connection}); err != nil {
		return err
	}
	s.onStop(s.client.Close)
	return nil
}

// pressureInstances is how many processes serve queue_pressure.
func (s *site) pressureInstances() int { return cmp.Or(s.instances, 2) }

// startHost runs the packaged app as Flex Consumption does. tables is the connection string of the tables.
func (s *site) startHost(ctx context.Context, tables string) error {
	settings := appSettings(s.connection, tables, s.policies)
	settings["BURST_RECLAIM_SCHEDULE"] = s.reclaim
	app, err := s.hosted()
	if err != nil {
		return err
	}
	s.host, err = functionshost.New(functionshost.Config{
		AppDir: app, Settings: settings, Flex: true, Instances: map[string]int{"queue_pressure": s.pressureInstances()},
		DrainTimeout: 3 * time.Second, Logger: s.logger(), OnInvocation: s.calls.ended,
	})
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- s.host.Run(running) }()
	s.stopHost = func() error { cancel(); return <-done }
	select {
	case <-s.host.Ready():
		return nil
	case err := <-done:
		done <- err
		return fmt.Errorf("the functions host ended early: %w", err)
	case <-time.After(time.Minute):
		return errors.New("the functions host was not ready in a minute")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startCloud starts the CycleCloud of one cluster, whose VMs have no processes,
// and writes the cluster's policy.
func (s *site) startCloud(ctx context.Context, cluster string, nodes int) error {
	c := &cloud{created: map[string]time.Time{}}
	c.changed.L = &c.mu
	instant := cyclecloudsim.Range{Min: 50 * time.Millisecond, Max: 100 * time.Millisecond}
	sim, err := cyclecloudsim.New(cyclecloudsim.Config{
		Cluster: "Burst Cluster", User: simUser, Password: simPassword, RegionalQuota: 4 * nodes, Seed: 1, Journal: c,
		AcquireDelay: instant, BootDelay: instant, ReadyLag: instant, TerminateDelay: instant, Logger: s.logger(),
		NodeArrays: []cyclecloudsim.NodeArray{{Name: nodearray, MachineType: "Standard_F4s_v2", MaxCount: nodes, Cores: 4, MemoryGB: 8}},
	})
	if err != nil {
		return err
	}
	l, err := listen(ctx)
	if err != nil {
		return errors.Join(err, sim.Close())
	}
	served := make(chan error, 1)
	go func() { served <- sim.ServeTLS(l) }()
	s.onStop(func() error { return errors.Join(sim.Close(), <-served) })
	s.clouds[cluster] = c
	text := policyText(cluster, "https://"+l.Addr().String(), sim.Pin(), nodes)
	return os.WriteFile(filepath.Join(s.policies, cluster+".yaml"), text, 0o600)
}

// cloud reads the simulator's journal as it is written.
type cloud struct {
	mu       sync.Mutex
	changed  sync.Cond
	created  map[string]time.Time // when a create for the name arrived
	requests int                  // HTTP requests answered
}

// Write takes one line of the journal. The simulator writes "created" while it
// handles the request, before it answers.
func (c *cloud) Write(line []byte) (int, error) {
	now := time.Now()
	switch {
	case bytes.Contains(line, []byte(`"event":"created"`)):
		_, rest, _ := bytes.Cut(line, []byte(`"name":"`))
		name, _, ok := bytes.Cut(rest, []byte(`"`))
		if !ok {
			return 0, fmt.Errorf("no name in the journal's line %q", line)
		}
		c.mu.Lock()
		c.created[string(name)] = now
		c.changed.Broadcast()
		c.mu.Unlock()
	case bytes.Contains(line, []byte(`"event":"http"`)):
		c.mu.Lock()
		c.requests++
		c.mu.Unlock()
	}
	return len(line), nil
}

func (c *cloud) answered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests
}

// await gives the moment at which the last of the names was asked for.
func (c *cloud) await(ctx context.Context, names ...string) (time.Time, error) {
	defer context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})()
	c.mu.Lock()
	defer c.mu.Unlock()
	var last time.Time
	for _, name := range names {
		for c.created[name].IsZero() {
			if ctx.Err() != nil {
				return last, fmt.Errorf("wait for the create of %s (%d of them arrived): %w", name, len(c.created), ctx.Err())
			}
			c.changed.Wait()
		}
		if at := c.created[name]; at.After(last) {
			last = at
		}
	}
	return last, nil
}
