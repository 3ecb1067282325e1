package servicebusemu

import (
	"fmt"
	"time"
)

// statuses are the names of dispositions in update-disposition; "defered" is the
// service's own spelling.
var statuses = map[string]verb{
	"completed": verbComplete,
	"abandoned": verbAbandon,
	"suspended": verbDeadLetter,
	"defered":   verbDefer,
}

// updateDisposition settles messages by their lock tokens, all of them or none.
func (m *management) updateDisposition(a arguments) response {
	tokens, ok := listed[uuid](a, "lock-tokens")
	status, _ := a.get("disposition-status").(string)
	verb, known := statuses[status]
	if !ok || !known {
		return invalid(fmt.Sprintf("lock-tokens: want an array of uuid; disposition-status: got %q.", status))
	}
	d := disposition{verb: verb}
	d.reason, _ = a.get("deadletter-reason").(string)
	d.description, _ = a.get("deadletter-description").(string)
	d.properties, _ = a.get("properties-to-modify").(orderedMap)
	seen := make(map[uuid]bool, len(tokens))
	for _, token := range tokens {
		msg := m.q.locks[token]
		if msg == nil || seen[token] || !msg.held(token, a.now) {
			return failed(refuse(condMessageLockLost, textMessageLockLost))
		}
		seen[token] = true
	}
	for _, token := range tokens {
		if r := m.q.settle(m.q.locks[token], token, d, a.now); r != nil {
			return failed(r)
		}
	}
	return response{code: 200}
}

func (m *management) getState(a arguments) response {
	g, answer, ok := m.group(a)
	if !ok {
		return answer
	}
	var state any
	if g.state != nil {
		state = g.state
	}
	return response{code: 200, body: orderedMap{{"session-state", state}}}
}

// setState keeps a state with the session. An empty one removes it: the Go client
// cannot send null.
func (m *management) setState(a arguments) response {
	g, answer, ok := m.group(a)
	if !ok {
		return answer
	}
	state, _ := a.get("session-state").([]byte)
	if len(state) > m.q.e.cfg.MaxMessageSize {
		return failed(refuse(condMessageTooLarge, fmt.Sprintf("The session state may have at most %d bytes.", m.q.e.cfg.MaxMessageSize)))
	}
	g.state, g.updated = nil, a.now
	if len(state) > 0 {
		g.state = state
	}
	m.q.touchGroup(g)
	return response{code: 200}
}

func (m *management) renewSession(a arguments) response {
	g, answer, ok := m.group(a)
	if !ok {
		return answer
	}
	return response{code: 200, body: orderedMap{{"expiration", timestampOf(m.q.renewGroup(g, a.now))}}}
}

// group is the session that a request names, if the requester holds it.
func (m *management) group(a arguments) (*group, response, bool) {
	id, ok := a.get("session-id").(string)
	if !ok {
		return nil, invalid("session-id: want a string."), false
	}
	g, r := m.q.heldGroup(id, a.holds, a.now)
	if r != nil {
		return nil, failed(r), false
	}
	return g, response{}, true
}

// listSessions pages through session ids.
func (m *management) listSessions(a arguments) response {
	since, okSince := a.get("last-updated-time").(timestamp)
	skip, okSkip := a.get("skip").(int32)
	top, okTop := a.get("top").(int32)
	if !okSince || !okSkip || !okTop || skip < 0 || top < 1 {
		return invalid("last-updated-time: want a timestamp; skip and top: want an int.")
	}
	var changedAfter time.Time
	if since < everySession {
		changedAfter = since.time()
	}
	ids := m.q.groupIDs(changedAfter)
	ids = ids[min(int(skip), len(ids)):]
	ids = ids[:min(int(top), len(ids))]
	if len(ids) == 0 {
		return response{code: 204}
	}
	page := array{ctorString32, make([]any, len(ids))}
	for i, id := range ids {
		page.items[i] = id
	}
	return response{code: 200, body: orderedMap{{"skip", skip + int32(len(ids))}, {"sessions-ids", page}}}
}
