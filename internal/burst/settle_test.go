package burst

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// priced is a policy of two nodearrays: htc at 2.00 and hpc at 10.00 an hour.
func priced() Policy {
	return Policy{Version: "1", Cluster: "onprem", MaxActAge: 90 * time.Second, Nodearrays: []Nodearray{
		{Name: "htc", Partition: "htc-part", Price: 2 * unit}, {Name: "hpc", Partition: "hpc-part", Price: 10 * unit},
	}}
}

// released is a job of two nodes and three hours: let go to htc half an hour
// ago, for 12.00.
func released(change ...func(*CloudJob)) CloudJob {
	j := CloudJob{
		ID: "7", Nodearray: "htc", User: "ada", Account: "chem", Nodes: 2, Home: []string{"local"}, Rate: 2 * unit, Committed: 12 * unit,
		CommittedAt: origin.Add(-30 * time.Minute), TimeLimit: 3 * time.Hour, SubmittedAt: origin.Add(-2 * time.Hour),
	}
	for _, do := range change {
		do(&j)
	}
	return j
}

// begun is a released job that started so long ago.
func begun(ago time.Duration) func(*CloudJob) {
	return func(j *CloudJob) { j.StartedAt = origin.Add(-ago) }
}

func missing(j *CloudJob) { j.MissingAt = Position{1, 4} }
func revoked(j *CloudJob) { j.RevokedAt, j.Committed = origin.Add(-time.Minute), 0 }
func back(j *CloudJob) {
	revoked(j)
	j.TakenBackAt = j.RevokedAt
}
func shadow(j *CloudJob) { j.Shadow = true }
func listed(j *CloudJob) { j.Listed, j.ListedIn = true, "htc-part" }

// renewed commits all of a job's time limit now.
func renewed(j *CloudJob) {
	j.CommittedAt, j.StartedAt, j.RevokedAt = origin, time.Time{}, time.Time{}
	j.Committed = commitment(j.Rate, j.Nodes, j.TimeLimit)
}

func onNodes(change ...func(*RunningJob)) []RunningJob {
	r := RunningJob{ID: "7", User: "ada", Account: "chem", Nodearray: "htc", Nodes: 2, StartedAt: origin.Add(-10 * time.Minute), TimeLimit: 3 * time.Hour}
	for _, do := range change {
		do(&r)
	}
	return []RunningJob{r}
}

func queued(count int, partitions ...string) []Group {
	return []Group{{Partitions: partitions, User: "ada", Account: "chem", Count: count, Jobs: []string{"7"}}}
}

var advances = []struct {
	name   string
	was    []CloudJob
	shadow bool
	facts  Facts
	want   []CloudJob
	paid   Money // in the present month
}{
	{
		name: "a job that starts is committed as before",
		was:  []CloudJob{released()}, facts: Facts{Running: onNodes()},
		want: []CloudJob{released(begun(10 * time.Minute))},
	},
	{
		name: "a job whose nodes boot has not started",
		was:  []CloudJob{released(missing)}, facts: Facts{Running: onNodes(func(r *RunningJob) { r.Configuring = true })},
		want: []CloudJob{released()},
	},
	{
		name: "a job that starts elsewhere commits what that costs",
		was:  []CloudJob{released()}, facts: Facts{Running: onNodes(func(r *RunningJob) { r.Nodearray, r.Nodes = "hpc", 1 })},
		want: []CloudJob{released(begun(10*time.Minute), func(j *CloudJob) {
			j.Nodearray, j.Nodes, j.Rate, j.Committed = "hpc", 1, 10*unit, 30*unit
		})},
	},
	{
		name: "a price that changes does not touch a job that runs",
		was:  []CloudJob{released(begun(10*time.Minute), func(j *CloudJob) { j.Rate, j.Committed = unit, 6*unit })},

		facts: Facts{Running: onNodes()},
		want:  []CloudJob{released(begun(10*time.Minute), func(j *CloudJob) { j.Rate, j.Committed = unit, 6*unit })},
	},
	{
		name: "a longer time limit commits more",
		was:  []CloudJob{released(begun(10 * time.Minute))}, facts: Facts{Running: onNodes(func(r *RunningJob) { r.TimeLimit = 4 * time.Hour })},
		want: []CloudJob{released(begun(10*time.Minute), func(j *CloudJob) { j.TimeLimit, j.Committed = 4*time.Hour, 16*unit })},
	},
	{
		name: "a start whose time wavers is the same start",
		was:  []CloudJob{released(begun(10*time.Minute + clockGrain))}, facts: Facts{Running: onNodes()},
		want: []CloudJob{released(begun(10*time.Minute + clockGrain))},
	},
	{
		name: "a job that nobody released commits its whole limit now", facts: Facts{Running: onNodes()},
		want: []CloudJob{released(renewed, begun(10*time.Minute), func(j *CloudJob) { j.Home, j.SubmittedAt = nil, time.Time{} })},
	},
	{
		name: "a job without a limit commits thirty days", facts: Facts{Running: onNodes(func(r *RunningJob) { r.TimeLimit, r.Configuring = 0, true })},
		want: []CloudJob{released(func(j *CloudJob) { j.TimeLimit, j.Home, j.SubmittedAt = 0, nil, time.Time{} }, renewed, func(j *CloudJob) { j.Committed = 2880 * unit })},
	},
	{
		name: "a job that ended pays what it ran",
		was:  []CloudJob{released(begun(90 * time.Minute))}, facts: Facts{Ended: []EndedJob{{ID: "7", EndedAt: origin.Add(-30 * time.Minute)}}},
		paid: 4 * unit,
	},
	{
		name: "a job whose end is not known pays until now",
		was:  []CloudJob{released(begun(90 * time.Minute))}, facts: Facts{Ended: []EndedJob{{ID: "7"}}},
		paid: 6 * unit,
	},
	{
		name: "a job whose end is not known pays no more than its limit",
		was:  []CloudJob{released(begun(9 * time.Hour))}, facts: Facts{Ended: []EndedJob{{ID: "7"}}},
		paid: 12 * unit,
	},
	{
		name: "an end that is still to come is not known",
		was:  []CloudJob{released(begun(90 * time.Minute))}, facts: Facts{Ended: []EndedJob{{ID: "7", EndedAt: origin.Add(time.Hour)}}},
		paid: 6 * unit,
	},
	{
		name: "a job that starts in the future starts now",
		was:  []CloudJob{released()}, facts: Facts{Running: onNodes(func(r *RunningJob) { r.StartedAt = origin.Add(time.Hour) })},
		want: []CloudJob{released(begun(0))},
	},
	{
		name: "a job in a nodearray that left the policy keeps its price",
		was:  []CloudJob{released()}, facts: Facts{Running: onNodes(func(r *RunningJob) { r.Nodearray, r.StartedAt = "old", time.Time{} })},
		want: []CloudJob{released(begun(0), func(j *CloudJob) { j.Nodearray = "old" })},
	},
	{
		name: "a job that ran past its limit pays what it ran",
		was:  []CloudJob{released(begun(4 * time.Hour))}, facts: Facts{Ended: []EndedJob{{ID: "7", EndedAt: origin}}},
		paid: 16 * unit,
	},
	{
		name: "a job that ended before it started pays nothing",
		was:  []CloudJob{released(begun(time.Hour))}, facts: Facts{Ended: []EndedJob{{ID: "7", EndedAt: origin.Add(-2 * time.Hour)}}},
	},
	{
		name: "a job that ended without a start pays nothing",
		was:  []CloudJob{released()}, facts: Facts{Ended: []EndedJob{{ID: "7", EndedAt: origin}}},
	},
	{name: "the end of a job that nobody knows is nothing", facts: Facts{Ended: []EndedJob{{ID: "7", EndedAt: origin}}}},
	{
		name: "a requeued job pays what it ran and commits all of its limit again",
		was:  []CloudJob{released(begun(time.Hour))}, facts: Facts{Ended: []EndedJob{{ID: "7", EndedAt: origin, Requeued: true}}},
		want: []CloudJob{released(renewed)}, paid: 4 * unit,
	},
	{
		name: "a job that waits again was requeued, whether that was told or not",
		was:  []CloudJob{released(begun(time.Hour))}, facts: Facts{Groups: queued(1, "local", "htc-part")},
		want: []CloudJob{released(renewed, listed)}, paid: 4 * unit,
	},
	{
		name: "a job of whose requeue is told has its list read at once, for its owner may shorten it next",
		was:  []CloudJob{released(begun(time.Hour))}, facts: Facts{
			Groups: queued(1, "local", "htc-part"), Ended: []EndedJob{{ID: "7", EndedAt: origin, Requeued: true}},
		},
		want: []CloudJob{released(renewed, listed)}, paid: 4 * unit,
	},
	{
		name: "a job that started anew between two snapshots pays both runs",
		was:  []CloudJob{released(begun(time.Hour))}, facts: Facts{Running: onNodes()},
		want: []CloudJob{released(renewed, begun(10*time.Minute))}, paid: 200 * unit / 60,
	},
	{
		name: "a job whose nodes boot anew pays the run before",
		was:  []CloudJob{released(begun(time.Hour))},

		facts: Facts{Running: onNodes(func(r *RunningJob) { r.Configuring = true })},
		want:  []CloudJob{released(renewed)}, paid: 200 * unit / 60,
	},
	{
		name: "a job that vanished is remembered for one more snapshot",
		was:  []CloudJob{released()},
		want: []CloudJob{released(func(j *CloudJob) { j.MissingAt = Position{1, 5} })},
	},
	{name: "a job that is still not there is forgotten", was: []CloudJob{released(missing)}},
	{
		name: "a job that is there again waits as before",
		was:  []CloudJob{released(missing)}, facts: Facts{Groups: queued(1, "local", "htc-part")},
		want: []CloudJob{released(listed)},
	},
	{
		name: "a job may be among those that its nodearray's partition does not name",
		was:  []CloudJob{released(missing)}, facts: Facts{Groups: []Group{{Partitions: []string{"htc-part"}, Count: 2, Jobs: []string{"8"}}}},
		want: []CloudJob{released(missing)},
	},
	{
		name: "a job may be among those that its own partition does not name",
		was:  []CloudJob{released(revoked, missing)}, facts: Facts{Groups: []Group{{Partitions: []string{"local"}, Count: 2, Jobs: []string{"8"}}}},
		want: []CloudJob{released(revoked, missing)},
	},
	{
		name: "a job that had the cloud in its list is not among those of its own partition",
		was:  []CloudJob{released(listed, missing)}, facts: Facts{Groups: []Group{{Partitions: []string{"local"}, Count: 2, Jobs: []string{"8"}}}},
	},
	{
		name: "a job that had the cloud in its list may be among others that have",
		was:  []CloudJob{released(listed, missing)}, facts: Facts{Groups: []Group{{Partitions: []string{"local", "htc-part"}, Count: 2, Jobs: []string{"8"}}}},
		want: []CloudJob{released(listed, missing)},
	},
	{
		name: "a job that was taken back may be among those of its own partition again",
		was:  []CloudJob{released(listed, revoked, missing)}, facts: Facts{Groups: []Group{{Partitions: []string{"local"}, Count: 2, Jobs: []string{"8"}}}},
		want: []CloudJob{released(listed, revoked, missing)},
	},
	{
		name: "a job whose release Slurm did not show may be among those of its own partition",
		was:  []CloudJob{released(missing)}, facts: Facts{Groups: []Group{{Partitions: []string{"local"}, Count: 2, Jobs: []string{"8"}}}},
		want: []CloudJob{released(missing)},
	},
	{
		name: "a job is not among those of other partitions",
		was:  []CloudJob{released(missing)}, facts: Facts{Groups: []Group{{Partitions: []string{"hpc-part"}, Count: 2, Jobs: []string{"8"}}}},
	},
	{
		name: "a job of a nodearray that left the policy may be among any",
		was:  []CloudJob{released(missing, func(j *CloudJob) { j.Nodearray = "old" })},

		facts: Facts{Groups: []Group{{Partitions: []string{"hpc-part"}, Count: 2, Jobs: []string{"8"}}}},
		want:  []CloudJob{released(missing, func(j *CloudJob) { j.Nodearray = "old" })},
	},
	{
		name: "a snapshot that had to be cut proves nothing",
		was:  []CloudJob{released(missing), released(begun(time.Hour), func(j *CloudJob) { j.ID = "8" })}, facts: Facts{Cut: true},
		want: []CloudJob{released(missing), released(begun(time.Hour), func(j *CloudJob) { j.ID = "8" })},
	},
	{
		name: "a job that ran is not among those that never did",
		was:  []CloudJob{released(begun(time.Hour), missing)}, facts: Facts{Groups: []Group{{Partitions: []string{"htc-part"}, Count: 2, Jobs: []string{"8"}}}},
		paid: 4 * unit,
	},
	{
		name: "a job that ran may be among those that wait again",
		was:  []CloudJob{released(begun(time.Hour), missing)}, facts: Facts{Groups: []Group{{Partitions: []string{"htc-part"}, Count: 2, Jobs: []string{"8"}, Restarted: true}}},
		want: []CloudJob{released(begun(time.Hour), missing)},
	},
	{
		name: "a snapshot that is older than the release does not show that it arrived",
		was:  []CloudJob{released(renewed, missing)}, facts: Facts{Groups: queued(1, "local", "htc-part")},
		want: []CloudJob{released(renewed, func(j *CloudJob) { j.Listed = true })},
	},
	{
		name: "a job that its owner took back may be among those of the partition where it is now",
		was:  []CloudJob{released(back)}, facts: Facts{Groups: queued(1, "big")},
		want: []CloudJob{released(back, func(j *CloudJob) { j.Home = []string{"big"} })},
	},
	{
		name: "a task that its owner took back is remembered as long as others of its array wait",
		was:  []CloudJob{released(back, missing, func(j *CloudJob) { j.ID, j.ArrayBack = "7_1", true })},

		facts: Facts{Groups: []Group{{Partitions: []string{"local"}, Count: 1, Jobs: []string{"7_2"}}}},
		want:  []CloudJob{released(back, func(j *CloudJob) { j.ID, j.ArrayBack = "7_1", true })},
	},
	{
		name: "a task that its owner took back is forgotten with the array",
		was:  []CloudJob{released(back, missing, func(j *CloudJob) { j.ID, j.ArrayBack = "7_1", true })},

		facts: Facts{Groups: []Group{{Partitions: []string{"local"}, Count: 1, Jobs: []string{"8_2"}}}},
	},
	{name: "a job that its owner took back is forgotten when it is gone", was: []CloudJob{released(back, missing)}},
	{
		name: "a job that its owner took back and sent again is its owner's",
		was:  []CloudJob{released(back)}, facts: Facts{Running: onNodes()},
		want: []CloudJob{released(renewed, begun(10*time.Minute), func(j *CloudJob) { j.Home = nil })},
	},
	{
		name: "a shadow that its owner sent to the cloud was never released", shadow: true,
		was: []CloudJob{released(shadow)}, facts: Facts{Groups: queued(1, "local", "htc-part")},
		want: []CloudJob{released(shadow, func(j *CloudJob) { j.Listed = true })},
	},
	{
		name: "a shadow that waits stays", shadow: true,
		was: []CloudJob{released(shadow)}, facts: Facts{Groups: queued(1, "local")},
		want: []CloudJob{released(shadow)},
	},
	{name: "a shadow that started on-prem goes at once", shadow: true, was: []CloudJob{released(shadow)}},
	{
		name: "a shadow may be among those that its partition does not name", shadow: true,
		was: []CloudJob{released(shadow)}, facts: Facts{Groups: []Group{{Partitions: []string{"local"}, Count: 2, Jobs: []string{"8"}}}},
		want: []CloudJob{released(shadow)},
	},
	{name: "in earnest there are no shadows", was: []CloudJob{released(shadow)}, facts: Facts{Groups: queued(1, "local")}},
	{
		name: "a shadow that runs in the cloud commits in earnest", shadow: true,
		was: []CloudJob{released(shadow)}, facts: Facts{Running: onNodes()},
		want: []CloudJob{released(renewed, begun(10*time.Minute))},
	},
	{
		name: "a revoked job that waits keeps its record and commits nothing",
		was:  []CloudJob{released(revoked, missing)}, facts: Facts{Groups: queued(1, "local")},
		want: []CloudJob{released(revoked)},
	},
	{name: "a revoked job that vanished is forgotten", was: []CloudJob{released(revoked, missing)}},
	{
		name: "a job that was revoked too late commits again",
		was:  []CloudJob{released(revoked)}, facts: Facts{Running: onNodes()},
		want: []CloudJob{released(renewed, begun(10*time.Minute))},
	},
}

func TestAdvance(t *testing.T) {
	for _, c := range advances {
		t.Run(c.name, func(t *testing.T) {
			p, f := priced(), c.facts
			p.Shadow = c.shadow
			f.Snapshot = Snapshot{Position{1, 5}, origin.Add(-time.Second)}
			f.Memory = Memory{Seen: Position{1, 4}, Jobs: c.was}
			before := f.Memory.clone()
			got := advance(origin, p, f)
			if diff := cmp.Diff(before, f.Memory); diff != "" {
				t.Errorf("the old memory changed:\n%s", diff)
			}
			if diff := cmp.Diff(c.want, slices.Concat(got.Jobs)); diff != "" {
				t.Errorf("jobs (-want +got):\n%s", diff)
			}
			if got.Seen != f.Snapshot.Position {
				t.Errorf("saw %v", got.Seen)
			}
			if paid := settled(got.Books, Month); paid < c.paid || paid > c.paid+1 {
				t.Errorf("paid %s, want %s", paid, c.paid)
			}
			f.Memory = got
			if diff := cmp.Diff(got, advance(origin, p, f)); diff != "" {
				t.Errorf("the same snapshot a second time changed:\n%s", diff)
			}
		})
	}
}

// settled sums what was settled in periods of a kind.
func settled(books []Book, p Period) Money {
	var sum Money
	for _, b := range books {
		if b.Period == p {
			sum += b.Settled
		}
	}
	return sum
}

func TestAJobPaysInThePeriodsOfItsCommitment(t *testing.T) {
	job := released(begun(90 * time.Minute))
	job.CommittedAt = origin.Add(-100 * time.Minute) // two full hours ago
	f := Facts{Snapshot: Snapshot{Position{1, 5}, origin}, Ended: []EndedJob{{ID: "7", EndedAt: origin}}, Memory: Memory{Jobs: []CloudJob{job}}}
	book := func(p Period, from time.Time) Book {
		return Book{Period: p, From: from, Account: "chem", Nodearray: "htc", Settled: 6 * unit, NodeTime: 3 * time.Hour, JobsSettled: 1}
	}
	day, month := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	t.Run("an hour that is no longer kept is not written", func(t *testing.T) {
		if diff := cmp.Diff([]Book{book(Day, day), book(Month, month)}, advance(origin, priced(), f).Books); diff != "" {
			t.Errorf("books (-want +got):\n%s", diff)
		}
	})
	t.Run("the hour before is", func(t *testing.T) {
		f.Memory.Jobs[0].CommittedAt = origin.Add(-time.Second)
		if diff := cmp.Diff([]Book{book(Day, day), book(Hour, origin.Add(-time.Hour)), book(Month, month)}, advance(origin, priced(), f).Books); diff != "" {
			t.Errorf("books (-want +got):\n%s", diff)
		}
	})
	t.Run("no month is forgotten", func(t *testing.T) {
		f.Memory.Jobs[0].CommittedAt = origin.AddDate(-1, 0, 0)
		if diff := cmp.Diff([]Book{book(Month, time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC))}, advance(origin, priced(), f).Books); diff != "" {
			t.Errorf("books (-want +got):\n%s", diff)
		}
	})
}

func TestOnlyRecordsWithoutMoneyAreDropped(t *testing.T) {
	f := Facts{Snapshot: Snapshot{Position{1, 5}, origin}}
	for i := range maxCloudJobs + 100 {
		r := onNodes(func(r *RunningJob) { r.ID = fmt.Sprintf("r%06d", i) })
		f.Running = append(f.Running, r...)
	}
	for i := range 50 {
		f.Memory.Jobs = append(f.Memory.Jobs, released(revoked, func(j *CloudJob) { j.ID = fmt.Sprintf("a%06d", i) }))
	}
	if got := advance(origin, priced(), f); len(got.Jobs) != maxCloudJobs+100 {
		t.Errorf("%d jobs are remembered", len(got.Jobs))
	}
	f.Running = f.Running[:maxCloudJobs-20]
	if got := advance(origin, priced(), f); len(got.Jobs) != maxCloudJobs || got.Jobs[0].ID != "a000030" {
		t.Errorf("%d jobs are remembered, the first is %s", len(got.Jobs), got.Jobs[0].ID)
	}
}

func TestAListOfACloneIsItsOwn(t *testing.T) {
	m := Memory{
		Jobs:     []CloudJob{{ID: "1", Home: []string{"a"}, Tried: []NodearrayName{"x"}}, {ID: "2", Home: []string{"b", "c"}, Tried: []NodearrayName{"y"}}, {ID: "3"}},
		Breakers: []Breaker{{Failures: 1}}, Steps: []StepMemory{{Up: 1}}, Books: []Book{{Settled: 1}}, Meters: []Meter{{Idle: 1}},
		Unseen: []UnseenJob{{ID: "u"}}, Warned: []Warned{{Name: "w"}}, Runs: []RunRatio{{Jobs: 1}}, Noticed: []Noticed{{Job: "1"}},
	}
	c, again := m.clone(), m.clone()
	if diff := cmp.Diff(m, c); diff != "" {
		t.Fatalf("the clone differs:\n%s", diff)
	}
	c.Jobs[0].Home = append(c.Jobs[0].Home, "z")
	c.Jobs[0].Tried = append(c.Jobs[0].Tried, "z")
	if c.Jobs[1].Home[0] != "b" || c.Jobs[1].Tried[0] != "y" {
		t.Error("to append to one job's list changed another's")
	}
	c.Jobs[1].Home[0], c.Jobs[1].Tried[0], c.Jobs[2].ID = "z", "z", "z"
	c.Breakers[0].Failures, c.Steps[0].Up, c.Books[0].Settled, c.Meters[0].Idle = 9, 9, 9, 9
	c.Unseen[0].ID = "z"
	c.Warned[0].Name, c.Runs[0].Jobs, c.Noticed[0].Job = "z", 9, "z"
	if diff := cmp.Diff(again, m); diff != "" {
		t.Errorf("the original changed:\n%s", diff)
	}
}
