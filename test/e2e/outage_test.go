//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/world"
)

// TestOutagesEnd has one world in which one part after the other fails.
func TestOutagesEnd(t *testing.T) {
	t.Parallel()
	s := start(t, world.Config{
		Cluster: "shaken", LocalNodes: 1, ResumeTimeout: 400 * time.Second,
		Nodearrays: []world.Nodearray{{Name: "htc", Nodes: 6, MaxNodes: 5, IdleTimeout: 5 * time.Second, BootDeadline: 5 * time.Minute}},
	})
	t.Run("CycleCloud answers nonsense for a while", func(t *testing.T) { cycleCloudFails(s.sub(t)) })
	t.Run("answers get lost", func(t *testing.T) { answersGetLost(s.sub(t)) })
	t.Run("parts die", func(t *testing.T) { partsDie(s.sub(t)) })
}

// cycleCloudFails: whatever CycleCloud answers in the middle of a burst, there
// is a failure that names it, nothing is lost, and the jobs complete afterwards.
func cycleCloudFails(s *site) {
	var jobs []*client
	for _, outage := range []struct {
		kind cyclecloudsim.OutageKind
		path string
		want string
	}{
		{cyclecloudsim.Outage401, "", "401"},
		{cyclecloudsim.Outage403, createPath, "403"},
		{cyclecloudsim.Outage409, "", "409"},
		{cyclecloudsim.Outage500, "", "500"},
		{cyclecloudsim.OutageHTML, "", "not the JSON expected"},
		{cyclecloudsim.OutageNothing, "", "body is empty"},
	} {
		told := func() []string {
			var details []string
			for _, row := range s.rows("failures", 1000, nil) {
				if detail := fmt.Sprint(row["Detail"]); row["Source"] == "cyclecloud" && strings.Contains(detail, outage.want) {
					details = append(details, detail)
				}
			}
			return details
		}
		if err := s.Sim.Outage(cyclecloudsim.Outage{Kind: outage.kind, Path: outage.path}); err != nil {
			s.Fatal(err)
		}
		jobs = append(jobs, s.run("srun", "--partition=htc", "--nodes=1", "hostname"))
		s.eventually(soon, "a failure tells of "+string(outage.kind), func() (bool, string) { return len(told()) > 0, "no such failure" })
		s.Sim.ClearOutages()
		if rows := told(); len(rows) > 5 {
			s.Errorf("%d failures tell of %s: too many for a few seconds", len(rows), outage.kind)
		} else {
			s.Logf("%s: %d failures: %s", outage.kind, len(rows), rows[0])
		}
	}
	for _, job := range jobs {
		s.wait(job)
	}
	s.awaitZero()
	s.noneLostItsNode()
	s.oneNodePerResume()
}

// The paths of the two requests that change what is billed, for an outage.
const (
	createPath    = "/clusters/*/nodes/create"
	terminatePath = "/clusters/*/nodes/terminate"
)

// answersGetLost: when CycleCloud does not answer a create and a terminate, or
// answers into the void, or the connection breaks before it has read them, each
// node is made once and goes.
func answersGetLost(s *site) {
	for _, kind := range []cyclecloudsim.OutageKind{cyclecloudsim.OutageLost, cyclecloudsim.OutageCut, cyclecloudsim.OutageHang} {
		s.awaitZero()
		before := len(s.journal(cyclecloudsim.Created))
		for _, path := range []string{createPath, terminatePath} {
			if err := s.Sim.Outage(cyclecloudsim.Outage{Kind: kind, Requests: 1, Method: "POST", Path: path}); err != nil {
				s.Fatal(err)
			}
		}
		s.wait(s.run("srun", "--partition=htc", "--nodes=2", "hostname"))
		if n := len(s.journal(cyclecloudsim.Created)) - before; n != 2 {
			s.Errorf("%s: %d nodes were created for a job on 2", kind, n)
		}
	}
	s.awaitZero()
	s.noneLostItsNode()
	s.oneNodePerResume()
}

// partsDie: in the middle of bursts a function's process is killed between its
// commit and its answer, burst-agent is killed, Service Bus is away for 20 s and
// slurmctld for 15 s: everything completes and nothing is left.
func partsDie(s *site) {
	s.awaitZero()
	// The handler dies while it waits for the answer to a create.
	if err := s.Sim.Outage(cyclecloudsim.Outage{Kind: cyclecloudsim.OutageHang, Requests: 1, Method: "POST", Path: createPath}); err != nil {
		s.Fatal(err)
	}
	jobs := []int{s.resumed("htc-1")}
	s.eventually(soon, "a create is committed", func() (bool, string) {
		found := false
		err := s.eachRow(s.ctx, "burstclusters", func(row map[string]any) { found = found || row["Kind"] == "create" })
		return found, fmt.Sprint(err)
	})
	if err := s.Host.KillHandler("queue_pressure"); err != nil {
		s.Fatal(err)
	}

	s.KillAgent()
	jobs = append(jobs, s.resumed("htc-2"))
	if err := s.StartAgent(s.ctx); err != nil {
		s.Fatal(err)
	}

	jobs = append(jobs, s.resumed("htc-3"))
	s.CutBus()
	s.lasts(20 * time.Second)
	s.RestoreBus()

	jobs = append(jobs, s.resumed("htc-4"))
	if err := s.Lab.StopController(s.ctx); err != nil {
		s.Fatal(err)
	}
	s.lasts(15 * time.Second)
	if err := s.Lab.StartController(s.ctx); err != nil {
		s.Fatal(err)
	}

	s.awaitCompletedWithin(5*time.Minute, jobs...)
	if err := s.Host.KillHandler("scale_down"); err != nil {
		s.Fatal(err)
	}
	s.awaitZero()
	s.noneLostItsNode()
	s.oneNodePerResume()
}

// resumed submits a job for a node that is off, and waits until Slurm has called
// ResumeProgram for it.
func (s *site) resumed(name string) int {
	s.Helper()
	before := len(s.log().Resumes)
	id := s.batch(2, "--partition=htc", "--nodelist="+name)
	s.eventually(soon, fmt.Sprintf("ResumeProgram is called for job %d", id), func() (bool, string) {
		return len(s.log().Resumes) > before, s.queue()
	})
	return id
}

// lasts lets an outage go on for a while.
func (s *site) lasts(d time.Duration) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, d)
	defer cancel()
	<-ctx.Done()
	if s.ctx.Err() != nil {
		s.Fatal(s.ctx.Err())
	}
}

// oneNodePerResume compares Slurm's log with the simulator's journal: each node
// that Slurm resumed was created once, and each one that was created went.
func (s *site) oneNodePerResume() {
	s.Helper()
	resumed := 0
	for _, call := range s.log().Resumes {
		resumed += len(call.Nodes)
	}
	created := len(s.journal(cyclecloudsim.Created))
	gone := len(s.journal(cyclecloudsim.Terminated)) + len(s.journal(cyclecloudsim.Vanished))
	if created != resumed || gone != created {
		s.Errorf("Slurm resumed %d nodes, CycleCloud created %d, and %d are gone again", resumed, created, gone)
	}
}
