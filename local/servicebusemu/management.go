package servicebusemu

import (
	"fmt"
	"time"
)

// maxPerRequest bounds lock tokens and sequence numbers in one request.
const maxPerRequest = 4500

// everySession is the last-updated-time by which a client asks for all sessions
// with messages: the last moment of the year 9999, in .NET's calendar.
const everySession = timestamp(253402300800000)

// management answers requests to one queue's $management. The reader goroutine
// of a connection owns it.
type management struct {
	s *session
	q *queue
}

// arguments are a request with its body as a map.
type arguments struct {
	orderedMap
	properties orderedMap
	now        time.Time
	holds      func(*consumer) bool // whether the request comes from this consumer
}

// operations lists what $management can do. The entity is locked during each.
var operations = map[string]func(*management, arguments) response{
	"com.microsoft:schedule-message":           (*management).schedule,
	"com.microsoft:cancel-scheduled-message":   (*management).cancel,
	"com.microsoft:peek-message":               (*management).peek,
	"com.microsoft:renew-lock":                 (*management).renewLock,
	"com.microsoft:receive-by-sequence-number": (*management).receiveDeferred,
	"com.microsoft:update-disposition":         (*management).updateDisposition,
	"com.microsoft:get-session-state":          (*management).getState,
	"com.microsoft:set-session-state":          (*management).setState,
	"com.microsoft:renew-session-lock":         (*management).renewSession,
	"com.microsoft:get-message-sessions":       (*management).listSessions,
}

func managementOf(s *session, q *queue) func(request) response {
	m := &management{s, q}
	return func(req request) response {
		do, ok := operations[req.operation]
		if !ok {
			return response{code: 501, description: fmt.Sprintf("There is no operation %q.", req.operation)}
		}
		body, ok := req.body.(orderedMap)
		if !ok {
			return invalid("The body is not a map.")
		}
		q.e.lock()
		defer q.e.unlock()
		return do(m, arguments{body, req.properties, q.e.clock.Now(), m.requester(req.properties)})
	}
}

func invalid(text string) response {
	return response{code: 400, description: text, condition: condArgument}
}

// requester tells whether a consumer is the one a request was made for: on the
// same connection, and by the link that the request names, if it names one.
func (m *management) requester(properties orderedMap) func(*consumer) bool {
	name, named := properties.get("associated-link-name").(string)
	return func(c *consumer) bool {
		return c.link.s.c == m.s.c && (!named || name == "" || c.link.name == name)
	}
}

// listed is the array or list under key, with items of type T only, at least one.
func listed[T any](a arguments, key string) ([]T, bool) {
	var items []any
	switch v := a.get(key).(type) {
	case array:
		items = v.items
	case []any:
		items = v
	}
	if len(items) == 0 || len(items) > maxPerRequest {
		return nil, false
	}
	typed := make([]T, len(items))
	for i, item := range items {
		v, ok := item.(T)
		if !ok {
			return nil, false
		}
		typed[i] = v
	}
	return typed, true
}

func (m *management) schedule(a arguments) response {
	entries, ok := listed[orderedMap](a, "messages")
	if !ok {
		return invalid("messages: want a list of maps.")
	}
	if m.q.e.faultOf(sending) == faultBusy {
		return failed(serverBusy)
	}
	if m.q.deadLetter == nil {
		return failed(refuse(condNotAllowed, "Cannot send to the dead-letter sub-queue."))
	}
	contents := make([]content, len(entries))
	for i, entry := range entries {
		b, ok := entry.get("message").([]byte)
		if !ok {
			return invalid("messages: an entry has no message.")
		}
		c, err := parseContent(b)
		if err != nil {
			return invalid(fmt.Sprintf("messages: %v.", err))
		}
		if c.scheduledFor.IsZero() {
			return invalid("messages: an entry has no " + string(annScheduled) + ".")
		}
		contents[i] = c
	}
	sequences, r := m.q.enqueue(contents)
	if r != nil {
		return failed(r)
	}
	numbers := array{ctorLong, make([]any, len(sequences))}
	for i, n := range sequences {
		numbers.items[i] = n
	}
	return response{code: 200, body: orderedMap{{"sequence-numbers", numbers}}}
}

func (m *management) cancel(a arguments) response {
	sequences, ok := listed[int64](a, "sequence-numbers")
	if !ok {
		return invalid("sequence-numbers: want an array of long.")
	}
	if r := m.q.cancel(sequences); r != nil {
		return failed(r)
	}
	return response{code: 200, body: orderedMap{}}
}

func (m *management) peek(a arguments) response {
	from, okFrom := a.get("from-sequence-number").(int64)
	count, okCount := a.get("message-count").(int32)
	if !okFrom || !okCount || count < 1 {
		return invalid("from-sequence-number: want a long; message-count: want an int above 0.")
	}
	var group *string
	if id, ok := a.get("session-id").(string); ok {
		group = &id
	}
	found := m.q.peek(from, int(count), group)
	if len(found) == 0 {
		return response{code: 204}
	}
	messages := make([]any, len(found))
	for i, b := range found {
		messages[i] = orderedMap{{"message", b}}
	}
	return response{code: 200, body: orderedMap{{"messages", messages}}}
}

func (m *management) renewLock(a arguments) response {
	tokens, ok := listed[uuid](a, "lock-tokens")
	if !ok {
		return invalid("lock-tokens: want an array of uuid.")
	}
	expirations := array{ctorTimestamp, make([]any, len(tokens))}
	for i, token := range tokens {
		until, r := m.q.renew(token, a.now)
		if r != nil {
			return failed(r)
		}
		expirations.items[i] = timestampOf(until)
	}
	return response{code: 200, body: orderedMap{{"expirations", expirations}}}
}

func (m *management) receiveDeferred(a arguments) response {
	sequences, ok := listed[int64](a, "sequence-numbers")
	mode, okMode := a.get("receiver-settle-mode").(uint32)
	if !ok || !okMode || mode > 1 {
		return invalid("sequence-numbers: want an array of long; receiver-settle-mode: want 0 or 1.")
	}
	deletes := mode == 0
	found, r := m.q.receiveDeferred(sequences, deletes, a.holds, a.now)
	if r != nil {
		return failed(r)
	}
	messages := make([]any, len(found))
	for i, msg := range found {
		v := msg.view()
		v.showState = true
		entry := orderedMap{}
		if !deletes {
			// The client reads the token from inside the message only.
			v.lockToken = &msg.token
			entry = append(entry, pair{"lock-token", msg.token})
		}
		messages[i] = append(entry, pair{"message", msg.appendDelivery(nil, v)})
	}
	return response{code: 200, body: orderedMap{{"messages", messages}}}
}
