package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// store is the part of the ledger that an admin may see and change.
type store interface {
	Load(ctx context.Context, cluster string) (ledger.Partition, error)
	Commit(ctx context.Context, c ledger.Commit) (ledger.Committed, error)
	ListClusters(ctx context.Context, wanted ledger.Page) ([]ledger.ClusterStatus, string, error)
	ListNodearrays(ctx context.Context, f ledger.NodearrayFilter, wanted ledger.Page) ([]ledger.Nodearray, string, error)
	ListNodes(ctx context.Context, f ledger.NodeFilter, wanted ledger.Page) ([]ledger.Node, string, error)
	ListDecisions(ctx context.Context, f ledger.DecisionFilter, wanted ledger.Page) ([]ledger.Decision, string, error)
	ListCommands(ctx context.Context, f ledger.CommandFilter, wanted ledger.Page) ([]ledger.Command, string, error)
	ListFailures(ctx context.Context, f ledger.FailureFilter, wanted ledger.Page) ([]ledger.Failure, string, error)
	ListSpend(ctx context.Context, f ledger.SpendFilter, wanted ledger.Page) ([]ledger.Spend, string, error)
	ListJobs(ctx context.Context, f ledger.JobFilter, wanted ledger.Page) ([]ledger.Job, string, error)
	ListPolicies(ctx context.Context, f ledger.PolicyFilter, wanted ledger.Page) ([]ledger.Policy, string, error)
	FindPolicy(ctx context.Context, cluster, version string) (ledger.Policy, bool, error)
	CurrentPolicy(ctx context.Context, cluster string) (ledger.Policy, bool, error)
	EnforcePolicy(ctx context.Context, cluster string, p ledger.Policy) error
}

// ctl is what all subcommands share.
type ctl struct {
	open    func() (store, error)
	cluster string
	json    bool
}

var errNoCluster = errors.New("no such cluster")

// errNobody says that there is nothing to show yet.
var errNobody = errors.New("no cluster has reported yet")

// errSeveral asks for a choice.
var errSeveral = errors.New("several clusters have reported; choose one with --cluster")

// chosen gives the tables and the cluster that is meant: the one named, or the
// only one there is.
func (c *ctl) chosen(ctx context.Context) (store, string, error) {
	tables, err := c.open()
	if err != nil {
		return nil, "", err
	}
	clusters, err := every(func(p ledger.Page) ([]ledger.ClusterStatus, string, error) { return tables.ListClusters(ctx, p) })
	if err != nil {
		return nil, "", err
	}
	switch {
	case len(clusters) == 0:
		return nil, "", errNobody
	case c.cluster == "" && len(clusters) == 1:
		return tables, clusters[0].Cluster.Cluster, nil
	case c.cluster == "":
		return nil, "", errSeveral
	}
	for _, known := range clusters {
		if known.Cluster.Cluster == c.cluster {
			return tables, c.cluster, nil
		}
	}
	return nil, "", fmt.Errorf("cluster %q: %w", c.cluster, errNoCluster)
}

// every reads all pages.
func every[T any](list func(ledger.Page) ([]T, string, error)) ([]T, error) {
	var all []T
	page := ledger.Page{Top: ledger.MaxTop}
	for {
		rows, next, err := list(page)
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
		if next == "" {
			return all, nil
		}
		page.Token = next
	}
}

// show prints rows as JSON lines or as a table.
func show[T any](c *ctl, out io.Writer, rows []T, header string, line func(T) []any) error {
	if c.json {
		encoder := json.NewEncoder(out)
		for _, row := range rows {
			if err := encoder.Encode(row); err != nil {
				return fmt.Errorf("print: %w", err)
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	for _, row := range rows {
		for i, cell := range line(row) {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, flat(fmt.Sprint(cell)))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// flat keeps a cell on its line and in its column, and the terminal as it is:
// reasons and details are other people's text.
func flat(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, text)
}

// ago says how long ago t was; a dash for never.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return burst.Spell(time.Since(t).Round(time.Second))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// clusterView is what status prints of a cluster.
type clusterView struct {
	ledger.ClusterStatus
	Nodearrays []ledger.Nodearray
}

func (c *ctl) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show each cluster and what its nodearrays do", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tables, err := c.open()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			clusters, err := every(func(p ledger.Page) ([]ledger.ClusterStatus, string, error) { return tables.ListClusters(ctx, p) })
			if err != nil {
				return err
			}
			var views []clusterView
			for _, s := range clusters {
				if c.cluster != "" && s.Cluster.Cluster != c.cluster {
					continue
				}
				arrays, err := every(func(p ledger.Page) ([]ledger.Nodearray, string, error) {
					return tables.ListNodearrays(ctx, ledger.NodearrayFilter{Cluster: s.Cluster.Cluster}, p)
				})
				if err != nil {
					return err
				}
				views = append(views, clusterView{s, arrays})
			}
			if c.cluster != "" && len(views) == 0 {
				return fmt.Errorf("cluster %q: %w", c.cluster, errNoCluster)
			}
			return c.printStatus(cmd.OutOrStdout(), views)
		},
	}
}

func (c *ctl) printStatus(out io.Writer, views []clusterView) error {
	if c.json {
		return show(c, out, views, "", nil)
	}
	if len(views) == 0 {
		fmt.Fprintln(out, errNobody)
	}
	for _, v := range views {
		gate := "running"
		if v.Cluster.Paused {
			gate = fmt.Sprintf("PAUSED by %s %s ago: %s", flat(v.Cluster.PausedBy), ago(v.Cluster.PausedAt), flat(v.Cluster.PausedReason))
		}
		fmt.Fprintf(out, "%s: %s; newest snapshot %s old from %s; revision %d, policy %s\n", v.Cluster.Cluster, gate,
			ago(v.Heartbeat.AsOf), dash(flat(v.Heartbeat.AgentHost)), v.Cluster.Revision, v.Cluster.PolicyVersion)
		header := "NODEARRAY LIMIT VMS POWERING-UP BUSY IDLE POWERING-DOWN OFF FENCED DOWN UNKNOWN REASON"
		err := show(c, out, v.Nodearrays, header, func(a ledger.Nodearray) []any {
			n := a.Counts
			return []any{a.Name, a.Limit, n.VMs, n.PoweringUp, n.Busy, n.Idle, n.PoweringDown, n.PoweredDown, n.Fenced, n.Down, n.Unknown, dash(arrayReason(a, time.Now()))}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// arrayReason says why a nodearray does no more: its failures first, because
// while it rests nothing else counts.
func arrayReason(a ledger.Nodearray, now time.Time) string {
	why := a.Reason
	switch {
	case a.ClosedUntil.After(now):
		why = "rests until " + a.ClosedUntil.Local().Format(time.TimeOnly) + failures(a.Failures)
	case a.Failures > 0:
		why = "has rested" + failures(a.Failures) + ", and one job tries it before others go there"
	}
	if why != a.Reason && a.BreakerReason != "" {
		why += ": " + a.BreakerReason
	}
	return why
}

// failures tells of those that closed a nodearray; a shortage is none.
func failures(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return " after a failure"
	}
	return fmt.Sprintf(" after %d failures in a row", n)
}

func (c *ctl) nodesCommand() *cobra.Command {
	var f ledger.NodeFilter
	cmd := &cobra.Command{
		Use: "nodes", Short: "Show cloud nodes, and why each is as it is", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tables, cluster, err := c.chosen(cmd.Context())
			if err != nil {
				return err
			}
			f.Cluster = cluster
			nodes, err := every(func(p ledger.Page) ([]ledger.Node, string, error) { return tables.ListNodes(cmd.Context(), f, p) })
			if err != nil {
				return err
			}
			return show(c, cmd.OutOrStdout(), nodes, "NODE NODEARRAY SLURM CYCLECLOUD CREATED JOINED REASON", func(n ledger.Node) []any {
				return []any{n.Name, n.Nodearray, n.State, n.Supply, ago(n.CreatedAt), ago(n.JoinedAt), dash(n.Reason)}
			})
		},
	}
	cmd.Flags().StringVar(&f.Nodearray, "nodearray", "", "only this nodearray")
	cmd.Flags().StringVar(&f.ReasonCode, "reason", "", "only this reason code")
	return cmd
}

func (c *ctl) decisionsCommand() *cobra.Command {
	top := 20
	cmd := &cobra.Command{
		Use: "decisions", Short: "Show the newest decisions", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkTop(top); err != nil {
				return err
			}
			tables, cluster, err := c.chosen(cmd.Context())
			if err != nil {
				return err
			}
			rows, _, err := tables.ListDecisions(cmd.Context(), ledger.DecisionFilter{Cluster: cluster}, ledger.Page{Top: top})
			if err != nil {
				return err
			}
			return show(c, cmd.OutOrStdout(), rows, "TIME REVISION TRIGGER ACTIONS REASONS", func(d ledger.Decision) []any {
				return []any{d.At.Local().Format(time.DateTime), d.Revision, d.Trigger, actionsText(d.Actions), reasonsText(d.Reasons)}
			})
		},
	}
	cmd.Flags().IntVar(&top, "top", top, "how many")
	return cmd
}

func checkTop(top int) error {
	if top < 1 || top > ledger.MaxTop {
		return fmt.Errorf("--top is %d, want 1 to %d", top, ledger.MaxTop)
	}
	return nil
}

// actionsText shortens the record of actions for a line of a table.
func actionsText(record string) string {
	var actions []struct {
		Kind    string   `json:"kind"`
		Targets []string `json:"targets"`
	}
	if json.Unmarshal([]byte(record), &actions) != nil || len(actions) == 0 {
		return "-"
	}
	parts := make([]string, len(actions))
	for i, a := range actions {
		targets := strings.Join(a.Targets, ",")
		if len(a.Targets) > 4 {
			targets = fmt.Sprintf("%s,… (%d)", strings.Join(a.Targets[:4], ","), len(a.Targets))
		}
		parts[i] = a.Kind + " " + targets
	}
	return strings.Join(parts, "; ")
}

// reasonsText gives the record of reasons without JSON's marks.
func reasonsText(record string) string {
	var codes []string
	if json.Unmarshal([]byte(record), &codes) != nil {
		return dash(record)
	}
	return dash(strings.Join(codes, ", "))
}
