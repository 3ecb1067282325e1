package servicebusemu

import (
	"fmt"
	"sync/atomic"
)

const (
	// batchFormat marks a message that holds other messages, one in each data
	// section; the number is Microsoft's.
	batchFormat = 0x80013700
	// senderCredit is how many messages a sender may have on their way.
	senderCredit = 1000
	// maxBatch bounds the messages of one batch; the service documents 4500.
	maxBatch = 4500
)

// inbound is a link on which the client sends. The reader goroutine owns it.
type inbound struct {
	s       *session
	to      string // see path
	handle  uint32
	maxSize int
	q       *queue // nil on a link for requests
	// accept takes a whole message, which it may keep, and returns the outcome, or
	// nil for none.
	accept func(format uint32, message []byte) []byte

	count, credit uint32

	// dead: nothing more may be sent on it. Set with the connection's mutex held.
	dead atomic.Bool

	// The delivery whose frames are coming in.
	partial bool
	id      uint32
	format  uint32
	settled bool
	message []byte
}

// receive takes one transfer frame. A refusal ends the link.
func (l *inbound) receive(f fields, payload []byte) *refusal {
	if !l.partial {
		id, ok := field[uint32](f, 1)
		if !ok {
			return refuse(condInvalidField, "the first transfer of a delivery has no delivery-id")
		}
		if l.credit == 0 {
			return refuse(condTransferLimit, "a message was sent without credit")
		}
		l.partial, l.id, l.message = true, id, nil
		l.format, l.settled = fieldOr[uint32](f, 3, 0), false
	}
	l.settled = fieldOr(f, 4, l.settled)
	if len(l.message)+len(payload) > l.maxSize {
		return refuse(condMessageTooLarge, fmt.Sprintf("The message is larger than the limit of %d bytes currently allowed.", l.maxSize))
	}
	more, aborted := fieldOr(f, 5, false), fieldOr(f, 9, false)
	if !aborted {
		l.message = append(l.message, payload...)
	}
	if more && !aborted {
		return nil
	}
	l.partial = false
	l.count++
	l.credit--
	if !aborted {
		l.complete()
	}
	if l.credit < senderCredit/2 {
		l.credit = senderCredit
		l.sendCredit()
	}
	return nil
}

func (l *inbound) complete() {
	outcome := l.accept(l.format, l.message)
	l.message = nil
	if l.settled || outcome == nil {
		return
	}
	l.s.answer(l.q, l, l.id, outcome)
}

func (l *inbound) sendCredit() {
	l.s.sendFlow(l.handle, l.count, l.credit)
}

// send is enqueue for those who have not locked the entity and need no numbers.
func (q *queue) send(contents []content) *refusal {
	q.e.lock()
	defer q.e.unlock()
	_, r := q.enqueue(contents)
	return r
}

// acceptInto is what a sender link to q does with a message.
func (l *inbound) acceptInto(q *queue) func(uint32, []byte) []byte {
	l.q = q
	return func(format uint32, message []byte) []byte {
		f := q.e.faultOf(sending)
		switch f {
		case faultBusy:
			return serverBusy.outcome()
		case faultDetach:
			l.detachFor(forcedDetach)
			return nil
		case faultDrop:
			l.s.c.drop()
			return nil
		}
		contents, err := parseContents(format, message)
		if err != nil {
			return refuse(condDecode, fmt.Sprintf("The message could not be read: %v.", err)).outcome()
		}
		if r := q.send(contents); r != nil {
			return r.outcome()
		}
		switch f {
		case faultLostAnswer:
			l.detachFor(forcedDetach)
			return nil
		case faultDropAfter:
			l.s.c.drop()
			return nil
		}
		return outcomeAccepted
	}
}

// parseContents reads a message or a batch of them.
func parseContents(format uint32, message []byte) ([]content, error) {
	if format != batchFormat {
		c, err := parseContent(message)
		return []content{c}, err
	}
	var contents []content
	d := decoder{buf: message}
	for d.rest() > 0 {
		code, err := d.sectionCode()
		if err != nil {
			return nil, err
		}
		if code != codeData {
			// The envelope repeats what the first message says.
			if err := d.skip(); err != nil {
				return nil, err
			}
			continue
		}
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		b, ok := v.([]byte)
		if !ok {
			return nil, fmt.Errorf("message %d of the batch is not binary", len(contents))
		}
		c, err := parseContent(b)
		if err != nil {
			return nil, fmt.Errorf("message %d of the batch: %w", len(contents), err)
		}
		if contents = append(contents, c); len(contents) > maxBatch {
			return nil, fmt.Errorf("more than %d messages in a batch", maxBatch)
		}
	}
	if len(contents) == 0 {
		return nil, fmt.Errorf("the batch is empty")
	}
	return contents, nil
}
