package handlers_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slurmburst/slurmburst/handlers"
	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// hung is every dependency of the app. The operation at hangs until the call's time
// is over; the others answer.
type hung struct {
	*ledger.Memory
	outbox
	at      string
	reached int
}

func (h *hung) pass(ctx context.Context, operation string) error {
	if operation != h.at {
		return nil
	}
	h.reached++
	<-ctx.Done()
	return fault.New(fault.Transient, operation, ctx.Err())
}

func (h *hung) Load(ctx context.Context, cluster string) (ledger.Partition, error) {
	if err := h.pass(ctx, "load"); err != nil {
		return ledger.Partition{}, err
	}
	return h.Memory.Load(ctx, cluster)
}

func (h *hung) Commit(ctx context.Context, c ledger.Commit) (ledger.Committed, error) {
	if err := h.pass(ctx, "commit"); err != nil {
		return ledger.Committed{}, err
	}
	return h.Memory.Commit(ctx, c)
}

func (h *hung) PutCommands(ctx context.Context, cluster string, commands []ledger.Command) ([]ledger.Command, []string, error) {
	if err := h.pass(ctx, "write commands"); err != nil {
		return nil, nil, err
	}
	return h.Memory.PutCommands(ctx, cluster, commands)
}

func (h *hung) AppendDecision(ctx context.Context, cluster string, d ledger.Decision) error {
	if err := h.pass(ctx, "write the decision"); err != nil {
		return err
	}
	return h.Memory.AppendDecision(ctx, cluster, d)
}

func (h *hung) Nodes(ctx context.Context, cluster string) ([]ledger.Node, error) {
	if err := h.pass(ctx, "read nodes"); err != nil {
		return nil, err
	}
	return h.Memory.Nodes(ctx, cluster)
}

func (h *hung) Purge(ctx context.Context, cluster string, before time.Time) (int, error) {
	if err := h.pass(ctx, "purge"); err != nil {
		return 0, err
	}
	return h.Memory.Purge(ctx, cluster, before)
}

func (h *hung) SendCommand(ctx context.Context, c event.SlurmCommand) error {
	if err := h.pass(ctx, "send a command"); err != nil {
		return err
	}
	return h.outbox.SendCommand(ctx, c)
}

func (h *hung) ScheduleTimer(ctx context.Context, t event.ScaleDownTimer) (int64, error) {
	if err := h.pass(ctx, "schedule a timer"); err != nil {
		return 0, err
	}
	return h.outbox.ScheduleTimer(ctx, t)
}

func (h *hung) Reject(ctx context.Context, r event.Rejected) error {
	if err := h.pass(ctx, "reject"); err != nil {
		return err
	}
	return h.outbox.Reject(ctx, r)
}

// hungCloud is the CycleCloud of a hung world: its lists are another type's methods,
// for the ledger has a Nodes too.
type hungCloud struct {
	reconcile.CycleCloud
	h *hung
}

func (c hungCloud) Nodes(ctx context.Context, _ cyclecloud.ClusterName) ([]cyclecloud.Node, error) {
	return nil, c.h.pass(ctx, "list CycleCloud's nodes")
}

// newHungWorld is an app with the real core, whose operation at will hang.
func newHungWorld(t *testing.T) (*world, *hung) {
	t.Helper()
	h := &hung{Memory: ledger.NewMemory()}
	w := newWorld(t, func(o *handlers.Options) {
		policy := burst.Policy{Version: "v1", Cluster: "onprem", MaxActAge: 90 * time.Second, Nodearrays: []burst.Nodearray{{
			Name: "htc", Partition: "htc", Nodes: []burst.NodeName{"htc-1", "htc-2"}, MaxNodes: 1,
			IdleTimeout: time.Minute, BootDeadline: time.Minute,
		}}}
		o.Reconciler = reconcile.New(reconcile.Options{
			Ledger: h, Outbox: h, Owner: "test", Now: time.Now, Logger: o.Logger,
			Clusters: map[string]reconcile.Cluster{"onprem": {Policy: policy, CycleCloud: hungCloud{h: h}, CycleCloudCluster: "Burst"}},
		})
		o.Rejected, o.Rechecks, o.History = h, h, h
	})
	return w, h
}

// The app's own deadline ends every call, whichever dependency hangs at whichever
// step: long before the host kills the process with all its calls. A snapshot is
// left to the next one; whatever else has begun is given back.
func TestTheDeadlineEndsEveryCallWhateverHangs(t *testing.T) {
	noise := delivery{body: []byte("noise")}.invocation
	for _, c := range []struct {
		function, hangs string
		body            func(*testing.T) string
		code            int
	}{
		{"queue_pressure", "load", pressureBody, 200},
		{"queue_pressure", "commit", pressureBody, 200},
		{"queue_pressure", "write commands", pressureBody, 200},
		{"queue_pressure", "write the decision", pressureBody, 200},
		{"queue_pressure", "send a command", pressureBody, 200},
		{"queue_pressure", "reject", func(*testing.T) string { return noise() }, 500},
		{"scale_down", "load", sweepBody, 500},
		{"scale_down", "commit", sweepBody, 500},
		{"scale_down", "read nodes", sweepBody, 500},
		{"scale_down", "list CycleCloud's nodes", sweepBody, 500},
		{"scale_down", "reject", func(*testing.T) string { return noise() }, 500},
		{"reclaim_idle", "schedule a timer", func(*testing.T) string { return "{}" }, 500},
		{"reclaim_idle", "purge", func(*testing.T) string { return "{}" }, 500},
	} {
		t.Run(c.function+" when it hangs: "+c.hangs, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, h := newHungWorld(t)
				if c.function == "scale_down" { // a sweep is of a cluster that is known
					if code := w.post("queue_pressure", snapshot(t, 1).invocation()); code != 200 {
						t.Fatalf("status %d; log %s", code, w.log)
					}
				}
				h.at = c.hangs
				began := time.Now()
				code := w.post(c.function, c.body(t))
				if took := time.Since(began); took != time.Minute || h.reached == 0 {
					t.Errorf("took %v and hung %d times, want the minute that the app gives itself; log %s", took, h.reached, w.log)
				}
				if code != c.code {
					t.Errorf("status %d, want %d; log %s", code, c.code, w.log)
				}
				if !strings.Contains(w.log.String(), "deadline exceeded") {
					t.Errorf("the log does not say what happened: %s", w.log)
				}
			})
		})
	}
}

func pressureBody(t *testing.T) string { return snapshot(t, 1).invocation() }

func sweepBody(t *testing.T) string { return timer(t, "").invocation() }

// hungTables answer nothing until the call's time is over.
type hungTables struct{}

func wait[T any](ctx context.Context) ([]T, string, error) {
	<-ctx.Done()
	return nil, "", fmt.Errorf("list: %w", ctx.Err())
}

func (hungTables) ListClusters(ctx context.Context, _ ledger.Page) ([]ledger.ClusterStatus, string, error) {
	return wait[ledger.ClusterStatus](ctx)
}

func (hungTables) ListNodearrays(ctx context.Context, _ ledger.NodearrayFilter, _ ledger.Page) ([]ledger.Nodearray, string, error) {
	return wait[ledger.Nodearray](ctx)
}

func (hungTables) ListNodes(ctx context.Context, _ ledger.NodeFilter, _ ledger.Page) ([]ledger.Node, string, error) {
	return wait[ledger.Node](ctx)
}

func (hungTables) ListDecisions(ctx context.Context, _ ledger.DecisionFilter, _ ledger.Page) ([]ledger.Decision, string, error) {
	return wait[ledger.Decision](ctx)
}

func (hungTables) ListCommands(ctx context.Context, _ ledger.CommandFilter, _ ledger.Page) ([]ledger.Command, string, error) {
	return wait[ledger.Command](ctx)
}

func (hungTables) ListFailures(ctx context.Context, _ ledger.FailureFilter, _ ledger.Page) ([]ledger.Failure, string, error) {
	return wait[ledger.Failure](ctx)
}

func (hungTables) ListJobs(ctx context.Context, _ ledger.JobFilter, _ ledger.Page) ([]ledger.Job, string, error) {
	return wait[ledger.Job](ctx)
}

func (hungTables) ListSpend(ctx context.Context, _ ledger.SpendFilter, _ ledger.Page) ([]ledger.Spend, string, error) {
	return wait[ledger.Spend](ctx)
}

func TestEveryTableIsRefusedInTimeWhenTheTablesHang(t *testing.T) {
	w := newWorld(t, nil)
	// The app itself says which tables there are.
	text := w.page("/api/state/v1/none", http.StatusBadRequest).Error
	_, list, _ := strings.Cut(text, "ask for ")
	names := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	names = slices.DeleteFunc(names, func(name string) bool { return name == "or" })
	if len(names) < 8 {
		t.Fatalf("tables %q of %q", names, text)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(o *handlers.Options) { o.State = hungTables{} })
				began := time.Now()
				p := w.page("/api/state/v1/"+name, http.StatusServiceUnavailable)
				if took := time.Since(began); took != time.Minute {
					t.Errorf("took %v, want the minute that the app gives itself", took)
				}
				if !strings.Contains(p.Error, "try again") {
					t.Errorf("answer %+v", p)
				}
			})
		})
	}
}
