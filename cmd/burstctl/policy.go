package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/policy"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

var (
	errRefused   = errors.New("the policy is refused")
	errNoPolicy  = errors.New("no policy is stored yet")
	errNoVersion = errors.New("no such version")
	errCluster   = errors.New("the policy is another cluster's")
	errServer    = errors.New("the section cyclecloud differs from the policy in force")
)

func (c *ctl) policyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Check, compare and apply what the site allows", Args: cobra.NoArgs}
	cmd.AddCommand(c.policyCheckCommand(), c.policyDiffCommand(), c.policyApplyCommand(), c.policyShowCommand(),
		c.policyHistoryCommand(), c.policyRollbackCommand(), c.policySchemaCommand())
	return cmd
}

// checked is what check says of a file.
type checked struct {
	File     string         `json:"file"`
	OK       bool           `json:"ok"`
	Problems []string       `json:"problems,omitempty"`
	Policies []checkedEntry `json:"policies,omitempty"`
}

// checkedEntry is one policy that is sound.
type checkedEntry struct {
	Cluster    burst.ClusterName `json:"cluster"`
	Version    string            `json:"version"`
	Mode       policy.Mode       `json:"mode"`
	Nodearrays int               `json:"nodearrays"`
	Nodes      int               `json:"nodes"`
}

func (c *ctl) policyCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Find everything that is wrong with a policy file, or a directory of them", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			result := checked{File: args[0]}
			documents, err := policy.LoadPath(args[0], slurm.ParseHostlist)
			result.OK = err == nil
			if err != nil {
				result.Problems = problems(err)
			}
			for _, d := range documents {
				e := checkedEntry{Cluster: d.Cluster, Version: d.Version(), Mode: d.Mode, Nodearrays: len(d.Nodearrays)}
				for _, a := range d.Nodearrays {
					e.Nodes += len(a.Nodes)
				}
				result.Policies = append(result.Policies, e)
			}
			if c.json {
				if err := show(c, cmd.OutOrStdout(), []checked{result}, "", nil); err != nil {
					return err
				}
			} else {
				for _, e := range result.Policies {
					fmt.Fprintf(cmd.OutOrStdout(), "ok: cluster %s, version %s, mode %s, %d nodearrays with %d nodes\n", e.Cluster, e.Version, e.Mode, e.Nodearrays, e.Nodes)
				}
				for _, problem := range result.Problems {
					fmt.Fprintln(cmd.OutOrStdout(), problem)
				}
			}
			if err != nil {
				count := "1 problem"
				if n := len(result.Problems); n != 1 {
					count = fmt.Sprintf("%d problems", n)
				}
				return fmt.Errorf("%w: %s in %s", errRefused, count, flat(args[0]))
			}
			return nil
		},
	}
}

// inFile parts a problem from the file that it is in.
const inFile = ": read policy: "

// problems gives one line for each problem of policy files, and each line its
// file: LoadPath names a file only before the first of its problems.
func problems(err error) []string {
	lines := strings.Split(flatLines(err.Error()), "\n")
	file := ""
	for i, text := range lines {
		switch name, problem, found := strings.Cut(text, inFile); {
		case found && !strings.HasPrefix(text, "line "):
			file, lines[i] = name, name+": "+problem
		case file != "" && (strings.HasPrefix(text, "line ") || strings.HasPrefix(text, "and ")):
			lines[i] = file + ": " + text
		}
	}
	return lines
}

// flatLines keeps a terminal as it is, but for the ends of lines.
func flatLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = flat(lines[i])
	}
	return strings.Join(lines, "\n")
}

// readPolicy reads a file as it is, and what it means.
func readPolicy(file string) (text string, d policy.Document, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", policy.Document{}, fmt.Errorf("open policy: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, policy.MaxBytes+1))
	if err != nil {
		return "", policy.Document{}, fmt.Errorf("read policy: %w", err)
	}
	d, err = policy.Parse(data, slurm.ParseHostlist)
	if err != nil {
		return "", policy.Document{}, fmt.Errorf("%w: %s: %s", errRefused, flat(file), flatLines(err.Error()))
	}
	return string(data), d, nil
}

// clusterOf finds the tables of the cluster that a file is for.
func (c *ctl) clusterOf(ctx context.Context, d policy.Document) (store, error) {
	if c.cluster != "" && c.cluster != string(d.Cluster) {
		return nil, fmt.Errorf("%w: it is for %q, and --cluster is %q", errCluster, d.Cluster, c.cluster)
	}
	c.cluster = string(d.Cluster)
	tables, _, err := c.chosen(ctx)
	return tables, err
}

// inForce gives the version that the app follows: the one that an admin
// applied, or else the one that the app was packaged with and has stored. It
// has no name where there is none.
func inForce(ctx context.Context, tables store, cluster string) (row ledger.Policy, applied bool, err error) {
	p, err := tables.Load(ctx, cluster)
	if err != nil {
		return ledger.Policy{}, false, err
	}
	if version := p.Cluster.PolicyInForce; version != "" {
		row, _, err = tables.FindPolicy(ctx, cluster, version)
		return row, true, err
	}
	row, _, err = tables.CurrentPolicy(ctx, cluster)
	return row, false, err
}

// comparison is what one policy changes of another.
type comparison struct {
	Cluster string `json:"cluster"`
	// From is empty where there is nothing to compare with.
	From    string          `json:"from,omitempty"`
	To      string          `json:"to"`
	Changes []policy.Change `json:"changes"`
	// Unreadable says why From could not be compared.
	Unreadable string `json:"unreadable,omitempty"`
	// Agent says that burst-agent's own copy of the file has to follow.
	Agent bool `json:"agent"`
	// State is what became of it: compared, applied, unchanged or dry-run.
	State string `json:"state"`

	// server says that the way to CycleCloud changes.
	server bool
}

// compare tells what d changes of a stored version; one without a name stands
// for none.
func compare(cluster string, row ledger.Policy, d policy.Document) comparison {
	result := comparison{Cluster: cluster, To: d.Version(), Changes: []policy.Change{}, State: "compared"}
	if row.Version == "" {
		return result
	}
	result.From = row.Version
	old, err := policy.Parse([]byte(row.Text), slurm.ParseHostlist)
	if err != nil {
		result.Unreadable = flat(err.Error())
		return result
	}
	result.Changes = append(result.Changes, policy.Diff(old, d, hostlist)...)
	result.server = old.CycleCloud != d.CycleCloud
	result.Agent = slices.ContainsFunc(result.Changes, func(change policy.Change) bool {
		return change.Path == "nodearrays" || strings.HasPrefix(change.Path, "nodearrays[") &&
			(strings.HasSuffix(change.Path, "].nodes") || strings.HasSuffix(change.Path, "].partition") || strings.HasSuffix(change.Path, "].name"))
	})
	return result
}

func hostlist(nodes []burst.NodeName) string {
	names := make([]slurm.NodeName, len(nodes))
	for i, node := range nodes {
		names[i] = slurm.NodeName(node)
	}
	return slurm.FormatHostlist(names)
}

func (c *ctl) printComparison(out io.Writer, result comparison) error {
	if c.json {
		return show(c, out, []comparison{result}, "", nil)
	}
	switch {
	case result.From == "":
		fmt.Fprintf(out, "%s: no policy is stored to compare %s with\n", result.Cluster, result.To)
	case result.Unreadable != "":
		fmt.Fprintf(out, "%s: version %s is in force and cannot be read: %s\n", result.Cluster, result.From, result.Unreadable)
	case len(result.Changes) == 0:
		fmt.Fprintf(out, "%s: version %s, nothing changes\n", result.Cluster, result.To)
	default:
		fmt.Fprintf(out, "%s: from version %s to %s\n", result.Cluster, result.From, result.To)
		for _, change := range result.Changes {
			fmt.Fprintf(out, "  %s: %s -> %s\n", flat(change.Path), dash(flat(change.Old)), dash(flat(change.New)))
		}
	}
	if result.Agent {
		fmt.Fprintln(out, "note: nodes or partitions change, and burst-agent reads its own file: install it on the head node too and restart burst-agent")
	}
	switch result.State {
	case "applied":
		fmt.Fprintf(out, "%s: version %s is in force\n", result.Cluster, result.To)
	case "unchanged":
		fmt.Fprintf(out, "%s: version %s was in force already\n", result.Cluster, result.To)
	case "dry-run":
		fmt.Fprintf(out, "%s: version %s was not applied (--dry-run)\n", result.Cluster, result.To)
	}
	return nil
}

// author is who changes a policy: as told, or the account that runs burstctl.
func author(told string) (string, error) {
	if len(told) > 100 || told != flat(told) {
		return "", fmt.Errorf("--author is %.110q, want at most 100 printable bytes", told)
	}
	if u, err := user.Current(); told == "" && err == nil {
		told = u.Username
	}
	return cmp.Or(told, "unknown"), nil
}

// application is how apply and rollback put a version in force.
type application struct {
	author string
	dryRun bool
}

func (a *application) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.author, "author", "", "who applies it, for the history (default: the account that runs burstctl)")
	cmd.Flags().BoolVar(&a.dryRun, "dry-run", false, "show what would change, and change nothing")
}

// put puts d in force, whose file is text, and tells what that changes.
func (c *ctl) put(cmd *cobra.Command, tables store, a application, text string, d policy.Document) error {
	ctx := cmd.Context()
	by, err := author(a.author)
	if err != nil {
		return err
	}
	cluster := string(d.Cluster)
	row, applied, err := inForce(ctx, tables, cluster)
	if err != nil {
		return err
	}
	result := compare(cluster, row, d)
	if result.server {
		return fmt.Errorf("%w of %s", errServer, cluster)
	}
	switch {
	case applied && row.Current && row.Version == result.To:
		result.State = "unchanged"
	case a.dryRun:
		result.State = "dry-run"
	default:
		// The same meaning may be stored with other comments: it stays.
		if stored, found, err := tables.FindPolicy(ctx, cluster, result.To); err != nil {
			return err
		} else if found {
			text = stored.Text
		}
		err := tables.EnforcePolicy(ctx, cluster, ledger.Policy{Version: result.To, Text: text, Author: by, AppliedAt: time.Now()})
		if err != nil {
			return err
		}
		result.State = "applied"
	}
	return c.printComparison(cmd.OutOrStdout(), result)
}
