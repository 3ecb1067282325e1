package agent

import (
	"maps"
	"slices"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// maxPartitions bounds the list that a job may get.
const maxPartitions = 64

type partitionSet map[slurm.PartitionName]bool

func setOf(names []slurm.PartitionName) partitionSet {
	set := make(partitionSet, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// moveJobs gives waiting jobs another list of partitions: release_jobs and
// revoke_jobs. Whatever the command says, only partitions of the policy come and
// go; every other partition that a job has stays, and no other appears.
func (t *term) moveJobs(c event.SlurmCommand) (jobRule, error) {
	names := make([]slurm.PartitionName, len(c.Partitions))
	for i, name := range c.Partitions {
		names[i] = slurm.PartitionName(name)
		if err := names[i].Validate(); err != nil {
			return jobRule{}, err
		}
	}
	list := setOf(names)
	switch {
	case len(names) == 0 || len(names) > maxPartitions || len(list) < len(names):
		return jobRule{}, fault.Newf(fault.Invalid, "%s names %d partitions, %d different ones, want 1 to %d", c.Kind, len(names), len(list), maxPartitions)
	case c.Kind == event.ReleaseJobs && !slices.ContainsFunc(names, t.isCloudPartition):
		return jobRule{}, fault.Newf(fault.Invalid, "release_jobs names no partition of the policy of cluster %s", t.Cluster)
	}
	return jobRule{
		refuse: func(targets []target) error { return t.refuseForeign(list, targets) },
		judge: func(job *slurm.Job) verdict {
			has := setOf(job.Partitions)
			switch {
			case maps.Equal(has, list): // Slurm orders the list itself
				return done
			case t.mayMove(c.Kind, has, list):
				return acting
			}
			return leftAlone
		},
		change: slurm.JobUpdate{Partitions: names},
		shows:  func(job *slurm.Job) verdict { return movedInto(list, job) },
	}, nil
}

func (a *Agent) isCloudPartition(name slurm.PartitionName) bool { return a.cloud[name] }

// refuseForeign says which partition of the list is neither the policy's nor
// that of any job that waits. One that has started bears only the partition in
// which it did.
func (t *term) refuseForeign(list partitionSet, targets []target) error {
	known := partitionSet{}
	for _, target := range targets {
		for i := range target.jobs {
			if job := &target.jobs[i]; job.State == slurm.JobPending {
				maps.Copy(known, setOf(job.Partitions))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if len(known) > 0 && !t.cloud[name] && !known[name] {
			return fault.Newf(fault.Invalid, "partition %s is neither in the policy of cluster %s nor one of the jobs'", name, t.Cluster)
		}
	}
	return nil
}

// mayMove reports whether a job with these partitions may get the list. A job
// whose other partitions have changed since the cloud looked is left alone.
func (t *term) mayMove(kind event.CommandKind, has, list partitionSet) bool {
	for name := range has {
		if !t.cloud[name] && !list[name] {
			return false
		}
	}
	for name := range list {
		if !has[name] && (!t.cloud[name] || kind == event.RevokeJobs) {
			return false
		}
	}
	return true
}

// movedInto says what became of a job that should have got the list.
func movedInto(list partitionSet, job *slurm.Job) verdict {
	switch {
	case job == nil:
		return leftAlone
	case job.State == slurm.JobPending:
		if maps.Equal(setOf(job.Partitions), list) {
			return done
		}
		return wrong
	}
	for _, name := range job.Partitions {
		if !list[name] {
			return leftAlone
		}
	}
	return done
}
