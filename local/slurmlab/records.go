package slurmlab

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxLogLine bounds one line of Slurm's records; job names are in them.
const maxLogLine = 1 << 20

// ControllerLog is what slurmctld's own log tells about a run: a record that
// depends on nothing of ours. Times are in the zone of this process.
type ControllerLog struct {
	// Submitted has one entry for each accepted submission: an sbatch (an
	// array and a heterogeneous job count as one), srun or salloc.
	Submitted []Submission
	// Started has one entry for each allocation to a job or array task.
	Started []JobStart
	// Resumes, Suspends and ResumeFails are the calls of the three programs.
	Resumes, Suspends, ResumeFails []ProgramCall
	// PowerDowns and PowerUps are the requests that scontrol brought, one for
	// each node. Slurm's own timer and jobs are not among them.
	PowerDowns, PowerUps []PowerRequest
	// BootTimeouts are the nodes that missed ResumeTimeout.
	BootTimeouts []NodeEvent
	// Requeued and NodeFailed are job ids that lost a node, in the log's order:
	// the first run again, the second ended in NODE_FAIL.
	Requeued, NodeFailed []string
}

// Submission is one accepted submission.
type Submission struct {
	Time  time.Time
	JobID int
	// IsBatch tells sbatch from srun and salloc.
	IsBatch bool
}

// JobStart is one allocation of nodes to a job.
type JobStart struct {
	Time time.Time
	// JobID as the log prints it: "6", or "7_1(9)" for an array task.
	JobID string
	// Nodes is a hostlist.
	Nodes string
}

// ProgramCall is one call of ResumeProgram, SuspendProgram or ResumeFailProgram.
type ProgramCall struct {
	Time time.Time
	// Hostlist is the program's only argument, Nodes what it stands for.
	Hostlist string
	Nodes    []string
}

// PowerRequest is one state=power_up or power_down on one node.
type PowerRequest struct {
	Time time.Time
	Node string
	// Drained is true for power_down_asap: the log says that the node was
	// drained in the same request.
	Drained bool
	// Repeated is true for a power_down of a node that is powered down.
	Repeated bool
}

// NodeEvent is something that happened to one node.
type NodeEvent struct {
	Time time.Time
	Node string
}

// What slurmctld 22.05.8 writes with SlurmctldDebug=debug and DebugFlags=Power.
var (
	logLine     = regexp.MustCompile(`^\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})\] (.*)$`)
	batchLine   = regexp.MustCompile(`^_slurm_rpc_submit_batch(?:_het)?_job: JobId=(\d+) `)
	allocLine   = regexp.MustCompile(`^sched: _slurm_rpc_allocate(?:_het)?_resources JobId=(\d+) NodeList=(\S+)`)
	startLine   = regexp.MustCompile(`^sched(?:/backfill: _start_job: Started|: Allocate) JobId=(\S+) (?:in \S+ on |NodeList=)(\S+)`)
	programLine = regexp.MustCompile(`^POWER: power_save: pid \d+ (waking|suspending|handle failed) nodes (\S+)$`)
	drainLine   = regexp.MustCompile(`^drain_nodes: node (\S+) state set to DRAIN$`)
	downLine    = regexp.MustCompile(`^power(?:ing down| down request repeating for) node (\S+)$`)
	upLine      = regexp.MustCompile(`^power(?:ing up| up request repeating for) node (\S+)$`)
	bootLine    = regexp.MustCompile(`^node (\S+) not resumed by ResumeTimeout\(`)
	requeueLine = regexp.MustCompile(`^requeue job JobId=(\S+) due to failure of node `)
	failLine    = regexp.MustCompile(`^Killing JobId=(\S+) on failed node `)
)

// ParseControllerLog reads slurmctld's log. Lines that tell nothing about jobs
// and power are passed over; a line that does but cannot be read is an error.
func ParseControllerLog(r io.Reader) (ControllerLog, error) {
	var log ControllerLog
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLogLine)
	drained := "" // the node that the line before has drained
	for number := 1; lines.Scan(); number++ {
		parts := logLine.FindStringSubmatch(lines.Text())
		if parts == nil {
			continue
		}
		at, err := time.ParseInLocation("2006-01-02T15:04:05.000", parts[1], time.Local)
		if err != nil {
			return log, fmt.Errorf("read line %d of slurmctld's log: %w", number, err)
		}
		if drained, err = log.add(at, parts[2], drained); err != nil {
			return log, fmt.Errorf("read line %d of slurmctld's log: %w", number, err)
		}
	}
	if err := lines.Err(); err != nil {
		return log, fmt.Errorf("read slurmctld's log: %w", err)
	}
	return log, nil
}

// add takes in one line and gives the node that the line drains, if any.
func (c *ControllerLog) add(at time.Time, text, drained string) (string, error) {
	if node := match(drainLine, text); node != "" {
		return node, nil
	}
	if id := match(batchLine, text); id != "" {
		return "", c.submit(at, id, true)
	}
	if m := allocLine.FindStringSubmatch(text); m != nil {
		if nodes := m[2]; nodes != "(null)" { // it started at once, and no other line says so
			c.Started = append(c.Started, JobStart{Time: at, JobID: m[1], Nodes: nodes})
		}
		return "", c.submit(at, m[1], false)
	}
	if m := startLine.FindStringSubmatch(text); m != nil {
		c.Started = append(c.Started, JobStart{Time: at, JobID: m[1], Nodes: m[2]})
	}
	if m := programLine.FindStringSubmatch(text); m != nil {
		return "", c.call(at, m[1], m[2])
	}
	if node := match(downLine, text); node != "" {
		c.PowerDowns = append(c.PowerDowns, PowerRequest{
			Time: at, Node: node, Drained: node == drained, Repeated: strings.Contains(text, "repeating"),
		})
	}
	if node := match(upLine, text); node != "" {
		c.PowerUps = append(c.PowerUps, PowerRequest{Time: at, Node: node, Repeated: strings.Contains(text, "repeating")})
	}
	if node := match(bootLine, text); node != "" {
		c.BootTimeouts = append(c.BootTimeouts, NodeEvent{Time: at, Node: node})
	}
	if id := match(requeueLine, text); id != "" {
		c.Requeued = append(c.Requeued, id)
	}
	if id := match(failLine, text); id != "" {
		c.NodeFailed = append(c.NodeFailed, id)
	}
	return "", nil
}

func match(pattern *regexp.Regexp, text string) string {
	if m := pattern.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

func (c *ControllerLog) submit(at time.Time, id string, batch bool) error {
	jobID, err := strconv.Atoi(id)
	if err != nil {
		return fmt.Errorf("read the job id: %w", err)
	}
	c.Submitted = append(c.Submitted, Submission{Time: at, JobID: jobID, IsBatch: batch})
	return nil
}

func (c *ControllerLog) call(at time.Time, verb, hostlist string) error {
	nodes, err := ExpandHostlist(hostlist)
	if err != nil {
		return err
	}
	call := ProgramCall{Time: at, Hostlist: hostlist, Nodes: nodes}
	switch verb {
	case "waking":
		c.Resumes = append(c.Resumes, call)
	case "suspending":
		c.Suspends = append(c.Suspends, call)
	default:
		c.ResumeFails = append(c.ResumeFails, call)
	}
	return nil
}

// JobEnd is the end of one run of a job, from Slurm's job completion file.
type JobEnd struct {
	// JobID is the raw id, for array tasks too.
	JobID int
	// ArrayJobID and ArrayTaskID are set for array tasks; ArrayJobID is 0
	// for other jobs.
	ArrayJobID, ArrayTaskID int
	// State is Slurm's word: COMPLETED, FAILED, CANCELLED, TIMEOUT, NODE_FAIL.
	// A run that lost its node and is requeued has NODE_FAIL too; the job then
	// has a later end.
	State string
	// Partition is where it ran, Nodes a hostlist.
	Partition, Nodes string
	Start, End       time.Time
}

// ParseJobCompletions reads the file of JobCompType=jobcomp/filetxt, in the
// order in which the runs ended. A job's name is in its line and may hold any
// text, so what is read is looked for behind it.
func ParseJobCompletions(r io.Reader) ([]JobEnd, error) {
	var ends []JobEnd
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLogLine)
	for number := 1; lines.Scan(); number++ {
		end, err := parseJobEnd(lines.Text())
		if err != nil {
			return ends, fmt.Errorf("read line %d of the job completions: %w", number, err)
		}
		ends = append(ends, end)
	}
	if err := lines.Err(); err != nil {
		return ends, fmt.Errorf("read the job completions: %w", err)
	}
	return ends, nil
}

// completionLine takes the last " JobState=" of the line, behind the name.
var completionLine = regexp.MustCompile(`^JobId=(\d+) .* JobState=([A-Z_]+) Partition=(\S*) .*?StartTime=(\S+) EndTime=(\S+) NodeList=(\S*) `)

var arrayKeys = regexp.MustCompile(` ArrayJobId=(\d+) ArrayTaskId=(\d+) DerivedExitCode=`)

func parseJobEnd(line string) (JobEnd, error) {
	m := completionLine.FindStringSubmatch(line)
	if m == nil {
		return JobEnd{}, fmt.Errorf("%q is no job completion", line)
	}
	end := JobEnd{State: m[2], Partition: m[3], Nodes: m[6]}
	var err error
	if end.JobID, err = strconv.Atoi(m[1]); err != nil {
		return end, fmt.Errorf("read the job id: %w", err)
	}
	if end.Start, err = completionTime(m[4]); err != nil {
		return end, err
	}
	if end.End, err = completionTime(m[5]); err != nil {
		return end, err
	}
	if a := arrayKeys.FindStringSubmatch(line); a != nil {
		if end.ArrayJobID, err = strconv.Atoi(a[1]); err != nil {
			return end, fmt.Errorf("read the array's job id: %w", err)
		}
		if end.ArrayTaskID, err = strconv.Atoi(a[2]); err != nil {
			return end, fmt.Errorf("read the array task id: %w", err)
		}
	}
	return end, nil
}

// completionTime reads a time of the job completions; "Unknown" and "None" are
// the zero time (a job that was cancelled while it waited).
func completionTime(text string) (time.Time, error) {
	if text == "Unknown" || text == "None" {
		return time.Time{}, nil
	}
	at, err := time.ParseInLocation("2006-01-02T15:04:05", text, time.Local)
	if err != nil {
		return time.Time{}, fmt.Errorf("read a time: %w", err)
	}
	return at, nil
}
