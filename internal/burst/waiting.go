package burst

import "time"

// expectedPast is how long after its expected start a job that still waits is
// no longer taken to start on-prem any moment.
const expectedPast = time.Minute

// waits reports why the job at index i of the fresh ones should wait longer,
// by its rule and by what a boot costs.
func (o *overflow) waits(j *judgement, i int) Reason {
	submit := j.group.OldestSubmit
	if i > 0 || len(j.fresh) < len(j.group.Jobs) {
		// Only the oldest job's time is known: no other goes too early.
		submit = j.group.NewestSubmit
	}
	if k, ok := o.acted[j.fresh[i]]; ok && !o.memory.Jobs[k].SubmittedAt.IsZero() && o.memory.Jobs[k].SubmittedAt.Before(submit) {
		submit = o.memory.Jobs[k].SubmittedAt // a requeue reset Slurm's
	}
	boot := o.bootOf(j.rule)
	w := j.rule.Waiting
	switch w.Rule {
	case WaitingImmediate:
		return Reason{}
	case WaitingWait:
		return o.until(submit, w.Wait)
	case WaitingPressure:
		return o.pressure(j, w.Drain)
	case WaitingWeighted:
	}
	return o.until(submit, weighted(w.Kappa, max(j.group.Nodes, 1), j.run, boot))
}

// until holds a job until it has waited long enough.
func (o *overflow) until(submit time.Time, wait time.Duration) Reason {
	if o.soon(submit.Add(wait)) {
		return Reason{}
	}
	return because(ReasonWaiting, "the job may go once it has waited %s", seconds(wait))
}

// weighted is how long a job has to wait for its cost in the cloud to be worth
// it: kappa x nodes x (run + boot), at most a month.
func weighted(kappa float64, nodes int, run, boot time.Duration) time.Duration {
	wait := kappa * float64(nodes) * (float64(run) + float64(boot))
	if wait > float64(unlimitedRun) {
		return unlimitedRun
	}
	return time.Duration(wait).Round(time.Second)
}

// pressure holds jobs while their partition's own nodes would soon be through
// with all that waits.
func (o *overflow) pressure(j *judgement, drain time.Duration) Reason {
	for _, p := range o.home(j.group) {
		if p != j.rule.Partition {
			continue
		}
		up := o.local[p].Nodes - o.local[p].DownNodes
		if up <= 0 || o.demand[p]/time.Duration(up) >= drain {
			return Reason{}
		}
	}
	return because(ReasonWaiting, "what waits in %s would keep its nodes busy for less than %s", j.rule.Partition, seconds(drain))
}

// bootOf is the shortest boot of the rule's nodearrays.
func (o *overflow) bootOf(rule *Overflow) time.Duration {
	boot := unlimitedRun
	for _, name := range rule.Nodearrays {
		if a := o.arrays[name]; a != nil {
			boot = min(boot, a.policy.BootTime)
		}
	}
	return boot
}

// worthBoot reports why a boot in the nodearray would be wasted on the job,
// unless nodes that are up can take it.
func (o *overflow) worthBoot(a *arrayDecision, j *judgement) blocker {
	boot := a.policy.BootTime
	if a.idleFree >= max(j.group.Nodes, 1) {
		return blocker{}
	}
	start := j.group.ExpectedStart
	if !j.starting && !start.IsZero() && !o.soon(start.Add(expectedPast)) && o.soon(start.Add(-boot)) {
		return blocker{code: ReasonLocalStart, format: "Slurm expects to start the job on-prem within the %s of a boot", args: []any{seconds(boot)}}
	}
	if j.run < boot {
		return blocker{code: ReasonShort, format: "the job is expected to run %s, less than the %s of the boot that it would cost", args: []any{seconds(j.run), seconds(boot)}}
	}
	return blocker{}
}

// limitOf is a job's time limit, where UNLIMITED counts as what is committed
// for it.
func limitOf(limit time.Duration) time.Duration {
	if limit <= 0 {
		return unlimitedRun
	}
	return limit
}
