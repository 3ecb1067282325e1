package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// blow is what happens at a call: the process dies, or the call fails, before
// or after the other side did what it was asked to.
type blow int

const (
	dieBefore blow = iota // which is also dying after the call before
	failBefore
	failAfter
	blows
)

var blowNames = [blows]string{"dies before", "fails before", "fails after"}

// crash is the end of a process.
type crash struct{ call string }

// faults counts the calls of everything that the reconciler talks to and
// strikes at one of them. It guards what it wraps, so that many goroutines may
// use it.
type faults struct {
	mu      sync.Mutex
	at      int // the call to strike, from 1; 0 for none
	how     blow
	calls   int
	struck  string
	byCall  map[string]int
	onlyFor string // count only the calls of this kind
}

// call carries out do, and strikes if it is the time.
func (f *faults) call(name string, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byCall == nil {
		f.byCall = map[string]int{}
	}
	f.byCall[name]++
	if f.onlyFor == "" || f.onlyFor == name {
		f.calls++
	}
	if f.calls != f.at || f.struck != "" || f.onlyFor != "" && f.onlyFor != name {
		return do()
	}
	f.struck = name
	if f.how == failAfter {
		_ = do() // the answer is lost
	}
	if f.how == dieBefore {
		panic(crash{name})
	}
	return fault.New(fault.Transient, name, errors.New("injected"))
}

func (f *faults) tableCalls() (n int) {
	for name, calls := range f.byCall {
		if name[0] == 'L' {
			n += calls
		}
	}
	return n
}

// surviving calls deliver, and reports a crash as an error: the host delivers
// the message again, to a new process.
func surviving(deliver func() error, restart func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			died, ok := p.(crash)
			if !ok {
				panic(p)
			}
			restart()
			err = fmt.Errorf("the process died in %s", died.call)
		}
	}()
	return deliver()
}

// through makes the model's app talk through f, in a new process after each
// crash.
func (m *model) through(f *faults) {
	var app *reconcile.Reconciler
	restart := func() {
		app = m.process(faultyLedger{m.ledger, f}, faultyCloud{m.cloud, f}, faultyOutbox{m.outbox, f})
	}
	restart()
	m.pressureTo = func(ctx context.Context, q event.QueuePressure) error {
		return surviving(func() error { _, err := app.Pressure(ctx, q, m.now); return err }, restart)
	}
	m.timerTo = func(ctx context.Context, timer event.ScaleDownTimer) error {
		return surviving(func() error { _, err := app.Timer(ctx, timer); return err }, restart)
	}
}

// A process may die, or lose an answer, at any call to the tables, CycleCloud or
// Service Bus: every job still runs, nothing is created twice or left over.
func TestEveryCallMayBeTheLast(t *testing.T) {
	whole := &faults{}
	m := newModel(t, 3)
	m.through(whole)
	m.finish(t.Context(), 3)
	if t.Failed() {
		return
	}
	t.Logf("%d calls: %v", whole.calls, whole.byCall)
	for how := range blows {
		first, step := 1, 1
		if how != dieBefore { // an answer that fails ends the pass as a death does
			first, step = int(how), 3
		}
		for n := first; n <= whole.calls; n += step {
			f := &faults{at: n, how: how}
			t.Run(fmt.Sprintf("%s call %d", blowNames[how], n), func(t *testing.T) {
				m := newModel(t, 3)
				m.through(f)
				m.finish(t.Context(), 3)
				if f.struck == "" {
					t.Error("the call was never made")
				}
				if most := 6; m.cloud.ids > most {
					t.Errorf("after %s: %d VMs were made for 3 jobs", f.struck, m.cloud.ids)
				}
				if t.Failed() {
					t.Logf("struck at %s", f.struck)
				}
			})
		}
	}
}

type faultyLedger struct {
	reconcile.Ledger
	f *faults
}

func (l faultyLedger) Load(ctx context.Context, cluster string) (p ledger.Partition, err error) {
	err = l.f.call("L.Load", func() (err error) { p, err = l.Ledger.Load(ctx, cluster); return err })
	return p, err
}

func (l faultyLedger) Commit(ctx context.Context, c ledger.Commit) (done ledger.Committed, err error) {
	err = l.f.call("L.Commit", func() (err error) { done, err = l.Ledger.Commit(ctx, c); return err })
	return done, err
}

func (l faultyLedger) NoteHeartbeat(ctx context.Context, cluster string, beat ledger.Heartbeat) error {
	return l.f.call("L.NoteHeartbeat", func() error { return l.Ledger.NoteHeartbeat(ctx, cluster, beat) })
}

func (l faultyLedger) UpdateIntent(ctx context.Context, cluster string, i ledger.Intent) (done ledger.Intent, err error) {
	err = l.f.call("L.UpdateIntent", func() (err error) { done, err = l.Ledger.UpdateIntent(ctx, cluster, i); return err })
	return done, err
}

func (l faultyLedger) DeleteIntents(ctx context.Context, cluster string, intents []ledger.Intent) error {
	return l.f.call("L.DeleteIntents", func() error { return l.Ledger.DeleteIntents(ctx, cluster, intents) })
}

func (l faultyLedger) Nodes(ctx context.Context, cluster string) (rows []ledger.Node, err error) {
	err = l.f.call("L.Nodes", func() (err error) { rows, err = l.Ledger.Nodes(ctx, cluster); return err })
	return rows, err
}

func (l faultyLedger) NodesSince(ctx context.Context, cluster string, revision int64) (rows []ledger.Node, err error) {
	err = l.f.call("L.NodesSince", func() (err error) { rows, err = l.Ledger.NodesSince(ctx, cluster, revision); return err })
	return rows, err
}

func (l faultyLedger) NodesNamed(ctx context.Context, cluster string, names []string) (rows []ledger.Node, err error) {
	err = l.f.call("L.NodesNamed", func() (err error) { rows, err = l.Ledger.NodesNamed(ctx, cluster, names); return err })
	return rows, err
}

func (l faultyLedger) PutNodes(ctx context.Context, cluster string, rows []ledger.Node) (done []ledger.Node, lost []string, err error) {
	err = l.f.call("L.PutNodes", func() (err error) { done, lost, err = l.Ledger.PutNodes(ctx, cluster, rows); return err })
	return done, lost, err
}

func (l faultyLedger) Nodearrays(ctx context.Context, cluster string) (rows []ledger.Nodearray, err error) {
	err = l.f.call("L.Nodearrays", func() (err error) { rows, err = l.Ledger.Nodearrays(ctx, cluster); return err })
	return rows, err
}

func (l faultyLedger) PutNodearrays(ctx context.Context, cluster string, rows []ledger.Nodearray) (done []ledger.Nodearray, lost []string, err error) {
	err = l.f.call("L.PutNodearrays", func() (err error) { done, lost, err = l.Ledger.PutNodearrays(ctx, cluster, rows); return err })
	return done, lost, err
}

func (l faultyLedger) CommandsInForce(ctx context.Context, cluster string, now time.Time, from string) (rows []ledger.Command, err error) {
	err = l.f.call("L.CommandsInForce", func() (err error) { rows, err = l.Ledger.CommandsInForce(ctx, cluster, now, from); return err })
	return rows, err
}

func (l faultyLedger) PutCommands(ctx context.Context, cluster string, rows []ledger.Command) (done []ledger.Command, lost []string, err error) {
	err = l.f.call("L.PutCommands", func() (err error) { done, lost, err = l.Ledger.PutCommands(ctx, cluster, rows); return err })
	return done, lost, err
}

func (l faultyLedger) AppendDecision(ctx context.Context, cluster string, d ledger.Decision) error {
	return l.f.call("L.AppendDecision", func() error { return l.Ledger.AppendDecision(ctx, cluster, d) })
}

func (l faultyLedger) AppendFailures(ctx context.Context, cluster string, failures []ledger.Failure) error {
	return l.f.call("L.AppendFailures", func() error { return l.Ledger.AppendFailures(ctx, cluster, failures) })
}

type faultyCloud struct {
	reconcile.CycleCloud
	f *faults
}

func (c faultyCloud) Status(ctx context.Context, cluster cyclecloud.ClusterName, withNodes bool) (s cyclecloud.ClusterStatus, err error) {
	err = c.f.call("C.Status", func() (err error) { s, err = c.CycleCloud.Status(ctx, cluster, withNodes); return err })
	return s, err
}

func (c faultyCloud) Nodes(ctx context.Context, cluster cyclecloud.ClusterName) (nodes []cyclecloud.Node, err error) {
	err = c.f.call("C.Nodes", func() (err error) { nodes, err = c.CycleCloud.Nodes(ctx, cluster); return err })
	return nodes, err
}

func (c faultyCloud) NodesByRequest(ctx context.Context, cluster cyclecloud.ClusterName, id cyclecloud.RequestID) (nodes []cyclecloud.Node, known bool, err error) {
	err = c.f.call("C.NodesByRequest", func() (err error) {
		nodes, known, err = c.CycleCloud.NodesByRequest(ctx, cluster, id)
		return err
	})
	return nodes, known, err
}

func (c faultyCloud) CreateEncoded(ctx context.Context, cluster cyclecloud.ClusterName, body []byte) (r cyclecloud.CreateResult, err error) {
	err = c.f.call("C.Create", func() (err error) { r, err = c.CycleCloud.CreateEncoded(ctx, cluster, body); return err })
	return r, err
}

func (c faultyCloud) ActEncoded(ctx context.Context, cluster cyclecloud.ClusterName, action cyclecloud.Action, body []byte) (r cyclecloud.NodeResult, err error) {
	err = c.f.call("C.Act", func() (err error) { r, err = c.CycleCloud.ActEncoded(ctx, cluster, action, body); return err })
	return r, err
}

type faultyOutbox struct {
	reconcile.Outbox
	f *faults
}

func (o faultyOutbox) SendCommand(ctx context.Context, c event.SlurmCommand) error {
	return o.f.call("B.SendCommand", func() error { return o.Outbox.SendCommand(ctx, c) })
}

func (o faultyOutbox) ScheduleTimer(ctx context.Context, t event.ScaleDownTimer) (n int64, err error) {
	err = o.f.call("B.ScheduleTimer", func() (err error) { n, err = o.Outbox.ScheduleTimer(ctx, t); return err })
	return n, err
}
