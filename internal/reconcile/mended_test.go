package reconcile_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

var unavailable = fault.New(fault.Transient, "call", errors.New("503"))

// only makes one call of CycleCloud fail; nothing makes all well again.
func (s *site) only(call string) { s.cloud.failing = map[string]error{call: unavailable} }

func (s *site) failures() []ledger.Failure {
	s.t.Helper()
	rows, _, err := s.ledger.ListFailures(s.t.Context(), ledger.FailureFilter{Cluster: clusterName}, ledger.Page{})
	if err != nil {
		s.t.Fatal(err)
	}
	return rows
}

func (s *site) failed(code string) int {
	n := 0
	for _, f := range s.failures() {
		if f.Code == code {
			n++
		}
	}
	return n
}

func (s *site) array() ledger.Nodearray {
	s.t.Helper()
	rows, err := s.ledger.Nodearrays(s.t.Context(), clusterName)
	if err != nil || len(rows) == 0 {
		s.t.Fatalf("Nodearrays: %v, %v", rows, err)
	}
	return rows[0]
}

func (s *site) sweep() {
	s.t.Helper()
	timer := event.ScaleDownTimer{Cluster: clusterName, Purpose: event.Recheck, Generation: 1, Due: s.now}
	if _, err := s.rec.Timer(s.t.Context(), timer); err != nil {
		s.t.Fatal(err)
	}
}

// running brings htc-1 up and makes its job end.
func running(t *testing.T) *site {
	t.Helper()
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	s.report()
	s.after(30 * time.Second)
	s.in("htc-1", "ALLOCATED")
	s.report()
	return s
}

func TestANodearrayThatWasClosedStaysClosedInItsRow(t *testing.T) {
	closed := func(s *site) {
		t.Helper()
		if got := s.array().ClosedUntil; !got.After(s.now) {
			t.Errorf("closed until %v, want a time after %v", got, s.now)
		}
	}
	s := quiet(t)
	s.cloud.refuse = map[string]string{"htc-1": "no capacity"}
	s.resume("htc-1", "r1", batch)
	s.report()
	closed(s)

	s = quiet(t)
	s.resume("htc-1", "r1", batch)
	s.report()
	delete(s.cloud.nodes, "htc-1") // the allocation failed, and CycleCloud took the node away
	s.after(70 * time.Second)
	s.report()
	closed(s)
}

// What a decision records is what it was decided on: deciding again on it gives
// the recorded actions.
func TestADecisionCanBeReplayed(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	s.report()
	rows, _, err := s.ledger.ListDecisions(t.Context(), ledger.DecisionFilter{Cluster: clusterName}, ledger.Page{})
	if err != nil || len(rows) == 0 {
		t.Fatalf("ListDecisions: %v, %v", rows, err)
	}
	checked := 0
	for _, row := range rows {
		if row.At.Before(time.Now().AddDate(0, 0, -30)) || row.At.After(time.Now()) {
			t.Fatal("the test's clock is outside of what the ledger finds")
		}
		d, found, err := s.ledger.FindDecision(t.Context(), clusterName, row.ID)
		if err != nil || !found {
			t.Fatalf("FindDecision %s: %v, %v", row.ID, found, err)
		}
		z, err := gzip.NewReader(bytes.NewReader(d.Facts))
		if err != nil {
			t.Fatal(err)
		}
		var facts burst.Facts
		if err := json.NewDecoder(z).Decode(&facts); err != nil {
			t.Fatal(err)
		}
		var recorded []struct{ Kind string }
		if err := json.Unmarshal([]byte(d.Actions), &recorded); err != nil {
			t.Fatal(err)
		}
		plan := burst.Decide(d.At, s.policy, facts)
		if got := len(plan.Commands) + len(plan.Terminates) + len(plan.Creates); got != len(recorded) {
			t.Errorf("decision %s: %d actions when replayed, %s recorded", d.ID, got, d.Actions)
		}
		checked += len(recorded)
	}
	if checked == 0 {
		t.Error("no decision with an action was checked")
	}
}

func TestATerminateThatSlurmOvertookIsNotSent(t *testing.T) {
	s := running(t)
	s.in("htc-1", "IDLE", "POWERING_DOWN")
	s.only("terminate")
	s.after(time.Second)
	s.report()
	s.want("open intents", len(s.intents()), 1)

	s.cloud.failing = nil
	s.in("htc-1", "ALLOCATED") // SuspendTimeout passed, slurmd registered, a job began
	s.after(2 * time.Minute)
	s.report()
	s.want("CycleCloud's word", s.cloud.nodes["htc-1"].StatusText, "Preparing")
	s.want("open intents", len(s.intents()), 0)
	s.want("supply", s.row("htc-1").Supply, "booting")
}

func TestACreateThatSlurmOvertookIsNotRepeated(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	s.only("create")
	s.report()
	s.cloud.failing = nil
	s.in("htc-1", "IDLE", "POWERED_DOWN")
	s.after(time.Minute)
	s.report()
	s.want("VMs", s.cloud.ids, 0)
	s.want("open intents", len(s.intents()), 0)
	s.want("supply", s.row("htc-1").Supply, "absent")
}

// A request that never arrived while CycleCloud was away for long is decided
// anew: that is no refusal, and the nodearray stays open.
func TestAnExpiredCreateIsDecidedAnew(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	s.only("create")
	s.report()
	for range 6 {
		s.after(time.Minute)
		s.report()
	}
	s.cloud.failing = nil
	s.after(time.Minute)
	s.report()
	s.want("VMs", s.cloud.ids, 1)
	s.want("abort commands", slices.ContainsFunc(s.kinds(), func(k string) bool { return strings.HasPrefix(k, "abort") }), false)
	s.want("failures that tell", s.failed("expired"), 1)
	if s.failed("transient") == 0 {
		t.Error("no failure tells of the calls that failed")
	}
}

// CycleCloud may forget request ids when it is set up anew; the names tell then.
func TestACreateWhoseRequestIsForgottenIsFoundByName(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	s.cloud.lose = true
	s.report()
	clear(s.cloud.requests)
	s.after(time.Minute)
	s.report()
	s.want("VMs", s.cloud.ids, 1)
	s.want("node id", s.row("htc-1").NodeID, "id-1")
	s.want("open intents", len(s.intents()), 0)
}

// failingRows loses what is written to a table.
type failingRows struct {
	reconcile.Ledger
	lost bool
}

func (l *failingRows) PutNodes(ctx context.Context, cluster string, rows []ledger.Node) ([]ledger.Node, []string, error) {
	if l.lost {
		return nil, nil, unavailable
	}
	return l.Ledger.PutNodes(ctx, cluster, rows)
}

func (l *failingRows) Nodes(ctx context.Context, cluster string) ([]ledger.Node, error) {
	rows, err := l.Ledger.Nodes(ctx, cluster)
	if l.lost {
		rows = nil
	}
	return rows, err
}

func TestAVMThatASweepFoundIsNotForgottenByACrash(t *testing.T) {
	s := quiet(t)
	s.after(time.Minute)
	s.in("htc-2", "IDLE")
	s.cloud.nodes["htc-2"] = cyclecloud.Node{
		ID: "foreign", Name: "htc-2", NodeArray: "htc", Status: cyclecloud.StatusReady, TargetState: cyclecloud.StatusStarted,
	}
	rows := &failingRows{Ledger: s.ledger, lost: true}
	s.rec = s.process(rows, s.cloud, s.outbox)
	if _, err := s.rec.Pressure(t.Context(), s.pressure(), s.now); err == nil {
		t.Fatal("the rows were not written, and nobody says so")
	}
	s.restart()
	delete(s.nodes, "htc-4") // an admin lifted the fence: the snapshot is another one
	s.after(10 * time.Second)
	s.report()
	s.want("commands", s.kinds(), "[fence_nodes htc-4]")
	s.want("supply", s.row("htc-2").Supply, "ready")
}

// The table of nodes may be lost alone: names without a row must not count as
// absent then.
func TestALostTableOfNodesIsBuiltAgain(t *testing.T) {
	s := running(t)
	s.after(10 * time.Second)
	s.in("htc-1", "IDLE")
	s.report()
	s.after(10 * time.Second)
	s.sweep()
	rows := &failingRows{Ledger: s.ledger, lost: true}
	calls := len(s.cloud.calls)
	s.rec = s.process(rows, s.cloud, s.outbox)
	delete(s.nodes, "htc-4")
	_, _ = s.rec.Pressure(t.Context(), s.pressure(), s.now)
	if !slices.Contains(s.cloud.calls[calls:], "nodes") {
		t.Error("CycleCloud was not asked")
	}
	for _, c := range s.outbox.commands {
		if c.Kind == event.PowerDownASAP {
			t.Error("a node is powered down because its row is lost")
		}
	}
}

func TestATimerThatIsNewerThanItsRowIsObeyed(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	s.report()
	timer := s.outbox.timers[len(s.outbox.timers)-1]
	timer.Generation++ // a pass scheduled it and died before it wrote the row
	result, err := s.rec.Timer(t.Context(), timer)
	if err != nil {
		t.Fatal(err)
	}
	s.want("outcome", result.Outcome, reconcile.OutcomeDecided)
}

// A result is named as known only when the tables have it: else a crash in
// between would lose it.
func TestAResultIsKnownOnlyWhenItIsRecorded(t *testing.T) {
	s := running(t)
	s.after(time.Minute)
	s.in("htc-1", "IDLE")
	s.report()
	s.fire(event.IdleDeadline)
	asked := s.outbox.commands[len(s.outbox.commands)-1]
	s.answer()
	s.in("htc-1", "IDLE", "POWERED_DOWN") // and its VM is still there: a command is due at once
	s.after(time.Second)
	s.report()
	next := s.outbox.commands[len(s.outbox.commands)-1]
	s.want("kind", next.Kind, event.PowerDown)
	if slices.Contains(next.Known, asked.ID) {
		t.Errorf("%s is named as known before its answer is recorded", asked.ID)
	}
	rows, err := s.ledger.Commands(t.Context(), clusterName, ledger.CommandOK)
	if err != nil || !slices.ContainsFunc(rows, func(c ledger.Command) bool { return c.ID == asked.ID }) {
		t.Errorf("the answer of %s is not recorded: %v, %v", asked.ID, rows, err)
	}
}

func TestACommandThatIsNotAnsweredExpires(t *testing.T) {
	s := newSite(t)
	s.report()
	s.after(burst.CommandTTL + time.Second)
	s.report()
	s.want("commands", s.kinds(), "[fence_nodes htc-4 fence_nodes htc-4]")
	s.want("failures that tell", s.failed("expired"), 1)
}

func TestLongRefusalsAreSettled(t *testing.T) {
	s := quiet(t)
	s.cloud.refuse = map[string]string{}
	for i := range 3 {
		node := fmt.Sprintf("htc-%d", i+1)
		s.cloud.refuse[node] = strings.Repeat("\"ü\n", 20_000)
		s.resume(node, "r1", batch)
	}
	s.report()
	s.want("open intents", len(s.intents()), 0)
	s.want("nodes", len(s.cloud.nodes), 0)
}

func TestAfterAnEpochResetNodesAreStillReleased(t *testing.T) {
	s := quiet(t)
	s.epoch = 5
	s.after(time.Second)
	s.resume("htc-1", "r1", batch)
	s.only("create")
	s.report() // the intent rests on epoch 5
	old := s.pressure()
	old.Epoch = 2
	if r, err := s.rec.Pressure(t.Context(), old, s.now); err != nil || r.Outcome == reconcile.OutcomeDecided && s.failed("epoch_reset") > 0 {
		t.Fatalf("an older epoch is taken in at once: %+v, %v", r, err)
	}
	s.epoch = 2 // session state was lost, and the agent counts from the beginning
	s.after(4 * time.Minute)
	s.report()
	s.want("alerts", s.failed("epoch_reset"), 1)
	s.cloud.failing = nil
	s.after(time.Second)
	s.report() // and is settled only after the reset
	s.want("VMs", s.cloud.ids, 1)
	s.in("htc-1", "IDLE", "POWERING_DOWN")
	s.after(time.Minute)
	s.report()
	s.want("supply", s.row("htc-1").Supply, "leaving")
}
