package servicebusemu

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
)

func shortContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestExpiredMessages(t *testing.T) {
	for _, c := range []struct {
		name     string
		queue    QueueConfig
		ttl      time.Duration // of the message; 0 for none
		alive    time.Duration // still there then
		gone     time.Duration // and gone then
		deadLine bool
	}{
		{name: "are dropped by default", ttl: time.Minute, alive: 59 * time.Second, gone: time.Minute},
		{name: "are dead-lettered if the queue says so", queue: QueueConfig{DeadLetterOnExpiration: true}, ttl: time.Minute, alive: 59 * time.Second, gone: time.Minute, deadLine: true},
		{name: "go by the queue's bound if that is shorter", queue: QueueConfig{DefaultTTL: time.Second}, ttl: time.Minute, alive: 0, gone: time.Second},
		{name: "go by the queue's bound if they have none", queue: QueueConfig{DefaultTTL: time.Second}, alive: 0, gone: time.Second},
		{name: "go by their own bound if that is shorter", queue: QueueConfig{DefaultTTL: time.Hour}, ttl: time.Minute, alive: 59 * time.Second, gone: time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.queue.Name = "q"
			n := newNamespace(t, c.queue)
			m := &azservicebus.Message{Body: []byte("a")}
			if c.ttl > 0 {
				m.TimeToLive = &c.ttl
			}
			n.must(n.sender("q").SendMessage(n.ctx(), m, nil))
			n.clock.advance(c.alive)
			if s := n.srv.Stats()["q"]; s.Active != 1 {
				t.Fatalf("too early: %+v", s)
			}
			n.clock.advance(c.gone - c.alive)
			if s := n.srv.Stats()["q"]; s.Active != 0 || s.Expired != 1 {
				t.Fatalf("too late: %+v", s)
			}
			if !c.deadLine {
				if s := n.srv.Stats()["q"]; s.DeadLettered != 0 {
					t.Fatalf("dead-lettered: %+v", s)
				}
				return
			}
			dead := n.receiveOne(n.deadLetters("q"), "a")
			if *dead.DeadLetterReason != "TTLExpiredException" || *dead.DeadLetterErrorDescription != "The message expired and was dead lettered." {
				t.Errorf("dead letter: %q, %q", *dead.DeadLetterReason, *dead.DeadLetterErrorDescription)
			}
		})
	}
}

func TestTimeToLiveWaitsForTheLock(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q", DefaultTTL: time.Second})
	n.send("q", "", "completed", "abandoned", "deferred")
	r := n.receiver("q", nil)
	completed, abandoned, deferred := n.receiveOne(r, "completed"), n.receiveOne(r, "abandoned"), n.receiveOne(r, "deferred")
	n.must(r.DeferMessage(n.ctx(), deferred, nil))
	n.clock.advance(2 * time.Second)
	n.must(r.CompleteMessage(n.ctx(), completed, nil))
	n.must(r.AbandonMessage(n.ctx(), abandoned, nil))
	if s := n.srv.Stats()["q"]; s.Completed != 1 || s.Expired != 1 || s.Deferred != 1 || s.Active != 0 {
		t.Errorf("stats: %+v", s)
	}
	// What is deferred does not expire (service documentation, message deferral).
	ms, err := r.ReceiveDeferredMessages(n.ctx(), []int64{*deferred.SequenceNumber}, nil)
	n.must(err)
	n.must(r.CompleteMessage(n.ctx(), ms[0], nil))
}

func TestScheduledMessagesArriveWhenDueUnlessCancelled(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	due := n.clock.Now().Add(time.Minute)
	numbers, err := n.sender("q").ScheduleMessages(n.ctx(), []*azservicebus.Message{
		{Body: []byte("a"), MessageID: to.Ptr("1")}, {Body: []byte("b")},
	}, due, nil)
	n.must(err)
	n.send("q", "", "early")
	r := n.receiver("q", nil)
	n.must(r.CompleteMessage(n.ctx(), n.receiveOne(r, "early"), nil))
	n.nothing(r)
	cancel := func() error { return n.sender("q").CancelScheduledMessages(n.ctx(), numbers[1:], nil) }
	n.must(cancel())
	if err := cancel(); code(err) != azservicebus.CodeNotFound {
		t.Errorf("second cancel: %v", err)
	}
	if s := n.srv.Stats()["q"]; s.Scheduled != 1 || s.Cancelled != 1 {
		t.Errorf("stats: %+v", s)
	}
	n.clock.advance(time.Minute)
	m := n.receiveOne(r, "a")
	if *m.SequenceNumber <= 3 || !m.EnqueuedTime.Equal(n.clock.Now().UTC().Truncate(time.Millisecond)) || m.DeliveryCount != 1 {
		t.Errorf("sequence number %d, enqueued at %v, delivery count %d", *m.SequenceNumber, m.EnqueuedTime, m.DeliveryCount)
	}
	n.nothing(r)
	if err := n.sender("q").CancelScheduledMessages(n.ctx(), numbers[:1], nil); code(err) != azservicebus.CodeNotFound {
		t.Errorf("cancel of an active message: %v", err)
	}
}

func TestPlainSendsCanBeScheduledToo(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "s", RequiresSession: true, DefaultTTL: time.Minute})
	n.must(n.sender("s").SendMessage(n.ctx(), &azservicebus.Message{
		Body: []byte("a"), SessionID: to.Ptr("x"), ScheduledEnqueueTime: to.Ptr(n.clock.Now().Add(time.Hour)),
	}, nil))
	r, err := n.client.AcceptSessionForQueue(n.ctx(), "s", "x", nil)
	n.must(err)
	n.nothing(r)
	for range 130 { // the time to live starts when the message is enqueued
		n.clock.advance(29 * time.Second)
		n.must(r.RenewSessionLock(n.ctx(), nil))
		if s := n.srv.Stats()["s"]; s.Active+s.Locked > 0 {
			break
		}
	}
	n.receiveOne(r, "a")
}

func TestDuplicatesAreAcceptedAndDropped(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q", DuplicateDetection: time.Minute}, QueueConfig{Name: "off"})
	send := func(queue string, id *string) {
		t.Helper()
		n.must(n.sender(queue).SendMessage(n.ctx(), &azservicebus.Message{MessageID: id}, nil))
	}
	for range 3 {
		send("q", to.Ptr("1"))
		send("q", nil)
		send("off", to.Ptr("1"))
	}
	numbers, err := n.sender("q").ScheduleMessages(n.ctx(), []*azservicebus.Message{{MessageID: to.Ptr("1")}}, n.clock.Now().Add(time.Hour), nil)
	n.must(err)
	if err := n.sender("q").CancelScheduledMessages(n.ctx(), numbers, nil); code(err) != azservicebus.CodeNotFound {
		t.Errorf("cancel of a duplicate: %v", err)
	}
	if s := n.srv.Stats()["q"]; s.Active != 4 || s.Duplicates != 3 || s.Scheduled != 0 {
		t.Errorf("stats: %+v", s)
	}
	if s := n.srv.Stats()["off"]; s.Active != 3 || s.Duplicates != 0 {
		t.Errorf("stats without detection: %+v", s)
	}
	n.clock.advance(time.Minute)
	send("q", to.Ptr("1"))
	if s := n.srv.Stats()["q"]; s.Active != 5 {
		t.Errorf("stats after the window: %+v", s)
	}
}

func TestOnlyWhatIsScheduledCanBeCancelled(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	n.send("q", "", "a")
	if err := n.sender("q").CancelScheduledMessages(n.ctx(), []int64{1}, nil); code(err) != azservicebus.CodeNotFound {
		t.Errorf("cancel of an active message: %v", err)
	}
	n.receiveOne(n.receiver("q", nil), "a")
}

func TestADuplicateDoesNotExtendTheWindow(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q", DuplicateDetection: time.Minute})
	for _, c := range []struct {
		at     time.Duration // after the step before
		stored int
	}{{0, 1}, {59 * time.Second, 1}, {time.Second, 2}, {59 * time.Second, 2}} {
		n.clock.advance(c.at)
		n.must(n.sender("q").SendMessage(n.ctx(), &azservicebus.Message{MessageID: to.Ptr("1")}, nil))
		if s := n.srv.Stats()["q"]; s.Active != c.stored {
			t.Errorf("%v later: %d messages, want %d", c.at, s.Active, c.stored)
		}
	}
}

func TestFullQueuesRefuse(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q", MaxMessageSize: 1024, MaxSize: 2048})
	s := n.sender("q")
	m := &azservicebus.Message{Body: make([]byte, 900)}
	n.must(s.SendMessage(n.ctx(), m, nil))
	n.must(s.SendMessage(n.ctx(), m, nil))
	var e *amqp.Error
	if err := s.SendMessage(n.ctx(), m, nil); !errors.As(err, &e) || e.Condition != amqp.ErrCondResourceLimitExceeded {
		t.Errorf("third message: %v", err)
	}
	r := n.receiver("q", nil)
	n.must(r.CompleteMessage(n.ctx(), n.receive(r, 1)[0], nil))
	n.must(s.SendMessage(n.ctx(), m, nil))
}
