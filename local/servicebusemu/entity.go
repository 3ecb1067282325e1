package servicebusemu

import (
	"sync"
	"sync/atomic"
	"time"
)

// entity is a queue and its dead-letter sub-queue: what one mutex covers, so that
// moving a message between the two is one step.
type entity struct {
	mu    sync.Mutex
	cfg   QueueConfig
	clock Clock

	main, dead *queue
	journal    *journal // nil: in memory only
	faults     atomic.Pointer[faultPlan]

	// bytes held by both queues, for cfg.MaxSize.
	bytes int

	// deadlines holds every moment at which something happens by itself. The
	// timer is set for the first of them, or for an earlier moment that has since
	// been cancelled.
	deadlines heapOf[*deadline]
	timer     Timer
	armed     time.Time
	closed    bool
}

// deadline is a moment at which its owner must act. The owner embeds it, so that
// setting one allocates nothing.
type deadline struct {
	at    time.Time
	owner interface {
		// reached acts on d, which has left the heap. The entity is locked.
		reached(d *deadline, now time.Time)
	}
	position int
}

func (d *deadline) before(o *deadline) bool { return d.at.Before(o.at) }
func (d *deadline) slot() *int              { return &d.position }

func newEntity(cfg QueueConfig, clock Clock) *entity {
	if clock == nil {
		clock = machineClock{}
	}
	e := &entity{cfg: cfg, clock: clock}
	e.main = newQueue(e)
	e.dead = newQueue(e)
	e.main.deadLetter = e.dead
	e.main.sessions = cfg.RequiresSession
	e.main.history.window = cfg.DuplicateDetection
	return e
}

func (e *entity) queues() [2]*queue { return [2]*queue{e.main, e.dead} }

func (e *entity) lock() { e.mu.Lock() }

// unlock releases the entity after setting the timer for whatever came up and
// recording what has changed.
func (e *entity) unlock() {
	e.arm()
	e.journal.seal()
	e.mu.Unlock()
}

// set makes d due at the given time, instead of whenever it was due before.
func (e *entity) set(d *deadline, at time.Time) {
	e.deadlines.remove(d)
	d.at = at
	e.deadlines.push(d)
}

func (e *entity) clear(d *deadline) { e.deadlines.remove(d) }

func (e *entity) arm() {
	if e.closed || len(e.deadlines) == 0 {
		return
	}
	first := e.deadlines[0].at
	if !e.armed.IsZero() && !first.Before(e.armed) {
		return
	}
	e.armed = first
	wait := max(0, first.Sub(e.clock.Now()))
	if e.timer == nil {
		e.timer = e.clock.AfterFunc(wait, e.tick)
		return
	}
	e.timer.Reset(wait)
}

// tick runs when the timer fires.
func (e *entity) tick() {
	e.lock()
	defer e.unlock()
	e.armed = time.Time{}
	if e.closed {
		return
	}
	now := e.clock.Now()
	for len(e.deadlines) > 0 && !e.deadlines[0].at.After(now) {
		d := e.deadlines.pop()
		d.owner.reached(d, now)
	}
	e.pump(now)
}

// pump hands out what can be handed out; the main queue first, since it may move
// messages to the other.
func (e *entity) pump(now time.Time) {
	e.main.pump(now)
	e.dead.pump(now)
}

// close stops the timer; what is queued stays until the server is collected.
func (e *entity) close() {
	e.lock()
	defer e.unlock()
	e.closed = true
	if e.timer != nil {
		e.timer.Stop()
	}
}
