package burst

import (
	"time"
)

// The core's own waiting times. They are not policy: they bound how often the
// same thing is tried, not what it may cost.
const (
	// AbortCooldown is how long a node name rests after an aborted boot, so
	// that no name is aborted twice within it.
	AbortCooldown = 5 * time.Minute
	// abortRest counts from the sending of an abort, which may be carried out
	// as late as its command expires.
	abortRest = AbortCooldown + CommandTTL
	// closeAfterRefusal is how long a nodearray rests after CycleCloud refused
	// or lost a node; CycleCloud's own ThrottleCapacityTime is as long.
	closeAfterRefusal = 5 * time.Minute
	// probePatience is how long after its rest the fence of a nodearray that
	// failed leaves room for one job only.
	probePatience = 5 * time.Minute
	// closeAfterShortage is how long it rests after availableCount fell short,
	// which is often only lag.
	closeAfterShortage = time.Minute
	// bootLook is how often CycleCloud is asked about a node that boots.
	bootLook = time.Minute
	// goneLookFirst and goneLookLast bound how often it is asked about a node
	// that goes.
	goneLookFirst = 2 * time.Second
	goneLookLast  = 30 * time.Second
	// listLag is how long a node that CycleCloud accepted may be missing from
	// its list before it counts as vanished.
	listLag = 15 * time.Second
	// removalLimit is how long CycleCloud may take to remove a node before an
	// admin is told: its VM may still bill.
	removalLimit = 30 * time.Minute
	// retryEffect is how long a failed or unheard effect rests at first,
	// retryEffectMax at last.
	retryEffect    = 30 * time.Second
	retryEffectMax = 5 * time.Minute
	// clockGrain is how far the cloud's idea of when something happened in Slurm
	// may be off, and differ from one snapshot to the next: the broker's times
	// reach a function in whole seconds.
	clockGrain = 2 * time.Second
	// retryCycleCloud is how long CycleCloud rests after it did not answer.
	retryCycleCloud = 15 * time.Second
)

// Decide returns the changes to make to the cloud side of the cluster, and the
// reason for every change and every refusal. It is deterministic: equal
// arguments give equal plans, in a stable order.
func Decide(now time.Time, p Policy, f Facts) Plan {
	d := &decision{now: now, policy: p, facts: f, arrays: map[NodearrayName]*arrayDecision{}}
	d.plan.Memory = f.Memory
	if stale, why := staleness(now, p, f.Snapshot); stale {
		for _, array := range p.Nodearrays {
			d.plan.Holds = append(d.plan.Holds, Hold{Nodearray: array.Name, Reason: why})
		}
		if !f.Snapshot.AsOf.IsZero() {
			// The next snapshot has to be decided on even if it says nothing new.
			d.plan.NextDue = f.Snapshot.AsOf.Add(p.MaxActAge)
		}
		return d.plan
	}
	d.join()
	d.recall()
	for _, a := range d.ranked {
		a.follow()
	}
	o := d.newOverflow()
	for _, a := range d.ranked {
		a.create()
	}
	o.run()
	d.plan.Warnings = d.till.warnings(&d.memory)
	o.warnMissing()
	for _, a := range d.ranked {
		a.census()
	}
	o.shareRoom()
	for _, a := range d.ranked {
		a.fence()
		a.emit()
	}
	o.fencedOut()
	o.endNotices()
	o.emit()
	d.remember()
	for _, a := range d.ranked {
		a.emitTimers()
	}
	d.plan.Memory = d.memory
	if p.Shadow {
		d.withhold()
	}
	return d.plan
}

// staleness reports whether the snapshot is too old to act on.
func staleness(now time.Time, p Policy, s Snapshot) (bool, Reason) {
	if s.AsOf.IsZero() {
		return true, because(ReasonNoSnapshot, "no snapshot of Slurm has arrived yet")
	}
	if age := now.Sub(s.AsOf); age >= p.MaxActAge {
		return true, because(ReasonStale, "the newest snapshot is older than %s", seconds(p.MaxActAge))
	}
	return false, Reason{}
}

func (f Facts) nodearray(name NodearrayName) NodearrayFacts {
	for _, a := range f.Nodearrays {
		if a.Name == name {
			return a
		}
	}
	return NodearrayFacts{Name: name}
}

// decision collects the plan of one call of Decide.
type decision struct {
	now    time.Time
	policy Policy
	facts  Facts
	plan   Plan

	known  map[NodeName]int // index of facts.Nodes
	ranked []*arrayDecision
	arrays map[NodearrayName]*arrayDecision

	memory  Memory
	till    *till
	usage   *usage
	running map[string]*RunningJob
	// acted finds a job in the memory.
	acted map[string]int
	// created counts the nodes that the plan creates.
	created int
}

// join brings policy and facts of each nodearray together.
func (d *decision) join() {
	d.known = make(map[NodeName]int, len(d.facts.Nodes))
	for i := range d.facts.Nodes {
		d.known[d.facts.Nodes[i].Name] = i
	}
	for _, array := range d.policy.Nodearrays {
		a := &arrayDecision{decision: d, policy: array, facts: d.facts.nodearray(array.Name), due: map[Purpose]time.Time{}}
		a.commands, a.holdIndex = map[CommandKind][]commandTarget{}, map[Reason]int{}
		a.nodes = make([]*Node, len(array.Nodes))
		for i, name := range array.Nodes {
			if at, ok := d.known[name]; ok {
				a.nodes[i] = &d.facts.Nodes[at] // read only
			} else {
				a.nodes[i] = &Node{Name: name, Nodearray: array.Name}
			}
		}
		d.ranked = append(d.ranked, a)
		d.arrays[array.Name] = a
	}
}

// recall brings the memory up to the facts. A job that is configuring and that
// nobody released, or that was taken back, is not taken in yet: create admits
// it or not.
func (d *decision) recall() {
	d.running = make(map[string]*RunningJob, len(d.facts.Running))
	known := make(map[string]bool, len(d.facts.Memory.Jobs))
	for i := range d.facts.Memory.Jobs {
		job := &d.facts.Memory.Jobs[i]
		known[job.ID] = job.RevokedAt.IsZero() && !job.Shadow
	}
	f := d.facts
	f.Running = make([]RunningJob, 0, len(d.facts.Running))
	for i := range d.facts.Running {
		job := &d.facts.Running[i]
		d.running[job.ID] = job
		if known[job.ID] || !job.Configuring {
			f.Running = append(f.Running, *job)
		}
	}
	if len(d.known) < len(f.Nodes) { // a node that is told twice counts once
		f.Nodes = make([]Node, 0, len(d.known))
		for _, array := range d.ranked {
			for _, n := range array.nodes {
				f.Nodes = append(f.Nodes, *n)
			}
		}
	}
	d.memory = advance(d.now, d.policy, f)
	d.till = newTill(d.now, d.policy, &d.memory)
	d.usage = newUsage(d.policy, &d.memory)
	for _, a := range d.ranked {
		a.recall()
	}
	d.acted = make(map[string]int, len(d.memory.Jobs))
	for i := range d.memory.Jobs {
		job := &d.memory.Jobs[i]
		d.acted[job.ID] = i
		if a := d.awaits(job); a != nil {
			a.waiting += job.Nodes
		}
	}
}

// awaits gives the nodearray that a released job waits for, or nil.
func (d *decision) awaits(job *CloudJob) *arrayDecision {
	if len(job.Home) > 0 && job.RevokedAt.IsZero() && job.StartedAt.IsZero() && d.running[job.ID] == nil {
		return d.arrays[job.Nodearray]
	}
	return nil
}

// keep puts a job into the memory.
func (d *decision) keep(record CloudJob) {
	if k, ok := d.acted[record.ID]; ok {
		d.memory.Jobs[k] = record
		return
	}
	d.acted[record.ID] = len(d.memory.Jobs)
	d.memory.Jobs = append(d.memory.Jobs, record)
}

// soon reports whether t has come; if not, the cluster is looked at again then.
func (d *decision) soon(t time.Time) bool {
	if len(d.ranked) == 0 {
		return !d.now.Before(t) // nothing to look after, and no timer to arm
	}
	return d.ranked[0].reached(Retry, t)
}

// withhold takes every effect out of the plan and keeps what it would have
// been: shadow mode changes nothing outside the ledger.
func (d *decision) withhold() {
	for _, c := range d.plan.Commands {
		if c.Kind != NoticeJobs {
			d.plan.Withheld = append(d.plan.Withheld, c.Reason)
		}
	}
	for _, c := range d.plan.Creates {
		d.plan.Withheld = append(d.plan.Withheld, c.Reason)
	}
	for _, t := range d.plan.Terminates {
		d.plan.Withheld = append(d.plan.Withheld, t.Reason)
	}
	d.plan.Commands, d.plan.Creates, d.plan.Terminates = nil, nil, nil
}
