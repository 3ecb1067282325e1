package servicebusemu

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
)

// sessions is a namespace with one queue "s" that requires sessions.
func sessions(t *testing.T) *namespace {
	return newNamespace(t, QueueConfig{Name: "s", RequiresSession: true}, QueueConfig{Name: "plain"})
}

func (n *namespace) accept(id string) *azservicebus.SessionReceiver {
	n.t.Helper()
	r, err := n.client.AcceptSessionForQueue(n.ctx(), "s", id, nil)
	n.must(err)
	return r
}

func (n *namespace) acceptNext() *azservicebus.SessionReceiver {
	n.t.Helper()
	r, err := n.client.AcceptNextSessionForQueue(n.ctx(), "s", nil)
	n.must(err)
	return r
}

func condition(err error) amqp.ErrCond {
	var e *amqp.Error
	if errors.As(err, &e) {
		return e.Condition
	}
	return ""
}

func TestANamedSessionGivesOnlyItsMessages(t *testing.T) {
	n := sessions(t)
	n.send("s", "x", "x1", "x2")
	n.send("s", "y", "y1")
	r := n.accept("x")
	if want := n.clock.Now().Add(DefaultLockDuration); !closeTo(r.LockedUntil(), want) {
		t.Errorf("locked until %v, want %v", r.LockedUntil(), want)
	}
	for _, body := range []string{"x1", "x2"} {
		m := n.receiveOne(r, body)
		if m.SessionID == nil || *m.SessionID != "x" || !closeTo(*m.LockedUntil, r.LockedUntil()) {
			t.Errorf("session %v, locked until %v", m.SessionID, m.LockedUntil)
		}
		n.must(r.CompleteMessage(n.ctx(), m, nil))
	}
	n.nothing(r)
}

func closeTo(a, b time.Time) bool { return a.Sub(b).Abs() < 2*time.Millisecond }

func TestTheNextSessionIsTheOneThatIsFreeLongest(t *testing.T) {
	n := sessions(t)
	for _, id := range []string{"x", "y", "z"} {
		n.send("s", id, id)
	}
	var got []string
	for range 3 {
		got = append(got, n.acceptNext().SessionID())
	}
	if diff := cmp.Diff([]string{"x", "y", "z"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAWaitingReceiverGetsTheFirstSessionThatComes(t *testing.T) {
	n := sessions(t)
	ids := make(chan string, 2)
	for range 2 {
		client := n.newClient()
		go func() {
			r, err := client.AcceptNextSessionForQueue(n.ctx(), "s", nil)
			if err != nil {
				t.Error(err)
				ids <- ""
				return
			}
			ids <- r.SessionID()
		}()
	}
	n.stats("s", "two waiting", func(s QueueStats) bool { return s.Waiting == 2 })
	n.send("s", "x", "a", "b")
	if id := <-ids; id != "x" {
		t.Errorf("session %q", id)
	}
	if s := n.srv.Stats()["s"]; s.Waiting != 1 {
		t.Errorf("the second message of a session ended a second wait: %+v", s)
	}
	n.send("s", "y", "c")
	if id := <-ids; id != "y" {
		t.Errorf("session %q", id)
	}
}

func TestAnAbandonedWaitTakesNothing(t *testing.T) {
	n := sessions(t)
	ctx, cancel := context.WithCancel(n.ctx())
	done := make(chan error, 1)
	go func() {
		_, err := n.client.AcceptNextSessionForQueue(ctx, "s", nil)
		done <- err
	}()
	n.stats("s", "one waiting", func(s QueueStats) bool { return s.Waiting == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("accept: %v", err)
	}
	n.stats("s", "nobody waiting", func(s QueueStats) bool { return s.Waiting == 0 })
	n.send("s", "x", "a")
	n.receiveOne(n.acceptNext(), "a")
}

func TestASessionHasOneHolder(t *testing.T) {
	n := sessions(t)
	n.send("s", "x", "a")
	r := n.accept("x")
	other := n.newClient()
	_, err := other.AcceptSessionForQueue(n.ctx(), "s", "x", nil)
	if condition(err) != "com.microsoft:session-cannot-be-locked" {
		t.Errorf("second accept: %v", err)
	}
	n.must(r.Close(n.ctx()))
	n.stats("s", "nobody holding", func(s QueueStats) bool { return s.Active == 1 })
	if _, err := other.AcceptSessionForQueue(n.ctx(), "s", "x", nil); err != nil {
		t.Errorf("accept after close: %v", err)
	}
}

func TestClosingASessionGivesMessagesBackUncountedAndInOrder(t *testing.T) {
	n := sessions(t)
	n.send("s", "x", "a", "b", "c")
	client := n.newClient()
	r, err := client.AcceptSessionForQueue(n.ctx(), "s", "x", nil)
	n.must(err)
	a, b := n.receiveOne(r, "a"), n.receiveOne(r, "b")
	n.must(client.Close(n.ctx())) // with the connection
	r = n.acceptNext()
	for _, body := range []string{"a", "b", "c"} {
		if m := n.receiveOne(r, body); m.DeliveryCount != 1 {
			t.Errorf("%q has delivery count %d", m.Body, m.DeliveryCount)
		}
	}
	for _, m := range []*azservicebus.ReceivedMessage{a, b} {
		if err := r.CompleteMessage(shortContext(t), m, nil); err == nil {
			t.Errorf("%q was completed under its old lock", m.Body)
		}
	}
}

func TestAbandonedMessagesOfASessionComeFirstAgain(t *testing.T) {
	n := sessions(t)
	n.send("s", "x", "a", "b")
	r := n.accept("x")
	a := n.receiveOne(r, "a")
	n.must(r.AbandonMessage(n.ctx(), a, nil))
	if m := n.receiveOne(r, "a"); m.DeliveryCount != 2 {
		t.Errorf("delivery count %d", m.DeliveryCount)
	}
	n.receiveOne(r, "b")
}

func TestSessionLocksExpireUnlessRenewed(t *testing.T) {
	n := sessions(t)
	n.send("s", "x", "a")
	client := n.newClient()
	r, err := client.AcceptSessionForQueue(n.ctx(), "s", "x", nil)
	n.must(err)
	n.receiveOne(r, "a")
	n.clock.advance(29 * time.Second)
	n.must(r.RenewSessionLock(n.ctx(), nil))
	if want := n.clock.Now().Add(DefaultLockDuration); !closeTo(r.LockedUntil(), want) {
		t.Errorf("renewed until %v, want %v", r.LockedUntil(), want)
	}
	n.clock.advance(29 * time.Second)
	if s := n.srv.Stats()["s"]; s.Locked != 1 {
		t.Fatalf("the lock was lost too early: %+v", s)
	}
	n.clock.advance(time.Second)
	other := n.accept("x")
	if m := n.receiveOne(other, "a"); m.DeliveryCount != 2 {
		t.Errorf("delivery count after expiry is %d, want 2", m.DeliveryCount)
	}
	// The client meets a detached link, accepts the session again by itself, and
	// finds it held.
	if err := r.RenewSessionLock(n.ctx(), nil); condition(err) != "com.microsoft:session-cannot-be-locked" {
		t.Errorf("renewal of a session that another holds: %v", err)
	}
	if err := r.SetSessionState(n.ctx(), []byte("x"), nil); condition(err) != "com.microsoft:session-cannot-be-locked" {
		t.Errorf("state of a session that another holds: %v", err)
	}
}

func TestRepeatedSessionLossGivesMessagesUp(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "s", RequiresSession: true, MaxDeliveryCount: 2})
	n.send("s", "x", "a", "b")
	for range 2 {
		client := n.newClient()
		r, err := client.AcceptSessionForQueue(n.ctx(), "s", "x", nil)
		n.must(err)
		n.receiveOne(r, "a")
		n.clock.advance(DefaultLockDuration)
	}
	// The dead-letter sub-queue has no sessions, and what is in it keeps its own.
	if m := n.receiveOne(n.deadLetters("s"), "a"); *m.SessionID != "x" {
		t.Errorf("session %v", m.SessionID)
	}
	n.receiveOne(n.accept("x"), "b")
}

func TestSessionStateStaysWithTheSession(t *testing.T) {
	n := sessions(t)
	r := n.accept("x") // without any message
	get := func(want []byte) {
		t.Helper()
		got, err := r.GetSessionState(n.ctx(), nil)
		n.must(err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	get(nil)
	n.must(r.SetSessionState(n.ctx(), []byte("state"), nil))
	get([]byte("state"))
	n.must(r.Close(n.ctx()))
	n.send("s", "x", "a")
	r = n.acceptNext()
	get([]byte("state"))
	n.must(r.SetSessionState(n.ctx(), nil, nil))
	get(nil)
	n.must(r.CompleteMessage(n.ctx(), n.receiveOne(r, "a"), nil))
	n.must(r.Close(n.ctx()))
	n.stats("s", "no session left", func(s QueueStats) bool { return s.Sessions == 0 })
}

func TestDeferredMessagesOfASessionNeedItsHolder(t *testing.T) {
	n := sessions(t)
	n.send("s", "x", "a")
	r := n.accept("x")
	m := n.receiveOne(r, "a")
	n.must(r.DeferMessage(n.ctx(), m, nil))
	other := n.accept("y")
	if _, err := other.ReceiveDeferredMessages(n.ctx(), []int64{*m.SequenceNumber}, nil); err == nil {
		t.Error("the holder of another session received it")
	}
	ms, err := r.ReceiveDeferredMessages(n.ctx(), []int64{*m.SequenceNumber}, nil)
	n.must(err)
	n.must(r.CompleteMessage(n.ctx(), ms[0], nil))
	if s := n.srv.Stats()["s"]; s.Completed != 1 || s.Deferred != 0 {
		t.Errorf("stats: %+v", s)
	}
}

func TestSessionsAreRequiredOrRefused(t *testing.T) {
	n := sessions(t)
	for name, do := range map[string]func() error{
		"a message without a session for a queue with sessions": func() error {
			return n.sender("s").SendMessage(n.ctx(), &azservicebus.Message{}, nil)
		},
		"a receiver without a session on a queue with sessions": func() error {
			_, err := n.receiver("s", nil).ReceiveMessages(n.ctx(), 1, nil)
			return err
		},
		"a session on a queue without": func() error {
			_, err := n.client.AcceptSessionForQueue(n.ctx(), "plain", "x", nil)
			return err
		},
		"any session on a queue without": func() error {
			_, err := n.client.AcceptNextSessionForQueue(n.ctx(), "plain", nil)
			return err
		},
	} {
		if err := do(); condition(err) != amqp.ErrCondNotAllowed {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.must(n.sender("plain").SendMessage(n.ctx(), &azservicebus.Message{SessionID: to.Ptr("x")}, nil))
}

func TestReceiveAndDeleteWorksInSessions(t *testing.T) {
	n := sessions(t)
	n.send("s", "x", "a", "b")
	r, err := n.client.AcceptNextSessionForQueue(n.ctx(), "s", &azservicebus.SessionReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	n.must(err)
	n.receiveOne(r, "a")
	n.must(r.Close(n.ctx()))
	n.receiveOne(n.acceptNext(), "b")
}
