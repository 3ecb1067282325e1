package servicebusemu

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func oneOf[T any](t *rapid.T, label string, values ...T) T {
	return rapid.SampledFrom(values).Draw(t, label)
}

func filtered(id any) described {
	return described{uint64(codeSource), []any{"s", nil, nil, nil, nil, nil, nil, orderedMap{{filterSession, id}}}}
}

// drawFrame is a frame that could be right; now and then one field is anything.
func drawFrame(t *rapid.T) (code uint64, f fields) {
	code = oneOf[uint64](t, "performative", codeBegin, codeAttach, codeAttach, codeAttach, codeFlow, codeFlow, codeFlow,
		codeTransfer, codeTransfer, codeTransfer, codeTransfer, codeDisposition, codeDisposition, codeDetach, codeEnd, 0x99)
	handle := func(often ...any) any {
		if rapid.IntRange(0, 19).Draw(t, "handle is wrong") == 0 {
			return uint32(9)
		}
		return oneOf(t, "handle", often...)
	}
	number := func() any {
		return oneOf[any](t, "number", uint32(0), uint32(1), uint32(2), uint32(5), uint32(1<<32-1), nil)
	}
	flag := func() any { return oneOf[any](t, "flag", true, false, nil) }
	switch code {
	case codeBegin:
		f = fields{nil, number(), oneOf[any](t, "window", uint32(2), uint32(ourWindow))}
	case codeAttach:
		f = fields{
			"link", handle(uint32(1), uint32(4), uint32(5)), oneOf[any](t, "role", true, false), oneOf[any](t, "snd", nil, uint8(1)), oneOf[any](t, "rcv", nil, uint8(1)),
			oneOf[any](t, "source", sourceOf("q"), sourceOf("s"), sourceOf("q/$management"), sourceOf(cbsAddress), sourceOf("q/$DeadLetterQueue"),
				filtered("x"), filtered(nil), filtered(described{filterSessionCode, "x"}), filtered(int32(1)), described{uint64(codeSource), nil}),
			oneOf[any](t, "target", targetOf("q"), targetOf("s"), targetOf("q/$management"), targetOf("s/$management"), targetOf(cbsAddress), targetOf("me")),
		}
	case codeFlow:
		f = fields{number(), oneOf[any](t, "window", uint32(0), uint32(9)), number(), number(), handle(uint32(1), uint32(3)), number(), number(), nil, flag(), flag()}
	case codeTransfer:
		f = fields{handle(uint32(0), uint32(2)), uint32(1), []byte("tag"), oneOf[any](t, "format", uint32(0), uint32(0), uint32(batchFormat)), flag(), oneOf[any](t, "more", nil, nil, true), nil, nil, nil, oneOf[any](t, "aborted", nil, nil, true)}
	case codeDisposition:
		f = fields{true, number(), number(), flag(), oneOf[any](t, "state",
			performativeOf(codeAccepted), performativeOf(codeReleased), performativeOf(codeModified, true, true, orderedMap{{"k", []any{}}}),
			performativeOf(codeRejected, performativeOf(codeError, condDeadLetter, "d", orderedMap{{propReason, int32(1)}, {symbol("k"), nil}})),
			performativeOf(codeRejected, "why"), nil)}
	case codeDetach:
		f = fields{handle(uint32(1), uint32(4), uint32(5)), true}
	}
	for range rapid.IntRange(0, 9).Draw(t, "replaced") / 8 {
		if len(f) == 0 {
			break
		}
		f[rapid.IntRange(0, len(f)-1).Draw(t, "field")] = rapid.SampledFrom(everyType()).Draw(t, "value")
	}
	return code, f
}

func drawPayload(t *rapid.T) []byte {
	request := func(operation string, body any) []byte {
		b := appendDescribedList(nil, codeProperties, "id", nil, nil, nil, "me")
		b = appendValue(append(b, ctorDescribed, ctorSmallUlng, codeAppProperties), orderedMap{{"operation", operation}, {"name", "q"}})
		return appendValue(append(b, ctorDescribed, ctorSmallUlng, codeValue), body)
	}
	operation := oneOf(t, "operation", "put-token", "com.microsoft:peek-message", "com.microsoft:renew-lock", "com.microsoft:set-session-state")
	return rapid.SampledFrom([][]byte{
		nil, text("a"), text("a")[:3], appendValue(nil, "not a section"),
		{0, 0x53, 0x75},
		append(appendDescribedList(nil, codeProperties, "id", nil, nil, nil, nil, nil, nil, nil, nil, nil, "x"), text("b")...),
		request(operation, orderedMap{{"lock-tokens", tokens(uuid{1})}, {"session-id", "x"}, {"from-sequence-number", int64(-1)}, {"message-count", int32(9)}}),
		request(operation, nil),
	}).Draw(t, "payload")
}

// beginWithLinks begins session 0 again, with a link of each kind: 0 sends to a
// queue, 1 receives from it, 2 carries requests to its $management and 3 replies.
func beginWithLinks(c *connection, old *session) {
	if old != nil {
		_ = c.dispatch(0, codeEnd, nil, nil)
	}
	_ = c.dispatch(0, codeBegin, fields{nil, uint32(0), uint32(3)}, nil)
	for _, f := range []fields{
		{"to", uint32(0), false, nil, nil, sourceOf(""), targetOf("q")},
		{"from", uint32(1), true, nil, uint8(1), sourceOf("q"), targetOf("")},
		{"ask", uint32(2), false, nil, nil, sourceOf(""), targetOf("q/$management")},
		{"hear", uint32(3), true, uint8(1), nil, sourceOf("q/$management"), targetOf("me")},
	} {
		_ = c.dispatch(0, codeAttach, f, nil)
	}
}

// Whatever frames come in whatever order, the emulator neither panics nor stops
// answering others, and every message it took is accounted for.
func TestNoSequenceOfFramesBreaksTheServer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := newManualClock()
		srv, err := New(Config{Clock: clock, Queues: []QueueConfig{{Name: "q", MaxDeliveryCount: 1}, {Name: "s", RequiresSession: true, DefaultTTL: time.Minute}}})
		if err != nil {
			t.Fatal(err)
		}
		c := &connection{srv: srv, log: slog.New(slog.DiscardHandler), maxSend: 512, wake: make(chan struct{}, 1), sessions: make(map[uint16]*session)}
		c.drained = sync.NewCond(&c.mu)
		for range rapid.IntRange(1, 80).Draw(t, "frames") {
			if s := c.sessions[0]; s == nil || s.ended {
				beginWithLinks(c, s)
			}
			code, f := drawFrame(t)
			// A real connection would end at an error; here it may go on.
			_ = c.dispatch(oneOf[uint16](t, "channel", 0, 0, 0, 1), code, f, drawPayload(t))
			clock.advance(oneOf(t, "time", 0, 0, 0, time.Second, time.Minute))
		}
		for _, s := range c.sessions {
			s.release()
		}
		for name, q := range srv.Stats() {
			in := q.Sent - q.Duplicates
			out := uint64(q.Active+q.Locked+q.Scheduled+q.Deferred) + q.Completed + q.Cancelled + q.Expired + q.EverDeadLettered
			if in != out || q.EverDeadLettered != uint64(q.DeadLettered)+q.DeadLettersCompleted || q.Sessions < 0 {
				t.Fatalf("messages of %s do not add up: %+v", name, q)
			}
		}
		other := &model{t: t, srv: srv, clock: clock, s: bareSession(srv), messages: make(map[string]*modelMessage)}
		other.s.handle(codeAttach, fields{"sender", uint32(0), false, nil, nil, sourceOf(""), targetOf("q")}, nil)
		other.s.handle(codeTransfer, fields{uint32(0), uint32(7), []byte{1}, uint32(0), false}, text("last"))
		frames := other.frames()
		if last := frames[len(frames)-1]; last.code != codeDisposition || fmt.Sprint(last.fields[1]) != "7" {
			t.Fatalf("another client was answered by %v", frames)
		}
	})
}
