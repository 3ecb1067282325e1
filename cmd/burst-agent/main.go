// Command burst-agent runs beside slurmctld: it publishes what Slurm's queue
// and cloud nodes look like and carries out what the cloud asks. It only wires
// settings, policy, Slurm, spool and Service Bus together, and must never hold
// anything that its death could lose.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/slurmburst/slurmburst/internal/config"
	"github.com/slurmburst/slurmburst/internal/heap"
	"github.com/slurmburst/slurmburst/internal/logging"
)

func main() {
	if err := run(os.Args[1:], os.Getenv, os.Environ(), os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "burst-agent: error: %v\n", err)
		os.Exit(1)
	}
}

const (
	// garbage is how much may lie about, in percent of what is in use: a look at a
	// long queue is over before it would have to be collected.
	garbage = 400
	// enough leaves the head node's memory to slurmctld, in bytes.
	enough = 384 << 20
)

// run works until SIGTERM or SIGINT.
func run(args []string, getenv func(string) string, environ []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("burst-agent", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "usage: burst-agent [-version]\n\nIt is told what to do by the environment; docs/settings.md lists its settings.\n")
	}
	showVersion := flags.Bool("version", false, "print the version and end")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: settings come from the environment", flags.Arg(0))
	}
	if *showVersion {
		fmt.Fprintln(stdout, version())
		return nil
	}
	heap.Trade(getenv, garbage, enough)
	settings, err := config.LoadAgent(getenv, environ)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return serve(ctx, settings, logging.New(stdout, stderr, settings.LogLevel))
}

// version is that of the module, as the build recorded it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
