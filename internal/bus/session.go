package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Session is the exclusive receiver of one session of a queue. The broker
// holds its lock until it is closed, lost or expired.
type Session struct {
	receiver *azservicebus.SessionReceiver
	op       string
}

// Received is a message under the session's lock.
type Received struct {
	ID             string
	Body           []byte
	Properties     map[string]any
	SequenceNumber int64
	// DeliveryCount is 1 at the first delivery.
	DeliveryCount int
	EnqueuedTime  time.Time
	raw           *azservicebus.ReceivedMessage
}

// AcceptSession takes the lock of a session. ErrSessionLocked says that
// somebody else has it.
func (c *Client) AcceptSession(ctx context.Context, queue, session string) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	name := fmt.Sprintf("session %s of queue %s", session, queue)
	receiver, err := c.client.AcceptSessionForQueue(ctx, queue, session, nil)
	if err != nil {
		return nil, classify("accept "+name, err)
	}
	return &Session{receiver: receiver, op: name}, nil
}

// LockedUntil is when the lock ends unless it is renewed, by the broker's
// clock.
func (s *Session) LockedUntil() time.Time { return s.receiver.LockedUntil() }

// RenewLock keeps the session. An error of kind fault.Conflict means that it
// is lost.
func (s *Session) RenewLock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return classify("renew lock of "+s.op, s.receiver.RenewSessionLock(ctx, nil))
}

// State reads what SetState stored; nothing yet is nil.
func (s *Session) State(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	state, err := s.receiver.GetSessionState(ctx, nil)
	if err != nil {
		return nil, classify("read state of "+s.op, err)
	}
	return state, nil
}

// SetState stores what the next holder of the session has to know.
func (s *Session) SetState(ctx context.Context, state []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return classify("write state of "+s.op, s.receiver.SetSessionState(ctx, state, nil))
}

// Receive waits for messages of the session until ctx ends, and gives at most
// limit of them, in order. No message and no error means: try again, after a
// pause.
func (s *Session) Receive(ctx context.Context, limit int) ([]Received, error) {
	messages, err := s.receiver.ReceiveMessages(ctx, limit, nil)
	switch {
	case err == nil:
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return nil, nil //nolint:nilerr // the caller's wait is over: no message is no failure
	default:
		return nil, classify("receive from "+s.op, err)
	}
	out := make([]Received, len(messages))
	for i, m := range messages {
		out[i] = Received{ID: m.MessageID, Body: m.Body, Properties: m.ApplicationProperties, DeliveryCount: int(m.DeliveryCount), raw: m}
		if m.SequenceNumber != nil {
			out[i].SequenceNumber = *m.SequenceNumber
		}
		if m.EnqueuedTime != nil {
			out[i].EnqueuedTime = *m.EnqueuedTime
		}
	}
	return out, nil
}

// settleTimeout bounds a settlement. After the lock is lost the client would
// retry for half a minute before it says so.
const settleTimeout = 10 * time.Second

// Complete tells the broker that the message is done with.
func (s *Session) Complete(ctx context.Context, m Received) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return classify(fmt.Sprintf("complete message %s of %s", m.ID, s.op), s.receiver.CompleteMessage(ctx, m.raw, nil))
}

// Abandon gives the message back; it is delivered again at once.
func (s *Session) Abandon(ctx context.Context, m Received) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return classify(fmt.Sprintf("abandon message %s of %s", m.ID, s.op), s.receiver.AbandonMessage(ctx, m.raw, nil))
}

// Lost reports whether an error of this package says that the session is no
// longer ours.
func Lost(err error) bool { return fault.Is(err, fault.Conflict) }

// Close gives the session back, so that another holder need not wait.
func (s *Session) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return classify("close "+s.op, s.receiver.Close(ctx))
}
