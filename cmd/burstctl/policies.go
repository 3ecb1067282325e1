package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/policy"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

func (c *ctl) policyDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff FILE [VERSION]", Short: "Show what a file changes of the policy in force, or of another version", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, d, err := readPolicy(args[0])
			if err != nil {
				return err
			}
			tables, err := c.clusterOf(cmd.Context(), d)
			if err != nil {
				return err
			}
			row, _, err := inForce(cmd.Context(), tables, c.cluster)
			if len(args) == 2 {
				row, err = findPolicy(cmd.Context(), tables, c.cluster, args[1])
			}
			if err != nil {
				return err
			}
			return c.printComparison(cmd.OutOrStdout(), compare(c.cluster, row, d))
		},
	}
}

func (c *ctl) policyApplyCommand() *cobra.Command {
	var a application
	cmd := &cobra.Command{
		Use: "apply FILE", Short: "Put a policy in force, and show what it changes", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, d, err := readPolicy(args[0])
			if err != nil {
				return err
			}
			tables, err := c.clusterOf(cmd.Context(), d)
			if err != nil {
				return err
			}
			return c.put(cmd, tables, a, text, d)
		},
	}
	a.flags(cmd)
	return cmd
}

func (c *ctl) policyRollbackCommand() *cobra.Command {
	var a application
	cmd := &cobra.Command{
		Use: "rollback VERSION", Short: "Put a former policy in force again", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			tables, cluster, err := c.chosen(cmd.Context())
			if err != nil {
				return err
			}
			row, err := findPolicy(cmd.Context(), tables, cluster, args[0])
			if err != nil {
				return err
			}
			d, err := policy.Parse([]byte(row.Text), slurm.ParseHostlist)
			if err != nil {
				return fmt.Errorf("%w: version %s: %s", errRefused, args[0], flatLines(err.Error()))
			}
			if string(d.Cluster) != cluster {
				return fmt.Errorf("%w: version %s is for %q, not %q", errCluster, args[0], d.Cluster, cluster)
			}
			if d.Version() != row.Version {
				return fmt.Errorf("%w: this release reads version %s as %s; apply its text instead", errRefused, row.Version, d.Version())
			}
			return c.put(cmd, tables, a, row.Text, d)
		},
	}
	a.flags(cmd)
	return cmd
}

// findPolicy gives a stored version, or says that there is none.
func findPolicy(ctx context.Context, tables store, cluster, version string) (ledger.Policy, error) {
	row, found, err := tables.FindPolicy(ctx, cluster, version)
	if err == nil && !found {
		err = fmt.Errorf("version %.40q of %s: %w", version, cluster, errNoVersion)
	}
	return row, err
}

func (c *ctl) policyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show [VERSION]", Short: "Print the policy in force, or another version, as it was applied", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			tables, cluster, err := c.chosen(cmd.Context())
			if err != nil {
				return err
			}
			var row ledger.Policy
			if len(args) == 1 {
				row, err = findPolicy(cmd.Context(), tables, cluster, args[0])
			} else {
				row, _, err = inForce(cmd.Context(), tables, cluster)
				if err == nil && row.Version == "" {
					err = fmt.Errorf("cluster %s: %w", cluster, errNoPolicy)
				}
			}
			if err != nil {
				return err
			}
			if c.json {
				return show(c, cmd.OutOrStdout(), []ledger.Policy{row}, "", nil)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), row.Text)
			return err
		},
	}
}

func (c *ctl) policyHistoryCommand() *cobra.Command {
	return &cobra.Command{
		Use: "history", Short: "Show the versions of the policy, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tables, cluster, err := c.chosen(cmd.Context())
			if err != nil {
				return err
			}
			rows, err := every(func(p ledger.Page) ([]ledger.Policy, string, error) {
				return tables.ListPolicies(cmd.Context(), ledger.PolicyFilter{Cluster: cluster}, p)
			})
			if err != nil {
				return err
			}
			slices.SortStableFunc(rows, func(a, b ledger.Policy) int { return b.AppliedAt.Compare(a.AppliedAt) })
			return show(c, cmd.OutOrStdout(), rows, "VERSION APPLIED AUTHOR IN-FORCE", func(p ledger.Policy) []any {
				inForce := "-"
				if p.Current {
					inForce = "yes"
				}
				return []any{p.Version, p.AppliedAt.Local().Format(time.DateTime), dash(p.Author), inForce}
			})
		},
	}
}

func (c *ctl) policySchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of a policy file, for an editor", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(policy.Schema())
			return err
		},
	}
}
