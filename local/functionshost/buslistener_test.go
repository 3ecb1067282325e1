package functionshost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// feed is a listener on the fake bus whose calls are carried out by work. It
// runs on the virtual clock of a synctest bubble.
type feed struct {
	bus  *fakeBus
	l    *busListener
	seen events
	// cancel tells the listener to stop, and stop waits for it as well.
	cancel, stop func()
}

func newFeed(t *testing.T, b busBinding, opts serviceBusOptions, work func(body string) error) *feed {
	f := &feed{bus: newFakeBus()}
	cfg := Config{}
	f.seen.attach(&cfg)
	if opts.tryTimeout == 0 {
		opts.tryTimeout = time.Minute
	}
	if opts.sessionIdle == 0 {
		opts.sessionIdle = 5 * time.Second
	}
	if opts.maxSessions == 0 {
		opts.maxSessions = 32
	}
	if opts.maxConcurrentCalls == 0 {
		opts.maxConcurrentCalls = 16
	}
	fn := &function{name: "work", binding: "msg", trigger: serviceBusTrigger, bus: b}
	call := &caller{cfg: cfg.withDefaults(), w: &worker{name: "app"}, stats: &counters{}}
	call.send = func(_ *function, body []byte, _ *Invocation) (*reply, error) {
		var wire struct{ Data map[string]json.RawMessage }
		if err := json.Unmarshal(body, &wire); err != nil {
			return nil, err
		}
		return &reply{}, work(unwrap(wire.Data["msg"]))
	}
	f.l = &busListener{f: fn, opts: opts, e: f.bus, call: call, log: cfg.Logger}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.l.run(ctx)
	}()
	f.cancel = cancel
	f.stop = func() {
		cancel()
		<-done
	}
	return f
}

var sessionBinding = busBinding{sessions: true, autoComplete: true, maxBatch: 10}

func takes(d time.Duration) func(string) error {
	return func(string) error {
		time.Sleep(d)
		return nil
	}
}

func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, sessionBinding, serviceBusOptions{maxSessions: 3, maxRenewal: time.Hour}, takes(time.Minute))
		defer f.stop()
		for s := range 5 {
			for m := range 2 {
				f.bus.send(fmt.Sprint("s", s), fmt.Sprint("s", s, "-m", m), "x")
			}
		}
		time.Sleep(30 * time.Second)
		if _, most, _ := f.bus.counts(); most != 3 {
			t.Errorf("%d sessions at once, want maxConcurrentSessions", most)
		}
		time.Sleep(10 * time.Minute)
		completed, abandoned := f.bus.settled()
		if len(completed) != 10 || len(abandoned) != 0 {
			t.Errorf("completed %v, abandoned %v", completed, abandoned)
		}
		at := map[string]int{}
		for i, id := range completed {
			at[id] = i
		}
		for s := range 5 {
			if at[fmt.Sprint("s", s, "-m0")] > at[fmt.Sprint("s", s, "-m1")] {
				t.Errorf("session s%d was worked on out of order: %v", s, completed)
			}
		}
		if _, most, waiting := f.bus.counts(); most != 3 || waiting > waitingAccepts {
			t.Errorf("%d sessions and %d waiting accepts at once, want 3 and at most %d", most, waiting, waitingAccepts)
		}
	})
}

func TestIdleSessionIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, sessionBinding, serviceBusOptions{maxRenewal: time.Hour}, takes(0))
		defer f.stop()
		f.bus.send("s", "m-1", "x")
		time.Sleep(4900 * time.Millisecond)
		if held, _, _ := f.bus.counts(); held != 1 {
			t.Error("the session was released before sessionIdleTimeout")
		}
		f.bus.send("s", "m-2", "x")
		time.Sleep(4900 * time.Millisecond)
		if held, _, _ := f.bus.counts(); held != 1 {
			t.Error("a message did not start sessionIdleTimeout anew")
		}
		time.Sleep(200 * time.Millisecond)
		if held, _, _ := f.bus.counts(); held != 0 {
			t.Error("the session is held after sessionIdleTimeout")
		}
	})
}

func TestSettlement(t *testing.T) {
	fails := errors.New("broken")
	for _, c := range []struct {
		name                 string
		autoComplete         bool
		err                  error
		completed, abandoned []string
	}{
		{"success completes", true, nil, []string{"m-1"}, nil},
		{"failure abandons at once, until the broker gives up", true, fails, nil, []string{"m-1", "m-1", "m-1"}},
		{"success without autoComplete settles nothing", false, nil, nil, nil},
		{"failure without autoComplete abandons too", false, fails, nil, []string{"m-1", "m-1", "m-1"}},
	} {
		for _, sessions := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, sessions %v", c.name, sessions), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFeed(t, busBinding{sessions: sessions, autoComplete: c.autoComplete}, serviceBusOptions{}, func(string) error { return c.err })
					defer f.stop()
					began := time.Now()
					f.bus.send("s", "m-1", "x")
					synctest.Wait()
					completed, abandoned := f.bus.settled()
					if diff := cmp.Diff([][]string{c.completed, c.abandoned}, [][]string{completed, abandoned}); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
					if d := time.Since(began); d != 0 {
						t.Errorf("settled after %v, want at once", d)
					}
				})
			})
		}
	}
}

func TestSessionLockRenewal(t *testing.T) {
	for _, c := range []struct {
		name       string
		maxRenewal time.Duration
		call       time.Duration
		completed  int
	}{
		{"a call within maxAutoLockRenewalDuration keeps its session", 10 * time.Minute, 9 * time.Minute, 1},
		{"a call beyond it loses the session and settles nothing", 5 * time.Minute, 9 * time.Minute, 0},
		{"a negative duration renews without end", -time.Millisecond, 3 * time.Hour, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFeed(t, sessionBinding, serviceBusOptions{maxRenewal: c.maxRenewal}, takes(c.call))
				defer f.stop()
				f.bus.send("s", "m-1", "x")
				time.Sleep(c.call + time.Second)
				completed, abandoned := f.bus.settled()
				if len(completed) != c.completed || len(abandoned) != 0 {
					t.Errorf("completed %v, abandoned %v", completed, abandoned)
				}
				if c.completed == 0 && !f.seen.logged("level=ERROR", "lock was lost") {
					t.Error("a lost lock passed in silence")
				}
			})
		})
	}
	t.Run("the time counts from acceptance, not from the message", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFeed(t, sessionBinding, serviceBusOptions{maxRenewal: 10 * time.Minute}, takes(0))
			defer f.stop()
			held := map[*fakeLink]bool{}
			for i := range 15 * 60 / 4 {
				f.bus.send("s", fmt.Sprint("m-", i), "x") // never idle
				time.Sleep(4 * time.Second)
				f.bus.mu.Lock()
				held[f.bus.locked["s"]] = true
				f.bus.mu.Unlock()
			}
			delete(held, nil)
			if len(held) != 2 {
				t.Errorf("the session was accepted %d times in 15 minutes, want twice", len(held))
			}
			if completed, _ := f.bus.settled(); len(completed) != 15*60/4 {
				t.Errorf("%d messages completed", len(completed))
			}
		})
	})
}

func TestServiceBusOutage(t *testing.T) {
	for _, sessions := range []bool{true, false} {
		t.Run(fmt.Sprintf("sessions %v", sessions), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFeed(t, busBinding{sessions: sessions, autoComplete: true}, serviceBusOptions{}, takes(0))
				defer f.stop()
				f.bus.setDown(errors.New("connection reset"))
				f.bus.mu.Lock()
				f.bus.emptyReads = 3
				f.bus.mu.Unlock()
				time.Sleep(10 * time.Minute)
				f.bus.send("s", "m-1", "x")
				f.bus.setDown(nil)
				time.Sleep(5 * time.Second)
				if completed, _ := f.bus.settled(); len(completed) != 1 {
					t.Errorf("completed %v after the outage", completed)
				}
				outages := 0
				f.stop()
				for _, r := range f.seen.records {
					if strings.Contains(r, "cut off") {
						outages++
					}
				}
				if sessions && (outages != 1 || !f.seen.logged("listener is back")) {
					t.Errorf("%d reports of one outage: %q", outages, f.seen.records)
				}
			})
		})
	}
}

func TestSettlementDuringOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, sessionBinding, serviceBusOptions{maxRenewal: time.Hour}, takes(10*time.Second))
		defer f.stop()
		f.bus.send("s", "m-1", "x")
		time.Sleep(5 * time.Second)
		f.bus.setDown(errors.New("connection reset"))
		time.Sleep(10 * time.Second)
		f.bus.setDown(nil)
		f.bus.send("s", "m-2", "x")
		time.Sleep(30 * time.Second)
		if completed, _ := f.bus.settled(); cmp.Diff([]string{"m-2"}, completed) != "" {
			t.Errorf("completed %v", completed)
		}
		if !f.seen.logged("level=ERROR", "not settled", "m-1") {
			t.Error("the lost settlement passed in silence")
		}
	})
}

func TestPlainQueueConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		f := newFeed(t, busBinding{autoComplete: true}, serviceBusOptions{maxConcurrentCalls: 4, maxRenewal: time.Hour}, func(string) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(2 * time.Minute)
			mu.Lock()
			now--
			mu.Unlock()
			return nil
		})
		defer f.stop()
		for i := range 10 {
			f.bus.send("", fmt.Sprint("m-", i), "x")
		}
		time.Sleep(7 * time.Minute)
		f.stop()
		if completed, _ := f.bus.settled(); len(completed) != 10 || most != 4 {
			t.Errorf("%d completed, %d at once", len(completed), most)
		}
		if f.bus.renewals == 0 {
			t.Error("no message lock was renewed during long calls")
		}
	})
}

func TestBatches(t *testing.T) {
	for _, sessions := range []bool{true, false} {
		t.Run(fmt.Sprintf("sessions %v", sessions), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bodies []string
				b := busBinding{sessions: sessions, autoComplete: true, many: true, maxBatch: 3, dataType: "string"}
				f := newFeed(t, b, serviceBusOptions{maxRenewal: time.Hour}, func(body string) error {
					bodies = append(bodies, body)
					time.Sleep(time.Second)
					return nil
				})
				defer f.stop()
				f.bus.send("s", "m-0", "a")
				synctest.Wait()
				for i := range 4 {
					f.bus.send("s", fmt.Sprint("m-", i+1), "b")
				}
				time.Sleep(10 * time.Second)
				f.stop()
				want := []string{`["a"]`, `["b","b","b"]`, `["b"]`}
				if diff := cmp.Diff(want, bodies); diff != "" {
					t.Errorf("batches (-want +got):\n%s", diff)
				}
				if completed, _ := f.bus.settled(); len(completed) != 5 {
					t.Errorf("completed %v", completed)
				}
			})
		})
	}
}

func TestBatchesAreNeverRenewed(t *testing.T) {
	for _, sessions := range []bool{true, false} {
		t.Run(fmt.Sprintf("sessions %v", sessions), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := busBinding{sessions: sessions, autoComplete: true, many: true, maxBatch: 3, dataType: "string"}
				// Any other call would have its lock renewed 10 s before the end.
				f := newFeed(t, b, serviceBusOptions{maxRenewal: time.Hour}, takes(25*time.Second))
				defer f.stop()
				f.bus.send("s", "m-1", "x")
				time.Sleep(26 * time.Second)
				f.stop()
				if completed, _ := f.bus.settled(); len(completed) != 1 || f.bus.renewals != 0 {
					t.Errorf("completed %v after %d renewals, want one and none", completed, f.bus.renewals)
				}
			})
		})
	}
}

// A message that arrives while the host is stopping is no call any more.
func TestMessagesThatComeWhileStoppingAreAbandoned(t *testing.T) {
	for _, sessions := range []bool{true, false} {
		t.Run(fmt.Sprintf("sessions %v", sessions), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				f := newFeed(t, busBinding{sessions: sessions, autoComplete: true}, serviceBusOptions{}, func(string) error {
					calls++
					return nil
				})
				f.bus.mu.Lock()
				f.bus.handing = f.cancel
				f.bus.mu.Unlock()
				f.bus.send("s", "m-1", "x")
				synctest.Wait()
				f.stop()
				completed, abandoned := f.bus.settled()
				if calls != 0 || len(completed) != 0 || len(abandoned) != 1 {
					t.Errorf("%d calls, completed %v, abandoned %v; want the message abandoned", calls, completed, abandoned)
				}
			})
		})
	}
}

func TestUnreadableMessageIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, sessionBinding, serviceBusOptions{}, takes(0))
		defer f.stop()
		f.bus.send("s", "m-1", "\xff")
		time.Sleep(time.Second)
		if completed, abandoned := f.bus.settled(); len(completed) != 0 || len(abandoned) != 3 {
			t.Errorf("completed %v, abandoned %v", completed, abandoned)
		}
	})
}
