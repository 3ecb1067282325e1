package main

import (
	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// A nodearray without a price costs nothing by the tables, which is not what it
// costs. Where the rows show that something was used and no money was counted, the
// amounts are unknown: so in text, null in JSON.

const unknown = "unknown"

// moneyText is an amount, or that it is unknown.
func moneyText(millionths *int64) string {
	if millionths == nil {
		return unknown
	}
	return burst.Money(*millionths).String()
}

// pricedJob is a job's row whose cost may be unknown.
type pricedJob struct {
	ledger.Job
	// Cost hides the row's own: null where it is unknown.
	Cost *int64
}

// hasPrice says whether a job's cost is known. With a price, whatever is to run has
// an estimate above nothing, and whatever ran has cost something; a job that ended
// without having begun cost nothing at any price.
func hasPrice(j ledger.Job) bool {
	if j.Cost != 0 {
		return true
	}
	ended := !j.EndedAt.IsZero() || !j.RevokedAt.IsZero()
	return ended && (j.StartedAt.IsZero() || !j.EndedAt.After(j.StartedAt))
}

func pricedJobs(jobs []ledger.Job) []pricedJob {
	rows := make([]pricedJob, 0, len(jobs))
	for _, j := range jobs {
		row := pricedJob{Job: j}
		if hasPrice(j) {
			row.Cost = &j.Cost
		}
		rows = append(rows, row)
	}
	return rows
}

// pricedMonth is a row of the spend whose amounts may be unknown.
type pricedMonth struct {
	ledger.Spend
	// They hide the row's own: null where they are unknown.
	Committed, Accrued, BootWaste, IdleWaste *int64
}

func pricedSpend(rows []ledger.Spend) []pricedMonth {
	months := make([]pricedMonth, 0, len(rows))
	for _, x := range rows {
		month := pricedMonth{Spend: x}
		counted := x.Committed != 0 || x.Accrued != 0 || x.BootWaste != 0 || x.IdleWaste != 0
		if counted || x.NodeSeconds == 0 {
			month.Committed, month.Accrued, month.BootWaste, month.IdleWaste = &x.Committed, &x.Accrued, &x.BootWaste, &x.IdleWaste
		}
		months = append(months, month)
	}
	return months
}
