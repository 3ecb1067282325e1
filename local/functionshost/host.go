package functionshost

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Host runs one packaged app. Make it with New, run it once with Run.
type Host struct {
	cfg       Config
	file      hostFile
	functions []*function
	warnings  []string
	instances []*instance
	timers    map[string]*timerStatus
	notReady  atomic.Int64
	ready     chan struct{}
	manual    sync.WaitGroup
	started   atomic.Bool
	killed    chan struct{}
	killOnce  sync.Once
}

// New reads and checks the app. The error joins everything that is wrong with
// it, one line per problem.
func New(cfg Config) (*Host, error) {
	cfg = cfg.withDefaults()
	dir, err := filepath.Abs(cfg.AppDir)
	if err != nil {
		return nil, fmt.Errorf("find app folder: %w", err)
	}
	cfg.AppDir = dir
	p := &problems{}
	env := settings(cfg.Settings)
	h := &Host{cfg: cfg, ready: make(chan struct{}), killed: make(chan struct{}), timers: map[string]*timerStatus{}}
	h.file = readHostFile(cfg.AppDir, env, p)
	h.functions = readFunctions(cfg.AppDir, h.file, env, p)
	checkRoutes(h.functions, p)
	for _, name := range slices.Sorted(maps.Keys(cfg.Instances)) {
		if cfg.Instances[name] < 1 {
			p.errorf("instances of %s: %d is below 1", name, cfg.Instances[name])
		}
		if !slices.ContainsFunc(h.functions, func(f *function) bool { return f.name == name && f.trigger != httpTrigger }) {
			p.errorf("instances of %s: no such function that scales alone", name)
		}
	}
	if err := p.err(); err != nil {
		return nil, fmt.Errorf("check app folder %s: %w", cfg.AppDir, err)
	}
	h.warnings = p.warnings
	for _, text := range p.warnings {
		cfg.Logger.Warn("app folder is questionable", "detail", text)
	}
	for _, f := range h.functions {
		f.bus.connection.address = cfg.ServiceBusAddress
		if f.trigger == timerTrigger {
			h.timers[f.name] = newTimerStatus(cfg.StateDir, f.name)
		}
	}
	h.place()
	h.notReady.Store(int64(len(h.instances)))
	return h, nil
}

// place spreads the functions over instances: one for all, or as Flex
// Consumption does it.
func (h *Host) place() {
	add := func(name string, functions ...*function) {
		h.instances = append(h.instances, &instance{h: h, name: name, functions: functions})
	}
	if !h.cfg.Flex {
		add("app", h.functions...)
		return
	}
	var web []*function
	for _, f := range h.functions {
		if f.trigger == httpTrigger {
			web = append(web, f)
			continue
		}
		for n := range max(1, h.cfg.Instances[f.name]) {
			add(fmt.Sprintf("%s-%d", f.name, n+1), f)
		}
	}
	if len(web) > 0 {
		add("http-1", web...)
	}
}

// Warnings lists what is questionable about the app but does not stop it.
func (h *Host) Warnings() []string { return slices.Clone(h.warnings) }

// Ready is closed once each instance's handler has answered and its triggers
// listen.
func (h *Host) Ready() <-chan struct{} { return h.ready }

func (h *Host) oneReady() {
	if h.notReady.Add(-1) == 0 {
		close(h.ready)
	}
}

// Run hosts the app until ctx ends; then it stops listening, waits DrainTimeout
// for running calls, kills the handlers and returns nil. It returns
// ErrHostStopped when a handler was given up and HostRestartDelay is 0. It may
// be called once.
func (h *Host) Run(ctx context.Context) error {
	if h.started.Swap(true) {
		return fmt.Errorf("run functions host: %w", http.ErrServerClosed)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, groupCtx := errgroup.WithContext(ctx)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-h.killed:
			cancel()
		case <-ended:
		}
	}()
	for _, in := range h.instances {
		group.Go(func() error { return in.run(groupCtx) })
	}
	if h.cfg.Listener != nil {
		server := &http.Server{Handler: h.front(), ReadHeaderTimeout: 30 * time.Second}
		group.Go(func() error {
			if err := server.Serve(h.cfg.Listener); err != nil && groupCtx.Err() == nil {
				return fmt.Errorf("serve HTTP front: %w", err)
			}
			return nil
		})
		group.Go(func() error {
			<-groupCtx.Done()
			drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.cfg.DrainTimeout)
			defer cancel()
			if h.isKilled() || server.Shutdown(drain) != nil {
				_ = server.Close() // the drain time is over
			}
			return nil
		})
	}
	err := group.Wait()
	h.manual.Wait()
	return err
}

// Kill ends the host as SIGKILL would: the handlers die with the calls in them,
// nothing is waited for, and no message is settled. Run then returns. A process
// that is killed loses its connections in the same moment: whoever owns the
// network cuts them first, or the host still closes its links in good order.
func (h *Host) Kill() { h.killOnce.Do(func() { close(h.killed) }) }

func (h *Host) isKilled() bool {
	select {
	case <-h.killed:
		return true
	default:
		return false
	}
}

// KillHandler sends SIGKILL to the handler process that serves a function,
// preferring one with a call in it, and returns once its host has noticed. The
// host sees a crash like any other.
func (h *Host) KillHandler(name string) error {
	var victim *instance
	for _, in := range h.instances {
		if !in.serves(name) || in.caller() == nil || in.caller().w.running() == nil {
			continue
		}
		if _, inFlight, _ := in.stats.read(); victim == nil || inFlight > 0 {
			victim = in
		}
	}
	if victim == nil {
		return fmt.Errorf("kill handler of %s: no process serves it", name)
	}
	w := victim.caller().w
	p := w.running()
	p.Kill()
	w.noticed(p)
	return nil
}

// Stats counts calls and describes the instances.
func (h *Host) Stats() Stats {
	s := Stats{Functions: map[string]FunctionStats{}}
	for _, f := range h.functions {
		s.Functions[f.name] = FunctionStats{}
	}
	for _, in := range h.instances {
		functions, _, _ := in.stats.read()
		for name, n := range functions {
			sum := s.Functions[name]
			sum.Invocations += n.Invocations
			sum.Failures += n.Failures
			s.Functions[name] = sum
		}
		s.Instances = append(s.Instances, in.snapshot())
	}
	return s
}

// ownsTimer reports whether in holds the lease of a timer.
func (h *Host) ownsTimer(in *instance, f *function) bool {
	for _, other := range h.instances {
		if other.serves(f.name) {
			return other == in
		}
	}
	return false
}

func (h *Host) timer(f *function, c *caller) *timerListener {
	return &timerListener{f: f, call: c, log: h.cfg.Logger, status: h.timers[f.name]}
}

// callerFor is a caller of a function; nil while no host has started.
func (h *Host) callerFor(f *function) *caller {
	for _, in := range h.instances {
		if in.serves(f.name) {
			return in.caller()
		}
	}
	return nil
}
