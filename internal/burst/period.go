package burst

import "time"

// periods are all periods, in the order of index.
var periods = [...]Period{Hour, Day, Month}

// index is the period's place in periods.
func (p Period) index() int {
	switch p {
	case Hour:
		return 0
	case Day:
		return 1
	case Month:
	}
	return 2
}

// periodStart is when the hour, day or month around t began in the zone (nil
// for UTC). It is given in UTC, so that equal moments look equal.
func periodStart(p Period, t time.Time, zone *time.Location) time.Time {
	if zone == nil {
		zone = time.UTC
	}
	local := t.In(zone)
	year, month, day := local.Date()
	switch p {
	case Hour:
		return hourStart(local)
	case Day:
	case Month:
		day = 1
	}
	return dayStart(year, month, day, zone)
}

// hourStart is when the zone's clock last showed a full hour, or was changed to
// one that shows none (a zone may change by half an hour).
func hourStart(local time.Time) time.Time {
	_, offset := local.Zone()
	into := (local.Unix() + int64(offset)) % 3600
	if into < 0 {
		into += 3600
	}
	start := time.Unix(local.Unix()-into, 0).UTC()
	if changed, _ := local.ZoneBounds(); !changed.IsZero() && start.Before(changed) {
		start = changed.UTC()
	}
	return start
}

// dayStart is the first moment of a date. Zones change their clocks at midnight
// too: there may be two midnights, of which the first counts, or none.
func dayStart(year int, month time.Month, day int, zone *time.Location) time.Time {
	midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	before := midnight.Add(-36 * time.Hour).In(zone)
	after := midnight.Add(36 * time.Hour).In(zone)
	_, early := before.Zone()
	_, late := after.Zone()
	// A larger offset is an earlier moment.
	for _, offset := range []int{max(early, late), min(early, late)} {
		t := midnight.Add(-time.Duration(offset) * time.Second)
		l := t.In(zone)
		if l.Day() == day && l.Hour() == 0 && l.Minute() == 0 && l.Second() == 0 {
			return t
		}
	}
	if _, changes := before.ZoneBounds(); !changes.IsZero() {
		return changes.UTC()
	}
	return time.Date(year, month, day, 0, 0, 0, 0, zone).UTC()
}

// calendar knows, for each period, when the present one and the one before it
// began: those two are kept in the books.
type calendar struct {
	present, previous [len(periods)]time.Time
}

func newCalendar(now time.Time, zone *time.Location) calendar {
	var c calendar
	for i, p := range periods {
		c.present[i] = periodStart(p, now, zone)
		c.previous[i] = periodStart(p, c.present[i].Add(-1), zone)
	}
	return c
}

// counts reports whether what was committed at t counts in the present period.
// A moment that is still to come does: clocks differ.
func (c *calendar) counts(p Period, t time.Time) bool { return !t.Before(c.present[p.index()]) }

// page is the kept period to which t belongs. Hours and days that are no longer
// kept have none; of months none is lost: what is older goes into the older of
// the two.
func (c *calendar) page(p Period, t time.Time) (time.Time, bool) {
	i := p.index()
	switch {
	case !t.Before(c.present[i]):
		return c.present[i], true
	case !t.Before(c.previous[i]) || p == Month:
		return c.previous[i], true
	}
	return time.Time{}, false
}

// split divides the time from a to b between the pages of a period: what went
// by in the previous one, and in the present one.
func (c *calendar) split(p Period, a, b time.Time) (previous, present time.Duration) {
	i := p.index()
	border := c.present[i]
	if b.After(border) {
		present = b.Sub(later(a, border))
		b = border
	}
	if p != Month {
		a = later(a, c.previous[i])
	}
	return max(0, b.Sub(a)), max(0, present)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
