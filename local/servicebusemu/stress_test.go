package servicebusemu

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// settler is what both kinds of receivers do.
type settler interface {
	source
	CompleteMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.CompleteMessageOptions) error
	AbandonMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.AbandonMessageOptions) error
	DeadLetterMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.DeadLetterOptions) error
	Close(context.Context) error
}

// record knows who holds what, and what has become of each message.
type record struct {
	mu     sync.Mutex
	held   map[string]bool
	gone   map[string]string
	errors []error
}

func (r *record) note(format string, a ...any) { r.errors = append(r.errors, fmt.Errorf(format, a...)) }

func (r *record) receive(body string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held[body] {
		r.note("%s is locked twice", body)
	}
	if how := r.gone[body]; how != "" {
		r.note("%s was received after it was %s", body, how)
	}
	r.held[body] = true
}

// settle is called before the emulator hears of it.
func (r *record) settle(body, how string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.held, body)
	if how != "abandoned" {
		r.gone[body] = how
	}
}

func (r *record) left(total int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return total - len(r.gone)
}

func TestManyClientsAtOnceLoseAndDoubleNothing(t *testing.T) {
	for name, withSessions := range map[string]bool{"without sessions": false, "with sessions": true} {
		t.Run(name, func(t *testing.T) {
			const senders, receivers, each = 4, 4, 150
			n := newRealTimeNamespace(t, QueueConfig{Name: "q", RequiresSession: withSessions, LockDuration: 5 * time.Minute, MaxDeliveryCount: 2000})
			rec := &record{held: make(map[string]bool), gone: make(map[string]string)}
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			var all sync.WaitGroup
			for i := range senders {
				client := n.newClient()
				all.Go(func() { rec.add(sendMany(ctx, client, i, each, withSessions)) })
			}
			for range receivers {
				client := n.newClient()
				all.Go(func() {
					for rec.left(senders*each) > 0 && ctx.Err() == nil {
						rec.add(receiveSome(ctx, client, rec, senders*each, withSessions))
					}
				})
			}
			all.Wait()
			for _, err := range rec.errors {
				t.Error(err)
			}
			buried := 0
			for _, how := range rec.gone {
				if how == "buried" {
					buried++
				}
			}
			s := n.srv.Stats()["q"]
			if int(s.Sent) != senders*each || len(rec.gone) != senders*each || int(s.Completed) != len(rec.gone)-buried ||
				s.DeadLettered != buried || s.Active+s.Locked+s.Deferred+s.Scheduled != 0 {
				t.Errorf("%d gone, %d of them buried; stats %+v", len(rec.gone), buried, s)
			}
		})
	}
}

func (r *record) add(err error) {
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors = append(r.errors, err)
}

func sendMany(ctx context.Context, client *azservicebus.Client, sender, count int, withSessions bool) error {
	s, err := client.NewSender("q", nil)
	if err != nil {
		return err
	}
	for i := range count {
		m := &azservicebus.Message{Body: fmt.Appendf(nil, "%d/%d", sender, i)}
		if withSessions {
			id := fmt.Sprint(rand.IntN(6))
			m.SessionID = &id
		}
		if err := s.SendMessage(ctx, m, nil); err != nil {
			return fmt.Errorf("send %s: %w", m.Body, err)
		}
	}
	return s.Close(ctx)
}

// receiveSome opens a receiver and works with it: for a moment, if closing it gives
// back what it has locked, and to the end if not.
func receiveSome(ctx context.Context, client *azservicebus.Client, rec *record, total int, withSessions bool) error {
	var r settler
	var err error
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if withSessions {
		r, err = client.AcceptNextSessionForQueue(short, "q", nil)
	} else {
		r, err = client.NewReceiverForQueue("q", nil)
	}
	// None in time. On a slow machine the time may end within the exchange of
	// frames, and then the client gives up the connection: "must be reset".
	if code(err) == azservicebus.CodeTimeout || errors.Is(err, context.DeadlineExceeded) || err != nil && short.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open receiver: %w", err)
	}
	for turn := 0; rec.left(total) > 0 && ctx.Err() == nil && (turn < 5 || !withSessions); turn++ {
		if err := receiveOnce(ctx, r, rec); err != nil {
			return err
		}
	}
	return r.Close(ctx)
}

func receiveOnce(ctx context.Context, r settler, rec *record) error {
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	ms, err := r.ReceiveMessages(short, 20, nil)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("receive: %w", err)
	}
	for _, m := range ms {
		rec.receive(string(m.Body))
		if err := settleSomehow(ctx, r, m, rec); err != nil {
			return fmt.Errorf("settle %s: %w", m.Body, err)
		}
	}
	return nil
}

func settleSomehow(ctx context.Context, r settler, m *azservicebus.ReceivedMessage, rec *record) error {
	switch rand.IntN(10) {
	case 0:
		rec.settle(string(m.Body), "buried")
		return r.DeadLetterMessage(ctx, m, nil)
	case 1, 2, 3:
		rec.settle(string(m.Body), "abandoned")
		return r.AbandonMessage(ctx, m, nil)
	default:
		rec.settle(string(m.Body), "completed")
		return r.CompleteMessage(ctx, m, nil)
	}
}
