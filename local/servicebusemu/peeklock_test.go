package servicebusemu

import (
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
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

func TestScheduledMessagesArriveWhenDueAndCanBeCancelled(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	due := n.clock.Now().Add(time.Minute)
	numbers, err := n.sender("q").ScheduleMessages(n.ctx(), []*azservicebus.Message{
		{Body: []byte("a"), MessageID: to.Ptr("1")}, {Body: []byte("b")},
	}, due, nil)
	n.must(err)
	r := n.receiver("q", nil)
	n.nothing(r)
	n.must(n.sender("q").CancelScheduledMessages(n.ctx(), numbers[1:], nil))
	n.clock.advance(time.Minute)
	n.receiveOne(r, "a")
	n.nothing(r)
	if err := n.sender("q").CancelScheduledMessages(n.ctx(), numbers[1:], nil); code(err) != azservicebus.CodeNotFound {
		t.Errorf("second cancel: %v", err)
	}
}

func TestSessionsAreHeldByOne(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "s", RequiresSession: true})
	n.send("s", "x", "a", "b")
	r, err := n.client.AcceptNextSessionForQueue(n.ctx(), "s", nil)
	n.must(err)
	if r.SessionID() != "x" {
		t.Fatalf("session %q", r.SessionID())
	}
	m := n.receiveOne(r, "a")
	n.must(r.CompleteMessage(n.ctx(), m, nil))
	n.must(r.Close(n.ctx()))
	r, err = n.client.AcceptSessionForQueue(n.ctx(), "s", "x", nil)
	n.must(err)
	n.receiveOne(r, "b")
}
