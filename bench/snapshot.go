package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/internal/spool"
	"github.com/slurmburst/slurmburst/local/child"
	"github.com/slurmburst/slurmburst/local/servicebusemu"
	"github.com/slurmburst/slurmburst/local/slurmlab"
)

const (
	shapes       = 5000
	jobsPerShape = 20
	headCluster  = "bench"
	// turns is how often squeue and burst-agent take turns, at least.
	turns = 15
	// unmeasured pairs come first. An agent's first snapshot looks back at ended
	// jobs, and with the second its heap finds its size.
	unmeasured = 2
)

// measureSnapshot has burst-agent tell of a real Slurm's queue of 100,000 jobs,
// and compares its CPU with that of the squeue that it has to run: user and system
// time of the processes, not what passes on a clock.
func measureSnapshot(ctx context.Context, b *bench) (err error) {
	h, err := b.startHead(ctx)
	if err != nil {
		return errors.Join(err, h.stop())
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	if err := h.submit(ctx); err != nil {
		return err
	}
	if err := h.startAgent(ctx); err != nil {
		return err
	}
	var sizes, agents, squeues, ratios series
	for i := range unmeasured + max(b.effort.runs, turns) {
		squeue, err := h.squeue(ctx)
		if err != nil {
			return err
		}
		own, size, err := h.tell(ctx, i)
		if err != nil {
			return err
		}
		b.say("  squeue %.0f ms, burst-agent %.0f ms", milliseconds(squeue), milliseconds(own))
		if i < unmeasured {
			continue
		}
		sizes, agents, squeues = append(sizes, float64(size)/1000), append(agents, milliseconds(own)), append(squeues, milliseconds(squeue))
		ratios = append(ratios, float64(own)/float64(squeue))
	}
	_, largest := sizes.spread()
	b.add(measure{
		what: "snapshot of 100,000 pending jobs in 5,000 shapes, as sent", value: sizes, unit: "KB", target: atMost(largest, 200, "KB"),
	})
	b.add(measure{
		what: "the same with ids interleaved at random, the worst case", value: series{worstSnapshot()}, unit: "KB", target: atMost(worstSnapshot(), 200, "KB"),
	})
	cpu := measure{
		what: "burst-agent's own CPU for reading, grouping and sending it", value: agents, unit: "ms", target: promise(ratios.median() <= 1, "at most that of squeue"),
	}.over(squeues, "CPU of squeue, asked in turns")
	cpu.ratio = ratios.median() // of each pair: what else the machine does slows both
	b.add(cpu)
	return nil
}

// worstSnapshot is the size in kilobytes of a snapshot of single jobs in random
// order.
func worstSnapshot() float64 {
	groups := pendingGroups(shapes, time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))
	random := rand.New(rand.NewPCG(1, 2))
	ids := random.Perm(shapes * jobsPerShape)
	for i := range groups {
		for k := range groups[i].Jobs {
			groups[i].Jobs[k] = event.JobID(strconv.Itoa(1000 + ids[i*jobsPerShape+k]))
		}
	}
	q := event.QueuePressure{Cluster: headCluster, Epoch: 1, Sequence: 1, PendingJobs: shapes * jobsPerShape, Pending: groups}
	m, err := q.Encode()
	if err != nil {
		return float64(16 << 20) // misses every promise
	}
	return float64(len(m.Body)) / 1000
}

// head is a head node: Slurm, burst-agent, and a broker.
type head struct {
	b          *bench
	dir, spool string
	lab        *slurmlab.Lab
	agent      *child.Process
	client     *bus.Client
	connection string
	closers    []func() error
}

func (h *head) stop() error {
	var problems []error
	for i := len(h.closers) - 1; i >= 0; i-- {
		problems = append(problems, h.closers[i]())
	}
	return errors.Join(problems...)
}

func (b *bench) startHead(ctx context.Context) (*head, error) {
	h := &head{b: b}
	var err error
	if h.dir, err = b.scratch("s"); err != nil { // a short path: munge's socket is in it
		return h, err
	}
	h.spool = filepath.Join(h.dir, "spool")
	if err := os.Mkdir(h.spool, 0o755); err != nil {
		return h, err
	}
	queues, err := servicebusemu.LoadQueues(filepath.Join(b.root, "infra", "queues.json"), headCluster)
	if err != nil {
		return h, err
	}
	address, stop, err := startEmulator(ctx, queues...)
	if err != nil {
		return h, err
	}
	h.closers = append(h.closers, stop)
	h.connection = servicebusemu.ConnectionString(address)
	if h.client, err = bus.New(bus.Options{ConnectionString: h.connection}); err != nil {
		return h, err
	}
	h.closers = append(h.closers, h.client.Close)
	h.lab, err = slurmlab.Start(ctx, slurmlab.Config{
		Dir: filepath.Join(h.dir, "slurm"), ClusterName: headCluster, Spool: h.spool,
		Partitions: []slurmlab.CloudPartition{{Name: nodearray, Count: 16}},
		// The controller shall do nothing but answer.
		Extra: []string{"MaxJobCount=250000", "MaxArraySize=200001", "SlurmctldDebug=error", "SchedulerParameters=defer,sched_interval=600,bf_interval=600"},
	})
	if err != nil {
		return h, err
	}
	h.closers = append(h.closers, func() error { h.lab.Kill(); return nil })
	return h, nil
}

// submit fills the queue: 5,000 arrays of 20 tasks, each of another shape. They
// are held, so that the scheduler leaves the cores to what is measured.
func (h *head) submit(ctx context.Context) error {
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i := range shapes {
		group.Go(func() error {
			_, err := h.lab.Submit(ctx, "--hold", "--partition="+nodearray, fmt.Sprintf("--array=0-%d", jobsPerShape-1),
				fmt.Sprintf("--time=%d", 1+i), fmt.Sprintf("--ntasks=%d", 1+i%4), "--output=/dev/null", "--wrap=true")
			return err
		})
		if i%1000 == 999 {
			h.b.say("  %s arrays submitted", number(float64(i+1)))
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	h.b.say("  100,000 jobs wait in a real slurmctld after %s", time.Since(began).Round(time.Second))
	return nil
}

func (h *head) startAgent(ctx context.Context) error {
	policy := filepath.Join(h.dir, "policy.yaml")
	if err := os.WriteFile(policy, policyText(headCluster, "https://127.0.0.1:1", fmt.Sprintf("%064d", 0), 16), 0o600); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(h.dir, "agent.log"))
	if err != nil {
		return err
	}
	defer log.Close()                                                              // the child has its own copy
	cmd := exec.CommandContext(context.WithoutCancel(ctx), h.b.bin("burst-agent")) // it is stopped, not cut off
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + h.dir, "SLURM_CONF=" + h.lab.Conf(), "BURST_SLURM_BIN=" + h.lab.BinDir(),
		"BURST_SPOOL=" + h.spool, "BURST_POLICY=" + policy, "SERVICEBUS=" + h.connection,
		// Nothing but a hook call shall make it look.
		"BURST_POLL=60s", "BURST_HEARTBEAT=60s",
	}
	cmd.Stdout, cmd.Stderr = log, log
	if h.agent, err = child.Start(cmd); err != nil {
		return err
	}
	h.closers = append(h.closers, func() error { return h.agent.Stop(context.WithoutCancel(ctx), syscall.SIGTERM, 5*time.Second) })
	_, err = h.receive(ctx) // its first snapshot
	return err
}

// squeue gives the CPU that squeue needs when asked as the agent asks.
func (h *head) squeue(ctx context.Context) (time.Duration, error) {
	client := slurm.Client{Dir: h.lab.BinDir(), Conf: h.lab.Conf(), Timeout: time.Minute}
	before, err := reaped()
	if err != nil {
		return 0, err
	}
	jobs, _, err := client.Jobs(ctx, slurm.JobQuery{States: []slurm.JobState{
		slurm.JobPending, slurm.JobConfiguring, slurm.JobRunning, slurm.JobSuspended, slurm.JobCompleting, slurm.JobStopped, slurm.JobResizing,
	}})
	if err != nil || len(jobs) != shapes*jobsPerShape {
		return 0, fmt.Errorf("ask squeue: got %d jobs: %w", len(jobs), err)
	}
	after, err := reaped()
	return after - before, err
}

// tell has the agent take and send a snapshot, and gives its own CPU for that
// and the size of the message.
func (h *head) tell(ctx context.Context, n int) (own time.Duration, size int, err error) {
	before, err := usageOf(h.agent.PID())
	if err != nil {
		return 0, 0, err
	}
	name := fmt.Sprintf("%s-%d", nodearray, 1+n%16)
	if _, err := spool.Write(h.spool, spool.Record{Kind: spool.Resume, Time: time.Now(), Hostlist: name}); err != nil {
		return 0, 0, err
	}
	if err := spool.Poke(h.spool); err != nil {
		return 0, 0, err
	}
	if size, err = h.receive(ctx); err != nil {
		return 0, 0, err
	}
	after, err := usageOf(h.agent.PID())
	return after.own - before.own, size, err
}

// receive takes the next snapshot off the queue and gives its size.
func (h *head) receive(ctx context.Context) (size int, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	session, err := h.client.AcceptSession(ctx, "queue-pressure", headCluster)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, session.Close(context.WithoutCancel(ctx))) }()
	for ctx.Err() == nil {
		received, err := session.Receive(ctx, 1)
		if err != nil {
			return 0, err
		}
		if len(received) == 0 {
			continue
		}
		m := received[0]
		encoding, _ := m.Properties[event.EncodingProperty].(string)
		q, err := event.DecodeQueuePressure(m.Body, encoding)
		switch {
		case err != nil:
			return 0, err
		case q.PendingJobs != shapes*jobsPerShape || len(q.Pending) != shapes:
			return 0, fmt.Errorf("the snapshot tells of %d jobs in %d shapes", q.PendingJobs, len(q.Pending))
		}
		return len(m.Body), session.Complete(ctx, m)
	}
	return 0, fmt.Errorf("wait for a snapshot: %w", ctx.Err())
}
