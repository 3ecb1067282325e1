package servicebusemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
)

// once dials a client that never tries again, so that a test sees each fault.
func (n *namespace) once() *azservicebus.Client {
	n.t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(ConnectionString(n.addr), &azservicebus.ClientOptions{
		RetryOptions: azservicebus.RetryOptions{MaxRetries: -1},
	})
	n.must(err)
	n.t.Cleanup(func() { _ = client.Close(context.Background()) })
	return client
}

func TestFaultsOfSends(t *testing.T) {
	for name, c := range map[string]struct {
		faults Faults
		stored uint64 // whether the message is there although the send failed
		fails  func(error) bool
	}{
		"server busy": {Faults{Busy: 1}, 0, func(err error) bool { return condition(err) == "com.microsoft:server-busy" }},
		"a forced detach": {Faults{Detach: 1}, 0, func(err error) bool {
			return code(err) == azservicebus.CodeConnectionLost && strings.Contains(err.Error(), "detach-forced")
		}},
		// The client tries a detached link again at once, whatever its settings.
		"a lost answer": {Faults{LostAnswer: 1}, 2, func(err error) bool {
			return code(err) == azservicebus.CodeConnectionLost && strings.Contains(err.Error(), "detach-forced")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNamespace(t, QueueConfig{Name: "q"}, QueueConfig{Name: "other"})
			s, err := n.once().NewSender("q", nil)
			n.must(err)
			n.must(s.SendMessage(n.ctx(), &azservicebus.Message{}, nil))
			n.must(n.srv.SetFaults("Q", c.faults))
			if err := s.SendMessage(n.ctx(), &azservicebus.Message{}, nil); !c.fails(err) {
				t.Errorf("send: %v", err)
			}
			if got := n.srv.Stats()["q"].Sent; got != 1+c.stored {
				t.Errorf("%d sends, want %d", got, 1+c.stored)
			}
			n.send("other", "", "unharmed")
			n.must(n.srv.SetFaults("q", Faults{}))
			n.must(n.sender("q").SendMessage(n.ctx(), &azservicebus.Message{}, nil))
		})
	}
}

// The client tries again by itself, so that a lost answer becomes a duplicate.
func TestTheClientRidesOutFaults(t *testing.T) {
	for name, c := range map[string]struct {
		queue      QueueConfig
		faults     Faults
		duplicates bool
	}{
		"server busy":                  {faults: Faults{Busy: 0.3}},
		"forced detaches":              {faults: Faults{Detach: 0.3}},
		"lost answers":                 {faults: Faults{LostAnswer: 0.3}, duplicates: true},
		"lost answers and detection":   {queue: QueueConfig{DuplicateDetection: time.Minute}, faults: Faults{LostAnswer: 0.3}},
		"connections dropped":          {faults: Faults{Drop: 0.2}, duplicates: true},
		"lost locks":                   {faults: Faults{LostLock: 0.3}},
		"all of it, and some patience": {faults: Faults{Busy: 0.1, Detach: 0.1, LostAnswer: 0.2, Drop: 0.1, LostLock: 0.05, Delay: time.Millisecond}, duplicates: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const count = 30
			// What was on its way when a connection was dropped stays locked.
			c.queue.Name, c.queue.MaxDeliveryCount, c.queue.LockDuration = "q", 2000, time.Second
			cfg := Config{Queues: []QueueConfig{c.queue}, Seed: 7, Faults: map[string]Faults{"q": c.faults}}
			n := &namespace{t: t}
			n.srv, n.addr = startServer(t, cfg)
			n.client = n.newClient()
			s, r := n.sender("q"), n.receiver("q", nil)
			for i := range count {
				id := fmt.Sprint(i)
				m := &azservicebus.Message{Body: []byte(id), MessageID: &id}
				for s.SendMessage(n.ctx(), m, nil) != nil { // the client's own attempts are used up
				}
			}
			got := make(map[string]bool)
			for len(got) < count {
				m := n.receive(r, 1)[0]
				got[string(m.Body)] = true
				// After a lost connection the client waits 4 s and longer between its
				// attempts to settle (v1.11.0, whatever its settings); the message
				// comes again sooner.
				ctx, cancel := context.WithTimeout(n.ctx(), 200*time.Millisecond)
				_ = r.CompleteMessage(ctx, m, nil)
				cancel()
			}
			sent := n.srv.Stats()["q"]
			if stored := sent.Sent - sent.Duplicates; c.duplicates != (stored > count) {
				t.Errorf("%d messages were stored for %d; duplicates expected: %t", stored, count, c.duplicates)
			}
		})
	}
}

func TestFaultsOfSettlements(t *testing.T) {
	for name, c := range map[string]struct {
		faults    Faults
		completed uint64
		want      azservicebus.Code
	}{
		// When its link is detached the client tries once more by lock token, through
		// $management: too late for what was done, in time for what was not.
		"a lost lock":     {Faults{LostLock: 1}, 0, azservicebus.CodeLockLost},
		"a lost answer":   {Faults{LostAnswer: 1}, 1, azservicebus.CodeLockLost},
		"a forced detach": {Faults{Detach: 1}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNamespace(t, QueueConfig{Name: "q"})
			n.send("q", "", "a")
			r, err := n.once().NewReceiverForQueue("q", nil)
			n.must(err)
			m := n.receiveOne(r, "a")
			n.must(n.srv.SetFaults("q", c.faults))
			if err := r.CompleteMessage(n.ctx(), m, nil); code(err) != c.want {
				t.Errorf("complete: %v", err)
			}
			if s := n.srv.Stats()["q"]; s.Completed != c.completed || s.Locked != 0 {
				t.Errorf("stats: %+v", s)
			}
			if c.faults.LostLock > 0 {
				if m := n.receiveOne(n.receiver("q", nil), "a"); m.DeliveryCount != 2 {
					t.Errorf("delivery count %d", m.DeliveryCount)
				}
			}
		})
	}
}

func TestAnAnswerMayBeLate(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	s := n.sender("q")
	n.must(s.SendMessage(n.ctx(), &azservicebus.Message{}, nil))
	n.must(n.srv.SetFaults("q", Faults{Delay: time.Minute}))
	done := make(chan error, 1)
	go func() { done <- s.SendMessage(n.ctx(), &azservicebus.Message{}, nil) }()
	n.stats("q", "both stored", func(s QueueStats) bool { return s.Active == 2 })
	select {
	case err := <-done:
		t.Fatalf("answered at once: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	n.stats("q", "answered after a minute", func(QueueStats) bool {
		n.clock.advance(time.Minute)
		select {
		case err := <-done:
			n.must(err)
			return true
		default:
			return false
		}
	})
}

func TestEqualSeedsDrawEqualFaults(t *testing.T) {
	draw := func(seed uint64, queue string) (drawn []fault) {
		srv, err := New(Config{Queues: []QueueConfig{{Name: queue}}, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		if err := srv.SetFaults(queue, Faults{Busy: 0.3, Detach: 0.2, Drop: 0.2, LostAnswer: 0.2, LostLock: 0.5}); err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			drawn = append(drawn, srv.entities[queue].faultOf(occasion(i%2)))
		}
		return drawn
	}
	if diff := cmp.Diff(draw(1, "q"), draw(1, "q")); diff != "" {
		t.Error(diff)
	}
	for name, other := range map[string][]fault{"seed": draw(2, "q"), "queue": draw(1, "p")} {
		if cmp.Equal(draw(1, "q"), other) {
			t.Errorf("another %s draws the same", name)
		}
	}
}

func TestLinksLocksAndConnectionsEndOnRequest(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "a"}, QueueConfig{Name: "a/b"}, QueueConfig{Name: "s", RequiresSession: true})
	n.send("a", "", "x")
	n.send("s", "1", "y")
	r := n.receiver("a", nil)
	m := n.receiveOne(r, "x")
	session := n.accept("1")
	y := n.receiveOne(session, "y")
	if got, err := n.srv.LoseLocks("a"); got != 1 || err != nil {
		t.Errorf("locks lost: %d, %v", got, err)
	}
	if err := r.CompleteMessage(n.ctx(), m, nil); code(err) != azservicebus.CodeLockLost {
		t.Errorf("complete: %v", err)
	}
	if got, err := n.srv.LoseLocks("s"); got != 1 || err != nil {
		t.Errorf("sessions lost: %d, %v", got, err)
	}
	if again := n.receiveOne(n.accept("1"), "y"); again.DeliveryCount != 2 || again.LockToken == y.LockToken {
		t.Errorf("delivery count %d", again.DeliveryCount)
	}
	n.send("a/b", "", "z")
	n.receiveOne(n.receiver("a/b", nil), "z")
	links, err := n.srv.DetachLinks("a")
	n.must(err)
	if links != 3 { // the receiver's, and its two to $management
		t.Errorf("%d links were detached", links)
	}
	n.receiveOne(r, "x") // on a new link
	if got := n.srv.DropConnections(); got != 1 {
		t.Errorf("%d connections were dropped", got)
	}
	n.send("a", "", "after")
}

func TestFaultsOutOfRangeAreNamed(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	err := n.srv.SetFaults("q", Faults{Busy: 1.1, Drop: math.NaN(), LostLock: -1, Delay: -1})
	for _, want := range []string{"Busy", "Drop", "LostLock", "Delay"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if err := n.srv.SetFaults("none", Faults{}); !errors.Is(err, errNoQueue) {
		t.Errorf("an unknown queue: %v", err)
	}
	if _, err := New(Config{Queues: []QueueConfig{{Name: "q"}}, Faults: map[string]Faults{"p": {}}}); !errors.Is(err, errNoQueue) {
		t.Errorf("an unknown queue in the configuration: %v", err)
	}
}

func TestTheControlSurface(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "dir/q"})
	s := httptest.NewServer(n.srv.ControlHandler())
	defer s.Close()
	n.send("dir/q", "", "a")
	n.receiveOne(n.receiver("dir/q", nil), "a")
	for _, c := range []struct{ method, path, body, want string }{
		{"PUT", "/faults/dir/q", `{"busy":0.5,"delay_ns":1000}`, `200 {"busy":0.5,"delay_ns":1000}`},
		{"GET", "/faults", "", `200 {"dir/q":{"busy":0.5,"delay_ns":1000}}`},
		{"DELETE", "/faults/dir/q", "", `200 {}`},
		{"GET", "/faults", "", `200 {}`},
		{"PUT", "/faults/dir/q", `{"busy":2}`, `400 {"error":"set faults of queue \"dir/q\": Busy: got 2, want 0 to 1"}`},
		{"PUT", "/faults/dir/q", `{"bussy":1}`, `400 {"error":"read faults: json: unknown field \"bussy\""}`},
		{"PUT", "/faults/x", `{}`, `404 {"error":"set faults: queue \"x\": no such queue"}`},
		{"POST", "/lose-locks/dir/q", "", `200 {"locks":1}`},
		{"POST", "/detach/dir/q", "", `200 {"links":3}`},
		{"POST", "/detach/x", "", `404 {"error":"detach links: queue \"x\": no such queue"}`},
		{"POST", "/drop", "", `200 {"connections":1}`},
	} {
		req, err := http.NewRequestWithContext(n.ctx(), c.method, s.URL+c.path, strings.NewReader(c.body))
		n.must(err)
		rsp, err := http.DefaultClient.Do(req)
		n.must(err)
		b, err := io.ReadAll(rsp.Body)
		n.must(errors.Join(err, rsp.Body.Close()))
		if got := fmt.Sprint(rsp.StatusCode, " ", strings.TrimSpace(string(b))); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.method, c.path, got, c.want)
		}
	}
	rsp, err := http.Get(s.URL + "/stats")
	n.must(err)
	defer rsp.Body.Close()
	var stats map[string]QueueStats
	if err := json.NewDecoder(rsp.Body).Decode(&stats); err != nil || stats["dir/q"].Sent != 1 {
		t.Errorf("stats: %v %v", stats, err)
	}
}

func TestAForcedDetachIsAnErrorOfTheLink(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	w := openWire(t, n.addr, 5000)
	w.attachSender("q")
	n.must(n.srv.SetFaults("q", Faults{Detach: 1}))
	w.transfer(text("a"), uint32(0), uint32(0), []byte{1}, uint32(0), false)
	w.transfer(text("b"), uint32(0), uint32(1), []byte{2}, uint32(0), false) // on its way already
	w.expectError(codeDetach, 2, symbol(amqp.ErrCondDetachForced))
	n.must(n.srv.SetFaults("q", Faults{}))
	w.attachSender("q") // on the same handle, before the answer to the detach
	w.transfer(text("c"), uint32(0), uint32(2), []byte{3}, uint32(0), false)
	w.expect(codeDisposition)
	if s := n.srv.Stats()["q"]; s.Sent != 1 {
		t.Errorf("stats: %+v", s)
	}
}
