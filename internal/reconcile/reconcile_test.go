package reconcile_test

import (
	"errors"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

var batch = event.BootJob{ID: "7", Batch: true, Requeue: true}

func TestFirstSnapshotBuildsTheFence(t *testing.T) {
	s := newSite(t)
	s.report()
	s.want("commands", s.kinds(), "[fence_nodes htc-4]")
	s.want("CycleCloud", s.cloud.calls, "[nodes]")
	s.want("intents", len(s.intents()), 0)
}

func TestANodeThatSlurmPowersUpIsCreatedByName(t *testing.T) {
	s := newSite(t)
	s.report()
	s.answer()
	s.in("htc-4", "IDLE", "DRAIN", "POWERED_DOWN")
	s.resume("htc-1", "r1", batch)
	s.report()
	s.want("nodes", len(s.cloud.nodes), 1)
	s.want("supply", s.row("htc-1").Supply, "booting")
	s.want("node id", s.row("htc-1").NodeID, "id-1")
	s.want("resume id", s.row("htc-1").ResumeID, "r1")
	s.want("intents", len(s.intents()), 0)
}

func TestAnUnchangedSnapshotIsOnlyNoted(t *testing.T) {
	s := newSite(t)
	s.report()
	s.answer()
	s.in("htc-4", "IDLE", "DRAIN", "POWERED_DOWN")
	s.report()
	s.after(30 * time.Second)
	calls := len(s.cloud.calls)
	s.want("outcome", s.report().Outcome, reconcile.OutcomeNoted)
	s.want("CycleCloud calls", len(s.cloud.calls)-calls, 0)
}

func TestAnOlderSnapshotChangesNothing(t *testing.T) {
	s := newSite(t)
	s.report()
	old := s.pressure()
	s.after(10 * time.Second)
	s.report()
	result, err := s.rec.Pressure(t.Context(), old, s.now)
	if err != nil {
		t.Fatal(err)
	}
	s.want("outcome", result.Outcome, reconcile.OutcomeDuplicate)
}

// quiet brings the site to the state in which the fence stands.
func quiet(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	s.report()
	s.answer()
	s.in("htc-4", "IDLE", "DRAIN", "POWERED_DOWN")
	s.report()
	s.outbox.commands = nil
	return s
}

func TestALifeFromResumeToZero(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	s.report()
	s.after(20 * time.Second)
	s.in("htc-1", "ALLOCATED")
	s.report()
	s.after(time.Minute)
	s.in("htc-1", "IDLE")
	s.report()
	s.want("commands while idle", s.kinds(), "[]")

	s.fire(event.IdleDeadline)
	s.want("commands at the idle deadline", s.kinds(), "[power_down_asap htc-1]")
	s.answer()
	s.in("htc-1", "IDLE", "POWERING_DOWN")
	s.after(time.Second)
	s.report()
	s.want("status", s.row("htc-1").Supply, "leaving")

	s.fire(event.Retry)
	s.want("commands while it goes", s.kinds(), "[power_down_asap htc-1]")
	delete(s.cloud.nodes, "htc-1")
	s.fire(event.Retry)
	s.want("commands when it is gone", s.kinds(), "[power_down_asap htc-1 power_down_done htc-1]")
	s.answer()
	s.in("htc-1", "IDLE", "POWERED_DOWN")
	s.after(time.Second)
	s.report()
	s.want("supply at the end", s.row("htc-1").Supply, "absent")
	s.want("intents", len(s.intents()), 0)
	s.want("nodes", len(s.cloud.nodes), 0)
}

func TestALostAnswerDoesNotCreateTwice(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	s.cloud.lose = true
	s.report()
	s.want("open intents", len(s.intents()), 1)
	s.restart()
	s.after(30 * time.Second)
	s.report()
	s.want("open intents", len(s.intents()), 0)
	s.want("ids given", s.cloud.ids, 1)
	s.want("node id", s.row("htc-1").NodeID, "id-1")
}

func TestAnotherProcessFinishesWhatWasCommitted(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	s.cloud.failing = map[string]error{"create": fault.New(fault.Transient, "create", errors.New("503"))}
	s.report()
	s.want("nodes", len(s.cloud.nodes), 0)
	s.want("open intents", len(s.intents()), 1)
	s.cloud.failing = nil
	s.restart()
	s.after(30 * time.Second)
	s.report()
	s.want("nodes", len(s.cloud.nodes), 1)
	s.want("intents", len(s.intents()), 0)
}

func TestARefusedNodeIsFencedAndItsBootAborted(t *testing.T) {
	s := quiet(t)
	s.cloud.refuse = map[string]string{"htc-1": "no capacity"}
	s.resume("htc-1", "r1", batch)
	s.report()
	s.want("commands", s.kinds(), "[fence_nodes htc-[2-3] abort_boot htc-1 begin_now ]")
	s.want("intents", len(s.intents()), 0)
}

func TestAStaleSnapshotCreatesNothing(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	q := s.pressure()
	q.AgeAtSendMS = (2 * time.Minute).Milliseconds()
	if _, err := s.rec.Pressure(t.Context(), q, s.now); err != nil {
		t.Fatal(err)
	}
	s.want("nodes", len(s.cloud.nodes), 0)
	s.after(time.Second)
	s.report()
	s.want("nodes once it is fresh", len(s.cloud.nodes), 1)
}

func TestATimerThatIsNotTheArmedOneIsVoid(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	s.report()
	stale := s.outbox.timers[len(s.outbox.timers)-1]
	stale.Generation--
	result, err := s.rec.Timer(t.Context(), stale)
	if err != nil {
		t.Fatal(err)
	}
	s.want("outcome", result.Outcome, reconcile.OutcomeVoid)
}

func TestAnOldVMUnderTheNameIsReplaced(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	s.report()
	s.after(10 * time.Second)
	s.resume("htc-1", "r2", batch) // Slurm resumed the name anew: the VM is of the past
	s.report()
	s.want("supply", s.row("htc-1").Supply, "leaving")
	delete(s.cloud.nodes, "htc-1")
	s.fire(event.Retry)
	s.want("node id", s.row("htc-1").NodeID, "id-2")
	s.want("resume id", s.row("htc-1").ResumeID, "r2")
}

func TestAClusterWithoutPolicyIsInvalid(t *testing.T) {
	s := newSite(t)
	q := s.pressure()
	q.Cluster = "elsewhere"
	if _, err := s.rec.Pressure(t.Context(), q, s.now); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v, want an invalid error", err)
	}
}

func TestACommandThatSlurmDidNotTakeIsNotRepeatedAtOnce(t *testing.T) {
	s := newSite(t)
	s.report()
	s.want("commands", s.kinds(), "[fence_nodes htc-4]")
	s.results = []event.CommandResult{{ID: s.outbox.commands[0].ID, Generation: s.outbox.commands[0].Generation, State: event.ResultFailed, Error: "Invalid node state"}}
	for range 5 {
		s.after(5 * time.Second)
		s.report()
	}
	s.want("commands while it rests", s.kinds(), "[fence_nodes htc-4]")
	s.after(2 * time.Minute)
	s.report()
	s.want("commands once its time is over", s.kinds(), "[fence_nodes htc-4 fence_nodes htc-4]")
}
