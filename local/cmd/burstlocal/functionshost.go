package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/slurmburst/slurmburst/local/functionshost"
)

// functionsHostFlags are the settings of a standalone Functions host.
type functionsHostFlags struct {
	addr, settingsFile string
	set                []string
	instances          map[string]int
	killEvery          time.Duration
	verbose            bool
	cfg                functionshost.Config
}

// newFunctionsHostCommand builds "burstlocal functions": the host alone, until
// it is interrupted. It prints one JSON line that says where it is.
func newFunctionsHostCommand() *cobra.Command {
	var f functionsHostFlags
	cmd := &cobra.Command{
		Use:   "functions",
		Short: "Run a packaged Functions app by the custom handler contract",
		Long: `Run a packaged Functions app until it is interrupted.

The app folder holds host.json, the handler and one folder per function. Settings
come from the Values of a local.settings.json and from --set; the handler inherits
nothing else but PATH and HOME. One JSON line on stdout says where the app is; the
log goes to stderr.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	p := cmd.Flags()
	p.StringVar(&f.cfg.AppDir, "app", "build/app", "the packaged app `folder`")
	p.StringVar(&f.addr, "addr", "127.0.0.1:7071", "loopback `address` of the HTTP front; port 0 takes a free one")
	p.StringVar(&f.settingsFile, "settings", "", "`file` like local.settings.json with the app settings")
	p.StringArrayVar(&f.set, "set", nil, "one app setting as `NAME=VALUE`, over the file; repeatable")
	p.BoolVar(&f.cfg.Flex, "flex", false, "one host and handler process per function, as Flex Consumption does")
	p.StringToIntVar(&f.instances, "instances", map[string]int{"queue_pressure": 2}, "hosts per `function=count` with --flex")
	p.StringVar(&f.cfg.Keys.Function, "function-key", "", "`key` of functions of authLevel function (default: a random one)")
	p.StringVar(&f.cfg.Keys.Master, "master-key", "", "`key` of everything, the admin routes included (default: a random one)")
	p.StringVar(&f.cfg.StateDir, "state", "", "`folder` that keeps the status of timers between runs")
	p.DurationVar(&f.cfg.HostRestartDelay, "host-restart", 0, "start a new host after this `time` when a handler crashed three times; 0 ends the command")
	p.BoolVar(&f.cfg.HangOnEmptyReply, "hang-on-empty-reply", false, "hang where the real host hangs, instead of failing the call")
	p.BoolVar(&f.cfg.SingleEncodedData, "single-encoding", false, "encode JSON bodies once, as in the vendor's documentation")
	p.DurationVar(&f.killEvery, "kill-every", 0, "chaos: kill a handler in the middle of a call, about this often")
	p.BoolVar(&f.verbose, "verbose", false, "log every call")
	return cmd
}

// run serves until ctx ends or the host gives up.
func (f *functionsHostFlags) run(ctx context.Context, out, errOut io.Writer) error {
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	f.cfg.Logger = slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: level}))
	var err error
	if f.cfg.Settings, err = f.settings(); err != nil {
		return err
	}
	if f.cfg.Flex {
		f.cfg.Instances = f.instances
	}
	for _, key := range []*string{&f.cfg.Keys.Function, &f.cfg.Keys.Master} {
		if *key == "" {
			*key = rand.Text()
		}
	}
	if f.cfg.Listener, err = listenLoopback(f.addr); err != nil {
		return err
	}
	host, err := functionshost.New(f.cfg)
	if err != nil {
		return errors.Join(err, f.cfg.Listener.Close())
	}
	line, err := json.Marshal(map[string]any{
		"url": "http://" + f.cfg.Listener.Addr().String(), "function_key": f.cfg.Keys.Function, "master_key": f.cfg.Keys.Master,
	})
	if err != nil {
		return fmt.Errorf("encode address: %w", err)
	}
	if _, err := fmt.Fprintf(out, "%s\n", line); err != nil {
		return fmt.Errorf("print address: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	group.Go(func() error {
		defer stop()
		return host.Run(ctx)
	})
	if f.killEvery > 0 {
		group.Go(func() error {
			killHandlers(ctx, host, f.killEvery)
			return nil
		})
	}
	return group.Wait()
}

// settings merges the file with --set.
func (f *functionsHostFlags) settings() (map[string]string, error) {
	out := map[string]string{}
	if f.settingsFile != "" {
		raw, err := os.ReadFile(f.settingsFile)
		if err != nil {
			return nil, fmt.Errorf("read settings: %w", err)
		}
		var file struct{ Values map[string]string }
		if err := json.Unmarshal(raw, &file); err != nil {
			return nil, fmt.Errorf("read settings %s: %w", f.settingsFile, err)
		}
		maps.Copy(out, file.Values)
	}
	for _, pair := range f.set {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, errors.New("--set wants NAME=VALUE")
		}
		out[name] = value
	}
	return out, nil
}

// killHandlers waits for a call after each interval and kills the handler that
// works on it.
func killHandlers(ctx context.Context, host *functionshost.Host, every time.Duration) {
	for pause := every; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = time.Millisecond
		for _, in := range host.Stats().Instances {
			if in.InFlight > 0 && host.KillHandler(in.Functions[0]) == nil {
				pause = every
				break
			}
		}
	}
}
