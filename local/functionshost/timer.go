package functionshost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// scheduleStatus is the monitor's record of one timer (ScheduleStatus.cs), kept
// in the real host as a blob.
type scheduleStatus struct {
	Last, Next, LastUpdated time.Time
}

// timerListener fires one timerTrigger (TimerListener.cs).
type timerListener struct {
	f      *function
	call   *caller
	log    *slog.Logger
	status *timerStatus
}

// timerStatus stores scheduleStatus in memory and, if path is set, in a file.
type timerStatus struct {
	mu    sync.Mutex
	path  string
	value *scheduleStatus
}

func newTimerStatus(dir, function string) *timerStatus {
	if dir == "" {
		return &timerStatus{}
	}
	return &timerStatus{path: filepath.Join(dir, "timers", function+".json")}
}

func (s *timerStatus) load() (*scheduleStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.value != nil || s.path == "" {
		return s.value, nil
	}
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read timer status: %w", err)
	}
	var v scheduleStatus
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, fmt.Errorf("read timer status %s: %w", s.path, err)
	}
	s.value = &v
	return s.value, nil
}

func (s *timerStatus) store(v scheduleStatus) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value = &v
	if s.path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return fmt.Errorf("make timer status folder: %w", err)
	}
	fresh := s.path + ".new"
	if err := os.WriteFile(fresh, plain(v), 0o644); err != nil {
		return fmt.Errorf("write timer status: %w", err)
	}
	return os.Rename(fresh, s.path)
}

// monitored reports whether missed occurrences are noticed.
func (l *timerListener) monitored() bool {
	return l.f.timer.useMonitor && !l.f.timer.schedule.tooFast(time.Now())
}

// run fires until ctx ends. The next occurrence is computed after a call ended,
// so that calls never overlap and a failed one does not stop the schedule.
func (l *timerListener) run(ctx context.Context) {
	pastDue := l.checkPastDue()
	if l.f.timer.runOnStartup || pastDue {
		l.fire(pastDue)
	}
	for {
		next := l.f.timer.schedule.next(time.Now())
		if next.IsZero() {
			return
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if ctx.Err() == nil {
			l.fire(false)
		}
	}
}

// checkPastDue reports whether an occurrence was missed while no host ran. On
// the very first start it only notes when the next one is due.
func (l *timerListener) checkPastDue() bool {
	if !l.monitored() {
		return false
	}
	now := time.Now()
	status, err := l.status.load()
	if err != nil {
		l.log.Error("timer status is unreadable and begins anew", "function", l.f.name, "error", err)
	}
	due := l.f.timer.schedule.next(now)
	if status == nil {
		l.save(scheduleStatus{Next: due})
		return false
	}
	// Another schedule than the one that the record was made with counts from
	// the record's time.
	if want := l.f.timer.schedule.next(status.LastUpdated); !status.LastUpdated.IsZero() && !want.Equal(status.Next) {
		l.save(scheduleStatus{Last: status.Last, Next: due, LastUpdated: now})
		return now.After(want)
	}
	return now.After(status.Next)
}

func (l *timerListener) save(s scheduleStatus) {
	if err := l.status.store(s); err != nil {
		l.log.Error("timer status was not stored", "function", l.f.name, "error", err)
	}
}

// fire runs one call now.
func (l *timerListener) fire(pastDue bool) {
	inv := l.call.invocation(l.f, timerTrigger)
	began := time.Now()
	_, err := l.call.send(l.f, l.body(inv.ID, began, pastDue), &inv)
	l.call.finish(inv, err)
	if l.monitored() {
		l.save(scheduleStatus{Last: began, Next: l.f.timer.schedule.next(began), LastUpdated: began})
	}
}

// body is TimerInfo: an object, so nothing in it is encoded twice.
func (l *timerListener) body(id string, now time.Time, pastDue bool) []byte {
	type status struct{ Last, Next, LastUpdated string }
	info := struct {
		Schedule       struct{ AdjustForDST bool }
		ScheduleStatus *status
		IsPastDue      bool
	}{IsPastDue: pastDue}
	info.Schedule.AdjustForDST = true
	if l.monitored() {
		s, err := l.status.load()
		if err != nil || s == nil {
			s = &scheduleStatus{Next: l.f.timer.schedule.next(now)}
		}
		info.ScheduleStatus = &status{Last: ticks(s.Last), Next: ticks(s.Next), LastUpdated: ticks(s.LastUpdated)}
	}
	meta := newBindingData()
	meta.set("sys", systemData(l.f.name, id, now))
	return envelope(l.f.binding, plain(info), meta)
}
