// Command burstctl is the admin's view of the state tables: what runs, what
// is held and why, and the switch that stops new bursts. It reads and writes
// the tables only; it never talks to Slurm or CycleCloud.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/cmd/internal/connect"
	"github.com/slurmburst/slurmburst/internal/config"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

func main() {
	if err := newCommand(openStore).Execute(); err != nil {
		fmt.Fprintf(os.Stderr, "burstctl: error: %v\n", err)
		if hint := hintFor(err); hint != "" {
			fmt.Fprintf(os.Stderr, "burstctl: hint: %s\n", hint)
		}
		os.Exit(1)
	}
}

// openStore opens the tables that the environment names.
func openStore() (store, error) {
	settings, err := config.LoadCtl(os.Getenv, os.Environ())
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return connect.Ledger(settings.Tables)
}

func hintFor(err error) string {
	switch {
	case errors.Is(err, errNoCluster):
		return "burstctl status lists the clusters that have reported"
	case fault.Is(err, fault.Denied):
		return "the identity needs the role Storage Table Data Contributor"
	case errors.Is(err, ledger.ErrConflict):
		return "somebody else changed the cluster at the same moment; try again"
	}
	return ""
}

// newCommand builds the command tree.
func newCommand(open func() (store, error)) *cobra.Command {
	c := &ctl{open: open}
	root := &cobra.Command{
		Use: "burstctl", Short: "See and steer slurmburst",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON, one object per line")
	root.PersistentFlags().StringVar(&c.cluster, "cluster", "", "Slurm's ClusterName; needed only where there are several")
	root.AddCommand(c.statusCommand(), c.nodesCommand(), c.decisionsCommand(), c.commandsCommand(), c.failuresCommand(),
		c.pauseCommand(), c.resumeCommand())
	return root
}
