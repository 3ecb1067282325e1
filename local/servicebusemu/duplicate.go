package servicebusemu

import "time"

// history remembers the message ids of the last window, for duplicate detection.
// Only sends and schedules add to it; neither completing, dead-lettering nor
// cancelling a message takes its id out, and a duplicate does not extend the window
// (learn.microsoft.com/azure/service-bus-messaging/duplicate-detection).
type history struct {
	window time.Duration // 0: remember nothing
	ids    map[string]struct{}
	order  fifo[remembered]
}

type remembered struct {
	id    string
	until time.Time
}

// duplicate says whether id was sent within the window, and remembers it if not. A
// message without an id is never a duplicate.
func (q *queue) duplicate(id string, now time.Time) bool {
	h := &q.history
	if h.window == 0 || id == "" {
		return false
	}
	h.forget(now)
	if _, ok := h.ids[id]; ok {
		return true
	}
	r := remembered{id, now.Add(h.window)}
	h.remember(r)
	if j := q.e.journal; j != nil {
		j.seen = append(j.seen, r)
	}
	return false
}

// forget drops the ids whose window has ended.
func (h *history) forget(now time.Time) {
	for h.order.len() > 0 && !h.order.first().until.After(now) {
		old, _ := h.order.pop()
		delete(h.ids, old.id)
	}
}

// remember adds an id that is not remembered, in the order of the ends of their
// windows.
func (h *history) remember(r remembered) {
	if h.window == 0 {
		return
	}
	if h.ids == nil {
		h.ids = make(map[string]struct{})
	}
	h.ids[r.id] = struct{}{}
	h.order.push(r)
}
