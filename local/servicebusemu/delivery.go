package servicebusemu

import (
	"encoding/binary"
	"time"
)

// delivered is what the broker adds to a content when it hands it out.
type delivered struct {
	deliveryCount    uint32
	ttl              time.Duration
	sequence         int64
	enqueuedSequence int64
	enqueued         time.Time
	lockedUntil      time.Time // zero: not locked
	lockToken        *uuid     // as a delivery annotation; nil: not there
	state            messageState
	showState        bool
}

// appendDelivery encodes a message for a receiver.
func (c *content) appendDelivery(b []byte, v delivered) []byte {
	var ttl any
	if v.ttl > 0 {
		ttl = uint32(min(v.ttl.Milliseconds(), int64(^uint32(0))))
	}
	b = appendDescribedList(b, codeHeader, c.durable, c.priority, ttl, nil, v.deliveryCount)
	if v.lockToken != nil {
		b = append(b, ctorDescribed, ctorSmallUlng, codeDeliveryAnnotations)
		b = appendValue(b, orderedMap{{annLockToken, *v.lockToken}})
	}
	b = append(b, ctorDescribed, ctorSmallUlng, codeMessageAnnotations, ctorMap32)
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	n := c.annotationCount + 2
	b = append(b, c.annotations...)
	b = appendTime(b, annEnqueuedTime, v.enqueued)
	b = appendLong(b, annSequence, v.sequence)
	if v.enqueuedSequence != 0 {
		b = appendLong(b, annEnqueuedSequence, v.enqueuedSequence)
		n++
	}
	if !v.lockedUntil.IsZero() {
		b = appendTime(b, annLockedUntil, v.lockedUntil)
		n++
	}
	if v.showState {
		b = appendValue(appendValue(b, annMessageState), v.state.wire())
		n++
	}
	b = patchCompound(b, start, 2*n)
	b = append(b, c.properties...)
	b = append(b, c.appProperties...)
	return append(b, c.body...)
}

func appendTime(b []byte, key symbol, t time.Time) []byte {
	b = append(appendValue(b, key), ctorTimestamp)
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixMilli()))
}

func appendLong(b []byte, key symbol, n int64) []byte {
	b = append(appendValue(b, key), ctorLong)
	return binary.BigEndian.AppendUint64(b, uint64(n))
}
