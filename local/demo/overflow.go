package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/world"
)

// The scenario's nodearrays, and what a node-hour of each costs.
const (
	spotArray, spotPrice = "spot", 1.20
	htcArray, htcPrice   = "htc", 3.60
)

// overflowPolicy is what the scenario's jobs meet. Whoever may be requeued tries
// the cheaper spot machines first.
const overflowPolicy = `
currency: EUR
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

// overflowWorld is a full on-prem partition of two nodes before two nodearrays.
// A boot is expected to take two minutes, as in Azure, although the simulator's
// take seconds.
func overflowWorld(o Options) world.Config {
	return world.Config{
		Root: o.Root, Dir: o.Dir, LocalNodes: 2, Seed: o.Seed, NoSessions: o.NoSessions, LikeAzure: o.LikeAzure,
		ReclaimSchedule: "*/10 * * * * *", ResumeTimeout: 400 * time.Second, Policy: overflowPolicy,
		Nodearrays: []world.Nodearray{
			{
				Name: spotArray, Nodes: 4, MaxNodes: 2, IdleTimeout: 6 * time.Second, BootDeadline: 5 * time.Minute,
				BootTime: 2 * time.Minute, Spot: true, Price: amount(spotPrice),
			},
			{
				Name: htcArray, Nodes: 10, MaxNodes: 8, IdleTimeout: 6 * time.Second, BootDeadline: 5 * time.Minute,
				BootTime: 2 * time.Minute, Price: amount(htcPrice),
			},
		},
	}
}

func amount(units float64) string { return strconv.FormatFloat(units, 'f', 2, 64) }

// fate is what the policy makes of a job of the scenario.
type fate string

const (
	stays    fate = "stays"    // it runs on-prem from the start
	released fate = "released" // it runs on cloud nodes
	moved    fate = "moved"    // released to a nodearray that fails, it runs on the next one
	held     fate = "held"     // it waits and then runs on-prem
)

// plannedJob is one submission of the scenario and what has to come of it.
type plannedJob struct {
	submission
	fate fate
	// code is the reason that a held job has to bear.
	code string
	id   int
}

// overflowJobs fill the two on-prem nodes, and then wait. What fills, and what
// runs in the cloud, goes on until the file exists.
func overflowJobs(gate string) []*plannedJob {
	until := "--wrap=until [ -e " + gate + " ]; do sleep 0.2; done; sleep 2"
	job := func(what string, fate fate, code string, args ...string) *plannedJob {
		return &plannedJob{submission: submission{what: what, jobs: 1, args: append([]string{"--partition=local"}, args...)}, fate: fate, code: code}
	}
	array := job("an array of two tasks", released, "", "--array=1-2", "--nodes=1", "--exclusive", "--time=60", "--no-requeue", "--account=physics", until)
	array.jobs = 2
	return []*plannedJob{
		job("a long job that fills a local node", stays, "", "--nodes=1", "--exclusive", "--time=480", "--account=physics", until),
		job("a long job that fills a local node", stays, "", "--nodes=1", "--exclusive", "--time=480", "--account=physics", until),
		job("a job that may be requeued", moved, "", "--nodes=1", "--exclusive", "--time=60", "--requeue", "--account=physics", until),
		job("a job that may be requeued", moved, "", "--nodes=1", "--exclusive", "--time=60", "--requeue", "--account=physics", until),
		array,
		job("a job on two nodes", released, "", "--nodes=2", "--exclusive", "--time=60", "--no-requeue", "--account=physics", until),
		job("a job of students", released, "", "--nodes=1", "--exclusive", "--time=60", "--no-requeue", "--account=students", until),
		job("another job of students", held, "limit_account_nodes", "--ntasks=1", "--time=60", "--no-requeue", "--account=students", "--wrap=hostname"),
		job("a job of chem for ten hours", held, "budget_hard", "--ntasks=1", "--time=600", "--no-requeue", "--account=chem", "--wrap=hostname"),
		job("a job for one minute", held, "shorter_than_boot", "--ntasks=1", "--time=1", "--no-requeue", "--account=physics", "--wrap=hostname"),
	}
}

// overflowRun is the scenario under way.
type overflowRun struct {
	*run
	jobs []*plannedJob
	gate string
	// committed is what was set aside when everything that may go had gone.
	committed money
}

// RunOverflow runs the scenario of a full on-prem partition: some jobs go to the
// cloud, some are held, each for another reason, and one nodearray has no
// capacity. The last line is its summary.
func RunOverflow(ctx context.Context, o Options) error {
	return o.inWorld(ctx, overflowWorld(o), func(d *run) (any, error) {
		limit, cancel := context.WithTimeout(ctx, o.Deadline)
		defer cancel()
		fmt.Fprintf(o.Out, "\nFilling the on-prem partition; Azure has no %s machines today\n", spotArray)
		r := &overflowRun{run: d, gate: filepath.Join(o.Dir, "gate")}
		r.jobs = overflowJobs(r.gate)
		d.line.start(d.world)
		err := r.play(limit)
		d.line.finish()
		summary, mismatches := r.count(context.WithoutCancel(ctx))
		return summary, errors.Join(append(mismatches, err)...)
	})
}

// play submits the jobs, waits until each has met its fate, lets the on-prem
// nodes go, and waits for the end of everything.
func (r *overflowRun) play(ctx context.Context) error {
	for range 2 {
		if err := r.world.Sim.FailNext(spotArray, cyclecloudsim.FailCapacity); err != nil {
			return err
		}
	}
	r.began = time.Now()
	for i, j := range r.jobs {
		if i > 0 && r.jobs[i-1].fate == stays && j.fate != stays {
			if err := r.await(ctx, "the on-prem partition is full", r.unmet); err != nil {
				return err
			}
		}
		var err error
		if j.id, err = r.world.Lab.Submit(ctx, j.args...); err != nil {
			return fmt.Errorf("submit %s: %w", j.what, err)
		}
		r.submitted += j.jobs
		r.line.say(fmt.Sprintf("job %d", j.id), "submitted", j.what)
	}
	if err := r.await(ctx, "every job meets its fate", r.unmet); err != nil {
		return err
	}
	if err := r.await(ctx, "the money is set aside", r.uncommitted); err != nil {
		return err
	}
	r.line.say("the demo", "lets go", "the jobs that fill the on-prem nodes end, and so do those in the cloud")
	if err := os.WriteFile(r.gate, nil, 0o600); err != nil {
		return err
	}
	return r.waitZero(ctx)
}

// await waits until nothing is missing.
func (r *overflowRun) await(ctx context.Context, what string, missing func(context.Context) string) error {
	for {
		left := missing(ctx)
		if left == "" {
			return nil
		}
		if err := sleep(ctx, 250*time.Millisecond); err != nil {
			return fmt.Errorf("wait until %s: %s", what, left)
		}
	}
}

// unmet says which job that was submitted has not met its fate yet.
func (r *overflowRun) unmet(ctx context.Context) string {
	where, err := r.placed(ctx)
	if err != nil {
		return err.Error()
	}
	comments, err := adminComments(ctx, r.world)
	if err != nil {
		return err.Error()
	}
	for _, j := range r.jobs {
		if j.id == 0 {
			continue
		}
		switch j.fate {
		case stays, released, moved:
			array := htcArray
			if j.fate == stays {
				array = "local"
			}
			if got := where[j.id]; len(got) < j.jobs || slices.ContainsFunc(got, func(p string) bool { return p != array }) {
				return fmt.Sprintf("job %d (%s) has nodes in %v, not in %s", j.id, j.what, got, array)
			}
		case held:
			if said := commentOf(comments, j.id); said.code() != j.code {
				return fmt.Sprintf("job %d (%s) is told %q, not %s", j.id, j.what, said.text, j.code)
			}
		}
	}
	return ""
}

// placed gives the partitions in which the tasks of each job hold nodes.
func (r *overflowRun) placed(ctx context.Context) (map[int][]string, error) {
	text, err := r.world.Lab.Squeue(ctx, "--noheader", "--array", "--states=CONFIGURING,RUNNING", "--format=%F %P")
	if err != nil {
		return nil, err
	}
	found := map[int][]string{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		id, err := strconv.Atoi(fields[0])
		if err != nil {
			return nil, fmt.Errorf("read squeue: %w", err)
		}
		found[id] = append(found[id], fields[1])
	}
	return found, nil
}

func commentOf(comments []comment, id int) comment {
	for _, c := range comments {
		if array, _, _ := strings.Cut(c.job, "_"); array == strconv.Itoa(id) {
			return c
		}
	}
	return comment{}
}
