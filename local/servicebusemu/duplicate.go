package servicebusemu

import "time"

// history remembers the message ids of the last window, for duplicate detection.
type history struct {
	window time.Duration // 0: remember nothing
	ids    map[string]struct{}
	order  fifo[remembered]
}

type remembered struct {
	id    string
	until time.Time
}

// seen says whether id was seen within the window, and remembers it if not. A
// message without an id is never a duplicate.
func (h *history) seen(id string, now time.Time) bool {
	if h.window == 0 || id == "" {
		return false
	}
	for h.order.len() > 0 && !h.order.first().until.After(now) {
		old, _ := h.order.pop()
		delete(h.ids, old.id)
	}
	if _, ok := h.ids[id]; ok {
		return true
	}
	if h.ids == nil {
		h.ids = make(map[string]struct{})
	}
	h.ids[id] = struct{}{}
	h.order.push(remembered{id, now.Add(h.window)})
	return false
}
