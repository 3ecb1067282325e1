package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slurmburst/slurmburst/local/ca"
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
	namespace, ca, cert, key string
	keys                     map[string]string
	jwks, issuer, audience   string
	control                  string
	seed                     uint64
	fsync, tls, verbose      bool
}

// newServiceBusCommand builds "burstlocal servicebus": the emulator alone, until
// it is interrupted.
func newServiceBusCommand() *cobra.Command {
	var f serviceBusFlags
	cmd := &cobra.Command{
		Use:   "servicebus",
		Short: "Run the Service Bus emulator",
		Long: `Run the Service Bus emulator until it is interrupted.

It speaks AMQP 1.0 to the azservicebus client, with the connection string that it
prints. Messages are kept in memory, and with --data in a directory too: what was
answered is still there when the process is killed and started again.

With --tls a client is configured as in production: by the namespace's name and a
credential, plus the address as CustomEndpoint and the authority whose file is
printed. Any key or token is accepted unless --key or --jwks says which are good.
The addresses must be loopback addresses.`,
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
	p.BoolVar(&f.tls, "tls", false, "speak TLS, with an authority made for this run unless --cert and --cert-key are given")
	p.StringVar(&f.namespace, "namespace", "burst.servicebus.test", "the namespace's `name`, for the certificate; under .test")
	p.StringVar(&f.ca, "ca", "", "with --tls: `file` to write the authority's certificate to (default: a temporary one)")
	p.StringVar(&f.cert, "cert", "", "with --tls: PEM `file` with a certificate of your own")
	p.StringVar(&f.key, "cert-key", "", "with --tls: PEM `file` with its key")
	p.StringToStringVar(&f.keys, "key", nil, "accept shared access signatures by this key only, as `name=key`; repeatable")
	p.StringVar(&f.jwks, "jwks", "", "accept JWTs signed by a key of the JSON Web Key Set at this `address`")
	p.StringVar(&f.issuer, "issuer", "", "with --jwks: the tokens' `issuer` (default: any)")
	p.StringVar(&f.audience, "audience", servicebusemu.ServiceBusAudience, "with --jwks: the tokens' `audience`")
	p.StringVar(&f.control, "control", "", "loopback `address` of the HTTP surface that injects faults and tells stats (default: none)")
	p.Uint64Var(&f.seed, "seed", 1, "`seed` of the choice of faults")
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
	cfg := servicebusemu.Config{
		Queues: queues, Data: f.data, Fsync: f.fsync, Auth: f.auth(), Seed: f.seed,
		Logger: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})),
	}
	if f.tls {
		remove, err := f.certificate(&cfg)
		if err != nil {
			return err
		}
		defer remove()
	}
	srv, err := servicebusemu.New(cfg)
	if err != nil {
		return err
	}
	return errors.Join(f.serve(ctx, srv, stdout, queues), srv.Close())
}

// serve listens and serves until ctx ends.
func (f *serviceBusFlags) serve(ctx context.Context, srv *servicebusemu.Server, stdout io.Writer, queues []servicebusemu.QueueConfig) error {
	l, err := listenLoopback(f.addr)
	if err != nil {
		return err
	}
	done := make(chan error, 2)
	control := &http.Server{Handler: srv.ControlHandler(), ReadHeaderTimeout: time.Minute}
	if f.control != "" {
		cl, err := listenLoopback(f.control)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		f.control = "http://" + cl.Addr().String()
		go func() { done <- control.Serve(cl) }()
		defer func() { _ = control.Close() }()
	}
	f.banner(stdout, l.Addr().String(), queues)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return nil
	}
}

// auth says whose tokens are good; nil is everybody's.
func (f *serviceBusFlags) auth() *servicebusemu.Auth {
	if len(f.keys) == 0 && f.jwks == "" {
		return nil
	}
	a := &servicebusemu.Auth{Keys: f.keys}
	if f.jwks != "" {
		a.Tokens = &servicebusemu.TokenAuth{Key: servicebusemu.KeySet(f.jwks), Issuer: f.issuer, Audience: f.audience}
	}
	return a
}

// certificate gives the server one to show, the user's or a new one whose
// authority it writes to a file. What is temporary goes with remove.
func (f *serviceBusFlags) certificate(cfg *servicebusemu.Config) (remove func(), err error) {
	remove = func() {}
	var leaf tls.Certificate
	if f.cert != "" || f.key != "" {
		if leaf, err = tls.LoadX509KeyPair(f.cert, f.key); err != nil {
			return nil, fmt.Errorf("load certificate: %w", err)
		}
	} else {
		authority, err := ca.New()
		if err != nil {
			return nil, err
		}
		if leaf, err = authority.Leaf(f.namespace); err != nil {
			return nil, err
		}
		if f.ca == "" {
			dir, err := os.MkdirTemp("", "burst-servicebus-")
			if err != nil {
				return nil, fmt.Errorf("make a directory for the authority: %w", err)
			}
			remove = func() { _ = os.RemoveAll(dir) }
			f.ca = filepath.Join(dir, "ca.pem")
		}
		if err := authority.WriteFile(f.ca); err != nil {
			remove()
			return nil, err
		}
	}
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}}
	return remove, nil
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
	kept, who := "in memory", "any key or token is accepted"
	if f.data != "" {
		kept = "in " + f.data
	}
	if f.auth() != nil {
		who = "tokens are checked"
	}
	fmt.Fprintf(w, "Service Bus emulator on %s, messages %s; %s\n", addr, kept, who)
	for _, q := range queues {
		kind := "queue"
		if q.RequiresSession {
			kind = "queue with sessions"
		}
		fmt.Fprintf(w, "  %s: %s\n", q.Name, kind)
	}
	if f.control != "" {
		fmt.Fprintf(w, "control: %s\n", f.control)
	}
	if !f.tls {
		fmt.Fprintf(w, "connection string:\n%s\n", servicebusemu.ConnectionString(addr))
		return
	}
	if f.ca != "" {
		fmt.Fprintf(w, "certificate authority: %s\n", f.ca)
	}
	fmt.Fprintf(w, "namespace: %s\ncustom endpoint: %s\n", f.namespace, addr)
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
