package handlers

import (
	"context"
	"errors"
	"fmt"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/logging"
)

// historyKept is how long the ledger keeps what has ended, in days: see
// docs/tables.md.
const historyKept = 30

// historyAtOnce is about how many rows one run deletes of all clusters together:
// some seconds of work. The next run goes on.
const historyAtOnce = 5000

// reclaimIdle asks for a sweep of every cluster, and has the ledger delete what
// is too old. The sweeps run as scale_down, each in its cluster's session, so
// that they never run beside a decision for the same cluster.
func (a *app) reclaimIdle(ctx context.Context, _ invocation, log *logRecord) error {
	var failed []error
	for _, cluster := range a.Clusters {
		timer := event.ScaleDownTimer{Cluster: cluster, Purpose: event.Recheck, Generation: a.Now().UnixMilli(), Due: a.Now()}
		if _, err := a.Rechecks.ScheduleTimer(ctx, timer); err != nil {
			failed = append(failed, fmt.Errorf("ask for a sweep of cluster %s: %w", cluster, err))
		}
	}
	log.add(logging.Count, len(a.Clusters)-len(failed))
	purged := 0
	for _, cluster := range a.Clusters {
		n, err := a.History.Purge(ctx, cluster, a.Now().AddDate(0, 0, -historyKept))
		if purged += n; err != nil {
			failed = append(failed, err)
		}
		if purged >= historyAtOnce {
			break
		}
	}
	log.add("purged", purged)
	return errors.Join(failed...)
}
