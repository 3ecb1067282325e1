package handlers

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// reconciler looks at a cluster. A repeated call changes nothing more.
type reconciler interface {
	Pressure(ctx context.Context, q event.QueuePressure, enqueued time.Time) (reconcile.Result, error)
	Timer(ctx context.Context, t event.ScaleDownTimer) (reconcile.Result, error)
}

// rejecter moves a message that cannot succeed out of the way. Doing it twice
// leaves one.
type rejecter interface {
	Reject(ctx context.Context, r event.Rejected) error
}

// rechecker asks for a sweep of a cluster.
type rechecker interface {
	ScheduleTimer(ctx context.Context, timer event.ScaleDownTimer) (int64, error)
}

// purger deletes rows of a cluster that ended before a moment, as many as one
// call may, and says how many. A repeated call goes on where it stopped.
type purger interface {
	Purge(ctx context.Context, cluster string, before time.Time) (int, error)
}

// stateReader reads the public tables, page by page.
type stateReader interface {
	ListClusters(ctx context.Context, wanted ledger.Page) ([]ledger.ClusterStatus, string, error)
	ListNodearrays(ctx context.Context, f ledger.NodearrayFilter, wanted ledger.Page) ([]ledger.Nodearray, string, error)
	ListNodes(ctx context.Context, f ledger.NodeFilter, wanted ledger.Page) ([]ledger.Node, string, error)
	ListDecisions(ctx context.Context, f ledger.DecisionFilter, wanted ledger.Page) ([]ledger.Decision, string, error)
	ListCommands(ctx context.Context, f ledger.CommandFilter, wanted ledger.Page) ([]ledger.Command, string, error)
	ListFailures(ctx context.Context, f ledger.FailureFilter, wanted ledger.Page) ([]ledger.Failure, string, error)
	ListJobs(ctx context.Context, f ledger.JobFilter, wanted ledger.Page) ([]ledger.Job, string, error)
	ListSpend(ctx context.Context, f ledger.SpendFilter, wanted ledger.Page) ([]ledger.Spend, string, error)
}

// Options are what the app needs.
type Options struct {
	Reconciler reconciler
	Rejected   rejecter
	Rechecks   rechecker
	State      stateReader
	History    purger
	// Clusters are the Slurm clusters that policies name.
	Clusters []string
	// PressureQueue and ScaleDownQueue are the physical queue names, for the
	// records of rejected messages.
	PressureQueue, ScaleDownQueue string
	// Deadline ends the work of one invocation, well before the host's
	// functionTimeout would kill every call of the process.
	Deadline time.Duration
	Now      func() time.Time
	Logger   *slog.Logger
}

type app struct{ Options }

// New gives the handler of the whole app. The table below is its contents:
// each function's name is that of its folder under functions/ and of its file
// here.
func New(o Options) http.Handler {
	a := &app{o}
	mux := http.NewServeMux()
	for name, invoke := range map[string]invocationFunc{
		"queue_pressure": a.queuePressure, // a snapshot of Slurm has arrived
		"scale_down":     a.scaleDown,     // a deadline has come, or a sweep is wanted
		"reclaim_idle":   a.reclaimIdle,   // the schedule asks for sweeps
	} {
		mux.Handle("POST /"+name, a.invocation(name, invoke))
	}
	mux.Handle("GET /api/state/v1/", a.forwarded("state", a.state)) // admins read the tables
	// The host asks for / until anything answers, and later as a ping.
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}
