// Command burstctl is the admin's view of the state tables: what runs, what
// is held and why, and the switch that stops new bursts. It reads and writes
// the tables only; it never talks to Slurm or CycleCloud.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/cmd/internal/connect"
	"github.com/slurmburst/slurmburst/internal/config"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

func main() {
	os.Exit(run(os.Args[1:], openStore, os.Stdout, os.Stderr))
}

// Exit codes, which scripts may rely on.
const (
	exitOK = 0
	// exitFailed is every failure: of the command line, the tables or a policy.
	exitFailed = 1
)

// about is the part of --help that scripts rely on; README.md repeats it.
const about = `See and steer slurmburst: what runs, what is held and why.

Exit codes: 0 when it is done, 1 when it is not: a wrong command line, tables
that cannot be read, or a policy that is refused. Why, and often a hint, is on
standard error, on lines that begin with "burstctl: ".`

// run carries out a command line and gives the exit code.
func run(args []string, open func() (store, error), stdout, stderr io.Writer) int {
	cmd := newCommand(open)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	chosen, err := cmd.ExecuteC()
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "burstctl: error: %v\n", err)
	hint := hintFor(err)
	if hint == "" && chosen.ValidateArgs(chosen.Flags().Args()) != nil {
		hint = "usage: " + chosen.UseLine()
	}
	if hint != "" {
		fmt.Fprintf(stderr, "burstctl: hint: %s\n", hint)
	}
	return exitFailed
}

// openStore opens the tables that the environment names.
func openStore() (store, error) {
	settings, err := config.LoadCtl(os.Getenv, os.Environ())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSettings, err)
	}
	return connect.Ledger(settings.Tables)
}

// errSettings marks what is wrong with the environment.
var errSettings = errors.New("the environment does not say where the tables are")

func hintFor(err error) string {
	switch {
	case errors.Is(err, errSettings):
		return "set the variables that docs/settings.md lists for burstctl"
	case errors.Is(err, errNobody):
		return "a cluster appears with its agent's first snapshot; is burst-agent running, and is this the app's table prefix?"
	case errors.Is(err, errNoCluster):
		return "burstctl status lists the clusters that have reported"
	case errors.Is(err, errRefused):
		return "docs/policy.md explains every key; examples/policy.yaml shows them"
	case errors.Is(err, errCluster):
		return "each cluster has a file of its own; its key cluster is Slurm's ClusterName"
	case errors.Is(err, errServer):
		return "the app opens CycleCloud as its package says: deploy it with the new file (make package POLICY=FILE)"
	case errors.Is(err, errNoVersion):
		return "burstctl policy history lists the versions that are stored"
	case errors.Is(err, errNoPolicy):
		return "the app stores the policy that it was packaged with when it first decides; burstctl policy apply stores another"
	case fault.Is(err, fault.Denied):
		return "the identity needs the role Storage Table Data Contributor"
	case errors.Is(err, ledger.ErrConflict):
		return "somebody else changed the cluster at the same moment; try again"
	case fault.Is(err, fault.Transient):
		return "the tables do not answer; check the network and the endpoint, and try again"
	}
	return ""
}

// version is that of the module, as the build recorded it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// newCommand builds the command tree.
func newCommand(open func() (store, error)) *cobra.Command {
	c := &ctl{open: open}
	root := &cobra.Command{
		Use: "burstctl", Short: "See and steer slurmburst", Long: about, Version: version(),
		SilenceUsage: true, SilenceErrors: true,
	}
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON, one object per line")
	root.PersistentFlags().StringVar(&c.cluster, "cluster", "", "Slurm's ClusterName; needed only where there are several")
	root.AddCommand(c.statusCommand(), c.nodesCommand(), c.decisionsCommand(), c.commandsCommand(), c.failuresCommand(),
		c.pauseCommand(), c.resumeCommand(), c.shadowCommand(), c.jobsCommand(), c.spendCommand(), c.policyCommand())
	return root
}
