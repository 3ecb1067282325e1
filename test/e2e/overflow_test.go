//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/world"
)

// overflowRules send what may be requeued to spot first, and the rest to htc.
const overflowRules = `
overflow:
  - partition: local
    nodearrays: [spot, htc]
    when: job.requeue
    waiting: {rule: immediate}
  - partition: local
    nodearrays: [htc]
    waiting: {rule: immediate}
budgets:
  - {scope: account, name: chem, period: month, hard: 10}
accounts:
  - {name: students, maxNodes: 1}
`

// moveOnWithin is the promise: from the moment at which a nodearray's failure
// reaches us until its job is released to the next one.
const moveOnWithin = 10 * time.Second

// overflowSite has an on-prem partition of one node before two nodearrays, whose
// boots are expected to take two minutes.
func overflowSite(cluster, policy string) world.Config {
	return world.Config{
		Cluster: cluster, LocalNodes: 1, ReclaimSchedule: "*/10 * * * * *", ResumeTimeout: 400 * time.Second, Policy: policy,
		Nodearrays: []world.Nodearray{
			{Name: "spot", Nodes: 2, MaxNodes: 2, IdleTimeout: 5 * time.Second, BootDeadline: 5 * time.Minute, BootTime: 2 * time.Minute, Spot: true, Price: "1.20"},
			{Name: "htc", Nodes: 6, MaxNodes: 4, IdleTimeout: 5 * time.Second, BootDeadline: 5 * time.Minute, BootTime: 2 * time.Minute, Price: "3.60"},
		},
	}
}

// TestJobsOfAFullPartitionOverflow has one world whose spot machines are refused.
func TestJobsOfAFullPartitionOverflow(t *testing.T) {
	t.Parallel()
	s := start(t, overflowSite("overflow", overflowRules))
	s.failNext("spot", cyclecloudsim.FailRefuse)
	gate := filepath.Join(s.Dir, "gate")
	fill := s.fill(gate)
	moved := s.waits(gate, "--requeue", "--time=60", "--account=physics", "--exclusive")
	cloud := []int{
		moved,
		s.waits(gate, "--no-requeue", "--time=60", "--account=physics", "--exclusive"),
		s.waits(gate, "--no-requeue", "--time=60", "--account=students", "--exclusive"),
	}
	held := map[string]int{
		"limit_account_nodes": s.waits(gate, "--no-requeue", "--time=60", "--account=students"),
		"budget_hard":         s.waits(gate, "--no-requeue", "--time=600", "--account=chem"),
		"shorter_than_boot":   s.waits(gate, "--no-requeue", "--time=1", "--account=physics"),
	}
	for _, id := range cloud {
		s.eventually(soon, fmt.Sprintf("job %d has a node of htc", id), func() (bool, string) {
			out, err := s.Lab.Squeue(s.ctx, "--noheader", "--states=CONFIGURING,RUNNING", "--jobs="+strconv.Itoa(id), "--format=%N")
			return err == nil && strings.HasPrefix(out, "htc-"), s.queue()
		})
	}
	for code, id := range held {
		s.eventually(soon, fmt.Sprintf("job %d is told %s", id, code), func() (bool, string) {
			said := s.comment(id)
			return strings.HasPrefix(said, "slurmburst: "+code+": "), said
		})
		t.Logf("job %d: %s", id, s.comment(id))
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.awaitCompleted(append(cloud, fill)...)
	for code, id := range held {
		s.awaitCompleted(id)
		if said := s.comment(id); !strings.HasPrefix(said, "slurmburst: "+code+": ") {
			t.Errorf("job %d is told %q after it ran, want %s", id, said, code)
		}
		if last := s.lastEnd(id); !strings.HasPrefix(last.Nodes, "local-") {
			t.Errorf("job %d was held for %s and ran on %s", id, code, last.Nodes)
		}
	}
	s.awaitZero()
	for _, id := range cloud {
		if last := s.lastEnd(id); last.State != "COMPLETED" || !strings.HasPrefix(last.Nodes, "htc-") {
			t.Errorf("job %d ended %s on %s", id, last.State, last.Nodes)
		}
	}
	s.movedOnInTime(moved)
	s.nothingGivenUp()
	s.booksAreClosed(len(cloud))
}

// fill fills the on-prem node until the file exists, and waits until it runs.
func (s *site) fill(gate string) int {
	s.Helper()
	id := s.waits(gate, "--exclusive", "--time=480", "--account=physics")
	s.eventually(soon, "the on-prem node is full", func() (bool, string) {
		state, err := s.Lab.JobState(s.ctx, id)
		return err == nil && state == "RUNNING", s.queue()
	})
	return id
}

// waits submits a job to the on-prem partition that runs until the file exists.
func (s *site) waits(gate string, args ...string) int {
	s.Helper()
	args = append([]string{"--partition=local", "--ntasks=1", "--wrap=until [ -e " + gate + " ]; do sleep 0.2; done; sleep 1"}, args...)
	id, err := s.Lab.Submit(s.ctx, args...)
	if err != nil {
		s.Fatalf("submit: %v", err)
	}
	return id
}

// comment is the AdminComment of a job as scontrol shows it.
func (s *site) comment(id int) string {
	s.Helper()
	out, err := s.Lab.Run(s.ctx, "scontrol", "show", "job", strconv.Itoa(id))
	if err != nil {
		s.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if said, ok := strings.CutPrefix(strings.TrimSpace(line), "AdminComment="); ok {
			return said
		}
	}
	return ""
}

// movedOnInTime checks that a job tried a node of spot first, and how long after
// the failure it was released to the next nodearray, by the tables and by Slurm.
func (s *site) movedOnInTime(id int) {
	s.Helper()
	var nodes []string
	for _, start := range s.log().Started {
		if start.JobID == strconv.Itoa(id) {
			nodes = append(nodes, start.Nodes)
		}
	}
	if len(nodes) != 2 || !strings.HasPrefix(nodes[0], "spot-") || !strings.HasPrefix(nodes[1], "htc-") {
		s.Fatalf("job %d had the nodes %v, want one of spot and one of htc", id, nodes)
	}
	var failed time.Time
	for _, row := range s.rows("failures", 1000, nil) {
		if at := s.timeOf(row, "At"); row["Nodearray"] == "spot" && (failed.IsZero() || at.Before(failed)) {
			failed = at
		}
	}
	var sent time.Time
	for _, row := range s.rows("commands", 1000, nil) {
		if row["Kind"] == "release_jobs" && row["Nodearray"] == "htc" && slices.Contains(targets(row), strconv.Itoa(id)) {
			sent = s.timeOf(row, "SentAt")
		}
	}
	if failed.IsZero() || sent.IsZero() {
		s.Fatalf("no failure of spot (%s) or no release of job %d to htc (%s) in the tables", failed, id, sent)
	}
	took := sent.Sub(failed)
	s.Logf("job %d was released to htc %s after the failure of spot was known", id, took.Round(time.Millisecond))
	if took > moveOnWithin || took < 0 {
		s.Errorf("job %d was released to htc %s after the failure of spot, want at most %s", id, took, moveOnWithin)
	}
}

func (s *site) timeOf(row map[string]any, column string) time.Time {
	s.Helper()
	text, _ := row[column].(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		s.Fatalf("column %s of %v: %v", column, row, err)
	}
	return at
}

// targets are those of a command.
func targets(row map[string]any) []string {
	var names []string
	list, _ := row["Targets"].([]any)
	for _, name := range list {
		names = append(names, fmt.Sprint(name))
	}
	return names
}

// nothingGivenUp checks that no message was set aside and no call failed.
func (s *site) nothingGivenUp() {
	s.Helper()
	for name, q := range s.Bus.Stats() {
		if q.EverDeadLettered > 0 || name == "rejected" && q.Sent > 0 {
			s.Errorf("queue %s: %d dead letters, %d messages", name, q.EverDeadLettered, q.Sent)
		}
	}
	for _, call := range s.calls.list() {
		if call.Err != nil {
			s.Errorf("function %s failed: %v", call.Function, call.Err)
		}
	}
}

// booksAreClosed checks the table of spend when all jobs have ended: nothing is
// committed any more, and so many jobs were settled.
func (s *site) booksAreClosed(jobs int) {
	s.Helper()
	s.eventually(soon, "the books are closed", func() (bool, string) {
		var settled, committed, accrued float64
		number := func(row map[string]any, column string) float64 {
			n, _ := row[column].(float64)
			return n
		}
		for _, row := range s.rows("spend", 1000, nil) {
			settled += number(row, "Jobs")
			committed += number(row, "Committed")
			accrued += number(row, "Accrued")
		}
		return int(settled) == jobs && committed == 0 && accrued > 0, fmt.Sprintf("%v jobs settled for %v, %v committed", settled, accrued, committed)
	})
}

// TestShadowModeDecidesAndDoesNothing has one world in shadow mode.
func TestShadowModeDecidesAndDoesNothing(t *testing.T) {
	t.Parallel()
	config := overflowSite("shadow", "mode: shadow"+overflowRules)
	s := launch(t, config)
	gate := filepath.Join(s.Dir, "gate")
	s.fill(gate)
	over := s.waits(gate, "--no-requeue", "--time=60", "--account=physics", "--exclusive")
	dear := s.waits(gate, "--no-requeue", "--time=600", "--account=chem", "--exclusive")
	s.eventually(soon, "both jobs are judged", func() (bool, string) {
		var seen []string
		for _, row := range s.rows("jobs", 1000, nil) {
			seen = append(seen, fmt.Sprintf("%v %v %v", row["ID"], row["State"], row["ReasonCode"]))
		}
		text := strings.Join(seen, "; ")
		return strings.Contains(text, strconv.Itoa(over)+" shadow") && strings.Contains(text, "held budget_hard"), text
	})
	s.sweeps(2)
	if decisions := s.rows("decisions", 1000, nil); len(decisions) == 0 {
		t.Error("no decision was recorded")
	}
	if commands := s.rows("commands", 1000, nil); len(commands) > 0 {
		t.Errorf("shadow mode sent commands: %v", commands)
	}
	if sent := s.Bus.Stats()["slurm-commands-"+s.Cluster].Sent; sent > 0 {
		t.Errorf("%d messages went to the agent", sent)
	}
	if created := s.journal(cyclecloudsim.Created); len(created) > 0 {
		t.Errorf("shadow mode created %v", created)
	}
	for _, id := range []int{over, dear} {
		if said := s.comment(id); said != "" {
			t.Errorf("job %d is told %q", id, said)
		}
		out, err := s.Lab.Squeue(s.ctx, "--noheader", "--jobs="+strconv.Itoa(id), "--format=%T %P")
		if err != nil || strings.TrimSpace(out) != "PENDING local" {
			t.Errorf("job %d is %q: %v", id, out, err)
		}
	}
	report := s.ctl("shadow", "report")
	t.Logf("burstctl shadow report:\n%s", report)
	if !strings.Contains(report, "1 job would have been released") {
		t.Errorf("the report does not tell of one job:\n%s", report)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.awaitCompleted(over, dear)
	s.nothingGivenUp()
}
