package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
)

// cycleCloudFlags are the settings of a standalone simulator.
type cycleCloudFlags struct {
	addr, control, journal, certificate, logs string
	plain                                     bool
	arrays, quirks, env, marks, files         []string
	acquire, boot, ready, terminate, vanish   string
	cfg                                       cyclecloudsim.Config
}

// newCycleCloudCommand builds "burstlocal cyclecloud": the simulator alone,
// until it is interrupted. It prints one JSON line that says where it is.
func newCycleCloudCommand() *cobra.Command {
	var f cycleCloudFlags
	cmd := &cobra.Command{
		Use:   "cyclecloud [flags] [-- program argument...]",
		Short: "Run the CycleCloud simulator; the program, if given, is what each VM runs",
		Long: `Run the CycleCloud REST simulator until it is interrupted.

A program after -- is started in every VM once it has booted; {name}, {node_id},
{instance_id}, {nodearray} and {private_ip} in it stand for those of the VM.
Without a program the VMs have no process.`,
		RunE: func(cmd *cobra.Command, argv []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), argv)
		},
	}
	p := cmd.Flags()
	p.StringVar(&f.addr, "addr", "127.0.0.1:8443", "loopback address of the REST API")
	p.BoolVar(&f.plain, "plain", false, "plain HTTP instead of HTTPS with a self-made certificate")
	p.StringVar(&f.control, "control", "127.0.0.1:0", "loopback address of the control surface (/sim/...)")
	p.StringVar(&f.journal, "journal", "", "file that receives one JSON line per fact, appended")
	p.StringVar(&f.certificate, "certificate", "", "file that receives the certificate as PEM")
	p.StringVar(&f.logs, "logs", ".", "directory for the output of the VMs")
	p.StringVar(&f.cfg.Cluster, "cluster", "burst", "name of the cluster")
	p.StringVar(&f.cfg.User, "user", "simulated", "user of the REST API")
	p.StringVar(&f.cfg.Password, "password", "not-a-secret", "password of the REST API")
	p.StringArrayVar(&f.arrays, "nodearray", []string{"htc,Standard_F4s_v2,4,10"},
		"a nodearray as name,machine type,cores,max count[,spot]; repeatable")
	p.StringArrayVar(&f.quirks, "quirk", nil, "pin an open point of the API as name=answer; repeatable")
	p.StringArrayVar(&f.env, "env", nil, "NAME=value for the program of the VMs; repeatable")
	p.StringArrayVar(&f.marks, "job-mark", nil, "NAME=value by which processes that left the VM's tree are known; repeatable")
	p.StringArrayVar(&f.files, "job-file", nil, "file by whose writers the same is known; repeatable")
	p.Int64Var(&f.cfg.Seed, "seed", 0, "seed of every random choice; 0 picks one")
	p.IntVar(&f.cfg.ClusterMaxCount, "cluster-max", 0, "most nodes of the cluster; 0 means no limit")
	p.IntVar(&f.cfg.RegionalQuota, "quota", 10_000, "cores of the region")
	p.StringVar(&f.acquire, "acquire", "1s", "time until a VM exists, as min or min-max")
	p.StringVar(&f.boot, "boot", "2s-4s", "time until its program starts, as min or min-max")
	p.StringVar(&f.ready, "ready", "0s", "time from there until Ready, as min or min-max")
	p.StringVar(&f.terminate, "terminate", "1s-2s", "time until a terminated node is gone, as min or min-max")
	p.StringVar(&f.vanish, "vanish", "0s", "time until a lost VM is noticed, as min or min-max")
	p.DurationVar(&f.cfg.AvailableLag, "available-lag", 0, "time for which availableCount ignores a create")
	p.DurationVar(&f.cfg.ThrottleCapacity, "throttle", 0, "time for which availableCount is 0 after a capacity failure")
	return cmd
}

func (f *cycleCloudFlags) run(ctx context.Context, out, errOut io.Writer, argv []string) (err error) {
	if err := f.fill(argv); err != nil {
		return err
	}
	f.cfg.Logger = slog.New(slog.NewJSONHandler(errOut, nil))
	if f.journal != "" {
		file, err := os.OpenFile(f.journal, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return fmt.Errorf("open journal: %w", err)
		}
		defer file.Close()
		f.cfg.Journal = file
	}
	sim, err := cyclecloudsim.New(f.cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sim.Close()) }()
	if f.certificate != "" {
		if err := os.WriteFile(f.certificate, sim.CertificatePEM(), 0o644); err != nil {
			return fmt.Errorf("write certificate: %w", err)
		}
	}
	return f.serve(ctx, sim, out)
}

func (f *cycleCloudFlags) serve(ctx context.Context, sim *cyclecloudsim.Sim, out io.Writer) error {
	api, err := net.Listen("tcp", f.addr)
	if err != nil {
		return fmt.Errorf("listen for the API: %w", err)
	}
	control, err := net.Listen("tcp", f.control)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for the control surface: %w", err), api.Close())
	}
	scheme, serveAPI := "https", sim.ServeTLS
	if f.plain {
		scheme, serveAPI = "http", sim.Serve
	}
	ended := make(chan error, 2)
	go func() { ended <- serveAPI(api) }()
	go func() { ended <- sim.ServeControl(control) }()
	line, err := json.Marshal(map[string]any{
		"url": scheme + "://" + api.Addr().String(), "control": "http://" + control.Addr().String() + "/sim",
		"cluster": f.cfg.Cluster, "user": f.cfg.User, "pin": sim.Pin(), "seed": sim.Seed(), "quirks": sim.Quirks().String(),
	})
	if err != nil {
		return fmt.Errorf("encode addresses: %w", err)
	}
	if _, err := fmt.Fprintf(out, "%s\n", line); err != nil {
		return fmt.Errorf("print addresses: %w", err)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	}
}

// fill turns the texts of the flags into the configuration, naming every
// mistake.
func (f *cycleCloudFlags) fill(argv []string) error {
	var errs []error
	for _, d := range []struct {
		name, text string
		into       *cyclecloudsim.Range
	}{
		{"acquire", f.acquire, &f.cfg.AcquireDelay},
		{"boot", f.boot, &f.cfg.BootDelay},
		{"ready", f.ready, &f.cfg.ReadyLag},
		{"terminate", f.terminate, &f.cfg.TerminateDelay},
		{"vanish", f.vanish, &f.cfg.VanishLag},
	} {
		r, err := parseRange(d.text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", d.name, err))
		}
		*d.into = r
	}
	for _, text := range f.arrays {
		a, err := parseNodeArray(text)
		errs = append(errs, err)
		f.cfg.NodeArrays = append(f.cfg.NodeArrays, a)
	}
	for _, text := range f.quirks {
		name, answer, _ := strings.Cut(text, "=")
		errs = append(errs, f.cfg.Quirks.Set(name, cyclecloudsim.Answer(answer)))
	}
	if len(argv) > 0 {
		f.cfg.Launcher = &cyclecloudsim.ExecLauncher{Argv: argv, Env: f.env, LogDir: f.logs, JobMarks: f.marks, JobFiles: f.files}
	}
	return errors.Join(errs...)
}

// parseRange reads "2s" or "2s-4s".
func parseRange(text string) (cyclecloudsim.Range, error) {
	low, high, both := strings.Cut(text, "-")
	if !both {
		high = low
	}
	from, errFrom := time.ParseDuration(low)
	to, errTo := time.ParseDuration(high)
	if err := errors.Join(errFrom, errTo); err != nil {
		return cyclecloudsim.Range{}, fmt.Errorf("%q is not a duration or min-max: %w", text, err)
	}
	if from < 0 || to < from {
		return cyclecloudsim.Range{}, fmt.Errorf("%q does not rise", text)
	}
	return cyclecloudsim.Range{Min: from, Max: to}, nil
}

// parseNodeArray reads "name,machine type,cores,max count[,spot]".
func parseNodeArray(text string) (cyclecloudsim.NodeArray, error) {
	parts := strings.Split(text, ",")
	if len(parts) < 4 || len(parts) > 5 || len(parts) == 5 && parts[4] != "spot" {
		return cyclecloudsim.NodeArray{}, fmt.Errorf("--nodearray %q is not name,machine type,cores,max count[,spot]", text)
	}
	cores, errCores := strconv.Atoi(parts[2])
	count, errCount := strconv.Atoi(parts[3])
	if err := errors.Join(errCores, errCount); err != nil {
		return cyclecloudsim.NodeArray{}, fmt.Errorf("--nodearray %q: %w", text, err)
	}
	return cyclecloudsim.NodeArray{
		Name: parts[0], MachineType: parts[1], Cores: cores, MaxCount: count,
		MemoryGB: float64(2 * cores), Spot: len(parts) == 5,
	}, nil
}
