package burst

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// noticesPerMinute bounds how many jobs get an AdminComment: each is a
	// write in slurmctld.
	noticesPerMinute = 200
	// maxNoticed bounds the jobs whose notice is remembered.
	maxNoticed = 5000
)

// silent are the reasons that no job is told: they pass by themselves, or Slurm
// tells them already.
var silent = []Code{ReasonSlurmReason, ReasonNotEvaluated, ReasonCommandOpen, ReasonAskCycleCloud, ReasonReleasing, ReasonInCloud, ReasonShadow}

// notices tells waiting jobs why they wait, where that has changed.
type notices struct {
	told map[string]Code // by job or array
	seen map[string]bool // those that still wait
	now  map[string]bool // those whose reason was told in this plan or before
	last []telling       // what arrays are told if nothing else is
	cut  bool            // not all waiting jobs are named
}

func (o *overflow) newNotices() *notices {
	n := &notices{told: make(map[string]Code, len(o.memory.Noticed)), seen: map[string]bool{}, now: map[string]bool{}}
	for _, t := range o.memory.Noticed {
		n.told[t.Job] = t.Code
	}
	if !o.now.Before(o.memory.NoticesFrom.Add(time.Minute)) {
		o.memory.Notices = 0
	}
	for i := range o.facts.Groups {
		g := &o.facts.Groups[i]
		n.cut = n.cut || g.Count > len(g.Jobs)
		if len(n.told) == 0 {
			continue
		}
		for _, job := range g.Jobs {
			if job = wholeArray(job); n.told[job] != "" {
				n.seen[job] = true
			}
		}
	}
	if n.cut && len(n.told) >= maxNoticed {
		// Some of those that are not named have left: there must be room for new
		// ones, and who still waits may be told a second time.
		maps.DeleteFunc(n.told, func(job string, _ Code) bool { return !n.seen[job] })
	}
	return n
}

// wholeArray gives the array of a task: a comment on one task would split it
// off the array's record.
func wholeArray(job string) string {
	array, _, _ := strings.Cut(job, "_")
	return array
}

// notice tells the jobs of the group why they wait or go, as far as the minute
// allows.
func (o *overflow) notice(j *judgement) {
	if o.policy.Shadow {
		return
	}
	for _, job := range j.kept {
		if !o.tell(wholeArray(job), j.keptWhy) {
			break
		}
	}
	for _, t := range j.told {
		array := wholeArray(t.job)
		if array != t.job && (t.why.Code == ReasonReleased || t.why.Code == ReasonMoved) {
			o.told.last = append(o.told.last, telling{array, t.why})
		} else if !o.tell(array, t.why) {
			return
		}
	}
}

// endNotices tells arrays that tasks of theirs went to the cloud, where no task
// waits: of an array, why the rest waits is what counts.
func (o *overflow) endNotices() {
	for _, t := range o.told.last {
		if !o.tell(t.job, t.why) {
			break
		}
	}
	o.rememberNotices()
}

// tell tells one job or array, unless it was told the same, or another of its
// tasks was told something in this plan. It reports false when the minute's
// notices are used up.
func (o *overflow) tell(job string, why Reason) bool {
	if o.told.now[job] || slices.Contains(silent, why.Code) {
		return true
	}
	before := o.told.told[job]
	if before == why.Code || before == ReasonMoved && why.Code == ReasonReleased { // that it moved says it all
		o.told.now[job] = true // no other group of the array is to contradict it
		return true
	}
	if o.memory.Notices >= noticesPerMinute || len(o.told.told) >= maxNoticed {
		o.soon(o.memory.NoticesFrom.Add(time.Minute))
		return false
	}
	if o.memory.Notices == 0 {
		o.memory.NoticesFrom = o.now
	}
	o.memory.Notices++
	o.told.told[job], o.told.seen[job], o.told.now[job] = why.Code, true, true
	o.send(Command{Kind: NoticeJobs, Reason: why}, job)
	return true
}

// rememberNotices keeps what was told to jobs that still wait.
func (o *overflow) rememberNotices() {
	o.memory.Noticed = nil
	for job, code := range o.told.told {
		if o.told.seen[job] || o.told.cut {
			o.memory.Noticed = append(o.memory.Noticed, Noticed{job, code})
		}
	}
	slices.SortFunc(o.memory.Noticed, func(a, b Noticed) int { return cmp.Compare(a.Job, b.Job) })
}
