package servicebusemu

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Descriptor codes of the performatives, outcomes and sections (AMQP 1.0 parts 2,
// 3 and 5; all are below 256).
const (
	codeOpen        = 0x10
	codeBegin       = 0x11
	codeAttach      = 0x12
	codeFlow        = 0x13
	codeTransfer    = 0x14
	codeDisposition = 0x15
	codeDetach      = 0x16
	codeEnd         = 0x17
	codeClose       = 0x18
	codeError       = 0x1d

	codeAccepted = 0x24
	codeRejected = 0x25
	codeReleased = 0x26
	codeModified = 0x27
	codeSource   = 0x28
	codeTarget   = 0x29

	codeSASLMechanisms = 0x40
	codeSASLInit       = 0x41
	codeSASLOutcome    = 0x44

	codeHeader              = 0x70
	codeDeliveryAnnotations = 0x71
	codeMessageAnnotations  = 0x72
	codeProperties          = 0x73
	codeAppProperties       = 0x74
	codeData                = 0x75
	codeSequence            = 0x76
	codeValue               = 0x77
	codeFooter              = 0x78
)

const (
	frameAMQP = 0
	frameSASL = 1

	// frameHeaderSize is size, doff, type and channel.
	frameHeaderSize = 8
	// maxFrameSize is what we advertise and never exceed; the service uses the same.
	maxFrameSize = 65536
	// transferOverhead bounds the frame header and the transfer list in front of
	// the payload.
	transferOverhead = 72
)

var errNotPerformative = errors.New("frame body is not a performative")

// fields are the items of a performative; those beyond the end are null.
type fields []any

// field is item i as a T; ok is false when it is null, absent or of another type.
func field[T any](f fields, i int) (v T, ok bool) {
	if i < len(f) {
		v, ok = f[i].(T)
	}
	return v, ok
}

// fieldOr is field with a default.
func fieldOr[T any](f fields, i int, otherwise T) T {
	if v, ok := field[T](f, i); ok {
		return v
	}
	return otherwise
}

// listOf gives the code and items of a described list such as a source, an
// outcome or an error; code is 0 when v is not one.
func listOf(v any) (code uint64, f fields) {
	d, ok := v.(described)
	if !ok {
		return 0, nil
	}
	code, ok = d.descriptor.(uint64)
	if !ok {
		return 0, nil
	}
	l, ok := d.value.([]any)
	if !ok {
		return 0, nil
	}
	return code, l
}

// parseFrameBody splits a frame body into its performative and what follows it.
func parseFrameBody(body []byte) (code uint64, f fields, payload []byte, err error) {
	d := decoder{buf: body}
	v, err := d.value()
	if err != nil {
		return 0, nil, nil, fmt.Errorf("decode performative: %w", err)
	}
	code, f = listOf(v)
	if code == 0 {
		return 0, nil, nil, errNotPerformative
	}
	return code, f, body[d.pos:], nil
}

// beginFrame appends a frame header; endFrame must be given the same start.
func beginFrame(b []byte, kind byte, channel uint16) (_ []byte, start int) {
	start = len(b)
	b = append(b, 0, 0, 0, 0, 2, kind)
	return binary.BigEndian.AppendUint16(b, channel), start
}

func endFrame(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// appendFrame encodes a frame whose body is one performative.
func appendFrame(b []byte, kind byte, channel uint16, code byte, f ...any) []byte {
	b, start := beginFrame(b, kind, channel)
	return endFrame(appendDescribedList(b, code, f...), start)
}

// transfer is the part of a transfer performative that we send.
type transfer struct {
	handle, deliveryID uint32
	tag                []byte
	settled, more      bool
	first              bool // only the first frame of a delivery names it
}

// appendTransfer encodes one transfer frame. It is written out by hand because
// every delivered message passes here.
func appendTransfer(b []byte, channel uint16, t transfer, payload []byte) []byte {
	b, start := beginFrame(b, frameAMQP, channel)
	b = append(b, ctorDescribed, ctorSmallUlng, codeTransfer, ctorList32)
	list := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	b = appendValue(b, t.handle)
	if t.first {
		b = appendValue(b, t.deliveryID)
		b = append(append(b, ctorBinary8, byte(len(t.tag))), t.tag...)
		b = append(b, ctorUint0)
	} else {
		b = append(b, ctorNull, ctorNull, ctorNull)
	}
	b = appendValue(b, t.settled)
	b = appendValue(b, t.more)
	b = patchCompound(b, list, 6)
	b = append(b, payload...)
	return endFrame(b, start)
}

// appendDisposition encodes a disposition for one delivery; state is an encoded
// outcome. fromReceiver says which end of the link we are.
func appendDisposition(b []byte, channel uint16, fromReceiver bool, id uint32, state []byte) []byte {
	b, start := beginFrame(b, frameAMQP, channel)
	b = append(b, ctorDescribed, ctorSmallUlng, codeDisposition, ctorList32)
	list := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	b = appendValue(b, fromReceiver)
	b = appendValue(b, id)
	b = append(b, ctorNull, ctorTrue)
	b = append(b, state...)
	return endFrame(patchCompound(b, list, 5), start)
}
