package servicebusemu

import (
	"container/list"
	"fmt"
	"strings"
	"time"
)

// messageState is where a message is in its life.
type messageState uint8

const (
	stateActive messageState = iota
	stateLocked
	stateDeferred
	stateScheduled
	messageStates
)

// wire is the state as the annotation x-opt-message-state has it. A locked
// message counts as active.
func (s messageState) wire() int32 {
	switch s {
	case stateDeferred:
		return 1
	case stateScheduled:
		return 2
	}
	return 0
}

// message is one message in a queue.
type message struct {
	content
	q     *queue
	group *group // nil unless the queue requires sessions

	sequence         int64
	enqueuedSequence int64
	enqueued         time.Time
	ttl              time.Duration // the shorter of the message's and the queue's; 0 for none
	deliveryCount    uint32

	state    messageState
	deferred bool // a lock that ends by itself returns it to stateDeferred

	token       uuid // zero unless locked
	lockedUntil time.Time
	delivery    deliveryRef

	due      deadline // end of the lock, or of the wait of a scheduled message
	expiry   deadline // end of the time to live, set while active
	position int      // in the ready heap

	// For the journal: whether the message is in no queue any more, whether it is
	// in journal.touched, whether its content changed, and where the file has it.
	removed, touched, amended bool
	logged                    place
}

func (m *message) before(o *message) bool { return m.sequence < o.sequence }
func (m *message) slot() *int             { return &m.position }

// reached is called when the lock, the schedule or the time to live ends.
func (m *message) reached(d *deadline, now time.Time) {
	switch {
	case d == &m.expiry:
		m.q.expire(m)
	case m.state == stateScheduled:
		m.q.activate(m, now)
	case m.state == stateLocked:
		m.q.lockExpired(m, now)
	}
}

// expired says whether the time to live has passed.
func (m *message) expired(now time.Time) bool {
	return m.ttl > 0 && !now.Before(m.enqueued.Add(m.ttl))
}

// lockEnd is when the message's lock ends: with its group's, if it has one.
func (m *message) lockEnd() time.Time {
	if m.group != nil {
		return m.group.lockedUntil
	}
	return m.lockedUntil
}

// view is the message as a receiver or a browser sees it.
func (m *message) view() delivered {
	v := delivered{
		deliveryCount: m.deliveryCount, ttl: m.ttl,
		sequence: m.sequence, enqueuedSequence: m.enqueuedSequence, enqueued: m.enqueued,
		state: m.state,
	}
	if m.deferred {
		v.state = stateDeferred
	}
	if m.state == stateLocked {
		v.lockedUntil = m.lockEnd()
	}
	return v
}

// queue is a queue or a dead-letter sub-queue. Its entity's mutex covers it.
type queue struct {
	e          *entity
	deadLetter *queue // nil in a dead-letter sub-queue
	sessions   bool

	lastSequence int64
	index        sequenceIndex
	ready        heapOf[*message] // active messages, unless the queue has sessions
	locks        map[uuid]*message
	history      history

	hungry fifo[*consumer] // consumers with credit, in the order of their turn

	groups  map[string]*group
	awake   fifo[*group] // groups whose holder may have something to receive
	free    list.List    // *group that nobody holds and that have active messages
	waiters list.List    // *waiter for any group, the oldest first

	count [messageStates]int
	total totals
}

func newQueue(e *entity) *queue {
	return &queue{e: e, locks: make(map[uuid]*message), groups: make(map[string]*group)}
}

// maxIDLength bounds message and session ids, in bytes; the service counts
// characters. An encoded message id has a header of up to five bytes.
const maxIDLength = 128

// check says why the queue cannot take contents, all of them or none.
func (q *queue) check(contents []content) *refusal {
	size := 0
	for i := range contents {
		c := &contents[i]
		if q.sessions && !c.hasGroup {
			return refuse(condNotAllowed, fmt.Sprintf("The SessionId was not set on a message, and it cannot be sent to the entity %s. Entities that have session support enabled can only receive messages that have the SessionId set to a valid value.", q.e.cfg.Name))
		}
		if len(c.group) > maxIDLength || len(c.id) > maxIDLength+5 {
			return refuse(condNotAllowed, fmt.Sprintf("A MessageId or a SessionId may have at most %d characters.", maxIDLength))
		}
		if c.size() > q.e.cfg.MaxMessageSize {
			return refuse(condMessageTooLarge, fmt.Sprintf("The received message (size:%d bytes) exceeds the limit (%d bytes) currently allowed on the entity %s.", c.size(), q.e.cfg.MaxMessageSize, q.e.cfg.Name))
		}
		size += c.size()
	}
	if q.e.bytes+size > q.e.cfg.MaxSize {
		return refuse(condResourceLimit, fmt.Sprintf("The maximum entity size has been reached or exceeded for %s. Size of entity in bytes: %d, max entity size in bytes: %d.", q.e.cfg.Name, q.e.bytes, q.e.cfg.MaxSize))
	}
	return nil
}

// enqueue takes all contents or none, and returns their sequence numbers.
func (q *queue) enqueue(contents []content) ([]int64, *refusal) {
	if r := q.check(contents); r != nil {
		return nil, r
	}
	now := q.e.clock.Now()
	sequences := make([]int64, 0, len(contents))
	for _, c := range contents {
		sequences = append(sequences, q.accept(c, now))
	}
	q.e.pump(now)
	return sequences, nil
}

// accept stores one content that has been checked. A duplicate gets a sequence
// number too, one that belongs to nothing.
func (q *queue) accept(c content, now time.Time) int64 {
	q.total.sent++
	if q.duplicate(c.id, now) {
		q.total.duplicates++
		q.lastSequence++
		return q.lastSequence
	}
	m := &message{content: c}
	m.due.owner, m.expiry.owner = m, m
	q.insert(m)
	if c.scheduledFor.After(now) {
		q.schedule(m)
	} else {
		q.makeActive(m, now)
	}
	return m.sequence
}

// insert gives m its place and number in q. The caller then says its state.
func (q *queue) insert(m *message) {
	q.lastSequence++
	m.q, m.sequence, m.removed = q, q.lastSequence, false
	q.touch(m)
	q.index.add(m)
	q.count[m.state]++
	q.e.bytes += m.size()
}

// remove forgets m, whatever its state.
func (q *queue) remove(m *message) {
	q.touch(m)
	m.removed = true
	q.unlock(m)
	q.withdraw(m)
	q.leaveGroup(m)
	q.index.remove(m.sequence)
	q.count[m.state]--
	q.e.bytes -= m.size()
}

// withdraw takes m out of what could deliver, activate or expire it.
func (q *queue) withdraw(m *message) {
	q.e.clear(&m.due)
	q.e.clear(&m.expiry)
	if m.group == nil {
		q.ready.remove(m)
		return
	}
	m.group.ready.remove(m)
	q.offer(m.group)
}

func (q *queue) setState(m *message, s messageState) {
	q.touch(m)
	q.count[m.state]--
	m.state = s
	q.count[s]++
}

// makeActive starts the life of a message as something to receive.
func (q *queue) makeActive(m *message, now time.Time) {
	m.enqueued = now.UTC().Truncate(time.Millisecond)
	m.ttl = m.content.ttl
	if d := q.e.cfg.DefaultTTL; d > 0 && (m.ttl == 0 || m.ttl > d) {
		m.ttl = d
	}
	if q.sessions {
		q.joinGroup(m)
	}
	q.restore(m, now)
}

// restore puts m back to where it is received from: by sequence number, or by
// turn, in its old place of the order.
func (q *queue) restore(m *message, now time.Time) {
	switch {
	case m.deferred:
		// A deferred message does not expire until somebody receives it.
		q.setState(m, stateDeferred)
		return
	case m.expired(now) && q.deadLetter != nil:
		q.expire(m)
		return
	}
	q.setState(m, stateActive)
	if m.ttl > 0 && q.deadLetter != nil {
		q.e.set(&m.expiry, m.enqueued.Add(m.ttl))
	}
	if m.group == nil {
		q.ready.push(m)
		return
	}
	m.group.ready.push(m)
	q.offer(m.group)
}

// pump hands out what can be handed out. Whoever makes a message ready, frees a
// group or brings credit has it called, through the entity's, before unlocking.
func (q *queue) pump(now time.Time) {
	for len(q.ready) > 0 {
		c, ok := q.hungry.pop()
		if !ok {
			break
		}
		c.queued = false
		if c.closed || c.credit == 0 {
			continue
		}
		q.deliver(c, q.ready.pop(), now)
		q.wantsMore(c)
	}
	for q.awake.len() > 0 || q.waiters.Len() > 0 && q.free.Len() > 0 {
		q.grantWaiting(now)
		if g, ok := q.awake.pop(); ok {
			g.awake = false
			for c := g.holder; c != nil && !c.closed && c.credit > 0 && len(g.ready) > 0; {
				q.deliver(c, g.ready.pop(), now)
			}
		}
	}
}

// wantsMore gives c a turn if it has credit.
func (q *queue) wantsMore(c *consumer) {
	if c.credit > 0 && !c.closed && !c.queued {
		c.queued = true
		q.hungry.push(c)
	}
}

// deliver hands m, which has left the ready heap, to c.
func (q *queue) deliver(c *consumer, m *message, now time.Time) {
	q.e.clear(&m.expiry)
	if m.expired(now) && q.deadLetter != nil {
		q.expire(m)
		return
	}
	if !c.deletes {
		q.lock(m, now)
	}
	if !c.link.deliver(m) {
		// The connection died and its reader has not told us yet.
		c.closed = true
		q.unlock(m)
		q.restore(m, now)
		return
	}
	c.credit--
	c.delivered++
	if c.deletes {
		q.total.completed++
		q.remove(m)
	}
}

// entityName cuts an address down to the queue's name and says which part of the
// queue it names.
func entityName(address string) (name string, deadLetter, management bool) {
	if _, after, ok := strings.Cut(address, "://"); ok {
		_, address, _ = strings.Cut(after, "/")
	}
	name = strings.ToLower(strings.Trim(address, "/"))
	name, management = strings.CutSuffix(name, "/$management")
	name, deadLetter = strings.CutSuffix(name, "/$deadletterqueue")
	return name, deadLetter, management
}
