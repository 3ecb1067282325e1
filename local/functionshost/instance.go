package functionshost

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// instance is one host with one handler process and the functions it serves.
type instance struct {
	h         *Host
	name      string
	functions []*function
	stats     counters

	mu         sync.Mutex
	call       *caller // of the current host; nil before the first
	hostStarts int
	readyOnce  sync.Once
}

// run keeps the instance alive until ctx ends. A host that stopped is replaced
// only if the configuration asks for what the platform does.
func (in *instance) run(ctx context.Context) error {
	for {
		err := in.runHost(ctx)
		if ctx.Err() != nil || in.h.isKilled() {
			return nil
		}
		if err == nil || in.h.cfg.HostRestartDelay == 0 {
			return err
		}
		in.h.cfg.Logger.Error("functions host stopped, the platform starts another", "instance", in.name, "error", err)
		sleep(ctx, in.h.cfg.HostRestartDelay)
	}
}

// runHost is the life of one host: handler, then listeners, until ctx ends or
// the handler is given up. Listeners go first and get DrainTimeout for their
// calls, unless the host was killed; then the handler is killed without notice.
func (in *instance) runHost(ctx context.Context) error {
	w, err := newWorker(in.h.cfg, in.h.file, in.name)
	if err != nil {
		return err
	}
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	c := newCaller(hard, in.h.cfg, w, &in.stats)
	in.mu.Lock()
	in.call = c
	in.hostStarts++
	in.mu.Unlock()
	ended := make(chan error, 1)
	go func() { ended <- w.run(hard) }()

	soft, stop := context.WithCancel(ctx)
	defer stop()
	var starter, listeners sync.WaitGroup
	broken := make(chan error, 1)
	starter.Go(func() {
		err := w.awaitStart(soft)
		if err == nil {
			err = in.listen(soft, c, &listeners)
		}
		switch {
		case err == nil:
			in.readyOnce.Do(in.h.oneReady)
		case soft.Err() == nil && !errors.Is(err, ErrHostStopped):
			broken <- err
		}
	})
	var stopped error
	workerGone := false
	select {
	case <-ctx.Done():
	case <-in.h.killed:
	case stopped = <-broken:
	case stopped = <-ended:
		workerGone = true
	}
	stop()
	starter.Wait()
	drained := make(chan struct{})
	go func() { listeners.Wait(); close(drained) }()
	select {
	case <-drained:
	case <-in.h.killed:
	case <-time.After(in.h.cfg.DrainTimeout):
		in.h.cfg.Logger.Warn("calls still ran when the drain time was over", "instance", in.name)
	}
	kill()
	if !workerGone {
		stopped = errors.Join(stopped, <-ended)
	}
	<-drained
	return stopped
}

// listen starts the triggers of the instance.
func (in *instance) listen(ctx context.Context, c *caller, all *sync.WaitGroup) error {
	for _, f := range in.functions {
		switch f.trigger {
		case serviceBusTrigger:
			e, err := in.h.cfg.connect(f, in.h.cfg.Logger)
			if err != nil {
				return fmt.Errorf("start listener of %s: %w", f.name, err)
			}
			l := &busListener{f: f, opts: in.h.file.serviceBus, e: e, call: c, log: in.h.cfg.Logger, killed: in.h.killed}
			all.Go(func() { l.run(ctx) })
		case timerTrigger:
			if !in.h.ownsTimer(in, f) {
				continue // the singleton lease is another instance's
			}
			l := in.h.timer(f, c)
			all.Go(func() { l.run(ctx) })
		}
	}
	return nil
}

func (in *instance) caller() *caller {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.call
}

func (in *instance) serves(name string) bool {
	for _, f := range in.functions {
		if f.name == name {
			return true
		}
	}
	return false
}

func (in *instance) snapshot() InstanceStats {
	in.mu.Lock()
	c := in.call
	s := InstanceStats{Name: in.name, HostStarts: in.hostStarts}
	in.mu.Unlock()
	for _, f := range in.functions {
		s.Functions = append(s.Functions, f.name)
	}
	_, s.InFlight, s.Sessions = in.stats.read()
	if c == nil {
		return s
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	s.State, s.Starts, s.Crashes = c.w.state, c.w.starts, c.w.crashes.count
	if c.w.process != nil {
		s.PID = c.w.process.PID()
	}
	return s
}
