package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// projectSpend writes the rows of the table of spend that say something else
// than this process last wrote. They are made from the memory alone.
func (p *pass) projectSpend(ctx context.Context, now time.Time) error {
	zone := p.config.Policy.Zone
	if zone == nil {
		zone = time.UTC
	}
	thisMonth := now.In(zone).Format("2006-01")
	known := p.spendOf(p.name)
	if known.ledgerID != p.part.Cluster.LedgerID || p.trigger.sweep || known.rows == nil {
		var err error
		if known, err = p.readSpend(ctx, thisMonth); err != nil {
			return err
		}
	}
	var changed []ledger.Spend
	written := map[spendKey]ledger.Spend{}
	for _, s := range p.stored.Spent(burst.Month, now, zone) {
		row := ledger.Spend{
			Month: s.From.In(zone).Format("2006-01"), Account: s.Account, Nodearray: string(s.Nodearray),
			Committed: int64(s.Committed), Accrued: int64(s.Settled), BootWaste: int64(s.BootWaste), IdleWaste: int64(s.IdleWaste),
			NodeSeconds: int64(s.NodeTime / time.Second), WastedSeconds: int64(s.WastedTime / time.Second), Jobs: s.Jobs,
		}
		key := spendKey{row.Month, row.Account, row.Nodearray}
		written[key] = row
		if known.rows[key] == row {
			continue
		}
		row.UpdatedAt, row.Revision = now, p.part.Cluster.Revision
		changed = append(changed, row)
	}
	for key, row := range known.rows {
		if _, still := written[key]; still || row.Committed == 0 || key.month != thisMonth {
			continue
		}
		row.Committed, row.UpdatedAt, row.Revision = 0, now, p.part.Cluster.Revision // given back and nothing else
		changed = append(changed, row)
	}
	if len(changed) > 0 {
		if err := p.Ledger.PutSpend(ctx, p.name, changed); err != nil {
			return fmt.Errorf("project spend: %w", err)
		}
	}
	p.keepSpend(p.name, spendRows{ledgerID: known.ledgerID, rows: written})
	return nil
}

// readSpend reads the rows of a month.
func (p *pass) readSpend(ctx context.Context, month string) (spendRows, error) {
	known := spendRows{ledgerID: p.part.Cluster.LedgerID, rows: map[spendKey]ledger.Spend{}}
	page := ledger.Page{Top: ledger.MaxTop}
	for {
		rows, next, err := p.Ledger.ListSpend(ctx, ledger.SpendFilter{Cluster: p.name, Month: month}, page)
		if err != nil {
			return known, fmt.Errorf("read spend: %w", err)
		}
		for _, row := range rows {
			known.rows[spendKey{row.Month, row.Account, row.Nodearray}] = ledger.Spend{
				Month: row.Month, Account: row.Account, Nodearray: row.Nodearray,
				Committed: row.Committed, Accrued: row.Accrued, BootWaste: row.BootWaste, IdleWaste: row.IdleWaste,
				NodeSeconds: row.NodeSeconds, WastedSeconds: row.WastedSeconds, Jobs: row.Jobs,
			}
		}
		if next == "" {
			return known, nil
		}
		page.Token = next
	}
}

type spendKey struct{ month, account, nodearray string }

// spendRows is what this process last wrote.
type spendRows struct {
	ledgerID string
	rows     map[spendKey]ledger.Spend
}

func (r *Reconciler) spendOf(cluster string) spendRows {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spend[cluster]
}

func (r *Reconciler) keepSpend(cluster string, s spendRows) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spend[cluster] = s
}

// money sums what each nodearray has used since the day and the month began.
func (p *pass) money(now time.Time) (today, month map[burst.NodearrayName]burst.Money) {
	zone := p.config.Policy.Zone
	sum := func(period burst.Period) map[burst.NodearrayName]burst.Money {
		sums := map[burst.NodearrayName]burst.Money{}
		from := burst.PeriodStart(period, now, zone)
		for _, s := range p.stored.Spent(period, now, zone) {
			if s.From.Equal(from) {
				sums[s.Nodearray] += s.Total()
			}
		}
		return sums
	}
	return sum(burst.Day), sum(burst.Month)
}

// warn records what an admin has to know of.
func (p *pass) warn(now time.Time, plan burst.Plan) {
	for _, w := range plan.Warnings {
		f := ledger.Failure{At: now, Source: "app", What: "budget", Code: string(w.Reason.Code), Detail: w.Reason.Text}
		if w.Budget.Scope == "" {
			f.What = "policy"
		}
		if w.Budget.Scope == burst.ScopeNodearray {
			f.Nodearray = w.Budget.Name
		}
		p.failures = append(p.failures, f)
	}
}
