package servicebusemu

import "fmt"

// Application properties of a dead-lettered message; the client shows them under
// the same names.
const (
	propReason      = "DeadLetterReason"
	propDescription = "DeadLetterErrorDescription"
)

// moveToDeadLetter moves m, which is not locked, to the dead-letter sub-queue. It
// keeps its delivery count and enqueued time and gets a new sequence number.
func (q *queue) moveToDeadLetter(m *message) {
	q.total.deadLettered++
	q.remove(m)
	m.enqueuedSequence = m.sequence
	m.group, m.deferred, m.ttl = nil, false, 0
	m.state = stateActive
	q.deadLetter.insert(m)
	q.deadLetter.ready.push(m)
}

// broker dead-letters m for a reason of the broker's own.
func (q *queue) broker(m *message, reason, description string) {
	// The properties were well-formed when the message was accepted.
	_ = q.amend(m, orderedMap{{propReason, reason}, {propDescription, description}})
	q.moveToDeadLetter(m)
}

// giveUp dead-letters m after its last delivery.
func (q *queue) giveUp(m *message) {
	q.broker(m, "MaxDeliveryCountExceeded",
		fmt.Sprintf("Message could not be consumed after %d delivery attempts.", q.e.cfg.MaxDeliveryCount))
}

// expire is called when the time to live of m, which is not locked, has passed.
func (q *queue) expire(m *message) {
	q.total.expired++
	if q.e.cfg.DeadLetterOnExpiration {
		q.broker(m, "TTLExpiredException", "The message expired and was dead lettered.")
		return
	}
	q.remove(m)
}
