package reconcile

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// fires reports whether an armed timer is the very one that this pass answers,
// or an older one. It is gone, even where our clock, which is behind the
// broker's, says that its time is still to come: taken for armed, it would keep
// the next one from being armed.
func (p *pass) fires(array string, purpose burst.Purpose, armed ledger.Timer) bool {
	t := p.trigger.timer
	return t != nil && t.Nodearray == array && burst.Purpose(t.Purpose) == purpose && t.Generation >= armed.Generation
}

// maxLag bounds how far our clock is taken to be behind the broker's.
const maxLag = 10 * time.Minute

// lag is how far our clock is behind the broker's, as far as a timer tells that
// fires before its time has come here. A timer that is armed for that time
// again has to come later by as much: it would else fire at once, over and over.
func (p *pass) lag() time.Duration {
	if t := p.trigger.timer; t != nil {
		return min(max(0, t.Due.Sub(p.Now())), maxLag)
	}
	return 0
}

// arm schedules timers. The message is scheduled before the row says so: a
// crash in between leaves a timer that nobody waits for, and the next pass
// arms another.
func (p *pass) arm(ctx context.Context, timers []burst.Timer) {
	for _, t := range timers {
		if p.busFailed || ctx.Err() != nil {
			return // NextDue makes the first snapshot after it look
		}
		timer := event.ScaleDownTimer{
			Cluster: p.name, Nodearray: string(t.Nodearray), Purpose: event.TimerPurpose(t.Purpose),
			Generation: p.part.Cluster.Revision, Due: t.At.Add(p.lag()),
		}
		sequence, err := p.Outbox.ScheduleTimer(ctx, timer)
		if err != nil {
			p.Logger.Warn("timer was not armed", "cluster", p.name, "node_array", string(t.Nodearray), "purpose", string(t.Purpose), "error", err.Error())
			p.busFailed = true
			return
		}
		p.crash(pointTimerSent)
		p.armed = append(p.armed, armedNow{
			timer.Nodearray, t.Purpose,
			ledger.Timer{At: t.At, Generation: timer.Generation, SequenceNumber: sequence},
		})
		p.armFact(t)
	}
}

func (p *pass) armFact(t burst.Timer) {
	for i := range p.facts.Nodearrays {
		a := &p.facts.Nodearrays[i]
		if a.Name != t.Nodearray {
			continue
		}
		a.Armed = slices.DeleteFunc(slices.Clone(a.Armed), func(old burst.Timer) bool { return old.Purpose == t.Purpose })
		a.Armed = append(a.Armed, t)
	}
}

// recheckSoon asks for another look, because not all of the plan fitted one
// commit.
func (p *pass) recheckSoon(ctx context.Context) {
	timer := event.ScaleDownTimer{Cluster: p.name, Purpose: event.Recheck, Generation: p.part.Cluster.Revision, Due: p.Now()}
	if _, err := p.Outbox.ScheduleTimer(ctx, timer); err != nil && !errors.Is(err, context.Canceled) {
		p.Logger.Warn("recheck was not sent", "cluster", p.name, "error", err.Error())
	}
}

func armedTimer(a ledger.Nodearray, purpose burst.Purpose) ledger.Timer {
	switch purpose {
	case burst.BootDeadline:
		return a.BootDeadline
	case burst.IdleDeadline:
		return a.IdleDeadline
	case burst.Retry:
		return a.Retry
	}
	return ledger.Timer{}
}

func setTimer(a *ledger.Nodearray, purpose burst.Purpose, t ledger.Timer) {
	switch purpose {
	case burst.BootDeadline:
		a.BootDeadline = t
	case burst.IdleDeadline:
		a.IdleDeadline = t
	case burst.Retry:
		a.Retry = t
	}
}
