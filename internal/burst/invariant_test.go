package burst

import (
	"fmt"
	"slices"
	"time"
)

// breach names what a plan does that no plan may do, or gives nil. It is
// written from the design and from what Slurm and CycleCloud were measured to
// do, and shares no rule with the code that it judges.
func breach(now time.Time, p Policy, f Facts, plan Plan) error {
	j := judge{now: now, policy: p, facts: f, plan: plan, nodes: map[NodeName]Node{}, effects: map[NodeName]int{}, holds: map[NodeName]int{}}
	for _, n := range f.Nodes {
		j.nodes[n.Name] = n
	}
	for _, check := range []func() error{j.stale, j.reasons, j.creates, j.terminates, j.commands, j.fence, j.whole, j.holdOnce, j.due, j.verdicts, j.jobCommands, j.releases, j.shares, j.budgets} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

var explained = func() map[Code]bool {
	codes := map[Code]bool{}
	for _, e := range Explanations() {
		codes[e.Code] = true
	}
	return codes
}()

type judge struct {
	now    time.Time
	policy Policy
	facts  Facts
	plan   Plan
	nodes  map[NodeName]Node
	// effects and holds count the lines of the plan that name a node.
	effects, holds map[NodeName]int
}

// stale: old facts may hold, never release, never create.
func (j judge) stale() error {
	s := j.facts.Snapshot
	if !s.AsOf.IsZero() && j.now.Sub(s.AsOf) < j.policy.MaxActAge {
		return nil
	}
	if j.plan.Acts() || len(j.plan.Closings)+len(j.plan.Failures)+len(j.plan.Timers) > 0 || j.plan.Look || j.plan.Status {
		return fmt.Errorf("acts on facts of %v at %v", s.AsOf, j.now)
	}
	return nil
}

// reasons: every line has a reason of the closed list and a sentence.
func (j judge) reasons() error {
	var err error
	reasonsOf(j.plan, func(r Reason) {
		if !explained[r.Code] || r.Text == "" {
			err = fmt.Errorf("reason %q with text %q", r.Code, r.Text)
		}
	})
	return err
}

// creates: only what Slurm powers up and CycleCloud lacks, within every limit.
func (j judge) creates() error {
	for _, c := range j.plan.Creates {
		array := j.array(c.Nodearray)
		exist := 0
		for _, name := range array.Nodes {
			n := j.nodes[name]
			switch n.Slurm {
			case Idle, Busy, Reserved, DrainedUp, Down, NotResponding, PowerDownPending:
				exist++
			default:
				if n.Supply != Absent {
					exist++
				}
			}
		}
		available := j.facts.nodearray(c.Nodearray).Available
		switch {
		case len(c.Nodes) == 0:
			return fmt.Errorf("creates nothing in %s", c.Nodearray)
		case exist+len(c.Nodes) > array.MaxNodes:
			return fmt.Errorf("%d exist and %d are created in %s, the limit is %d", exist, len(c.Nodes), c.Nodearray, array.MaxNodes)
		case !available.Known || len(c.Nodes) > available.Count || exist+len(c.Nodes) > available.MaxCount:
			return fmt.Errorf("creates %d in %s, available are %+v", len(c.Nodes), c.Nodearray, available)
		case j.facts.Paused:
			return fmt.Errorf("creates %s while paused", c.Nodes)
		}
		for _, name := range c.Nodes {
			n := j.nodes[name]
			if n.Slurm != PoweringUp || n.Supply != Absent || !slices.Contains(array.Nodes, name) {
				return fmt.Errorf("creates %s, which is %s/%s", name, n.Slurm, n.Supply)
			}
			j.effects[name]++
		}
	}
	return nil
}

// terminates: only what Slurm is powering down, and under a name that is
// powering up only a VM on which no job can have started.
func (j judge) terminates() error {
	for _, t := range j.plan.Terminates {
		for _, target := range t.Targets {
			n := j.nodes[target.Node]
			down := n.Slurm == PoweringDown && j.facts.Snapshot.After(n.Created.Position)
			old := n.Slurm == PoweringUp && (n.DownAt.After(n.Created.Position) || n.Created.ResumeID != n.ResumeID)
			failed := n.Slurm == PoweringUp && (n.Supply == Failed || n.Supply == Off)
			if !down && !old && !failed {
				return fmt.Errorf("terminates %s, which is %s/%s", n.Name, n.Slurm, n.Supply)
			}
			if target.NodeID == "" || target.NodeID != n.NodeID {
				return fmt.Errorf("terminates %s by id %q, which is %q", n.Name, target.NodeID, n.NodeID)
			}
			if n.Supply == Leaving || n.Supply == Absent || n.Supply == Creating {
				return fmt.Errorf("terminates %s, of which CycleCloud has %s", n.Name, n.Supply)
			}
			j.effects[n.Name]++
		}
	}
	return nil
}

// commandable says in which states each command may be sent.
var commandable = map[CommandKind][]SlurmState{
	FenceNodes: {PoweredDown}, UnfenceNodes: {Fenced}, PowerDownASAP: {Idle, Down, DrainedUp}, AbortBoot: {PoweringUp},
	PowerDown: {PoweredDown, Fenced, DownPoweredDown, StuckPoweredDown}, PowerDownDone: {PoweringDown},
}

// commands: each only in the states in which it is safe.
func (j judge) commands() error {
	requeued := map[string]bool{}
	for _, c := range j.plan.Commands {
		for _, name := range c.Nodes {
			n := j.nodes[name]
			if !slices.Contains(commandable[c.Kind], n.Slurm) {
				return fmt.Errorf("sends %s to %s, which is %s/%s", c.Kind, name, n.Slurm, n.Supply)
			}
			if n.Command.Kind != "" && j.now.Before(n.Command.ExpiresAt) {
				return fmt.Errorf("sends %s to %s, which has not answered %s", c.Kind, name, n.Command.Kind)
			}
			j.effects[name]++
			if err := j.command(c.Kind, n, requeued); err != nil {
				return err
			}
		}
		for _, job := range c.Jobs {
			if c.Kind == BeginNow && !requeued[job] && !j.requeuedBefore(job) {
				return fmt.Errorf("%s of job %s, which no abort requeued", c.Kind, job)
			}
		}
	}
	return nil
}

// requeuedBefore reports whether a job waits for the two minutes that Slurm adds
// to a requeue.
func (j judge) requeuedBefore(job string) bool {
	return slices.ContainsFunc(j.facts.Groups, func(g Group) bool {
		return g.Restarted && g.BeginTime.After(j.now) && g.BeginTime.Sub(j.now) < 130*time.Second && slices.Contains(g.Jobs, job)
	})
}

func (j judge) command(kind CommandKind, n Node, requeued map[string]bool) error {
	gone := n.Supply == Absent || n.Supply == Leaving || n.Supply == Off
	switch kind {
	case AbortBoot:
		overdue := !n.CreatedAt.IsZero() && !j.now.Before(n.CreatedAt.Add(j.array(n.Nodearray).BootDeadline))
		if n.Supply == Creating || (n.Supply != Absent && n.Supply != Failed && n.Supply != Off && !overdue) {
			return fmt.Errorf("aborts the boot of %s, whose VM is on its way", n.Name)
		}
		if !n.AbortedAt.IsZero() && j.now.Before(n.AbortedAt.Add(5*time.Minute+90*time.Second)) {
			return fmt.Errorf("aborts %s twice within five minutes", n.Name)
		}
		for _, job := range n.Jobs {
			if !job.Requeueable {
				return fmt.Errorf("aborts %s and kills job %s", n.Name, job.ID)
			}
			requeued[job.ID] = true
		}
	case PowerDownASAP:
		idle := n.Slurm != DrainedUp && !j.now.Before(n.Since.Add(j.array(n.Nodearray).IdleTimeout))
		if !idle && !gone {
			return fmt.Errorf("powers down %s before its time", n.Name)
		}
	case PowerDownDone:
		if n.Supply != Absent || n.SeenAt.Before(n.Since.Add(-2*time.Second)) {
			return fmt.Errorf("ends the power-down of %s, whose VM was not seen gone", n.Name)
		}
	case PowerDown:
		if n.Slurm != DownPoweredDown && n.Slurm != StuckPoweredDown && (n.Supply == Absent || n.Supply == SupplyUnknown) {
			return fmt.Errorf("powers down %s, which is %s/%s", n.Name, n.Slurm, n.Supply)
		}
	case UnfenceNodes:
		if !n.AbortedAt.IsZero() && j.now.Before(n.AbortedAt.Add(5*time.Minute)) {
			return fmt.Errorf("gives %s back just after its boot was aborted", n.Name)
		}
	case FenceNodes, BeginNow, ReleaseJobs, RevokeJobs, GatePartition, NoticeJobs:
	}
	return nil
}

// headcount counts the nodes of a nodearray as the plan leaves them: taken or on
// their way back, offered to Slurm, on their way to be fenced, and those that the
// plan gives back.
type headcount struct{ taken, offered, going, unfenced int }

func (j judge) headcount(array Nodearray, sent map[NodeName]CommandKind) (c headcount) {
	for _, name := range array.Nodes {
		n := j.nodes[name]
		kind := sent[name]
		if kind == "" && n.Command.Kind != "" && j.now.Before(n.Command.ExpiresAt) {
			kind = n.Command.Kind
		}
		switch {
		case n.Slurm == PoweredDown && n.Supply == Absent && kind == "", sent[name] == UnfenceNodes:
			c.offered++
		case n.Slurm == Fenced && kind == UnfenceNodes:
			c.taken++
		case n.Slurm == PoweredDown && n.Supply == Absent:
			c.going++ // its fence is not confirmed: Slurm may still allocate it
		case n.Slurm == Drained && n.Supply == Absent,
			n.Slurm == Fenced && n.Supply == Absent, n.Slurm == Undefined && n.Supply == Absent,
			n.Slurm == DownPoweredDown && n.Supply == Absent, n.Supply == SupplyUnknown && n.Slurm != PoweringUp && n.Slurm != Busy:
		default:
			c.taken++
		}
		if sent[name] == UnfenceNodes {
			c.unfenced++
		}
	}
	return c
}

// within: neither is more offered than the limit leaves, nor given back before
// what others give up is confirmed.
func (c headcount) within(what string, limit int) error {
	if c.offered > 0 && c.taken+c.offered > limit {
		return fmt.Errorf("%d nodes of %s are taken and %d offered to Slurm, the limit is %d", c.taken, what, c.offered, limit)
	}
	if c.unfenced > 0 && c.taken+c.offered+c.going > limit {
		return fmt.Errorf("unfences %d nodes of %s before %d fences are confirmed", c.unfenced, what, c.going)
	}
	return nil
}

// fence: what Slurm may allocate never exceeds what can be had, in a nodearray
// and in the cluster, except for nodes that an unanswered command keeps from
// being fenced.
func (j judge) fence() error {
	if j.policy.Shadow || j.now.Sub(j.facts.Snapshot.AsOf) >= j.policy.MaxActAge {
		return nil
	}
	sent := map[NodeName]CommandKind{}
	for _, c := range j.plan.Commands {
		for _, name := range c.Nodes {
			sent[name] = c.Kind
		}
	}
	var all headcount
	for _, array := range j.policy.Nodearrays {
		c := j.headcount(array, sent)
		all = headcount{all.taken + c.taken, all.offered + c.offered, all.going + c.going, all.unfenced + c.unfenced}
		if err := c.within(string(array.Name), array.MaxNodes); err != nil {
			return err
		}
		rests := j.facts.Paused || j.now.Before(j.facts.Memory.OpenUntil(array.Name))
		for _, c := range j.plan.Closings {
			rests = rests || c.Nodearray == array.Name
		}
		if rests && c.offered > 0 {
			return fmt.Errorf("offers %d nodes of %s, which is paused or rests", c.offered, array.Name)
		}
	}
	if j.policy.MaxNodes > 0 {
		return all.within("the cluster", j.policy.MaxNodes)
	}
	return nil
}

// whole: no job gets some of the nodes that it waits for while a limit keeps
// the others from it.
func (j judge) whole() error {
	created, limited := map[string]bool{}, map[string]NodeName{}
	for _, c := range j.plan.Creates {
		for _, name := range c.Nodes {
			for _, job := range j.nodes[name].Jobs {
				created[job.ID] = true
			}
		}
	}
	note := func(names []NodeName, why Reason) {
		if why.Code != ReasonMaxNodes && why.Code != ReasonAvailable {
			return
		}
		for _, name := range names {
			for _, job := range j.nodes[name].Jobs {
				limited[string(j.nodes[name].Nodearray)+"/"+job.ID] = name
			}
		}
	}
	for _, h := range j.plan.Holds {
		note(h.Nodes, h.Reason)
	}
	for _, c := range j.plan.Commands {
		note(c.Nodes, c.Reason)
	}
	for _, c := range j.plan.Creates {
		for _, name := range c.Nodes {
			for _, job := range j.nodes[name].Jobs {
				if other, short := limited[string(c.Nodearray)+"/"+job.ID]; short {
					return fmt.Errorf("job %s gets %s and not %s", job.ID, name, other)
				}
			}
		}
	}
	return nil
}

// holdOnce: a node has one effect or one hold, and a node that Slurm wants has
// either.
func (j judge) holdOnce() error {
	for _, h := range j.plan.Holds {
		for _, name := range h.Nodes {
			j.holds[name]++
		}
	}
	stale := j.facts.Snapshot.AsOf.IsZero() || j.now.Sub(j.facts.Snapshot.AsOf) >= j.policy.MaxActAge
	for _, array := range j.policy.Nodearrays {
		for _, name := range array.Nodes {
			n, known := j.nodes[name]
			effects, holds := j.effects[name], j.holds[name]
			off := n.Slurm == PoweredDown || n.Slurm == Fenced
			switch {
			case effects > 1:
				return fmt.Errorf("%s, which is %s/%s, gets %d effects in one plan", name, n.Slurm, n.Supply, effects)
			case holds > 1, holds > 0 && effects > 0 && !off:
				return fmt.Errorf("%s, which is %s/%s, has %d holds and %d effects", name, n.Slurm, n.Supply, holds, effects)
			case holds+effects == 0 && !off && !stale && known && !j.policy.Shadow:
				return fmt.Errorf("%s, which is %s/%s, has neither effect nor reason", name, n.Slurm, n.Supply)
			}
		}
	}
	return nil
}

// due: a plan on fresh facts is due again in the future or never, and timers
// see to it.
func (j judge) due() error {
	asOf := j.facts.Snapshot.AsOf
	switch {
	case asOf.IsZero():
		return nil
	case j.now.Sub(asOf) >= j.policy.MaxActAge:
		if j.plan.NextDue.IsZero() || j.plan.NextDue.After(j.now) {
			return fmt.Errorf("on stale facts is due at %v: a snapshot that says nothing new would not be looked at", j.plan.NextDue)
		}
		return nil
	case (j.plan.Look || j.plan.Status) && (j.plan.NextDue.IsZero() || j.plan.NextDue.Sub(j.now) > time.Minute):
		return fmt.Errorf("asks CycleCloud and is not due before %v", j.plan.NextDue)
	case j.plan.NextDue.IsZero():
		return nil
	}
	if !j.plan.NextDue.After(j.now) {
		return fmt.Errorf("is due again at once: %v", j.plan.NextDue)
	}
	for _, a := range j.facts.After(j.now, j.plan).Nodearrays {
		for _, t := range a.Armed {
			if t.At.After(j.now) && !t.At.After(j.plan.NextDue.Add(time.Second)) {
				return nil
			}
		}
	}
	return fmt.Errorf("is due at %v and no timer is armed for it", j.plan.NextDue)
}

func (j judge) array(name NodearrayName) Nodearray {
	for _, a := range j.policy.Nodearrays {
		if a.Name == name {
			return a
		}
	}
	return Nodearray{}
}
