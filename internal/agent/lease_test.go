package agent_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slurmburst/slurmburst/internal/agent"
	"github.com/slurmburst/slurmburst/internal/event"
)

// theirs is the state that another agent left which was in charge meanwhile.
const theirs = `{"v":1,"epoch":5,"results":[{"id":"theirs","generation":3,"state":"ok","at":"2000-01-01T00:00:00Z"}]}`

// The client accepts a session again by itself, so that a renewal may succeed
// although another agent was in charge in between.
func TestARenewalFindsOutThatAnotherAgentWasInCharge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Second)
		before := len(w.bus.all())
		w.bus.set(func(b *fakeBus) { b.state = []byte(theirs) })
		time.Sleep(agent.DefaultLock/4 + time.Second) // no heartbeat comes before that
		if w.log.count("charge ended") != 1 {
			t.Error("the charge goes on after a renewal")
		}
		time.Sleep(time.Minute)
		for _, s := range w.bus.all()[before:] {
			if s.q.Epoch != 6 {
				t.Errorf("published in epoch %d after epoch 5", s.q.Epoch)
			}
		}
	})
}

// Where only renewals fail, nothing else tells that the lock runs out.
func TestALockThatRunsOutEndsAChargeThatHasNothingToSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		options := w.options()
		options.Heartbeat = time.Hour
		runAgent(t, options)
		time.Sleep(time.Second)
		w.bus.set(func(b *fakeBus) { b.noRenew = errOutage })
		time.Sleep(agent.DefaultLock*3/4 - 2*time.Second)
		if w.log.count("charge ended") != 0 {
			t.Error("the charge ended while the lock was certainly held")
		}
		time.Sleep(agent.DefaultLock / 4)
		if w.log.count("charge ended") != 1 {
			t.Error("the charge goes on although the lock may have run out")
		}
	})
}

// skippingClock jumps, as the clock does for a process that stood still between
// two steps; whoever watches the lock has not run yet.
type skippingClock struct{ skipped atomic.Int64 }

func (c *skippingClock) Now() time.Time { return time.Now().Add(time.Duration(c.skipped.Load())) }

func (*skippingClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

// While a command is carried out, another agent comes and goes: what it left in
// the session state must not be overwritten.
func TestTheStateOfASuccessorIsNotOverwritten(t *testing.T) {
	for what, meanwhile := range map[string]func(*world, *skippingClock){
		"the connection broke": func(w *world, _ *skippingClock) {
			w.bus.set(func(b *fakeBus) { b.down = errOutage })
			time.Sleep(200 * time.Millisecond)
			w.bus.set(func(b *fakeBus) { b.down = nil })
		},
		"the process stood still": func(_ *world, clock *skippingClock) { clock.skipped.Store(int64(agent.DefaultLock)) },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				clock := &skippingClock{}
				options := w.options()
				options.Clock = clock
				runAgent(t, options)
				time.Sleep(time.Second)
				w.slurm.change(func(s *fakeSlurm) { s.deaf = true }) // the agent reads back for some seconds
				w.bus.put(t, event.SlurmCommand{ID: "ours", Kind: event.FenceNodes, Nodes: "htc-1", Generation: 10})
				time.Sleep(time.Second)
				if len(w.slurm.done()) != 1 {
					t.Fatalf("carried out %v, want the one command under way", w.slurm.done())
				}
				w.bus.set(func(b *fakeBus) { b.state = []byte(theirs) })
				meanwhile(w, clock)
				for range 40 {
					time.Sleep(time.Second)
					if state := string(of(w.bus, stored)); !strings.Contains(state, `"theirs"`) {
						t.Fatalf("the state became %s", state)
					}
				}
				if q := w.bus.last(t); q.Epoch != 6 {
					t.Errorf("in charge again with epoch %d, want 6", q.Epoch)
				}
			})
		})
	}
}

func TestNothingIsSentOnceTheLockMayHaveRunOut(t *testing.T) {
	for question, moment := range map[string]string{"gate": "before a look", "nodes": "between a look and what it says"} {
		t.Run("stopped "+moment, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				clock := &skippingClock{}
				options := w.options()
				options.Clock = clock
				runAgent(t, options)
				time.Sleep(time.Second)
				before := len(w.bus.all())
				w.slurm.change(func(s *fakeSlurm) {
					s.asking = func(what string) {
						if what == question {
							clock.skipped.Store(int64(agent.DefaultLock))
							s.asking = nil
						}
					}
				})
				time.Sleep(poll + time.Second)
				for _, s := range w.bus.all()[before:] {
					if s.q.Epoch == 1 {
						t.Errorf("sent number %d of epoch 1", s.q.Sequence)
					}
				}
				if w.log.count("charge ended") != 1 {
					t.Error("the charge goes on")
				}
			})
		})
	}
}
