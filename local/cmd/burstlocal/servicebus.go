package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/local/servicebusemu"
)

// serviceBusFlags are the settings of a standalone emulator.
type serviceBusFlags struct {
	addr, queuesFile         string
	queues, sessionQueues    []string
	clusters                 []string
	lockDuration             time.Duration
	maxDeliveryCount, sizeKB int
	data                     string
	fsync, verbose           bool
}

// newServiceBusCommand builds "burstlocal servicebus": the emulator alone, until
// it is interrupted.
func newServiceBusCommand() *cobra.Command {
	var f serviceBusFlags
	cmd := &cobra.Command{
		Use:   "servicebus",
		Short: "run the Service Bus emulator",
		Long: `Run the Service Bus emulator until it is interrupted.

It speaks AMQP 1.0 to the azservicebus client, with the connection string that it
prints. Messages are kept in memory, and with --data in a directory too: what was
answered is still there when the process is killed and started again. Any key is accepted: the address must be
a loopback address.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	p := cmd.Flags()
	p.StringVar(&f.addr, "addr", "127.0.0.1:5672", "loopback `address` to listen on; port 0 takes a free one")
	p.StringSliceVar(&f.queues, "queues", nil, "`names` of queues without sessions")
	p.StringSliceVar(&f.sessionQueues, "session-queues", nil, "`names` of queues that require sessions")
	p.StringVar(&f.queuesFile, "queues-file", "", "JSON `file` with queues and their settings, such as infra/queues.json")
	p.StringSliceVar(&f.clusters, "cluster", nil, "Slurm cluster `names` that stand in for {cluster} in the file")
	p.DurationVar(&f.lockDuration, "lock-duration", servicebusemu.DefaultLockDuration, "lock of messages and sessions, for queues named by flags")
	p.IntVar(&f.maxDeliveryCount, "max-delivery-count", servicebusemu.DefaultMaxDeliveryCount, "deliveries before dead-lettering, for queues named by flags")
	p.IntVar(&f.sizeKB, "max-message-kb", servicebusemu.DefaultMaxMessageSize>>10, "largest message in KiB, for queues named by flags")
	p.StringVar(&f.data, "data", "", "`directory` in which messages survive the process; one process at a time")
	p.BoolVar(&f.fsync, "fsync", false, "with --data: wait for the disk before every answer, so that messages survive a power failure")
	p.BoolVar(&f.verbose, "verbose", false, "log connections")
	return cmd
}

// run serves until ctx ends.
func (f *serviceBusFlags) run(ctx context.Context, stdout, stderr io.Writer) error {
	queues, err := f.configs()
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	srv, err := servicebusemu.New(servicebusemu.Config{
		Queues: queues, Data: f.data, Fsync: f.fsync,
		Logger: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		return err
	}
	l, err := listenLoopback(f.addr)
	if err != nil {
		return err
	}
	f.banner(stdout, l.Addr().String(), queues)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return errors.Join(err, srv.Close())
	case <-ctx.Done():
		return errors.Join(srv.Close(), <-done)
	}
}

// configs gathers the queues of all three flags.
func (f *serviceBusFlags) configs() ([]servicebusemu.QueueConfig, error) {
	var queues []servicebusemu.QueueConfig
	if f.queuesFile != "" {
		loaded, err := servicebusemu.LoadQueues(f.queuesFile, f.clusters...)
		if err != nil {
			return nil, err
		}
		queues = loaded
	}
	for i, name := range slices.Concat(f.queues, f.sessionQueues) {
		queues = append(queues, servicebusemu.QueueConfig{
			Name: name, RequiresSession: i >= len(f.queues),
			LockDuration: f.lockDuration, MaxDeliveryCount: f.maxDeliveryCount, MaxMessageSize: f.sizeKB << 10,
		})
	}
	if len(queues) == 0 {
		return nil, errors.New("no queues: give --queues, --session-queues or --queues-file")
	}
	return queues, nil
}

// banner says how to reach the emulator.
func (f *serviceBusFlags) banner(w io.Writer, addr string, queues []servicebusemu.QueueConfig) {
	kept := "in memory"
	if f.data != "" {
		kept = "in " + f.data
	}
	fmt.Fprintf(w, "Service Bus emulator on %s, messages %s; any key is accepted\n", addr, kept)
	for _, q := range queues {
		kind := "queue"
		if q.RequiresSession {
			kind = "queue with sessions"
		}
		fmt.Fprintf(w, "  %s: %s\n", q.Name, kind)
	}
	fmt.Fprintf(w, "connection string:\n%s\n", servicebusemu.ConnectionString(addr))
}

// listenLoopback refuses addresses that other machines could reach.
func listenLoopback(addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); !strings.EqualFold(host, "localhost") && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("listen on %q: not a loopback address", addr)
	}
	return net.Listen("tcp", addr)
}
