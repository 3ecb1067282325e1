package burst

import (
	"cmp"
	"slices"
	"time"
)

// bookkeeper enters money into the books of a Memory. The books hold the
// present and the previous hour, day and month.
type bookkeeper struct {
	calendar
	rows  []Book
	index map[bookKey]int
}

type bookKey struct {
	period    Period
	from      int64
	account   string
	nodearray NodearrayName
}

// halfOf is about half of each period.
var halfOf = [len(periods)]time.Duration{30 * time.Minute, 12 * time.Hour, 14 * 24 * time.Hour}

// keepBooks takes over books, which then belong to the bookkeeper, and leaves
// out what is older than is kept. Where the policy's zone was changed, a book
// moves to the period in which its middle now lies: no money is forgotten.
func keepBooks(c calendar, rows []Book) *bookkeeper {
	k := &bookkeeper{calendar: c, rows: rows[:0], index: make(map[bookKey]int, len(rows))}
	for _, b := range rows {
		middle := b.From.Add(halfOf[b.Period.index()])
		if middle.Before(c.previous[b.Period.index()]) {
			continue
		}
		from, _ := c.page(b.Period, middle)
		r := k.row(b.Period, from, b.Account, b.Nodearray)
		r.Settled = r.Settled.plus(b.Settled)
		r.BootWaste, r.IdleWaste = r.BootWaste.plus(b.BootWaste), r.IdleWaste.plus(b.IdleWaste)
		r.NodeTime, r.WastedTime = longer(r.NodeTime, b.NodeTime), longer(r.WastedTime, b.WastedTime)
		r.JobsSettled += b.JobsSettled
	}
	return k
}

// row gives the row to write to. It is valid until the next call.
func (k *bookkeeper) row(p Period, from time.Time, account string, nodearray NodearrayName) *Book {
	key := bookKey{p, from.Unix(), account, nodearray}
	i, known := k.index[key]
	if !known {
		i = len(k.rows)
		k.index[key] = i
		k.rows = append(k.rows, Book{Period: p, From: from, Account: account, Nodearray: nodearray})
	}
	return &k.rows[i]
}

// settle books what a job really ran, in the periods in which it was committed.
func (k *bookkeeper) settle(j *CloudJob, ran time.Duration) {
	if ran <= 0 {
		return
	}
	amount := cost(j.Rate, j.Nodes, ran)
	for _, p := range periods {
		from, kept := k.page(p, j.CommittedAt)
		if !kept {
			continue
		}
		b := k.row(p, from, j.Account, j.Nodearray)
		b.Settled = b.Settled.plus(amount)
		b.NodeTime = longer(b.NodeTime, nodeTime(j.Nodes, ran))
		b.JobsSettled++
	}
}

// waste books what the nodes that a meter counted cost from its last reading
// to the given moment.
func (k *bookkeeper) waste(m *Meter, until time.Time) {
	for _, p := range periods {
		i := p.index()
		previous, present := k.split(p, m.At, until)
		for _, part := range []struct {
			from time.Time
			d    time.Duration
		}{{k.previous[i], previous}, {k.present[i], present}} {
			if part.d <= 0 {
				continue
			}
			b := k.row(p, part.from, "", m.Nodearray)
			b.BootWaste = b.BootWaste.plus(cost(m.Rate, m.Booting, part.d))
			b.IdleWaste = b.IdleWaste.plus(cost(m.Rate, m.Idle, part.d))
			b.WastedTime = longer(b.WastedTime, longer(nodeTime(m.Booting, part.d), nodeTime(m.Idle, part.d)))
		}
	}
}

// close gives the books back, sorted.
func (k *bookkeeper) close() []Book {
	slices.SortFunc(k.rows, func(a, b Book) int {
		return cmp.Or(cmp.Compare(a.Period, b.Period), a.From.Compare(b.From), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Nodearray, b.Nodearray))
	})
	return k.rows
}
