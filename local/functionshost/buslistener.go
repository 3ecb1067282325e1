package functionshost

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// waitingAccepts is how many session accepts wait at the broker at once. They
	// are not one per free session slot: 32 links per queue are heavy, and an
	// accept that is granted is followed by the next at once.
	waitingAccepts = 2
	settleTimeout  = 15 * time.Second
	emptyPause     = 50 * time.Millisecond
	// renewBuffer is how early before the end of a lock it is renewed, at most
	// (Azure.Messaging.ServiceBus ReceiverManager.CalculateRenewDelay).
	renewBuffer = 10 * time.Second
)

// busListener feeds one function from its queue or subscription
// (ServiceBusListener, ServiceBusProcessor, ServiceBusSessionProcessor).
type busListener struct {
	f    *function
	opts serviceBusOptions
	e    entity
	call *caller
	log  *slog.Logger
	// killed is closed when the host was killed: from then on it settles nothing.
	killed <-chan struct{}
	// outage is set while Service Bus cannot be reached, so that the log says it
	// once.
	outage atomic.Bool
}

// run receives until ctx ends and then waits for the calls that still run.
func (l *busListener) run(ctx context.Context) {
	defer l.e.close()
	if !l.f.bus.sessions {
		l.runPlain(ctx)
		return
	}
	slots := make(chan struct{}, l.opts.maxSessions)
	var all sync.WaitGroup
	for range min(waitingAccepts, l.opts.maxSessions) {
		all.Go(func() { l.acceptLoop(ctx, slots, &all) })
	}
	all.Wait()
}

// acceptLoop keeps one accept waiting at the broker as long as a session slot is
// free.
func (l *busListener) acceptLoop(ctx context.Context, slots chan struct{}, all *sync.WaitGroup) {
	pause := backoff{}
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		acceptCtx, cancel := context.WithTimeout(ctx, l.opts.tryTimeout)
		s, err := l.e.accept(acceptCtx)
		cancel()
		if err == nil {
			pause.reset()
			l.recovered()
			all.Go(func() {
				defer func() { <-slots }()
				l.serve(ctx, s)
			})
			continue
		}
		<-slots
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errNoSession):
			l.recovered()
			if time.Since(began) < emptyPause {
				sleep(ctx, emptyPause) // a broker that does not wait must not be hammered
			}
		default:
			l.failed(err)
			sleep(ctx, pause.next())
		}
	}
}

func (l *busListener) failed(err error) {
	if !l.outage.Swap(true) {
		l.log.Error("service bus listener is cut off and keeps trying", "function", l.f.name, "error", err)
	}
}

func (l *busListener) recovered() {
	if l.outage.Swap(false) {
		l.log.Info("service bus listener is back", "function", l.f.name)
	}
}

// limit is how many messages one receive asks for.
func (l *busListener) limit() int {
	if l.f.bus.many {
		return l.f.bus.maxBatch
	}
	return 1
}

// serve works through one session until it has been empty for
// sessionIdleTimeout, its lock is lost, or the host stops.
func (l *busListener) serve(ctx context.Context, s session) {
	l.call.stats.held(1)
	defer l.call.stats.held(-1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	lock, lost := context.WithCancel(context.WithoutCancel(ctx))
	var keeper sync.WaitGroup
	released := make(chan struct{})
	keeper.Go(func() { l.keepSession(s, released, lost) })
	defer func() {
		close(released)
		keeper.Wait()
		lost()
		closeLink(s)
	}()
	context.AfterFunc(lock, stop)
	for ctx.Err() == nil {
		idle, cancel := context.WithTimeout(ctx, l.opts.sessionIdle)
		ms, err := s.receive(idle, l.limit())
		cancel()
		if len(ms) == 0 {
			if err != nil && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				l.failed(err)
			}
			return // idle, or the link broke: the next accept finds what is left
		}
		if ctx.Err() != nil {
			l.settle(lock, ms, s.abandon)
			return
		}
		if !l.process(lock, s, ms) {
			return
		}
	}
}

// keepSession renews the lock of a session until maxAutoLockRenewalDuration
// after its acceptance. After that the lock runs out: the session's message, if
// one is being worked on, will be delivered again, possibly at the same time.
func (l *busListener) keepSession(s session, released <-chan struct{}, lost func()) {
	accepted := time.Now()
	for {
		left := time.Until(s.lockedUntil())
		pause := max(0, left-min(left/2, renewBuffer))
		renew := l.mayRenew(time.Since(accepted) + pause)
		if !renew {
			pause = max(0, left)
		}
		select {
		case <-released:
			return
		case <-time.After(pause):
		}
		if !renew {
			l.log.Warn("session lock ran out after maxAutoLockRenewalDuration", "function", l.f.name, "session_id", s.id())
			lost()
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), max(time.Second, left-pause))
		err := s.renewSession(ctx)
		cancel()
		if err == nil {
			continue
		}
		l.log.Warn("session lock was not renewed", "function", l.f.name, "session_id", s.id(), "error", err)
		if time.Now().After(s.lockedUntil()) {
			lost()
			return
		}
		select {
		case <-released:
			return
		case <-time.After(emptyPause):
		}
	}
}

// mayRenew reports whether a lock that is age old may still be renewed. Batches
// are never renewed.
func (l *busListener) mayRenew(age time.Duration) bool {
	return !l.f.bus.many && (l.opts.maxRenewal < 0 || age <= l.opts.maxRenewal)
}

// process runs one call and settles its messages. It reports whether the link is
// still good for more. lock ends when the lock of the session is lost.
func (l *busListener) process(lock context.Context, r receiver, ms []*message) bool {
	inv := l.call.invocation(l.f, serviceBusTrigger)
	first := ms[0]
	inv.MessageID, inv.DeliveryCount = first.MessageID, first.DeliveryCount
	if first.SessionID != nil {
		inv.SessionID = *first.SessionID
	}
	opts := encoding{id: inv.ID, singleData: l.call.cfg.SingleEncodedData}
	var body []byte
	var err error
	if l.f.bus.many {
		body, err = l.f.batch(ms, opts, inv.Start)
	} else {
		body, err = l.f.single(first, opts, inv.Start)
	}
	if err == nil {
		_, err = l.call.send(l.f, body, &inv)
	}
	l.call.finish(inv, err)
	select {
	case <-l.killed:
		return false
	default:
	}
	switch {
	case err != nil:
		return l.settle(lock, ms, r.abandon)
	case l.f.bus.autoComplete:
		return l.settle(lock, ms, r.complete)
	default:
		return true // nobody can complete it: its lock will run out
	}
}

// settle settles in its own time: azservicebus retries session settlement for
// tens of seconds, and the context of the listener may be over.
func (l *busListener) settle(lock context.Context, ms []*message, how func(context.Context, *message) error) bool {
	for _, m := range ms {
		if lock.Err() != nil {
			l.log.Error("lock was lost before the message was settled, it will be delivered again", "function", l.f.name, "message_id", m.MessageID)
			return false
		}
		ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
		stop := context.AfterFunc(lock, cancel)
		err := how(ctx, m)
		stop()
		cancel()
		if err != nil {
			l.log.Error("message was not settled, it will be delivered again", "function", l.f.name, "message_id", m.MessageID, "error", err)
			return false
		}
	}
	return true
}

func closeLink(r receiver) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = r.close(ctx) // the link is gone either way
}

// backoff is the pause between attempts to reach Service Bus.
type backoff struct{ d time.Duration }

func (b *backoff) reset() { b.d = 0 }

func (b *backoff) next() time.Duration {
	b.d = min(max(2*b.d, 100*time.Millisecond), 2*time.Second)
	return b.d
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
