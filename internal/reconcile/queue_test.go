package reconcile

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/event"
)

// cloudNow and headNow are one moment on two clocks that disagree.
var (
	cloudNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	headNow  = cloudNow.Add(-7 * time.Minute)
)

func queueOf(t *testing.T, q event.QueuePressure) burst.Facts {
	t.Helper()
	q.TakenAt = headNow
	v := view{pressure: q, takenAt: cloudNow, asOf: cloudNow}
	policy := burst.Policy{Nodearrays: []burst.Nodearray{
		{Name: "htc", Partition: "cloud", Nodes: []burst.NodeName{"htc-1", "htc-2", "htc-3"}},
		{Name: "hpc", Partition: "cloudhpc", Nodes: []burst.NodeName{"hpc-1"}},
	}}
	var f burst.Facts
	v.addQueue(&f, policy, func(name burst.NodeName) (burst.NodearrayName, bool) {
		for _, a := range policy.Nodearrays {
			for _, n := range a.Nodes {
				if n == name {
					return a.Name, true
				}
			}
		}
		return "", false
	})
	return f
}

func TestGroupsAreTheOldestFirstInTheCloudsClock(t *testing.T) {
	f := queueOf(t, event.QueuePressure{Pending: []event.PendingGroup{
		{Partitions: []string{"batch"}, User: "eva", Nodes: 2, Count: 1, OldestSubmit: headNow.Add(-time.Minute), NewestSubmit: headNow, Jobs: event.JobIDs{"9"}},
		{
			Partitions: []string{"batch"}, User: "ada", Account: "physics", QOS: "normal", StateReason: "Resources", Description: "(Resources)",
			Nodes: 3, CPUs: 24, MemoryMiB: 4096, GPUs: 2, TimeLimitSeconds: 3600, Features: "ib", Batch: true, Requeue: true,
			BeginTime: headNow.Add(time.Hour), ExpectedStart: headNow.Add(2 * time.Hour), Count: 70, OldestSubmit: headNow.Add(-time.Hour), NewestSubmit: headNow.Add(-time.Minute),
			HighestPriority: 42, Jobs: event.JobIDs{"3", "5_1"},
		},
	}})
	want := []burst.Group{
		{
			Partitions: []string{"batch"}, User: "ada", Account: "physics", QOS: "normal", StateReason: "Resources", Description: "(Resources)",
			Nodes: 3, CPUs: 24, MemoryMiB: 4096, GPUs: 2, TimeLimit: time.Hour, Features: "ib", Batch: true, Requeue: true,
			BeginTime: cloudNow.Add(time.Hour), ExpectedStart: cloudNow.Add(2 * time.Hour), Count: 70, OldestSubmit: cloudNow.Add(-time.Hour), NewestSubmit: cloudNow.Add(-time.Minute),
			Priority: 42, Jobs: []string{"3", "5_1"},
		},
		{Partitions: []string{"batch"}, User: "eva", Nodes: 2, Count: 1, OldestSubmit: cloudNow.Add(-time.Minute), NewestSubmit: cloudNow, Jobs: []string{"9"}},
	}
	if diff := cmp.Diff(want, f.Groups, cmpopts.IgnoreFields(burst.Group{}, "Key")); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
}

func TestAGroupKeepsItsKeyWhileItsJobsComeAndGo(t *testing.T) {
	base := event.PendingGroup{Partitions: []string{"batch"}, User: "eva", StateReason: "Priority", Nodes: 2, Count: 5}
	key := func(change func(*event.PendingGroup)) string {
		g := base
		change(&g)
		return queueOf(t, event.QueuePressure{Pending: []event.PendingGroup{g}}).Groups[0].Key
	}
	same := map[string]func(*event.PendingGroup){
		"more jobs":          func(g *event.PendingGroup) { g.Count = 50 },
		"a higher priority":  func(g *event.PendingGroup) { g.HighestPriority = 7 },
		"a release":          func(g *event.PendingGroup) { g.Partitions = []string{"batch", "cloud"} },
		"a release and hpc":  func(g *event.PendingGroup) { g.Partitions = []string{"cloudhpc", "batch", "cloud"} },
		"another %R":         func(g *event.PendingGroup) { g.Description = "(ReqNodeNotAvail, n7)" },
		"a newer oldest job": func(g *event.PendingGroup) { g.OldestSubmit = headNow },
	}
	for name, change := range same {
		if got, want := key(change), key(func(*event.PendingGroup) {}); got != want {
			t.Errorf("%s changes the key from %s to %s", name, want, got)
		}
	}
	seen := map[string]string{}
	for name, change := range map[string]func(*event.PendingGroup){
		"as it is":        func(*event.PendingGroup) {},
		"partition":       func(g *event.PendingGroup) { g.Partitions = []string{"long"} },
		"user":            func(g *event.PendingGroup) { g.User = "ada" },
		"account as user": func(g *event.PendingGroup) { g.User, g.Account = "", "eva" },
		"reason":          func(g *event.PendingGroup) { g.StateReason = "Resources" },
		"nodes":           func(g *event.PendingGroup) { g.Nodes = 3 },
		"cpus":            func(g *event.PendingGroup) { g.CPUs = 2 },
		"limit":           func(g *event.PendingGroup) { g.TimeLimitSeconds = 60 },
		"requeue":         func(g *event.PendingGroup) { g.Requeue = true },
		"restarted":       func(g *event.PendingGroup) { g.Restarted = true },
		"begin":           func(g *event.PendingGroup) { g.BeginTime = headNow },
	} {
		if other, double := seen[key(change)]; double {
			t.Errorf("%s and %s have one key", name, other)
		}
		seen[key(change)] = name
	}
}

func TestGroupsThatDifferOnlyInWhatAKeyLeavesOutHaveDifferentKeys(t *testing.T) {
	local := event.PendingGroup{Partitions: []string{"batch"}, User: "eva", Nodes: 1, Count: 1, OldestSubmit: headNow}
	released := local
	released.Partitions, released.OldestSubmit = []string{"batch", "cloud"}, headNow.Add(-time.Hour)
	alone := queueOf(t, event.QueuePressure{Pending: []event.PendingGroup{local}}).Groups[0].Key
	both := queueOf(t, event.QueuePressure{Pending: []event.PendingGroup{released, local, released}}).Groups
	if len(both) != 3 || both[0].Key == both[1].Key || both[1].Key == both[2].Key || both[0].Key == both[2].Key {
		t.Fatalf("groups with one key: %+v", both)
	}
	if both[2].Key != alone {
		t.Errorf("the jobs that stay are called %s, and %s once others are released", alone, both[2].Key)
	}
}

func TestAbsurdNumbersOfJobsAreBounded(t *testing.T) {
	long := strings.Repeat("ä", maxWord)
	f := queueOf(t, event.QueuePressure{
		Pending: []event.PendingGroup{
			{
				Partitions: []string{"batch"}, User: long, Nodes: -3, CPUs: math.MinInt, MemoryMiB: math.MaxInt64, GPUs: -1, TimeLimitSeconds: math.MaxInt64,
				Count: -7, Jobs: event.JobIDs{"1", "2"}, OldestSubmit: headNow.Add(time.Hour), BeginTime: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
			},
			{Partitions: []string{"batch"}, Nodes: math.MaxInt, Count: math.MaxInt, TimeLimitSeconds: -60, OldestSubmit: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)},
			{Partitions: []string{"batch"}, Count: 0},
		},
		Running:    []event.RunningJob{{ID: "4", State: "RUNNING", Nodes: "htc-1", TimeLimitSeconds: math.MaxInt64, Start: headNow.Add(time.Hour)}},
		Local:      []event.LocalPartition{{Name: "batch", Nodes: -4, IdleNodes: math.MaxInt}},
		Partitions: []event.Partition{{Name: "batch", State: "up", MaxTimeSeconds: math.MaxInt64, MaxNodes: -1}},
	})
	if len(f.Groups) != 2 {
		t.Fatalf("groups: %+v", f.Groups)
	}
	huge, odd := f.Groups[0], f.Groups[1]
	if huge.Nodes != maxNodes || huge.Count != maxJobs || huge.TimeLimit != 0 || !huge.OldestSubmit.Equal(cloudNow.Add(-maxSpan)) {
		t.Errorf("the huge group is %+v", huge)
	}
	if odd.Nodes != 1 || odd.CPUs != 0 || odd.MemoryMiB != maxMiB || odd.GPUs != 0 || odd.TimeLimit != maxSpan || odd.Count != 2 ||
		!odd.OldestSubmit.Equal(cloudNow) || !odd.BeginTime.Equal(cloudNow.Add(maxSpan)) || len(odd.User) > maxWord {
		t.Errorf("the odd group is %+v", odd)
	}
	if j := f.Running[0]; j.TimeLimit != maxSpan || !j.StartedAt.Equal(cloudNow) {
		t.Errorf("the running job is %+v", j)
	}
	if l := f.Local[0]; l.Nodes != 0 || l.IdleNodes != maxNodes {
		t.Errorf("the local partition is %+v", l)
	}
	if p := f.Partitions[0]; !p.Up || p.MaxTime != maxSpan || p.MaxNodes != 0 {
		t.Errorf("the partition is %+v", p)
	}
}

func TestRunningJobsBelongToTheNodearrayOfTheirNodes(t *testing.T) {
	f := queueOf(t, event.QueuePressure{
		Running: []event.RunningJob{
			{ID: "8", User: "eva", Account: "bio", Partition: "cloud", State: "CONFIGURING", Nodes: "htc-[1-2]", TimeLimitSeconds: 60},
			{ID: "7", State: "RUNNING", Nodes: "local-9,htc-3", Start: headNow.Add(-time.Minute)},
			{ID: "6", State: "RUNNING", Nodes: "local-[1-4]"},
			{ID: "5", State: "RUNNING", Partition: "cloudhpc", Nodes: "hpc-[1"},
		},
		Ended: []event.EndedJob{{ID: "2", State: "REQUEUED"}, {ID: "1", State: "COMPLETED", End: headNow.Add(-time.Second)}},
	})
	wantRunning := []burst.RunningJob{
		{ID: "5", Nodearray: "hpc", Nodes: 1, StartedAt: cloudNow},
		{ID: "7", Nodearray: "htc", Nodes: 1, StartedAt: cloudNow.Add(-time.Minute)},
		{ID: "8", User: "eva", Account: "bio", Nodearray: "htc", Nodes: 2, Configuring: true, TimeLimit: time.Minute},
	}
	if diff := cmp.Diff(wantRunning, f.Running); diff != "" {
		t.Errorf("running (-want +got):\n%s", diff)
	}
	wantEnded := []burst.EndedJob{{ID: "1", EndedAt: cloudNow.Add(-time.Second)}, {ID: "2", Requeued: true}}
	if diff := cmp.Diff(wantEnded, f.Ended); diff != "" {
		t.Errorf("ended (-want +got):\n%s", diff)
	}
}

func TestFinishedRunsKeepTheirRatio(t *testing.T) {
	f := queueOf(t, event.QueuePressure{Finished: []event.FinishedRuns{
		{User: "eva", Account: "bio", Jobs: 3, RunSeconds: 60, LimitSeconds: 240},
		{User: "ada", Jobs: 4_000_000, RunSeconds: math.MaxInt64 / 4, LimitSeconds: math.MaxInt64},
		{User: "odd", Jobs: -1, RunSeconds: -60, LimitSeconds: -1},
	}})
	if diff := cmp.Diff(burst.FinishedRuns{User: "eva", Account: "bio", Jobs: 3, Run: time.Minute, Limit: 4 * time.Minute}, f.Finished[0]); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	many := f.Finished[1]
	if ratio := float64(many.Run) / float64(many.Limit); ratio < 0.249 || ratio > 0.251 || many.Limit > maxSpan {
		t.Errorf("of many jobs %v of %v", many.Run, many.Limit)
	}
	if diff := cmp.Diff(burst.FinishedRuns{User: "odd"}, f.Finished[2]); diff != "" {
		t.Errorf("absurd runs (-want +got):\n%s", diff)
	}
}

func TestPartitionsSayWhoIsAdmitted(t *testing.T) {
	f := queueOf(t, event.QueuePressure{Partitions: []event.Partition{
		{Name: "cloud", State: "UP", MaxTimeSeconds: 3600, MaxNodes: 4, AllowAccounts: "bio,physics", AllowQOS: "ALL", AllowGroups: ""},
		{Name: "batch", State: "DRAIN"},
	}})
	want := []burst.Partition{
		{Name: "batch"},
		{Name: "cloud", Up: true, MaxTime: time.Hour, MaxNodes: 4, AllowAccounts: []string{"bio", "physics"}},
	}
	if diff := cmp.Diff(want, f.Partitions); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
}
