package agent_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slurmburst/slurmburst/internal/slurm"
)

// fakeSlurm is a controller in memory. It changes nodes as slurmctld does in the
// moment of a command; what Slurm does later, the test does.
type fakeSlurm struct {
	mu          sync.Mutex
	nodes       map[slurm.NodeName]*slurm.Node
	jobs        []slurm.Job
	counters    slurm.Counters
	busy        map[slurm.NodeName]time.Time
	controllers []slurm.Controller
	down        error // answered to every question
	deaf        bool  // updates change nothing
	gate        slurm.PartitionState
	asked       map[string]int
	asking      func(what string) // called with every question
	updates     []string
	dropped     int
}

func newFakeSlurm() *fakeSlurm {
	s := &fakeSlurm{nodes: map[slurm.NodeName]*slurm.Node{}, busy: map[slurm.NodeName]time.Time{}, asked: map[string]int{}, gate: slurm.PartitionUp}
	for i := range 4 {
		s.setNode(fmt.Sprintf("htc-%d", i+1), "IDLE+CLOUD+POWERED_DOWN", "")
	}
	s.nodes["local-1"] = &slurm.Node{Name: "local-1", Partitions: []slurm.PartitionName{"local"}, State: slurm.NodeState{Base: "IDLE"}, CPUs: slurm.CPUs{Idle: 8, Total: 8}}
	return s
}

func (s *fakeSlurm) setNode(name, state, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	words := strings.Split(state, "+")
	n := &slurm.Node{Name: slurm.NodeName(name), Partitions: []slurm.PartitionName{"htc"}, State: slurm.NodeState{Base: slurm.NodeBase(words[0])}, Reason: reason, CPUs: slurm.CPUs{Idle: 4, Total: 4}}
	for _, word := range words[1:] {
		n.State.Flags = append(n.State.Flags, slurm.NodeFlag(word))
	}
	s.nodes[n.Name] = n
	s.counters.Started++ // as a change that the cheap look sees
}

func (s *fakeSlurm) change(f func(*fakeSlurm)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
	s.counters.Submitted++
}

func (s *fakeSlurm) ask(what string) (func(), error) {
	s.mu.Lock()
	s.asked[what]++
	if s.asking != nil {
		s.asking(what)
	}
	return s.mu.Unlock, s.down
}

func (s *fakeSlurm) Gate(context.Context) (slurm.Counters, error) {
	done, err := s.ask("gate")
	defer done()
	return s.counters, err
}

func (s *fakeSlurm) Nodes(context.Context) ([]slurm.Node, int, error) {
	done, err := s.ask("nodes")
	defer done()
	var nodes []slurm.Node
	for _, n := range s.nodes {
		nodes = append(nodes, *n)
	}
	slices.SortFunc(nodes, func(a, b slurm.Node) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return nodes, s.dropped, err
}

func (s *fakeSlurm) Jobs(_ context.Context, query slurm.JobQuery) ([]slurm.Job, int, error) {
	done, err := s.ask("jobs")
	defer done()
	var jobs []slurm.Job
	for _, job := range s.jobs {
		if len(query.States) > 0 && !slices.Contains(query.States, job.State) || len(query.Jobs) > 0 && !slices.ContainsFunc(query.Jobs, names(&job)) {
			continue
		}
		if !query.AdminComment {
			job.AdminComment = ""
		}
		jobs = append(jobs, job)
	}
	return jobs, 0, err
}

// names reports whether a reference means the job: itself, or its whole array.
func names(job *slurm.Job) func(slurm.JobRef) bool {
	return func(ref slurm.JobRef) bool {
		return ref == job.Ref() || job.IsTask && ref == slurm.JobRef{Job: job.ArrayID}
	}
}

func (s *fakeSlurm) Partitions(context.Context) ([]slurm.Partition, error) {
	done, err := s.ask("partitions")
	defer done()
	return []slurm.Partition{{Name: "htc", State: s.gate, MaxTime: slurm.Unlimited, MaxNodes: slurm.UnlimitedNodes, SuspendTime: slurm.Unlimited}}, err
}

func (s *fakeSlurm) Config(context.Context) (slurm.Config, error) {
	done, err := s.ask("config")
	defer done()
	config := slurm.Config{ClusterName: cluster, Version: "22.05.8"}
	for _, c := range s.controllers {
		config.ControllerHosts = append(config.ControllerHosts, c.Host)
	}
	return config, err
}

func (s *fakeSlurm) Ping(context.Context) ([]slurm.Controller, error) {
	done, err := s.ask("ping")
	defer done()
	return slices.Clone(s.controllers), err
}

func (s *fakeSlurm) LastBusy(context.Context) (map[slurm.NodeName]time.Time, error) {
	done, err := s.ask("lastbusy")
	defer done()
	return maps.Clone(s.busy), err
}

// effects are what the commands do to flags at once.
var effects = map[slurm.NodeAction]struct{ add, remove slurm.NodeFlag }{
	slurm.PowerUp: {add: slurm.FlagPowerUp}, slurm.PowerDown: {add: slurm.FlagPowerDown}, slurm.PowerDownASAP: {add: slurm.FlagPowerDown},
	slurm.PowerDownForce: {add: slurm.FlagPowerDown}, slurm.Drain: {add: slurm.FlagDrain}, slurm.Idle: {remove: slurm.FlagDrain},
	slurm.Resume: {remove: slurm.FlagPoweringDown},
}

func (s *fakeSlurm) UpdateNodes(_ context.Context, names []slurm.NodeName, action slurm.NodeAction, reason string) (slurm.Outcome, error) {
	done, err := s.ask("update")
	defer done()
	s.updates = append(s.updates, fmt.Sprintf("%s %s %q", action, slurm.FormatHostlist(names), reason))
	if err != nil || s.deaf {
		return slurm.Outcome{ExitCode: 1, Stderr: "slurm_update error: no"}, err
	}
	for _, name := range names {
		n := *s.nodes[name]
		effect := effects[action]
		n.State.Flags = slices.DeleteFunc(slices.Clone(n.State.Flags), func(f slurm.NodeFlag) bool { return f == effect.remove })
		if effect.add != "" {
			n.State.Flags = append(n.State.Flags, effect.add)
		}
		if reason != "" {
			n.Reason = reason
		}
		s.nodes[name] = &n
	}
	return slurm.Outcome{}, nil
}

func (s *fakeSlurm) UpdateJobs(_ context.Context, refs []slurm.JobRef, change slurm.JobUpdate) (slurm.Outcome, error) {
	done, err := s.ask("update")
	defer done()
	for _, ref := range refs {
		s.updates = append(s.updates, fmt.Sprintf("job %s %+v", ref, change))
		for i := range s.jobs {
			if names(&s.jobs[i])(ref) && !s.deaf && err == nil {
				s.applyTo(&s.jobs[i], change)
			}
		}
	}
	if s.deaf {
		return slurm.Outcome{ExitCode: 1, Stderr: "slurm_update error: no"}, err
	}
	return slurm.Outcome{}, err
}

// applyTo changes a job as slurmctld does: it orders partitions itself.
func (s *fakeSlurm) applyTo(job *slurm.Job, change slurm.JobUpdate) {
	if change.AdminComment != "" && !job.State.IsFinished() {
		job.AdminComment = change.AdminComment
	}
	if job.State != slurm.JobPending {
		return
	}
	if len(change.Partitions) > 0 {
		job.Partitions = slices.Sorted(slices.Values(change.Partitions))
	}
	if change.StartNow {
		job.Eligible = time.Now()
	}
}

func (s *fakeSlurm) UpdatePartition(_ context.Context, name slurm.PartitionName, state slurm.PartitionState) (slurm.Outcome, error) {
	done, err := s.ask("update")
	defer done()
	s.updates = append(s.updates, fmt.Sprintf("partition %s %s", name, state))
	if err != nil || s.deaf {
		return slurm.Outcome{ExitCode: 1, Stderr: "slurm_update error: no"}, err
	}
	s.gate = state
	return slurm.Outcome{}, nil
}

func (s *fakeSlurm) SetNodeAddr(_ context.Context, name slurm.NodeName, address string) (slurm.Outcome, error) {
	done, err := s.ask("update")
	defer done()
	s.updates = append(s.updates, fmt.Sprintf("addr %s %s", name, address))
	s.nodes[name].Address = address
	return slurm.Outcome{}, err
}

func (s *fakeSlurm) ExcludeFromSuspend(_ context.Context, names []slurm.NodeName, how slurm.SuspendExclusion) (slurm.Outcome, error) {
	done, err := s.ask("update")
	defer done()
	s.updates = append(s.updates, fmt.Sprintf("exclude%s %s", how, slurm.FormatHostlist(names)))
	return slurm.Outcome{Stderr: "No valid entity in update command"}, err // as 22.05 answers
}

func (s *fakeSlurm) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[what]
}

func (s *fakeSlurm) done() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.updates)
}
