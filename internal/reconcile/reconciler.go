package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// Ledger keeps what was decided. Every method may be repeated.
type Ledger interface {
	Load(ctx context.Context, cluster string) (ledger.Partition, error)
	Commit(ctx context.Context, c ledger.Commit) (ledger.Committed, error)
	NoteHeartbeat(ctx context.Context, cluster string, beat ledger.Heartbeat) error
	UpdateIntent(ctx context.Context, cluster string, intent ledger.Intent) (ledger.Intent, error)
	DeleteIntents(ctx context.Context, cluster string, intents []ledger.Intent) error
	Nodes(ctx context.Context, cluster string) ([]ledger.Node, error)
	NodesSince(ctx context.Context, cluster string, revision int64) ([]ledger.Node, error)
	NodesNamed(ctx context.Context, cluster string, names []string) ([]ledger.Node, error)
	PutNodes(ctx context.Context, cluster string, nodes []ledger.Node) ([]ledger.Node, []string, error)
	Nodearrays(ctx context.Context, cluster string) ([]ledger.Nodearray, error)
	PutNodearrays(ctx context.Context, cluster string, arrays []ledger.Nodearray) ([]ledger.Nodearray, []string, error)
	CommandsInForce(ctx context.Context, cluster string, now time.Time, from string) ([]ledger.Command, error)
	PutCommands(ctx context.Context, cluster string, commands []ledger.Command) ([]ledger.Command, []string, error)
	AppendDecision(ctx context.Context, cluster string, d ledger.Decision) error
	AppendFailures(ctx context.Context, cluster string, failures []ledger.Failure) error
	Groups(ctx context.Context, cluster string, since int64) ([]ledger.Job, error)
	PutJobs(ctx context.Context, cluster string, jobs []ledger.Job) ([]ledger.Job, []string, error)
	DeleteGroups(ctx context.Context, cluster string, groups []ledger.Job) ([]string, error)
	NoteJobs(ctx context.Context, cluster string, jobs []ledger.Job) error
	ListSpend(ctx context.Context, f ledger.SpendFilter, wanted ledger.Page) ([]ledger.Spend, string, error)
	PutSpend(ctx context.Context, cluster string, rows []ledger.Spend) error
	FindPolicy(ctx context.Context, cluster, version string) (ledger.Policy, bool, error)
	ApplyPolicy(ctx context.Context, cluster string, p ledger.Policy) error
}

// CycleCloud is the supply side. Creates and terminates carry a request id and
// may be repeated with the same bytes.
type CycleCloud interface {
	Status(ctx context.Context, cluster cyclecloud.ClusterName, withNodes bool) (cyclecloud.ClusterStatus, error)
	Nodes(ctx context.Context, cluster cyclecloud.ClusterName) ([]cyclecloud.Node, error)
	NodesByRequest(ctx context.Context, cluster cyclecloud.ClusterName, id cyclecloud.RequestID) ([]cyclecloud.Node, bool, error)
	CreateEncoded(ctx context.Context, cluster cyclecloud.ClusterName, body []byte) (cyclecloud.CreateResult, error)
	ActEncoded(ctx context.Context, cluster cyclecloud.ClusterName, action cyclecloud.Action, body []byte) (cyclecloud.NodeResult, error)
}

// Outbox sends what the cloud has to say. A repeated command or timer is
// harmless: its receiver compares generations.
type Outbox interface {
	SendCommand(ctx context.Context, command event.SlurmCommand) error
	// ScheduleTimer gives the broker's sequence number of the timer.
	ScheduleTimer(ctx context.Context, timer event.ScaleDownTimer) (int64, error)
}

// Cluster is one Slurm cluster and the CycleCloud cluster that serves it.
type Cluster struct {
	// Policy is the one that the app was packaged with, PolicyText its file;
	// without the text it is not stored.
	Policy     burst.Policy
	PolicyText string
	// ParsePolicy reads the text of a policy that an admin applied since, and
	// refuses one that this app cannot follow. Without it the packaged policy
	// is in force, whatever the ledger says.
	ParsePolicy func(text string) (burst.Policy, error)
	// CycleCloud is the server, CycleCloudCluster the cluster's name there.
	CycleCloud        CycleCloud
	CycleCloudCluster cyclecloud.ClusterName
}

// Options are what a Reconciler needs.
type Options struct {
	Ledger Ledger
	Outbox Outbox
	// Clusters by Slurm's ClusterName.
	Clusters map[string]Cluster
	// Owner names this process in claims; no two live processes share it.
	Owner  string
	Now    func() time.Time
	Logger *slog.Logger
}

// Reconciler drives clusters towards what their policies ask for. It is safe
// for use by many goroutines and processes at once.
type Reconciler struct {
	Options
	mu    sync.Mutex
	cache map[string]cached
	// By cluster, too.
	policies map[string]followed
	groups   map[string]groupRows
	commands map[string]commandRows
	spend    map[string]spendRows
}

// cached is what this process knows of a cluster's projections.
type cached struct {
	ledgerID string
	// revision is that at which nodes and arrays are exact; 0 where they are not.
	revision int64
	// nodesOf is a revision that nodes are at least as new as; 0 for no nodes.
	nodesOf int64
	nodes   []ledger.Node
	arrays  []ledger.Nodearray
	holds   string // digest of the last recorded holds
}

// New makes a Reconciler.
func New(o Options) *Reconciler {
	return &Reconciler{
		Options: o, cache: map[string]cached{}, policies: map[string]followed{}, groups: map[string]groupRows{},
		commands: map[string]commandRows{}, spend: map[string]spendRows{},
	}
}

// Result says what one call came to, for the log and for metrics.
type Result struct {
	// Outcome is a word: noted, unchanged, decided, duplicate, void.
	Outcome  string
	Revision int64
	Actions  int
	Holds    int
}

// The outcomes of a call.
const (
	// OutcomeNoted is a snapshot that changed nothing.
	OutcomeNoted = "noted"
	// OutcomeDuplicate is a snapshot that a newer one has replaced.
	OutcomeDuplicate = "duplicate"
	// OutcomeVoid is a timer that is not the armed one.
	OutcomeVoid = "void"
	// OutcomeDecided is a look at all facts, whether or not it led to actions.
	OutcomeDecided = "decided"
)

// maxConflicts is how often a pass begins again when another function moved
// the cluster first.
const maxConflicts = 5

// Pressure takes in a snapshot and reconciles its cluster. enqueued is when
// the broker accepted the message: the only clock that snapshot ages rest on.
func (r *Reconciler) Pressure(ctx context.Context, q event.QueuePressure, enqueued time.Time) (Result, error) {
	asOf := enqueued.Add(-time.Duration(q.AgeAtSendMS) * time.Millisecond)
	return r.reconcile(ctx, q.Cluster, trigger{
		name:     "queue_pressure/" + string(q.Cause),
		snapshot: &arrival{pressure: q, asOf: asOf, digest: q.Digest()},
	})
}

// Timer looks at a cluster because a timer fired. A timer that is not the
// armed one is void; one without a nodearray is a sweep.
func (r *Reconciler) Timer(ctx context.Context, t event.ScaleDownTimer) (Result, error) {
	return r.reconcile(ctx, t.Cluster, trigger{
		name:  "scale_down/" + string(t.Purpose),
		timer: &t,
		sweep: t.Nodearray == "",
	})
}

// trigger is why a cluster is looked at.
type trigger struct {
	name     string
	snapshot *arrival
	timer    *event.ScaleDownTimer
	// sweep reads all of CycleCloud's nodes, whatever is known.
	sweep bool
}

// arrival is a snapshot that has just come in.
type arrival struct {
	pressure event.QueuePressure
	asOf     time.Time
	digest   string
}

func (r *Reconciler) reconcile(ctx context.Context, cluster string, t trigger) (Result, error) {
	config, ok := r.Clusters[cluster]
	if !ok {
		return Result{}, fault.Newf(fault.Invalid, "reconcile cluster %q: no policy names it", cluster)
	}
	for try := 1; ; try++ {
		p := &pass{Reconciler: r, name: cluster, config: config, trigger: t}
		result, err := p.run(ctx)
		if err == nil {
			return result, nil
		}
		if errors.Is(err, ledger.ErrConflict) {
			r.distrust(cluster) // somebody moved on: what they wrote is read next time
		} else {
			r.forget(cluster)
		}
		if !errors.Is(err, ledger.ErrConflict) || try == maxConflicts {
			return result, fmt.Errorf("reconcile cluster %s: %w", cluster, err)
		}
		if err := pause(ctx, time.Duration(try)*20*time.Millisecond); err != nil {
			return result, fmt.Errorf("reconcile cluster %s: %w", cluster, err)
		}
	}
}

// pause waits for about d.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Reconciler) remembered(cluster string) cached {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cache[cluster]
}

func (r *Reconciler) remember(cluster string, c cached) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cache[cluster] = c
}

// distrust keeps the nodes as something to begin from, and no longer as exact.
func (r *Reconciler) distrust(cluster string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.cache[cluster]
	c.revision, c.arrays = 0, nil
	r.cache[cluster] = c
}

// forget drops the projections and keeps the digest of the recorded holds.
func (r *Reconciler) forget(cluster string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cache[cluster] = cached{holds: r.cache[cluster].holds}
}
