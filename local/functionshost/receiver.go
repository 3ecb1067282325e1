package functionshost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// errNoSession says that no session became free while the broker was waiting,
// which is normal.
var errNoSession = errors.New("no session became available")

// connectFunc opens the receiving side of one trigger.
type connectFunc func(f *function, log *slog.Logger) (entity, error)

// entity is the queue or subscription of one trigger.
type entity interface {
	// accept waits at the broker for a session with messages; errNoSession when
	// the wait is over.
	accept(ctx context.Context) (session, error)
	// open starts a receiver on an entity without sessions.
	open(ctx context.Context) (receiver, error)
	close()
}

// receiver takes and settles messages of one link.
type receiver interface {
	// receive waits for at least one message. No message and no error means that
	// the link broke and the caller should try again after a pause.
	receive(ctx context.Context, limit int) ([]*message, error)
	complete(ctx context.Context, m *message) error
	abandon(ctx context.Context, m *message) error
	// renew prolongs the lock of a message without session.
	renew(ctx context.Context, m *message) error
	// close gives a session back at once.
	close(ctx context.Context) error
}

// session is a receiver that holds the lock of one session.
type session interface {
	receiver
	id() string
	lockedUntil() time.Time
	renewSession(ctx context.Context) error
}

var endpointForm = regexp.MustCompile(`(?i)Endpoint=[a-z]+://([^;/]+)`)

// azEntity is an entity on the unmodified azservicebus client.
//
// A client of azservicebus v1.11 that lost its connection may go on failing to
// accept sessions, because AcceptNextSession, unlike every other call, does not
// run inside its recovery loop. A client that fails is therefore retired: new
// links get a new one, and it is closed when its last link is.
type azEntity struct {
	bus       busBinding
	namespace string
	log       *slog.Logger

	mu      sync.Mutex
	current *azClient
}

type azClient struct {
	*azservicebus.Client
	links   int // guarded by azEntity.mu
	retired bool
}

func connectServiceBus(f *function, log *slog.Logger) (entity, error) {
	e := &azEntity{bus: f.bus, namespace: f.bus.connection.host(), log: log}
	c, err := e.dial() // parses only; nothing is dialled before the first link
	if err != nil {
		return nil, err
	}
	e.current = c
	return e, nil
}

func (e *azEntity) dial() (*azClient, error) {
	c, err := e.bus.connection.open(azservicebus.RetryOptions{MaxRetries: 3, RetryDelay: 50 * time.Millisecond, MaxRetryDelay: time.Second})
	if err != nil {
		return nil, fmt.Errorf("open Service Bus client for %s: %w", e.name(), err)
	}
	return &azClient{Client: c}, nil
}

func (e *azEntity) name() string {
	if e.bus.queue != "" {
		return e.bus.queue
	}
	return e.bus.topic + "/Subscriptions/" + e.bus.subscription
}

// take borrows the current client for one link; give returns it and says whether
// it still works.
func (e *azEntity) take() (*azClient, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil {
		c, err := e.dial()
		if err != nil {
			return nil, err
		}
		e.current = c
	}
	e.current.links++
	return e.current, nil
}

func (e *azEntity) retire(c *azClient) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.retired = true
	if e.current == c {
		e.current = nil
	}
}

func (e *azEntity) give(c *azClient) {
	e.mu.Lock()
	c.links--
	last := c.retired && c.links == 0
	e.mu.Unlock()
	if last {
		e.shut(c)
	}
}

func (e *azEntity) shut(c *azClient) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		e.log.Debug("service bus client closed badly", "entity", e.name(), "error", err)
	}
}

func (e *azEntity) close() {
	e.mu.Lock()
	c := e.current
	e.current = nil
	e.mu.Unlock()
	if c != nil {
		e.shut(c)
	}
}

func (e *azEntity) accept(ctx context.Context) (session, error) {
	c, err := e.take()
	if err != nil {
		return nil, err
	}
	var s *azservicebus.SessionReceiver
	if e.bus.queue != "" {
		s, err = c.AcceptNextSessionForQueue(ctx, e.bus.queue, nil)
	} else {
		s, err = c.AcceptNextSessionForSubscription(ctx, e.bus.topic, e.bus.subscription, nil)
	}
	if err == nil {
		return newAZSession(azLink[*azservicebus.SessionReceiver]{e: e, c: c, r: s}), nil
	}
	var sbErr *azservicebus.Error
	if errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &sbErr) && sbErr.Code == azservicebus.CodeTimeout) {
		e.give(c)
		return nil, errNoSession
	}
	e.retire(c)
	e.give(c)
	return nil, fmt.Errorf("accept session of %s: %w", e.name(), err)
}

func (e *azEntity) open(context.Context) (receiver, error) {
	c, err := e.take()
	if err != nil {
		return nil, err
	}
	var r *azservicebus.Receiver
	if e.bus.queue != "" {
		r, err = c.NewReceiverForQueue(e.bus.queue, nil)
	} else {
		r, err = c.NewReceiverForSubscription(e.bus.topic, e.bus.subscription, nil)
	}
	if err != nil {
		e.retire(c)
		e.give(c)
		return nil, fmt.Errorf("open receiver of %s: %w", e.name(), err)
	}
	return &azReceiver{azLink: azLink[*azservicebus.Receiver]{e: e, c: c, r: r}}, nil
}

// linkCalls are the calls that receivers and session receivers share.
type linkCalls interface {
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
	CompleteMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.CompleteMessageOptions) error
	AbandonMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.AbandonMessageOptions) error
	Close(context.Context) error
}

type azLink[R linkCalls] struct {
	e *azEntity
	c *azClient
	r R
}

func (l *azLink[R]) receive(ctx context.Context, limit int) ([]*message, error) {
	received, err := l.r.ReceiveMessages(ctx, limit, nil)
	if err != nil {
		return nil, err
	}
	out := make([]*message, len(received))
	for i, m := range received {
		out[i] = &message{ReceivedMessage: m, namespace: l.e.namespace}
	}
	return out, nil
}

func (l *azLink[R]) complete(ctx context.Context, m *message) error {
	return l.r.CompleteMessage(ctx, m.ReceivedMessage, nil)
}

func (l *azLink[R]) abandon(ctx context.Context, m *message) error {
	return l.r.AbandonMessage(ctx, m.ReceivedMessage, nil)
}

func (l *azLink[R]) close(ctx context.Context) error {
	defer l.e.give(l.c)
	return l.r.Close(ctx)
}

type azReceiver struct {
	azLink[*azservicebus.Receiver]
}

func (r *azReceiver) renew(ctx context.Context, m *message) error {
	return r.r.RenewMessageLock(ctx, m.ReceivedMessage, nil)
}

// azSession keeps the end of its lock itself: SessionReceiver.LockedUntil is
// written without a lock when the client recovers a link during another call.
type azSession struct {
	azLink[*azservicebus.SessionReceiver]
	sessionID string
	duration  time.Duration
	until     time.Time // used by the goroutine that renews, and by nobody else
}

func newAZSession(l azLink[*azservicebus.SessionReceiver]) *azSession {
	duration := max(time.Second, time.Until(l.r.LockedUntil()))
	return &azSession{azLink: l, sessionID: l.r.SessionID(), duration: duration, until: time.Now().Add(duration)}
}

func (s *azSession) id() string             { return s.sessionID }
func (s *azSession) lockedUntil() time.Time { return s.until }

func (s *azSession) renewSession(ctx context.Context) error {
	began := time.Now()
	if err := s.r.RenewSessionLock(ctx, nil); err != nil {
		return err
	}
	s.until = began.Add(s.duration)
	return nil
}

// renew does nothing: the lock of a session covers its messages.
func (s *azSession) renew(context.Context, *message) error { return nil }
