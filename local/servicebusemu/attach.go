package servicebusemu

import (
	"fmt"
	"time"
)

// Positions in an attach performative and in a source.
const (
	attachName           = 0
	attachHandle         = 1
	attachRole           = 2
	attachSendSettle     = 3
	attachSource         = 5
	attachTarget         = 6
	attachInitialCount   = 9
	attachMaxMessageSize = 10
	attachProperties     = 13
	sourceAddress        = 0
	sourceFilter         = 7
)

// sendSettled is the settle mode of a receiver that wants messages to be gone once
// they are sent.
const sendSettled uint8 = 1

// The filter by which a receiver names a session; null asks for any.
const (
	filterSession     symbol = "com.microsoft:session-filter"
	filterSessionCode uint64 = 0x137000000C
)

// attach opens a link. What is wrong with the link refuses the link; what is
// wrong with the frame ends the session.
func (s *session) attach(f fields) *refusal {
	name, okName := field[string](f, attachName)
	handle, okHandle := field[uint32](f, attachHandle)
	s.retire(handle)
	receives, okRole := field[bool](f, attachRole)
	switch {
	case !okName || !okHandle || !okRole:
		return refuse(condInvalidField, "attach without name, handle or role")
	case handle > handleMax:
		return refuse(condNotAllowed, fmt.Sprintf("handle %d is above handle-max", handle))
	case s.inbound[handle] != nil || s.outbound[handle] != nil:
		return refuse(condHandleInUse, fmt.Sprintf("handle %d is in use", handle))
	}
	var r *refusal
	if receives {
		r = s.attachReceiver(f, name, handle)
	} else {
		r = s.attachSender(f, handle)
	}
	if r != nil {
		s.c.append(func(b []byte) []byte {
			b = appendFrame(b, frameAMQP, s.channel, codeAttach, refusedAttach(answerTo(f))...)
			return appendFrame(b, frameAMQP, s.channel, codeDetach, handle, true, r.amqp())
		})
		s.detaching[handle] = struct{}{}
	}
	return nil
}

// retire makes room for a new link on a handle whose link we ended: the client may
// reuse the number before its answer to our detach is on its way.
func (s *session) retire(handle uint32) {
	if l := s.outbound[handle]; l != nil && l.isDead() {
		s.c.change(func() { delete(s.outbound, handle) })
		s.detaching[handle] = struct{}{}
	}
	if l := s.inbound[handle]; l != nil && l.isDead() {
		s.c.change(func() { delete(s.inbound, handle) })
		s.detaching[handle] = struct{}{}
	}
}

// answerTo echoes an attach from our end of the link: the client detaches when a
// mode it asked for comes back different.
func answerTo(f fields) []any {
	receives, _ := field[bool](f, attachRole)
	a := make([]any, attachMaxMessageSize+1)
	copy(a, f[:min(len(f), attachTarget+1)])
	a[attachRole] = !receives
	if receives {
		a[attachInitialCount] = uint32(0)
	}
	return a
}

// refusedAttach is an answer that says that no link was made.
func refusedAttach(answer []any) []any {
	a := append([]any(nil), answer[:attachInitialCount+1]...)
	a[attachSource], a[attachTarget] = nil, nil
	return a
}

func address(f fields, terminus int) (string, bool) {
	if terminus >= len(f) {
		return "", false
	}
	_, items := listOf(f[terminus])
	return field[string](items, sourceAddress)
}

// attachSender opens a link on which the client sends: to a queue, to its
// $management or to $cbs.
func (s *session) attachSender(f fields, handle uint32) *refusal {
	to, ok := address(f, attachTarget)
	if !ok {
		return refuse(condInvalidField, "the target has no address")
	}
	l := &inbound{s: s, to: pathOf(to), handle: handle, credit: senderCredit, maxSize: maxRequest}
	answer := answerTo(f)
	if to == cbsAddress {
		l.accept = s.rpc(s.putToken)
	} else {
		q, management, r := s.c.srv.find(to)
		switch {
		case r != nil:
			return r
		}
		if r := s.c.authorize(to, "Send"); r != nil {
			return r
		}
		switch {
		case management:
			l.accept = s.rpc(managementOf(s, q))
		case q.deadLetter == nil:
			return refuse(condNotAllowed, fmt.Sprintf("Cannot send to the dead-letter sub-queue %s.", to))
		default:
			l.accept = l.acceptInto(q)
			// The encoded message has headers that do not count towards the size.
			l.maxSize = q.e.cfg.MaxMessageSize + maxFrameSize
			// The client takes it as the limit of a batch; absent means nothing fits.
			answer[attachMaxMessageSize] = uint64(q.e.cfg.MaxMessageSize)
		}
	}
	s.c.change(func() { s.inbound[handle] = l })
	s.c.send(s.channel, codeAttach, answer...)
	l.sendCredit()
	return nil
}

// attachReceiver opens a link on which the client receives.
func (s *session) attachReceiver(f fields, name string, handle uint32) *refusal {
	from, ok := address(f, attachSource)
	if !ok {
		return refuse(condInvalidField, "the source has no address")
	}
	l := &outbound{s: s, from: pathOf(from), name: name, handle: handle, attached: answerTo(f)}
	if from == cbsAddress {
		return s.attachReplies(l, f)
	}
	q, management, r := s.c.srv.find(from)
	if r == nil {
		r = s.c.authorize(from, "Listen")
	}
	switch {
	case r != nil:
		return r
	case management:
		return s.attachReplies(l, f)
	}
	l.consumer = &consumer{q: q, link: l, deletes: fieldOr[uint8](f, attachSendSettle, 2) == sendSettled}
	filter, wanted, r := sessionFilter(f)
	if r != nil {
		return r
	}
	if wanted != q.sessions {
		if q.sessions {
			return refuse(condNotAllowed, fmt.Sprintf("It is not possible for an entity that requires sessions to create a non-sessionful message receiver. %s requires sessions.", from))
		}
		return refuse(condNotAllowed, fmt.Sprintf("A sessionful message receiver cannot be created on an entity that does not require sessions. %s does not.", from))
	}
	s.c.change(func() { s.outbound[handle] = l })
	if !wanted {
		l.answer()
		return nil
	}
	if r := s.accept(l, filter, f); r != nil {
		s.c.change(func() { delete(s.outbound, handle) })
		return r
	}
	return nil
}

// accept gives the link the session it names, or any.
func (s *session) accept(l *outbound, id any, f fields) *refusal {
	q := l.consumer.q
	q.e.lock()
	defer q.e.unlock()
	now := q.e.clock.Now()
	if id, ok := id.(string); ok {
		return q.acceptNamed(l.consumer, id, now)
	}
	timeout := defaultAcceptTimeout
	if properties, ok := field[orderedMap](f, attachProperties); ok {
		if ms, ok := properties.get("com.microsoft:timeout").(uint32); ok {
			timeout = time.Duration(ms) * time.Millisecond
		}
	}
	q.acceptNext(l.consumer, now.Add(timeout), now)
	return nil
}

func (s *session) attachReplies(l *outbound, f fields) *refusal {
	to, ok := address(f, attachTarget)
	if !ok {
		return refuse(condInvalidField, "the target of a link for replies has no address")
	}
	l.address = to
	s.c.change(func() { s.outbound[l.handle] = l })
	l.answer()
	return nil
}

// sessionFilter finds the session filter of a source: a string or null.
func sessionFilter(f fields) (id any, present bool, r *refusal) {
	_, source := listOf(f[attachSource])
	filters, _ := field[orderedMap](source, sourceFilter)
	v := filters.get(string(filterSession))
	if v == nil {
		return nil, filters.has(string(filterSession)), nil
	}
	if d, ok := v.(described); ok {
		v = d.value
	}
	if _, ok := v.(string); !ok && v != nil {
		return nil, true, refuse(condInvalidField, "the session filter is neither a string nor null")
	}
	return v, true, nil
}

// get is the value under a string or symbol key, or nil.
func (m orderedMap) get(key string) any {
	for _, p := range m {
		if name, ok := propertyName(p.key); ok && name == key {
			return p.value
		}
	}
	return nil
}

func (m orderedMap) has(key string) bool {
	for _, p := range m {
		if name, ok := propertyName(p.key); ok && name == key {
			return true
		}
	}
	return false
}
