package servicebusemu

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var wireTypes = cmp.Options{
	cmp.AllowUnexported(described{}, pair{}, array{}, opaque{}), cmpopts.EquateEmpty(), cmpopts.EquateNaNs(),
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func performativeOf(code uint64, items ...any) described { return described{code, items} }

// Frames as azservicebus v1.11.0 and a server exchanged them, without the eight
// bytes of the frame header.
var capturedFrames = []struct {
	name  string
	bytes string
	want  []any
}{
	{
		name: "mechanisms of the server",
		bytes: `00 53 40 d0 0000003b 00000001 f0 00000032 00000004 b3 00000009 414e4f4e594d4f5553
			00000005 504c41494e 00000007 4d5353424342 53 00000008 45585445524e414c`,
		want: []any{performativeOf(codeSASLMechanisms, array{ctorSymbol32, []any{symbol("ANONYMOUS"), symbol("PLAIN"), symbol("MSSBCBS"), symbol("EXTERNAL")}})},
	},
	{
		name:  "choice of the client",
		bytes: "00 53 41 d0 0000001a 00000002 a3 09 414e4f4e594d4f5553 a0 09 616e6f6e796d6f7573",
		want:  []any{performativeOf(codeSASLInit, symbol("ANONYMOUS"), []byte("anonymous"))},
	},
	{
		name:  "consent of the server",
		bytes: "00 53 44 d0 00000006 00000001 50 00",
		want:  []any{performativeOf(codeSASLOutcome, uint8(0))},
	},
	{
		name:  "completion by the client",
		bytes: "00 53 15 d0 0000000c 00000005  41 43 40 40 00 53 24 45",
		want:  []any{performativeOf(codeDisposition, true, uint32(0), nil, nil, performativeOf(codeAccepted))},
	},
	{
		name:  "confirmation by the server",
		bytes: "00 53 15 d0 0000000c 00000005  42 43 40 41 00 53 24 45",
		want:  []any{performativeOf(codeDisposition, false, uint32(0), nil, true, performativeOf(codeAccepted))},
	},
	{
		name:  "end of a session",
		bytes: "00 53 17 45",
		want:  []any{performativeOf(codeEnd)},
	},
	{
		name: "message",
		bytes: `00 53 70 d0 00000009 00000005 40 40 40 40 43
			00 53 72 d1 0000005f 00000006 a3 13 782d6f70742d656e7175657565642d74696d65 83 0000000000000001
				a3 15 782d6f70742d73657175656e63652d6e756d626572 81 0000000000000007
				a3 12 782d6f70742d6c6f636b65642d756e74696c 83 0000000000000002
			00 53 73 d0 00000009 00000001 a1 03 6d2d31
			00 53 75 a0 02 6869`,
		want: []any{
			performativeOf(codeHeader, nil, nil, nil, nil, uint32(0)),
			described{uint64(codeMessageAnnotations), orderedMap{{annEnqueuedTime, timestamp(1)}, {annSequence, int64(7)}, {annLockedUntil, timestamp(2)}}},
			performativeOf(codeProperties, "m-1"),
			described{uint64(codeData), []byte("hi")},
		},
	},
}

func TestCapturedFramesAreUnderstood(t *testing.T) {
	for _, c := range capturedFrames {
		t.Run(c.name, func(t *testing.T) {
			d := decoder{buf: unhex(t, c.bytes)}
			var got []any
			for d.rest() > 0 {
				v, err := d.value()
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, v)
			}
			if diff := cmp.Diff(c.want, got, wireTypes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFramesAreWrittenAsCaptured(t *testing.T) {
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"confirmation": {appendDisposition(nil, 0, false, 0, outcomeAccepted), "0000001c 02 00 0000 00 53 15 d0 0000000c 00000005 42 43 40 41 00 53 24 45"},
		"end":          {appendFrame(nil, frameAMQP, 7, codeEnd), "0000000c 02 00 0007 00 53 17 45"},
		"consent":      {appendFrame(nil, frameSASL, 0, codeSASLOutcome, uint8(0)), "00000016 02 01 0000 00 53 44 d0 00000006 00000001 50 00"},
		"transfer": {
			appendTransfer(nil, 1, transfer{handle: 0, deliveryID: 300, tag: []byte{1, 2}, first: true, more: true}, []byte{9}),
			"00000022 02 00 0001 00 53 14 d0 00000011 00000006 43 70 0000012c a0 02 0102 43 42 41 09",
		},
		"continuation": {
			appendTransfer(nil, 1, transfer{handle: 2, settled: true}, nil),
			"0000001b 02 00 0001 00 53 14 d0 0000000b 00000006 52 02 40 40 40 41 42",
		},
	} {
		if want := unhex(t, c.want); !bytes.Equal(c.got, want) {
			t.Errorf("%s:\n got % x\nwant % x", name, c.got, want)
		}
	}
}

// everyType has a value of each AMQP type, at the edges of its encodings.
func everyType() []any {
	long := strings.Repeat("x", 256)
	return []any{
		nil, true, false, uint8(0), uint8(255), uint16(0), uint16(math.MaxUint16),
		uint32(0), uint32(255), uint32(256), uint32(math.MaxUint32), uint64(0), uint64(255), uint64(256), uint64(math.MaxUint64),
		int8(-128), int16(-32768), int32(-128), int32(127), int32(128), int32(math.MinInt32),
		int64(-128), int64(127), int64(128), int64(math.MinInt64), float32(1.5), float64(-1.5), math.Inf(1),
		timestamp(-1), timestamp(253402300800000),
		uuid{1, 2, 3},
		[]byte("b"), []byte(long), "s", long, symbol("y"), symbol(long),
		opaque{ctorChar, "\x00\x00\x00a"},
		opaque{ctorDecimal128, strings.Repeat("d", 16)},
		[]any{},
		[]any{nil, "s", []any{true}},
		orderedMap{},
		orderedMap{{"k", uint32(1)}, {int64(2), nil}},
		array{ctorLong, []any{int64(1), int64(-1)}},
		array{ctorString32, nil},
		array{ctorUUID, []any{uuid{9}}},
		array{ctorBool, []any{true, false}},
		array{ctorList32, []any{[]any{}, []any{true}}},
		described{uint64(0x70), []any{}},
		described{symbol("d"), described{uint64(1), nil}},
	}
}

func TestEveryTypeSurvives(t *testing.T) {
	for _, want := range everyType() {
		b := appendValue(nil, want)
		d := decoder{buf: b}
		got, err := d.value()
		if err != nil || d.rest() != 0 {
			t.Errorf("%#v: %v, %d bytes left of % x", want, err, d.rest(), b)
			continue
		}
		if diff := cmp.Diff(want, got, wireTypes); diff != "" {
			t.Errorf("%#v: %s", want, diff)
		}
		skipper := decoder{buf: b}
		if err := skipper.skip(); err != nil || skipper.rest() != 0 {
			t.Errorf("skip %#v: %v, %d bytes left", want, err, skipper.rest())
		}
	}
}

func TestMalformedValuesAreRefused(t *testing.T) {
	for name, s := range map[string]string{
		"nothing":                         "",
		"an unknown constructor":          "4f",
		"half a number":                   "70 0000",
		"a string longer than its frame":  "b1 ffffffff 61",
		"a list with too many items":      "c0 02 ff 40",
		"a list with bytes left over":     "c0 03 01 40 40",
		"a map with an odd count":         "c1 02 01 40",
		"a billion nulls in an array":     "f0 00000005 3b9aca00 40",
		"an array of described values":    "e0 05 01 00 53 01 40",
		"a described value without value": "00 53 01",
		"lists in lists without end":      strings.Repeat("c0 7f 01 ", 60),
		"descriptors without end":         strings.Repeat("00 ", 60),
	} {
		d := decoder{buf: unhex(t, s)}
		if v, err := d.value(); err == nil {
			t.Errorf("%s: decoded as %#v", name, v)
		}
	}
}
