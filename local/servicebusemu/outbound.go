package servicebusemu

import (
	"time"
)

// maxReplies bounds the replies that wait for credit on one link.
const maxReplies = 1000

// outbound is a link on which the client receives: from a queue, or replies to
// its requests.
type outbound struct {
	s        *session
	from     string // see path
	name     string
	handle   uint32
	attached []any // fields of the attach that answers the client's

	// consumer is nil on a link for replies.
	consumer *consumer
	address  string // where replies are addressed to

	// The connection's mutex covers these.
	dead     bool // nothing more may be sent on it
	credit   uint32
	sent     uint32
	replies  [][]byte
	answered bool // the attach has been answered
}

// deliver sends m, which the consumer's queue has locked or is about to remove.
// It says false if the link is gone. The entity is locked.
func (l *outbound) deliver(m *message) bool {
	s, c := l.s, l.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.gone || l.dead {
		return false
	}
	return c.appendLocked(func(b []byte) []byte {
		c.encoded = m.appendDelivery(c.encoded[:0], m.view())
		t := transfer{handle: l.handle, deliveryID: s.nextDelivery, settled: l.consumer.deletes}
		tag := deliveryTag(m.token)
		t.tag = tag[:]
		s.nextDelivery++
		if !t.settled {
			s.unsettled[t.deliveryID] = unsettled{m.q, m, m.token, l}
			m.delivery = deliveryRef{l, t.deliveryID}
		}
		return s.write(b, t, c.encoded)
	})
}

// deliveryTag is a lock token in the byte order of .NET's Guid.ToByteArray, which
// the client turns back.
func deliveryTag(token uuid) uuid {
	t := token
	t[0], t[1], t[2], t[3] = token[3], token[2], token[1], token[0]
	t[4], t[5] = token[5], token[4]
	t[6], t[7] = token[7], token[6]
	return t
}

// forget drops an unsettled delivery whose lock has ended.
func (l *outbound) forget(id uint32) {
	l.s.c.mu.Lock()
	defer l.s.c.mu.Unlock()
	delete(l.s.unsettled, id)
}

// flow takes the client's view of the link: known says whether it knows the
// delivery-count. The reader goroutine calls it.
func (l *outbound) flow(count uint32, known bool, credit uint32, drain, echo bool) {
	if l.consumer == nil {
		l.flowReplies(count, known, credit, drain, echo)
		return
	}
	c := l.consumer
	e := c.q.e
	e.lock()
	defer e.unlock()
	if known {
		credit = remaining(count, credit, c.delivered)
	}
	c.credit = credit
	now := e.clock.Now()
	if c.group != nil {
		c.q.offer(c.group)
	} else if !c.q.sessions {
		c.q.wantsMore(c)
	}
	e.pump(now)
	if drain {
		c.delivered += c.credit
		c.credit = 0
	}
	if drain || echo {
		l.s.sendFlow(l.handle, c.delivered, c.credit, nil, drain)
	}
}

// remaining is what is left of a credit that was given when the peer had counted
// count deliveries, now that we have counted ours. The numbers wrap around.
func remaining(count, credit, ours uint32) uint32 {
	left := count + credit - ours
	if int32(left) < 0 {
		return 0
	}
	return left
}

func (l *outbound) flowReplies(count uint32, known bool, credit uint32, drain, echo bool) {
	c := l.s.c
	c.mu.Lock()
	if known {
		credit = remaining(count, credit, l.sent)
	}
	l.credit = credit
	for len(l.replies) > 0 && l.credit > 0 {
		c.appendLocked(func(b []byte) []byte { return l.writeReply(b, l.replies[0]) })
		l.replies = l.replies[1:]
	}
	if drain {
		l.sent += l.credit
		l.credit = 0
	}
	sent, credit := l.sent, l.credit
	c.mu.Unlock()
	if drain || echo {
		l.s.sendFlow(l.handle, sent, credit, nil, drain)
	}
}

// reply sends an encoded message, now or when there is credit. It says false when
// too many wait.
func (l *outbound) reply(message []byte) bool {
	c := l.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.credit == 0 {
		l.replies = append(l.replies, message)
		return len(l.replies) <= maxReplies
	}
	c.appendLocked(func(b []byte) []byte { return l.writeReply(b, message) })
	return true
}

func (l *outbound) writeReply(b, message []byte) []byte {
	l.credit--
	l.sent++
	tag := [4]byte{byte(l.sent >> 24), byte(l.sent >> 16), byte(l.sent >> 8), byte(l.sent)}
	t := transfer{handle: l.handle, deliveryID: l.s.nextDelivery, settled: true, tag: tag[:]}
	l.s.nextDelivery++
	return l.s.write(b, t, message)
}

// answer sends the attach that accepts the link, unless the link is gone.
func (l *outbound) answer() bool {
	c := l.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.s.gone || l.dead {
		return false
	}
	l.answered = true
	return c.appendLocked(func(b []byte) []byte {
		return appendFrame(b, frameAMQP, l.s.channel, codeAttach, l.attached...)
	})
}

// granted tells a client that it holds the group with this id. The entity is
// locked.
func (l *outbound) granted(id string, until time.Time) bool {
	source := l.attached[attachSource].(described)
	items := append([]any(nil), source.value.([]any)...)
	items[sourceFilter] = orderedMap{{filterSession, described{filterSessionCode, id}}}
	l.attached[attachSource] = described{source.descriptor, items}
	for len(l.attached) <= attachProperties {
		l.attached = append(l.attached, nil)
	}
	l.attached[attachProperties] = orderedMap{{symbol("com.microsoft:locked-until-utc"), ticks(until)}}
	return l.answer()
}

// ticks is a time as .NET counts it: 100 ns steps since the year 1.
func ticks(t time.Time) int64 { return t.UnixNano()/100 + 621355968000000000 }

// refuse ends the link with an error: before the attach was answered by an answer
// without source and target, afterwards by a detach. The entity may be locked.
func (l *outbound) refuse(r *refusal) {
	c := l.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.s.gone || l.dead {
		return
	}
	l.dead = true
	c.appendLocked(func(b []byte) []byte {
		if !l.answered {
			b = appendFrame(b, frameAMQP, l.s.channel, codeAttach, refusedAttach(l.attached)...)
		}
		return appendFrame(b, frameAMQP, l.s.channel, codeDetach, l.handle, true, r.amqp())
	})
	l.discard()
}

func (l *outbound) isDead() bool {
	l.s.c.mu.Lock()
	defer l.s.c.mu.Unlock()
	return l.dead
}

// discard drops what has not been sent or settled. The connection is locked.
func (l *outbound) discard() {
	kept := l.s.blocked[:0]
	for _, f := range l.s.blocked {
		if f.handle != l.handle {
			kept = append(kept, f)
		}
	}
	clear(l.s.blocked[len(kept):])
	l.s.blocked = kept
	for id, u := range l.s.unsettled {
		if u.link == l {
			delete(l.s.unsettled, id)
		}
	}
	l.replies = nil
}

// leave takes the consumer out of its queue.
func (l *outbound) leave() {
	if l.consumer == nil {
		return
	}
	e := l.consumer.q.e
	e.lock()
	defer e.unlock()
	l.consumer.q.leave(l.consumer, e.clock.Now())
}

// close answers the client's detach, unless it was itself an answer.
func (l *outbound) close() {
	c := l.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.dead {
		return
	}
	l.dead = true
	c.appendLocked(func(b []byte) []byte {
		if !l.answered {
			b = appendFrame(b, frameAMQP, l.s.channel, codeAttach, refusedAttach(l.attached)...)
		}
		return appendFrame(b, frameAMQP, l.s.channel, codeDetach, l.handle, true)
	})
	l.discard()
}
