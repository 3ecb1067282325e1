package agent_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/agent"
	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
)

// fakeBus is a broker in memory with the one session of the command queue.
type fakeBus struct {
	mu        sync.Mutex
	down      error // answered to every call
	noSend    error // answered to every send
	noSettle  error // answered to every settlement
	noRenew   error // answered to every renewal
	holder    *fakeSession
	state     []byte
	waiting   []bus.Received
	completed []string
	sent      []sent
	accepts   int
	journal   []string
	setState  error
}

type sent struct {
	at    time.Time
	q     event.QueuePressure
	trace any
}

func (b *fakeBus) Send(_ context.Context, queue string, m bus.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := errors.Join(b.down, b.noSend); err != nil {
		return fault.New(fault.Transient, "send", err)
	}
	encoding, _ := m.Properties[event.EncodingProperty].(string)
	q, err := event.DecodeQueuePressure(m.Body, encoding)
	if err != nil || queue != pressureQueue || m.SessionID != cluster {
		return fault.Newf(fault.Bug, "sent to %s, session %s: %v", queue, m.SessionID, err)
	}
	b.sent = append(b.sent, sent{time.Now(), q, m.Properties[event.TraceProperty]})
	b.journal = append(b.journal, "sent")
	return nil
}

func (b *fakeBus) AcceptSession(_ context.Context, queue, name string) (agent.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accepts++
	switch {
	case b.down != nil:
		return nil, b.down
	case queue != commandQueue || name != cluster:
		return nil, fault.Newf(fault.Bug, "accepting session %s of %s", name, queue)
	case b.holder != nil:
		return nil, fault.New(fault.Conflict, "accept session", bus.ErrSessionLocked)
	}
	b.holder = &fakeSession{bus: b}
	return b.holder, nil
}

// seize gives the session to somebody else, as the broker does after a lock ran
// out; the holder is not told. release lets it go again.
func (b *fakeBus) seize() (release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	other := &fakeSession{bus: b}
	b.holder = other
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.holder == other {
			b.holder = nil
		}
	}
}

func (b *fakeBus) set(f func(*fakeBus)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

func (b *fakeBus) all() []sent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sent)
}

// last gives the newest snapshot.
func (b *fakeBus) last(t *testing.T) event.QueuePressure {
	t.Helper()
	all := b.all()
	if len(all) == 0 {
		t.Fatal("no snapshot was sent")
	}
	return all[len(all)-1].q
}

// put gives the agent a command, as the cloud encodes it.
func (b *fakeBus) put(t *testing.T, c event.SlurmCommand) {
	t.Helper()
	c.Cluster, c.Attempt, c.ExpiresAt = cluster, max(c.Attempt, 1), time.Now().Add(time.Minute)
	m, err := c.Encode(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b.putMessage(bus.Received{ID: m.ID, Body: m.Body, Properties: map[string]any{event.EncodingProperty: m.Encoding}})
}

func (b *fakeBus) putBody(id string, body []byte) { b.putMessage(bus.Received{ID: id, Body: body}) }

func (b *fakeBus) putMessage(m bus.Received) {
	m.DeliveryCount = 1
	b.set(func(b *fakeBus) { b.waiting = append(b.waiting, m) })
}

type fakeSession struct {
	bus    *fakeBus
	given  []bus.Received
	closed bool
}

func (s *fakeSession) enter() (func(), error) {
	s.bus.mu.Lock()
	switch {
	case s.bus.down != nil:
		return s.bus.mu.Unlock, s.bus.down
	case s.bus.holder != s || s.closed:
		return s.bus.mu.Unlock, fault.Newf(fault.Conflict, "the lock is lost")
	}
	return s.bus.mu.Unlock, nil
}

func (s *fakeSession) State(context.Context) ([]byte, error) {
	done, err := s.enter()
	defer done()
	return s.bus.state, err
}

func (s *fakeSession) SetState(_ context.Context, state []byte) error {
	done, err := s.enter()
	defer done()
	if err = errors.Join(err, s.bus.setState); err != nil {
		return fault.New(fault.Of(err), "set state", err)
	}
	s.bus.state = bytes.Clone(state)
	s.bus.journal = append(s.bus.journal, "stored")
	return nil
}

func (s *fakeSession) RenewLock(context.Context) error {
	done, err := s.enter()
	defer done()
	return errors.Join(err, s.bus.noRenew)
}

func (s *fakeSession) Receive(ctx context.Context, limit int) ([]bus.Received, error) {
	for {
		done, err := s.enter()
		if err != nil || len(s.bus.waiting) > 0 {
			n := min(limit, len(s.bus.waiting))
			if err != nil {
				n = 0
			}
			messages := slices.Clone(s.bus.waiting[:n])
			s.bus.waiting = slices.Clone(s.bus.waiting[n:])
			s.given = append(s.given, messages...)
			done()
			return messages, err
		}
		done()
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *fakeSession) Complete(_ context.Context, m bus.Received) error {
	done, err := s.enter()
	defer done()
	if err = errors.Join(err, s.bus.noSettle); err != nil {
		return err
	}
	s.given = slices.DeleteFunc(s.given, func(g bus.Received) bool { return g.ID == m.ID })
	s.bus.completed = append(s.bus.completed, m.ID)
	s.bus.journal = append(s.bus.journal, "completed "+m.ID)
	return nil
}

// Close gives the session back; what was not settled is delivered again.
func (s *fakeSession) Close(context.Context) error {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	s.closed = true
	if s.bus.holder == s {
		s.bus.holder = nil
	}
	s.bus.waiting = append(s.given, s.bus.waiting...)
	s.given = nil
	return nil
}

// of reads something of the broker while it works.
func of[T any](b *fakeBus, f func(*fakeBus) T) T {
	b.mu.Lock()
	defer b.mu.Unlock()
	return f(b)
}

func accepts(b *fakeBus) int        { return b.accepts }
func stored(b *fakeBus) []byte      { return bytes.Clone(b.state) }
func completed(b *fakeBus) []string { return slices.Clone(b.completed) }
func journal(b *fakeBus) []string   { return slices.Clone(b.journal) }
func isHeld(b *fakeBus) bool        { return b.holder != nil }
