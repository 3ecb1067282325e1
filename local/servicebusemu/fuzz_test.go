package servicebusemu

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
)

// FuzzValue: whatever can be decoded can be encoded, and comes back the same.
func FuzzValue(f *testing.F) {
	for _, v := range everyType() {
		f.Add(appendValue(nil, v))
	}
	for _, c := range capturedFrames {
		f.Add(unhex(f, c.bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := decoder{buf: b}
		v, err := d.value()
		if err != nil {
			return
		}
		skipper := decoder{buf: b}
		if err := skipper.skip(); err != nil || skipper.pos != d.pos {
			t.Fatalf("decoded %d bytes, skipped %d: %v", d.pos, skipper.pos, err)
		}
		again := decoder{buf: appendValue(nil, v)}
		got, err := again.value()
		if err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if diff := cmp.Diff(v, got, wireTypes); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzMessage: whatever a sender gets accepted is delivered in a form that the
// client's library can read, also after properties were set.
func FuzzMessage(f *testing.F) {
	for _, m := range []*amqp.Message{
		amqp.NewMessage([]byte("body")),
		{
			Header:                &amqp.MessageHeader{Durable: true, TTL: time.Second},
			Annotations:           amqp.Annotations{"x-opt-partition-key": "p", "mine": []byte{1}, "x-opt-sequence-number": "forged"},
			Properties:            &amqp.MessageProperties{MessageID: "id"},
			ApplicationProperties: map[string]any{"a": int64(1), "DeadLetterReason": "x"},
			Data:                  [][]byte{[]byte("1"), []byte("2")},
			Footer:                amqp.Annotations{"f": uint32(1)},
		},
		{Value: map[string]any{"k": "v"}},
		{Sequence: [][]any{{"a", int64(1)}}},
	} {
		b, err := m.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sent, ok := readable(b)
		if !ok {
			return // what the library cannot read it cannot have written
		}
		c, err := parseContent(b)
		if err != nil {
			return
		}
		if err := c.amend(orderedMap{{propReason, "why"}, {"n", int64(1)}}); err != nil {
			t.Fatalf("amend: %v", err)
		}
		token := newToken()
		out := c.appendDelivery(nil, delivered{
			deliveryCount: 3, ttl: time.Second, sequence: 7, enqueuedSequence: 6, enqueued: time.Now(), lockedUntil: time.Now(),
			lockToken: &token, state: stateDeferred, showState: true,
		})
		var got amqp.Message
		if err := got.UnmarshalBinary(out); err != nil {
			t.Fatalf("the client cannot read it: %v\n% x", err, out)
		}
		if got.Annotations["x-opt-sequence-number"] != int64(7) || got.Annotations["x-opt-message-state"] != int32(1) {
			t.Fatalf("annotations: %v", got.Annotations)
		}
		if got.ApplicationProperties[propReason] != "why" || got.Header.DeliveryCount != 3 {
			t.Fatalf("properties %v, header %v", got.ApplicationProperties, got.Header)
		}
		if diff := cmp.Diff(sent.Data, got.Data); diff != "" {
			t.Fatal(diff)
		}
	})
}

// readable reads a message with the client's library, which panics on some of what
// it cannot read (go-amqp v1.7.0: maps with keys that cannot be compared).
func readable(b []byte) (m amqp.Message, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	err := m.UnmarshalBinary(bytes.Clone(b))
	return m, err == nil
}

// FuzzConnection: no sequence of bytes after the handshake hangs or breaks the
// server, and none is answered after the connection has ended.
func FuzzConnection(f *testing.F) {
	frame := func(code byte, items ...any) []byte { return appendFrame(nil, frameAMQP, 0, code, items...) }
	begin := frame(codeBegin, nil, uint32(0), uint32(10), uint32(10))
	sender := frame(codeAttach, "s", uint32(0), false, nil, nil, sourceOf(""), targetOf("q"))
	receiver := frame(codeAttach, "r", uint32(1), true, nil, uint8(1), sourceOf("q"), targetOf(""))
	flow := frame(codeFlow, uint32(1), uint32(10), uint32(0), uint32(10), uint32(1), uint32(0), uint32(10))
	message, start := beginFrame(nil, frameAMQP, 0)
	message = appendDescribedList(message, codeTransfer, uint32(0), uint32(0), []byte{1}, uint32(0), false)
	message = endFrame(append(message, text("a")...), start)
	settle := frame(codeDisposition, true, uint32(0), nil, false, performativeOf(codeAccepted))
	f.Add(bytes.Join([][]byte{begin, sender, receiver, flow, message, settle, frame(codeDetach, uint32(1)), frame(codeEnd), frame(codeClose)}, nil))
	f.Add(bytes.Join([][]byte{begin, sender, message, message, emptyFrame, receiver, flow, begin}, nil))
	f.Add(bytes.Join([][]byte{begin, frame(codeAttach, "c", uint32(0), false, nil, nil, sourceOf(""), targetOf(cbsAddress)), message}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		srv, err := New(Config{Queues: []QueueConfig{{Name: "q"}, {Name: "s", RequiresSession: true}}})
		if err != nil {
			t.Fatal(err)
		}
		client, server := net.Pipe()
		srv.serveConn(server)
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(io.Discard, client)
		}()
		hello := bytes.Join([][]byte{
			headerSASL, appendFrame(nil, frameSASL, 0, codeSASLInit, symbol("ANONYMOUS")), headerAMQP, frame(codeOpen, "fuzz"), b,
		}, nil)
		_, _ = client.Write(hello) // ends early if the server has had enough
		_ = client.Close()
		<-read
		if err := srv.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
