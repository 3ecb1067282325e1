package burst

import (
	"slices"
	"time"
)

// requeueDelay is how far into the future Slurm puts the begin time of a job
// that it requeues after a failed boot (121 s, measured on 22.05.8). A later
// begin time is the owner's.
const requeueDelay = 125 * time.Second

// steer looks after jobs that were released and still wait.
func (o *overflow) steer(j *judgement) (why Reason, where NodearrayName) {
	for _, job := range j.ours {
		why, where = o.steerJob(j, job)
	}
	return why, where
}

func (o *overflow) steerJob(j *judgement, job string) (Reason, NodearrayName) {
	record := o.memory.Jobs[o.acted[job]]
	if c := o.commanded[job]; c != nil && !o.soon(c.ExpiresAt) {
		return because(ReasonCommandOpen, "Slurm has not answered %s yet", c.Kind), record.Nodearray
	}
	if record.Shadow {
		return o.steerShadow(record)
	}
	if len(record.Home) == 0 {
		o.beginNow(j, job, record.Nodearray)
		return because(ReasonInCloud, "the job was submitted to the cloud"), record.Nodearray
	}
	switch why := o.unusable(record); {
	case why.Code == ReasonClosed:
		return o.moveOn(j, job, record, why)
	case why.Code != "":
		return o.revoke(j, job, record, why), record.Nodearray
	}
	a := o.arrays[record.Nodearray]
	if !slices.Contains(j.group.Partitions, a.policy.Partition) {
		why := because(ReasonReleased, "released to %s", record.Nodearray)
		o.send(Command{Kind: ReleaseJobs, Nodearray: record.Nodearray, Partitions: append(slices.Clone(record.Home), a.policy.Partition), Reason: why}, job)
		return why, record.Nodearray
	}
	o.beginNow(j, job, record.Nodearray)
	return because(ReasonReleased, "released to %s", record.Nodearray), record.Nodearray
}

// steerShadow keeps count of a job that only would have been released. When the
// policy has become active the count ends, and the job is judged anew.
func (o *overflow) steerShadow(record CloudJob) (Reason, NodearrayName) {
	if o.policy.Shadow {
		return because(ReasonShadow, "shadow mode: the job would have been released to %s", record.Nodearray), record.Nodearray
	}
	o.free(record)
	record.RevokedAt, record.Committed, record.Shadow = o.now, 0, false
	o.keep(record)
	o.soon(o.now.Add(time.Second))
	return because(ReasonShadow, "shadow mode is over, the job is judged anew"), record.Nodearray
}

// unusable reports why a nodearray can take no released job any more.
func (o *overflow) unusable(record CloudJob) Reason {
	a := o.arrays[record.Nodearray]
	if a == nil {
		return because(ReasonRevoked, "the policy no longer names %s", record.Nodearray)
	}
	p := o.partitions[a.policy.Partition]
	switch {
	case a.closed():
		return because(ReasonClosed, "%s rests after a failure", a.policy.Name)
	case a.policy.Gated:
		return because(ReasonGate, "the gate of %s is closed", a.policy.Name)
	case !a.inWindow():
		return because(ReasonWindow, "%s is outside its schedule", a.policy.Name)
	case p != nil && !p.Up:
		return because(ReasonPartitionRefuses, "partition %s is not UP", p.Name)
	}
	return Reason{}
}

// moveOn gives a job to the next nodearray in rank, or takes it back.
func (o *overflow) moveOn(j *judgement, job string, record CloudJob, why Reason) (Reason, NodearrayName) {
	if j.rule == nil || o.facts.Paused {
		return o.revoke(j, job, record, why), record.Nodearray
	}
	o.free(record)
	next, no := o.place(j, &record)
	if next == nil {
		o.retake(record)
		_ = o.revoke(j, job, record, why)
		return no, record.Nodearray
	}
	o.let(j, job, next, &record)
	o.beginNow(j, job, next.policy.Name)
	return because(ReasonMoved, "%s failed, so the job goes on to %s", record.Nodearray, next.policy.Name), next.policy.Name
}

// revoke takes a job back from the cloud: it waits on-prem as before.
func (o *overflow) revoke(j *judgement, job string, record CloudJob, why Reason) Reason {
	o.free(record)
	record.RevokedAt, record.Committed = o.now, 0
	record.Tried = appendName(record.Tried, record.Nodearray)
	o.keep(record)
	o.send(Command{Kind: RevokeJobs, Nodearray: record.Nodearray, Partitions: record.Home, Reason: why}, job)
	o.beginNow(j, job, record.Nodearray)
	return why
}

// free gives back what a released job holds, retake takes it again.
func (o *overflow) free(record CloudJob) {
	o.till.release(&record)
	o.usage.add(record.User, record.Account, -record.Nodes)
	if a := o.arrays[record.Nodearray]; a != nil {
		a.promise(-record.Nodes)
	}
}

func (o *overflow) retake(record CloudJob) {
	o.till.open(&record)
	o.usage.add(record.User, record.Account, record.Nodes)
	if a := o.arrays[record.Nodearray]; a != nil {
		a.promise(record.Nodes)
	}
}

// beginNow lifts the two minutes that Slurm makes a requeued job wait.
func (o *overflow) beginNow(j *judgement, job string, array NodearrayName) {
	begin := j.group.BeginTime
	if !j.group.Restarted || begin.IsZero() || o.soon(begin) || begin.Sub(o.now) > requeueDelay {
		return
	}
	o.send(Command{Kind: BeginNow, Nodearray: array, Reason: because(ReasonRequeued, "a failed boot requeued the job with a begin time two minutes away")}, job)
}
