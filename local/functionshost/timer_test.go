package functionshost

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSchedules(t *testing.T) {
	from := time.Date(2026, 11, 23, 11, 47, 13, 5, time.UTC) // a Monday
	for _, c := range []struct {
		text, want string // want "" is an error
	}{
		{"0 */5 * * * *", "2026-11-23T11:50:00Z"},
		{"*/5 * * * *", "2026-11-23T11:50:00Z"},
		{"*/10 * * * * *", "2026-11-23T11:47:20Z"},
		{"0 30 9 * * 1-5", "2026-11-24T09:30:00Z"},
		{"0 0 0 1 * *", "2026-12-01T00:00:00Z"},
		{"0 0 0 13 * 5", "2027-08-13T00:00:00Z"}, // Friday the 13th: both must match
		{"0 0 0 * 1 Mon", "2027-01-04T00:00:00Z"},
		{"0 0 0 29 2 *", "2028-02-29T00:00:00Z"},
		{"0 0 0 30 2 *", ""},
		{"00:05:00", ""},
		{"* * * *", ""},
		{"0 0 0 ? * *", ""},
		{"@hourly", ""},
		{"TZ=Europe/Berlin 0 0 0 * * *", ""},
		{"0 60 * * * *", ""},
		{"", ""},
	} {
		t.Run(c.text, func(t *testing.T) {
			s, err := parseSchedule(c.text)
			if c.want == "" {
				if err == nil {
					t.Errorf("accepted, next %v", s.next(from))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := s.next(from).Format(time.RFC3339); got != c.want {
				t.Errorf("next %s, want %s", got, c.want)
			}
		})
	}
}

// fired is one call of a timer under test.
type fired struct {
	At   string
	Body timerBody
}

type timerBody struct {
	Schedule       struct{ AdjustForDST bool }
	ScheduleStatus *struct{ Last, Next, LastUpdated string }
	IsPastDue      bool
}

// clockTimer runs a timer on the virtual clock of a synctest bubble, which
// begins at 2000-01-01T00:00:00Z, for the given time.
func clockTimer(t *testing.T, b timerBinding, dir string, length time.Duration, work func() error) []fired {
	t.Helper()
	var calls []fired
	call := &caller{cfg: Config{}.withDefaults(), w: &worker{name: "app"}, stats: &counters{}}
	call.send = func(_ *function, body []byte, _ *Invocation) (*reply, error) {
		var wire struct{ Data map[string]timerBody }
		if err := json.Unmarshal(body, &wire); err != nil {
			t.Error(err)
		}
		calls = append(calls, fired{At: time.Now().UTC().Format("15:04:05"), Body: wire.Data["timer"]})
		return &reply{}, work()
	}
	f := &function{name: "sweep", binding: "timer", trigger: timerTrigger, timer: b}
	l := &timerListener{f: f, call: call, log: call.cfg.Logger, status: newTimerStatus(dir, f.name)}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	l.run(ctx)
	return calls
}

func mustSchedule(t *testing.T, text string) schedule {
	t.Helper()
	s, err := parseSchedule(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func times(calls []fired) []string {
	out := []string{}
	for _, c := range calls {
		out = append(out, c.At)
	}
	return out
}

func TestTimerRuns(t *testing.T) {
	for _, c := range []struct {
		name    string
		binding timerBinding
		work    func() error
		want    []string
	}{
		{"at each occurrence", timerBinding{useMonitor: true}, takesNothing, []string{"00:05:00", "00:10:00", "00:15:00"}},
		{"at the start too when asked", timerBinding{runOnStartup: true}, takesNothing, []string{"00:00:00", "00:05:00", "00:10:00", "00:15:00"}},
		{"without overlap, skipping what a long call missed", timerBinding{}, func() error { time.Sleep(7 * time.Minute); return nil }, []string{"00:05:00", "00:15:00"}},
		{"on after a failure", timerBinding{}, func() error { return errors.New("broken") }, []string{"00:05:00", "00:10:00", "00:15:00"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.binding.schedule = mustSchedule(t, "0 */5 * * * *")
				calls := clockTimer(t, c.binding, "", 17*time.Minute, c.work)
				if diff := cmp.Diff(c.want, times(calls)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

func takesNothing() error { return nil }

func TestTimerInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := clockTimer(t, timerBinding{schedule: mustSchedule(t, "0 */5 * * * *"), useMonitor: true}, "", 11*time.Minute, takesNothing)
		type status = struct{ Last, Next, LastUpdated string }
		const never = "0001-01-01T00:00:00+00:00"
		want := []*status{
			{never, "2000-01-01T00:05:00+00:00", never},
			{"2000-01-01T00:05:00+00:00", "2000-01-01T00:10:00+00:00", "2000-01-01T00:05:00+00:00"},
		}
		for i, w := range want {
			if diff := cmp.Diff(w, calls[i].Body.ScheduleStatus); diff != "" {
				t.Errorf("status in call %d (-want +got):\n%s", i+1, diff)
			}
			if !calls[i].Body.Schedule.AdjustForDST || calls[i].Body.IsPastDue {
				t.Errorf("call %d: %+v", i+1, calls[i].Body)
			}
		}
	})
	t.Run("has no status without a monitor or below a minute", func(t *testing.T) {
		for _, b := range []timerBinding{
			{schedule: mustSchedule(t, "0 */5 * * * *")},
			{schedule: mustSchedule(t, "*/30 * * * * *"), useMonitor: true},
		} {
			synctest.Test(t, func(t *testing.T) {
				for _, c := range clockTimer(t, b, "", 6*time.Minute, takesNothing) {
					if c.Body.ScheduleStatus != nil {
						t.Errorf("status %+v", c.Body.ScheduleStatus)
					}
				}
			})
		}
	})
}

func TestTimerBodyShape(t *testing.T) {
	call := &caller{cfg: Config{}.withDefaults()}
	f := &function{name: "Reconcile", binding: "timer", timer: timerBinding{schedule: mustSchedule(t, "0 */5 * * * *"), useMonitor: true}}
	last := time.Date(2026, 11, 23, 11, 45, 0, 12300, time.UTC)
	l := &timerListener{f: f, call: call, status: &timerStatus{value: &scheduleStatus{Last: last, Next: last.Truncate(time.Second).Add(5 * time.Minute), LastUpdated: last}}}
	diffJSON(t, `{"Data": {"timer": {"Schedule": {"AdjustForDST": true},
		"ScheduleStatus": {"Last": "2026-11-23T11:45:00.0000123+00:00", "Next": "2026-11-23T11:50:00+00:00", "LastUpdated": "2026-11-23T11:45:00.0000123+00:00"},
		"IsPastDue": false}},
		"Metadata": {"sys": {"MethodName": "Reconcile", "UtcNow": "2026-11-23T11:47:13.1234567Z", "RandGuid": "0b0c"}}}`,
		string(l.body("0b0c", testNow, false)))
}

func TestMissedOccurrence(t *testing.T) {
	dir := t.TempDir()
	binding := func(t *testing.T, text string) timerBinding {
		return timerBinding{schedule: mustSchedule(t, text), useMonitor: true}
	}
	run := func(name, schedule string, idle time.Duration, want []string, pastDue bool) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(idle)
				calls := clockTimer(t, binding(t, schedule), dir, 3*time.Minute+30*time.Second, takesNothing)
				if diff := cmp.Diff(want, times(calls)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if len(calls) > 0 && calls[0].Body.IsPastDue != pastDue {
					t.Errorf("IsPastDue %v, want %v", calls[0].Body.IsPastDue, pastDue)
				}
			})
		})
	}
	// Each run begins at midnight; idle is how long no host ran since then.
	run("the first start ever fires nothing", "0 */5 * * * *", 0, []string{}, false)
	run("a restart before the occurrence fires nothing", "0 */5 * * * *", 30*time.Second, []string{}, false)
	run("a restart after three occurrences fires once, at once, past due", "0 */5 * * * *", 16*time.Minute, []string{"00:16:00"}, true)
	run("what has run is not past due again", "0 */5 * * * *", 18*time.Minute, []string{"00:20:00"}, false)

	t.Run("a broken status file begins anew", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(dir, "timers", "sweep.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			calls := clockTimer(t, binding(t, "0 */5 * * * *"), dir, 6*time.Minute, takesNothing)
			if diff := cmp.Diff([]string{"00:05:00"}, times(calls)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	})
}
