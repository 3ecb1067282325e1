package burst

import (
	"testing"
	"time"
	_ "time/tzdata" // the same zones on every machine

	"pgregory.net/rapid"
)

func zone(t interface{ Fatal(...any) }, name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestPeriodsBegin(t *testing.T) {
	for name, c := range map[string]struct {
		zone, at string
		period   Period
		want     string
	}{
		"an hour in UTC":            {"UTC", "2026-03-01T12:34:56Z", Hour, "2026-03-01T12:00:00Z"},
		"a full hour begins itself": {"UTC", "2026-03-01T12:00:00Z", Hour, "2026-03-01T12:00:00Z"},
		"a day in UTC":              {"UTC", "2026-03-01T12:34:56Z", Day, "2026-03-01T00:00:00Z"},
		"a month in UTC":            {"UTC", "2026-03-31T23:59:59Z", Month, "2026-03-01T00:00:00Z"},
		"a day begins before midnight in UTC where clocks are ahead": {"Europe/Berlin", "2026-01-10T23:30:00Z", Day, "2026-01-10T23:00:00Z"},
		"a month begins with the zone's first day":                   {"Europe/Berlin", "2026-03-31T22:30:00Z", Month, "2026-03-31T22:00:00Z"},
		"an hour of a zone that is off by three quarters":            {"Asia/Kathmandu", "2026-03-01T12:20:00Z", Hour, "2026-03-01T12:15:00Z"},
		"the day on which clocks go forward":                         {"Europe/Berlin", "2026-03-29T20:00:00Z", Day, "2026-03-28T23:00:00Z"},
		"the month in which clocks go forward":                       {"Europe/Berlin", "2026-03-30T20:00:00Z", Month, "2026-02-28T23:00:00Z"},
		"the hour after clocks went forward":                         {"Europe/Berlin", "2026-03-29T01:30:00Z", Hour, "2026-03-29T01:00:00Z"},
		"the first of two equal hours":                               {"Europe/Berlin", "2026-10-25T00:30:00Z", Hour, "2026-10-25T00:00:00Z"},
		"the second of two equal hours":                              {"Europe/Berlin", "2026-10-25T01:30:00Z", Hour, "2026-10-25T01:00:00Z"},
		"a day without a midnight begins when clocks change":         {"America/Havana", "2026-03-08T12:00:00Z", Day, "2026-03-08T05:00:00Z"},
		"of two midnights the first counts":                          {"America/Havana", "2026-11-01T12:00:00Z", Day, "2026-11-01T04:00:00Z"},
		"a clock that goes back at midnight ends the day later":      {"America/Sao_Paulo", "2018-02-18T02:30:00Z", Day, "2018-02-17T02:00:00Z"},
		"a half hour that clocks skip shortens no other":             {"Australia/Lord_Howe", "2026-10-03T15:40:00Z", Hour, "2026-10-03T15:30:00Z"},
		"a day after one that was left out":                          {"Pacific/Apia", "2011-12-30T11:00:00Z", Day, "2011-12-30T10:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, c.at)
			if err != nil {
				t.Fatal(err)
			}
			if got := periodStart(c.period, at, zone(t, c.zone)).Format(time.RFC3339); got != c.want {
				t.Errorf("the %s of %s in %s begins %s, want %s", c.period, c.at, c.zone, got, c.want)
			}
		})
	}
	if got := periodStart(Hour, origin.Add(time.Second), nil); got != origin {
		t.Errorf("without a zone the hour begins %s", got)
	}
}

// A period has one beginning, which is the first moment of it, in every zone
// and on the days when clocks change.
func TestAPeriodHasOneBeginning(t *testing.T) {
	zones := []string{
		"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana", "America/Santiago",
		"Africa/Cairo", "Asia/Beirut", "Pacific/Apia", "Pacific/Chatham", "Africa/Casablanca",
	}
	rapid.Check(t, func(t *rapid.T) {
		z := zone(t, rapid.SampledFrom(zones).Draw(t, "zone"))
		at := time.Unix(rapid.Int64Range(1_400_000_000, 2_000_000_000).Draw(t, "at"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		if rapid.Bool().Draw(t, "about a change") {
			if _, change := at.In(z).ZoneBounds(); !change.IsZero() {
				at = change.Add(time.Duration(rapid.Int64Range(int64(-26*time.Hour), int64(26*time.Hour)).Draw(t, "away")))
			}
		}
		for _, p := range periods {
			start := periodStart(p, at, z)
			if start.After(at) || start.Location() != time.UTC {
				t.Fatalf("the %s of %s begins %s", p, at, start)
			}
			if again := periodStart(p, start, z); !again.Equal(start) {
				t.Fatalf("the %s of %s begins %s, whose own begins %s", p, at, start, again)
			}
			before := periodStart(p, start.Add(-1), z)
			if !before.Before(start) {
				t.Fatalf("the %s before %s begins %s", p, start, before)
			}
			l, m, k := at.In(z), start.In(z), start.Add(-1).In(z)
			switch p {
			case Hour:
				changed, _ := m.ZoneBounds()
				if at.Sub(start) >= time.Hour || (m.Minute() != 0 && !changed.Equal(start)) {
					t.Fatalf("the hour of %s begins %s", l, m)
				}
			case Day:
				if l.Day() != m.Day() || at.Sub(start) > 25*time.Hour || k.Day() == l.Day() {
					t.Fatalf("the day of %s begins %s after %s", l, m, k)
				}
			case Month:
				if l.Month() != m.Month() || m.Day() != 1 || k.Month() == l.Month() {
					t.Fatalf("the month of %s begins %s after %s", l, m, k)
				}
			}
		}
	})
}
