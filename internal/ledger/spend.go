package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Spend is a row of the table of spend: the money of one account in one
// nodearray within one month. It shows the row `budget` and can be made again
// from it.
type Spend struct {
	Cluster string
	// Month is "2026-11", in the time zone of the policy.
	Month string
	// Account is Slurm's; empty for what belongs to none.
	Account, Nodearray string
	// Committed is set aside for jobs that did not end, Accrued is what ended
	// ones cost, BootWaste and IdleWaste what nodes cost without a job: all in
	// millionths of the currency's unit.
	Committed, Accrued, BootWaste, IdleWaste int64
	// NodeSeconds are those of ended jobs, WastedSeconds those without a job.
	NodeSeconds, WastedSeconds int64
	// Jobs counts those that ended.
	Jobs      int
	UpdatedAt time.Time
	// Revision is that of the commit that the row shows.
	Revision int64

	version
}

func (x *Spend) columns(f *fields) {
	f.text("Cluster", &x.Cluster)
	f.text("Month", &x.Month)
	f.text("Account", &x.Account)
	f.text("Nodearray", &x.Nodearray)
	f.whole("Committed", &x.Committed)
	f.whole("Accrued", &x.Accrued)
	f.whole("BootWaste", &x.BootWaste)
	f.whole("IdleWaste", &x.IdleWaste)
	f.whole("NodeSeconds", &x.NodeSeconds)
	f.whole("WastedSeconds", &x.WastedSeconds)
	f.count("Jobs", &x.Jobs)
	f.moment("UpdatedAt", &x.UpdatedAt)
	f.whole("Revision", &x.Revision)
}

func (x *Spend) identify(pk, rk string) error {
	cluster, month, _ := strings.Cut(pk, "|")
	account, array, _ := strings.Cut(rk, "|")
	var first, second error
	x.Month = month
	first = setIdentity(&x.Cluster, &x.Account, cluster, account)
	x.Nodearray, second = unescape(array)
	return errors.Join(first, second)
}

// PutSpend writes rows whatever is stored: each holds all that there is to say
// of its month.
func (s *Store) PutSpend(ctx context.Context, cluster string, rows []Spend) error {
	operation := fmt.Sprintf("write %s/%s", s.name(tableSpend), cluster)
	months := map[string]*write{}
	var order []string
	for _, row := range rows {
		w := months[row.Month]
		if w == nil {
			w = &write{pk: escape(cluster) + "|" + escape(row.Month)}
			months[row.Month] = w
			order = append(order, row.Month)
		}
		row.Cluster, row.version = cluster, version{held: everyColumn}
		if err := w.add(upsert, escape(row.Account)+"|"+escape(row.Nodearray), &row); err != nil {
			return classify(err, operation)
		}
	}
	for _, month := range order {
		if _, _, err := s.submitEach(ctx, tableSpend, months[month].ops); err != nil {
			return classify(err, operation)
		}
	}
	return nil
}

// SpendFilter selects rows of one cluster; an empty field selects all.
type SpendFilter struct{ Cluster, Month, Account, Nodearray string }

// ListSpend gives one page of a cluster's spend, the oldest month first.
func (s *Store) ListSpend(ctx context.Context, f SpendFilter, wanted Page) ([]Spend, string, error) {
	var where conditions
	switch {
	case f.Cluster != "" && f.Month != "":
		where = append(where, condition{partitionKey, equal, escape(f.Cluster) + "|" + escape(f.Month)})
	case f.Cluster != "":
		where = append(where, condition{partitionKey, atLeast, escape(f.Cluster) + "|"}, condition{partitionKey, below, escape(f.Cluster) + "}"})
	}
	where.text("Month", f.Month)
	where.text("Account", f.Account)
	where.text("Nodearray", f.Nodearray)
	return list[Spend](ctx, s, tableSpend, where, wanted)
}
