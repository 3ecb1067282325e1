package servicebusemu

import (
	"strings"
	"testing"
	"time"
)

// keyed is a server that asks for signatures, on a clock that the test moves, and a
// client of it that has shown none.
func keyed(t *testing.T) (*namespace, *wire) {
	t.Helper()
	n := &namespace{t: t, clock: newManualClock()}
	n.srv, n.addr = startServer(t, Config{
		Clock: n.clock, Queues: []QueueConfig{{Name: "q"}, {Name: "other"}, {Name: "s", RequiresSession: true}},
		Auth: &Auth{Keys: map[string]string{"RootManageSharedAccessKey": "emulator"}},
	})
	return n, openWire(t, n.addr, 5000)
}

// show brings a good token for a queue.
func (n *namespace) show(w *wire, queue string, lasting time.Duration) {
	n.t.Helper()
	token := sign("RootManageSharedAccessKey", "emulator", "sb://h/"+queue, n.clock.Now().Add(lasting))
	if got := w.putToken("amqps://h/"+queue, tokenSAS, token); got != 202 {
		n.t.Fatalf("put-token: %d", got)
	}
}

// expectExpiry waits for the end of a link by its token, and returns its handle.
func (w *wire) expectExpiry() uint32 {
	w.t.Helper()
	p := w.expect(codeDetach)
	handle, _ := field[uint32](p.fields, 0)
	_, e := listOf(p.fields[2])
	condition, _ := field[symbol](e, 0)
	text, _ := field[string](e, 1)
	if condition != condUnauthorized || !strings.HasPrefix(text, "ExpiredToken: ") {
		w.t.Errorf("handle %d: %v", handle, e)
	}
	return handle
}

// quiet checks that nothing is on its way, by asking for an answer to something else.
func (w *wire) quiet() {
	w.t.Helper()
	w.send(0, codeFlow, uint32(firstOutgoing), uint32(5000), uint32(0), uint32(5000), nil, nil, nil, nil, nil, true)
	w.expect(codeFlow)
}

func TestLinksEndWithTheirTokenUnlessItIsRenewed(t *testing.T) {
	n, w := keyed(t)
	n.show(w, "q", time.Minute)
	w.send(0, codeAttach, "out", uint32(10), false, nil, nil, sourceOf(""), targetOf("q"))
	w.expect(codeAttach)
	w.expect(codeFlow)
	w.send(0, codeAttach, "in", uint32(11), true, nil, uint8(1), sourceOf("q"), targetOf(""))
	w.expect(codeAttach)
	n.clock.advance(50 * time.Second)
	n.show(w, "q", time.Minute) // renewed in time
	n.clock.advance(50 * time.Second)
	n.show(w, "q", time.Minute)
	n.clock.advance(time.Minute)
	if first, second := w.expectExpiry(), w.expectExpiry(); min(first, second) != 10 || max(first, second) != 11 {
		t.Errorf("ended: %d and %d", first, second)
	}
}

// Whatever the order in which tokens come, each is watched until it ends.
func TestEveryTokenIsWatchedToItsEnd(t *testing.T) {
	type shown struct {
		queue   string
		lasting time.Duration
	}
	type ending struct {
		after  time.Duration // the one before
		handle uint32
	}
	const q, other = 10, 11
	for name, c := range map[string]struct {
		shown []shown
		ends  []ending
	}{
		"the first ends first":                      {[]shown{{"q", time.Minute}, {"other", 3 * time.Minute}}, []ending{{time.Minute, q}, {2 * time.Minute, other}}},
		"the first ends last":                       {[]shown{{"q", 3 * time.Minute}, {"other", time.Minute}}, []ending{{time.Minute, other}, {2 * time.Minute, q}}},
		"a longer one for the same queue":           {[]shown{{"q", time.Minute}, {"other", 2 * time.Minute}, {"q", 3 * time.Minute}}, []ending{{2 * time.Minute, other}, {time.Minute, q}}},
		"a shorter one for the same queue replaces": {[]shown{{"q", 3 * time.Minute}, {"other", 2 * time.Minute}, {"q", time.Minute}}, []ending{{time.Minute, q}, {time.Minute, other}}},
	} {
		t.Run(name, func(t *testing.T) {
			n, w := keyed(t)
			for _, s := range c.shown {
				n.show(w, s.queue, s.lasting)
			}
			for queue, handle := range map[string]uint32{"q": q, "other": other} {
				w.send(0, codeAttach, queue, handle, true, nil, uint8(1), sourceOf(queue), targetOf(""))
				w.expect(codeAttach)
			}
			for _, end := range c.ends {
				n.clock.advance(end.after - time.Second)
				w.quiet()
				n.clock.advance(time.Second)
				if got := w.expectExpiry(); got != end.handle {
					t.Errorf("the link on handle %d ended, want %d", got, end.handle)
				}
			}
		})
	}
}

// A token for the queue and one for its $management, as the client brings them: the
// link to the queue lives as long as the queue's.
func TestATokenForManagementDoesNotKeepTheQueueOpen(t *testing.T) {
	n, w := keyed(t)
	n.show(w, "q", time.Minute)
	n.show(w, "q/$management", 2*time.Minute)
	w.send(0, codeAttach, "in", uint32(10), true, nil, uint8(1), sourceOf("q"), targetOf(""))
	w.expect(codeAttach)
	n.clock.advance(time.Minute)
	w.expectExpiry()
}

// The timer that watches the tokens of a connection ends with it.
func TestNoTimerOutlivesItsConnection(t *testing.T) {
	n, w := keyed(t)
	n.show(w, "q", time.Minute)
	if err := w.nc.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); n.clock.running() != 0; waitABit() {
		if time.Now().After(deadline) {
			t.Fatalf("%d timers run on", n.clock.running())
		}
	}
}

// running is how many timers have been set and have not fired.
func (c *manualClock) running() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers)
}
