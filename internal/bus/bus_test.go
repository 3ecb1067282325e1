package bus_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/local/servicebusemu"
)

// patience bounds every wait; it is long because the machine may be slow.
const patience = time.Minute

const (
	plain    = "plain"
	sessions = "sessions"
)

// broker is an emulator that can be killed and started again on its port.
type broker struct {
	t      *testing.T
	addr   string
	server *servicebusemu.Server
	stop   func()
}

func startBroker(t *testing.T) *broker {
	t.Helper()
	b := &broker{t: t, addr: "127.0.0.1:0"}
	b.start()
	t.Cleanup(func() { b.stop() })
	return b
}

func (b *broker) start() {
	b.t.Helper()
	server, err := servicebusemu.New(servicebusemu.Config{Queues: []servicebusemu.QueueConfig{
		{Name: plain}, {Name: sessions, RequiresSession: true, LockDuration: time.Second},
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	var listener net.Listener
	eventually(b.t, "the port is free", func() bool {
		listener, err = (&net.ListenConfig{}).Listen(b.t.Context(), "tcp", b.addr)
		return err == nil
	})
	b.addr, b.server = listener.Addr().String(), server
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	b.stop = sync.OnceFunc(func() {
		if err := server.Close(); err != nil {
			b.t.Error(err)
		}
		<-done // its error only says that the server was closed
	})
}

func (b *broker) connect() *bus.Client {
	b.t.Helper()
	client, err := bus.New(bus.Options{
		ConnectionString: servicebusemu.ConnectionString(b.addr),
		Client:           azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{MaxRetries: 2, RetryDelay: 20 * time.Millisecond}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { client.Close() })
	return client
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("not so after %v: %s", patience, what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// accept takes a session that may still be about to become free.
func accept(t *testing.T, client *bus.Client, name string) *bus.Session {
	t.Helper()
	var session *bus.Session
	var last error
	eventually(t, "the session can be accepted", func() bool {
		session, last = client.AcceptSession(t.Context(), sessions, name)
		return last == nil
	})
	return session
}

// receive gives the next messages of a session.
func receive(t *testing.T, session *bus.Session) []bus.Received {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		messages, err := session.Receive(ctx, 10)
		must(t, err)
		if len(messages) > 0 {
			return messages
		}
	}
	t.Fatal("no message came")
	return nil
}

func TestAMessageArrivesAsItWasSent(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	client := b.connect()
	sent := bus.Message{
		ID: "onprem/1/1", SessionID: "onprem", ContentType: "application/json", Body: []byte("{}\x00\xff"), TTL: time.Hour,
		Properties: map[string]any{"content-encoding": "gzip", "traceparent": "00-01-02-00"},
	}
	must(t, client.Send(t.Context(), sessions, sent))
	session := accept(t, client, "onprem")
	got := receive(t, session)
	if len(got) != 1 || got[0].ID != sent.ID || string(got[0].Body) != string(sent.Body) || got[0].DeliveryCount != 1 ||
		got[0].SequenceNumber == 0 || time.Since(got[0].EnqueuedTime).Abs() > patience {
		t.Fatalf("received %+v", got)
	}
	if diff := cmp.Diff(sent.Properties, got[0].Properties); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
	must(t, session.Abandon(t.Context(), got[0]))
	again := receive(t, session)
	if again[0].DeliveryCount != 2 || again[0].ID != sent.ID {
		t.Errorf("after abandon %+v", again)
	}
	must(t, session.Complete(t.Context(), again[0]))
	must(t, session.Close(t.Context()))
	if stats := b.server.Stats()[sessions]; stats.Completed != 1 || stats.Active+stats.Locked != 0 {
		t.Errorf("the queue holds %+v", stats)
	}
}

func TestASessionHasOneHolderAndKeepsItsState(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	first, second := b.connect(), b.connect()
	holder := accept(t, first, "onprem")
	state, err := holder.State(t.Context())
	if err != nil || len(state) != 0 {
		t.Errorf("state of a new session: %q: %v", state, err)
	}
	must(t, holder.SetState(t.Context(), []byte(`{"epoch":1}`)))
	_, err = second.AcceptSession(t.Context(), sessions, "onprem")
	if !errors.Is(err, bus.ErrSessionLocked) || !bus.Lost(err) || !strings.Contains(err.Error(), "onprem") {
		t.Errorf("accepting a held session: %v", err)
	}
	before := holder.LockedUntil()
	eventually(t, "renewing moves the end of the lock", func() bool {
		must(t, holder.RenewLock(t.Context()))
		return holder.LockedUntil().After(before)
	})
	must(t, holder.Close(t.Context()))
	heir := accept(t, second, "onprem")
	state, err = heir.State(t.Context())
	if err != nil || string(state) != `{"epoch":1}` {
		t.Errorf("state after the change of holder: %q: %v", state, err)
	}
}

func TestALockThatRanOutIsLost(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	client := b.connect()
	must(t, client.Send(t.Context(), sessions, bus.Message{ID: "1", SessionID: "onprem", Body: []byte("x")}))
	slow := accept(t, client, "onprem")
	message := receive(t, slow)[0]
	quick := accept(t, b.connect(), "onprem") // waits until the lock of a second has ended
	if err := slow.RenewLock(t.Context()); !bus.Lost(err) {
		t.Errorf("renewing a lost lock: %v", err)
	}
	if err := slow.SetState(t.Context(), []byte("stale")); err == nil {
		t.Error("a lost session took a state")
	}
	if again := receive(t, quick); again[0].DeliveryCount != 2 {
		t.Errorf("the new holder received %+v", again)
	}
	if err := slow.Complete(t.Context(), message); err == nil {
		t.Error("a lost session completed a message")
	}
}

func TestReceivingEndsWithItsContextAndWithoutAnError(t *testing.T) {
	t.Parallel()
	session := accept(t, startBroker(t).connect(), "empty")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for ctx.Err() == nil {
		if messages, err := session.Receive(ctx, 10); err != nil || len(messages) > 0 {
			t.Errorf("received %v: %v", messages, err)
		}
	}
}

func TestScheduledMessagesCanBeCancelledUntilTheyAreDue(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	client := b.connect()
	later, err := client.Schedule(t.Context(), sessions, bus.Message{ID: "later", SessionID: "s"}, time.Now().Add(time.Hour))
	must(t, err)
	must(t, client.Cancel(t.Context(), sessions, later))
	if err := client.Cancel(t.Context(), sessions, later); !fault.Is(err, fault.Invalid) {
		t.Errorf("cancelling twice: %v", err)
	}
	_, err = client.Schedule(t.Context(), sessions, bus.Message{ID: "now", SessionID: "s"}, time.Now().Add(-time.Second))
	must(t, err)
	if got := receive(t, accept(t, client, "s")); got[0].ID != "now" {
		t.Errorf("received %+v", got)
	}
}

func TestErrorsSayWhatToDoNext(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	client := b.connect()
	gone := startBroker(t)
	unreachable := gone.connect()
	gone.stop()
	for what, c := range map[string]struct {
		err  error
		kind fault.Kind
		says string
	}{
		"a queue that is not there":        {client.Send(t.Context(), "nowhere", bus.Message{ID: "1"}), fault.Invalid, "nowhere"},
		"no session where one is needed":   {client.Send(t.Context(), sessions, bus.Message{ID: "1"}), fault.Invalid, sessions},
		"a message that is too large":      {client.Send(t.Context(), plain, bus.Message{ID: "big", Body: make([]byte, 1<<20)}), fault.Invalid, "big"},
		"a session of a plain queue":       {acceptError(t, client, plain), fault.Invalid, plain},
		"a session of no queue":            {acceptError(t, client, "nowhere"), fault.Invalid, "nowhere"},
		"a number that nothing has":        {client.Cancel(t.Context(), plain, 4711), fault.Invalid, plain},
		"a broker that is not there":       {unreachable.Send(t.Context(), plain, bus.Message{ID: "1"}), fault.Transient, plain},
		"a session of an absent broker":    {acceptError(t, unreachable, sessions), fault.Transient, sessions},
		"neither string nor credential":    {newError(bus.Options{Namespace: "ns.servicebus.windows.net"}), fault.Invalid, "credential"},
		"a connection string that is none": {newError(bus.Options{ConnectionString: "Endpoint=?"}), fault.Invalid, ""},
	} {
		if !fault.Is(c.err, c.kind) || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v (kind %v), want kind %v naming %q", what, c.err, fault.Of(c.err), c.kind, c.says)
		}
	}
}

func acceptError(t *testing.T, client *bus.Client, queue string) error {
	t.Helper()
	_, err := client.AcceptSession(t.Context(), queue, "s")
	return err
}

func newError(o bus.Options) error {
	_, err := bus.New(o)
	return err
}

func TestErrorsDoNotShowTheKey(t *testing.T) {
	t.Parallel()
	_, err := bus.New(bus.Options{ConnectionString: "Endpoint=sb://x;SharedAccessKeyName=n;SharedAccessKey=topsecret;EntityPath"})
	if err == nil || strings.Contains(err.Error(), "topsecret") {
		t.Errorf("error %v", err)
	}
}

func TestSendersAreSharedByManyGoroutines(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	client := b.connect()
	var running sync.WaitGroup
	failures := make(chan error, 16)
	for i := range 16 {
		running.Go(func() {
			for j := range 10 {
				if err := client.Send(t.Context(), plain, bus.Message{ID: fmt.Sprint(i, j)}); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	running.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	if stats := b.server.Stats()[plain]; stats.Active != 160 {
		t.Errorf("%d messages arrived, want 160", stats.Active)
	}
}

// The same client goes on when the broker comes back: nobody restarts it.
func TestAKilledBrokerIsSurvived(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	client := b.connect()
	must(t, client.Send(t.Context(), plain, bus.Message{ID: "before"}))
	session := accept(t, client, "onprem")
	b.stop()
	if err := client.Send(t.Context(), plain, bus.Message{ID: "during"}); !fault.Is(err, fault.Transient) {
		t.Errorf("sending to a dead broker: %v", err)
	}
	if err := session.RenewLock(t.Context()); err == nil {
		t.Error("a dead broker renewed a lock")
	}
	b.start()
	eventually(t, "sending works again", func() bool {
		return client.Send(t.Context(), sessions, bus.Message{ID: "after", SessionID: "fresh"}) == nil
	})
	got := receive(t, accept(t, client, "fresh"))
	if !slices.ContainsFunc(got, func(m bus.Received) bool { return m.ID == "after" }) {
		t.Errorf("received %+v", got)
	}
}
