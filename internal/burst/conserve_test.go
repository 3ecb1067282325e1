package burst

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// trueJob is a job as it really is, of which snapshots tell.
type trueJob struct {
	CloudJob
	state   string // waiting, booting, running, elsewhere
	told    bool   // its present run was in a snapshot that was decided on
	started time.Time
	restart bool
}

// purse is a world of jobs that are released, adopted, requeued and cancelled,
// in which every millionth is counted.
type purse struct {
	t      *rapid.T
	now    time.Time
	policy Policy
	memory Memory
	at     Position
	jobs   []*trueJob
	ended  []EndedJob
	next   int
	// paid is what ended runs cost that a snapshot told of.
	paid Money
}

func (w *purse) draw(n int, label string) int { return rapid.IntRange(0, n-1).Draw(w.t, label) }

func (w *purse) pick(label string, states ...string) *trueJob {
	var some []*trueJob
	for _, j := range w.jobs {
		if slices.Contains(states, j.state) {
			some = append(some, j)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return some[w.draw(len(some), label)]
}

// end lets a run end, requeued or not.
func (w *purse) end(j *trueJob, requeued bool) {
	e := EndedJob{ID: j.ID, Requeued: requeued}
	if j.state == "running" {
		e.EndedAt = w.now
		if j.told {
			w.paid += cost(j.Rate, j.Nodes, w.now.Sub(j.started))
		}
	}
	if j.told || j.state == "booting" {
		w.ended = append(w.ended, e)
	}
	j.state, j.told, j.restart = "elsewhere", false, requeued
	if requeued {
		j.state = "waiting"
	}
}

// move lets one thing happen.
func (w *purse) move() {
	switch w.draw(8, "move") {
	case 0, 1: // a job is submitted, to the cloud or on-prem
		w.next++
		j := &trueJob{state: "waiting", CloudJob: CloudJob{
			ID: fmt.Sprint(w.next), Nodearray: w.policy.Nodearrays[w.draw(2, "nodearray")].Name, User: "ada", Account: []string{"chem", "bio"}[w.draw(2, "account")],
			Nodes: 1 + w.draw(4, "nodes"), TimeLimit: time.Duration(1+w.draw(600, "limit")) * time.Minute,
		}}
		j.Rate = w.policy.Nodearrays[slices.IndexFunc(w.policy.Nodearrays, func(a Nodearray) bool { return a.Name == j.Nodearray })].Price
		if w.draw(2, "on-prem") == 0 {
			j.Home = []string{"local"}
		}
		w.jobs = append(w.jobs, j)
	case 2: // it is released
		if j := w.pick("released", "waiting"); j != nil && !slices.ContainsFunc(w.memory.Jobs, func(k CloudJob) bool { return k.ID == j.ID }) {
			k := j.CloudJob
			k.Committed, k.CommittedAt, k.StartedAt = commitment(k.Rate, k.Nodes, k.TimeLimit), w.now, time.Time{}
			w.memory = w.memory.clone()
			w.memory.Jobs = append(w.memory.Jobs, k)
			slices.SortFunc(w.memory.Jobs, func(a, b CloudJob) int { return cmp.Compare(a.ID, b.ID) })
		}
	case 3:
		if j := w.pick("booting", "waiting"); j != nil {
			j.state = "booting"
		}
	case 4:
		if j := w.pick("running", "waiting", "booting"); j != nil {
			j.state, j.started = "running", w.now
		}
	case 5:
		if j := w.pick("ended", "running", "booting"); j != nil {
			w.end(j, w.draw(3, "requeued") == 0)
		}
	case 6: // it is cancelled, or starts on-prem
		if j := w.pick("gone", "waiting"); j != nil && w.draw(2, "gone") == 0 {
			j.state = "elsewhere"
		}
	case 7:
		w.pass(time.Duration(1+w.draw(7200, "seconds")) * time.Second)
	}
}

// pass lets time go by, in which Slurm ends what reaches its limit.
func (w *purse) pass(d time.Duration) {
	until := w.now.Add(d)
	for {
		var first *trueJob
		for _, j := range w.jobs {
			if j.state == "running" && j.started.Add(j.TimeLimit).Before(until) && (first == nil || j.started.Add(j.TimeLimit).Before(first.started.Add(first.TimeLimit))) {
				first = j
			}
		}
		if first == nil {
			break
		}
		w.now = first.started.Add(first.TimeLimit)
		w.end(first, false)
	}
	w.now = until
}

// look takes a snapshot and decides on it.
func (w *purse) look(cut bool) {
	w.at.Sequence++
	f := Facts{Snapshot: Snapshot{w.at, w.now}, Ended: w.ended, Memory: w.memory}
	w.ended = nil
	for _, j := range w.jobs {
		switch j.state {
		case "waiting":
			parts := append(slices.Clone(j.Home), string(j.Nodearray)+"-part")
			g := Group{Partitions: parts, Count: 1, Jobs: []string{j.ID}, Restarted: j.restart}
			if cut {
				g.Jobs = nil
			}
			f.Groups = append(f.Groups, g)
		case "booting", "running":
			f.Running = append(f.Running, RunningJob{
				ID: j.ID, User: j.User, Account: j.Account, Nodearray: j.Nodearray, Nodes: j.Nodes, Configuring: j.state == "booting",
				StartedAt: j.started, TimeLimit: j.TimeLimit,
			})
			j.told = j.state == "running"
		}
	}
	before := w.memory
	w.memory = advance(w.now, w.policy, f)
	w.check(before, f)
}

// check holds every invariant that one step has.
func (w *purse) check(before Memory, f Facts) {
	t := w.t
	if got := settled(w.memory.Books, Month); got != w.paid {
		t.Fatalf("%d is settled, and runs have cost %d", got, w.paid)
	}
	// What a run costs is never more than what was committed for it.
	if grown := w.paid - settled(before.Books, Month); grown > 0 {
		var committed Money
		for _, j := range before.Jobs {
			if slices.ContainsFunc(f.Ended, func(e EndedJob) bool { return e.ID == j.ID }) {
				committed += j.Committed
			}
		}
		if grown > committed {
			t.Fatalf("%s was settled of %s committed", grown, committed)
		}
	}
	for _, r := range f.Running {
		at, known := slices.BinarySearchFunc(w.memory.Jobs, r.ID, func(j CloudJob, id string) int { return cmp.Compare(j.ID, id) })
		if !known || w.memory.Jobs[at].Committed != commitment(w.memory.Jobs[at].Rate, r.Nodes, r.TimeLimit) {
			t.Fatalf("the running job %+v is not committed: %+v", r, w.memory.Jobs)
		}
	}
	for _, p := range periods {
		b := Budget{Scope: ScopeCluster, Period: p}
		if used := w.memory.used(w.policy, b, w.now); used < 0 || used != tally(w.memory, b, w.now, nil) {
			t.Fatalf("the %s's budget is used up to %d", p, used)
		}
	}
	f.Memory = w.memory
	if diff := gocmp.Diff(w.memory, advance(w.now, w.policy, f)); diff != "" {
		t.Fatalf("the same snapshot a second time changed:\n%s", diff)
	}
}

// Every commitment is settled by what the job really ran, freed, or open, and
// nothing is open once all jobs are gone.
func TestNoMoneyIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &purse{t: t, now: origin, policy: priced(), at: Position{Epoch: 1}}
		for range rapid.IntRange(1, 15).Draw(t, "snapshots") {
			for range rapid.IntRange(0, 4).Draw(t, "moves") {
				w.move()
			}
			w.pass(time.Duration(1+w.draw(60, "pause")) * time.Second)
			w.look(w.draw(6, "cut") == 0)
		}
		for _, j := range w.jobs {
			switch j.state {
			case "running", "booting":
				w.end(j, false)
			case "waiting":
				j.state = "elsewhere"
			}
		}
		for range 3 {
			w.pass(time.Minute)
			w.look(false)
		}
		if len(w.memory.Jobs) > 0 {
			t.Fatalf("still open: %+v", w.memory.Jobs)
		}
	})
}
