package servicebusemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// Queues that the suite uses. A real namespace must have them, with these settings:
// suite-plain and suite-sessions as they are, suite-duplicates with detection over
// at least 20 s; all with a lock of 5 s and 3 deliveries, and empty.
const (
	suitePlain      = "suite-plain"
	suiteSessions   = "suite-sessions"
	suiteDuplicates = "suite-duplicates"
)

// realNamespace is the setting with the connection string of a real namespace.
const realNamespace = "SB_CONNECTION_STRING"

// backend is something that the suite runs against, known by its client alone.
type backend struct {
	*namespace
	lock time.Duration
}

func suiteConfig(lock time.Duration) Config {
	return Config{Queues: []QueueConfig{
		{Name: suitePlain, LockDuration: lock, MaxDeliveryCount: 3},
		{Name: suiteSessions, LockDuration: lock, MaxDeliveryCount: 3, RequiresSession: true},
		{Name: suiteDuplicates, LockDuration: lock, MaxDeliveryCount: 3, DuplicateDetection: time.Minute},
	}}
}

// The same assertions hold for the emulator in every guise and for the service.
func TestSuite(t *testing.T) {
	const lock = time.Second
	t.Run("in process", func(t *testing.T) {
		t.Parallel()
		n := &namespace{t: t}
		n.srv, n.addr = startServer(t, suiteConfig(lock))
		n.client = n.newClient()
		runSuite(t, n.client, lock)
	})
	t.Run("over TLS with a credential", func(t *testing.T) {
		t.Parallel()
		i := newIssuer(t)
		cfg := suiteConfig(lock)
		cfg.Auth = &Auth{Tokens: &TokenAuth{Key: KeySet(i.url)}}
		n, _ := overTLS(t, cfg, i)
		runSuite(t, n.client, lock)
	})
	t.Run("with a journal", func(t *testing.T) {
		t.Parallel()
		cfg := suiteConfig(lock)
		cfg.Data = t.TempDir()
		n := &namespace{t: t}
		n.srv, n.addr = startServer(t, cfg)
		n.client = n.newClient()
		runSuite(t, n.client, lock)
	})
	if connection := os.Getenv(realNamespace); connection != "" {
		t.Run("on a real namespace", func(t *testing.T) {
			client, err := azservicebus.NewClientFromConnectionString(connection, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close(context.Background())
			runSuite(t, client, 5*time.Second)
		})
	}
}

func runSuite(t *testing.T, client *azservicebus.Client, lock time.Duration) {
	for name, test := range map[string]func(*backend){
		"settling":   (*backend).settling,
		"sessions":   (*backend).sessions,
		"duplicates": (*backend).duplicates,
	} {
		t.Run(name, func(t *testing.T) {
			test(&backend{&namespace{t: t, client: client}, lock})
		})
	}
}

// unique makes ids that no earlier run has used.
func unique(name string) string { return fmt.Sprintf("%s-%d", name, time.Now().UnixNano()) }

func (b *backend) settling() {
	b.send(suitePlain, "", "a", "b", "c")
	r := b.receiver(suitePlain, nil)
	a, second := b.receiveOne(r, "a"), b.receiveOne(r, "b")
	if a.DeliveryCount != 1 || *a.SequenceNumber >= *second.SequenceNumber || a.LockedUntil == nil || a.EnqueuedTime == nil {
		b.t.Errorf("first delivery: %+v", a)
	}
	b.must(r.CompleteMessage(b.ctx(), a, nil))
	b.must(r.AbandonMessage(b.ctx(), second, &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"hello": "world"}}))
	second = b.receiveOne(r, "b")
	if second.DeliveryCount != 2 || second.ApplicationProperties["hello"] != "world" {
		b.t.Errorf("after abandon: count %d, %v", second.DeliveryCount, second.ApplicationProperties)
	}
	b.must(r.DeferMessage(b.ctx(), second, nil))
	deferred, err := r.ReceiveDeferredMessages(b.ctx(), []int64{*second.SequenceNumber}, nil)
	b.must(err)
	b.must(r.DeadLetterMessage(b.ctx(), deferred[0], &azservicebus.DeadLetterOptions{Reason: to.Ptr("why"), ErrorDescription: to.Ptr("because")}))
	dlq := b.deadLetters(suitePlain)
	dead := b.receiveOne(dlq, "b")
	if *dead.DeadLetterReason != "why" || *dead.DeadLetterErrorDescription != "because" {
		b.t.Errorf("dead letter: %+v", dead)
	}
	b.must(dlq.CompleteMessage(b.ctx(), dead, nil))
	// The third runs out of its lock, and is given up at its third delivery.
	c := b.receiveOne(r, "c")
	for count := uint32(1); count <= 3; count++ {
		if c.DeliveryCount != count {
			b.t.Errorf("delivery %d has count %d", count, c.DeliveryCount)
		}
		<-time.After(b.lock + b.lock/2)
		if err := r.CompleteMessage(b.ctx(), c, nil); code(err) != azservicebus.CodeLockLost {
			b.t.Errorf("complete after the lock: %v", err)
		}
		if count < 3 {
			c = b.receiveOne(r, "c")
		}
	}
	dead = b.receiveOne(dlq, "c")
	if *dead.DeadLetterReason != "MaxDeliveryCountExceeded" {
		b.t.Errorf("dead letter: %+v", dead)
	}
	b.must(dlq.CompleteMessage(b.ctx(), dead, nil))
	if _, err := b.receiver("suite-nothere", nil).ReceiveMessages(b.ctx(), 1, nil); code(err) != azservicebus.CodeNotFound {
		b.t.Errorf("a queue that is not there: %v", err)
	}
}

func (b *backend) sessions() {
	id, other := unique("x"), unique("y")
	b.send(suiteSessions, id, "1", "2")
	b.send(suiteSessions, other, "3")
	r, err := b.client.AcceptSessionForQueue(b.ctx(), suiteSessions, id, nil)
	b.must(err)
	if _, err := b.client.AcceptSessionForQueue(b.ctx(), suiteSessions, id, nil); condition(err) != "com.microsoft:session-cannot-be-locked" {
		b.t.Errorf("accept of a held session: %v", err)
	}
	b.must(r.SetSessionState(b.ctx(), []byte("state"), nil))
	b.must(r.CompleteMessage(b.ctx(), b.receiveOne(r, "1"), nil))
	b.receiveOne(r, "2")
	b.must(r.RenewSessionLock(b.ctx(), nil))
	b.must(r.Close(b.ctx()))
	r, err = b.client.AcceptSessionForQueue(b.ctx(), suiteSessions, id, nil)
	b.must(err)
	state, err := r.GetSessionState(b.ctx(), nil)
	b.must(err)
	second := b.receiveOne(r, "2")
	if string(state) != "state" || second.DeliveryCount != 1 {
		b.t.Errorf("state %q, delivery count %d", state, second.DeliveryCount)
	}
	b.must(r.CompleteMessage(b.ctx(), second, nil))
	b.must(r.SetSessionState(b.ctx(), nil, nil))
	b.must(r.Close(b.ctx()))
	next, err := b.client.AcceptNextSessionForQueue(b.ctx(), suiteSessions, nil)
	b.must(err)
	if next.SessionID() != other {
		b.t.Errorf("next session %q, want %q", next.SessionID(), other)
	}
	b.must(next.CompleteMessage(b.ctx(), b.receiveOne(next, "3"), nil))
	b.must(next.Close(b.ctx()))
	ctx, cancel := context.WithTimeout(b.ctx(), 300*time.Millisecond)
	defer cancel()
	// Where the time ends within the exchange of frames, the client gives up the
	// connection and says so instead, a moment before the deadline or after it.
	if _, err := b.client.AcceptNextSessionForQueue(ctx, suiteSessions, nil); err == nil ||
		ctx.Err() == nil && code(err) != azservicebus.CodeTimeout && !errors.Is(err, context.DeadlineExceeded) {
		b.t.Errorf("accept where there is no session: %v", err)
	}
}

// A second schedule with a known id answers with a sequence number, and nothing is
// ever delivered for it: whoever replaces a timer under the same id loses it.
func (b *backend) duplicates() {
	s, r := b.sender(suiteDuplicates), b.receiver(suiteDuplicates, nil)
	id, again := unique("timer"), unique("sent")
	timer := func(body string, delay time.Duration) int64 {
		b.t.Helper()
		numbers, err := s.ScheduleMessages(b.ctx(), []*azservicebus.Message{{Body: []byte(body), MessageID: &id}}, time.Now().Add(delay), nil)
		b.must(err)
		if len(numbers) != 1 || numbers[0] == 0 {
			b.t.Fatalf("sequence numbers: %v", numbers)
		}
		return numbers[0]
	}
	first := timer("first", time.Hour)
	second := timer("second", 200*time.Millisecond)
	if first == second {
		b.t.Errorf("both schedules got number %d", first)
	}
	b.must(s.CancelScheduledMessages(b.ctx(), []int64{first}, nil))
	third := timer("third", 200*time.Millisecond) // cancelling does not make the id new
	for _, n := range []int64{second, third} {
		if err := s.CancelScheduledMessages(b.ctx(), []int64{n}, nil); code(err) != azservicebus.CodeNotFound {
			b.t.Errorf("cancel of number %d, which belongs to nothing: %v", n, err)
		}
	}
	for range 2 {
		b.must(s.SendMessage(b.ctx(), &azservicebus.Message{Body: []byte("sent"), MessageID: &again}, nil))
	}
	b.must(r.CompleteMessage(b.ctx(), b.receiveOne(r, "sent"), nil))
	b.must(s.SendMessage(b.ctx(), &azservicebus.Message{Body: []byte("sent"), MessageID: &again}, nil)) // nor does completing
	ctx, cancel := context.WithTimeout(b.ctx(), time.Second)
	defer cancel()
	if ms, err := r.ReceiveMessages(ctx, 1, nil); len(ms) != 0 || !errors.Is(err, context.DeadlineExceeded) {
		b.t.Errorf("received %d messages and %v, want none", len(ms), err)
	}
}
