package slurm

import (
	"math"
	"strings"
)

const (
	maxWordBytes        = 128
	maxDescriptionBytes = 256
)

// jobColumns are squeue -O fields that 22.05.8 and 26.05.3 both accept.
var jobColumns = []column[jobRow]{
	{"JobID", func(_ *tableParser[jobRow], r *jobRow, text []byte) (ok bool) {
		r.ID, ok = parseJobID(text)
		return ok
	}},
	{"ArrayJobID", func(_ *tableParser[jobRow], r *jobRow, text []byte) (ok bool) {
		r.array, ok = parseJobID(text)
		return ok
	}},
	{"ArrayTaskID", func(_ *tableParser[jobRow], r *jobRow, text []byte) bool { return r.setTask(text) }},
	{"State", func(p *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.State = JobState(p.intern(text, maxWordBytes))
		return isWord(string(r.State))
	}},
	{"Partition", func(p *tableParser[jobRow], r *jobRow, text []byte) (ok bool) {
		r.Partitions, ok = p.partitionList(text)
		return ok
	}},
	{"UserName", func(p *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.User = UserName(p.intern(text, maxWordBytes))
		return true
	}},
	{"Account", func(p *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.Account = AccountName(p.intern(text, maxWordBytes))
		return true
	}},
	{"QOS", func(p *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.QOS = QOSName(p.intern(text, maxWordBytes))
		return true
	}},
	{"Reason", func(p *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.Reason = p.intern(text, maxWordBytes)
		return true
	}},
	{"NumNodes", func(_ *tableParser[jobRow], r *jobRow, text []byte) (ok bool) {
		r.NodeCount, ok = parseCount(text)
		return ok
	}},
	{"NumCPUs", func(_ *tableParser[jobRow], r *jobRow, text []byte) (ok bool) {
		r.CPUs, ok = parseCount(text)
		return ok
	}},
	{"NumTasks", func(_ *tableParser[jobRow], r *jobRow, text []byte) (ok bool) {
		r.Tasks, ok = parseCount(text)
		return ok
	}},
	{"MinMemory", func(_ *tableParser[jobRow], r *jobRow, text []byte) (ok bool) {
		r.MinMemoryMB, ok = parseMegabytes(text)
		return ok
	}},
	{"tres-alloc", func(p *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.totals = p.resources(text)
		return true
	}},
	{"tres-per-job", func(p *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.perJob = p.countGPUs(text)
		return true
	}},
	{"tres-per-node", func(p *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.perNode = p.countGPUs(text)
		return true
	}},
	{"tres-per-socket", func(p *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.perSocket = p.countGPUs(text)
		return true
	}},
	{"tres-per-task", func(p *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.perTask = p.countGPUs(text)
		return true
	}},
	{"TimeLimit", func(_ *tableParser[jobRow], r *jobRow, text []byte) (ok bool) {
		r.TimeLimit, ok = parseTimeLimit(text)
		return ok
	}},
	{"ReqNodes", func(_ *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.RequiresNodes = !isAbsent(text)
		return true
	}},
	{"BatchFlag", func(_ *tableParser[jobRow], r *jobRow, text []byte) bool {
		return setBool(&r.IsBatch, text)
	}},
	{"Requeue", func(_ *tableParser[jobRow], r *jobRow, text []byte) bool {
		return setBool(&r.Requeue, text)
	}},
	{"RestartCnt", func(_ *tableParser[jobRow], r *jobRow, text []byte) (ok bool) {
		r.Restarts, ok = parseCount(text)
		return ok
	}},
	{"SubmitTime", func(_ *tableParser[jobRow], r *jobRow, text []byte) (ok bool) {
		r.Submitted, ok = parseTime(text)
		return ok
	}},
	{"EligibleTime", func(_ *tableParser[jobRow], r *jobRow, text []byte) (ok bool) {
		r.Eligible, ok = parseTime(text)
		return ok
	}},
	{"StartTime", func(_ *tableParser[jobRow], r *jobRow, text []byte) (ok bool) {
		r.Started, ok = parseTime(text)
		return ok
	}},
	{"EndTime", func(_ *tableParser[jobRow], r *jobRow, text []byte) (ok bool) {
		r.Ended, ok = parseTime(text)
		return ok
	}},
	{"PriorityLong", func(_ *tableParser[jobRow], r *jobRow, text []byte) bool {
		n, ok := parseInt(text)
		r.Priority = uint32(min(n, math.MaxUint32))
		return ok
	}},
	{"NodeList", func(_ *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.Nodes = nil
		if isAbsent(text) {
			return true
		}
		var err error
		r.Nodes, err = ParseHostlist(string(text))
		return err == nil
	}},
	{"Feature", func(p *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.Features = p.intern(text, maxFeaturesBytes)
		return true
	}},
	{"ReasonList", func(p *tableParser[jobRow], r *jobRow, text []byte) bool {
		r.Description = p.intern(text, maxDescriptionBytes)
		return true
	}},
}

// adminComment is asked for by the name that both versions take: they refuse
// AdminComment (measured).
var adminComment = column[jobRow]{"admin_comment", func(_ *tableParser[jobRow], r *jobRow, text []byte) bool {
	r.AdminComment = ""
	if !isAbsent(text) {
		r.AdminComment = printable(text, maxDescriptionBytes)
	}
	return true
}}

// jobRow is a job while it is read: what a job's totals are worked out from.
type jobRow struct {
	Job
	// array is the array's id, or that of a job which is no task.
	array  JobID
	totals resourceTotals
	// perJob and the others are the GPUs that the job asked for.
	perJob, perNode, perSocket, perTask int
}

// setTask reads the array index. Without -r squeue prints a waiting array as
// one line with a range here; that line is refused, since its tasks must be
// counted one by one.
func (r *jobRow) setTask(text []byte) bool {
	r.IsTask, r.Task = false, 0
	if isAbsent(text) {
		return true
	}
	n, ok := parseInt(text)
	if !ok || n > math.MaxUint32 {
		return false
	}
	r.IsTask, r.Task = true, uint32(n)
	return true
}

// finish works out what depends on several fields, and reports whether the
// fields that name the job were there.
func (r *jobRow) finish() (*Job, bool) {
	r.ArrayID = 0
	if r.IsTask {
		r.ArrayID = r.array
	}
	r.TotalMemoryMB = r.totals.memoryMB
	r.GPUs = r.countGPUs()
	return &r.Job, r.ID != 0 && (r.ArrayID != 0 || !r.IsTask)
}

// countGPUs takes Slurm's own total where the site counts GPUs, else what the
// job asked for. What was asked per socket is counted per node, the least that
// it can mean.
func (r *jobRow) countGPUs() int {
	if r.totals.countsGPUs {
		return r.totals.gpus
	}
	if r.perJob > 0 {
		return r.perJob
	}
	nodes := max(r.NodeCount, 1)
	asked := max(r.perNode*nodes, r.perSocket*nodes, r.perTask*max(r.Tasks, 1))
	return min(asked, math.MaxInt32)
}

func parseJobID(text []byte) (JobID, bool) {
	n, ok := parseInt(text)
	return JobID(n), ok && n > 0 && n <= math.MaxUint32
}

func setBool(into *bool, text []byte) bool {
	if len(text) != 1 || (text[0] != '0' && text[0] != '1') {
		return false
	}
	*into = text[0] == '1'
	return true
}

// isWord tells whether the text is one of Slurm's own words.
func isWord(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return r != '_' && (r < 'A' || r > 'Z')
	})
}
