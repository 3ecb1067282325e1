package servicebusemu

import (
	"fmt"
)

const (
	// handleMax bounds links per session.
	handleMax = 255
	// ourWindow is the incoming window we announce: the client never waits for it,
	// credit is what limits it.
	ourWindow = 1<<31 - 1
	// firstOutgoing is the transfer id we start with.
	firstOutgoing = 1
)

// session is an AMQP session. The connection's reader goroutine owns the first
// block of fields, except that others may look at the links, see change; the connection's mutex covers the second.
type session struct {
	c       *connection
	channel uint16

	inbound      map[uint32]*inbound
	outbound     map[uint32]*outbound
	detaching    map[uint32]struct{} // handles we detached whose answer is due
	nextIncoming uint32
	ended        bool // we ended it and wait for the client to do so

	gone         bool
	nextDelivery uint32
	nextOutgoing uint32
	window       uint32 // transfers the client still takes
	blocked      []blockedFrame
	unsettled    map[uint32]unsettled
}

// blockedFrame is a transfer that waits for the client's window.
type blockedFrame struct {
	handle uint32
	frame  []byte
}

// unsettled is a delivery that the client has not settled.
type unsettled struct {
	q     *queue
	m     *message
	token uuid
	link  *outbound
}

func beginSession(c *connection, channel uint16, f fields) *session {
	s := &session{
		c: c, channel: channel,
		inbound: make(map[uint32]*inbound), outbound: make(map[uint32]*outbound),
		detaching:    make(map[uint32]struct{}),
		nextIncoming: fieldOr[uint32](f, 1, 0),
		nextOutgoing: firstOutgoing,
		window:       fieldOr[uint32](f, 2, 0),
		unsettled:    make(map[uint32]unsettled),
	}
	c.send(channel, codeBegin, channel, uint32(firstOutgoing), uint32(ourWindow), uint32(ourWindow), uint32(handleMax))
	return s
}

// handle carries out one frame. What is wrong with it ends the session.
func (s *session) handle(code uint64, f fields, payload []byte) {
	if s.ended {
		return
	}
	var r *refusal
	switch code {
	case codeAttach:
		r = s.attach(f)
	case codeFlow:
		r = s.flow(f)
	case codeTransfer:
		r = s.transfer(f, payload)
	case codeDisposition:
		s.disposition(f)
	case codeDetach:
		r = s.detach(f)
	default:
		r = refuse(condDecode, fmt.Sprintf("unknown performative 0x%02x", code))
	}
	if r != nil {
		s.c.log.Warn("ended a session that broke the protocol", "error", r)
		s.release()
		s.ended = true
		s.c.send(s.channel, codeEnd, r.amqp())
	}
}

// end answers the client's end.
func (s *session) end() {
	s.release()
	if !s.ended {
		s.c.send(s.channel, codeEnd)
	}
}

// release gives back whatever the session's links hold. Nothing is sent for the
// session afterwards: its channel may be another session's by then.
func (s *session) release() {
	for _, l := range s.outbound {
		l.leave()
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	clear(s.outbound)
	clear(s.inbound)
	s.gone = true
	s.blocked, s.unsettled = nil, nil
}

// transfer is one frame of a message from the client.
func (s *session) transfer(f fields, payload []byte) *refusal {
	s.nextIncoming++
	handle, _ := field[uint32](f, 0)
	l := s.inbound[handle]
	if l == nil {
		return s.unattached(handle)
	}
	if l.isDead() {
		return nil
	}
	if r := l.receive(f, payload); r != nil {
		s.detachInbound(l, r)
	}
	return nil
}

// unattached is nil if the handle was detached by us and the client may not know.
func (s *session) unattached(handle uint32) *refusal {
	if _, ok := s.detaching[handle]; ok {
		return nil
	}
	return refuse(condUnattached, fmt.Sprintf("handle %d is not attached", handle))
}

// detachInbound ends a link of a sender for a reason.
func (s *session) detachInbound(l *inbound, r *refusal) {
	s.c.change(func() { delete(s.inbound, l.handle) })
	s.detaching[l.handle] = struct{}{}
	s.c.send(s.channel, codeDetach, l.handle, true, r.amqp())
}

func (s *session) detach(f fields) *refusal {
	handle, _ := field[uint32](f, 0)
	if _, ok := s.detaching[handle]; ok {
		delete(s.detaching, handle)
		return nil
	}
	if l := s.inbound[handle]; l != nil {
		s.c.change(func() { delete(s.inbound, handle) })
		if !l.isDead() {
			s.c.send(s.channel, codeDetach, handle, true)
		}
		return nil
	}
	l := s.outbound[handle]
	if l == nil {
		return s.unattached(handle)
	}
	s.c.change(func() { delete(s.outbound, handle) })
	l.leave()
	l.close()
	return nil
}

// flow carries the client's window for the session and maybe credit for a link.
func (s *session) flow(f fields) *refusal {
	s.openWindow(fieldOr[uint32](f, 0, firstOutgoing), fieldOr[uint32](f, 1, 0))
	drain, echo := fieldOr(f, 8, false), fieldOr(f, 9, false)
	handle, ok := field[uint32](f, 4)
	if !ok {
		if echo {
			s.sendFlow()
		}
		return nil
	}
	if l := s.outbound[handle]; l != nil {
		count, known := field[uint32](f, 5)
		l.flow(count, known, fieldOr[uint32](f, 6, 0), drain, echo)
		return nil
	}
	l := s.inbound[handle]
	if l == nil {
		return s.unattached(handle)
	}
	if echo && !l.isDead() {
		l.sendCredit()
	}
	return nil
}

// sendFlow tells the client our view of the session and, with link fields (handle,
// delivery-count, link-credit, available, drain), of a link. Only the reader
// goroutine calls it: it alone knows nextIncoming.
func (s *session) sendFlow(link ...any) {
	s.c.append(func(b []byte) []byte {
		f := append([]any{s.nextIncoming, uint32(ourWindow), s.nextOutgoing, uint32(ourWindow)}, link...)
		return appendFrame(b, frameAMQP, s.channel, codeFlow, f...)
	})
}

// openWindow takes the client's next-incoming-id and window, and sends what
// waited for it.
func (s *session) openWindow(clientNext, clientWindow uint32) {
	s.c.append(func(b []byte) []byte {
		s.window = clientNext + clientWindow - s.nextOutgoing
		if int32(s.window) < 0 {
			s.window = 0
		}
		sent := 0
		for ; sent < len(s.blocked) && s.window > 0; sent++ {
			b = append(b, s.blocked[sent].frame...)
			s.window--
			s.nextOutgoing++
		}
		s.blocked = s.blocked[sent:]
		return b
	})
}

// write appends a delivery to the write buffer, in frames the client takes. The
// connection's mutex is held.
func (s *session) write(b []byte, t transfer, payload []byte) []byte {
	room := s.c.maxSend - transferOverhead
	for t.first = true; ; t.first = false {
		part := payload[:min(room, len(payload))]
		payload = payload[len(part):]
		t.more = len(payload) > 0
		if s.window > 0 && len(s.blocked) == 0 {
			b = appendTransfer(b, s.channel, t, part)
			s.window--
			s.nextOutgoing++
		} else {
			s.blocked = append(s.blocked, blockedFrame{t.handle, appendTransfer(nil, s.channel, t, part)})
		}
		if !t.more {
			return b
		}
	}
}
