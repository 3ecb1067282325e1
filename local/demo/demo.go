// Package demo answers one question: does a real Slurm job burst to CycleCloud
// and back to zero? It starts a world, submits a mix of jobs, shows what
// happens as it happens, and counts everything twice from records that do not
// know of each other. It must never report a number that it did not count.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/local/world"
)

// Options say what to run.
type Options struct {
	// Root is the repository, Dir a new directory for everything written.
	Root, Dir string
	Out       io.Writer
	// Deadline bounds the time from the first submission to zero nodes.
	Deadline time.Duration
	Seed     int64
	// NoSessions lets several functions decide for the cluster at once.
	NoSessions bool
	// LikeAzure has everybody use managed identities and TLS.
	LikeAzure bool
}

// OverflowRule lets the jobs that wait in the partition local go to htc as soon
// as Slurm says that they lack nodes.
const OverflowRule = `
overflow:
  - partition: local
    nodearrays: [htc]
    waiting: {rule: immediate}
`

// worldConfig is the demo's site: an on-prem cluster of one node with two cloud
// partitions. SuspendTime is longer than the demo, so that only our timers
// scale down.
func worldConfig(o Options) world.Config {
	return world.Config{
		Root: o.Root, Dir: o.Dir, LocalNodes: 1, Seed: o.Seed, NoSessions: o.NoSessions, LikeAzure: o.LikeAzure,
		Policy: OverflowRule,
		Nodearrays: []world.Nodearray{
			{Name: "htc", Nodes: 8, MaxNodes: 6, IdleTimeout: 8 * time.Second, BootDeadline: 90 * time.Second},
			{Name: "hpc", Nodes: 6, MaxNodes: 4, IdleTimeout: 8 * time.Second, BootDeadline: 90 * time.Second},
		},
	}
}

// submission is one line of what is submitted.
type submission struct {
	what string
	// jobs is how many jobs Slurm makes of it: tasks of an array count one by one.
	jobs int
	srun bool
	args []string
}

// local fills the on-prem partition, and overflows it.
func local() []submission {
	return []submission{
		{what: "a job that fills the on-prem partition", jobs: 1, args: []string{"--partition=local", "--nodes=1", "--exclusive", "--job-name=fill", "--wrap=sleep 20"}},
		{what: "a job that finds it full", jobs: 1, args: []string{"--partition=local", "--nodes=1", "--exclusive", "--job-name=over-1", "--wrap=hostname; sleep 4"}},
		{what: "a job that finds it full", jobs: 1, args: []string{"--partition=local", "--nodes=1", "--exclusive", "--job-name=over-2", "--wrap=hostname; sleep 4"}},
	}
}

// mix is submitted to the cloud's partitions.
func mix() []submission {
	return []submission{
		{what: "a job on one node", jobs: 1, args: []string{"--partition=htc", "--nodes=1", "--exclusive", "--job-name=single-1", "--wrap=hostname; sleep 4"}},
		{what: "a job on one node", jobs: 1, args: []string{"--partition=htc", "--nodes=1", "--exclusive", "--job-name=single-2", "--wrap=hostname; sleep 4"}},
		{what: "a job on four nodes", jobs: 1, args: []string{"--partition=hpc", "--nodes=4", "--exclusive", "--job-name=parallel", "--wrap=srun hostname; sleep 4"}},
		{what: "an array of two tasks", jobs: 2, args: []string{"--partition=htc", "--nodes=1", "--exclusive", "--array=1-2", "--job-name=array", "--wrap=hostname; sleep 4"}},
		{what: "an interactive srun", jobs: 1, srun: true, args: []string{"--partition=htc", "--nodes=1", "--exclusive", "--job-name=interactive", "hostname"}},
	}
}

// Run runs the demo and prints the timeline and the summary line. The error
// says what was not as promised; the summary is printed all the same.
func Run(ctx context.Context, o Options) error {
	return o.inWorld(ctx, worldConfig(o), func(d *run) (any, error) {
		limit, cancel := context.WithTimeout(ctx, o.Deadline)
		defer cancel()
		fmt.Fprintf(o.Out, "\nFilling the on-prem partition, and submitting real jobs to the cloud partitions htc (at most 6 nodes) and hpc (at most 4)\n")
		d.line.start(d.world)
		if err := d.submit(limit); err != nil {
			return nil, err
		}
		waitErr := d.waitZero(limit)
		d.line.finish()
		summary, mismatches := d.count(context.WithoutCancel(ctx))
		if waitErr != nil {
			mismatches = append(mismatches, waitErr)
		}
		return summary, errors.Join(mismatches...)
	})
}

// inWorld starts the demo's world, waits until it is ready, does what is
// wanted, takes the world down, and prints what came of it as the last line.
func (o Options) inWorld(ctx context.Context, config world.Config, do func(*run) (summary any, err error)) error {
	began := time.Now()
	config.Progress = func(step string) { fmt.Fprintf(o.Out, "  %6.1fs  %s\n", time.Since(began).Seconds(), step) }
	line := newTimeline(o.Out)
	config.OnInvocation = line.invocation
	fmt.Fprintf(o.Out, "Starting everything on this machine (in %s)\n", o.Dir)
	w, err := world.Start(ctx, config)
	if err != nil {
		return err
	}
	d := &run{Options: o, world: w, line: line}
	var summary any
	if err = d.waitReady(ctx, began); err == nil {
		summary, err = do(d)
	}
	line.hush()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if stopErr := w.Stop(stop); stopErr != nil {
		err = errors.Join(err, fmt.Errorf("clean up: %w", stopErr))
	}
	if summary == nil {
		return err
	}
	if s, ok := summary.(fmt.Stringer); ok && err == nil {
		fmt.Fprintf(o.Out, "\n%s\n", s)
	}
	text, encodeErr := json.Marshal(summary)
	fmt.Fprintf(o.Out, "\n%s\n", text)
	return errors.Join(err, encodeErr)
}

// run is one demo under way.
type run struct {
	Options
	world     *world.World
	line      *timeline
	submitted int
	began     time.Time
	srunDone  chan error
}

// waitReady waits until the first snapshot was taken in and the fence stands:
// from then on Slurm cannot ask for more nodes than the policy allows.
func (d *run) waitReady(ctx context.Context, began time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		fenced := 0
		for _, a := range d.world.Nodearrays {
			text, err := d.world.Lab.Sinfo(ctx, "--noheader", "--Node", "--partition="+a.Name, "--states=drain", "--format=%n")
			if err == nil {
				fenced += len(strings.Fields(text)) - (a.Nodes - a.MaxNodes)
			}
		}
		if fenced == 0 {
			fmt.Fprintf(d.Out, "  %6.1fs  the fence stands: Slurm may allocate no more than the policy allows\n", time.Since(began).Seconds())
			return nil
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("the first snapshot had no effect in a minute (agent running: %v); see agent.log and world.log in %s",
				d.world.AgentRunning(), d.Dir)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *run) submit(ctx context.Context) error {
	d.began = time.Now()
	d.srunDone = make(chan error, 1)
	for i, s := range slices.Concat(local(), mix()) {
		if i == 1 {
			if err := d.waitRunning(ctx, "fill"); err != nil {
				return err
			}
		}
		d.submitted += s.jobs
		if !s.srun {
			id, err := d.world.Lab.Submit(ctx, s.args...)
			if err != nil {
				return fmt.Errorf("submit %s: %w", s.what, err)
			}
			d.line.say("job "+strconv.Itoa(id), "submitted", s.what)
			continue
		}
		cmd := d.world.Lab.Srun(ctx, s.args...)
		cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("submit %s: %w", s.what, err)
		}
		d.line.say("srun", "submitted", s.what)
		go func() { d.srunDone <- cmd.Wait() }()
	}
	return nil
}

// waitRunning waits until the job of that name runs.
func (d *run) waitRunning(ctx context.Context, name string) error {
	for {
		text, err := d.world.Lab.Squeue(ctx, "--noheader", "--name="+name, "--states=RUNNING", "--format=%i")
		if err != nil {
			return err
		}
		if strings.TrimSpace(text) != "" {
			return nil
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("job %s does not run: %w", name, err)
		}
	}
}

// waitZero waits until all jobs have ended and nothing is left in the cloud.
func (d *run) waitZero(ctx context.Context) error {
	for {
		left := d.left(ctx)
		if left == "" {
			return nil
		}
		if err := sleep(ctx, 250*time.Millisecond); err != nil {
			return fmt.Errorf("not back to zero after %s: %s", d.Deadline, left)
		}
	}
}

// left says what is not over yet.
func (d *run) left(ctx context.Context) string {
	jobs, err := d.world.Lab.Squeue(ctx, "--noheader", "--array", "--states=PENDING,CONFIGURING,RUNNING,COMPLETING", "--format=%i %T")
	if err != nil {
		return "squeue: " + err.Error()
	}
	if n := len(strings.Fields(jobs)) / 2; n > 0 {
		return fmt.Sprintf("%d jobs have not ended", n)
	}
	if n := len(d.world.Sim.Nodes()); n > 0 {
		return fmt.Sprintf("%d nodes are left in CycleCloud", n)
	}
	states, err := d.world.Lab.Sinfo(ctx, "--noheader", "--Node", "--partition="+cloudPartitions(d.world), "--Format=NodeList:30,StateComplete:80")
	if err != nil {
		return "sinfo: " + err.Error()
	}
	for _, line := range strings.Split(strings.TrimSpace(states), "\n") {
		if !strings.Contains(line, "powered_down") {
			return "in Slurm: " + strings.Join(strings.Fields(line), " ")
		}
	}
	intents, err := openIntents(ctx, d.world)
	switch {
	case err != nil:
		return "tables: " + err.Error()
	case intents > 0:
		return fmt.Sprintf("%d intents are open", intents)
	}
	return ""
}
