package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/slurmburst/slurmburst/cmd/internal/connect"
	"github.com/slurmburst/slurmburst/handlers"
	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/config"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/policy"
	"github.com/slurmburst/slurmburst/internal/reconcile"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// wire builds the app from its settings. It connects to nothing yet: the host
// waits for the port.
func wire(settings config.App, logger *slog.Logger) (http.Handler, error) {
	clusters, names, err := loadClusters(settings)
	if err != nil {
		return nil, err
	}
	store, err := connect.Ledger(settings.Tables)
	if err != nil {
		return nil, err
	}
	client, err := connect.Bus(settings.ServiceBus)
	if err != nil {
		return nil, err
	}
	outbox := reconcile.BusOutbox{
		Bus: client, ScaleDown: settings.ScaleDown, Rejected: settings.Rejected, CommandsPrefix: settings.CommandsPrefix, Now: time.Now,
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	reconciler := reconcile.New(reconcile.Options{
		Ledger: store, Outbox: outbox, Clusters: clusters, Owner: host + "/" + rand.Text()[:8], Now: time.Now, Logger: logger,
	})
	return handlers.New(handlers.Options{
		Reconciler: reconciler, Rejected: outbox, Rechecks: outbox, State: store, History: store, Clusters: names,
		PressureQueue: settings.QueuePressure, ScaleDownQueue: settings.ScaleDown,
		Deadline: settings.Deadline, Now: time.Now, Logger: logger,
	}), nil
}

// loadClusters reads the policies and makes a CycleCloud client for each. All
// problems are reported at once.
func loadClusters(settings config.App) (map[string]reconcile.Cluster, []string, error) {
	documents, err := policy.LoadPath(settings.Policy, slurm.ParseHostlist)
	if err != nil {
		return nil, nil, fmt.Errorf("read policies: %w", err)
	}
	clusters := map[string]reconcile.Cluster{}
	var names []string
	var problems []error
	for _, d := range documents {
		client, err := openCycleCloud(settings, d)
		if err != nil {
			problems = append(problems, fmt.Errorf("policy of cluster %s: %w", d.Cluster, err))
			continue
		}
		text, err := os.ReadFile(d.File)
		if err != nil {
			problems = append(problems, fmt.Errorf("policy of cluster %s: %w", d.Cluster, err))
			continue
		}
		names = append(names, string(d.Cluster))
		clusters[string(d.Cluster)] = reconcile.Cluster{
			Policy: d.Burst(), PolicyText: string(text), ParsePolicy: successor(d),
			CycleCloud: client, CycleCloudCluster: cyclecloud.ClusterName(d.CycleCloud.Cluster),
		}
	}
	return clusters, names, errors.Join(problems...)
}

// successor reads policies that an admin applies in the place of the packaged
// one. The way to CycleCloud is opened once, from the package: another server
// or cluster takes another package.
func successor(packaged policy.Document) func(text string) (burst.Policy, error) {
	return func(text string) (burst.Policy, error) {
		d, err := policy.Parse([]byte(text), slurm.ParseHostlist)
		switch {
		case err != nil:
			return burst.Policy{}, err
		case d.Cluster != packaged.Cluster:
			return burst.Policy{}, fault.Newf(fault.Invalid, "it is the policy of cluster %q, not of %q", d.Cluster, packaged.Cluster)
		case d.CycleCloud != packaged.CycleCloud:
			return burst.Policy{}, fault.Newf(fault.Invalid, "its section cyclecloud is not that of the packaged policy: deploy the app with it instead")
		}
		return d.Burst(), nil
	}
}

func openCycleCloud(settings config.App, d policy.Document) (*cyclecloud.Client, error) {
	credential, err := settings.Credential(d.CycleCloud.Credential)
	if err != nil {
		return nil, err
	}
	return cyclecloud.NewClient(d.CycleCloud.URL,
		cyclecloud.Credential{User: credential.User, Password: cyclecloud.Secret(credential.Password.Reveal())},
		&cyclecloud.ClientOptions{
			// Three tries have to end well within the deadline of an invocation.
			ClientOptions: azpolicy.ClientOptions{Retry: azpolicy.RetryOptions{MaxRetries: 2, MaxRetryDelay: 5 * time.Second}},
			CACertFile:    d.CAPath(), PinSHA256: d.CycleCloud.Pin, Timeout: 15 * time.Second,
		})
}
