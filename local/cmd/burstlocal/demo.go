package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/demo"
	"github.com/slurmburst/slurmburst/local/setup"
	"github.com/slurmburst/slurmburst/local/world"
)

// newDemoCommand builds "burstlocal demo".
func newDemoCommand() *cobra.Command {
	var keep, chaos bool
	var scenario string
	o := demo.Options{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run real Slurm jobs that burst to CycleCloud and come back to zero",
		Long: `Run real Slurm jobs that burst to CycleCloud and come back to zero.

Everything that slurmburst needs runs on this machine: Slurm itself, the Service
Bus emulator, Azurite, the CycleCloud simulator whose VMs are real slurmd
processes, and the packaged Functions app. The last line is a JSON object with
the counts, each taken from two independent records.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if scenario != "" && scenario != "overflow" || scenario != "" && chaos {
				return fmt.Errorf("there is no scenario %q with chaos %t: the only scenario is overflow, and it has no chaos", scenario, chaos)
			}
			var err error
			if o.Root, o.Dir, err = newWorldDir("demo"); err != nil {
				return err
			}
			o.Out = cmd.OutOrStdout()
			switch {
			case scenario == "overflow":
				err = demo.RunOverflow(cmd.Context(), o)
			case chaos:
				o.Deadline = max(o.Deadline, chaosDeadline)
				if o.Seed == 0 {
					o.Seed = time.Now().UnixNano()
				}
				err = demo.RunChaos(cmd.Context(), o)
			default:
				err = demo.Run(cmd.Context(), o)
			}
			if err != nil || keep {
				fmt.Fprintf(cmd.ErrOrStderr(), "logs are in %s\n", o.Dir)
				return err
			}
			return os.RemoveAll(o.Dir)
		},
	}
	cmd.Flags().DurationVar(&o.Deadline, "deadline", 170*time.Second, "fail when jobs and nodes are not done after this `time`")
	cmd.Flags().Int64Var(&o.Seed, "seed", 1, "seed of the simulator's random choices; 0 draws one")
	cmd.Flags().StringVar(&scenario, "scenario", "", "`name` of another course of events: overflow, where jobs of a full on-prem partition burst or are held, and one nodearray has no capacity")
	cmd.Flags().BoolVar(&chaos, "chaos", false, "kill, pause and cut off parts of the world all the while, as the seed says")
	cmd.Flags().BoolVar(&o.NoSessions, "no-sessions", false, "take the sessions off the queues: several functions decide at once")
	likeAzureFlag(cmd, &o.LikeAzure)
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the logs of a good run")
	return cmd
}

// chaosDeadline bounds a run in which things go wrong: what a dead process had
// claimed is taken over only when its claim is over.
const chaosDeadline = 8 * time.Minute

// newUpCommand builds "burstlocal up": the demo's world, left up.
func newUpCommand() *cobra.Command {
	var likeAzure bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the same world, leave it up and say how to use it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runUp(cmd.Context(), cmd.OutOrStdout(), world.Config{LikeAzure: likeAzure})
		},
	}
	likeAzureFlag(cmd, &likeAzure)
	return cmd
}

// likeAzureFlag is the same for every command that starts a world.
func likeAzureFlag(cmd *cobra.Command, into *bool) {
	cmd.Flags().BoolVar(into, "like-azure", false, "managed identities and TLS everywhere, and no connection string in any environment")
}

// runUp starts the world that config describes so far and waits for the end of ctx.
func runUp(ctx context.Context, out io.Writer, config world.Config) error {
	root, dir, err := newWorldDir("up")
	if err != nil {
		return err
	}
	config.Root, config.Dir, config.LocalNodes = root, dir, 1
	config.Nodearrays = []world.Nodearray{
		{Name: "htc", Nodes: 8, MaxNodes: 4, IdleTimeout: 30 * time.Second, BootDeadline: 2 * time.Minute},
		{Name: "hpc", Nodes: 8, MaxNodes: 4, IdleTimeout: 30 * time.Second, BootDeadline: 2 * time.Minute},
	}
	config.Policy = demo.OverflowRule
	config.BootDelay = cyclecloudsim.Range{Min: 3 * time.Second, Max: 8 * time.Second}
	config.Progress = func(step string) { fmt.Fprintln(out, "  "+step) }
	w, err := world.Start(ctx, config)
	if err != nil {
		return err
	}
	env := filepath.Join(dir, "env.sh")
	lines := "export " + strings.Join(w.Environment(), "\nexport ") + "\n"
	if err := os.WriteFile(env, []byte(lines), 0o600); err != nil {
		return errors.Join(err, w.Stop(ctx))
	}
	if err := os.WriteFile(pidFile(root), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return errors.Join(err, w.Stop(ctx))
	}
	defer os.Remove(pidFile(root))
	fmt.Fprintf(out, `
Everything is up. In another shell:

  . %s
  sinfo                                              # Slurm's view
  sbatch -p htc --exclusive --wrap 'hostname; sleep 20'
  srun -p hpc -N2 --exclusive hostname
  sbatch -p local --exclusive --array=1-3 --wrap 'sleep 60'   # one fills local, the others overflow to htc
  burstctl status; burstctl nodes; burstctl decisions
  curl -H 'x-functions-key: %s' %s/nodes

Logs: %s. Ctrl-C or `+"`make local-down`"+` stops everything.
`, env, w.Key(), w.StateURL(), dir)
	<-ctx.Done()
	fmt.Fprintln(out, "stopping")
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(w.Stop(stop), os.RemoveAll(dir))
}

// pidFile is where up says who it is.
func pidFile(root string) string { return filepath.Join(root, "build", "up.pid") }

// newDownCommand builds "burstlocal down": it ends what up started.
func newDownCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop what `burstlocal up` started",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			here, err := os.Getwd()
			if err != nil {
				return fmt.Errorf("find the repository: %w", err)
			}
			build, err := setup.BuildDir(here)
			if err != nil {
				return fmt.Errorf("find the repository: %w", err)
			}
			return stopUp(cmd.Context(), pidFile(filepath.Dir(build)), cmd.OutOrStdout())
		},
	}
}

// stopUp asks the world to stop and waits until it has.
func stopUp(ctx context.Context, file string, out io.Writer) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		fmt.Fprintln(out, "nothing is up")
		return nil
	}
	if err != nil {
		return fmt.Errorf("find what is up: %w", err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return fmt.Errorf("find what is up: %s: %w", file, err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); errors.Is(err, syscall.ESRCH) {
		fmt.Fprintln(out, "it was gone already")
		return os.Remove(file)
	} else if err != nil {
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	for syscall.Kill(pid, 0) == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	fmt.Fprintln(out, "stopped")
	return nil
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
