package handlers

import (
	"context"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/logging"
)

// pressureLastDelivery is the delivery at which a snapshot is moved away; the
// queue allows one more.
const pressureLastDelivery = 4

// queuePressure takes in a snapshot of Slurm. What fails for a passing reason
// is not given back: the next snapshot is the retry, and says more.
func (a *app) queuePressure(ctx context.Context, i invocation, log *logRecord) error {
	m, ok, err := a.received(ctx, i, a.PressureQueue, pressureLastDelivery, log)
	if !ok {
		return err
	}
	snapshot, err := event.DecodeQueuePressure(m.body, m.encoding())
	if err != nil {
		return a.reject(ctx, m, a.PressureQueue, err.Error(), log)
	}
	log.add(logging.Cluster, snapshot.Cluster, logging.Epoch, snapshot.Epoch, logging.Sequence, snapshot.Sequence,
		logging.SnapshotAge, a.Now().Sub(m.enqueued).Milliseconds()+snapshot.AgeAtSendMS)
	result, err := a.Reconciler.Pressure(ctx, snapshot, m.enqueued)
	log.result(result)
	switch {
	case err == nil:
		return nil
	case fault.Is(err, fault.Invalid):
		return a.reject(ctx, m, a.PressureQueue, err.Error(), log)
	case passing(err):
		log.add("left_to_next_snapshot", true)
		a.Logger.Warn("snapshot was not acted on", logging.Cluster, snapshot.Cluster, logging.Sequence, snapshot.Sequence, logging.Error, err.Error())
		return nil
	}
	return err
}
