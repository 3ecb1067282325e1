package handlers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/logging"
)

// historyKept is how long the ledger keeps what has ended, in days: see
// docs/tables.md.
const historyKept = 30

const (
	// historyAtOnce is about how many rows one run deletes of all clusters
	// together: some seconds of work. A later run goes on.
	historyAtOnce = 5000
	// historyRuns is how many runs it takes, on average, until each cluster had
	// its turn: what is kept for 30 days need not be searched every 5 minutes.
	historyRuns = 12
)

const (
	// sweepGap lies between the sweeps of two clusters. Each reads a whole list
	// of nodes, and the events of all clusters would wait behind 200 of them.
	sweepGap = 1200 * time.Millisecond
	// sweepSpread bounds how much later than the first the last sweep is: it is
	// over before the next round, which comes after five minutes.
	sweepSpread = 4 * time.Minute
)

// reclaimIdle asks for a sweep of every cluster, one after the other, and has
// the ledger delete what is too old. The sweeps run as scale_down, each in its
// cluster's session, so that they never run beside a decision for the same
// cluster.
func (a *app) reclaimIdle(ctx context.Context, _ invocation, log *logRecord) error {
	var failed []error
	began := a.Now()
	gap := min(sweepGap, sweepSpread/time.Duration(max(1, len(a.Clusters))))
	for i, cluster := range a.Clusters {
		timer := event.ScaleDownTimer{
			Cluster: cluster, Purpose: event.Recheck, Generation: began.UnixMilli(), Due: began.Add(time.Duration(i) * gap),
		}
		if _, err := a.Rechecks.ScheduleTimer(ctx, timer); err != nil {
			failed = append(failed, fmt.Errorf("ask for a sweep of cluster %s: %w", cluster, err))
		}
	}
	log.add(logging.Count, len(a.Clusters)-len(failed))
	purged, err := a.purge(ctx, began.AddDate(0, 0, -historyKept))
	log.add("purged", purged)
	return errors.Join(errors.Join(failed...), err)
}

// purge deletes the history of some clusters, which chance picks: no run knows
// of the one before it.
func (a *app) purge(ctx context.Context, before time.Time) (purged int, err error) {
	var failed []error
	all := len(a.Clusters)
	for i, at := range rand.Perm(all) {
		if i*historyRuns >= all || purged >= historyAtOnce {
			break
		}
		n, err := a.History.Purge(ctx, a.Clusters[at], before)
		if purged += n; err != nil {
			failed = append(failed, err)
		}
	}
	return purged, errors.Join(failed...)
}
