package burst

import (
	"cmp"
	"slices"
	"time"
)

// Spend is the money of one account in one nodearray within one period. The
// account is empty for what belongs to none.
type Spend struct {
	From      time.Time
	Account   string
	Nodearray NodearrayName
	// Committed is what is set aside for jobs that did not end, Settled what
	// ended ones cost, the rest what nodes cost without a job.
	Committed, Settled, BootWaste, IdleWaste Money
	NodeTime, WastedTime                     time.Duration
	// Jobs counts those that ended.
	Jobs int
}

// Total is all of it.
func (s Spend) Total() Money {
	return s.Committed.plus(s.Settled).plus(s.BootWaste).plus(s.IdleWaste)
}

// Spent sums the present and the previous period of a kind by account and
// nodearray, in the order of From, account and nodearray. Jobs that would only
// have been released cost nothing.
func (m Memory) Spent(p Period, now time.Time, zone *time.Location) []Spend {
	c := newCalendar(now, zone)
	index := map[bookKey]int{}
	var rows []Spend
	row := func(from time.Time, account string, array NodearrayName) *Spend {
		key := bookKey{p, from.Unix(), account, array}
		i, known := index[key]
		if !known {
			i = len(rows)
			index[key] = i
			rows = append(rows, Spend{From: from, Account: account, Nodearray: array})
		}
		return &rows[i]
	}
	for i := range m.Books {
		b := &m.Books[i]
		if b.Period != p {
			continue
		}
		s := row(b.From, b.Account, b.Nodearray)
		s.Settled, s.BootWaste, s.IdleWaste = s.Settled.plus(b.Settled), s.BootWaste.plus(b.BootWaste), s.IdleWaste.plus(b.IdleWaste)
		s.NodeTime, s.WastedTime = longer(s.NodeTime, b.NodeTime), longer(s.WastedTime, b.WastedTime)
		s.Jobs += b.JobsSettled
	}
	for i := range m.Jobs {
		j := &m.Jobs[i]
		from, kept := c.page(p, j.CommittedAt)
		if j.Shadow || j.Committed == 0 || !kept {
			continue
		}
		s := row(from, j.Account, j.Nodearray)
		s.Committed = s.Committed.plus(j.Committed)
	}
	slices.SortFunc(rows, func(a, b Spend) int {
		return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Nodearray, b.Nodearray))
	})
	return rows
}

// PeriodStart is when the hour, day or month around t began in the zone; nil
// stands for UTC.
func PeriodStart(p Period, t time.Time, zone *time.Location) time.Time {
	return periodStart(p, t, zone)
}

// Ran is what the job costs if it runs until end; nothing before it started.
func (j CloudJob) Ran(end time.Time) Money {
	if j.StartedAt.IsZero() || !end.After(j.StartedAt) {
		return 0
	}
	return cost(j.Rate, j.Nodes, end.Sub(j.StartedAt))
}
