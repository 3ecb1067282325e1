package agent_test

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

var errOutage = fault.Newf(fault.Transient, "connection refused")

func TestHeartbeatsComeAtTheirTimeGiveOrTakeAFifth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Hour)
		all := w.bus.all()
		if len(all) < 100 || len(all) > 150 {
			t.Fatalf("%d snapshots in an hour", len(all))
		}
		gaps := map[time.Duration]bool{}
		for i := 1; i < len(all); i++ {
			gap := all[i].at.Sub(all[i-1].at)
			gaps[gap.Round(time.Second)] = true
			if gap < 24*time.Second || gap > 36*time.Second {
				t.Errorf("snapshot %d came after %v", i, gap)
			}
			if q := all[i].q; q.Sequence != int64(i+1) || q.Epoch != 1 || q.AgeAtSendMS != 0 || q.Cause != event.CausePoll {
				t.Errorf("snapshot %d is %d/%d, age %d ms, cause %s", i, q.Epoch, q.Sequence, q.AgeAtSendMS, q.Cause)
			}
		}
		if len(gaps) < 5 {
			t.Errorf("the pauses are not spread: %v", gaps)
		}
		if looks := w.slurm.count("nodes"); looks > len(all)+2 {
			t.Errorf("%d whole looks for %d heartbeats: the cheap look did not spare any", looks, len(all))
		}
	})
}

func TestAChangeIsPublishedAtTheNextPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Second)
		before := len(w.bus.all())
		w.slurm.change(func(s *fakeSlurm) { s.jobs = append(s.jobs, slurm.Job{ID: 7, State: slurm.JobPending}) })
		time.Sleep(poll + time.Second)
		if got := w.bus.last(t); got.PendingJobs != 1 || len(w.bus.all()) != before+1 {
			t.Errorf("%d snapshots, the last: %+v", len(w.bus.all()), got)
		}
		// Counters that move without news are looked into and not published.
		looks, before := w.slurm.count("nodes"), len(w.bus.all())
		w.slurm.change(func(*fakeSlurm) {})
		time.Sleep(poll + time.Second)
		if w.slurm.count("nodes") != looks+1 || len(w.bus.all()) != before {
			t.Errorf("%d looks and %d snapshots more", w.slurm.count("nodes")-looks, len(w.bus.all())-before)
		}
	})
}

func TestNodesInTransitionAreWatchedAtEveryPoll(t *testing.T) {
	for _, state := range []string{"ALLOCATED+CLOUD+POWERING_UP+NOT_RESPONDING", "IDLE+CLOUD+POWERING_DOWN", "MIXED+CLOUD+POWERED_DOWN", "IDLE+CLOUD+POWER_DOWN"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.slurm.setNode("htc-1", state, "")
			runAgent(t, w.options())
			time.Sleep(time.Second)
			looks := w.slurm.count("nodes")
			time.Sleep(4 * poll)
			if got := w.slurm.count("nodes") - looks; got != 4 {
				t.Errorf("%s: %d looks in 4 polls", state, got)
			}
		})
	}
}

func TestAnAgentThatLosesTheSessionFallsSilentAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Minute)
		release := w.bus.seize()
		time.Sleep(200 * time.Millisecond)
		before := len(w.bus.all())
		w.slurm.change(func(s *fakeSlurm) { s.jobs = append(s.jobs, slurm.Job{ID: 7, State: slurm.JobPending}) })
		time.Sleep(10 * time.Minute)
		if got := len(w.bus.all()); got != before {
			t.Errorf("%d snapshots were sent without the session", got-before)
		}
		if w.log.count("stands by") != 1 {
			t.Errorf("standing by was logged %d times, want once", w.log.count("stands by"))
		}
		// The other agent was in charge meanwhile.
		w.bus.set(func(b *fakeBus) { b.state = []byte(`{"v":1,"epoch":5}`) })
		release()
		time.Sleep(10 * time.Second)
		if q := w.bus.last(t); q.Epoch != 6 || q.Sequence < 1 || q.PendingJobs != 1 {
			t.Errorf("back in charge with %d/%d", q.Epoch, q.Sequence)
		}
		if first := w.bus.all()[before].q; first.Sequence != 1 {
			t.Errorf("the new epoch began with sequence %d", first.Sequence)
		}
	})
}

func TestASessionThatCannotBeRenewedIsGivenUpBeforeTheBrokerGivesItAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Minute)
		cut := time.Now()
		w.bus.set(func(b *fakeBus) { b.down = errOutage })
		w.slurm.setNode("htc-1", "IDLE+CLOUD+POWERING_DOWN", "") // something to say at each poll
		time.Sleep(10 * time.Minute)
		if w.log.count("charge ended") != 1 {
			t.Fatalf("the charge ended %d times", w.log.count("charge ended"))
		}
		if q := w.slurm.count("nodes"); q == 0 {
			t.Fatal("no look at all")
		}
		looks := w.slurm.count("nodes")
		time.Sleep(time.Minute)
		if got := w.slurm.count("nodes"); got != looks {
			t.Errorf("looked %d times while not in charge", got-looks)
		}
		w.bus.set(func(b *fakeBus) { b.down = nil })
		back := time.Now()
		time.Sleep(10 * time.Second)
		for _, s := range w.bus.all() {
			if s.at.After(cut) && s.at.Before(back) {
				t.Errorf("a snapshot got through at %v", s.at)
			}
		}
		if q := w.bus.last(t); q.Epoch != 2 {
			t.Errorf("epoch %d after the outage, want 2", q.Epoch)
		}
		if n := w.log.count("did not work"); n > 4 {
			t.Errorf("the outage was logged %d times", n)
		}
	})
}

func TestAnEpochThatWasPassedObeysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Second)
		// The client accepted the session again by itself; another agent held it
		// in between.
		w.bus.set(func(b *fakeBus) { b.state = []byte(`{"v":1,"epoch":2}`) })
		w.bus.put(t, event.SlurmCommand{ID: "c1", Kind: event.PowerUp, Generation: 1, Nodes: "htc-1"})
		time.Sleep(2 * time.Second)
		if got := w.slurm.done(); len(got) > 0 {
			t.Errorf("carried out %v", got)
		}
		time.Sleep(10 * time.Second)
		if q := w.bus.last(t); q.Epoch != 3 || len(q.CommandResults) != 1 || len(w.slurm.done()) != 1 {
			t.Errorf("epoch %d, results %+v, done %v", q.Epoch, q.CommandResults, w.slurm.done())
		}
	})
}

func TestOnAPairOnlyTheHostInChargeLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.slurm.controllers = []slurm.Controller{{Role: "primary", Host: "head2", Up: true}, {Role: "backup", Host: "head1.example.com", Up: true}}
		runAgent(t, w.options())
		time.Sleep(5 * time.Minute)
		if of(w.bus, accepts) != 0 {
			t.Fatalf("the backup's agent accepted the session %d times", of(w.bus, accepts))
		}
		w.slurm.change(func(s *fakeSlurm) { s.controllers[0].Up = false })
		time.Sleep(time.Minute)
		if w.bus.last(t).Epoch != 1 {
			t.Error("the backup took over, its agent did not")
		}
		w.slurm.change(func(s *fakeSlurm) { s.controllers[0].Up = true })
		time.Sleep(time.Minute)
		sent := len(w.bus.all())
		time.Sleep(5 * time.Minute)
		if len(w.bus.all()) != sent || of(w.bus, isHeld) {
			t.Error("the primary is back, and the backup's agent did not give way")
		}
	})
}

func TestAPolicyOfAnotherClusterNeverLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		options := w.options()
		options.Cluster = "other"
		runAgent(t, options)
		time.Sleep(5 * time.Minute)
		if of(w.bus, accepts) != 0 || w.log.count("belongs to cluster") != 1 {
			t.Errorf("%d accepts, %d log lines", of(w.bus, accepts), w.log.count("belongs to cluster"))
		}
	})
}

func TestABrokenSessionStateCostsNoEpoch(t *testing.T) {
	for state, want := range map[string]int64{
		``:                          1,
		`{"v":1,"epoch":7}`:         8,
		`{"v":99,"epoch":7}`:        8,
		`{"epoch":7,"results":"?"}`: 8,
		`{"v":1,"epoch":7,"nodes":[{"g":1,"n":"htc-["}]}`: 8,
		`garbage`:          1,
		"\x1f\x8bgarbage":  1,
		`{"epoch":-4}`:     1,
		`{"epoch":"many"}`: 1,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.bus.state = []byte(state)
			runAgent(t, w.options())
			time.Sleep(time.Second)
			q := w.bus.last(t)
			if q.Epoch != want {
				t.Errorf("%q: epoch %d, want %d", state, q.Epoch, want)
			}
			complained := slices.ContainsFunc(q.Problems, func(p event.Problem) bool { return p.Code == "unreadable_session_state" })
			if complained == (state == "" || state == `{"v":1,"epoch":7}`) {
				t.Errorf("%q: problems %+v", state, q.Problems)
			}
		})
	}
}

func TestTheSessionStateStaysBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		for i := range 510 {
			w.bus.put(t, event.SlurmCommand{ID: "c" + decimal(i), Kind: "reboot", Generation: int64(i + 1), Nodes: "htc-1"})
		}
		time.Sleep(time.Minute)
		if size := len(of(w.bus, stored)); size == 0 || size > 200_000 {
			t.Errorf("state of %d bytes", size)
		}
		if n := len(w.bus.last(t).CommandResults); n != 500 {
			t.Errorf("%d results are repeated, want 500", n)
		}
		if len(of(w.bus, completed)) != 510 {
			t.Errorf("%d commands were settled", len(of(w.bus, completed)))
		}
	})
}

func TestNothingIsPublishedBeforeTheEpochIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.bus.setState = errOutage
		runAgent(t, w.options())
		time.Sleep(5 * time.Minute)
		if len(w.bus.all()) != 0 {
			t.Fatalf("%d snapshots without an epoch", len(w.bus.all()))
		}
		w.bus.set(func(b *fakeBus) { b.setState = nil })
		time.Sleep(10 * time.Second)
		var state struct{ Epoch int64 }
		if err := json.Unmarshal(of(w.bus, stored), &state); err != nil || state.Epoch != w.bus.last(t).Epoch {
			t.Errorf("stored epoch %d, sent %d: %v", state.Epoch, w.bus.last(t).Epoch, err)
		}
	})
}

// After a broken connection the client may fail to settle what it received
// before, for ever: then the session is accepted anew.
func TestACommandThatCannotBeSettledEndsTheCharge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Second)
		w.bus.set(func(b *fakeBus) { b.noSettle = errOutage })
		w.bus.put(t, event.SlurmCommand{ID: "c1", Kind: event.FenceNodes, Nodes: "htc-1", Generation: 10})
		time.Sleep(3 * time.Second)
		w.bus.set(func(b *fakeBus) { b.noSettle = nil })
		time.Sleep(time.Minute)
		if last := w.bus.last(t); last.Epoch < 2 || len(last.CommandResults) != 1 || last.CommandResults[0].State != event.ResultOK {
			t.Errorf("epoch %d with results %+v, want a later epoch with the one result", last.Epoch, last.CommandResults)
		}
		w.bus.set(func(b *fakeBus) {
			if len(b.completed) != 1 {
				t.Errorf("completed %v, want the command once", b.completed)
			}
		})
		if n := len(w.slurm.updates); n != 1 {
			t.Errorf("the command was carried out %d times", n)
		}
	})
}
