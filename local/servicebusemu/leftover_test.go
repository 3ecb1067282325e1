package servicebusemu

import (
	"fmt"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
)

// unsettledDeliveries is how many deliveries the server still waits to hear about.
func (n *namespace) unsettledDeliveries() int {
	count := 0
	n.eachSession(func(s *session) { count += len(s.unsettled) })
	return count
}

// eachSession shows every session of every connection, with the connection locked.
func (n *namespace) eachSession(show func(*session)) {
	n.srv.mu.Lock()
	defer n.srv.mu.Unlock()
	for c := range n.srv.connections {
		c.change(func() {
			for _, s := range c.sessions {
				show(s)
			}
		})
	}
}

// deliveryCount is the count in the header of a message on the wire.
func (p performative) deliveryCount(t *testing.T) uint32 {
	t.Helper()
	d := decoder{buf: p.payload}
	v, err := d.value()
	if err != nil {
		t.Fatal(err)
	}
	code, header := listOf(v)
	if code != codeHeader {
		t.Fatalf("the first section is %#x, want the header", code)
	}
	return fieldOr[uint32](header, 4, 0)
}

// A receiver that settles late is refused, and its message has come again, once and
// counted. Of the delivery that ran out of time nothing is left.
func TestALateSettlementIsRefusedAndItsMessageComesOnceMore(t *testing.T) {
	accepted := described{uint64(codeAccepted), []any{}}
	for name, late := range map[string]struct {
		first, last uint32
	}{
		"settled by its number": {0, 0},
		"settled in a range":    {0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNamespace(t, QueueConfig{Name: "q", LockDuration: 10 * time.Second})
			n.send("q", "", "a")
			w := openWire(t, n.addr, 5000)
			w.attachReceiver("q", 0)
			w.credit(0, firstOutgoing, 5000, 0, 5)
			if got := w.expect(codeTransfer).deliveryCount(t); got != 0 {
				t.Errorf("the first delivery has count %d", got)
			}
			n.clock.advance(10 * time.Second)
			if got := w.expect(codeTransfer).deliveryCount(t); got != 1 {
				t.Errorf("the second delivery has count %d, want 1", got)
			}
			if got := n.unsettledDeliveries(); got != 1 {
				t.Errorf("%d deliveries unsettled, want the second alone", got)
			}
			w.send(0, codeDisposition, true, late.first, late.last, false, accepted)
			answer := w.expect(codeDisposition)
			if late.last == 0 {
				_, rejected := listOf(answer.fields[4])
				_, e := listOf(rejected[0])
				if got, _ := field[symbol](e, 0); got != condMessageLockLost {
					t.Errorf("the late settlement was answered with %v", answer.fields)
				}
				w.send(0, codeDisposition, true, uint32(1), nil, false, accepted)
				answer = w.expect(codeDisposition)
			}
			if code, _ := listOf(answer.fields[4]); answer.fields[1] != uint32(1) || code != codeAccepted {
				t.Errorf("the settlement in time was answered with %v", answer.fields)
			}
			// An answer to something else proves that no third delivery is on its way.
			w.send(0, codeFlow, uint32(firstOutgoing+2), uint32(5000), uint32(0), uint32(5000), nil, nil, nil, nil, nil, true)
			if p, _ := w.next(); p.code != codeFlow {
				t.Errorf("after the settlements came 0x%02x %v", p.code, p.fields)
			}
			if s := n.srv.Stats()["q"]; s.Completed != 1 || s.LockExpiries != 1 || s.Active+s.Locked != 0 {
				t.Errorf("stats: %+v", s)
			}
		})
	}
}

// A settlement that is refused is an end of the delivery too, not of the lock.
func TestARefusedSettlementIsTheEndOfItsDelivery(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	n.send("q", "", "a")
	r := n.receiver("q", nil)
	n.must(r.DeadLetterMessage(n.ctx(), n.receiveOne(r, "a"), nil))
	w := openWire(t, n.addr, 5000)
	w.attachReceiver("q/$DeadLetterQueue", 0)
	w.credit(0, firstOutgoing, 5000, 0, 1)
	w.expect(codeTransfer)
	w.send(0, codeDisposition, true, uint32(0), nil, false, described{uint64(codeRejected), []any{}})
	_, rejected := listOf(w.expect(codeDisposition).fields[4])
	_, e := listOf(rejected[0])
	if got, _ := field[symbol](e, 0); got != condNotAllowed {
		t.Errorf("a dead letter was dead-lettered: %v", e)
	}
	if got := n.unsettledDeliveries(); got != 0 {
		t.Errorf("%d deliveries unsettled after the answer", got)
	}
	if s := n.srv.Stats()["q"]; s.DeadLettered != 1 || s.DeadLettersCompleted != 0 {
		t.Errorf("stats: %+v", s)
	}
}

// A link that ends, or a client that goes, leaves nothing behind but the locks.
func TestNothingIsKeptOfALinkOrAClientThatIsGone(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	n.send("q", "", "a")
	w := openWire(t, n.addr, 5000)
	w.attachReceiver("q", 0)
	w.credit(0, firstOutgoing, 5000, 0, 1)
	w.expect(codeTransfer)
	w.send(0, codeDetach, uint32(0), true)
	w.expect(codeDetach)
	if got := n.unsettledDeliveries(); got != 0 {
		t.Errorf("%d deliveries of a link that ended are kept", got)
	}
	if s := n.srv.Stats()["q"]; s.Locked != 1 {
		t.Errorf("stats: %+v", s)
	}
	if err := w.nc.Close(); err != nil {
		t.Fatal(err)
	}
	n.must(n.client.Close(n.ctx()))
	connections := func() int {
		n.srv.mu.Lock()
		defer n.srv.mu.Unlock()
		return len(n.srv.connections)
	}
	for deadline := time.Now().Add(patience); connections() != 0; waitABit() {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are kept, and every client has gone", connections())
		}
	}
}

// Between the end of a connection and its reader's noticing, messages go to others.
func TestAReceiverWhoseConnectionIsEndingIsPassedOver(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	w := openWire(t, n.addr, 5000)
	w.attachReceiver("q", 0)
	w.credit(0, firstOutgoing, 5000, 0, 5, nil, false, true)
	w.expect(codeFlow) // the credit has arrived
	n.eachSession(func(s *session) { s.c.closing = true })
	n.client = n.newClient()
	n.send("q", "", "a")
	if m := n.receiveOne(n.receiver("q", nil), "a"); m.DeliveryCount != 1 {
		t.Errorf("delivery count %d, want 1: the ending connection delivered nothing", m.DeliveryCount)
	}
}

// Batches that many clients send at once to a plain queue lie there one after the
// other, each whole and in its order, and an id is kept once.
func TestParallelBatchesLieWholeAndInOrderWithoutDuplicates(t *testing.T) {
	const clients, rounds, perBatch = 4, 5, 500
	n := newNamespace(t, QueueConfig{Name: "q", DuplicateDetection: time.Minute})
	var all sync.WaitGroup
	for c := range clients {
		s, err := n.newClient().NewSender("q", nil)
		n.must(err)
		all.Go(func() {
			for round := range rounds {
				if err := n.sendBatch(s, c, round, perBatch); err != nil {
					t.Errorf("client %d, batch %d: %v", c, round, err)
				}
			}
		})
	}
	all.Wait()
	var got, want []string
	shared, from := 0, int64(1)
	for r := n.receiver("q", nil); ; {
		ms, err := r.PeekMessages(n.ctx(), 100, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
		n.must(err)
		if len(ms) == 0 {
			break
		}
		from = *ms[len(ms)-1].SequenceNumber + 1
		for _, m := range ms {
			if m.MessageID == "shared" {
				shared++
				continue
			}
			got = append(got, string(m.Body))
		}
	}
	seen := make(map[string]bool)
	for i := 0; i < len(got); i += perBatch {
		batch := path.Dir(got[i])
		seen[batch] = true
		for place := range perBatch {
			want = append(want, fmt.Sprintf("%s/%d", batch, place))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(seen) != clients*rounds {
		t.Errorf("%d batches, want %d whole ones in their order: %s", len(seen), clients*rounds, diff)
	}
	if s := n.srv.Stats()["q"]; shared != 1 || s.Duplicates != clients*rounds-1 || s.Active != clients*rounds*perBatch+1 {
		t.Errorf("%d messages of the shared id; stats: %+v", shared, s)
	}
}

// sendBatch sends messages with bodies client/round/place, and in their middle one
// with an id that every batch has.
func (n *namespace) sendBatch(s *azservicebus.Sender, client, round, size int) error {
	b, err := s.NewMessageBatch(n.t.Context(), nil)
	if err != nil {
		return err
	}
	for place := range size {
		if place == size/2 {
			if err := b.AddMessage(&azservicebus.Message{MessageID: to.Ptr("shared")}, nil); err != nil {
				return err
			}
		}
		body := fmt.Sprintf("%d/%d/%d", client, round, place)
		if err := b.AddMessage(&azservicebus.Message{MessageID: &body, Body: []byte(body)}, nil); err != nil {
			return err
		}
	}
	return s.SendMessageBatch(n.t.Context(), b, nil)
}
