package servicebusemu

import (
	"fmt"
	"time"
)

// schedule keeps m, which was just inserted, until its time comes.
func (q *queue) schedule(m *message) {
	q.setState(m, stateScheduled)
	m.enqueued = m.scheduledFor
	q.e.set(&m.due, m.scheduledFor)
}

// activate appends a scheduled message as if it had been sent now, with a new
// sequence number (learn.microsoft.com/azure/service-bus-messaging/message-sequencing).
func (q *queue) activate(m *message, now time.Time) {
	q.remove(m)
	m.state = stateActive
	q.insert(m)
	q.makeActive(m, now)
}

// cancel removes scheduled messages, all of them or none.
func (q *queue) cancel(sequences []int64) *refusal {
	for _, s := range sequences {
		m := q.index.get(s)
		if m == nil || m.state != stateScheduled {
			return refuse(condNotFound, fmt.Sprintf("The scheduled message with sequence number %d was not found.", s))
		}
	}
	for _, s := range sequences {
		if m := q.index.get(s); m != nil {
			q.total.cancelled++
			q.remove(m)
		}
	}
	return nil
}
