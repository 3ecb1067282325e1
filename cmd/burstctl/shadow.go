package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// The states of rows of jobs that the report is made of.
const (
	stateShadow = "shadow"
	stateHeld   = "held"
)

// shadowReport is what shadow mode would have bought.
type shadowReport struct {
	Cluster string    `json:"cluster"`
	Since   time.Time `json:"since"`
	purchase
	Nodearrays []purchase `json:"nodearrays"`
	Accounts   []purchase `json:"accounts"`
	// Held are the jobs that would have stayed, by reason, as of when each group
	// was first held for it.
	Held []heldFor `json:"held"`
}

// purchase sums jobs that would have been released.
type purchase struct {
	Name string `json:"name,omitempty"`
	Jobs int    `json:"jobs"`
	// NodeHours and Money are those of the whole time limits: the most that the
	// jobs could have used. Unlimited counts the jobs without a limit, which
	// have no node-hours.
	NodeHours float64 `json:"nodeHours"`
	// Money is in millionths of the currency's unit, as in the tables. Unpriced
	// counts the jobs that it leaves out, because their nodearray had no price;
	// Money is absent where that is all of them.
	Money     burst.Money `json:"money,omitzero"`
	Unpriced  int         `json:"unpriced,omitempty"`
	Unlimited int         `json:"unlimited,omitempty"`
}

func (p *purchase) add(job ledger.Job) {
	p.Jobs++
	p.NodeHours += float64(job.NodeCount) * float64(job.LimitSeconds) / 3600
	p.Money += burst.Money(job.Cost)
	if !hasPrice(job) {
		p.Unpriced++
	}
	if job.LimitSeconds == 0 {
		p.Unlimited++
	}
}

// money says what is known of the sum.
func (p *purchase) money() string {
	switch {
	case p.Unpriced == 0:
		return p.Money.String()
	case p.Unpriced == p.Jobs:
		return unknown
	}
	return fmt.Sprintf("%s and what %d without a price cost", p.Money, p.Unpriced)
}

type heldFor struct {
	Code   string `json:"code"`
	Groups int    `json:"groups"`
	Jobs   int    `json:"jobs"`
	// Reason is the sentence of one of the groups.
	Reason string `json:"reason"`
}

func (c *ctl) shadowCommand() *cobra.Command {
	root := &cobra.Command{Use: "shadow", Short: "See what shadow mode would have done", Args: cobra.NoArgs}
	since := 30 * 24 * time.Hour
	report := &cobra.Command{
		Use: "report", Short: "Show what would have been bought, and what would have stayed", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if since <= 0 {
				return fmt.Errorf("--since is %s, want a time that is over", since)
			}
			tables, cluster, err := c.chosen(cmd.Context())
			if err != nil {
				return err
			}
			jobs := func(state string) ([]ledger.Job, error) {
				return every(func(p ledger.Page) ([]ledger.Job, string, error) {
					return tables.ListJobs(cmd.Context(), ledger.JobFilter{Cluster: cluster, State: state}, p)
				})
			}
			released, err := jobs(stateShadow)
			if err != nil {
				return err
			}
			held, err := jobs(stateHeld)
			if err != nil {
				return err
			}
			return c.printShadow(cmd.OutOrStdout(), reportOf(cluster, time.Now().Add(-since), released, held))
		},
	}
	report.Flags().DurationVar(&since, "since", since, "how far back")
	root.AddCommand(report)
	return root
}

func reportOf(cluster string, since time.Time, released, held []ledger.Job) shadowReport {
	r := shadowReport{Cluster: cluster, Since: since.UTC().Truncate(time.Second), Nodearrays: []purchase{}, Accounts: []purchase{}, Held: []heldFor{}}
	arrays, accounts, codes := map[string]*purchase{}, map[string]*purchase{}, map[string]*heldFor{}
	entry := func(of map[string]*purchase, name string) *purchase {
		if of[name] == nil {
			of[name] = &purchase{Name: name}
		}
		return of[name]
	}
	for _, job := range released {
		if job.Group || job.ReleasedAt.Before(since) {
			continue
		}
		r.add(job)
		entry(arrays, job.Nodearray).add(job)
		entry(accounts, cmp.Or(job.Account, "(none)")).add(job)
	}
	for _, group := range held {
		h := codes[group.ReasonCode]
		if h == nil {
			h = &heldFor{Code: group.ReasonCode, Reason: group.Reason}
			codes[group.ReasonCode] = h
		}
		h.Groups++
		h.Jobs += group.Count
	}
	for _, p := range arrays {
		r.Nodearrays = append(r.Nodearrays, *p)
	}
	for _, p := range accounts {
		r.Accounts = append(r.Accounts, *p)
	}
	for _, h := range codes {
		r.Held = append(r.Held, *h)
	}
	dearest := func(a, b purchase) int { return cmp.Or(cmp.Compare(b.Money, a.Money), cmp.Compare(a.Name, b.Name)) }
	slices.SortFunc(r.Nodearrays, dearest)
	slices.SortFunc(r.Accounts, dearest)
	slices.SortFunc(r.Held, func(a, b heldFor) int { return cmp.Or(cmp.Compare(b.Jobs, a.Jobs), cmp.Compare(a.Code, b.Code)) })
	return r
}

func (c *ctl) printShadow(out io.Writer, r shadowReport) error {
	if c.json {
		return show(c, out, []shadowReport{r}, "", nil)
	}
	jobs := "1 job"
	if r.Jobs != 1 {
		jobs = fmt.Sprintf("%d jobs", r.Jobs)
	}
	fmt.Fprintf(out, "%s since %s: %s would have been released, for at most %.1f node-hours and %s\n",
		r.Cluster, r.Since.Local().Format(time.DateTime), jobs, r.NodeHours, r.money())
	line := func(p purchase) []any {
		return []any{p.Name, p.Jobs, fmt.Sprintf("%.1f", p.NodeHours), p.money()}
	}
	if err := show(c, out, r.Nodearrays, "NODEARRAY JOBS NODE-HOURS MONEY", line); err != nil {
		return err
	}
	if err := show(c, out, r.Accounts, "ACCOUNT JOBS NODE-HOURS MONEY", line); err != nil {
		return err
	}
	return show(c, out, r.Held, "HELD-FOR GROUPS JOBS REASON", func(h heldFor) []any { return []any{h.Code, h.Groups, h.Jobs, h.Reason} })
}
