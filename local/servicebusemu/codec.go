package servicebusemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// AMQP values are held in the Go type of the same width: nil, bool, uint8 to
// uint64, int8 to int64, float32, float64, []byte, string and []any for lists.
// The types below are those that Go has no twin for.
type (
	// symbol is an ASCII name. It is kept apart from string because the client
	// looks annotations and conditions up by type.
	symbol string
	// uuid is in RFC 4122 byte order.
	uuid [16]byte
	// timestamp is milliseconds since the Unix epoch.
	timestamp int64
	// pair is one entry of an orderedMap.
	pair struct{ key, value any }
	// orderedMap keeps the wire order of a map and allows keys of every type.
	orderedMap []pair
	// array holds items of one type; element is the constructor they are written
	// with, which an empty array needs too.
	array struct {
		element byte
		items   []any
	}
	// described is a value with a descriptor: performatives, outcomes, sources,
	// filters and message sections are all of this shape.
	described struct{ descriptor, value any }
	// opaque carries char and decimals, which are passed on and never looked at.
	opaque struct {
		constructor byte
		raw         string
	}
)

// Constructors of AMQP 1.0 part 1, section 1.6 that this code names.
const (
	ctorDescribed  = 0x00
	ctorNull       = 0x40
	ctorTrue       = 0x41
	ctorFalse      = 0x42
	ctorUint0      = 0x43
	ctorUlong0     = 0x44
	ctorList0      = 0x45
	ctorUbyte      = 0x50
	ctorByte       = 0x51
	ctorSmallUint  = 0x52
	ctorSmallUlng  = 0x53
	ctorSmallInt   = 0x54
	ctorSmallLong  = 0x55
	ctorBool       = 0x56
	ctorUshort     = 0x60
	ctorShort      = 0x61
	ctorUint       = 0x70
	ctorInt        = 0x71
	ctorFloat      = 0x72
	ctorChar       = 0x73
	ctorDecimal32  = 0x74
	ctorUlong      = 0x80
	ctorLong       = 0x81
	ctorDouble     = 0x82
	ctorTimestamp  = 0x83
	ctorDecimal64  = 0x84
	ctorDecimal128 = 0x94
	ctorUUID       = 0x98
	ctorBinary8    = 0xa0
	ctorString8    = 0xa1
	ctorSymbol8    = 0xa3
	ctorBinary32   = 0xb0
	ctorString32   = 0xb1
	ctorSymbol32   = 0xb3
	ctorList8      = 0xc0
	ctorMap8       = 0xc1
	ctorList32     = 0xd0
	ctorMap32      = 0xd1
	ctorArray8     = 0xe0
	ctorArray32    = 0xf0
)

// maxDepth bounds nesting, so that a hostile value cannot exhaust the stack.
const maxDepth = 24

var errShort = errors.New("value ends early")

// decoder reads AMQP values from buf. It never keeps buf: every byte slice and
// string it returns is a copy, except from raw.
type decoder struct {
	buf   []byte
	pos   int
	depth int
}

func (d *decoder) rest() int { return len(d.buf) - d.pos }

func (d *decoder) take(n int) ([]byte, error) {
	if n < 0 || n > d.rest() {
		return nil, errShort
	}
	b := d.buf[d.pos : d.pos+n]
	d.pos += n
	return b, nil
}

func (d *decoder) byte() (byte, error) {
	b, err := d.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// value decodes one value.
func (d *decoder) value() (any, error) {
	c, err := d.byte()
	if err != nil {
		return nil, err
	}
	return d.body(c)
}

// raw steps over one value and returns its bytes, constructor included.
func (d *decoder) raw() ([]byte, error) {
	start := d.pos
	if err := d.skip(); err != nil {
		return nil, err
	}
	return d.buf[start:d.pos], nil
}

// skip steps over one value without decoding it.
func (d *decoder) skip() error {
	c, err := d.byte()
	if err != nil {
		return err
	}
	if c == ctorDescribed {
		if d.depth++; d.depth > maxDepth {
			return fmt.Errorf("values nested deeper than %d", maxDepth)
		}
		defer func() { d.depth-- }()
		if err := d.skip(); err != nil {
			return err
		}
		return d.skip()
	}
	n, err := d.width(c)
	if err != nil {
		return err
	}
	_, err = d.take(n)
	return err
}

// width is the number of bytes after constructor c, once a length prefix has
// been read.
func (d *decoder) width(c byte) (int, error) {
	switch c >> 4 {
	case 0x4:
		return 0, nil
	case 0x5:
		return 1, nil
	case 0x6:
		return 2, nil
	case 0x7:
		return 4, nil
	case 0x8:
		return 8, nil
	case 0x9:
		return 16, nil
	case 0xa, 0xc, 0xe:
		n, err := d.byte()
		return int(n), err
	case 0xb, 0xd, 0xf:
		b, err := d.take(4)
		if err != nil {
			return 0, err
		}
		n := binary.BigEndian.Uint32(b)
		if int64(n) > int64(d.rest()) {
			return 0, errShort
		}
		return int(n), nil
	}
	return 0, fmt.Errorf("unknown constructor 0x%02x", c)
}

// body decodes the value whose constructor c has been read.
func (d *decoder) body(c byte) (any, error) {
	if c == ctorDescribed {
		return d.described()
	}
	n, err := d.width(c)
	if err != nil {
		return nil, err
	}
	b, err := d.take(n)
	if err != nil {
		return nil, err
	}
	switch c {
	case ctorList0:
		return []any{}, nil
	case ctorList8, ctorList32, ctorMap8, ctorMap32, ctorArray8, ctorArray32:
		return d.compound(c, b)
	}
	return scalar(c, b)
}

func (d *decoder) described() (any, error) {
	if d.depth++; d.depth > maxDepth {
		return nil, fmt.Errorf("values nested deeper than %d", maxDepth)
	}
	defer func() { d.depth-- }()
	descriptor, err := d.value()
	if err != nil {
		return nil, err
	}
	v, err := d.value()
	if err != nil {
		return nil, err
	}
	return described{descriptor, v}, nil
}

// compound decodes the inside of a list, map or array: a count, then items.
func (d *decoder) compound(c byte, b []byte) (any, error) {
	if d.depth >= maxDepth {
		return nil, fmt.Errorf("values nested deeper than %d", maxDepth)
	}
	in := decoder{buf: b, depth: d.depth + 1}
	count, err := in.count(c)
	if err != nil {
		return nil, err
	}
	var v any
	switch c {
	case ctorArray8, ctorArray32:
		v, err = in.array(count)
	case ctorMap8, ctorMap32:
		v, err = in.orderedMap(count)
	default:
		v, err = in.list(count)
	}
	if err == nil && in.rest() != 0 {
		err = fmt.Errorf("%d bytes left over in a compound value", in.rest())
	}
	return v, err
}

func (d *decoder) count(c byte) (int, error) {
	if c == ctorList8 || c == ctorMap8 || c == ctorArray8 {
		n, err := d.byte()
		return int(n), err
	}
	b, err := d.take(4)
	if err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(b)
	// Each item of a list takes a byte or more. Items of an array may take none
	// (null, true), so the bound for them is a number nobody needs to exceed.
	if int64(n) > int64(d.rest()) && (c != ctorArray32 || n > 1024) {
		return 0, fmt.Errorf("%d items announced in %d bytes", n, d.rest())
	}
	return int(n), nil
}

func (d *decoder) list(count int) (any, error) {
	l := make([]any, count)
	for i := range l {
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		l[i] = v
	}
	return l, nil
}

func (d *decoder) orderedMap(count int) (any, error) {
	if count%2 != 0 {
		return nil, fmt.Errorf("map with %d keys and values", count)
	}
	m := make(orderedMap, count/2)
	for i := range m {
		k, err := d.value()
		if err != nil {
			return nil, err
		}
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		m[i] = pair{k, v}
	}
	return m, nil
}

func (d *decoder) array(count int) (any, error) {
	c, err := d.byte()
	if err != nil {
		return nil, err
	}
	if c == ctorDescribed {
		return nil, errors.New("arrays of described values are not supported")
	}
	a := array{element: wide(c), items: make([]any, count)}
	for i := range a.items {
		v, err := d.body(c)
		if err != nil {
			return nil, err
		}
		a.items[i] = v
	}
	return a, nil
}

// scalar decodes the fixed and variable width types.
func scalar(c byte, b []byte) (any, error) {
	switch c {
	case ctorNull:
		return nil, nil
	case ctorTrue:
		return true, nil
	case ctorFalse:
		return false, nil
	case ctorBool:
		return b[0] != 0, nil
	case ctorUint0:
		return uint32(0), nil
	case ctorUlong0:
		return uint64(0), nil
	case ctorUbyte:
		return b[0], nil
	case ctorByte:
		return int8(b[0]), nil
	case ctorSmallUint:
		return uint32(b[0]), nil
	case ctorSmallUlng:
		return uint64(b[0]), nil
	case ctorSmallInt:
		return int32(int8(b[0])), nil
	case ctorSmallLong:
		return int64(int8(b[0])), nil
	case ctorUshort:
		return binary.BigEndian.Uint16(b), nil
	case ctorShort:
		return int16(binary.BigEndian.Uint16(b)), nil
	case ctorUint:
		return binary.BigEndian.Uint32(b), nil
	case ctorInt:
		return int32(binary.BigEndian.Uint32(b)), nil
	case ctorFloat:
		return math.Float32frombits(binary.BigEndian.Uint32(b)), nil
	case ctorUlong:
		return binary.BigEndian.Uint64(b), nil
	case ctorLong:
		return int64(binary.BigEndian.Uint64(b)), nil
	case ctorDouble:
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case ctorTimestamp:
		return timestamp(binary.BigEndian.Uint64(b)), nil
	case ctorUUID:
		return uuid(b), nil
	case ctorChar, ctorDecimal32, ctorDecimal64, ctorDecimal128:
		return opaque{c, string(b)}, nil
	case ctorBinary8, ctorBinary32:
		return append(make([]byte, 0, len(b)), b...), nil
	case ctorString8, ctorString32:
		return string(b), nil
	case ctorSymbol8, ctorSymbol32:
		return symbol(b), nil
	}
	return nil, fmt.Errorf("unknown constructor 0x%02x", c)
}
