package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// overflowing is a quiet site whose partition batch overflows into htc: a node
// costs 2.00 an hour.
func overflowing(t *testing.T, change func(*burst.Policy)) *site {
	t.Helper()
	s := newSite(t)
	s.policy.Nodearrays[0].Price, s.policy.Nodearrays[0].BootTime = 2_000_000, time.Minute
	s.policy.Overflow = []burst.Overflow{{Partition: "batch", Nodearrays: []burst.NodearrayName{"htc"}, Waiting: burst.Waiting{Rule: burst.WaitingImmediate}}}
	s.policy.Breaker = burst.BreakerPolicy{First: time.Minute, Max: time.Hour}
	if change != nil {
		change(&s.policy)
	}
	s.restart()
	s.partitions = []event.Partition{{Name: "batch", State: "UP"}, {Name: "htc", State: "UP"}}
	s.local = []event.LocalPartition{{Name: "batch", Nodes: 2}}
	s.report()
	s.answer()
	s.in("htc-4", "IDLE", "DRAIN", "POWERED_DOWN")
	s.after(time.Second)
	s.report()
	s.outbox.commands = nil
	return s
}

// wait puts jobs of an hour on one node into batch's queue.
func (s *site) wait(user string, jobs ...event.JobID) {
	s.pending = append(s.pending, event.PendingGroup{
		Partitions: []string{"batch"}, User: user, Account: "bio", StateReason: "Resources", Description: "(Resources)", Nodes: 1, CPUs: 1,
		TimeLimitSeconds: 3600, Batch: true, Requeue: true, Count: len(jobs), OldestSubmit: s.now, NewestSubmit: s.now, Jobs: jobs,
	})
}

// about gives the commands about jobs: kind, jobs, partitions or text.
func (s *site) about() string {
	var lines []string
	for _, c := range s.outbox.commands {
		if len(c.Jobs) > 0 {
			lines = append(lines, strings.TrimSpace(fmt.Sprint(c.Kind, c.Jobs, " ", strings.Join(c.Partitions, ","), strings.SplitN(c.Value, ": ", 3)[min(1, strings.Count(c.Value, ": "))])))
		}
	}
	return strings.Join(lines, "; ")
}

func (s *site) jobs() map[string]ledger.Job {
	s.t.Helper()
	rows, err := s.ledger.Jobs(s.t.Context(), clusterName)
	if err != nil {
		s.t.Fatal(err)
	}
	jobs := map[string]ledger.Job{}
	for _, row := range rows {
		if row.Group {
			row.ID = "group of " + row.User
		}
		jobs[row.ID] = row
	}
	return jobs
}

func (s *site) spend() []ledger.Spend {
	s.t.Helper()
	rows, _, err := s.ledger.ListSpend(s.t.Context(), ledger.SpendFilter{Cluster: clusterName}, ledger.Page{})
	if err != nil {
		s.t.Fatal(err)
	}
	return rows
}

func TestAWaitingJobRunsInTheCloudAndIsPaidFor(t *testing.T) {
	s := overflowing(t, nil)
	s.wait("eva", "100")
	s.after(time.Second)
	s.report()
	s.want("commands", s.about(), "release_jobs[100] batch,htc; notice_jobs[100] released")
	row := s.jobs()["100"]
	s.want("row", fmt.Sprint(row.State, row.Nodearray, row.Partition, row.ReasonCode, row.Cost), fmt.Sprint("released", "htc", "batch", burst.ReasonReleased, 2_000_000))
	s.want("when", fmt.Sprint(row.ReleasedAt.Equal(s.now), row.NotedAt.Equal(s.now)), "true true")

	s.restart() // another process, before anybody answered
	s.after(5 * time.Second)
	s.report()
	s.want("commands while nobody answered", s.about(), "release_jobs[100] batch,htc; notice_jobs[100] released")

	s.answer()
	s.pending = nil
	s.resume("htc-1", "r1", event.BootJob{ID: "100", Batch: true, Requeue: true})
	s.running = []event.RunningJob{{ID: "100", User: "eva", Account: "bio", Partition: "htc", State: "CONFIGURING", Nodes: "htc-1", TimeLimitSeconds: 3600}}
	s.after(5 * time.Second)
	s.report()
	s.want("VMs", s.cloud.ids, 1)

	s.in("htc-1", "ALLOCATED")
	s.after(time.Minute)
	s.running[0].State, s.running[0].Start = "RUNNING", s.now
	s.report()
	row = s.jobs()["100"]
	s.want("row of the running job", fmt.Sprint(row.State, " ", row.Nodes, " ", row.ReasonCode), "running htc-1 "+string(burst.ReasonReleased))

	s.after(30 * time.Minute)
	s.running, s.ended = nil, []event.EndedJob{{ID: "100", State: "COMPLETED", Nodes: "htc-1", End: s.now}}
	s.in("htc-1", "IDLE")
	s.report()
	row = s.jobs()["100"]
	s.want("row of the ended job", fmt.Sprint(row.State, row.Cost, row.EndedAt.Equal(s.now)), fmt.Sprint("ended", 1_000_000, true))
	var accrued, committed int64
	for _, x := range s.spend() {
		accrued, committed = accrued+x.Accrued, committed+x.Committed
	}
	s.want("spend", fmt.Sprint(accrued, committed), "1000000 0")
	if a := s.array(); a.SpendMonth < 1_000_000 || a.SpendToday > a.SpendMonth {
		t.Errorf("the nodearray's spend is %d today and %d this month", a.SpendToday, a.SpendMonth)
	}
}

func TestAReleaseThatCouldNotBeSentIsSentOnceAndPaidOnce(t *testing.T) {
	s := overflowing(t, nil)
	s.wait("eva", "100", "101")
	s.outbox.down = fault.New(fault.Transient, "send", errors.New("503"))
	s.after(time.Second)
	s.report()
	s.want("sent", s.about(), "")
	s.want("open intents", len(s.intents()) > 0, true)
	s.outbox.down = nil
	for range 3 {
		s.restart()
		s.after(5 * time.Second)
		s.report()
	}
	s.want("releases", strings.Count(s.about(), "release_jobs[100 101]"), 1)
	s.want("intents", len(s.intents()), 0)
	s.want("spend", s.spend()[len(s.spend())-1].Committed, 4_000_000)
}

func TestHeldJobsAreShownAsGroupsAndForgottenWhenTheyGo(t *testing.T) {
	s := overflowing(t, func(p *burst.Policy) {
		p.Budgets = []burst.Budget{{Scope: burst.ScopeCluster, Period: burst.Month, Soft: 3_000_000, Hard: 5_000_000}}
	})
	s.wait("eva", "100", "101", "102", "103")
	s.after(time.Second)
	s.report()
	s.want("commands", strings.Contains(s.about(), "release_jobs[100 101]"), true)
	group := s.jobs()["group of eva"]
	s.want("group", fmt.Sprint(group.State, group.Count, group.ReasonCode, group.Account, group.Cost), fmt.Sprint("held", 2, burst.ReasonBudgetHard, "bio", 2_000_000))
	s.want("soft limits told", s.failed(string(burst.ReasonBudgetSoft)), 1)
	rows, _, err := s.ledger.ListDecisions(t.Context(), ledger.DecisionFilter{Cluster: clusterName}, ledger.Page{Top: 1})
	if err != nil {
		t.Fatal(err)
	}
	if holds := rows[0].Holds; !strings.Contains(holds, `"kind":"waiting"`) || !strings.Contains(holds, `"jobs":2`) || !strings.Contains(rows[0].Reasons, string(burst.ReasonBudgetHard)) {
		t.Errorf("the decision tells %s and %s", holds, rows[0].Reasons)
	}

	before := group.UpdatedAt
	s.answer()
	s.pending[0].HighestPriority, s.pending[0].Count = 7, 5
	s.after(20 * time.Second)
	s.report()
	s.want("written again for the same reason", s.jobs()["group of eva"].UpdatedAt.Equal(before), true)
	s.pending = nil
	s.after(20 * time.Second)
	s.report()
	if _, still := s.jobs()["group of eva"]; still {
		t.Error("the group of jobs that are gone is still shown")
	}
}

func TestAProcessThatBeginsKnowsTheHeldGroups(t *testing.T) {
	s := overflowing(t, func(p *burst.Policy) {
		p.Users = []burst.Share{{MaxNodes: 0}, {Name: "eva", MaxNodes: 1}}
	})
	s.wait("eva", "100", "101")
	s.after(time.Second)
	s.report()
	s.want("held", s.jobs()["group of eva"].Count, 1)
	s.restart()
	s.pending = nil
	s.after(time.Second)
	s.report()
	if _, still := s.jobs()["group of eva"]; still {
		t.Error("a new process left the group of jobs that are gone")
	}
}

func TestShadowModeRecordsAndSendsNothing(t *testing.T) {
	s := overflowing(t, nil)
	s.policy.Shadow, s.policy.Version = true, "shadow"
	s.restart()
	s.wait("eva", "100")
	for range 4 {
		s.after(10 * time.Second)
		s.report()
	}
	s.want("commands", len(s.outbox.commands), 0)
	s.want("VMs", s.cloud.ids, 0)
	row := s.jobs()["100"]
	s.want("row", fmt.Sprint(row.State, row.Nodearray, row.Cost, row.NodeCount, row.LimitSeconds, row.ReleasedAt.IsZero()), fmt.Sprint("shadow", "htc", 2_000_000, 1, 3600, false))
	s.pending[0].Description = "(Priority)" // news of the same job
	s.after(10 * time.Second)
	s.report()
	s.want("group", s.jobs()["group of eva"].State, "shadow")
	for _, x := range s.spend() {
		if x.Committed != 0 {
			t.Errorf("shadow mode commits money: %+v", x)
		}
	}
	rows, _, err := s.ledger.ListDecisions(t.Context(), ledger.DecisionFilter{Cluster: clusterName, PolicyVersion: "shadow"}, ledger.Page{})
	if err != nil {
		t.Fatal(err)
	}
	withheld := 0
	for _, d := range rows {
		withheld += strings.Count(d.Holds, `"kind":"withheld"`)
	}
	if len(rows) == 0 || len(rows) > 3 || withheld == 0 {
		t.Errorf("%d decisions tell %d effects that were withheld", len(rows), withheld)
	}
}

func TestALostMemoryTakesRunningJobsIntoAccountAnew(t *testing.T) {
	s := overflowing(t, nil)
	s.in("htc-1", "ALLOCATED")
	s.running = []event.RunningJob{{ID: "7", User: "eva", Account: "bio", Partition: "htc", State: "RUNNING", Nodes: "htc-1", Start: s.now, TimeLimitSeconds: 3600}}
	s.cloud.nodes["htc-1"] = cyclecloud.Node{
		ID: "id-1", Name: "htc-1", NodeArray: "htc", Status: cyclecloud.StatusReady, StatusText: "Ready", TargetState: cyclecloud.StatusStarted,
	}
	s.after(time.Second)
	s.report()
	s.want("state", s.jobs()["7"].State, "running")
	s.ledger.DropTables()
	s.restart()
	s.after(10 * time.Second)
	s.report()
	s.want("state after the loss", s.jobs()["7"].State, "running")
	s.want("committed", s.spend()[len(s.spend())-1].Committed, 2_000_000)
}

// noFurther is a ledger that a heartbeat must not ask for anything else.
type noFurther struct {
	reconcile.Ledger
	t *testing.T
}

func (l noFurther) Nodearrays(context.Context, string) ([]ledger.Nodearray, error) {
	l.t.Error("a heartbeat reads the nodearrays")
	return nil, nil
}

func (l noFurther) FindPolicy(context.Context, string, string) (ledger.Policy, bool, error) {
	l.t.Error("a heartbeat reads a policy that is known")
	return ledger.Policy{}, false, nil
}

func (l noFurther) Commit(context.Context, ledger.Commit) (ledger.Committed, error) {
	l.t.Error("a heartbeat commits")
	return ledger.Committed{}, ledger.ErrConflict
}

func TestAHeartbeatOnlyLoadsAndNotes(t *testing.T) {
	s := overflowing(t, nil)
	s.packaged("3")
	s.apply("v2", "3")
	s.wait("eva", "100")
	s.after(time.Second)
	s.report()
	s.answer()
	s.report()
	s.rec.Ledger = noFurther{s.rec.Ledger, t}
	s.after(5 * time.Second)
	s.want("outcome", s.report().Outcome, reconcile.OutcomeNoted)
}

// lockedOutbox is an outbox for several processes.
type lockedOutbox struct {
	mu sync.Mutex
	fakeOutbox
}

func (o *lockedOutbox) SendCommand(ctx context.Context, c event.SlurmCommand) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fakeOutbox.SendCommand(ctx, c)
}

func (o *lockedOutbox) ScheduleTimer(ctx context.Context, t event.ScaleDownTimer) (int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fakeOutbox.ScheduleTimer(ctx, t)
}

// Several processes get the same snapshots, in any order and more than once:
// what they release together stays within budget and limit, and nobody releases
// what another has.
func TestSeveralDecidingAtOnceReleaseWithinOneBudget(t *testing.T) {
	s := overflowing(t, func(p *burst.Policy) {
		p.Budgets = []burst.Budget{{Scope: burst.ScopeCluster, Period: burst.Day, Hard: 5_000_000}}
	})
	for i := range 6 {
		s.wait(fmt.Sprintf("user%d", i), event.JobID(fmt.Sprint(100+i)))
	}
	s.after(time.Second)
	var snapshots []event.QueuePressure
	for range 6 {
		snapshots = append(snapshots, s.pressure())
	}
	outbox := &lockedOutbox{}
	var all sync.WaitGroup
	for n := range 4 {
		cloud := *s.cloud // nothing is created: only asked for
		rec := s.process(s.ledger, &cloud, outbox)
		all.Go(func() {
			for i := range 2 * len(snapshots) {
				q := snapshots[(i*(n+1)+n)%len(snapshots)]
				if _, err := rec.Pressure(t.Context(), q, s.now); err != nil && !fault.Is(err, fault.Conflict) {
					t.Errorf("process %d: %v", n, err)
				}
			}
		})
	}
	all.Wait()
	s.restart()
	s.report() // whatever is open is somebody's who lives: it is left
	released := map[event.JobID]int{}
	for _, c := range outbox.commands {
		if c.Kind == event.ReleaseJobs {
			for _, job := range c.Jobs {
				released[job]++
			}
		}
	}
	if len(released) != 2 {
		t.Errorf("released: %v, the budget lets 2 go", released)
	}
	for job, times := range released {
		s.want("releases of "+string(job), times, 1)
	}
	var committed int64
	for _, x := range s.spend() {
		committed += x.Committed
	}
	s.want("committed", committed, 4_000_000)
}

func TestManyGroupsAreShownInSeveralPasses(t *testing.T) {
	const groups = 1200
	s := overflowing(t, func(p *burst.Policy) { p.Overflow[0].Waiting = burst.Waiting{Rule: burst.WaitingWait, Wait: time.Hour} })
	for i := range groups {
		s.wait(fmt.Sprintf("user%04d", i), event.JobID(fmt.Sprint(1000+i)))
	}
	held := func() int { return len(s.jobs()) }
	s.after(time.Second)
	s.report()
	s.want("groups after the first pass", held(), 500)
	s.after(time.Second)
	s.report()
	s.want("groups after a snapshot that says the same", held(), 1000)
	s.after(time.Second)
	s.report()
	s.want("groups in the end", held(), groups)
	s.after(time.Second)
	s.want("outcome once all are shown", s.report().Outcome, reconcile.OutcomeNoted)
	s.pending = s.pending[:300]
	for range 2 {
		s.after(time.Second)
		s.report()
	}
	s.want("groups that are left", held(), 300)
}

// What is shown can be made again: a sweep brings back the rows of a table that
// was lost while the process remembers having written them.
func TestASweepShowsHeldGroupsAgain(t *testing.T) {
	s := overflowing(t, func(p *burst.Policy) { p.Overflow[0].Waiting = burst.Waiting{Rule: burst.WaitingWait, Wait: time.Hour} })
	s.wait("eva", "100")
	s.after(time.Second)
	s.report()
	group := s.jobs()["group of eva"]
	if _, err := s.ledger.DeleteGroups(t.Context(), clusterName, []ledger.Job{group}); err != nil {
		t.Fatal(err)
	}
	s.after(10 * time.Second)
	s.sweep()
	s.want("reason", s.jobs()["group of eva"].ReasonCode, group.ReasonCode)
}
