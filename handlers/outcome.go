package handlers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/logging"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// received reads the message of an invocation and moves it out of the way if
// it was delivered too often: whatever is wrong with it killed the calls
// before, so its body is not even looked at.
func (a *app) received(ctx context.Context, i invocation, queue string, lastDelivery int, log *logRecord) (message, bool, error) {
	m, err := i.message()
	if err != nil {
		return m, false, err
	}
	log.deliveries = m.deliveryCount
	log.add(logging.MessageID, m.id, logging.SessionID, m.sessionID, logging.DeliveryCount, m.deliveryCount)
	if trace, ok := m.properties[event.TraceProperty].(string); ok {
		log.add(logging.Traceparent, trace)
	}
	if m.deliveryCount < lastDelivery {
		return m, true, nil
	}
	return m, false, a.reject(ctx, m, queue, fmt.Sprintf("delivered %d times without success", m.deliveryCount), log)
}

// reject moves a message that can never succeed to the queue of the rejected.
// When that is done the message counts as handled.
func (a *app) reject(ctx context.Context, m message, queue, reason string, log *logRecord) error {
	r := event.Reject(queue, m.id, m.sessionID, m.deliveryCount, m.enqueued, m.properties, m.body, reason)
	if err := a.Rejected.Reject(ctx, r); err != nil {
		return fmt.Errorf("reject message %s: %w", m.id, err)
	}
	log.add("rejected", reason)
	a.Logger.Warn("message rejected", logging.Queue, queue, logging.MessageID, m.id, logging.Reason, reason)
	return nil
}

func (l *logRecord) result(r reconcile.Result) {
	l.add("outcome", r.Outcome, logging.Revision, r.Revision, logging.Actions, r.Actions, logging.Holds, r.Holds)
}

// maxWait is the longest that a failed message is held before it is given back.
const maxWait = 20 * time.Second

// backOff waits before a failed message is given back: the host redelivers at
// once, and ten deliveries would be over in a second. A call that no message
// caused is not waited for. What only a newer process may do waits as long as
// may be: this one is about to be replaced.
func backOff(ctx context.Context, deliveryCount int, err error) {
	if deliveryCount < 1 {
		return
	}
	wait := min(time.Second<<min(deliveryCount, 5), maxWait)
	if errors.Is(err, ledger.ErrOldWriter) {
		wait = maxWait
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// passing reports whether an error may be over by the next try.
func passing(err error) bool {
	return fault.Is(err, fault.Transient) || fault.Is(err, fault.Conflict)
}
