// Command burstlocal answers "how do I run all of this on my own machine?": each
// subcommand is a stand-in for something that is in the cloud or in the machine
// room. It must never be part of what is deployed.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "burstlocal: error: %v\n", err)
		os.Exit(1)
	}
}

// newRootCommand lists the subcommands, each built by a function in its own file.
// A subcommand ends when its context does, which is at SIGINT or SIGTERM.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "burstlocal",
		Short:         "Run slurmburst's surroundings on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newDemoCommand(),
		newUpCommand(),
		newDownCommand(),
		newSetupCommand(),
		newServiceBusCommand(),
		newCycleCloudCommand(),
		newFunctionsHostCommand(),
	)
	return root
}
