package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/slurmlab"
)

// OverflowSummary is the last line of the overflow scenario. Counts and money
// were taken from two records that do not know of each other, or the demo has
// failed. Money is in the policy's currency.
type OverflowSummary struct {
	JobsSubmitted  int            `json:"jobs_submitted"`
	Released       int            `json:"released"`
	Moved          int            `json:"moved"`
	Held           map[string]int `json:"held"`
	Completed      int            `json:"completed"`
	CompletedCloud int            `json:"completed_in_cloud"`
	NodesCreated   int            `json:"nodes_created"`
	NodesLeft      int            `json:"nodes_left"`
	VMsLeft        int            `json:"vms_left"`
	MoneyCommitted money          `json:"money_committed"`
	MoneySettled   money          `json:"money_settled"`
	MoneyWasted    money          `json:"money_wasted"`
	MoneyBilled    money          `json:"money_billed"`
	IntentsOpen    int            `json:"intents_open"`
	Rejected       int            `json:"rejected"`
	DeadLetters    int            `json:"dead_letters"`
	Seconds        int            `json:"seconds"`
}

// String says in a sentence what the counts of a good run mean.
func (s OverflowSummary) String() string {
	held := 0
	for _, n := range s.Held {
		held += n
	}
	return fmt.Sprintf("All %d jobs are done: %d were released to the cloud (%d of them moved on from where there was no capacity), %d were held with a reason. "+
		"%d nodes and %d VMs are left.\nEach count below was taken from two independent records:", s.Completed, s.Released, s.Moved, held, s.NodesLeft, s.VMsLeft)
}

// money is in millionths, as the tables keep it, and printed in units.
type money int64

// MarshalJSON prints units with at most six decimals.
func (m money) MarshalJSON() ([]byte, error) {
	return []byte(strconv.FormatFloat(float64(m)/1e6, 'f', -1, 64)), nil
}

// spent is the sum of the table of spend.
type spent struct {
	committed, accrued, wasted money
	nodeSeconds                int64
}

func (r *overflowRun) spend(ctx context.Context) (spent, error) {
	var sum spent
	client, err := r.world.Tables()
	if err != nil {
		return sum, err
	}
	err = eachRow(ctx, client, "burstspend", func(row map[string]any) error {
		var firstErr error
		add := func(to *int64, column string) {
			n, err := number(row, column)
			if err != nil && firstErr == nil {
				firstErr = err
			}
			*to += n
		}
		add((*int64)(&sum.committed), "Committed")
		add((*int64)(&sum.accrued), "Accrued")
		add((*int64)(&sum.wasted), "BootWaste")
		add((*int64)(&sum.wasted), "IdleWaste")
		add(&sum.nodeSeconds, "NodeSeconds")
		return firstErr
	})
	if err != nil {
		return sum, fmt.Errorf("read burstspend: %w", err)
	}
	return sum, nil
}

// number reads an Edm.Int64, which OData writes as text.
func number(row map[string]any, column string) (int64, error) {
	raw, err := json.Marshal(row[column])
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.Trim(string(raw), `"`), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("column %s: %w", column, err)
	}
	return n, nil
}

// uncommitted says how far the table of spend is from what Slurm's jobs on cloud
// nodes may cost by their time limits.
func (r *overflowRun) uncommitted(ctx context.Context) string {
	sum, err := r.spend(ctx)
	if err != nil {
		return err.Error()
	}
	inSlurm, err := r.committedInSlurm(ctx)
	if err != nil {
		return err.Error()
	}
	if sum.committed != inSlurm {
		return fmt.Sprintf("burstspend has %d millionths committed, Slurm's jobs may cost %d", sum.committed, inSlurm)
	}
	r.committed = sum.committed
	return ""
}

// committedInSlurm is price x nodes x time limit of all jobs on cloud nodes.
func (r *overflowRun) committedInSlurm(ctx context.Context) (money, error) {
	text, err := r.world.Lab.Squeue(ctx, "--noheader", "--array", "--states=CONFIGURING,RUNNING", "--Format=Partition:20,NumNodes:10,TimeLimit:20")
	if err != nil {
		return 0, err
	}
	var sum money
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] == "local" {
			continue
		}
		nodes, err := strconv.Atoi(fields[1])
		if err != nil {
			return 0, fmt.Errorf("read squeue: %w", err)
		}
		limit, err := timeLimit(fields[2])
		if err != nil {
			return 0, err
		}
		sum += costOf(fields[0], nodes, limit)
	}
	return sum, nil
}

// timeLimit reads what squeue prints of a limit below a day: 1:00:00 or 10:00.
func timeLimit(text string) (time.Duration, error) {
	var limit time.Duration
	for part := range strings.SplitSeq(text, ":") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return 0, fmt.Errorf("read time limit %q: %w", text, err)
		}
		limit = limit*60 + time.Duration(n)*time.Second
	}
	return limit, nil
}

// costOf is what nodes cost in a while.
func costOf(array string, nodes int, d time.Duration) money {
	price := htcPrice
	if array == spotArray {
		price = spotPrice
	}
	return money(math.Round(price * float64(nodes) * d.Hours() * 1e6))
}

// count takes all counts, each twice.
func (r *overflowRun) count(ctx context.Context) (OverflowSummary, []error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	var c counting
	w := r.world
	log, err := controllerLog(w)
	c.failed("slurmctld's log", err)
	ends, err := jobEnds(w.Lab.JobCompletionsPath())
	c.failed("Slurm's record of ended jobs", err)
	tables, err := readTables(ctx, w)
	c.failed("the tables", err)
	journal := w.Sim.Journal()

	s := OverflowSummary{Seconds: int(time.Since(r.began).Seconds()), IntentsOpen: tables.openIntents, MoneyCommitted: r.committed}
	completed := jobIDs(ends, "COMPLETED")
	s.JobsSubmitted = c.same("jobs_submitted", r.submitted, "the demo", len(jobIDs(ends, "")), "Slurm's record of ended jobs")
	s.Completed = c.same("completed", len(completed), "Slurm's record of ended jobs", r.submitted, "the promise")
	for _, e := range completed {
		if ranIn(e) != "local" {
			s.CompletedCloud++
		}
	}
	s.Released = c.same("released", len(tables.released), "burstcommands", s.CompletedCloud, "Slurm's record of ended jobs")
	s.Moved = r.countMoved(&c, completed, log)
	s.Held = r.countHeld(ctx, &c, completed)

	s.NodesCreated = c.same("nodes_created", entries(journal, cyclecloudsim.Created), "CycleCloud's journal", tables.targets("create"), "burstdecisions")
	s.NodesLeft = c.same("nodes_left", len(w.Sim.Nodes()), "CycleCloud", tables.present, "burstnodes")
	processes, err := slurmdProcesses(w.Lab.Conf(), w.LocalNodes)
	c.failed("processes", err)
	s.VMsLeft = c.same("vms_left", len(w.Sim.VMs()), "CycleCloud", processes, "the machine's processes")
	r.countMoney(ctx, &c, &s, completed)
	r.countBad(&c, &s)
	return s, c.mismatches
}

// ranIn is the partition whose nodes a job ran on: where the job's list names
// several, Slurm's record of its end has them all.
func ranIn(e slurmlab.JobEnd) string {
	partition, _, _ := strings.Cut(e.Nodes, "-")
	return partition
}

// countMoved counts the jobs that were requeued from the nodearray without
// capacity and completed in the next.
func (r *overflowRun) countMoved(c *counting, completed map[int]slurmlab.JobEnd, log slurmlab.ControllerLog) int {
	n, planned := 0, 0
	for _, j := range r.jobs {
		if j.fate != moved {
			continue
		}
		planned++
		first := ""
		for _, start := range log.Started {
			if start.JobID == strconv.Itoa(j.id) && first == "" {
				first = start.Nodes
			}
		}
		if strings.HasPrefix(first, spotArray+"-") && ranIn(completed[j.id]) == htcArray {
			n++
		}
	}
	return c.same("moved", n, "Slurm's records", planned, "the plan")
}

// countHeld counts the jobs that were held and ran on-prem, by the reason that
// they bear: in squeue and in scontrol.
func (r *overflowRun) countHeld(ctx context.Context, c *counting, completed map[int]slurmlab.JobEnd) map[string]int {
	comments, err := adminComments(ctx, r.world)
	c.failed("comments", err)
	counts := map[string]int{}
	for _, j := range r.jobs {
		if j.fate != held {
			continue
		}
		said := commentOf(comments, j.id)
		shown, err := r.world.Lab.Run(ctx, "scontrol", "show", "job", strconv.Itoa(j.id))
		c.failed("scontrol", err)
		switch {
		case said.code() != j.code:
			c.wrong("job %d (%s) bears %q in squeue, not %s", j.id, j.what, said.text, j.code)
		case !strings.Contains(shown, "AdminComment="+said.text):
			c.wrong("job %d (%s) bears %q in squeue, and not in scontrol", j.id, j.what, said.text)
		case ranIn(completed[j.id]) != "local":
			c.wrong("job %d (%s) was held and ran on %q", j.id, j.what, completed[j.id].Nodes)
		default:
			counts[j.code]++
		}
	}
	return counts
}

// tolerated is how far one job's cost by the tables may be from that by Slurm's
// record of it, whose times are whole seconds.
const tolerated = 2 * time.Second

// countMoney compares what the jobs cost by the table of spend with what they
// cost by Slurm's record of their ends.
func (r *overflowRun) countMoney(ctx context.Context, c *counting, s *OverflowSummary, completed map[int]slurmlab.JobEnd) {
	sum, err := r.spend(ctx)
	c.failed("burstspend", err)
	var inSlurm, most money
	for _, e := range completed {
		if ranIn(e) == "local" {
			continue
		}
		nodes, err := nodeCount(e.Nodes)
		c.failed("the nodes of a job", err)
		inSlurm += costOf(ranIn(e), nodes, e.End.Sub(e.Start))
		most += costOf(ranIn(e), nodes, tolerated)
	}
	s.MoneySettled, s.MoneyWasted = sum.accrued, sum.wasted
	if sum.accrued < inSlurm-most || sum.accrued > inSlurm+most {
		c.wrong("money_settled: burstspend says %d millionths, Slurm's record of ended jobs %d", sum.accrued, inSlurm)
	}
	var doubt money
	s.MoneyBilled, doubt = billed(r.world.Sim.Journal())
	if diff := sum.accrued + sum.wasted - s.MoneyBilled; diff < -doubt || diff > doubt {
		c.wrong("burstspend knows of %d millionths, settled or wasted, and the VMs cost %d", sum.accrued+sum.wasted, s.MoneyBilled)
	}
	if sum.committed != 0 {
		c.wrong("%d millionths are still committed in burstspend, and no job is left", sum.committed)
	}
}

// billed is what all VMs cost by CycleCloud's journal. doubt is how far the
// product, which looks at most once a second and hears late that a VM has
// vanished, may be from it.
func billed(journal []cyclecloudsim.Entry) (sum, doubt money) {
	const perNode = 10 * time.Second
	created := map[string]cyclecloudsim.Entry{}
	for _, e := range journal {
		switch e.Event {
		case cyclecloudsim.Created:
			created[e.Name] = e
		case cyclecloudsim.Terminated, cyclecloudsim.Vanished:
			from, known := created[e.Name]
			if !known {
				continue
			}
			delete(created, e.Name)
			sum += costOf(from.NodeArray, 1, e.Time.Sub(from.Time))
			doubt += costOf(htcArray, 1, perNode)
		}
	}
	return sum, doubt
}

// nodeCount counts the nodes of a hostlist.
func nodeCount(hostlist string) (int, error) {
	names, err := slurmlab.ExpandHostlist(hostlist)
	return len(names), err
}

func (r *overflowRun) countBad(c *counting, s *OverflowSummary) {
	stats := r.world.Bus.Stats()
	said, err := linesWith(filepath.Join(r.Dir, "world.log"), "message rejected")
	c.failed("the handlers' log", err)
	s.Rejected = c.same("rejected", int(stats["rejected"].Sent), "Service Bus", said, "the handlers' log")
	for _, q := range stats {
		s.DeadLetters += int(q.EverDeadLettered)
	}
	for _, call := range r.line.invocations() {
		if call.Err != nil {
			c.wrong("function %s failed: %w", call.Function, call.Err)
		}
	}
	if s.Rejected+s.DeadLetters+s.IntentsOpen > 0 {
		c.wrong("%d messages were rejected, %d dead-lettered, %d intents are open", s.Rejected, s.DeadLetters, s.IntentsOpen)
	}
}
