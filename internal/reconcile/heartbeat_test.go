package reconcile_test

import (
	"context"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// countedBeats counts the heartbeats that are written.
type countedBeats struct {
	reconcile.Ledger
	beats int
}

func (l *countedBeats) NoteHeartbeat(ctx context.Context, cluster string, beat ledger.Heartbeat) error {
	l.beats++
	return l.Ledger.NoteHeartbeat(ctx, cluster, beat)
}

// An agent that says every second that nothing has changed is heard at least
// every five; one that speaks every thirty seconds, as agents do, every time.
func TestHeartbeatsAreNotedAsOftenAsAnybodyNeedsThem(t *testing.T) {
	for _, c := range []struct {
		every, validity time.Duration
		want            int // of 20
	}{
		{time.Second, 90 * time.Second, 4},
		{30 * time.Second, 90 * time.Second, 20},
		{5 * time.Second, 90 * time.Second, 20},
		{time.Second, 10 * time.Second, 7}, // every third: facts never seem older by more than a quarter of what they are good for
	} {
		s := quiet(t)
		s.policy.MaxActAge = c.validity
		s.restart()
		s.after(time.Second)
		s.report()
		counted := &countedBeats{Ledger: s.ledger}
		app := s.process(counted, s.cloud, s.outbox)
		for range 20 {
			s.after(c.every)
			if r, err := app.Pressure(t.Context(), s.pressure(), s.now); err != nil || r.Outcome != reconcile.OutcomeNoted {
				t.Fatalf("%+v, %v", r, err)
			}
			p, err := s.ledger.Load(t.Context(), clusterName)
			if err != nil || s.now.Sub(p.Heartbeat.AsOf) > 5*time.Second {
				t.Fatalf("every %v: heard %v ago, %v", c.every, s.now.Sub(p.Heartbeat.AsOf), err)
			}
		}
		if counted.beats != c.want {
			t.Errorf("every %v with a validity of %v: %d heartbeats noted of 20, want %d", c.every, c.validity, counted.beats, c.want)
		}
	}
}

// A later epoch is noted at once: from then on the earlier one is refused.
func TestTheFirstHeartbeatOfAnEpochIsNotedAtOnce(t *testing.T) {
	s := quiet(t)
	s.after(10 * time.Second)
	s.report()
	s.after(time.Second)
	old := s.pressure()
	s.epoch++
	s.want("outcome", s.report().Outcome, reconcile.OutcomeNoted)
	p, err := s.ledger.Load(t.Context(), clusterName)
	if err != nil || p.Heartbeat.Epoch != s.epoch {
		t.Errorf("noted epoch %d, %v; want %d", p.Heartbeat.Epoch, err, s.epoch)
	}
	old.Sequence += 100
	if r, err := s.rec.Pressure(t.Context(), old, s.now); err != nil || r.Outcome != reconcile.OutcomeDuplicate {
		t.Errorf("the earlier epoch: %+v, %v", r, err)
	}
}
