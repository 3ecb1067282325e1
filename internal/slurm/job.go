package slurm

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// JobState is a job's state in Slurm's own words, upper case. A word that is
// not listed here stays as it is.
type JobState string

// The job states that squeue of 22.05 and 26.05 prints.
const (
	JobPending     JobState = "PENDING"
	JobConfiguring JobState = "CONFIGURING"
	JobRunning     JobState = "RUNNING"
	JobSuspended   JobState = "SUSPENDED"
	JobCompleting  JobState = "COMPLETING"
	JobCompleted   JobState = "COMPLETED"
	JobCancelled   JobState = "CANCELLED"
	JobFailed      JobState = "FAILED"
	JobTimeout     JobState = "TIMEOUT"
	JobNodeFail    JobState = "NODE_FAIL"
	JobPreempted   JobState = "PREEMPTED"
	JobBootFail    JobState = "BOOT_FAIL"
	JobDeadline    JobState = "DEADLINE"
	JobOutOfMemory JobState = "OUT_OF_MEMORY"
	JobRequeued    JobState = "REQUEUED"
	JobResizing    JobState = "RESIZING"
	JobStopped     JobState = "STOPPED"
)

// IsFinished tells whether the job has ended for good. Slurm keeps such jobs in
// its answers for MinJobAge (300 s by default).
func (s JobState) IsFinished() bool {
	switch s {
	case JobCompleted, JobCancelled, JobFailed, JobTimeout, JobNodeFail,
		JobPreempted, JobBootFail, JobDeadline, JobOutOfMemory:
		return true
	default:
		return false
	}
}

// Job is one job, or one task of an array, as squeue shows it.
type Job struct {
	// ID is the number of Slurm's record. Tasks that were not split off
	// share the record's number, so only Ref is unique.
	ID JobID
	// ArrayID is the id of the array that this is a task of; 0 otherwise.
	ArrayID JobID
	// IsTask says that Task, the array index, counts.
	IsTask bool
	Task   uint32
	State  JobState
	// Partitions are in Slurm's order, which is not the order written (it
	// sorts by PriorityTier). The slice is shared between jobs.
	Partitions []PartitionName
	User       UserName
	Account    AccountName
	QOS        QOSName
	// Reason is the state reason's one word, Description squeue's %R: for
	// a waiting job the reason in brackets, sometimes with more text. A
	// first job whose nodes are all down says Resources here and "Nodes
	// required for job are DOWN…" there. For a running job it is its nodes.
	// In 22.05 some Reasons carry text after a comma, too.
	Reason, Description string
	// NodeCount, CPUs and Tasks are what the job needs; for a waiting job
	// NodeCount is Slurm's estimate from the partition's CPUs.
	NodeCount, CPUs, Tasks int
	// MinMemoryMB is what the job asked for, per node or (--mem-per-cpu)
	// per CPU: squeue does not say which. TotalMemoryMB is Slurm's own sum
	// over the job; 0 where Slurm does not count memory.
	MinMemoryMB, TotalMemoryMB int64
	// GPUs counts the GPUs of the whole job.
	GPUs int
	// TimeLimit is LimitNotSet where the partition's limit applies.
	TimeLimit TimeLimit
	// Features is the constraint in Slurm's words: "cloud&htc", "[a|b]".
	Features string
	// RequiresNodes says that the job asked for nodes by name (-w).
	RequiresNodes bool
	// IsBatch is false for srun and salloc, which end when a boot is
	// aborted; Requeue says that Slurm may put a batch job back.
	IsBatch, Requeue bool
	Restarts         int
	// Submitted is reset when a job is requeued.
	Submitted time.Time
	// Eligible is the begin time of a waiting job; zero while it depends
	// on others or is held.
	Eligible time.Time
	// Started is Slurm's estimate for a waiting job; zero where it has none.
	Started time.Time
	// Ended is when the job ended, or must end by its limit.
	Ended time.Time
	// Priority is Slurm's priority, 0 for a held job.
	Priority uint32
	// Nodes are the nodes of a configuring, running or finished job. The slice
	// is shared between jobs.
	Nodes []NodeName
	// AdminComment is what an administrator wrote, its first 256 bytes; only
	// where JobQuery.AdminComment asked for it.
	AdminComment string
}

// Ref names the job for an update: the task of an array, or the job.
func (j *Job) Ref() JobRef {
	if j.IsTask {
		return JobRef{Job: j.ArrayID, IsTask: true, Task: j.Task}
	}
	return JobRef{Job: j.ID}
}

// JobQuery says which jobs to ask for.
type JobQuery struct {
	// States are the wanted states; none means all, with finished jobs as
	// long as Slurm remembers them.
	States []JobState
	// Jobs are the wanted jobs, about 10,000 at most; none means all. A job
	// that Slurm no longer knows is simply absent from the answer.
	Jobs []JobRef
	// AdminComment asks for Job.AdminComment, too, which may be long.
	AdminComment bool
	// Expect is about how many jobs the answer will hold, such as the last one
	// held. A good guess spares a copy of them all; 0 means no guess.
	Expect int
}

// columns are what is asked for. The comment comes last: it may hold anything,
// and must not cost its job.
func (q JobQuery) columns() *tableParser[jobRow] {
	if !q.AdminComment {
		return newTableParser(jobColumns)
	}
	parser := newTableParser(slices.Concat(jobColumns, []column[jobRow]{adminComment}))
	parser.openEnd = true
	return parser
}

func (q JobQuery) args() ([]string, error) {
	args := []string{"-a", "-h", "-r", "--noconvert"}
	states := "all"
	if len(q.States) > 0 {
		words := make([]string, len(q.States))
		for i, state := range q.States {
			if !isWord(string(state)) {
				return nil, fault.Newf(fault.Invalid, "job state %s is not one of Slurm's words", quoteBounded(string(state)))
			}
			words[i] = string(state)
		}
		states = strings.Join(words, ",")
	}
	args = append(args, "-t", states)
	if len(q.Jobs) > 0 {
		list := joinRefs(q.Jobs)
		if len(list) > maxListBytes {
			return nil, fault.Newf(fault.Invalid, "query of %d jobs at once is too long", len(q.Jobs))
		}
		args = append(args, "-j", list)
	}
	return args, nil
}

// Jobs gives the jobs asked for, array tasks one by one, and how many records
// were dropped because they made no sense.
func (c *Client) Jobs(ctx context.Context, query JobQuery) (jobs []Job, dropped int, err error) {
	args, err := query.args()
	if err != nil {
		return nil, 0, err
	}
	parser := query.columns()
	parser.expect = query.Expect
	end := newRecordEnd()
	args = append(args, "-O", outputFormat(parser.names(), end))
	exit, err := c.run(ctx, "squeue", args, func(stdout io.Reader) (err error) {
		jobs, dropped, err = parseJobs(stdout, parser, end+"\n")
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	// One unknown id makes squeue fail; among several it is passed over.
	if len(query.Jobs) > 0 && strings.Contains(exit.Stderr, "Invalid job id specified") {
		return nil, 0, nil
	}
	if err := exitError("squeue", exit); err != nil {
		return nil, 0, err
	}
	return jobs, dropped, nil
}

func parseJobs(stream io.Reader, parser *tableParser[jobRow], recordEnd string) (jobs []Job, dropped int, err error) {
	var (
		bad   int
		page  = make([]Job, 0, max(parser.expect+parser.expect/8, jobsPerPage))
		pages [][]Job
	)
	dropped, err = readRecords(stream, recordEnd, func(record []byte) {
		row, ok := parser.parse(record)
		if !ok {
			bad++
			return
		}
		job, ok := row.finish()
		if !ok {
			bad++
			return
		}
		if len(page) == cap(page) {
			pages = append(pages, page)
			page = make([]Job, 0, jobsPerPage)
		}
		page = append(page, *job)
	})
	if len(pages) == 0 {
		return page, dropped + bad, err
	}
	return slices.Concat(append(pages, page)...), dropped + bad, err
}

// jobsPerPage keeps a long answer from being copied again and again while it
// grows: half of the time of reading 100,000 jobs went there.
const jobsPerPage = 1024

func joinRefs(refs []JobRef) string {
	words := make([]string, len(refs))
	for i, ref := range refs {
		words[i] = ref.String()
	}
	return strings.Join(words, ",")
}
