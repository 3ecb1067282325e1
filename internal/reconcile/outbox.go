package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/event"
)

// sender is the part of bus.Client that the outbox needs.
type sender interface {
	Send(ctx context.Context, queue string, m bus.Message) error
	Schedule(ctx context.Context, queue string, m bus.Message, at time.Time) (int64, error)
}

// BusOutbox sends commands, timers and rejected messages over Service Bus.
type BusOutbox struct {
	Bus sender
	// ScaleDown and Rejected are queues, CommandsPrefix and a cluster's name
	// that of its command queue.
	ScaleDown, Rejected, CommandsPrefix string
	Now                                 func() time.Time
}

// SendCommand gives a command to the cluster's agent.
func (o BusOutbox) SendCommand(ctx context.Context, command event.SlurmCommand) error {
	m, err := command.Encode(o.Now())
	if err != nil {
		return fmt.Errorf("send command %s: %w", command.ID, err)
	}
	return o.Bus.Send(ctx, o.CommandsPrefix+command.Cluster, envelope(m))
}

// ScheduleTimer sends a timer that becomes visible when it is due; one that is
// due already is sent at once and has no sequence number.
func (o BusOutbox) ScheduleTimer(ctx context.Context, timer event.ScaleDownTimer) (int64, error) {
	m, err := timer.Encode(o.Now())
	if err != nil {
		return 0, fmt.Errorf("schedule timer %s of %s: %w", timer.Purpose, timer.Cluster, err)
	}
	if !timer.Due.After(o.Now()) {
		return 0, o.Bus.Send(ctx, o.ScaleDown, envelope(m))
	}
	return o.Bus.Schedule(ctx, o.ScaleDown, envelope(m), timer.Due)
}

// Reject keeps a message that can never succeed.
func (o BusOutbox) Reject(ctx context.Context, r event.Rejected) error {
	m, err := r.Encode(o.Now())
	if err != nil {
		return fmt.Errorf("reject message %s: %w", r.MessageID, err)
	}
	return o.Bus.Send(ctx, o.Rejected, envelope(m))
}

func envelope(m event.Message) bus.Message {
	out := bus.Message{ID: m.ID, SessionID: m.SessionID, ContentType: event.ContentType, Body: m.Body, TTL: m.TTL}
	if m.Encoding != "" {
		out.Properties = map[string]any{event.EncodingProperty: m.Encoding}
	}
	return out
}
