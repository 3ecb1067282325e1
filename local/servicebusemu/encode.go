package servicebusemu

import (
	"encoding/binary"
	"fmt"
	"math"
)

// appendValue encodes v in the shortest form. It panics on a Go type that is not
// one of those the decoder returns; nothing from the wire can cause that.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, ctorNull)
	case bool:
		if v {
			return append(b, ctorTrue)
		}
		return append(b, ctorFalse)
	case uint32:
		switch {
		case v == 0:
			return append(b, ctorUint0)
		case v <= math.MaxUint8:
			return append(b, ctorSmallUint, byte(v))
		}
	case uint64:
		switch {
		case v == 0:
			return append(b, ctorUlong0)
		case v <= math.MaxUint8:
			return append(b, ctorSmallUlng, byte(v))
		}
	case int32:
		if int32(int8(v)) == v {
			return append(b, ctorSmallInt, byte(v))
		}
	case int64:
		if int64(int8(v)) == v {
			return append(b, ctorSmallLong, byte(v))
		}
	case []byte:
		if len(v) <= math.MaxUint8 {
			return append(append(b, ctorBinary8, byte(len(v))), v...)
		}
	case string:
		if len(v) <= math.MaxUint8 {
			return append(append(b, ctorString8, byte(len(v))), v...)
		}
	case symbol:
		if len(v) <= math.MaxUint8 {
			return append(append(b, ctorSymbol8, byte(len(v))), v...)
		}
	case []any:
		if len(v) == 0 {
			return append(b, ctorList0)
		}
	case described:
		return appendValue(appendValue(append(b, ctorDescribed), v.descriptor), v.value)
	}
	c := wideOf(v)
	return appendBody(append(b, c), v)
}

// wideOf is the constructor that can hold every value of v's type.
func wideOf(v any) byte {
	switch v := v.(type) {
	case nil:
		return ctorNull
	case bool:
		return ctorBool
	case uint8:
		return ctorUbyte
	case int8:
		return ctorByte
	case uint16:
		return ctorUshort
	case int16:
		return ctorShort
	case uint32:
		return ctorUint
	case int32:
		return ctorInt
	case uint64:
		return ctorUlong
	case int64:
		return ctorLong
	case float32:
		return ctorFloat
	case float64:
		return ctorDouble
	case timestamp:
		return ctorTimestamp
	case uuid:
		return ctorUUID
	case opaque:
		return v.constructor
	case []byte:
		return ctorBinary32
	case string:
		return ctorString32
	case symbol:
		return ctorSymbol32
	case []any:
		return ctorList32
	case orderedMap:
		return ctorMap32
	case array:
		return ctorArray32
	}
	panic(fmt.Sprintf("servicebusemu: no AMQP type for %T", v))
}

// wide is the widest constructor for the type that constructor c belongs to.
func wide(c byte) byte {
	switch c {
	case ctorTrue, ctorFalse:
		return ctorBool
	case ctorUint0, ctorSmallUint:
		return ctorUint
	case ctorUlong0, ctorSmallUlng:
		return ctorUlong
	case ctorSmallInt:
		return ctorInt
	case ctorSmallLong:
		return ctorLong
	case ctorBinary8:
		return ctorBinary32
	case ctorString8:
		return ctorString32
	case ctorSymbol8:
		return ctorSymbol32
	case ctorList0, ctorList8:
		return ctorList32
	case ctorMap8:
		return ctorMap32
	case ctorArray8:
		return ctorArray32
	}
	return c
}

// appendBody encodes v as the constructor wideOf(v) wants it, without that
// constructor.
func appendBody(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return b
	case bool:
		if v {
			return append(b, 1)
		}
		return append(b, 0)
	case uint8:
		return append(b, v)
	case int8:
		return append(b, byte(v))
	case uint16:
		return binary.BigEndian.AppendUint16(b, v)
	case int16:
		return binary.BigEndian.AppendUint16(b, uint16(v))
	case uint32:
		return binary.BigEndian.AppendUint32(b, v)
	case int32:
		return binary.BigEndian.AppendUint32(b, uint32(v))
	case uint64:
		return binary.BigEndian.AppendUint64(b, v)
	case int64:
		return binary.BigEndian.AppendUint64(b, uint64(v))
	case float32:
		return binary.BigEndian.AppendUint32(b, math.Float32bits(v))
	case float64:
		return binary.BigEndian.AppendUint64(b, math.Float64bits(v))
	case timestamp:
		return binary.BigEndian.AppendUint64(b, uint64(v))
	case uuid:
		return append(b, v[:]...)
	case opaque:
		return append(b, v.raw...)
	case []byte:
		return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	case string:
		return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	case symbol:
		return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	return appendCompound(b, v)
}

// appendCompound encodes size, count and items of a list, map or array.
func appendCompound(b []byte, v any) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	count := 0
	switch v := v.(type) {
	case []any:
		count = len(v)
		for _, item := range v {
			b = appendValue(b, item)
		}
	case orderedMap:
		count = 2 * len(v)
		for _, p := range v {
			b = appendValue(appendValue(b, p.key), p.value)
		}
	case array:
		count = len(v.items)
		b = append(b, v.element)
		for _, item := range v.items {
			b = appendBody(b, item)
		}
	}
	return patchCompound(b, start, count)
}

// patchCompound fills in the eight bytes at start: the size of what follows the
// size itself, and the count of items.
func patchCompound(b []byte, start, count int) []byte {
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	binary.BigEndian.PutUint32(b[start+4:], uint32(count))
	return b
}

// appendDescribedList encodes the shape that performatives, outcomes and the
// header and properties sections share: a numbered list. Trailing nulls are left
// out, as the protocol allows.
func appendDescribedList(b []byte, code byte, fields ...any) []byte {
	for len(fields) > 0 && fields[len(fields)-1] == nil {
		fields = fields[:len(fields)-1]
	}
	b = append(b, ctorDescribed, ctorSmallUlng, code)
	return appendValue(b, []any(fields))
}
