package functionshost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// fakeBus is one queue in memory, with sessions and locks that expire.
type fakeBus struct {
	mu         sync.Mutex
	changed    chan struct{}
	queue      []*message
	locked     map[string]*fakeLink // by session id; "" for a plain entity's link
	completed  []string
	abandoned  []string
	waiting    int // accepts waiting now
	maxWaiting int
	maxLocked  int
	renewals   int
	lockFor    time.Duration
	down       error  // what accept and open return
	emptyReads int    // receives that return (nil, nil)
	handing    func() // if set, called while a receive has messages to return
}

func newFakeBus() *fakeBus {
	return &fakeBus{changed: make(chan struct{}), locked: map[string]*fakeLink{}, lockFor: 30 * time.Second}
}

func (b *fakeBus) connect(*function, *slog.Logger) (entity, error) { return b, nil }

func (b *fakeBus) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *fakeBus) send(sessionID, id, body string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := &message{ReceivedMessage: &azservicebus.ReceivedMessage{MessageID: id, Body: []byte(body), DeliveryCount: 1}}
	if sessionID != "" {
		m.SessionID = &sessionID
	}
	b.queue = append(b.queue, m)
	b.wake()
}

func (b *fakeBus) setDown(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = err
	b.wake()
}

func (b *fakeBus) settled() (completed, abandoned []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.completed...), append([]string(nil), b.abandoned...)
}

// counts says how many sessions are held now, and how many sessions and waiting
// accepts there were at most.
func (b *fakeBus) counts() (held, mostHeld, mostWaiting int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.locked), b.maxLocked, b.maxWaiting
}

func (b *fakeBus) accept(ctx context.Context) (session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting++
	b.maxWaiting = max(b.maxWaiting, b.waiting)
	defer func() { b.waiting-- }()
	for {
		if b.down != nil {
			return nil, b.down
		}
		for _, m := range b.queue {
			if id := *m.SessionID; b.locked[id] == nil {
				l := &fakeLink{b: b, sessionID: id, until: time.Now().Add(b.lockFor)}
				b.locked[id] = l
				b.maxLocked = max(b.maxLocked, len(b.locked))
				return l, nil
			}
		}
		if err := b.sleep(ctx); err != nil {
			if ctx.Err() == context.DeadlineExceeded {
				return nil, errNoSession
			}
			return nil, err
		}
	}
}

func (b *fakeBus) sleep(ctx context.Context) error {
	changed := b.changed
	b.mu.Unlock()
	defer b.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *fakeBus) open(context.Context) (receiver, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down != nil {
		return nil, b.down
	}
	return &fakeLink{b: b, plain: true, until: time.Now().Add(time.Hour)}, nil
}

func (b *fakeBus) close() {}

// fakeLink is a session or, if plain, a receiver.
type fakeLink struct {
	b         *fakeBus
	plain     bool
	sessionID string
	until     time.Time
	closed    bool
}

func (l *fakeLink) receive(ctx context.Context, limit int) ([]*message, error) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	for {
		if l.b.down != nil {
			return nil, nil // what azservicebus does when the link breaks
		}
		if l.b.emptyReads > 0 {
			l.b.emptyReads--
			return nil, nil
		}
		var out []*message
		var rest []*message
		for _, m := range l.b.queue {
			if len(out) < limit && (l.plain || *m.SessionID == l.sessionID) {
				until := time.Now().Add(l.b.lockFor)
				m.LockedUntil = &until
				out = append(out, m)
			} else {
				rest = append(rest, m)
			}
		}
		if len(out) > 0 {
			l.b.queue = rest
			if l.b.handing != nil {
				l.b.handing()
			}
			return out, nil
		}
		if err := l.b.sleep(ctx); err != nil {
			return nil, err
		}
	}
}

func (l *fakeLink) settle(m *message, list *[]string) error {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if l.b.down != nil {
		return l.b.down
	}
	if !l.plain && time.Now().After(l.until) {
		return errors.New("session lock lost")
	}
	*list = append(*list, m.MessageID)
	l.b.wake()
	return nil
}

func (l *fakeLink) complete(_ context.Context, m *message) error {
	return l.settle(m, &l.b.completed)
}

func (l *fakeLink) abandon(_ context.Context, m *message) error {
	if err := l.settle(m, &l.b.abandoned); err != nil {
		return err
	}
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	again := *m.ReceivedMessage
	again.DeliveryCount++
	if again.DeliveryCount <= 3 { // then it is dead-lettered
		l.b.queue = append([]*message{{ReceivedMessage: &again}}, l.b.queue...)
		l.b.wake()
	}
	return nil
}

func (l *fakeLink) renew(_ context.Context, m *message) error {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	until := time.Now().Add(l.b.lockFor)
	m.LockedUntil = &until
	l.b.renewals++
	return nil
}

func (l *fakeLink) renewSession(context.Context) error {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if time.Now().After(l.until) {
		return fmt.Errorf("session %s is not locked any more", l.sessionID)
	}
	l.until = time.Now().Add(l.b.lockFor)
	l.b.renewals++
	return nil
}

func (l *fakeLink) close(context.Context) error {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	l.closed = true
	if l.b.locked[l.sessionID] == l {
		delete(l.b.locked, l.sessionID)
	}
	l.b.wake()
	return nil
}

func (l *fakeLink) id() string { return l.sessionID }

func (l *fakeLink) lockedUntil() time.Time {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	return l.until
}
