//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/local/world"
)

// TestAClusterWithALimit has one world with at most two nodes of six.
func TestAClusterWithALimit(t *testing.T) {
	t.Parallel()
	s := start(t, world.Config{
		Cluster: "limited", LocalNodes: 1, Heartbeat: 10 * time.Second,
		Nodearrays: []world.Nodearray{{Name: "htc", Nodes: 6, MaxNodes: 2, IdleTimeout: 5 * time.Second, BootDeadline: 90 * time.Second}},
	})
	t.Run("jobs wait for the limit and none is lost", func(t *testing.T) { limitHolds(s.sub(t)) })
	t.Run("a paused cluster makes no nodes", func(t *testing.T) { pauseHolds(s.sub(t)) })
	t.Run("hook calls for strangers are errors", func(t *testing.T) { strangersAreRefused(s.sub(t)) })
	t.Run("bad messages are set aside", func(t *testing.T) { badMessagesAreSetAside(s.sub(t)) })
	t.Run("admins see it all", func(t *testing.T) { adminsSee(s.sub(t)) })
}

// limitHolds: with at most 2 nodes, a 4-node srun, a salloc, a --no-requeue
// job, an array and single jobs: no job ends NODE_FAIL, no node is aborted
// twice within 5 minutes, CycleCloud never has more than 2 nodes, what fits
// completes, what cannot fit waits, and the fence outlives reconfigure and a
// restart of slurmctld.
func limitHolds(s *site) {
	four := s.run("srun", "--partition=htc", "--nodes=4", "--job-name=four", "hostname")
	interactive := s.run("salloc", "--partition=htc", "--nodes=1", "srun", "hostname")
	ids := []int{
		s.batch(1, "--partition=htc", "--nodes=1", "--no-requeue"),
		s.batch(1, "--partition=htc", "--nodes=1", "--array=1-3"),
		s.batch(1, "--partition=htc", "--nodes=2"),
	}
	single := s.run("srun", "--partition=htc", "--nodes=1", "hostname")
	s.eventually(soon, "CycleCloud has nodes", func() (bool, string) { return len(s.Sim.Nodes()) > 0, s.queue() })

	before := s.fences()
	if err := s.Lab.Reconfigure(s.ctx); err != nil {
		s.Fatal(err)
	}
	s.sameFences("scontrol reconfigure", before)
	s.wait(interactive)
	s.wait(single)
	s.awaitCompleted(ids...)
	before = s.fences()
	if err := s.Lab.RestartController(s.ctx); err != nil {
		s.Fatal(err)
	}
	s.sameFences("a restart of slurmctld", before)

	if reason, found := s.waiting("four"); !found {
		s.Errorf("the 4-node job does not wait: %s", s.queue())
	} else {
		s.Logf("the 4-node job waits: %s", reason)
	}
	s.cancel(four, "four")
	s.awaitZero()
	s.noneLostItsNode()
	if twice := s.abortedTwice(); len(twice) > 0 {
		s.Errorf("aborted twice within 5 minutes: %v", twice)
	}
	if most := s.mostNodes()["htc"]; most > 2 || most < 1 {
		s.Errorf("CycleCloud had %d nodes at once, want 1 or 2", most)
	}
	s.awaitFence()
}

// fences gives the names that are drained with our reason.
func (s *site) fences() map[string]bool {
	s.Helper()
	nodes, err := s.nodes()
	if err != nil {
		s.Fatal(err)
	}
	found := map[string]bool{}
	for name, n := range nodes {
		if n.has("DRAIN") && strings.HasPrefix(n.reason, "slurmburst") {
			found[name] = true
		}
	}
	return found
}

// sameFences checks that every fenced node still is. Nodes may have been fenced
// since.
func (s *site) sameFences(after string, before map[string]bool) {
	s.Helper()
	if len(before) == 0 {
		s.Fatalf("nothing was fenced before %s", after)
	}
	now := s.fences()
	for name := range before {
		if !now[name] {
			s.Errorf("%s is no longer fenced after %s", name, after)
		}
	}
}
