package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/world"
)

// RunChaos is Run with things going wrong all the while, as planned from the
// seed. It is good when all jobs have completed and nothing is left; the error
// names the seed.
func RunChaos(ctx context.Context, o Options) error {
	steps := plan(o.Seed, o.LikeAzure)
	fmt.Fprintf(o.Out, "Chaos with seed %d: %d faults\n", o.Seed, len(steps))
	err := o.inWorld(ctx, worldConfig(o), func(d *run) (any, error) {
		fmt.Fprintf(o.Out, "\nSubmitting jobs while things go wrong\n")
		limit, cancel := context.WithTimeout(ctx, o.Deadline)
		defer cancel()
		d.line.start(d.world)
		d.began = time.Now()
		made, err := d.chaos(limit, steps)
		if err == nil {
			err = d.waitZero(limit)
		}
		d.line.finish()
		summary, judgement := d.judgeChaos(context.WithoutCancel(ctx), made)
		return summary, errors.Join(err, judgement)
	})
	if err != nil {
		return fmt.Errorf("chaos with seed %d: %w", o.Seed, err)
	}
	return nil
}

// The mix of jobs is submitted so often in a chaos run, and so long after each
// other.
const (
	rounds     = 4
	roundEvery = 20 * time.Second
)

// chaos submits jobs in rounds and makes faults, one after the other.
func (d *run) chaos(ctx context.Context, steps []step) (made int, err error) {
	next, submitted := time.Now(), 0
	for n, s := range steps {
		if submitted < rounds && !time.Now().Before(next) {
			if err := d.submitBatch(ctx); err != nil {
				return made, err
			}
			submitted++
			next = time.Now().Add(roundEvery)
		}
		d.line.say(fmt.Sprintf("fault %d of %d", n+1, len(steps)), "chaos", s.String())
		if err := s.make(ctx, d.world); err != nil {
			return made, err
		}
		made++
		if err := sleep(ctx, s.pause); err != nil {
			return made, err
		}
	}
	return made, nil
}

// make makes the fault, waits, and mends it.
func (s step) make(ctx context.Context, w *world.World) error {
	if err := s.begin(ctx, w); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	interrupted := sleep(ctx, s.lasts)
	if s.end != nil {
		if err := s.end(context.WithoutCancel(ctx), w); err != nil {
			return errors.Join(interrupted, fmt.Errorf("mend %s: %w", s.name, err))
		}
	}
	return interrupted
}

// String says what goes wrong and for how long.
func (s step) String() string {
	if s.lasts == 0 {
		return s.name
	}
	return fmt.Sprintf("%s for %s", s.name, s.lasts)
}

// submitBatch submits the batch jobs of the mix. Slurm itself answers: no fault
// touches slurmctld.
func (d *run) submitBatch(ctx context.Context) error {
	for _, s := range slices.DeleteFunc(mix(), func(s submission) bool { return s.srun }) {
		id, err := d.world.Lab.Submit(ctx, s.args...)
		if err != nil {
			return fmt.Errorf("submit %s: %w", s.what, err)
		}
		d.submitted += s.jobs
		d.line.say(fmt.Sprintf("job %d", id), "submitted", s.what)
	}
	return nil
}

// chaosSummary is the last line of a chaos run.
type chaosSummary struct {
	Seed            int64 `json:"seed"`
	Faults          int   `json:"faults"`
	JobsSubmitted   int   `json:"jobs_submitted"`
	JobsCompleted   int   `json:"jobs_completed"`
	NodesCreated    int   `json:"nodes_created"`
	NodesTerminated int   `json:"nodes_terminated"`
	NodesVanished   int   `json:"nodes_vanished"`
	NodesLeft       int   `json:"nodes_left"`
	VMsLeft         int   `json:"vms_left"`
	IntentsOpen     int   `json:"intents_open"`
	Rejected        int   `json:"rejected"`
	Seconds         int   `json:"seconds"`
}

func (d *run) judgeChaos(ctx context.Context, made int) (chaosSummary, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	var c counting
	ends, err := jobEnds(d.world.Lab.JobCompletionsPath())
	c.failed("Slurm's record of ended jobs", err)
	intents, err := openIntents(ctx, d.world)
	c.failed("intents", err)
	processes, err := slurmdProcesses(d.world.Lab.Conf(), d.world.LocalNodes)
	c.failed("processes", err)
	journal := d.world.Sim.Journal()
	s := chaosSummary{
		Seed: d.Seed, Faults: made, JobsCompleted: len(jobIDs(ends, "COMPLETED")),
		NodesCreated: entries(journal, cyclecloudsim.Created), NodesTerminated: entries(journal, cyclecloudsim.Terminated),
		NodesVanished: entries(journal, cyclecloudsim.Vanished), NodesLeft: len(d.world.Sim.Nodes()),
		IntentsOpen: intents, Rejected: int(d.world.Bus.Stats()["rejected"].Sent), Seconds: int(time.Since(d.began).Seconds()),
	}
	s.VMsLeft = c.same("vms_left", len(d.world.Sim.VMs()), "CycleCloud", processes, "the machine's processes")
	s.JobsSubmitted = c.same("jobs_submitted", d.submitted, "the demo", s.JobsCompleted, "Slurm's completed jobs")
	c.same("nodes", s.NodesCreated, "created in the journal", s.NodesTerminated+s.NodesVanished, "terminated and vanished")
	c.same("nodes_left", s.NodesLeft, "CycleCloud", 0, "the promise")
	c.same("intents_open", s.IntentsOpen, "burstclusters", 0, "the promise")
	return s, errors.Join(c.mismatches...)
}
