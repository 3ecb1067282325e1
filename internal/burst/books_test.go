package burst

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOldBooksAreClosed(t *testing.T) {
	var m Memory
	for _, p := range periods {
		from := periodStart(p, origin, nil)
		for i := range 4 {
			m.Books = append(m.Books, Book{Period: p, From: from, Account: "chem", Nodearray: "htc", Settled: Money(i + 1)})
			from = periodStart(p, from.Add(-1), nil)
		}
	}
	var kept []Money
	for _, b := range advance(origin, priced(), Facts{Memory: m}).Books {
		kept = append(kept, b.Settled)
	}
	// Of each period the one before and the present one, in this order.
	if diff := cmp.Diff([]Money{2, 1, 2, 1, 2, 1}, kept); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}

func TestMoneyIsNotForgottenWhenTheZoneChanges(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"}
	for _, from := range zones {
		for _, to := range zones {
			before, after := priced(), priced()
			before.Zone, after.Zone = zone(t, from), zone(t, to)
			now := origin.Add(10 * 24 * time.Hour)
			var m Memory
			for i, p := range periods {
				for _, account := range []string{"bio", "chem"} {
					b := Book{Period: p, From: periodStart(p, now, before.Zone), Account: account, Nodearray: "htc", Settled: Money(i+1) * unit, NodeTime: time.Hour, JobsSettled: 2}
					m.Books = append(m.Books, b)
				}
			}
			m = advance(now, after, Facts{Memory: m})
			for i, p := range periods {
				used := m.used(after, Budget{Scope: ScopeAccount, Name: "chem", Period: p}, now)
				if want := Money(i+1) * unit; p == Month && used != want {
					t.Errorf("from %s to %s: %s of the month is %s", from, to, want, used)
				}
			}
			if want := Money(2 * (1 + 2 + 3)); settled(m.Books, Hour)+settled(m.Books, Day)+settled(m.Books, Month) != want*unit {
				t.Errorf("from %s to %s the books hold %+v", from, to, m.Books)
			}
		}
	}
	t.Run("what meets in one period is added", func(t *testing.T) {
		month := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		book := func(from time.Time) Book {
			return Book{
				Period: Month, From: from, Account: "chem", Nodearray: "htc", Settled: 1, BootWaste: 2, IdleWaste: 3, NodeTime: 4, WastedTime: 5, JobsSettled: 6,
			}
		}
		m := advance(origin, priced(), Facts{Memory: Memory{Books: []Book{book(month.Add(-time.Hour)), book(month)}}})
		want := Book{Period: Month, From: month, Account: "chem", Nodearray: "htc", Settled: 2, BootWaste: 4, IdleWaste: 6, NodeTime: 8, WastedTime: 10, JobsSettled: 12}
		if diff := cmp.Diff([]Book{want}, slices.Concat(m.Books)); diff != "" {
			t.Errorf("books (-want +got):\n%s", diff)
		}
	})
}
