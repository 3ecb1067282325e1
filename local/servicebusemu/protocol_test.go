package servicebusemu

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fillQueue starts an emulator whose queue "q" holds messages "0", "1" and so on.
func fillQueue(t *testing.T, count int) (*Server, string) {
	t.Helper()
	srv, addr := startServer(t, Config{Queues: []QueueConfig{{Name: "q"}, {Name: "s", RequiresSession: true}}})
	w := openWire(t, addr, 5000)
	w.attachSender("q")
	for i := range count {
		w.transfer(text(string(rune('0'+i))), uint32(0), uint32(i), []byte{byte(i)}, uint32(0), false)
		w.expect(codeDisposition)
	}
	return srv, addr
}

func TestDrainSpendsTheCreditThatIsLeft(t *testing.T) {
	_, addr := fillQueue(t, 2)
	w := openWire(t, addr, 5000)
	w.attachReceiver("q", 0)
	w.credit(0, firstOutgoing, 5000, 0, 5, nil, true)
	w.expect(codeTransfer)
	w.expect(codeTransfer)
	p := w.expect(codeFlow)
	if diff := cmp.Diff(fields{uint32(0), uint32(5), uint32(0), nil, true}, p.fields[4:]); diff != "" {
		t.Errorf("flow after drain: %s", diff)
	}
}

func TestEchoIsAnsweredForLinksAndForTheSession(t *testing.T) {
	_, addr := fillQueue(t, 0)
	w := openWire(t, addr, 5000)
	w.attachReceiver("q", 3)
	w.credit(3, firstOutgoing, 5000, 0, 5, nil, false, true)
	if p := w.expect(codeFlow); p.fields[4] != uint32(3) || p.fields[6] != uint32(5) {
		t.Errorf("flow of the link: %v", p.fields)
	}
	w.send(0, codeFlow, uint32(firstOutgoing), uint32(5000), uint32(0), uint32(5000), nil, nil, nil, nil, nil, true)
	if p := w.expect(codeFlow); len(p.fields) != 4 {
		t.Errorf("flow of the session: %v", p.fields)
	}
}

func TestTheClientsWindowHoldsTransfersBack(t *testing.T) {
	srv, addr := fillQueue(t, 5)
	w := openWire(t, addr, 2)
	w.attachReceiver("q", 0)
	w.credit(0, firstOutgoing, 2, 0, 5)
	for range 2 {
		w.expect(codeTransfer)
	}
	// An answer proves that nothing else is on its way.
	w.send(0, codeFlow, uint32(firstOutgoing+2), uint32(0), uint32(0), uint32(5000), nil, nil, nil, nil, nil, true)
	w.expect(codeFlow)
	if s := srv.Stats()["q"]; s.Locked != 5 {
		t.Errorf("stats: %+v", s)
	}
	w.send(0, codeFlow, uint32(firstOutgoing+2), uint32(2), uint32(0), uint32(5000))
	for i := range 2 {
		if p := w.expect(codeTransfer); !bytes.HasSuffix(p.payload, []byte{byte('2' + i)}) {
			t.Errorf("transfer %d: %q", i, p.payload)
		}
	}
	w.send(0, codeDetach, uint32(0), true)
	w.expect(codeDetach) // the fifth went with the link
}

func TestOneDispositionMaySettleMany(t *testing.T) {
	srv, addr := fillQueue(t, 4)
	w := openWire(t, addr, 5000)
	w.attachReceiver("q", 0)
	w.credit(0, firstOutgoing, 5000, 0, 4)
	for range 4 {
		w.expect(codeTransfer)
	}
	w.send(0, codeDisposition, true, uint32(0), uint32(2), false, described{uint64(codeAccepted), []any{}})
	for i := range 3 {
		if p := w.expect(codeDisposition); p.fields[1] != uint32(i) || p.fields[3] != true {
			t.Errorf("disposition %d: %v", i, p.fields)
		}
	}
	// Settled by the client alone: no answer, but done.
	w.send(0, codeDisposition, true, uint32(3), nil, true, described{uint64(codeAccepted), []any{}})
	w.send(0, codeDisposition, true, uint32(9), nil, false, described{uint64(codeAccepted), []any{}})
	p := w.expect(codeDisposition)
	if p.fields[1] != uint32(9) {
		t.Errorf("answer for a delivery nobody asked about: %v", p.fields)
	}
	_, rejected := listOf(p.fields[4])
	_, e := listOf(rejected[0])
	if e[0] != condMessageLockLost {
		t.Errorf("unknown delivery: %v", e)
	}
	if s := srv.Stats()["q"]; s.Completed != 4 {
		t.Errorf("stats: %+v", s)
	}
}

func TestAbortedDeliveriesAreForgotten(t *testing.T) {
	srv, addr := fillQueue(t, 0)
	w := openWire(t, addr, 5000)
	w.attachSender("q")
	w.transfer([]byte("half a mess"), uint32(0), uint32(0), []byte{0}, uint32(0), false, true)
	w.transfer(nil, uint32(0), nil, nil, nil, nil, false, nil, nil, nil, true)
	whole := text("whole")
	w.transfer(whole[:4], uint32(0), uint32(1), []byte{1}, uint32(0), false, true)
	w.transfer(whole[4:], uint32(0))
	if p := w.expect(codeDisposition); p.fields[1] != uint32(1) {
		t.Errorf("disposition: %v", p.fields)
	}
	if s := srv.Stats()["q"]; s.Sent != 1 {
		t.Errorf("stats: %+v", s)
	}
}

func TestRepliesWaitForCredit(t *testing.T) {
	_, addr := fillQueue(t, 0)
	w := openWire(t, addr, 5000)
	w.send(0, codeAttach, "in", uint32(0), false, nil, nil, sourceOf(""), targetOf(cbsAddress))
	w.expect(codeAttach)
	w.send(0, codeAttach, "out", uint32(1), true, uint8(1), uint8(0), sourceOf(cbsAddress), targetOf("me"))
	w.expect(codeAttach)
	request := appendDescribedList(nil, codeProperties, "id-7", nil, nil, nil, "me")
	request = appendValue(append(request, ctorDescribed, ctorSmallUlng, codeAppProperties),
		orderedMap{{"operation", "put-token"}, {"type", "servicebus.windows.net:sastoken"}, {"name", "amqp://host/Q/$management"}})
	request = appendValue(append(request, ctorDescribed, ctorSmallUlng, codeValue), "token")
	w.transfer(request, uint32(0), uint32(0), []byte{0}, uint32(0), false)
	w.expect(codeDisposition)
	w.credit(1, firstOutgoing, 5000, 0, 1)
	p := w.expect(codeTransfer)
	if p.fields[4] != true {
		t.Error("the reply is not settled")
	}
	d := decoder{buf: p.payload}
	var sections []any
	for d.rest() > 0 {
		v, err := d.value()
		if err != nil {
			t.Fatal(err)
		}
		sections = append(sections, v)
	}
	want := []any{
		described{uint64(codeProperties), []any{nil, nil, nil, nil, nil, "id-7"}},
		described{uint64(codeAppProperties), orderedMap{{"statusCode", int32(202)}, {"statusDescription", "Accepted"}}},
		described{uint64(codeValue), nil},
	}
	if diff := cmp.Diff(want, sections, cmp.AllowUnexported(described{}, pair{})); diff != "" {
		t.Error(diff)
	}
}

func TestWaitingForASessionIsRefusedAfterTheTimeout(t *testing.T) {
	clock := newManualClock()
	srv, addr := startServer(t, Config{Queues: []QueueConfig{{Name: "s", RequiresSession: true}}, Clock: clock})
	w := openWire(t, addr, 5000)
	filter := described{uint64(codeSource), []any{"s", nil, nil, nil, nil, nil, nil, orderedMap{{filterSession, described{filterSessionCode, nil}}}}}
	w.send(0, codeAttach, "next", uint32(0), true, nil, uint8(1), filter, targetOf(""), nil, nil, nil, nil, nil, nil,
		orderedMap{{symbol("com.microsoft:timeout"), uint32(5000)}})
	for deadline := time.Now().Add(patience); srv.Stats()["s"].Waiting == 0; waitABit() {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits")
		}
	}
	clock.advance(4 * time.Second)
	if s := srv.Stats()["s"]; s.Waiting != 1 {
		t.Error("the wait ended early")
	}
	clock.advance(time.Second)
	if p := w.expect(codeAttach); p.fields[attachName] != "next" || len(p.fields) > attachSource && p.fields[attachSource] != nil {
		t.Errorf("attach: %v", p.fields)
	}
	w.expectError(codeDetach, 2, condTimeout)
	w.send(0, codeDetach, uint32(0), true)
	w.attachReceiver("s/$DeadLetterQueue", 0) // the handle can be used again
}

func TestWhatTheClientMayNotDoEndsTheLink(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*wire)
		want symbol
	}{
		{"a message above the limit", func(w *wire) {
			big := text(strings.Repeat("x", 60000))
			for i := range 7 {
				w.transfer(big, uint32(0), uint32(0), []byte{0}, uint32(0), false, i < 6)
			}
		}, condMessageTooLarge},
		{"a delivery without an id", func(w *wire) { w.transfer(text("a"), uint32(0)) }, condInvalidField},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, addr := fillQueue(t, 0)
			w := openWire(t, addr, 5000)
			w.attachSender("q")
			c.do(w)
			w.expectError(codeDetach, 2, c.want)
			w.send(0, codeDetach, uint32(0), true)
			w.attachSender("q") // the session lives
		})
	}
}

func TestALinkToNothingIsRefusedAndTheSessionLives(t *testing.T) {
	_, addr := fillQueue(t, 0)
	w := openWire(t, addr, 5000)
	for queue, want := range map[string]symbol{"nothere": condNotFound, "q/$deadletterqueue": condNotAllowed, "": condNotFound} {
		w.send(0, codeAttach, "sender", uint32(0), false, nil, nil, sourceOf(""), targetOf(queue))
		if p := w.expect(codeAttach); len(p.fields) > attachTarget && p.fields[attachTarget] != nil {
			t.Errorf("%q: attach: %v", queue, p.fields)
		}
		w.expectError(codeDetach, 2, want)
		w.send(0, codeDetach, uint32(0), true)
	}
	w.attachSender("q")
}

func TestWhatTheClientMayNotDoEndsTheSession(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*wire)
		want symbol
	}{
		{"a transfer on no link", func(w *wire) { w.transfer(text("a"), uint32(7), uint32(0)) }, condUnattached},
		{"a flow for no link", func(w *wire) { w.credit(7, 1, 1, 0, 1) }, condUnattached},
		{"a detach of no link", func(w *wire) { w.send(0, codeDetach, uint32(7)) }, condUnattached},
		{"a handle used twice", func(w *wire) { w.attachSender("q"); w.attachSenderQuietly("q") }, condHandleInUse},
		{"a handle above the limit", func(w *wire) { w.send(0, codeAttach, "x", uint32(256), true) }, condNotAllowed},
		{"an attach without a name", func(w *wire) { w.send(0, codeAttach, nil, uint32(0), true) }, condInvalidField},
		{"a performative of no kind", func(w *wire) { w.send(0, 0x1c) }, condDecode},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, addr := fillQueue(t, 0)
			w := openWire(t, addr, 5000)
			c.do(w)
			w.expectError(codeEnd, 0, c.want)
			w.transfer(text("late"), uint32(0), uint32(0))
			w.send(0, codeEnd)
			w.send(0, codeBegin, nil, uint32(0), uint32(5000), uint32(5000))
			w.expect(codeBegin) // the connection lives
		})
	}
}

func (w *wire) attachSenderQuietly(queue string) {
	w.send(0, codeAttach, "again", uint32(0), false, nil, nil, sourceOf(""), targetOf(queue))
}

func TestWhatTheClientMayNotDoEndsTheConnection(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*wire)
		want symbol
	}{
		{"a frame too large", func(w *wire) { w.write([]byte{0, 1, 0, 1, 2, 0, 0, 0}) }, condFraming},
		{"a frame too small", func(w *wire) { w.write([]byte{0, 0, 0, 7, 2, 0, 0, 0}) }, condFraming},
		{"a body that starts after the end", func(w *wire) { w.write([]byte{0, 0, 0, 8, 3, 0, 0, 0}) }, condFraming},
		{"a SASL frame", func(w *wire) { w.write(appendFrame(nil, frameSASL, 0, codeSASLInit)) }, condFraming},
		{"garbage", func(w *wire) { w.write([]byte{0, 0, 0, 9, 2, 0, 0, 0, 0xff}) }, condDecode},
		{"a session begun twice", func(w *wire) { w.send(0, codeBegin, nil, uint32(0), uint32(1), uint32(1)) }, condNotAllowed},
		{"a channel without a session", func(w *wire) { w.send(9, codeFlow) }, condNotAllowed},
		{"a channel above the limit", func(w *wire) { w.send(channelMax+1, codeBegin, nil, uint32(0), uint32(1), uint32(1)) }, condNotAllowed},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, addr := fillQueue(t, 0)
			w := openWire(t, addr, 5000)
			c.do(w)
			w.expectError(codeClose, 0, c.want)
			w.expectEnd()
		})
	}
}

func TestAClientThatDoesNotSpeakAMQPIsSentAway(t *testing.T) {
	for name, hello := range map[string]string{
		"HTTP":          "GET / HTTP/1.1\r\n\r\n",
		"AMQP 0-9-1":    "AMQP\x00\x00\x09\x01",
		"without SASL":  string(headerAMQP),
		"PLAIN":         string(headerSASL) + string(appendFrame(nil, frameSASL, 0, codeSASLInit, symbol("PLAIN"), []byte("\x00a\x00b"))),
		"no SASL frame": string(headerSASL) + string(appendFrame(nil, frameAMQP, 0, codeOpen, "x")),
	} {
		t.Run(name, func(t *testing.T) {
			_, addr := fillQueue(t, 0)
			w := dialWire(t, addr)
			w.write([]byte(hello))
			if err := w.nc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			w.expectBytes(headerSASL)
			for {
				if _, ok := w.next(); !ok {
					return
				}
			}
		})
	}
}

func TestAPoliteCloseIsAnswered(t *testing.T) {
	_, addr := fillQueue(t, 0)
	w := openWire(t, addr, 5000)
	w.send(0, codeClose)
	w.expect(codeClose)
	w.expectEnd()
}
