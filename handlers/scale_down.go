package handlers

import (
	"context"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/logging"
)

// scaleDownLastDelivery is the delivery at which a timer is moved away; the
// queue allows one more.
const scaleDownLastDelivery = 9

// scaleDown looks at a cluster because a deadline has come, or sweeps it. What
// fails for a passing reason is given back after a wait.
func (a *app) scaleDown(ctx context.Context, i invocation, log *logRecord) error {
	m, ok, err := a.received(ctx, i, a.ScaleDownQueue, scaleDownLastDelivery, log)
	if !ok {
		return err
	}
	timer, err := event.DecodeScaleDownTimer(m.body, m.encoding())
	if err != nil {
		return a.reject(ctx, m, a.ScaleDownQueue, err.Error(), log)
	}
	log.add(logging.Cluster, timer.Cluster, logging.NodeArray, timer.Nodearray, "purpose", string(timer.Purpose), logging.Generation, timer.Generation)
	result, err := a.Reconciler.Timer(ctx, timer)
	log.result(result)
	switch {
	case err == nil:
		return nil
	case fault.Is(err, fault.Invalid):
		return a.reject(ctx, m, a.ScaleDownQueue, err.Error(), log)
	}
	return err
}
