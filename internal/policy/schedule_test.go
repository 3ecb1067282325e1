package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/policy"
)

// windowOf is the schedule of a nodearray, compiled.
func windowOf(zone string, openings ...string) (burst.Window, error) {
	text := strings.Replace(sound, "nodearrays:", "timeZone: "+zone+"\nnodearrays:", 1) + "    schedule:\n"
	for _, o := range openings {
		cron, length, _ := strings.Cut(o, " for ")
		text += fmt.Sprintf("      - {cron: %q, for: %s}\n", cron, length)
	}
	d, err := policy.Parse([]byte(text), expand)
	if err != nil {
		return nil, err
	}
	return d.Burst().Nodearrays[0].Window, nil
}

func TestWindowsFollowTheClockOfTheirZone(t *testing.T) {
	// Berlin's clock is set forward on 2026-03-29 at 01:00 UTC (02:00 becomes
	// 03:00) and back on 2026-10-25 at 01:00 UTC (03:00 becomes 02:00).
	for _, tt := range []struct {
		name     string
		zone     string
		openings []string
		at       string
		open     bool
		changes  string
	}{
		{"before a night", "Europe/Berlin", []string{"0 20 * * * for 10h"}, "2026-07-01T17:59:59Z", false, "2026-07-01T18:00:00Z"},
		{"at its first moment", "Europe/Berlin", []string{"0 20 * * * for 10h"}, "2026-07-01T18:00:00Z", true, "2026-07-02T04:00:00Z"},
		{"after midnight", "Europe/Berlin", []string{"0 20 * * * for 10h"}, "2026-07-02T03:59:59.5Z", true, "2026-07-02T04:00:00Z"},
		{"at its end", "Europe/Berlin", []string{"0 20 * * * for 10h"}, "2026-07-02T04:00:00Z", false, "2026-07-02T18:00:00Z"},
		{"in winter", "Europe/Berlin", []string{"0 20 * * * for 10h"}, "2026-12-01T18:30:00Z", false, "2026-12-01T19:00:00Z"},
		{"in no zone", "UTC", []string{"0 20 * * * for 10h"}, "2026-12-01T19:30:00Z", false, "2026-12-01T20:00:00Z"},
		{"on a Friday night, until Monday", "UTC", []string{"0 20 * * MON-FRI for 10h", "0 6 * * SAT for 48h"}, "2026-07-03T21:00:00Z", true, "2026-07-06T06:00:00Z"},
		{"between two openings that do not touch", "UTC", []string{"0 20 * * MON-FRI for 10h", "0 7 * * SAT for 48h"}, "2026-07-03T21:00:00Z", true, "2026-07-04T06:00:00Z"},
		{"an opening within a longer one", "UTC", []string{"0 0 * * * for 20h", "0 4 * * * for 1h"}, "2026-07-03T04:30:00Z", true, "2026-07-03T20:00:00Z"},
		{"an opening that renews itself", "UTC", []string{"0 8-11 * * * for 1h"}, "2026-07-03T08:15:00Z", true, "2026-07-03T12:00:00Z"},
		{"once a year", "UTC", []string{"0 0 24 12 * for 240h"}, "2026-02-01T00:00:00Z", false, "2026-12-24T00:00:00Z"},
		{"a time that is skipped opens when the clock was set", "Europe/Berlin", []string{"30 2 * * * for 1h"}, "2026-03-29T00:59:00Z", false, "2026-03-29T01:00:00Z"},
		{"and lasts its hour", "Europe/Berlin", []string{"30 2 * * * for 1h"}, "2026-03-29T01:00:00Z", true, "2026-03-29T02:00:00Z"},
		{"a night that loses an hour is as long as any", "Europe/Berlin", []string{"0 20 * * * for 10h"}, "2026-03-28T20:00:00Z", true, "2026-03-29T05:00:00Z"},
		{"a time that comes twice opens the first time", "Europe/Berlin", []string{"30 2 * * * for 15m"}, "2026-10-25T00:29:00Z", false, "2026-10-25T00:30:00Z"},
		{"and not the second time", "Europe/Berlin", []string{"30 2 * * * for 15m"}, "2026-10-25T01:29:00Z", false, "2026-10-26T01:30:00Z"},
		{"half an hour of daylight saving", "Australia/Lord_Howe", []string{"15 2 * * * for 1h"}, "2026-10-03T15:00:00Z", false, "2026-10-03T15:30:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, err := windowOf(tt.zone, tt.openings...)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339, tt.at)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second answer is remembered
				open, changes := w.At(at)
				if got := changes.UTC().Format(time.RFC3339); open != tt.open || got != tt.changes {
					t.Errorf("at %s: open %v until %s, want %v until %s", tt.at, open, got, tt.open, tt.changes)
				}
			}
		})
	}
}

// A window's own word for when it changes is checked by asking minute by
// minute, in a fresh window each time, so that nothing is remembered.
func TestAWindowChangesWhenItSaysSo(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago"}
	crons := []string{"0 20 * * *", "30 2 * * *", "0 */3 * * MON-FRI", "15 0 1,15 * *", "0 0-6 * * SUN"}
	rapid.Check(t, func(t *rapid.T) {
		var openings []string
		for range rapid.IntRange(1, 3).Draw(t, "openings") {
			length := rapid.IntRange(15, 40*60).Draw(t, "minutes")
			openings = append(openings, fmt.Sprintf("%s for %dm", rapid.SampledFrom(crons).Draw(t, "cron"), length))
		}
		zone := rapid.SampledFrom(zones).Draw(t, "zone")
		w, err := windowOf(zone, openings...)
		if err != nil {
			if !strings.Contains(err.Error(), "is always open") {
				t.Fatal(err)
			}
			return
		}
		fresh, err := windowOf(zone, openings...)
		if err != nil {
			t.Fatal(err)
		}
		// Days around both changes of the clock in these zones.
		day := rapid.SampledFrom([]string{"2026-03-28", "2026-04-04", "2026-09-05", "2026-10-03", "2026-10-24", "2026-11-01"}).Draw(t, "day")
		from, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		from = from.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "minute")) * time.Minute)
		open, changes := w.At(from)
		if changes.IsZero() || !changes.After(from) {
			t.Fatalf("at %v it changes at %v", from, changes)
		}
		for at := from; at.Before(from.Add(12 * time.Hour)); at = at.Add(7 * time.Minute) {
			got, next := fresh.At(at)
			if at.Before(changes) && (got != open || !next.Equal(changes)) {
				t.Fatalf("at %v: open %v until %v; said %v until %v at %v", at, got, next, open, changes, from)
			}
			if said, _ := w.At(at); said != got {
				t.Fatalf("at %v the remembered answer is %v, a fresh one %v", at, said, got)
			}
		}
		if got, _ := fresh.At(changes); got == open {
			t.Fatalf("at %v it is still %v", changes, open)
		}
		if got, _ := fresh.At(changes.Add(-time.Second)); got != open {
			t.Fatalf("a second before %v it is no longer %v", changes, open)
		}
	})
}

func TestAScheduleIsReadInTime(t *testing.T) {
	began := time.Now()
	for _, openings := range [][]string{
		{"0 * * * * for 15m", "15 * * * * for 15m", "30 * * * * for 15m", "45 1-23 * * * for 15m"},
		{"0 * 1-11 * * for 1h"},
		{"0 0 * 1-11 * for 744h", "0 0 29 2 * for 15m"},
		{"0 * * * * for 60m"},
	} {
		w, err := windowOf("Europe/Berlin", openings...)
		if err != nil {
			if !strings.Contains(err.Error(), "is always open") {
				t.Errorf("%v: %v", openings, err)
			}
			continue
		}
		w.At(time.Date(2026, time.July, 1, 12, 0, 0, 0, time.UTC))
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("that took %v", took)
	}
}
