package policy

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	_ "time/tzdata" // zones are the same on a machine that has none

	"github.com/robfig/cron/v3"

	"github.com/slurmburst/slurmburst/internal/burst"
)

const (
	maxOpenings = 8
	minOpening  = 15 * time.Minute
	maxOpening  = 31 * day
	// maxOpen and maxLooks bound how far ahead a window looks for its end.
	maxOpen  = 400 * day
	maxLooks = 5_000
)

// compileSchedule gives the window of a schedule; nil for always.
func (p *parsing) compileSchedule(path string, openings []Opening, zone *time.Location) burst.Window {
	var w window
	for i, o := range openings {
		if o.Cron == "" || o.For == 0 {
			return nil // told already
		}
		times, err := newRecurrence(o.Cron, zone)
		if err != nil {
			p.at(fmt.Sprintf("%s[%d].cron", path, i), "is not a time that comes again (got %s): %w", show(o.Cron), err)
			return nil
		}
		w.openings = append(w.openings, opening{times, o.For})
	}
	if len(w.openings) == 0 {
		return nil
	}
	if _, ends := w.end(w.next(reference)); !ends {
		p.at(path, "is always open (want no schedule at all)")
	}
	return &w
}

// reference is the moment at which a schedule is tried: what a file means must
// not hang on when it is read.
var reference = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// window is open while one of its openings is.
type window struct {
	openings []opening
	// last is the newest answer, which holds until it changes: Decide asks the
	// same again for each group of jobs.
	last atomic.Pointer[span]
}

type opening struct {
	times  *recurrence
	length time.Duration
}

// span is from from until to; a zero to is never.
type span struct {
	open     bool
	from, to time.Time
}

// At implements burst.Window.
func (w *window) At(t time.Time) (open bool, changes time.Time) {
	if s := w.last.Load(); s != nil && !t.Before(s.from) && (s.to.IsZero() || t.Before(s.to)) {
		return s.open, s.to
	}
	s := span{from: t}
	if end, _ := w.end(t); end.After(t) {
		s.open, s.to = true, end
	} else {
		s.to = w.next(t)
	}
	w.last.Store(&s)
	return s.open, s.to
}

// end is when the window that is open at t closes: one opening may begin before
// another ends. It is t where the window is closed. A window that seems to
// close never, which no file can ask for, gives a moment far ahead.
func (w *window) end(t time.Time) (end time.Time, ends bool) {
	end = t
	for range maxLooks {
		before := end
		for _, o := range w.openings {
			if from, found := o.times.latest(before, o.length); found && from.Add(o.length).After(end) {
				end = from.Add(o.length)
			}
		}
		if end.Equal(before) {
			return end, true
		}
		if end.After(t.Add(maxOpen)) {
			break
		}
	}
	return end, false
}

// next is the first opening after t.
func (w *window) next(t time.Time) time.Time {
	var first time.Time
	for _, o := range w.openings {
		if at := o.times.next(t); first.IsZero() || !at.IsZero() && at.Before(first) {
			first = at
		}
	}
	return first
}

// recurrence is the moments at which a clock on the wall agrees with a cron
// expression. The library's own schedules skip a time that daylight saving
// skips; these come at the moment of the skip, and a time that the clock shows
// twice comes once, so that no night passes without its window.
type recurrence struct {
	wall *cron.SpecSchedule // in UTC, which stands for the wall
	zone *time.Location
}

var cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

func newRecurrence(text string, zone *time.Location) (*recurrence, error) {
	schedule, err := cronParser.Parse(text)
	if err != nil {
		return nil, err
	}
	spec, ok := schedule.(*cron.SpecSchedule)
	if !ok {
		return nil, errors.New("not five fields")
	}
	spec.Location = time.UTC
	r := &recurrence{spec, zone}
	if r.next(reference).IsZero() {
		return nil, errors.New("it never comes")
	}
	return r, nil
}

// next is the first moment after t, or zero for none within five years. What
// the clock at t has shown already never comes again.
func (r *recurrence) next(t time.Time) time.Time {
	at := r.wall.Next(wallOf(t, r.zone))
	for !at.IsZero() {
		if moment := momentOf(at, r.zone); moment.After(t) {
			return moment
		}
		at = r.wall.Next(at)
	}
	return time.Time{}
}

// latest is the last moment at or before t, if there is one within length.
func (r *recurrence) latest(t time.Time, length time.Duration) (time.Time, bool) {
	low, high := t.Add(-length), t // the moment is in (low, high]
	at := r.next(low)
	if at.IsZero() || at.After(t) {
		return time.Time{}, false
	}
	for at.Before(high) {
		middle := at.Add(high.Sub(at) / 2)
		next := r.next(middle)
		switch {
		case next.IsZero() || next.After(t):
			// Nothing lies in (middle, t].
			if high = middle; high.Sub(at) < time.Minute {
				return at, true
			}
		default:
			at = next
		}
	}
	return at, true
}

// wallOf is what the clock in zone shows at t, as if it were UTC.
func wallOf(t time.Time, zone *time.Location) time.Time {
	local := t.In(zone)
	_, offset := local.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// momentOf is the first moment at which the clock in zone shows wall, or has
// passed it where daylight saving skips it.
func momentOf(wall time.Time, zone *time.Location) time.Time {
	y, m, d := wall.Date()
	t := time.Date(y, m, d, wall.Hour(), wall.Minute(), wall.Second(), 0, zone)
	start, end := t.ZoneBounds()
	if shown := wallOf(t, zone); !shown.Equal(wall) {
		// The clock never shows it: time.Date gave a moment on one side.
		if shown.After(wall) {
			return start.UTC()
		}
		return end.UTC()
	}
	if start.IsZero() {
		return t.UTC()
	}
	// Had the clock shown it already before it was set back?
	_, before := start.Add(-time.Second).Zone()
	_, now := t.Zone()
	if earlier := t.Add(time.Duration(now-before) * time.Second); earlier.Before(start) {
		return earlier.UTC()
	}
	return t.UTC()
}
