package servicebusemu

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestMessagesArriveInOrderAndCompleteOnce(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	n.send("q", "", "a", "b", "c")
	r := n.receiver("q", nil)
	for i, body := range []string{"a", "b", "c"} {
		m := n.receiveOne(r, body)
		if *m.SequenceNumber != int64(i+1) || m.DeliveryCount != 1 || m.LockedUntil == nil {
			t.Errorf("message %q: sequence %d, delivery count %d, locked until %v", body, *m.SequenceNumber, m.DeliveryCount, m.LockedUntil)
		}
		n.must(r.CompleteMessage(n.ctx(), m, nil))
	}
	n.nothing(r)
	s := n.srv.Stats()["q"]
	if s.Sent != 3 || s.Completed != 3 || s.Active+s.Locked != 0 {
		t.Errorf("stats: %+v", s)
	}
}

func TestEveryPropertyComesOutAsItWentIn(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	now := time.Now().UTC().Truncate(time.Millisecond)
	sent := &azservicebus.Message{
		Body: []byte("body"), MessageID: to.Ptr("id"), CorrelationID: to.Ptr("c"), ContentType: to.Ptr("application/json"),
		Subject: to.Ptr("s"), To: to.Ptr("to"), ReplyTo: to.Ptr("r"), ReplyToSessionID: to.Ptr("rs"), SessionID: to.Ptr("g"),
		PartitionKey: to.Ptr("g"), TimeToLive: to.Ptr(time.Hour),
		ApplicationProperties: map[string]any{
			"i32": int32(-7), "i64": int64(1 << 40), "f": 1.5, "b": true, "s": "äöü", "t": now, "u": uint8(200), "empty": "",
		},
	}
	n.must(n.sender("q").SendMessage(n.ctx(), sent, nil))
	got := n.receiveOne(n.receiver("q", nil), "body")
	want := &azservicebus.ReceivedMessage{
		Body: sent.Body, MessageID: "id", CorrelationID: sent.CorrelationID, ContentType: sent.ContentType, Subject: sent.Subject,
		To: sent.To, ReplyTo: sent.ReplyTo, ReplyToSessionID: sent.ReplyToSessionID, SessionID: sent.SessionID,
		PartitionKey: sent.PartitionKey, TimeToLive: sent.TimeToLive, ApplicationProperties: sent.ApplicationProperties,
		DeliveryCount: 1, SequenceNumber: to.Ptr(int64(1)), State: azservicebus.MessageStateActive,
		EnqueuedTime: to.Ptr(n.clock.Now().UTC().Truncate(time.Millisecond)),
		ExpiresAt:    to.Ptr(n.clock.Now().UTC().Truncate(time.Millisecond).Add(time.Hour)),
		LockedUntil:  to.Ptr(n.clock.Now().UTC().Add(DefaultLockDuration).Truncate(time.Millisecond)),
	}
	ignore := cmpopts.IgnoreFields(azservicebus.ReceivedMessage{}, "LockToken", "RawAMQPMessage")
	if diff := cmp.Diff(want, got, ignore, cmpopts.IgnoreUnexported(azservicebus.ReceivedMessage{})); diff != "" {
		t.Error(diff)
	}
	if got.LockToken == ([16]byte{}) {
		t.Error("no lock token")
	}
}

func TestBatchesArriveWhole(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"}, QueueConfig{Name: "s", RequiresSession: true})
	s := n.sender("q")
	b, err := s.NewMessageBatch(n.ctx(), nil)
	n.must(err)
	for i := range 500 {
		n.must(b.AddMessage(&azservicebus.Message{Body: fmt.Append(nil, i)}, nil))
	}
	n.must(s.SendMessageBatch(n.ctx(), b, nil))
	// Between two calls the client gives back what arrives meanwhile, so the order
	// of receiving is not quite that of sending.
	numbers := make(map[int64]string)
	for _, m := range n.receive(n.receiver("q", nil), 500) {
		numbers[*m.SequenceNumber] = string(m.Body)
	}
	for i := range 500 {
		if got := numbers[int64(i+1)]; got != fmt.Sprint(i) {
			t.Fatalf("message %d has body %q", i, got)
		}
	}

	s = n.sender("s")
	b, err = s.NewMessageBatch(n.ctx(), nil)
	n.must(err)
	n.must(b.AddMessage(&azservicebus.Message{Body: []byte("a"), SessionID: to.Ptr("x")}, nil))
	n.must(b.AddMessage(&azservicebus.Message{Body: []byte("b")}, nil))
	var e *amqp.Error
	if err := s.SendMessageBatch(n.ctx(), b, nil); !errors.As(err, &e) || e.Condition != amqp.ErrCondNotAllowed {
		t.Errorf("batch with a message without session: %v", err)
	}
	if s := n.srv.Stats()["s"]; s.Sent != 0 || s.Active != 0 {
		t.Errorf("part of a refused batch was kept: %+v", s)
	}
}

func TestReceiveAndDeleteRemovesAtOnce(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	n.send("q", "", "a", "b")
	r := n.receiver("q", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	m := n.receiveOne(r, "a")
	if m.LockedUntil != nil {
		t.Errorf("locked until %v", m.LockedUntil)
	}
	if s := n.srv.Stats()["q"]; s.Completed != 1 || s.Active != 1 || s.Locked != 0 {
		t.Errorf("stats: %+v", s)
	}
}

func TestAbandonedMessagesComeBackInPlaceUntilGivenUp(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	n.send("q", "", "a", "b")
	r := n.receiver("q", nil)
	for i := range uint32(10) {
		m := n.receiveOne(r, "a")
		if m.DeliveryCount != i+1 {
			t.Fatalf("delivery %d has count %d", i+1, m.DeliveryCount)
		}
		if i > 0 && m.ApplicationProperties["try"] != int64(i) {
			t.Fatalf("delivery %d has properties %v", i+1, m.ApplicationProperties)
		}
		n.must(r.AbandonMessage(n.ctx(), m, &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"try": int64(i + 1)}}))
	}
	n.receiveOne(r, "b")
	dead := n.receiveOne(n.deadLetters("q"), "a")
	if *dead.DeadLetterReason != "MaxDeliveryCountExceeded" || *dead.DeadLetterErrorDescription != "Message could not be consumed after 10 delivery attempts." {
		t.Errorf("dead letter: %q, %q", *dead.DeadLetterReason, *dead.DeadLetterErrorDescription)
	}
	if dead.ApplicationProperties["try"] != int64(10) {
		t.Errorf("dead letter has properties %v", dead.ApplicationProperties)
	}
}

func TestDeferredMessagesAreReceivedByNumberAndStayDeferred(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q", MaxDeliveryCount: 3})
	n.send("q", "", "a")
	r := n.receiver("q", nil)
	m := n.receiveOne(r, "a")
	n.must(r.DeferMessage(n.ctx(), m, &azservicebus.DeferMessageOptions{PropertiesToModify: map[string]any{"hello": "world"}}))
	n.nothing(r)

	byNumber := func() *azservicebus.ReceivedMessage {
		t.Helper()
		ms, err := r.ReceiveDeferredMessages(n.ctx(), []int64{*m.SequenceNumber}, nil)
		n.must(err)
		if len(ms) != 1 || ms[0].State != azservicebus.MessageStateDeferred {
			t.Fatalf("deferred: %v", ms)
		}
		return ms[0]
	}
	d := byNumber()
	if d.DeliveryCount != 1 || d.ApplicationProperties["hello"] != "world" {
		t.Errorf("delivery count %d, properties %v", d.DeliveryCount, d.ApplicationProperties)
	}
	if _, err := r.ReceiveDeferredMessages(n.ctx(), []int64{*m.SequenceNumber}, nil); code(err) != azservicebus.CodeNotFound {
		t.Errorf("second lock on a deferred message: %v", err)
	}
	n.must(r.AbandonMessage(n.ctx(), d, nil))
	n.nothing(r)
	if d = byNumber(); d.DeliveryCount != 2 {
		t.Errorf("delivery count after abandon is %d, want 2", d.DeliveryCount)
	}
	n.clock.advance(DefaultLockDuration)
	n.nothing(r)
	if d = byNumber(); d.DeliveryCount != 3 {
		t.Errorf("delivery count after lock expiry is %d, want 3", d.DeliveryCount)
	}
	n.must(r.CompleteMessage(n.ctx(), d, nil))
	if _, err := r.ReceiveDeferredMessages(n.ctx(), []int64{*m.SequenceNumber}, nil); code(err) != azservicebus.CodeNotFound {
		t.Errorf("receiving a completed message: %v", err)
	}
}

func TestDeadLettersKeepTheirCountAndTheirReason(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	n.send("q", "", "a")
	r := n.receiver("q", nil)
	n.must(r.AbandonMessage(n.ctx(), n.receiveOne(r, "a"), nil))
	n.must(r.DeadLetterMessage(n.ctx(), n.receiveOne(r, "a"), &azservicebus.DeadLetterOptions{
		Reason: to.Ptr("why"), ErrorDescription: to.Ptr("because"), PropertiesToModify: map[string]any{"k": int32(1)},
	}))
	n.nothing(r)
	dlq := n.deadLetters("q")
	for range 12 { // more often than any limit of deliveries
		m := n.receiveOne(dlq, "a")
		if m.DeliveryCount != 2 || *m.DeadLetterReason != "why" || *m.DeadLetterErrorDescription != "because" || m.ApplicationProperties["k"] != int32(1) {
			t.Fatalf("dead letter: count %d, %q, %q, %v", m.DeliveryCount, *m.DeadLetterReason, *m.DeadLetterErrorDescription, m.ApplicationProperties)
		}
		n.must(dlq.AbandonMessage(n.ctx(), m, nil))
	}
	n.receiveOne(dlq, "a")
	n.clock.advance(DefaultLockDuration)
	m := n.receiveOne(dlq, "a")
	if m.DeliveryCount != 2 {
		t.Errorf("lock expiry among dead letters counted: %d", m.DeliveryCount)
	}
	n.must(dlq.CompleteMessage(n.ctx(), m, nil))
	if s := n.srv.Stats()["q"]; s.DeadLettered != 0 || s.EverDeadLettered != 1 || s.DeadLettersCompleted != 1 {
		t.Errorf("stats: %+v", s)
	}
}

func TestLocksExpireUnlessRenewed(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q", LockDuration: 10 * time.Second})
	n.send("q", "", "a")
	r, other := n.receiver("q", nil), n.receiver("q", nil)
	m := n.receiveOne(r, "a")
	n.clock.advance(9 * time.Second)
	n.must(r.RenewMessageLock(n.ctx(), m, nil))
	if want := n.clock.Now().Add(10 * time.Second).UTC().Truncate(time.Millisecond); !m.LockedUntil.Equal(want) {
		t.Errorf("renewed until %v, want %v", m.LockedUntil, want)
	}
	n.clock.advance(9 * time.Second)
	n.nothing(other)
	n.clock.advance(time.Second)
	if again := n.receiveOne(other, "a"); again.DeliveryCount != 2 {
		t.Errorf("delivery count %d, want 2", again.DeliveryCount)
	}
	if err := r.CompleteMessage(n.ctx(), m, nil); code(err) != azservicebus.CodeLockLost {
		t.Errorf("complete after the lock expired: %v", err)
	}
	if err := r.RenewMessageLock(n.ctx(), m, nil); code(err) != azservicebus.CodeLockLost {
		t.Errorf("renew after the lock expired: %v", err)
	}
	if s := n.srv.Stats()["q"]; s.LockExpiries != 1 || s.Locked != 1 {
		t.Errorf("stats: %+v", s)
	}
}

// On a busy machine timers are late. A lock ends with its time nevertheless.
func TestALockEndsEvenIfItsTimerIsLate(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"}, QueueConfig{Name: "s", RequiresSession: true})
	n.send("q", "", "a")
	r := n.receiver("q", nil)
	m, holder := n.receiveOne(r, "a"), n.accept("x")
	n.clock.leap(DefaultLockDuration)
	if err := r.CompleteMessage(n.ctx(), m, nil); code(err) != azservicebus.CodeLockLost {
		t.Errorf("complete: %v", err)
	}
	if err := r.RenewMessageLock(n.ctx(), m, nil); code(err) != azservicebus.CodeLockLost {
		t.Errorf("renew the lock of a message: %v", err)
	}
	// The client would accept the session again by itself, and hide it.
	e := n.srv.entities["s"]
	e.lock()
	_, refused := e.main.heldGroup(holder.SessionID(), func(*consumer) bool { return true }, n.clock.Now())
	e.unlock()
	if refused == nil || refused.condition != condSessionLockLost {
		t.Errorf("the holder of a session whose time is over: %v", refused)
	}
	n.clock.advance(0)
	if m = n.receiveOne(r, "a"); m.DeliveryCount != 2 {
		t.Errorf("delivery count %d", m.DeliveryCount)
	}
}

func TestLocksOutliveLinksAndConnections(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	n.send("q", "", "a", "b")
	client := n.newClient()
	r, err := client.NewReceiverForQueue("q", nil)
	n.must(err)
	a, b := n.receiveOne(r, "a"), n.receiveOne(r, "b")
	n.must(r.Close(n.ctx()))
	n.must(client.Close(n.ctx()))
	other := n.receiver("q", nil)
	n.nothing(other)
	n.must(other.CompleteMessage(n.ctx(), a, nil))
	n.must(other.AbandonMessage(n.ctx(), b, nil))
	if again := n.receiveOne(other, "b"); again.DeliveryCount != 2 {
		t.Errorf("delivery count %d, want 2", again.DeliveryCount)
	}
	if err := other.CompleteMessage(n.ctx(), b, nil); code(err) != azservicebus.CodeLockLost {
		t.Errorf("complete with a spent token: %v", err)
	}
}

func TestReleasedMessagesComeBackUncounted(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	n.send("q", "", "a")
	idle := n.receiver("q", nil)
	if got := n.receive(idle, 1); len(got) != 1 {
		t.Fatalf("received %d", len(got))
	}
	// The ten credits stay: what arrives on them is released by the client, until
	// they are spent. Then the message waits for somebody else.
	if ms, err := idle.ReceiveMessages(shortContext(t), 10, nil); len(ms) != 0 {
		t.Fatalf("received %d, %v", len(ms), err)
	}
	n.send("q", "", "b")
	n.stats("q", "b released for good", func(s QueueStats) bool { return s.Active == 1 && s.Locked == 1 })
	n.must(idle.Close(n.ctx()))
	m := n.receiveOne(n.receiver("q", nil), "b")
	if m.DeliveryCount != 1 {
		t.Errorf("delivery count %d, want 1", m.DeliveryCount)
	}
}

func TestPeekSeesEveryStateAndChangesNothing(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	n.send("q", "", "deferred", "locked", "active")
	r := n.receiver("q", nil)
	n.must(r.DeferMessage(n.ctx(), n.receiveOne(r, "deferred"), nil))
	n.receiveOne(r, "locked")
	_, err := n.sender("q").ScheduleMessages(n.ctx(), []*azservicebus.Message{{Body: []byte("scheduled")}}, n.clock.Now().Add(time.Hour), nil)
	n.must(err)
	var got []string
	for range 2 { // a receiver remembers where it was: the second one sees nothing
		ms, err := r.PeekMessages(n.ctx(), 10, nil)
		n.must(err)
		for _, m := range ms {
			got = append(got, fmt.Sprint(string(m.Body), m.State, *m.SequenceNumber))
		}
	}
	if diff := cmp.Diff([]string{"deferred1 1", "locked0 2", "active0 3", "scheduled2 4"}, got); diff != "" {
		t.Error(diff)
	}
	ms, err := r.PeekMessages(n.ctx(), 1, &azservicebus.PeekMessagesOptions{FromSequenceNumber: to.Ptr(int64(3))})
	n.must(err)
	if len(ms) != 1 || string(ms[0].Body) != "active" {
		t.Errorf("peek from 3: %v", ms)
	}
}

func TestLargeMessagesTravelInManyFrames(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q", MaxMessageSize: 1 << 20})
	for _, size := range []int{65000, 65464, 65536, 700_000} {
		body := strings.Repeat("0123456789", size/10)
		n.send("q", "", body)
		r := n.receiver("q", nil)
		m := n.receive(r, 1)[0]
		if string(m.Body) != body {
			t.Errorf("%d bytes came out as %d", len(body), len(m.Body))
		}
		n.must(r.CompleteMessage(n.ctx(), m, nil))
	}
	err := n.sender("q").SendMessage(n.ctx(), &azservicebus.Message{Body: make([]byte, 2<<20)}, nil)
	if !errors.Is(err, azservicebus.ErrMessageTooLarge) {
		t.Errorf("2 MiB: %v", err)
	}
}

func TestMissingEntitiesAreNotFoundAtOnce(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	started := time.Now()
	if err := n.sender("nothere").SendMessage(n.ctx(), &azservicebus.Message{}, nil); code(err) != azservicebus.CodeNotFound {
		t.Errorf("send: %v", err)
	}
	if _, err := n.receiver("nothere", nil).ReceiveMessages(n.ctx(), 1, nil); code(err) != azservicebus.CodeNotFound {
		t.Errorf("receive: %v", err)
	}
	if _, err := n.client.AcceptSessionForQueue(n.ctx(), "nothere", "x", nil); code(err) != azservicebus.CodeNotFound {
		t.Errorf("accept: %v", err)
	}
	if took := time.Since(started); took > patience/3 {
		t.Errorf("took %v", took)
	}
	if err := n.sender("q/$DeadLetterQueue").SendMessage(n.ctx(), &azservicebus.Message{}, nil); err == nil {
		t.Error("the dead-letter sub-queue accepted a message")
	}
}

func TestNamesDoNotCareAboutCase(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "Dir/Queue"})
	n.send("dir/QUEUE", "", "a")
	n.receiveOne(n.receiver("DIR/queue", nil), "a")
}
