package main

import (
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/internal/ledger"
)

// jobStates are the states of a job's row or a group's, as docs/tables.md lists
// them.
var jobStates = []string{"waiting", "released", "running", "revoked", "ended", stateShadow, stateHeld}

func (c *ctl) jobsCommand() *cobra.Command {
	var f ledger.JobFilter
	cmd := &cobra.Command{
		Use: "jobs", Short: "Show jobs that went to the cloud, and groups of jobs that are held", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkState(f.State, jobStates); err != nil {
				return err
			}
			tables, cluster, err := c.chosen(cmd.Context())
			if err != nil {
				return err
			}
			f.Cluster = cluster
			jobs, err := every(func(p ledger.Page) ([]ledger.Job, string, error) { return tables.ListJobs(cmd.Context(), f, p) })
			if err != nil {
				return err
			}
			return show(c, cmd.OutOrStdout(), pricedJobs(jobs), "JOB JOBS STATE NODEARRAY USER ACCOUNT COST REASON", func(j pricedJob) []any {
				id := j.ID
				if j.Group {
					id = "group " + id
				}
				return []any{id, j.Count, j.State, dash(j.Nodearray), dash(j.User), dash(j.Account), moneyText(j.Cost), dash(j.Reason)}
			})
		},
	}
	cmd.Flags().StringVar(&f.State, "state", "", "only this state: "+list(jobStates))
	cmd.Flags().StringVar(&f.Nodearray, "nodearray", "", "only this nodearray")
	cmd.Flags().StringVar(&f.User, "user", "", "only this user")
	cmd.Flags().StringVar(&f.Account, "account", "", "only this account")
	cmd.Flags().StringVar(&f.ReasonCode, "reason", "", "only this reason code")
	return cmd
}

var monthPattern = regexp.MustCompile(`^\d{4}-(0[1-9]|1[0-2])$`)

func (c *ctl) spendCommand() *cobra.Command {
	var f ledger.SpendFilter
	cmd := &cobra.Command{
		Use: "spend", Short: "Show what was committed, accrued and wasted, by month, account and nodearray", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.Month != "" && !monthPattern.MatchString(f.Month) {
				return fmt.Errorf("--month is %.20q, want for example 2026-11", f.Month)
			}
			tables, cluster, err := c.chosen(cmd.Context())
			if err != nil {
				return err
			}
			f.Cluster = cluster
			rows, err := every(func(p ledger.Page) ([]ledger.Spend, string, error) { return tables.ListSpend(cmd.Context(), f, p) })
			if err != nil {
				return err
			}
			return show(c, cmd.OutOrStdout(), pricedSpend(rows), "MONTH ACCOUNT NODEARRAY COMMITTED ACCRUED BOOT-WASTE IDLE-WASTE NODE-HOURS JOBS", func(x pricedMonth) []any {
				return []any{
					x.Month, dash(x.Account), x.Nodearray, moneyText(x.Committed), moneyText(x.Accrued), moneyText(x.BootWaste), moneyText(x.IdleWaste),
					fmt.Sprintf("%.1f", float64(x.NodeSeconds)/3600), x.Jobs,
				}
			})
		},
	}
	cmd.Flags().StringVar(&f.Month, "month", "", "only this month, such as 2026-11")
	cmd.Flags().StringVar(&f.Account, "account", "", "only this account")
	cmd.Flags().StringVar(&f.Nodearray, "nodearray", "", "only this nodearray")
	return cmd
}
