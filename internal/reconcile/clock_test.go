package reconcile_test

import (
	"slices"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
)

// armed is the newest timer of a purpose.
func (s *site) armed(purpose event.TimerPurpose) event.ScaleDownTimer {
	s.t.Helper()
	for _, timer := range slices.Backward(s.outbox.timers) {
		if timer.Purpose == purpose {
			return timer
		}
	}
	s.t.Fatalf("no timer %s is armed", purpose)
	return event.ScaleDownTimer{}
}

// The broker's clock says when a timer fires. In a process whose clock is behind
// it the time has not come: the timer is gone all the same, so another is armed,
// and not for a moment that the broker has left behind already.
func TestATimerThatFiresBeforeItsTimeIsArmedAgain(t *testing.T) {
	const behind = 20 * time.Second
	s := running(t)
	s.after(time.Minute)
	s.in("htc-1", "IDLE")
	s.report()
	first := s.armed(event.IdleDeadline)

	s.now = first.Due.Add(-behind)
	if _, err := s.rec.Timer(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	s.want("commands before the deadline", s.kinds(), "[]")
	second := s.armed(event.IdleDeadline)
	if second.Generation <= first.Generation {
		t.Fatalf("no other timer was armed; the newest is %+v", second)
	}
	s.want("when the broker lets it fire", second.Due, first.Due.Add(behind))

	s.now = second.Due.Add(-behind)
	if _, err := s.rec.Timer(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	s.want("commands at the deadline", s.kinds(), "[power_down_asap htc-1]")
}

// Somebody else's timer says nothing about the one that is armed.
func TestATimerThatIsStillToFireIsNotArmedAgain(t *testing.T) {
	s := running(t)
	s.after(time.Minute)
	s.in("htc-1", "IDLE")
	s.report()
	idle := s.armed(event.IdleDeadline)
	s.after(10 * time.Second)
	for _, other := range []event.ScaleDownTimer{
		{Cluster: clusterName, Nodearray: "htc", Purpose: event.Retry, Generation: idle.Generation, Due: s.now},
		{Cluster: clusterName, Nodearray: "hpc", Purpose: event.IdleDeadline, Generation: idle.Generation, Due: s.now},
		{Cluster: clusterName, Purpose: event.Recheck, Generation: idle.Generation, Due: s.now},
	} {
		if _, err := s.rec.Timer(t.Context(), other); err != nil {
			t.Fatal(err)
		}
	}
	s.want("the idle deadline's timer", s.armed(event.IdleDeadline), idle)
}
