package main

import (
	"cmp"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/internal/ledger"
)

var commandStates = []ledger.CommandState{
	ledger.CommandSent, ledger.CommandOK, ledger.CommandStale, ledger.CommandRefused, ledger.CommandSuperseded,
	ledger.CommandFailed, ledger.CommandExpired,
}

// list names states as a sentence does.
func list[S ~string](states []S) string {
	names := make([]string, len(states))
	for i, s := range states {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// checkState refuses a state that no row can have, which would look like none
// being there.
func checkState[S ~string](state string, states []S) error {
	if state != "" && !slices.Contains(states, S(state)) {
		return fmt.Errorf("--state is %.40q, want one of %s", state, list(states))
	}
	return nil
}

func (c *ctl) commandsCommand() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use: "commands", Short: "Show commands to Slurm and what became of them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkState(state, commandStates); err != nil {
				return err
			}
			tables, cluster, err := c.chosen(cmd.Context())
			if err != nil {
				return err
			}
			f := ledger.CommandFilter{Cluster: cluster, State: ledger.CommandState(state)}
			rows, err := every(func(p ledger.Page) ([]ledger.Command, string, error) { return tables.ListCommands(cmd.Context(), f, p) })
			if err != nil {
				return err
			}
			return show(c, cmd.OutOrStdout(), rows, "SENT KIND NODEARRAY TARGETS STATE DETAIL", func(r ledger.Command) []any {
				return []any{ago(r.SentAt), r.Kind, r.Nodearray, len(r.Targets), r.State, dash(r.Detail)}
			})
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "only this state: "+list(commandStates))
	return cmd
}

func (c *ctl) failuresCommand() *cobra.Command {
	top := 50
	cmd := &cobra.Command{
		Use: "failures", Short: "Show what failed, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkTop(top); err != nil {
				return err
			}
			tables, cluster, err := c.chosen(cmd.Context())
			if err != nil {
				return err
			}
			rows, _, err := tables.ListFailures(cmd.Context(), ledger.FailureFilter{Cluster: cluster}, ledger.Page{Top: top})
			if err != nil {
				return err
			}
			return show(c, cmd.OutOrStdout(), rows, "AGO NODE SOURCE WHAT CODE DETAIL", func(f ledger.Failure) []any {
				return []any{ago(f.At), dash(f.Node), f.Source, f.What, f.Code, f.Detail}
			})
		},
	}
	cmd.Flags().IntVar(&top, "top", top, "how many")
	return cmd
}

func (c *ctl) pauseCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "pause", Short: "Start nothing new in the cloud; what runs goes on", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			by := "unknown"
			if u, err := user.Current(); err == nil {
				by = u.Username
			}
			return c.gate(cmd, "paused", func(row *ledger.Cluster) {
				row.Paused, row.PausedBy, row.PausedReason, row.PausedAt = true, by, cmp.Or(reason, "no reason given"), time.Now()
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the others")
	return cmd
}

func (c *ctl) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "Let new bursts start again", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.gate(cmd, "resumed", func(row *ledger.Cluster) {
				row.Paused, row.PausedBy, row.PausedReason, row.PausedAt = false, "", "", time.Time{}
			})
		},
	}
}

// gate changes the cluster's gates in a commit of its own. NextDue makes the
// next snapshot, at most a heartbeat away, act on it.
func (c *ctl) gate(cmd *cobra.Command, done string, change func(*ledger.Cluster)) error {
	ctx := cmd.Context()
	tables, cluster, err := c.chosen(ctx)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		p, err := tables.Load(ctx, cluster)
		if err != nil {
			return err
		}
		change(&p.Cluster)
		p.Cluster.NextDue = time.Now()
		_, err = tables.Commit(ctx, ledger.Commit{Cluster: p.Cluster})
		if err == nil {
			break
		}
		if !errors.Is(err, ledger.ErrConflict) || try == 5 {
			return err
		}
	}
	if c.json {
		return show(c, cmd.OutOrStdout(), []map[string]string{{"cluster": cluster, "state": done}}, "", nil)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", cluster, done)
	return nil
}
