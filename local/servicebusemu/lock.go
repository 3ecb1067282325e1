package servicebusemu

import (
	"crypto/rand"
	"time"
)

// deliveryRef is the unsettled delivery of a locked message, so that the session
// that holds it can forget it when the lock ends by itself.
type deliveryRef struct {
	link *outbound
	id   uint32
}

// disposition is what a receiver wants done with a message it has locked.
type disposition struct {
	verb                verb
	properties          orderedMap // to set on the message
	reason, description string     // for deadLetter
}

// verb is the kind of a disposition.
type verb uint8

const (
	verbRelease verb = iota // put back as if never delivered
	verbComplete
	verbAbandon
	verbDefer
	verbDeadLetter
)

// newToken draws a version 4 UUID. Tokens are random, so that one from before a
// restart cannot settle a message after it.
func newToken() (u uuid) {
	rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// lock gives m a new token and an end of the lock.
func (q *queue) lock(m *message, now time.Time) {
	m.token = newToken()
	q.locks[m.token] = m
	q.setState(m, stateLocked)
	if m.group != nil {
		m.group.locked[m] = struct{}{}
		return
	}
	m.lockedUntil = now.Add(q.e.cfg.LockDuration)
	q.e.set(&m.due, m.lockedUntil)
}

// unlock ends the lock on m, if there is one. The caller says what becomes of m.
func (q *queue) unlock(m *message) {
	if m.token == (uuid{}) {
		return
	}
	delete(q.locks, m.token)
	m.token = uuid{}
	q.e.clear(&m.due)
	if m.group != nil {
		delete(m.group.locked, m)
	}
	if m.delivery.link != nil {
		m.delivery.link.forget(m.delivery.id)
		m.delivery = deliveryRef{}
	}
}

// lockExpired is called when nobody settled m in time.
func (q *queue) lockExpired(m *message, now time.Time) {
	q.total.lockExpiries++
	q.unlock(m)
	q.deliveryFailed(m, now)
}

// held says whether token still holds m.
func (m *message) held(token uuid, now time.Time) bool {
	return m.token == token && m.state == stateLocked && now.Before(m.lockEnd())
}

// settle carries out d on m, if token still holds it.
func (q *queue) settle(m *message, token uuid, d disposition, now time.Time) *refusal {
	if !m.held(token, now) {
		return refuse(condMessageLockLost, textMessageLockLost)
	}
	if d.verb == verbDeadLetter && q.deadLetter == nil {
		return refuse(condNotAllowed, "A message in the dead-letter sub-queue cannot be dead-lettered.")
	}
	if d.verb == verbDeadLetter {
		d.properties = append(d.properties[:len(d.properties):len(d.properties)],
			pair{propReason, d.reason}, pair{propDescription, d.description})
	}
	if err := q.amend(m, d.properties); err != nil {
		return refuse(condInvalidField, err.Error())
	}
	q.unlock(m)
	switch d.verb {
	case verbRelease:
		q.restore(m, now)
	case verbComplete:
		q.total.completed++
		q.remove(m)
	case verbAbandon:
		q.total.abandoned++
		q.deliveryFailed(m, now)
	case verbDefer:
		m.deferred = true
		q.restore(m, now)
	case verbDeadLetter:
		q.moveToDeadLetter(m)
	}
	q.e.pump(now)
	return nil
}

// amend sets application properties of m and keeps count of its size.
func (q *queue) amend(m *message, properties orderedMap) error {
	before := m.size()
	err := m.content.amend(properties)
	m.amended = m.amended || len(properties) > 0
	q.e.bytes += m.size() - before
	return err
}

// deliveryFailed counts a delivery that was abandoned or ran out of time, and
// gives the message up when there were too many. The dead-letter sub-queue does
// neither.
func (q *queue) deliveryFailed(m *message, now time.Time) {
	if q.deadLetter != nil {
		m.deliveryCount++
		if int(m.deliveryCount) >= q.e.cfg.MaxDeliveryCount {
			q.giveUp(m)
			return
		}
	}
	q.restore(m, now)
}

// renew extends the lock that token stands for.
func (q *queue) renew(token uuid, now time.Time) (until time.Time, r *refusal) {
	m := q.locks[token]
	if m == nil || !m.held(token, now) {
		return time.Time{}, refuse(condMessageLockLost, textMessageLockLost)
	}
	if m.group != nil {
		return time.Time{}, refuse(condNotAllowed, "A message of a session cannot be renewed by itself. Renew the session.")
	}
	m.lockedUntil = now.Add(q.e.cfg.LockDuration)
	q.e.set(&m.due, m.lockedUntil)
	return m.lockedUntil, nil
}
