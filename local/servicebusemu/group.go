package servicebusemu

import (
	"container/list"
	"fmt"
	"slices"
	"time"
)

// defaultAcceptTimeout is how long a receiver waits for any group when it does
// not say. Newer clients say.
const defaultAcceptTimeout = time.Minute

// group is what Service Bus calls a session: messages with one group-id, with one
// holder at a time and a state of its own.
type group struct {
	q  *queue
	id string

	ready    heapOf[*message]
	messages int // of the group in the queue, scheduled ones excepted
	locked   map[*message]struct{}

	state   []byte // nil: none
	updated time.Time

	holder      *consumer
	lockedUntil time.Time
	due         deadline
	awake       bool          // in q.awake
	free        *list.Element // in q.free
}

// consumer is a receiver link of a client.
type consumer struct {
	q       *queue
	link    *outbound
	deletes bool   // receive-and-delete
	group   *group // held group, in a queue with sessions

	credit    uint32
	delivered uint32 // the link's delivery-count
	queued    bool   // in q.hungry
	closed    bool
	wait      *waiter
}

// waiter is a consumer whose attach is answered when a group is free.
type waiter struct {
	c       *consumer
	due     deadline
	element *list.Element
}

// reached refuses the attach when no group came free in time.
func (w *waiter) reached(*deadline, time.Time) {
	w.c.q.waiters.Remove(w.element)
	w.c.wait, w.c.closed = nil, true
	w.c.link.refuse(refuse(condTimeout, "The operation did not complete within the allotted timeout. No session became available."))
}

// groupNamed finds or makes a group.
func (q *queue) groupNamed(id string) *group {
	g := q.groups[id]
	if g == nil {
		g = &group{q: q, id: id, locked: make(map[*message]struct{})}
		g.due.owner = g
		q.groups[id] = g
	}
	return g
}

func (q *queue) joinGroup(m *message) {
	m.group = q.groupNamed(m.content.group)
	m.group.messages++
}

func (q *queue) leaveGroup(m *message) {
	if m.group == nil {
		return
	}
	g := m.group
	m.group = nil
	g.messages--
	q.forgetEmpty(g)
}

// forgetEmpty drops a group that nothing distinguishes from one never seen.
func (q *queue) forgetEmpty(g *group) {
	if g.messages == 0 && g.state == nil && g.holder == nil {
		q.unlist(g)
		delete(q.groups, g.id)
	}
}

func (q *queue) unlist(g *group) {
	if g.free != nil {
		q.free.Remove(g.free)
		g.free = nil
	}
}

// offer puts g where pump finds it: with its holder's turn, or among the free.
func (q *queue) offer(g *group) {
	if g.holder != nil || len(g.ready) == 0 {
		q.unlist(g)
		if g.holder != nil && len(g.ready) > 0 && !g.awake {
			g.awake = true
			q.awake.push(g)
		}
		return
	}
	if g.free == nil {
		g.free = q.free.PushBack(g)
	}
}

// acceptNamed gives the group with this id to c, or says why not.
func (q *queue) acceptNamed(c *consumer, id string, now time.Time) *refusal {
	if len(id) > maxIDLength {
		return refuse(condInvalidField, fmt.Sprintf("A session id may have at most %d characters.", maxIDLength))
	}
	g := q.groupNamed(id)
	if g.holder != nil {
		return refuse(condSessionLocked, fmt.Sprintf("The requested session '%s' cannot be accepted. It may be locked by another receiver.", id))
	}
	q.grant(g, c, now)
	return nil
}

// acceptNext gives c the group that has been free longest, or makes it wait.
func (q *queue) acceptNext(c *consumer, timeout, now time.Time) {
	w := &waiter{c: c}
	w.due.owner = w
	w.element = q.waiters.PushBack(w)
	c.wait = w
	q.e.set(&w.due, timeout)
	q.e.pump(now)
}

// grantWaiting brings waiters and free groups together.
func (q *queue) grantWaiting(now time.Time) {
	for q.waiters.Len() > 0 && q.free.Len() > 0 {
		w := q.stopWaiting(q.waiters.Front().Value.(*waiter))
		q.grant(q.free.Front().Value.(*group), w.c, now)
	}
}

func (q *queue) stopWaiting(w *waiter) *waiter {
	q.waiters.Remove(w.element)
	q.e.clear(&w.due)
	w.c.wait = nil
	return w
}

// grant makes c the holder of g, which nobody holds, and answers its attach.
func (q *queue) grant(g *group, c *consumer, now time.Time) {
	q.unlist(g)
	g.lockedUntil = now.Add(q.e.cfg.LockDuration)
	if !c.link.granted(g.id, g.lockedUntil) {
		c.closed = true
		q.offer(g)
		q.forgetEmpty(g)
		return
	}
	g.holder, c.group = c, g
	q.e.set(&g.due, g.lockedUntil)
}

// reached takes the group from a holder that did not renew: its messages count as
// failed deliveries.
func (g *group) reached(_ *deadline, now time.Time) {
	c := g.holder
	if c == nil {
		return
	}
	g.q.total.lockExpiries++
	g.q.takeBack(g, now, g.q.deliveryFailed)
	c.closed = true
	c.link.refuse(refuse(condSessionLockLost, textSessionLockLost))
}

// takeBack ends the holding of g. What becomes of its locked messages is for the
// caller to say; they are handled in their order.
func (q *queue) takeBack(g *group, now time.Time, each func(*message, time.Time)) {
	g.holder.group = nil
	g.holder = nil
	q.e.clear(&g.due)
	locked := make([]*message, 0, len(g.locked))
	for m := range g.locked {
		locked = append(locked, m)
	}
	slices.SortFunc(locked, func(a, b *message) int { return int(a.sequence - b.sequence) })
	for _, m := range locked {
		q.unlock(m)
		each(m, now)
	}
	q.offer(g)
	q.forgetEmpty(g)
}

// leave removes c. The messages of its group return as if never delivered; those
// of a queue without sessions stay locked.
func (q *queue) leave(c *consumer, now time.Time) {
	c.closed = true
	if c.wait != nil {
		q.stopWaiting(c.wait)
	}
	if c.group != nil {
		q.takeBack(c.group, now, q.restore)
	}
	q.e.pump(now)
}

// renewGroup extends the holding of g.
func (q *queue) renewGroup(g *group, now time.Time) time.Time {
	g.lockedUntil = now.Add(q.e.cfg.LockDuration)
	q.e.set(&g.due, g.lockedUntil)
	return g.lockedUntil
}

// heldGroup finds a group whose holder satisfies holds and has not lost it.
func (q *queue) heldGroup(id string, holds func(*consumer) bool, now time.Time) (*group, *refusal) {
	g := q.groups[id]
	if g == nil || g.holder == nil || !holds(g.holder) || !now.Before(g.lockedUntil) {
		return nil, refuse(condSessionLockLost, textSessionLockLost)
	}
	return g, nil
}
