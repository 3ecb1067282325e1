package reconcile_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

const clusterName = "onprem"

// site is a cluster with one nodearray of four nodes, of which three may exist.
type site struct {
	t      *testing.T
	now    time.Time
	ledger *ledger.Memory
	cloud  *fakeCloud
	outbox *fakeOutbox
	policy burst.Policy
	text   string // of the packaged policy, and what reads another one
	parse  func(string) (burst.Policy, error)
	rec    *reconcile.Reconciler

	processes int
	epoch     int64
	sequence  int64
	nodes     map[string]event.NodeGroup
	resumes   []event.PoweringUpNode
	results   []event.CommandResult

	pending    []event.PendingGroup
	running    []event.RunningJob
	ended      []event.EndedJob
	local      []event.LocalPartition
	partitions []event.Partition

	since map[string]time.Time
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{
		t: t, epoch: 1, now: time.Now().UTC().Truncate(time.Second).Add(-6 * time.Hour), ledger: ledger.NewMemory(),
		nodes: map[string]event.NodeGroup{}, since: map[string]time.Time{},
		policy: burst.Policy{
			Version: "v1", Cluster: clusterName, MaxActAge: 90 * time.Second,
			Nodearrays: []burst.Nodearray{{
				Name: "htc", Partition: "htc", Nodes: []burst.NodeName{"htc-1", "htc-2", "htc-3", "htc-4"}, MachineType: "Standard_F4s_v2",
				MaxNodes: 3, IdleTimeout: time.Minute, BootDeadline: 10 * time.Minute,
			}},
		},
	}
	s.cloud = &fakeCloud{site: s, nodes: map[string]cyclecloud.Node{}, requests: map[string][]string{}, available: 100, most: 100}
	s.outbox = &fakeOutbox{}
	s.restart()
	return s
}

// restart is a new process: nothing is remembered but the ledger.
func (s *site) restart() {
	s.rec = s.process(s.ledger, s.cloud, s.outbox)
}

// process is one more process of the app.
func (s *site) process(l reconcile.Ledger, c reconcile.CycleCloud, o reconcile.Outbox) *reconcile.Reconciler {
	s.processes++
	return reconcile.New(reconcile.Options{
		Ledger: l, Outbox: o, Owner: fmt.Sprintf("test-%d", s.processes), Now: func() time.Time { return s.now },
		Logger: slog.New(slog.DiscardHandler),
		Clusters: map[string]reconcile.Cluster{
			clusterName: {Policy: s.policy, PolicyText: s.text, ParsePolicy: s.parse, CycleCloud: c, CycleCloudCluster: "Burst"},
		},
	})
}

func (s *site) after(d time.Duration) { s.now = s.now.Add(d) }

// in puts a node into a Slurm state: base state and flags.
func (s *site) in(node, base string, flags ...string) {
	g := event.NodeGroup{State: base, Flags: flags, Nodes: node, Since: s.now}
	s.resumes = slices.DeleteFunc(s.resumes, func(r event.PoweringUpNode) bool { return r.Node == node })
	if slices.Contains(flags, "DRAIN") && slices.Contains(flags, "POWERED_DOWN") {
		g.Reason = event.FenceReason
	}
	if base == "IDLE" && slices.Equal(flags, []string{"POWERED_DOWN"}) {
		delete(s.nodes, node)
		return
	}
	s.nodes[node] = g
}

// resume puts a node into POWERING_UP for a requeueable batch job.
func (s *site) resume(node, resumeID string, jobs ...event.BootJob) {
	s.in(node, "ALLOCATED", "NOT_RESPONDING", "POWERING_UP")
	s.resumes = append(s.resumes, event.PoweringUpNode{Node: node, ResumeID: resumeID, Jobs: jobs})
}

func (s *site) pressure() event.QueuePressure {
	s.sequence++
	c := event.CloudNodes{Nodearray: "htc", Defined: 4, Usable: 4 - len(s.nodes), PoweredDown: 4 - len(s.nodes), PoweringUp: s.resumes}
	for _, node := range slices.Sorted(maps.Keys(s.nodes)) {
		c.Groups = append(c.Groups, s.nodes[node])
	}
	return event.QueuePressure{
		Cluster: clusterName, Epoch: s.epoch, Sequence: s.sequence, TakenAt: s.now, Cause: event.CausePoll,
		CloudNodes: []event.CloudNodes{c}, CommandResults: s.results,
		Pending: s.pending, Running: s.running, Ended: s.ended, Local: s.local, Partitions: s.partitions,
	}
}

// report sends a snapshot of Slurm as it is now.
func (s *site) report() reconcile.Result {
	s.t.Helper()
	result, err := s.rec.Pressure(s.t.Context(), s.pressure(), s.now)
	if err != nil {
		s.t.Fatalf("Pressure: %v", err)
	}
	return result
}

// fire lets the armed timer of a purpose fire.
func (s *site) fire(purpose event.TimerPurpose) reconcile.Result {
	s.t.Helper()
	for _, timer := range slices.Backward(s.outbox.timers) {
		if timer.Purpose == purpose {
			if timer.Due.After(s.now) {
				s.now = timer.Due
			}
			result, err := s.rec.Timer(s.t.Context(), timer)
			if err != nil {
				s.t.Fatalf("Timer: %v", err)
			}
			return result
		}
	}
	s.t.Fatalf("no timer %s is armed", purpose)
	return reconcile.Result{}
}

// answer makes Slurm's agent answer all commands with ok.
func (s *site) answer() {
	s.results = nil
	for _, c := range s.outbox.commands {
		s.results = append(s.results, event.CommandResult{ID: c.ID, Generation: c.Generation, State: event.ResultOK})
	}
}

func (s *site) kinds() []string {
	var kinds []string
	for _, c := range s.outbox.commands {
		kinds = append(kinds, string(c.Kind)+" "+c.Nodes)
	}
	return kinds
}

func (s *site) row(node string) ledger.Node {
	s.t.Helper()
	rows, err := s.ledger.Nodes(s.t.Context(), clusterName)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range rows {
		if r.Name == node {
			return r
		}
	}
	return ledger.Node{}
}

func (s *site) revision() int64 {
	s.t.Helper()
	p, err := s.ledger.Load(s.t.Context(), clusterName)
	if err != nil {
		s.t.Fatal(err)
	}
	return p.Cluster.Revision
}

func (s *site) intents() []ledger.Intent {
	s.t.Helper()
	p, err := s.ledger.Load(s.t.Context(), clusterName)
	if err != nil {
		s.t.Fatal(err)
	}
	return p.Intents
}

func (s *site) want(name string, got, want any) {
	s.t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		s.t.Errorf("%s: got %s, want %s", name, g, w)
	}
}

// fakeCloud is a CycleCloud that does at once what it is asked to.
type fakeCloud struct {
	site      *site
	nodes     map[string]cyclecloud.Node // by name
	requests  map[string][]string        // names by request id
	ids       int
	available int
	most      int
	calls     []string
	refuse    map[string]string // message by name
	down      error
	failing   map[string]error // by call
	// lose makes the next create succeed and its answer get lost.
	lose bool
	// onCreate and onTerminate hear of every VM that is made or given up.
	onCreate, onTerminate func(name string)
}

func (f *fakeCloud) call(what string) error {
	f.calls = append(f.calls, what)
	if err := f.failing[what]; err != nil {
		return err
	}
	return f.down
}

func (f *fakeCloud) Status(context.Context, cyclecloud.ClusterName, bool) (cyclecloud.ClusterStatus, error) {
	if err := f.call("status"); err != nil {
		return cyclecloud.ClusterStatus{}, err
	}
	s := cyclecloud.ClusterStatus{State: "Started", TargetState: "Started"}
	for _, a := range f.site.policy.Nodearrays {
		s.NodeArrays = append(s.NodeArrays, cyclecloud.NodeArray{
			Name: cyclecloud.NodeArrayName(a.Name), MaxCount: &f.most, Buckets: []cyclecloud.Bucket{{
				MachineType: cyclecloud.MachineType(a.MachineType), Valid: true, AvailableCount: &f.available, MaxCount: &f.most,
			}},
		})
	}
	return s, nil
}

func (f *fakeCloud) Nodes(context.Context, cyclecloud.ClusterName) ([]cyclecloud.Node, error) {
	return slices.Collect(maps.Values(f.nodes)), f.call("nodes")
}

func (f *fakeCloud) NodesByRequest(_ context.Context, _ cyclecloud.ClusterName, id cyclecloud.RequestID) ([]cyclecloud.Node, bool, error) {
	if err := f.call("nodes?request_id"); err != nil {
		return nil, false, err
	}
	names, known := f.requests[string(id)]
	var nodes []cyclecloud.Node
	for _, name := range names {
		if n, ok := f.nodes[name]; ok {
			nodes = append(nodes, n)
		}
	}
	return nodes, known, nil
}

func (f *fakeCloud) CreateEncoded(_ context.Context, _ cyclecloud.ClusterName, body []byte) (cyclecloud.CreateResult, error) {
	if err := f.call("create"); err != nil {
		return cyclecloud.CreateResult{}, err
	}
	var request struct {
		RequestID string `json:"requestId"`
		Sets      []struct {
			NodeArray  string `json:"nodearray"`
			NameFormat string `json:"nameFormat"`
		} `json:"sets"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return cyclecloud.CreateResult{}, fault.New(fault.Invalid, "create", err)
	}
	if _, known := f.requests[request.RequestID]; known {
		return cyclecloud.CreateResult{AlreadyAccepted: true}, nil
	}
	var result cyclecloud.CreateResult
	f.requests[request.RequestID] = nil
	for _, set := range request.Sets {
		message, no := f.refuse[set.NameFormat]
		if _, taken := f.nodes[set.NameFormat]; taken {
			message, no = "the name is taken", true
		}
		if no {
			result.Sets = append(result.Sets, cyclecloud.SetResult{Asked: 1, Message: message})
			continue
		}
		f.ids++
		f.nodes[set.NameFormat] = cyclecloud.Node{
			ID: cyclecloud.NodeID(fmt.Sprintf("id-%d", f.ids)), Name: cyclecloud.NodeName(set.NameFormat), NodeArray: cyclecloud.NodeArrayName(set.NodeArray),
			Status: cyclecloud.StatusPreparing, StatusText: "Preparing", TargetState: cyclecloud.StatusStarted,
		}
		if f.onCreate != nil {
			f.onCreate(set.NameFormat)
		}
		f.requests[request.RequestID] = append(f.requests[request.RequestID], set.NameFormat)
		result.Sets = append(result.Sets, cyclecloud.SetResult{Asked: 1, Added: 1})
	}
	if f.lose {
		f.lose = false
		return cyclecloud.CreateResult{}, fault.New(fault.Transient, "create", errors.New("connection reset"))
	}
	return result, nil
}

func (f *fakeCloud) ActEncoded(_ context.Context, _ cyclecloud.ClusterName, action cyclecloud.Action, body []byte) (cyclecloud.NodeResult, error) {
	if err := f.call(action.String()); err != nil {
		return cyclecloud.NodeResult{}, err
	}
	var request struct {
		IDs []cyclecloud.NodeID `json:"ids"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return cyclecloud.NodeResult{}, fault.New(fault.Invalid, "terminate", err)
	}
	var result cyclecloud.NodeResult
	for _, id := range request.IDs {
		outcome := cyclecloud.OutcomeNotFound
		for name, n := range f.nodes {
			if n.ID == id {
				outcome = cyclecloud.OutcomeAccepted
				if f.onTerminate != nil {
					f.onTerminate(name)
				}
				n.Status, n.StatusText, n.TargetState = cyclecloud.StatusTerminating, "Terminating", cyclecloud.StatusTerminated
				f.nodes[name] = n
			}
		}
		result.Nodes = append(result.Nodes, cyclecloud.NodeOutcome{ID: id, Outcome: outcome})
	}
	return result, nil
}

// fakeOutbox keeps what was sent.
type fakeOutbox struct {
	commands []event.SlurmCommand
	timers   []event.ScaleDownTimer
	down     error
}

func (f *fakeOutbox) SendCommand(_ context.Context, c event.SlurmCommand) error {
	if f.down == nil {
		f.commands = append(f.commands, c)
	}
	return f.down
}

func (f *fakeOutbox) ScheduleTimer(_ context.Context, t event.ScaleDownTimer) (int64, error) {
	if f.down == nil {
		f.timers = append(f.timers, t)
	}
	return int64(len(f.timers)), f.down
}

// hangingCloud takes a create and does not answer before the caller's time is
// over.
type hangingCloud struct {
	reconcile.CycleCloud
	end func()
}

func (c hangingCloud) CreateEncoded(ctx context.Context, _ cyclecloud.ClusterName, _ []byte) (cyclecloud.CreateResult, error) {
	c.end()
	<-ctx.Done()
	return cyclecloud.CreateResult{}, fault.New(fault.Transient, "create", ctx.Err())
}
