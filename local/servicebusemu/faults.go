package servicebusemu

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"
)

// Faults says how often a queue misbehaves, as the service now and then does. Each
// share is a probability from 0 to 1 for each operation; of several that hit the
// same operation the first in this order happens.
type Faults struct {
	// Detach ends the link with amqp:link:detach-forced instead of doing what was
	// asked; Drop closes the connection, half of the time after it was done.
	Detach float64 `json:"detach,omitempty"`
	Drop   float64 `json:"drop,omitempty"`
	// LostAnswer does what was asked, and ends the link instead of saying so.
	LostAnswer float64 `json:"lost_answer,omitempty"`
	// Busy refuses sends and schedules with com.microsoft:server-busy.
	Busy float64 `json:"busy,omitempty"`
	// LostLock ends the lock, of the message or its session, on a message that is
	// being settled, as if it had run out.
	LostLock float64 `json:"lost_lock,omitempty"`
	// Delay is the time between a send or a settlement and its answer.
	Delay time.Duration `json:"delay_ns,omitempty"`
}

// maxDelay bounds Faults.Delay: the client gives up long before.
const maxDelay = 10 * time.Minute

func (f Faults) check() error {
	var errs []error
	for name, share := range map[string]float64{
		"Detach": f.Detach, "Drop": f.Drop, "LostAnswer": f.LostAnswer, "Busy": f.Busy, "LostLock": f.LostLock,
	} {
		if !(share >= 0 && share <= 1) { // nor NaN
			errs = append(errs, fmt.Errorf("%s: got %v, want 0 to 1", name, share))
		}
	}
	if f.Delay < 0 || f.Delay > maxDelay {
		errs = append(errs, fmt.Errorf("%s: got %v, want 0 to %v", "Delay", f.Delay, maxDelay))
	}
	return errors.Join(errs...)
}

var (
	serverBusy   = refuse(condServerBusy, "The request was terminated because the entity is being throttled. Please wait 10 seconds and try again.")
	forcedDetach = refuse(condDetachForced, "The link was force detached. Code: ServerError. Please retry the operation.")
)

// fault is what happens to one operation.
type fault uint8

const (
	noFault fault = iota
	faultDetach
	faultDrop
	faultDropAfter
	faultLostAnswer
	faultBusy
	faultLostLock
)

// occasion is a kind of operation that faults happen to.
type occasion uint8

const (
	sending occasion = iota
	settling
)

// faultPlan draws the faults of one queue.
type faultPlan struct {
	Faults
	mu     sync.Mutex
	random *rand.Rand
}

// faultOf draws what happens to an operation. Without faults it costs one load.
func (e *entity) faultOf(o occasion) fault {
	p := e.faults.Load()
	if p == nil {
		return noFault
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	hit := func(share float64) bool { return share > 0 && p.random.Float64() < share }
	switch {
	case hit(p.Detach):
		return faultDetach
	case hit(p.Drop):
		if p.random.Float64() < 0.5 {
			return faultDropAfter
		}
		return faultDrop
	case hit(p.LostAnswer):
		return faultLostAnswer
	case o == sending && hit(p.Busy):
		return faultBusy
	case o == settling && hit(p.LostLock):
		return faultLostLock
	}
	return noFault
}

// answer tells the client the outcome of a delivery, at once or after the delay of
// q, which may be nil. l is the link it was sent on, or nil if we sent it.
func (s *session) answer(q *queue, l *inbound, id uint32, outcome []byte) {
	if q != nil {
		if p := q.e.faults.Load(); p != nil && p.Delay > 0 {
			q.e.clock.AfterFunc(p.Delay, func() { s.answerNow(l, id, outcome) })
			return
		}
	}
	s.answerNow(l, id, outcome)
}

func (s *session) answerNow(l *inbound, id uint32, outcome []byte) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.gone || l != nil && l.dead.Load() {
		return
	}
	s.c.appendLocked(func(b []byte) []byte {
		return appendDisposition(b, s.channel, l != nil, id, outcome)
	})
}

// drop closes the connection without a word, and without what waits to be written.
func (c *connection) drop() {
	c.abandon()
	if t, ok := c.nc.(interface{ NetConn() net.Conn }); ok { // TLS would say goodbye
		_ = t.NetConn().Close()
	}
	_ = c.nc.Close()
}

// loseLock ends the lock on m as if it had run out.
func (q *queue) loseLock(m *message, now time.Time) {
	if m.group != nil {
		m.group.reached(nil, now)
	} else {
		q.lockExpired(m, now)
	}
	q.e.pump(now)
}

// entityNamed finds a queue for those who configure it.
func (s *Server) entityNamed(queue string) (*entity, error) {
	if e := s.entities[strings.ToLower(queue)]; e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("queue %q: %w", queue, errNoQueue)
}

var errNoQueue = errors.New("no such queue")

// SetFaults makes a queue misbehave from now on; the zero value ends it. The error
// names what is out of range.
func (s *Server) SetFaults(queue string, f Faults) error {
	e, err := s.entityNamed(queue)
	if err != nil {
		return fmt.Errorf("set faults: %w", err)
	}
	if err := f.check(); err != nil {
		return fmt.Errorf("set faults of queue %q: %w", queue, err)
	}
	if f == (Faults{}) {
		e.faults.Store(nil)
		return nil
	}
	name := fnv.New64a()
	_, _ = name.Write([]byte(strings.ToLower(queue)))
	e.faults.Store(&faultPlan{Faults: f, random: rand.New(rand.NewPCG(s.seed, name.Sum64()))})
	return nil
}

// Faults returns what SetFaults has set, by configured name; queues that behave
// are left out.
func (s *Server) Faults() map[string]Faults {
	all := make(map[string]Faults)
	for _, e := range s.entities {
		if p := e.faults.Load(); p != nil {
			all[e.cfg.Name] = p.Faults
		}
	}
	return all
}

// DetachLinks ends every link to a queue, to its dead-letter sub-queue and to its
// $management with amqp:link:detach-forced, and returns how many there were.
func (s *Server) DetachLinks(queue string) (int, error) {
	if _, err := s.entityNamed(queue); err != nil {
		return 0, fmt.Errorf("detach links: %w", err)
	}
	leads := func(l link) bool {
		name, _, _ := entityName(l.path())
		return name == strings.ToLower(queue)
	}
	count := 0
	for _, c := range s.open() {
		for _, l := range c.links(leads) {
			l.detachFor(forcedDetach)
			count++
		}
	}
	return count, nil
}

// DropConnections closes every connection without a word, and returns how many
// there were.
func (s *Server) DropConnections() int {
	open := s.open()
	for _, c := range open {
		c.drop()
	}
	return len(open)
}

// LoseLocks ends every lock on messages and sessions of a queue as if it had run
// out, and returns how many messages and sessions were held.
func (s *Server) LoseLocks(queue string) (int, error) {
	e, err := s.entityNamed(queue)
	if err != nil {
		return 0, fmt.Errorf("lose locks: %w", err)
	}
	e.lock()
	defer e.unlock()
	count, now := 0, e.clock.Now()
	for _, g := range e.main.groups {
		if g.holder != nil {
			count++
			g.reached(nil, now)
		}
	}
	for _, q := range e.queues() {
		for _, m := range q.locks {
			count++
			q.lockExpired(m, now)
		}
	}
	e.pump(now)
	return count, nil
}

// open lists the connections.
func (s *Server) open() []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*connection, 0, len(s.connections))
	for c := range s.connections {
		all = append(all, c)
	}
	return all
}
