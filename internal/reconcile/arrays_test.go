package reconcile_test

import (
	"context"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// lateArrays is a process that stands still before it writes the rows of
// nodearrays.
type lateArrays struct {
	reconcile.Ledger
	meanwhile func()
}

func (l *lateArrays) PutNodearrays(ctx context.Context, cluster string, rows []ledger.Nodearray) ([]ledger.Nodearray, []string, error) {
	if then := l.meanwhile; then != nil {
		l.meanwhile = nil
		then()
	}
	return l.Ledger.PutNodearrays(ctx, cluster, rows)
}

// Two processes may write the row of a nodearray at once. The later commit
// stands, and the row tells the newest timer of each purpose, whoever armed it:
// an older one in its place would make that one void or armed again.
func TestTheRowOfANodearrayTellsTheNewestTimerWhoeverArmedIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		then  func(*site) // what has happened when the other process looks
		armed int         // timers of the purpose
		idle  int
	}{
		{"the other armed a later one", func(s *site) { s.in("htc-1", "IDLE") }, 2, 1},
		{"the other needed none", func(s *site) { s.in("htc-1", "MIXED"); s.resume("htc-2", "r2", batch) }, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := running(t)
			s.after(time.Minute)
			late := &lateArrays{Ledger: s.ledger}
			slow, other := s.process(late, s.cloud, s.outbox), s.process(s.ledger, s.cloud, s.outbox)
			var revision int64
			late.meanwhile = func() {
				s.after(10 * time.Second)
				c.then(s)
				if _, err := other.Pressure(t.Context(), s.pressure(), s.now); err != nil {
					t.Error(err)
				}
				revision = s.revision()
			}
			s.in("htc-1", "IDLE")
			if _, err := slow.Pressure(t.Context(), s.pressure(), s.now); err != nil || late.meanwhile != nil {
				t.Fatalf("the process did not stand still: %v", err)
			}
			var newest event.ScaleDownTimer
			armed := 0
			for _, timer := range s.outbox.timers {
				if timer.Purpose == event.IdleDeadline {
					newest = timer
					armed++
				}
			}
			s.want("timers armed", armed, c.armed)
			s.want("generation in the row", s.array().IdleDeadline.Generation, newest.Generation)
			s.want("due in the row", s.array().IdleDeadline.At.Equal(newest.Due), true)
			s.want("idle nodes in the row", s.array().Counts.Idle, c.idle)
			s.want("revision of the row", s.array().Revision, revision)
		})
	}
}
