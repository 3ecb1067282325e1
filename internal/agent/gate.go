package agent

import (
	"context"
	"slices"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// gatePartition opens or closes a partition of the policy. Slurm forgets that at
// a reconfigure and at a restart; the next snapshots tell. A partition that an
// admin has made DRAIN or INACTIVE is left so.
func (t *term) gatePartition(ctx context.Context, c event.SlurmCommand) (event.CommandResult, error) {
	name, wanted := slurm.PartitionName(c.Partition), slurm.PartitionState(c.Value)
	switch {
	case !t.cloud[name]:
		return refused("partition %.80q is not in the policy of cluster %s", c.Partition, t.Cluster), nil
	case wanted != slurm.PartitionUp && wanted != slurm.PartitionDown:
		return refused("gate_partition: value %.40q is neither UP nor DOWN", c.Value), nil
	case t.charge.partitions[name] > c.Generation:
		return event.CommandResult{State: event.ResultSuperseded, Stale: c.Partition}, nil
	}
	t.charge.partitions[name] = c.Generation
	lookBegan := t.Clock.Now()
	state, err := t.partitionState(ctx, name)
	if err != nil {
		return failed(err), nil
	}
	ours := state == slurm.PartitionUp || state == slurm.PartitionDown
	if !ours || len(c.Expect.States) > 0 && !slices.Contains(c.Expect.States, string(state)) {
		return event.CommandResult{State: event.ResultStale, Stale: c.Partition}, nil
	}
	t.settings.readAt = time.Time{} // the next snapshot tells the new state
	if state == wanted {
		return event.CommandResult{State: event.ResultOK}, nil
	}
	if err := t.mayAct(lookBegan); err != nil {
		return event.CommandResult{}, err
	}
	outcome, err := t.Slurm.UpdatePartition(ctx, name, wanted)
	t.crash(pointActed)
	if err == nil || fault.Is(err, fault.Transient) {
		err = t.gateShows(ctx, name, wanted, outcome)
	}
	if err != nil {
		return event.CommandResult{State: event.ResultFailed, Failed: c.Partition, Error: err.Error()}, nil
	}
	return event.CommandResult{State: event.ResultOK}, nil
}

// gateShows waits a moment until the partition is in the state.
func (t *term) gateShows(ctx context.Context, name slurm.PartitionName, wanted slurm.PartitionState, outcome slurm.Outcome) error {
	for began := t.Clock.Now(); ; {
		state, err := t.partitionState(ctx, name)
		if err != nil || state == wanted {
			return err
		}
		if ctx.Err() != nil || t.Clock.Now().Sub(began) > readBackFor {
			return fault.Newf(fault.Conflict, "partition %s is %s, want %s: %s", name, state, wanted, outcome.Stderr)
		}
		t.pause(ctx, readBackEvery)
	}
}

func (t *term) partitionState(ctx context.Context, name slurm.PartitionName) (slurm.PartitionState, error) {
	var partitions []slurm.Partition
	err := t.insist(ctx, func() (err error) {
		partitions, err = t.Slurm.Partitions(ctx)
		return err
	})
	if err != nil {
		return "", err
	}
	for i := range partitions {
		if partitions[i].Name == name {
			return partitions[i].State, nil
		}
	}
	return "", fault.Newf(fault.Invalid, "slurmctld knows no partition %s", name)
}
