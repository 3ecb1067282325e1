//go:build crashpoints

package agent_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/slurm"
)

// struckSlurm is the controller as one process sees it. It complains of a change
// by an agent that is not in charge.
type struckSlurm struct {
	*fakeSlurm
	p *process
}

func (s struckSlurm) Gate(ctx context.Context) (slurm.Counters, error) {
	if err := s.p.alive(); err != nil {
		return slurm.Counters{}, err
	}
	return s.fakeSlurm.Gate(ctx)
}

func (s struckSlurm) Nodes(ctx context.Context) ([]slurm.Node, int, error) {
	if err := s.p.alive(); err != nil {
		return nil, 0, err
	}
	return s.fakeSlurm.Nodes(ctx)
}

func (s struckSlurm) Config(ctx context.Context) (slurm.Config, error) {
	config, err := s.fakeSlurm.Config(ctx)
	s.p.w.mu.Lock()
	defer s.p.w.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.p.w.excluded)) {
		config.SuspendExcNodes = append(config.SuspendExcNodes, string(name))
	}
	return config, err
}

// acts notes a change.
func (s struckSlurm) acts(what string, where ...slurm.NodeName) error {
	if err := s.p.alive(); err != nil {
		return err
	}
	w := s.p.w
	if !w.broker.isCharge(s.p) {
		w.breaks("%v, not in charge, does %s on %v", s.p, what, where)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range where {
		w.acted[what+" "+string(name)]++
	}
	return nil
}

func (s struckSlurm) UpdateNodes(ctx context.Context, names []slurm.NodeName, action slurm.NodeAction, reason string) (slurm.Outcome, error) {
	if err := s.acts(string(action), names...); err != nil {
		return slurm.Outcome{}, err
	}
	outcome, err := s.fakeSlurm.UpdateNodes(ctx, names, action, reason)
	for _, name := range names {
		if action == slurm.PowerDownForce { // as measured
			s.setNode(string(name), "IDLE+CLOUD+POWER_DOWN+NOT_RESPONDING", reason)
			s.change(func(f *fakeSlurm) {
				for i := range f.jobs {
					if slices.Contains(f.jobs[i].Nodes, name) {
						f.jobs[i].State = slurm.JobCompleting
					}
				}
			})
		}
	}
	return outcome, err
}

// What sets a value may be done again; it counts where it changes something.

func (s struckSlurm) UpdateJobs(ctx context.Context, refs []slurm.JobRef, change slurm.JobUpdate) (slurm.Outcome, error) {
	var where []slurm.NodeName
	what := "START"
	s.change(func(f *fakeSlurm) {
		for _, job := range f.jobs {
			changes := change.StartNow && job.Eligible.After(time.Now())
			switch {
			case len(change.Partitions) > 0:
				what, changes = "MOVE", !slices.Equal(job.Partitions, change.Partitions)
			case change.AdminComment != "":
				what, changes = "NOTICE", job.AdminComment != change.AdminComment
			}
			if changes && slices.Contains(refs, job.Ref()) {
				where = append(where, slurm.NodeName("job-"+job.Ref().String()))
			}
		}
	})
	if err := s.acts(what, where...); err != nil {
		return slurm.Outcome{}, err
	}
	return s.fakeSlurm.UpdateJobs(ctx, refs, change)
}

func (s struckSlurm) UpdatePartition(ctx context.Context, name slurm.PartitionName, state slurm.PartitionState) (slurm.Outcome, error) {
	var where []slurm.NodeName
	s.change(func(f *fakeSlurm) {
		if f.gate != state {
			where = append(where, slurm.NodeName(name))
		}
	})
	if err := s.acts("GATE", where...); err != nil {
		return slurm.Outcome{}, err
	}
	return s.fakeSlurm.UpdatePartition(ctx, name, state)
}

func (s struckSlurm) SetNodeAddr(ctx context.Context, name slurm.NodeName, address string) (slurm.Outcome, error) {
	var where []slurm.NodeName
	s.change(func(f *fakeSlurm) {
		if f.nodes[name].Address != address {
			where = append(where, name)
		}
	})
	if err := s.acts("ADDR", where...); err != nil {
		return slurm.Outcome{}, err
	}
	return s.fakeSlurm.SetNodeAddr(ctx, name, address)
}

func (s struckSlurm) ExcludeFromSuspend(ctx context.Context, names []slurm.NodeName, how slurm.SuspendExclusion) (slurm.Outcome, error) {
	var where []slurm.NodeName
	s.p.w.mu.Lock()
	for _, name := range names {
		if !s.p.w.excluded[name] {
			where = append(where, name)
		}
	}
	s.p.w.mu.Unlock()
	if err := s.acts("EXCLUDE", where...); err != nil {
		return slurm.Outcome{}, err
	}
	s.p.w.mu.Lock()
	for _, name := range names {
		s.p.w.excluded[name] = true
	}
	s.p.w.mu.Unlock()
	return s.fakeSlurm.ExcludeFromSuspend(ctx, names, how)
}

func nodeState(s *fakeSlurm, name slurm.NodeName) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	words := []string{string(s.nodes[name].State.Base)}
	for _, flag := range s.nodes[name].State.Flags {
		words = append(words, string(flag))
	}
	return strings.Join(words, "+")
}
