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
		j.tell(job, why)
	}
	return why, where
}

func (o *overflow) steerJob(j *judgement, job string) (Reason, NodearrayName) {
	record := o.memory.Jobs[o.acted[job]]
	if !record.RevokedAt.IsZero() {
		return because(ReasonRevoked, "taken back from %s", record.Nodearray), record.Nodearray // named twice
	}
	if c := o.commanded[job]; c != nil && !o.soon(c.ExpiresAt) {
		return because(ReasonCommandOpen, "Slurm has not answered %s yet", c.Kind), record.Nodearray
	}
	if record.Shadow {
		return o.steerShadow(record)
	}
	if o.policy.Shadow {
		return because(ReasonShadow, "shadow mode: the job was released to %s before", record.Nodearray), record.Nodearray
	}
	if why := o.renamed(record); why.Code != "" {
		return o.revoke(j, job, record, why), record.Nodearray
	}
	if len(record.Home) > 0 && record.ListedIn != "" && !slices.Contains(j.group.Partitions, record.ListedIn) {
		return o.leave(j.group, record), record.Nodearray
	}
	if why := o.rehome(j, &record); why.Code != "" {
		return why, record.Nodearray
	}
	if len(record.Home) == 0 {
		o.beginNow(j, job, record.Nodearray)
		return because(ReasonInCloud, "the job was submitted to the cloud"), record.Nodearray
	}
	if why := o.withdrawn(j.group, record); why.Code != "" {
		return o.revoke(j, job, record, why), record.Nodearray
	}
	switch why := o.unusable(record); {
	case why.Code == ReasonClosed:
		return o.moveOn(j, job, record, why)
	case why.Code != "":
		return o.revoke(j, job, record, why), record.Nodearray
	}
	a := o.arrays[record.Nodearray]
	if !slices.Contains(j.group.Partitions, a.policy.Partition) {
		if o.facts.Paused {
			return because(ReasonPaused, "an admin paused bursting"), record.Nodearray
		}
		why := because(ReasonReleased, "released to %s", record.Nodearray)
		o.send(Command{Kind: ReleaseJobs, Nodearray: record.Nodearray, Partitions: append(slices.Clone(record.Home), a.policy.Partition), Reason: why}, job)
		return why, record.Nodearray
	}
	o.beginNow(j, job, record.Nodearray)
	return because(ReasonReleased, "released to %s", record.Nodearray), record.Nodearray
}

// rehome notes that the owner gave a released job other partitions. One that no
// longer names the cloud is its owner's again; nothing is sent.
func (o *overflow) rehome(j *judgement, record *CloudJob) Reason {
	home := o.home(j.group)
	if o.arrays[record.Nodearray] == nil {
		return Reason{} // its partition no longer counts as the cloud
	}
	if slices.Equal(home, record.Home) || slices.Equal(slices.Sorted(slices.Values(home)), slices.Sorted(slices.Values(record.Home))) {
		return Reason{}
	}
	if len(home) < len(j.group.Partitions) {
		if len(record.Home) == 0 { // its owner's job has become one like those that were released
			o.arrays[record.Nodearray].promise(record.Nodes)
		}
		record.Home = home
		o.keep(*record)
		return Reason{}
	}
	o.free(*record)
	record.RevokedAt, record.Committed = o.now, 0
	o.keep(*record)
	return because(ReasonRevoked, "the job's owner took it from %s to other partitions", record.Nodearray)
}

// withdrawn reports why a released job no longer is one that would be: what it
// keeps others would have.
func (o *overflow) withdrawn(g *Group, record CloudJob) Reason {
	switch {
	case slices.Contains([]string{"JobHeldUser", "JobHeldAdmin", "Dependency", "DependencyNeverSatisfied"}, g.StateReason),
		g.StateReason == "BeginTime" && !o.soon(g.BeginTime.Add(-requeueDelay)):
		return because(ReasonSlurmReason, "Slurm holds the job for another reason: %.40s", g.StateReason)
	case limitOf(g.TimeLimit) > limitOf(record.TimeLimit):
		return because(ReasonRevoked, "its time limit was %s when it was released to %s and is longer now", seconds(limitOf(record.TimeLimit)), record.Nodearray)
	}
	return Reason{}
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

// moveOn gives a job to the next nodearray in rank, or takes it back. Slurm's
// reason says nothing of a released job, so the rule is asked alone.
func (o *overflow) moveOn(j *judgement, job string, record CloudJob, why Reason) (Reason, NodearrayName) {
	rule, _ := agrees(j.group, o.rulesFor(record.Home))
	if rule == nil || o.facts.Paused {
		return o.revoke(j, job, record, why), record.Nodearray
	}
	o.free(record)
	moving := *j
	moving.rule = rule
	next, no := o.place(&moving, &record)
	if next == nil {
		o.takeBack(j, job, record, why)
		return no, record.Nodearray
	}
	o.let(j, job, next, &record)
	o.beginNow(j, job, next.policy.Name)
	return because(ReasonMoved, "%s failed, so the job goes on to %s", record.Nodearray, next.policy.Name), next.policy.Name
}

// revoke takes a job back from the cloud: it waits on-prem as before.
func (o *overflow) revoke(j *judgement, job string, record CloudJob, why Reason) Reason {
	o.free(record)
	o.takeBack(j, job, record, why)
	return why
}

// takeBack is revoke for a job that holds neither money nor room any more.
func (o *overflow) takeBack(j *judgement, job string, record CloudJob, why Reason) {
	record.RevokedAt, record.Committed = o.now, 0
	record.Tried = appendName(record.Tried, record.Nodearray)
	o.keep(record)
	o.send(Command{Kind: RevokeJobs, Nodearray: record.Nodearray, Partitions: record.Home, Reason: why}, job)
	o.beginNow(j, job, record.Nodearray)
}

// free gives back what a released job holds.
func (o *overflow) free(record CloudJob) {
	o.till.release(&record)
	o.usage.add(record.User, record.Account, -record.Nodes)
	if a := o.arrays[record.Nodearray]; a != nil && len(record.Home) > 0 { // nothing is promised to a job of its owner's
		a.promise(-record.Nodes)
	}
}

// beginNow lifts the two minutes that Slurm makes a requeued job wait.
func (o *overflow) beginNow(j *judgement, job string, array NodearrayName) {
	if c := o.beginning[job]; c != nil && !o.soon(c.ExpiresAt) {
		return
	}
	begin := j.group.BeginTime
	if !j.group.Restarted || begin.IsZero() || o.soon(begin) || begin.Sub(o.now) > requeueDelay {
		return
	}
	o.send(Command{Kind: BeginNow, Nodearray: array, Reason: because(ReasonRequeued, "a failed boot requeued the job with a begin time two minutes away")}, job)
}
