package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/demo"
	"github.com/slurmburst/slurmburst/local/setup"
	"github.com/slurmburst/slurmburst/local/world"
)

// newDemoCommand builds "burstlocal demo".
func newDemoCommand() *cobra.Command {
	var keep bool
	o := demo.Options{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "run real Slurm jobs that burst to CycleCloud and come back to zero",
		Long: `Run real Slurm jobs that burst to CycleCloud and come back to zero.

Everything that slurmburst needs runs on this machine: Slurm itself, the Service
Bus emulator, Azurite, the CycleCloud simulator whose VMs are real slurmd
processes, and the packaged Functions app. The last line is a JSON object with
the counts, each taken from two independent records.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Root, o.Dir, err = newWorldDir("demo"); err != nil {
				return err
			}
			o.Out = cmd.OutOrStdout()
			err = demo.Run(cmd.Context(), o)
			if err != nil || keep {
				fmt.Fprintf(cmd.ErrOrStderr(), "logs are in %s\n", o.Dir)
				return err
			}
			return os.RemoveAll(o.Dir)
		},
	}
	cmd.Flags().DurationVar(&o.Deadline, "deadline", 170*time.Second, "fail when jobs and nodes are not done after this `time`")
	cmd.Flags().Int64Var(&o.Seed, "seed", 1, "seed of the simulator's random `choices`; 0 draws one")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the logs of a good run")
	return cmd
}

// newUpCommand builds "burstlocal up": the demo's world, left up.
func newUpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "up",
		Short: "start the same world, leave it up and say how to use it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runUp(cmd.Context(), cmd.OutOrStdout())
		},
	}
}

func runUp(ctx context.Context, out io.Writer) error {
	root, dir, err := newWorldDir("up")
	if err != nil {
		return err
	}
	w, err := world.Start(ctx, world.Config{
		Root: root, Dir: dir, LocalNodes: 1,
		Nodearrays: []world.Nodearray{
			{Name: "htc", Nodes: 8, MaxNodes: 4, IdleTimeout: 30 * time.Second, BootDeadline: 2 * time.Minute},
			{Name: "hpc", Nodes: 8, MaxNodes: 4, IdleTimeout: 30 * time.Second, BootDeadline: 2 * time.Minute},
		},
		BootDelay: cyclecloudsim.Range{Min: 3 * time.Second, Max: 8 * time.Second},
		Progress:  func(step string) { fmt.Fprintln(out, "  "+step) },
	})
	if err != nil {
		return err
	}
	env := filepath.Join(dir, "env.sh")
	lines := "export " + strings.Join(w.Environment(), "\nexport ") + "\n"
	if err := os.WriteFile(env, []byte(lines), 0o600); err != nil {
		return errors.Join(err, w.Stop(ctx))
	}
	fmt.Fprintf(out, `
Everything is up. In another shell:

  . %s
  sinfo                                              # Slurm's view
  sbatch -p htc --exclusive --wrap 'hostname; sleep 20'
  srun -p hpc -N2 --exclusive hostname
  burstctl status; burstctl nodes; burstctl decisions
  curl -H 'x-functions-key: %s' %s/nodes

Logs: %s. Ctrl-C stops everything.
`, env, w.Key(), w.StateURL(), dir)
	<-ctx.Done()
	fmt.Fprintln(out, "stopping")
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(w.Stop(stop), os.RemoveAll(dir))
}

// newWorldDir gives the repository and a new short directory: Unix sockets in
// it may have at most 107 bytes.
func newWorldDir(kind string) (root, dir string, err error) {
	here, err := os.Getwd()
	if err != nil {
		return "", "", fmt.Errorf("find the repository: %w", err)
	}
	build, err := setup.BuildDir(here)
	if err != nil {
		return "", "", fmt.Errorf("find the repository: %w", err)
	}
	dir, err = os.MkdirTemp("", "burst-"+kind+"-")
	if err != nil {
		return "", "", fmt.Errorf("make a directory: %w", err)
	}
	return filepath.Dir(build), dir, nil
}
