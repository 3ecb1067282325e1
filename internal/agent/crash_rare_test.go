//go:build crashpoints

package agent_test

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slurmburst/slurmburst/internal/agent"
	"github.com/slurmburst/slurmburst/internal/event"
)

// succeed is what another agent does to the session that takes it from whoever
// has it, is in charge, and leaves.
func (b *broker) succeed(other *process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free()
	var state map[string]any
	if len(b.state) > 0 {
		if err := json.Unmarshal(b.state, &state); err != nil {
			b.w.breaks("read the state: %v", err)
			return
		}
	} else {
		state = map[string]any{"v": 1}
	}
	b.epoch++
	b.writers[b.epoch] = other
	state["epoch"] = b.epoch
	text, err := json.Marshal(state)
	if err != nil {
		b.w.breaks("write the state: %v", err)
	}
	b.state = text
}

// An agent that was stopped for so long that its lock may have run out asks
// before it does or says anything: another one may have come and gone, and the
// client takes the session again without a word.
func TestCrashPointsWhileAnotherCameAndWent(t *testing.T) {
	atEachPoint(t, 2, []blow{{succeeded, 50 * time.Second}}, firstHost)
}

// The targets of a command are looked at again after the agent was stopped, even
// while its lock lasts: a boot that has arrived meanwhile is not aborted.
func TestCrashPointsBetweenLookAndAct(t *testing.T) {
	hookExclusively(t)
	r := writeRecords(t)
	table := crashPoints(t)
	confirmed := table[slices.IndexFunc(table, func(p point) bool { return p.name == "confirmed" })].number
	synctest.Test(t, func(t *testing.T) {
		w := newCrashWorld(t, r, strike{})
		stopped := false
		agent.OnCrashPoint = func(host string, number int) {
			if number == confirmed && !stopped {
				stopped = true
				w.first().freeze(40*time.Second, func() {})
			}
		}
		w.begin()
		end := w.start(firstHost)
		time.Sleep(15*time.Second + time.Millisecond) // the lock was just renewed
		w.send(orders[slices.IndexFunc(orders, func(o order) bool { return o.command.ID == "abort" })].command)
		time.Sleep(20 * time.Second)
		w.slurm.setNode("htc-6", "ALLOCATED+CLOUD", "")
		time.Sleep(time.Minute)
		w.tick()
		if got := w.play.results["abort"]; !stopped || got != event.ResultStale || len(w.acted) > 0 {
			t.Errorf("stopped %v; the abort ended as %q and did %v", stopped, got, w.acted)
		}
		end()
	})
}

// An agent is stopped while its snapshot is on its way. The cloud has heard of a
// later epoch when the snapshot comes, and refuses it: the hook calls that it
// told of are still in the spool.
func TestCrashPointsWithinASend(t *testing.T) {
	hookExclusively(t)
	r := writeRecords(t)
	synctest.Test(t, func(t *testing.T) {
		w := newCrashWorld(t, r, strike{})
		w.begin()
		w.broker.stall = 2 * time.Minute
		end := w.start(firstHost)
		time.Sleep(time.Minute)
		w.broker.succeed(&process{w: w, host: secondHost})
		time.Sleep(2 * time.Minute)
		if w.broker.refused != 1 {
			t.Errorf("%d snapshots were refused, want the one that came late", w.broker.refused)
		}
		for _, call := range w.calls {
			if !call.told {
				t.Errorf("nobody was told of the %s call for %s", call.kind, call.node)
			}
		}
		if w.spooled() != 0 || len(w.broken) > 0 {
			t.Errorf("%d files in the spool; %q", w.spooled(), w.broken)
		}
		end()
	})
}
