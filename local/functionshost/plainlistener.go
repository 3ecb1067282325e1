package functionshost

import (
	"context"
	"sync"
	"time"
)

// runPlain receives from an entity without sessions: up to maxConcurrentCalls
// messages at once, or one batch at a time.
func (l *busListener) runPlain(ctx context.Context) {
	pause := backoff{}
	for ctx.Err() == nil {
		r, err := l.e.open(ctx)
		if err == nil {
			err = l.drainReceiver(ctx, r, &pause)
		}
		if err != nil && ctx.Err() == nil {
			l.failed(err)
			sleep(ctx, pause.next())
		}
	}
}

// drainReceiver works on one receiver until it fails, then waits for its calls,
// because only this receiver can settle their messages.
func (l *busListener) drainReceiver(ctx context.Context, r receiver, pause *backoff) error {
	var calls sync.WaitGroup
	defer func() {
		calls.Wait()
		closeLink(r)
	}()
	parallel := l.opts.maxConcurrentCalls
	if l.f.bus.many {
		parallel = 1
	}
	slots := make(chan struct{}, parallel)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		ms, err := r.receive(ctx, l.limit())
		if len(ms) == 0 {
			<-slots
			if err != nil {
				return err
			}
			sleep(ctx, emptyPause)
			continue
		}
		pause.reset()
		l.recovered()
		if ctx.Err() != nil {
			l.settle(context.Background(), ms, r.abandon)
			return nil
		}
		calls.Go(func() {
			defer func() { <-slots }()
			released := make(chan struct{})
			var keeper sync.WaitGroup
			keeper.Go(func() { l.keepMessage(r, ms[0], released) })
			defer keeper.Wait()
			defer close(released)
			l.process(context.Background(), r, ms)
		})
	}
}

// keepMessage renews the lock of a message while its call runs.
func (l *busListener) keepMessage(r receiver, m *message, released <-chan struct{}) {
	received := time.Now()
	for m.LockedUntil != nil {
		left := time.Until(*m.LockedUntil)
		pause := max(emptyPause, left-min(left/2, renewBuffer))
		if !l.mayRenew(time.Since(received) + pause) {
			return
		}
		select {
		case <-released:
			return
		case <-time.After(pause):
		}
		ctx, cancel := context.WithTimeout(context.Background(), max(time.Second, left-pause))
		err := r.renew(ctx, m)
		cancel()
		if err != nil {
			l.log.Warn("message lock was not renewed, the message may run again in parallel", "function", l.f.name, "message_id", m.MessageID, "error", err)
			return
		}
	}
}
