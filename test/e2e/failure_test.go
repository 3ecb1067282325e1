//go:build e2e

package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/slurmlab"
	"github.com/slurmburst/slurmburst/local/world"
)

// array is a nodearray of two names, one of which may exist.
func array(name string, tier int) world.Nodearray {
	return world.Nodearray{Name: name, Nodes: 2, MaxNodes: 1, IdleTimeout: 5 * time.Second, BootDeadline: 2 * time.Minute, PriorityTier: tier}
}

// wide is a nodearray of four names, three of which may exist.
func wide(name string, tier int) world.Nodearray {
	a := array(name, tier)
	a.Nodes, a.MaxNodes = 4, 3
	return a
}

// TestNodesThatCannotBeHad has one world whose nodearrays fail in different
// ways. Each of the first four has another one behind it.
func TestNodesThatCannotBeHad(t *testing.T) {
	t.Parallel()
	s := start(t, world.Config{
		Cluster: "unlucky", LocalNodes: 1, ReclaimSchedule: "*/5 * * * * *", ResumeTimeout: 400 * time.Second,
		BootDelay: cyclecloudsim.Range{Min: 3 * time.Second, Max: 4 * time.Second},
		Nodearrays: []world.Nodearray{
			array("vanish", 2), array("vanish2", 1), array("refuse", 2), array("refuse2", 1), array("full", 2), array("full2", 1),
			wide("wide", 2), wide("wide2", 1), array("held", 1), array("held2", 1),
		},
	})
	t.Run("a job moves on", func(t *testing.T) { jobsMoveOn(s.sub(t)) })
	t.Run("a job that an abort would kill stays", func(t *testing.T) { jobsAreNotKilled(s.sub(t)) })
}

// jobsMoveOn: when a node vanishes during its boot, or its create is refused,
// or the region is full, or is so for one node of three, its boot is aborted, the
// job requeued, and started at once where there are other nodes.
func jobsMoveOn(s *site) {
	s.failNext("refuse", cyclecloudsim.FailRefuse)
	s.failNext("full", cyclecloudsim.FailCapacity)
	s.failNext("wide", cyclecloudsim.FailCapacity)
	jobs := map[string]int{}
	for name, nodes := range map[string]int{"vanish": 1, "refuse": 1, "full": 1, "wide": 3} {
		jobs[name] = s.batch(1, "--partition="+name+","+name+"2", fmt.Sprintf("--nodes=%d", nodes), "--requeue")
	}
	s.eventually(soon, "a VM boots in vanish", func() (bool, string) {
		for _, vm := range s.Sim.VMs() {
			if vm.NodeArray == "vanish" {
				return s.Sim.Vanish(vm.Name, cyclecloudsim.ReasonVMDisappeared) == nil, vm.Name
			}
		}
		return false, s.queue()
	})
	for name, id := range jobs {
		s.eventually(soon, "the job of "+name+" has completed", func() (bool, string) {
			last := s.lastEnd(id)
			return last.State == "COMPLETED", fmt.Sprintf("%+v; %s", last, s.queue())
		})
		if last := s.lastEnd(id); !strings.HasPrefix(last.Nodes, name+"2-") {
			s.Errorf("the job of %s completed on %s", name, last.Nodes)
		}
		s.startedAgainSoon(name, id)
		if rows := s.failuresIn(name); len(rows) == 0 {
			s.Errorf("no failure tells what happened in %s", name)
		} else {
			s.Logf("%s: %v", name, rows)
		}
	}
	s.awaitZero()
	if log := s.log(); len(log.NodeFailed) > 0 || len(log.Requeued) != len(jobs) {
		s.Errorf("killed %v, requeued %v, want each of %v requeued once", log.NodeFailed, log.Requeued, jobs)
	}
	if twice := s.abortedTwice(); len(twice) > 0 {
		s.Errorf("aborted twice within 5 minutes: %v", twice)
	}
}

// startedAgainSoon checks that a requeued job did not wait for the two minutes
// that Slurm puts on it.
func (s *site) startedAgainSoon(name string, id int) {
	s.Helper()
	var starts []slurmlab.JobStart
	for _, start := range s.log().Started {
		if start.JobID == strconv.Itoa(id) {
			starts = append(starts, start)
		}
	}
	if len(starts) != 2 {
		s.Errorf("the job of %s started %d times, want 2", name, len(starts))
		return
	}
	for _, p := range s.log().PowerDowns {
		if p.Drained || !strings.HasPrefix(p.Node, name+"-") || p.Time.Before(starts[0].Time) {
			continue
		}
		waited := starts[1].Time.Sub(p.Time)
		if waited > time.Minute {
			s.Errorf("the job of %s waited %s after the abort", name, waited)
		}
		s.Logf("the job of %s started %s after the abort", name, waited.Round(100*time.Millisecond))
		return
	}
	s.Errorf("no boot was aborted in %s", name)
}

// jobsAreNotKilled: where only an abort could help, an srun and a --no-requeue
// job go on waiting for their node.
func jobsAreNotKilled(s *site) {
	s.failNext("held", cyclecloudsim.FailRefuse)
	s.failNext("held2", cyclecloudsim.FailRefuse)
	interactive := s.run("srun", "--partition=held", "--nodes=1", "--job-name=interactive", "hostname")
	once := s.batch(1, "--partition=held2", "--nodes=1", "--no-requeue", "--job-name=once")
	for _, name := range []string{"held", "held2"} {
		s.eventually(soon, "the refusal in "+name+" is known", func() (bool, string) {
			return len(s.failuresIn(name)) > 0, s.queue()
		})
	}
	s.sweeps(3)
	out, err := s.Lab.Squeue(s.ctx, "--noheader", "--states=CONFIGURING,RUNNING", "--name=interactive,once", "--format=%j")
	if err != nil {
		s.Fatal(err)
	}
	if len(strings.Fields(out)) != 2 {
		s.Errorf("not both jobs wait for their node: %s", s.queue())
	}
	for _, p := range s.log().PowerDowns {
		if strings.HasPrefix(p.Node, "held") {
			s.Errorf("%s was powered down under its job", p.Node)
		}
	}
	s.cancel(interactive, "interactive")
	if err := s.Lab.Cancel(s.ctx, once); err != nil {
		s.Fatal(err)
	}
	s.awaitZero()
	if last := s.lastEnd(once); last.State != "CANCELLED" {
		s.Errorf("the --no-requeue job ended %s", last.State)
	}
}

// sweeps waits until reclaim_idle's rechecks were handled n times more.
func (s *site) sweeps(n int) {
	s.Helper()
	count := func() int {
		done := 0
		for _, call := range s.calls.list() {
			if call.Function == "scale_down" && strings.Contains(call.MessageID, "/recheck/") {
				done++
			}
		}
		return done
	}
	before := count()
	s.eventually(soon, fmt.Sprintf("%d sweeps are done", n), func() (bool, string) { return count() >= before+n, "" })
}

func (s *site) failNext(nodearray string, kind cyclecloudsim.FailKind) {
	s.Helper()
	if err := s.Sim.FailNext(nodearray, kind); err != nil {
		s.Fatal(err)
	}
}

// failuresIn gives code and text of the failures of a nodearray.
func (s *site) failuresIn(nodearray string) []string {
	s.Helper()
	var found []string
	for _, row := range s.rows("failures", 1000, nil) {
		if row["Nodearray"] == nodearray {
			found = append(found, fmt.Sprintf("%s: %s", row["Code"], row["Detail"]))
		}
	}
	return found
}

// lastEnd gives the last end of a job in Slurm's own record.
func (s *site) lastEnd(id int) (last slurmlab.JobEnd) {
	s.Helper()
	for _, end := range s.ends() {
		if end.JobID == id {
			last = end
		}
	}
	return last
}
