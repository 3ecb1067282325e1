package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/logging"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/internal/spool"
)

// Reader is what the agent asks of Slurm; slurm.Client is one.
type Reader interface {
	Gate(ctx context.Context) (slurm.Counters, error)
	Nodes(ctx context.Context) (nodes []slurm.Node, dropped int, err error)
	Jobs(ctx context.Context, query slurm.JobQuery) (jobs []slurm.Job, dropped int, err error)
	Partitions(ctx context.Context) ([]slurm.Partition, error)
	Config(ctx context.Context) (slurm.Config, error)
	Ping(ctx context.Context) ([]slurm.Controller, error)
	LastBusy(ctx context.Context) (map[slurm.NodeName]time.Time, error)
}

// Updater is what the agent changes in Slurm.
type Updater interface {
	UpdateNodes(ctx context.Context, nodes []slurm.NodeName, action slurm.NodeAction, reason string) (slurm.Outcome, error)
	UpdateJobs(ctx context.Context, jobs []slurm.JobRef, change slurm.JobUpdate) (slurm.Outcome, error)
	UpdatePartition(ctx context.Context, partition slurm.PartitionName, state slurm.PartitionState) (slurm.Outcome, error)
	SetNodeAddr(ctx context.Context, node slurm.NodeName, address string) (slurm.Outcome, error)
	ExcludeFromSuspend(ctx context.Context, nodes []slurm.NodeName, exclusion slurm.SuspendExclusion) (slurm.Outcome, error)
}

// Slurm is one controller.
type Slurm interface {
	Reader
	Updater
}

// Bus is the part of Service Bus that the agent needs.
type Bus interface {
	Send(ctx context.Context, queue string, m bus.Message) error
	AcceptSession(ctx context.Context, queue, session string) (Session, error)
}

// Session is the exclusive hold of the command queue's session; bus.Session is
// one. Its methods are called from several goroutines at once.
type Session interface {
	State(ctx context.Context) ([]byte, error)
	SetState(ctx context.Context, state []byte) error
	Receive(ctx context.Context, limit int) ([]bus.Received, error)
	Complete(ctx context.Context, m bus.Received) error
	RenewLock(ctx context.Context) error
	Close(ctx context.Context) error
}

// ServiceBus makes a Bus of a client.
func ServiceBus(client *bus.Client) Bus { return serviceBus{client} }

type serviceBus struct{ *bus.Client }

func (s serviceBus) AcceptSession(ctx context.Context, queue, session string) (Session, error) {
	accepted, err := s.Client.AcceptSession(ctx, queue, session)
	if err != nil {
		return nil, err
	}
	return accepted, nil
}

// Clock tells the head node's time. Differences between two of its times must
// be monotonic, as those of time.Now are.
type Clock interface {
	Now() time.Time
	// After gives a value once d has passed.
	After(d time.Duration) <-chan time.Time
}

type systemClock struct{}

func (systemClock) Now() time.Time                         { return time.Now() }
func (systemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Nodearray is a nodearray of the policy. The nodes and partitions of all of
// them are the allow-list: commands touch no others.
type Nodearray struct {
	Name string
	// Partition may be empty, and several nodearrays may share one.
	Partition slurm.PartitionName
	Nodes     []slurm.NodeName
}

// DefaultLock is the lock duration that infra/queues.json gives the command
// queue. A session that could not be renewed for three quarters of it counts
// as lost, before the broker gives it to another agent.
const DefaultLock = time.Minute

// Options are what an agent is made of. All fields without a default are
// needed.
type Options struct {
	// Cluster is Slurm's ClusterName and the name of the session.
	Cluster    string
	Nodearrays []Nodearray
	Slurm      Slurm
	Bus        Bus
	// Spool is burst-hook's directory; Pokes gives a value when something new
	// is in it, and may be nil.
	Spool string
	Pokes <-chan struct{}
	// PressureQueue takes the snapshots, CommandQueue holds the session.
	PressureQueue, CommandQueue string
	// Host is this machine's name, which on a pair of controllers decides who
	// is in charge; Version is the program's.
	Host, Version string
	// Poll is the pause between cheap looks, Heartbeat the longest pause
	// between snapshots, give or take a fifth.
	Poll, Heartbeat time.Duration
	// Lock is the lock duration of the command queue; DefaultLock if zero.
	Lock   time.Duration
	Logger *slog.Logger
	// Clock defaults to the machine's, Random, which gives numbers from 0 to
	// below 1, to the runtime's.
	Clock  Clock
	Random func() float64
}

// Agent is one agent. Only Run may use it.
type Agent struct {
	Options
	arrays     []Nodearray
	owner      map[slurm.NodeName]int // index into arrays
	cloud      partitionSet           // the partitions of the policy
	memory     memory
	problems   problems
	conditions conditions
	// noticesLeft bounds the jobs that are written on.
	noticesLeft allowance
	// controllers are the hosts of SlurmctldHost, once known.
	controllers []string
}

// New makes an agent. The error, of kind fault.Invalid, names what is missing.
func New(o Options) (*Agent, error) {
	for name, missing := range map[string]bool{
		"Cluster": o.Cluster == "", "Nodearrays": len(o.Nodearrays) == 0, "Slurm": o.Slurm == nil, "Bus": o.Bus == nil,
		"Spool": o.Spool == "", "PressureQueue": o.PressureQueue == "", "CommandQueue": o.CommandQueue == "",
		"Poll": o.Poll <= 0, "Heartbeat": o.Heartbeat <= 0, "Logger": o.Logger == nil,
	} {
		if missing {
			return nil, fault.Newf(fault.Invalid, "make agent: option %s is missing", name)
		}
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Lock <= 0 {
		o.Lock = DefaultLock
	}
	a := &Agent{Options: o, arrays: slices.Clone(o.Nodearrays), owner: map[slurm.NodeName]int{}, cloud: partitionSet{}, memory: newMemory()}
	a.noticesLeft.perMinute = noticesPerMinute
	a.conditions.logger = o.Logger
	for i, array := range a.arrays {
		if array.Partition != "" {
			a.cloud[array.Partition] = true
		}
		for _, node := range array.Nodes {
			if other, double := a.owner[node]; double {
				return nil, fault.Newf(fault.Invalid, "make agent: node %s is in %s and in %s", node, a.arrays[other].Name, array.Name)
			}
			a.owner[node] = i
		}
	}
	return a, nil
}

const (
	// standbyPause is the time between two attempts to be in charge.
	standbyPause = 5 * time.Second
	// sweepAge is the age of a temporary spool file whose writer must be dead.
	sweepAge = 10 * time.Minute
	// closeTimeout bounds the return of the session.
	closeTimeout = 5 * time.Second
)

// Run works until ctx ends. Whatever goes wrong meanwhile is logged once and
// tried again.
func (a *Agent) Run(ctx context.Context) error {
	if _, err := spool.Sweep(a.Spool, sweepAge); err != nil {
		return fmt.Errorf("run agent of cluster %s: %w", a.Cluster, err)
	}
	for ctx.Err() == nil {
		if a.mayLead(ctx) {
			err := a.lead(ctx)
			a.conditions.report("taking charge", err)
		}
		a.pause(ctx, standbyPause)
	}
	return nil
}

// mayLead reports whether this host's slurmctld is the one in charge. With a
// single controller it always is.
func (a *Agent) mayLead(ctx context.Context) bool {
	err := a.checkController(ctx)
	a.conditions.report("finding the controller", err)
	return err == nil
}

var errOtherController = errors.New("another host's slurmctld is in charge")

func (a *Agent) checkController(ctx context.Context) error {
	if a.controllers == nil {
		config, err := a.Slurm.Config(ctx)
		if err != nil {
			return err
		}
		if !strings.EqualFold(string(config.ClusterName), a.Cluster) {
			return fault.Newf(fault.Invalid, "slurmctld belongs to cluster %q, the policy to %q", config.ClusterName, a.Cluster)
		}
		a.controllers = config.ControllerHosts
	}
	if len(a.controllers) < 2 {
		return nil
	}
	answers, err := a.Slurm.Ping(ctx)
	if err != nil {
		return err
	}
	// A backup answers ping, too: of those that are up, the first is in charge.
	for _, c := range answers {
		if !c.Up {
			continue
		}
		if sameHost(c.Host, a.Host) {
			return nil
		}
		return fmt.Errorf("%w: %s", errOtherController, c.Host)
	}
	return fault.Newf(fault.Transient, "no slurmctld answers")
}

// sameHost compares host names without their domains.
func sameHost(a, b string) bool {
	short := func(name string) string {
		name, _, _ = strings.Cut(name, ".")
		return name
	}
	return strings.EqualFold(short(a), short(b))
}

// lead accepts the session, works while it is held, and gives it back. It
// returns nil when the work ended as it should.
func (a *Agent) lead(ctx context.Context) error {
	accepting := a.Clock.Now()
	session, err := a.Bus.AcceptSession(ctx, a.CommandQueue, a.Cluster)
	if errors.Is(err, bus.ErrSessionLocked) {
		return errStandby // without the broker's words, which differ each time
	}
	if err != nil {
		return err
	}
	defer func() {
		a.crash(pointEnded)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if err := session.Close(ctx); err != nil {
			a.Logger.Debug("command session was not given back", logging.Error, err)
		}
		a.crash(pointGivenBack)
	}()
	a.crash(pointAccepted)
	t, err := a.begin(ctx, session, accepting)
	if err != nil {
		return err
	}
	a.conditions.report("taking charge", nil)
	a.Logger.Info("took charge", logging.Cluster, a.Cluster, logging.Epoch, t.charge.Epoch)
	err = t.run(ctx)
	a.Logger.Info("charge ended", logging.Cluster, a.Cluster, logging.Epoch, t.charge.Epoch, logging.Error, err)
	return nil
}

var errStandby = errors.New("another agent is in charge")

// pause waits, but no longer than ctx lasts.
func (a *Agent) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-a.Clock.After(d):
	}
}
