package servicebusemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// A file is fileMagic and records. A record is the length of its body, the CRC-32C
// of its body (both 4 bytes, big-endian), and its body: operations, one after the
// other. A record of length 0 does not occur: a tail of zeroes, as a file system
// may leave it after a power failure, must not look like records.
const recordHeader = 8

const (
	// opMessage: place of the message as the file knows it (sequence 0: not at
	// all), its new place and state, and its content if that is new.
	opMessage = byte(iota + 1)
	// opDelete: place.
	opDelete
	// opMark: queue, last sequence number used.
	opMark
	// opSeen: message id, end of its window.
	opSeen
	// opGroup: session id, time of the change, state.
	opGroup
)

// Flags of opMessage, above the two bits of the state.
const (
	flagState    = 0x03
	flagDeferred = 0x04
	flagContent  = 0x08
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errMalformedRecord = errors.New("malformed record")

// place is where the file knows a message: 0 for the queue itself, 1 for its
// dead-letter sub-queue, and the sequence number there.
type place struct {
	queue    byte
	sequence int64
}

func beginRecord(b []byte) (_ []byte, start int) {
	start = len(b)
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0), start
}

// endRecord completes the record that was begun at start, or drops it if nothing
// is in it.
func endRecord(b []byte, start int) []byte {
	body := b[start+recordHeader:]
	if len(body) == 0 {
		return b[:start]
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

func appendPlace(b []byte, p place) []byte {
	return binary.AppendUvarint(append(b, p.queue), uint64(p.sequence))
}

func appendDelete(b []byte, p place) []byte { return appendPlace(append(b, opDelete), p) }

func appendMark(b []byte, queue int, sequence int64) []byte {
	return appendPlace(append(b, opMark), place{byte(queue), sequence})
}

func appendSeen(b []byte, r remembered) []byte {
	b = appendString(append(b, opSeen), r.id)
	return binary.AppendVarint(b, r.until.UnixNano())
}

func appendGroup(b []byte, g *group) []byte {
	b = appendString(append(b, opGroup), g.id)
	b = binary.AppendVarint(b, g.updated.UnixNano())
	return appendString(b, string(g.state))
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendMessage records m, which the file knows at was; with its content if whole.
func appendMessage(b []byte, was place, m *message, whole bool) []byte {
	b = appendPlace(append(b, opMessage), was)
	b = appendPlace(b, m.logged)
	flags := byte(m.state)
	if m.deferred {
		flags |= flagDeferred
	}
	if whole {
		flags |= flagContent
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(m.enqueuedSequence))
	b = binary.AppendVarint(b, m.enqueued.UnixMilli())
	b = binary.AppendVarint(b, int64(m.ttl))
	b = binary.AppendUvarint(b, uint64(m.deliveryCount))
	if whole {
		b = appendContent(b, &m.content)
	}
	return b
}

// appendContent writes c as the encoded message that parseContent reads.
func appendContent(b []byte, c *content) []byte {
	var ttl any
	if c.ttl > 0 {
		ttl = uint32(c.ttl.Milliseconds())
	}
	head := appendDescribedList(nil, codeHeader, c.durable, c.priority, ttl)
	if c.annotationCount > 0 {
		head = append(head, ctorDescribed, ctorSmallUlng, codeMessageAnnotations, ctorMap32)
		start := len(head)
		head = append(head, 0, 0, 0, 0, 0, 0, 0, 0)
		head = patchCompound(append(head, c.annotations...), start, 2*c.annotationCount)
	}
	n := len(head) + len(c.properties) + len(c.appProperties) + len(c.body)
	b = append(binary.AppendUvarint(b, uint64(n)), head...)
	b = append(b, c.properties...)
	b = append(b, c.appProperties...)
	return append(b, c.body...)
}

// recordReader reads the operations of one record. After an error it returns zero
// values.
type recordReader struct {
	b   []byte
	err error
}

func (r *recordReader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *recordReader) fail() { r.b, r.err = nil, errMalformedRecord }

func (r *recordReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *recordReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *recordReader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *recordReader) place() place {
	p := place{queue: r.byte(), sequence: int64(r.uvarint())}
	if p.queue > 1 || p.sequence < 0 {
		r.fail()
	}
	return p
}

// image is what a file says: an entity without anybody who uses it.
type image struct {
	messages [2]map[int64]stored
	last     [2]int64
	seen     []remembered
	groups   map[string]storedGroup
}

// stored is a message in a file.
type stored struct {
	content          []byte
	state            messageState
	deferred         bool
	enqueuedSequence int64
	enqueued         time.Time
	ttl              time.Duration
	deliveryCount    uint32
}

type storedGroup struct {
	state   string
	updated time.Time
}

func newImage() *image {
	return &image{
		messages: [2]map[int64]stored{make(map[int64]stored), make(map[int64]stored)},
		groups:   make(map[string]storedGroup),
	}
}

// apply carries out one record. The image keeps parts of body.
func (i *image) apply(body []byte) error {
	r := recordReader{b: body}
	for len(r.b) > 0 {
		switch op := r.byte(); op {
		case opMessage:
			i.message(&r)
		case opDelete:
			p := r.place()
			delete(i.messages[p.queue&1], p.sequence)
		case opMark:
			p := r.place()
			i.last[p.queue&1] = max(i.last[p.queue&1], p.sequence)
		case opSeen:
			id := string(r.bytes())
			i.seen = append(i.seen, remembered{id, time.Unix(0, r.varint())})
		case opGroup:
			id := string(r.bytes())
			g := storedGroup{updated: time.Unix(0, r.varint())}
			g.state = string(r.bytes())
			i.groups[id] = g
			if g.state == "" {
				delete(i.groups, id)
			}
		default:
			return fmt.Errorf("operation %d: %w", op, errMalformedRecord)
		}
	}
	return r.err
}

func (i *image) message(r *recordReader) {
	was, now := r.place(), r.place()
	flags := r.byte()
	s := stored{state: messageState(flags & flagState), deferred: flags&flagDeferred != 0}
	s.enqueuedSequence = int64(r.uvarint())
	s.enqueued = time.UnixMilli(r.varint()).UTC()
	s.ttl = time.Duration(r.varint())
	s.deliveryCount = uint32(r.uvarint())
	if flags&flagContent != 0 {
		s.content = r.bytes()
	} else if old, ok := i.messages[was.queue&1][was.sequence]; ok {
		s.content = old.content
	} else {
		r.fail()
	}
	if r.err != nil {
		return
	}
	delete(i.messages[was.queue], was.sequence)
	i.messages[now.queue][now.sequence] = s
	i.last[now.queue] = max(i.last[now.queue], now.sequence)
}
