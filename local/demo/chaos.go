package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/world"
)

// minFaults is how many faults a chaos run makes at least.
const minFaults = 20

// fault is something that goes wrong for a while.
type fault struct {
	name string
	// begin makes it go wrong; what it returns mends it.
	begin func(ctx context.Context, w *world.World, random *rand.Rand) (end func(context.Context) error, err error)
	// most is how long it lasts at most.
	most time.Duration
}

// lasting makes a fault of two switches.
func lasting(name string, most time.Duration, off, on func(*world.World) error) fault {
	return fault{name: name, most: most, begin: func(_ context.Context, w *world.World, _ *rand.Rand) (func(context.Context) error, error) {
		return func(context.Context) error { return on(w) }, off(w)
	}}
}

func quiet(do func(*world.World)) func(*world.World) error {
	return func(w *world.World) error { do(w); return nil }
}

// faults are what a chaos run draws from. Azurite is paused or cut off and
// never killed: it would lose what it acknowledged.
func faults(o Options) []fault {
	all := []fault{
		{name: "kill -9 a handler", begin: killHandler},
		{name: "kill the Functions host", begin: func(ctx context.Context, w *world.World, _ *rand.Rand) (func(context.Context) error, error) {
			return nothing, w.RestartHost(ctx)
		}},
		lasting("kill -9 burst-agent", 5*time.Second, quiet((*world.World).KillAgent), func(w *world.World) error {
			return w.StartAgent(context.Background())
		}),
		lasting("pause Azurite", 6*time.Second, func(w *world.World) error { return w.Azurite.Pause() }, func(w *world.World) error { return w.Azurite.Resume() }),
		lasting("cut off Azurite", 6*time.Second, quiet((*world.World).CutTables), quiet((*world.World).RestoreTables)),
		lasting("cut off CycleCloud", 8*time.Second, quiet((*world.World).CutCycleCloud), quiet((*world.World).RestoreCycleCloud)),
		lasting("cut off Service Bus", 8*time.Second, quiet((*world.World).CutBus), quiet((*world.World).RestoreBus)),
		{name: "CycleCloud misbehaves", most: 5 * time.Second, begin: misbehave},
	}
	if o.LikeAzure {
		all = append(all, lasting("cut off the identity endpoint", 8*time.Second,
			quiet((*world.World).CutIdentity), quiet((*world.World).RestoreIdentity)))
	}
	return all
}

func nothing(context.Context) error { return nil }

func killHandler(_ context.Context, w *world.World, random *rand.Rand) (func(context.Context) error, error) {
	functions := []string{"queue_pressure", "scale_down", "reclaim_idle", "state"}
	err := w.CurrentHost().KillHandler(functions[random.IntN(len(functions))])
	return nothing, err
}

func misbehave(_ context.Context, w *world.World, random *rand.Rand) (func(context.Context) error, error) {
	kinds := []cyclecloudsim.OutageKind{
		cyclecloudsim.Outage500, cyclecloudsim.Outage503, cyclecloudsim.OutageHTML, cyclecloudsim.OutageNothing, cyclecloudsim.OutageLost,
	}
	err := w.Sim.Outage(cyclecloudsim.Outage{Kind: kinds[random.IntN(len(kinds))], Requests: 1 + random.IntN(3)})
	return func(context.Context) error { w.Sim.ClearOutages(); return nil }, err
}

// RunChaos is Run with things going wrong all the while, drawn from the seed.
// It is good when all jobs have completed and nothing is left.
func RunChaos(ctx context.Context, o Options) error {
	return o.inWorld(ctx, func(d *run) (any, error) {
		random := rand.New(rand.NewPCG(uint64(o.Seed), 1))
		fmt.Fprintf(o.Out, "\nSubmitting jobs while things go wrong (seed %d, at least %d faults)\n", o.Seed, minFaults)
		limit, cancel := context.WithTimeout(ctx, o.Deadline)
		defer cancel()
		d.line.start(d.world)
		d.began = time.Now()
		made, err := d.chaos(limit, random)
		if err == nil {
			err = d.waitZero(limit)
		}
		d.line.finish()
		summary, judgement := d.judgeChaos(context.WithoutCancel(ctx), made)
		return summary, errors.Join(err, judgement)
	})
}

// chaos submits jobs in rounds and makes faults, one after the other.
func (d *run) chaos(ctx context.Context, random *rand.Rand) (made int, err error) {
	kinds := faults(d.Options)
	next := time.Now()
	for rounds := 0; made < minFaults; {
		if rounds < 4 && !time.Now().Before(next) {
			if err := d.submitBatch(ctx); err != nil {
				return made, err
			}
			rounds++
			next = time.Now().Add(20 * time.Second)
		}
		f := kinds[random.IntN(len(kinds))]
		d.line.say("chaos", "fault", f.name)
		end, err := f.begin(ctx, d.world, random)
		if err != nil {
			return made, fmt.Errorf("%s: %w", f.name, err)
		}
		made++
		if f.most > 0 {
			if err := sleep(ctx, f.most/4+time.Duration(random.Int64N(int64(f.most*3/4)))); err != nil {
				return made, errors.Join(err, end(context.WithoutCancel(ctx)))
			}
		}
		if err := end(ctx); err != nil {
			return made, fmt.Errorf("mend %s: %w", f.name, err)
		}
		if err := sleep(ctx, time.Duration(200+random.IntN(2000))*time.Millisecond); err != nil {
			return made, err
		}
	}
	return made, nil
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
