package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/servicebusemu"
	"github.com/slurmburst/slurmburst/local/slurmlab"
)

// Summary is the demo's last line. Every count was taken from two records that
// do not know of each other, or the demo has failed.
type Summary struct {
	JobsSubmitted        int   `json:"jobs_submitted"`
	JobsCompleted        int   `json:"jobs_completed"`
	JobsReleased         int   `json:"jobs_released"`
	NodesCreated         int   `json:"nodes_created"`
	NodesTerminated      int   `json:"nodes_terminated"`
	NodesLeft            int   `json:"nodes_left"`
	VMsLeft              int   `json:"vms_left"`
	EventsPublished      int   `json:"events_published"`
	TimersFired          int   `json:"timers_fired"`
	PowerDownCommands    int   `json:"power_down_commands"`
	Decisions            int   `json:"decisions"`
	IntentsOpen          int   `json:"intents_open"`
	Rejected             int   `json:"rejected"`
	DeadLetters          int   `json:"dead_letters"`
	SubmitToCreateP50MS  int64 `json:"submit_to_create_p50_ms"`
	SubmitToRunningP50MS int64 `json:"submit_to_running_p50_ms"`
	Seconds              int   `json:"seconds"`
}

// String says in a sentence what the counts of a good run mean.
func (s Summary) String() string {
	return fmt.Sprintf("All %d jobs are done, %d of them moved to the cloud from the full on-prem partition. %d nodes came and went; "+
		"%d nodes and %d VMs are left.\nEach count below was taken from two independent records:", s.JobsCompleted, s.JobsReleased, s.NodesTerminated, s.NodesLeft, s.VMsLeft)
}

// counting takes counts and notes where two records differ.
type counting struct {
	mismatches []error
}

// same gives n and notes a mismatch with what another record says.
func (c *counting) same(name string, n int, record string, other int, otherRecord string) int {
	if n != other {
		c.mismatches = append(c.mismatches, fmt.Errorf("%s: %s says %d, %s says %d", name, record, n, otherRecord, other))
	}
	return n
}

// wrong notes something that is not as promised.
func (c *counting) wrong(format string, args ...any) {
	c.mismatches = append(c.mismatches, fmt.Errorf(format, args...))
}

func (c *counting) failed(what string, err error) {
	if err != nil {
		c.mismatches = append(c.mismatches, fmt.Errorf("count %s: %w", what, err))
	}
}

// count takes all counts, each twice.
func (d *run) count(ctx context.Context) (Summary, []error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	var c counting
	w := d.world
	select {
	case err := <-d.srunDone:
		c.failed("srun", err)
	case <-ctx.Done():
		c.failed("srun", errors.New("it did not end"))
	}
	log, err := controllerLog(w)
	c.failed("slurmctld's log", err)
	ends, err := jobEnds(w.Lab.JobCompletionsPath())
	c.failed("Slurm's record of ended jobs", err)
	journal := w.Sim.Journal()
	tables, err := stillTables(ctx, w)
	c.failed("the tables", err)

	s := Summary{Seconds: int(time.Since(d.began).Seconds())}
	s.JobsSubmitted = c.same("jobs_submitted", d.submitted, "the demo", len(jobIDs(ends, "")), "Slurm's record of ended jobs")
	inSlurm, err := d.completedInSlurm(ctx)
	c.failed("squeue", err)
	s.JobsCompleted = c.same("jobs_completed", len(jobIDs(ends, "COMPLETED")), "Slurm's record of ended jobs", inSlurm, "squeue")
	s.JobsReleased = c.same("jobs_released", len(tables.released), "burstcommands", overflowed(ends), "Slurm's record of ended jobs")

	s.NodesCreated = c.same("nodes_created", entries(journal, cyclecloudsim.Created), "CycleCloud's journal", nodesOf(log.Resumes), "ResumeProgram in slurmctld's log")
	c.same("nodes_created", s.NodesCreated, "CycleCloud's journal", tables.targets("create"), "burstdecisions")
	s.NodesTerminated = c.same("nodes_terminated", entries(journal, cyclecloudsim.Terminated), "CycleCloud's journal", tables.targets("terminate"), "burstdecisions")
	c.same("nodes_terminated", s.NodesTerminated, "CycleCloud's journal", nodesOf(log.Suspends), "SuspendProgram in slurmctld's log")
	s.NodesLeft = c.same("nodes_left", len(w.Sim.Nodes()), "CycleCloud", tables.present, "burstnodes")
	processes, err := slurmdProcesses(w.Lab.Conf(), w.LocalNodes)
	c.failed("processes", err)
	s.VMsLeft = c.same("vms_left", len(w.Sim.VMs()), "CycleCloud", processes, "the machine's processes")

	d.countMessages(&c, &s, tables)
	s.PowerDownCommands = c.same("power_down_commands", tables.powerDowns, "burstcommands", drained(log), "slurmctld's log")
	s.Decisions = c.same("decisions", tables.decisions, "burstdecisions", tables.decisionsByAPI, "the state API")
	s.IntentsOpen = tables.openIntents
	s.SubmitToCreateP50MS = median(submitToCreate(log, journal))
	s.SubmitToRunningP50MS = median(submitToRunning(log, ends))
	return s, c.mismatches
}

func (d *run) countMessages(c *counting, s *Summary, tables tables) {
	stats := d.world.Bus.Stats()
	s.EventsPublished = c.same("events_published", int(stats["queue-pressure"].Sent), "Service Bus", int(tables.lastSequence), "burstclusters")
	handled, failed := 0, 0
	for _, call := range d.line.invocations() {
		if call.Function == "scale_down" && call.Err == nil {
			handled++
			if purposeOf(call.MessageID) != "recheck" {
				s.TimersFired++
			}
		}
		if call.Err != nil {
			failed++
		}
	}
	c.same("messages of scale-down", int(stats["scale-down"].Completed), "Service Bus", handled, "the Functions host")
	log := filepath.Join(d.Dir, "world.log")
	looks, err := linesWith(log, "invocation done", `\"function\":\"scale_down\"`)
	c.failed("the handlers' log", err)
	rechecks, err := linesWith(log, "invocation done", `\"function\":\"scale_down\"`, `\"purpose\":\"recheck\"`)
	c.failed("the handlers' log", err)
	c.same("timers_fired", s.TimersFired, "the Functions host", looks-rechecks, "the handlers' log")
	said, err := linesWith(log, "message rejected")
	c.failed("the handlers' log", err)
	s.Rejected = c.same("rejected", int(stats["rejected"].Sent), "Service Bus", said, "the handlers' log")
	dead := 0
	for _, q := range stats {
		dead += int(q.EverDeadLettered)
	}
	givenUp, err := d.givenUp()
	c.failed("the deliveries", err)
	s.DeadLetters = c.same("dead_letters", dead, "Service Bus", givenUp, "the Functions host's last deliveries that failed")
	if failed > 0 {
		c.mismatches = append(c.mismatches, fmt.Errorf("%d calls of functions failed", failed))
	}
}

// givenUp counts the calls that failed on the last delivery of their message:
// the only way in which a message of ours may become a dead letter. One that
// expired, or that the agent gave up, is not counted here, and is a mismatch.
func (d *run) givenUp() (int, error) {
	queues, err := servicebusemu.LoadQueues(filepath.Join(d.Root, "infra", "queues.json"), d.world.Cluster)
	if err != nil {
		return 0, err
	}
	last := map[string]int{}
	for _, q := range queues {
		last[strings.ReplaceAll(q.Name, "-", "_")] = q.MaxDeliveryCount // a function has the name of its queue
	}
	n := 0
	for _, call := range d.line.invocations() {
		if most := last[call.Function]; call.Err != nil && most > 0 && int(call.DeliveryCount) >= most {
			n++
		}
	}
	return n, nil
}

// linesWith counts the lines of a log that hold all of the texts.
func linesWith(path string, texts ...string) (int, error) {
	log, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n := 0
	for line := range strings.Lines(string(log)) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n, nil
}

func jobEnds(path string) ([]slurmlab.JobEnd, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return slurmlab.ParseJobCompletions(f)
}

// jobIDs gives the distinct jobs whose last end had the given state, or all.
func jobIDs(ends []slurmlab.JobEnd, state string) map[int]slurmlab.JobEnd {
	last := map[int]slurmlab.JobEnd{}
	for _, e := range ends {
		last[e.JobID] = e
	}
	for id, e := range last {
		if state != "" && e.State != state {
			delete(last, id)
		}
	}
	return last
}

// overflowed counts the jobs of the partition local that completed in the cloud.
func overflowed(ends []slurmlab.JobEnd) int {
	n := 0
	for _, e := range jobIDs(ends, "COMPLETED") {
		if slices.Contains(strings.Split(e.Partition, ","), "local") && ranIn(e) != "local" {
			n++
		}
	}
	return n
}

func (d *run) completedInSlurm(ctx context.Context) (int, error) {
	text, err := d.world.Lab.Squeue(ctx, "--noheader", "--array", "--states=COMPLETED", "--format=%i")
	return len(strings.Fields(text)), err
}

func entries(journal []cyclecloudsim.Entry, event cyclecloudsim.EventName) int {
	n := 0
	for _, e := range journal {
		if e.Event == event {
			n++
		}
	}
	return n
}

func nodesOf(calls []slurmlab.ProgramCall) int {
	n := 0
	for _, c := range calls {
		n += len(c.Nodes)
	}
	return n
}

// drained counts the nodes for which power_down_asap reached slurmctld.
func drained(log slurmlab.ControllerLog) int {
	n := 0
	for _, p := range log.PowerDowns {
		if p.Drained {
			n++
		}
	}
	return n
}

// slurmdProcesses counts the cloud nodes' slurmd on this machine: all that run
// with the lab's configuration, less the on-prem ones.
func slurmdProcesses(conf string, local int) (int, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	n := 0
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		args := strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
		if filepath.Base(args[0]) == "slurmd" && slices.Contains(args, conf) {
			n++
		}
	}
	return n - local, nil
}

// submitToCreate gives for each node created the time since the newest
// submission before it.
func submitToCreate(log slurmlab.ControllerLog, journal []cyclecloudsim.Entry) []time.Duration {
	var waits []time.Duration
	for _, e := range journal {
		if e.Event != cyclecloudsim.Created {
			continue
		}
		var newest time.Time
		for _, s := range log.Submitted {
			if s.Time.Before(e.Time) && s.Time.After(newest) {
				newest = s.Time
			}
		}
		if !newest.IsZero() {
			waits = append(waits, e.Time.Sub(newest))
		}
	}
	return waits
}

// submitToRunning gives for each job the time from submission to its start.
func submitToRunning(log slurmlab.ControllerLog, ends []slurmlab.JobEnd) []time.Duration {
	submitted := map[int]time.Time{}
	for _, s := range log.Submitted {
		submitted[s.JobID] = s.Time
	}
	var waits []time.Duration
	for id, e := range jobIDs(ends, "COMPLETED") {
		at, ok := submitted[id]
		if !ok {
			at, ok = submitted[e.ArrayJobID]
		}
		if ok {
			waits = append(waits, e.Start.Sub(at))
		}
	}
	return waits
}

func median(waits []time.Duration) int64 {
	if len(waits) == 0 {
		return 0
	}
	slices.Sort(waits)
	return waits[len(waits)/2].Milliseconds()
}
