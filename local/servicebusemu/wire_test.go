package servicebusemu

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"
)

// wire is a client that writes what the real one never would.
type wire struct {
	t  *testing.T
	nc net.Conn
	r  *bufio.Reader
}

// performative is a frame that the server sent.
type performative struct {
	code    uint64
	fields  fields
	payload []byte
}

// dialWire connects without saying anything.
func dialWire(t *testing.T, addr string) *wire {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, nc: nc, r: bufio.NewReader(nc)}
}

// openWire connects, opens and begins session 0, whose incoming window is window.
func openWire(t *testing.T, addr string, window uint32) *wire {
	t.Helper()
	w := dialWire(t, addr)
	w.write(headerSASL)
	w.write(appendFrame(nil, frameSASL, 0, codeSASLInit, symbol("ANONYMOUS"), []byte("anonymous")))
	w.write(headerAMQP)
	w.send(0, codeOpen, "wire", "127.0.0.1", uint32(maxFrameSize))
	w.expectBytes(headerSASL)
	w.expect(codeSASLMechanisms)
	w.expect(codeSASLOutcome)
	w.expectBytes(headerAMQP)
	w.expect(codeOpen)
	w.send(0, codeBegin, nil, uint32(0), window, uint32(5000))
	w.expect(codeBegin)
	return w
}

func (w *wire) write(b []byte) {
	w.t.Helper()
	if _, err := w.nc.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) send(channel uint16, code byte, f ...any) {
	w.t.Helper()
	w.write(appendFrame(nil, frameAMQP, channel, code, f...))
}

// transfer sends one frame of a message; f are the fields of the performative.
func (w *wire) transfer(payload []byte, f ...any) {
	w.t.Helper()
	b, start := beginFrame(nil, frameAMQP, 0)
	b = appendDescribedList(b, codeTransfer, f...)
	w.write(endFrame(append(b, payload...), start))
}

func (w *wire) expectBytes(want []byte) {
	w.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(w.r, got); err != nil || !slices.Equal(got, want) {
		w.t.Fatalf("read % x and %v, want % x", got, err, want)
	}
}

// next reads a frame; ok is false at the end of the connection.
func (w *wire) next() (p performative, ok bool) {
	w.t.Helper()
	var h [8]byte
	for {
		if _, err := io.ReadFull(w.r, h[:]); errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return performative{}, false
		} else if err != nil {
			w.t.Fatal(err)
		}
		body := make([]byte, binary.BigEndian.Uint32(h[:])-8)
		if _, err := io.ReadFull(w.r, body); err != nil {
			w.t.Fatal(err)
		}
		if len(body) == 0 {
			continue
		}
		var err error
		if p.code, p.fields, p.payload, err = parseFrameBody(body); err != nil {
			w.t.Fatal(err)
		}
		return p, true
	}
}

// expect reads the next frame that is not a flow, and checks its kind.
func (w *wire) expect(code uint64) performative {
	w.t.Helper()
	for {
		p, ok := w.next()
		if ok && p.code == codeFlow && code != codeFlow {
			continue
		}
		if !ok || p.code != code {
			w.t.Fatalf("received performative 0x%02x %v (connection open: %t), want 0x%02x", p.code, p.fields, ok, code)
		}
		return p
	}
}

// expectError is expect for a frame that carries an error in field i.
func (w *wire) expectError(code uint64, i int, want symbol) {
	w.t.Helper()
	p := w.expect(code)
	if len(p.fields) <= i {
		w.t.Fatalf("0x%02x has no error: %v", code, p.fields)
	}
	_, e := listOf(p.fields[i])
	if got, _ := field[symbol](e, 0); got != want {
		w.t.Errorf("0x%02x has error %v, want %s", code, e, want)
	}
}

// expectEnd checks that the server has closed the connection.
func (w *wire) expectEnd() {
	w.t.Helper()
	if p, ok := w.next(); ok {
		w.t.Fatalf("received performative 0x%02x %v, want the end", p.code, p.fields)
	}
}

func sourceOf(address string) described {
	return described{uint64(codeSource), []any{address}}
}

func targetOf(address string) described {
	return described{uint64(codeTarget), []any{address}}
}

// attachSender opens a link to a queue on handle 0 and waits for credit.
func (w *wire) attachSender(queue string) {
	w.t.Helper()
	w.send(0, codeAttach, "sender", uint32(0), false, nil, nil, sourceOf(""), targetOf(queue))
	w.expect(codeAttach)
	w.expect(codeFlow)
}

// attachReceiver opens a peek-lock link from a queue.
func (w *wire) attachReceiver(queue string, handle uint32) {
	w.t.Helper()
	w.send(0, codeAttach, "receiver", handle, true, nil, uint8(1), sourceOf(queue), targetOf(""))
	w.expect(codeAttach)
}

// credit gives a link credit; next is the number of transfers received so far plus
// the server's first transfer id.
func (w *wire) credit(handle, next, window, count, credit uint32, more ...any) {
	w.t.Helper()
	w.send(0, codeFlow, append([]any{next, window, uint32(0), uint32(5000), handle, count, credit}, more...)...)
}

// text is an encoded message with one data section.
func text(body string) []byte {
	return appendValue([]byte{ctorDescribed, ctorSmallUlng, codeData}, []byte(body))
}
