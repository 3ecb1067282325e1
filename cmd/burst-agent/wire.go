package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/slurmburst/slurmburst/cmd/internal/connect"
	"github.com/slurmburst/slurmburst/internal/agent"
	"github.com/slurmburst/slurmburst/internal/config"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/policy"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/internal/spool"
)

// serve runs the agent of the one cluster whose slurmctld this host has.
func serve(ctx context.Context, settings config.Agent, logger *slog.Logger) (err error) {
	document, err := ownPolicy(settings)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("ask for the host name: %w", err)
	}
	client, err := connect.Bus(settings.ServiceBus)
	if err != nil {
		return err
	}
	listener, err := spool.Listen(settings.Spool)
	if err != nil {
		return errors.Join(err, client.Close())
	}

	defer func() { err = errors.Join(err, listener.Close(), client.Close()) }()
	a, err := agent.New(agent.Options{
		Cluster: string(document.Cluster), Nodearrays: allowList(document),
		Slurm: &slurm.Client{Dir: settings.SlurmBin, Conf: settings.SlurmConf}, Bus: agent.ServiceBus(client),
		Spool: settings.Spool, Pokes: listener.Pokes(),
		PressureQueue: settings.QueuePressure, CommandQueue: settings.CommandsPrefix + string(document.Cluster),
		Host: host, Version: version(), Poll: settings.Poll, Heartbeat: settings.Heartbeat, Logger: logger,
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// ownPolicy gives the policy of this head node's cluster. A directory that
// holds several cannot be told apart without asking Slurm, which may be down.
func ownPolicy(settings config.Agent) (policy.Document, error) {
	documents, err := policy.LoadPath(settings.Policy, slurm.ParseHostlist)
	if err != nil {
		return policy.Document{}, fmt.Errorf("read policy: %w", err)
	}
	if len(documents) != 1 {
		return policy.Document{}, fault.Newf(fault.Invalid, "%s holds the policies of %d clusters: BURST_POLICY of an agent names the file of its own", settings.Policy, len(documents))
	}
	return documents[0], nil
}

// allowList names the nodes and partitions that commands may touch.
func allowList(document policy.Document) []agent.Nodearray {
	var arrays []agent.Nodearray
	for _, a := range document.Nodearrays {
		array := agent.Nodearray{Name: string(a.Name), Partition: slurm.PartitionName(a.Partition)}
		for _, name := range a.Nodes {
			array.Nodes = append(array.Nodes, slurm.NodeName(name))
		}
		arrays = append(arrays, array)
	}
	return arrays
}
