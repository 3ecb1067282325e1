package burst

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (s *overflowShell) begin(p *modelPass) {
	p.stage, p.at = s.load, s.now
	s.passes = append(s.passes, p)
}

// slow is when the next stage of a pass comes: mostly at once, sometimes so
// late that another pass comes in between.
func (s *overflowShell) slow() time.Time {
	if s.mishap(4) {
		return s.now.Add(s.span(1, 12))
	}
	return s.now
}

// load rolls forward what somebody left behind and takes a copy of the facts.
func (s *overflowShell) load(p *modelPass) {
	for _, i := range slices.Clone(s.ledger.intents) {
		if !s.now.Before(i.claimed) {
			i.owner, i.claimed = p, s.now.Add(90*time.Second)
			s.carryOut(p, i)
		}
	}
	l := &s.ledger
	p.revision, p.facts, p.decided, p.answered = l.revision, l.facts, l.decided, nil
	p.facts.Nodes = slices.Clone(l.facts.Nodes)
	p.facts.CycleCloudFailed = false
	for i := range p.facts.Nodearrays {
		p.facts.Nodearrays[i].Available = Availability{}
	}
	if m := p.arrived; m != nil && m.snapshot.After(p.facts.Snapshot.Position) {
		s.takes(p, m)
	}
	s.overlayCommands(p)
	for i := range p.facts.Nodes {
		notePassage(&p.facts.Nodes[i], p.facts.Snapshot.Position)
	}
	if p.sweep {
		p.facts.Paused = s.mishap(12)
		s.listAll(p)
	}
	p.stage, p.at = s.decideAndCommit, s.slow()
}

// takes replaces what the snapshot before said.
func (s *overflowShell) takes(p *modelPass, m *flowMail) {
	f := &p.facts
	f.Snapshot, f.Groups, f.Running, f.Ended, f.Finished = m.snapshot, m.groups, m.running, m.ended, m.finished
	f.Local, f.Partitions = m.local, m.partitions
	for i := range f.Nodes {
		n, r := &f.Nodes[i], m.nodes[i]
		n.Slurm, n.Since, n.ResumeID, n.Jobs = r.Slurm, r.Since, r.ResumeID, r.Jobs
	}
	p.decided, p.answered = m.turns, m.answers
}

// overlayCommands joins the commands without an answer with the facts.
func (s *overflowShell) overlayCommands(p *modelPass) {
	for i := range p.facts.Nodes {
		p.facts.Nodes[i].Command = OpenCommand{}
	}
	p.facts.JobCommands = nil
	for _, o := range s.ledger.sent {
		if slices.Contains(p.answered, o.id) || s.now.After(o.expires) {
			continue
		}
		for i := range p.facts.Nodes {
			if n := &p.facts.Nodes[i]; slices.Contains(o.command.Nodes, n.Name) && o.expires.After(n.Command.ExpiresAt) {
				n.Command = OpenCommand{o.command.Kind, o.expires}
			}
		}
		if len(o.command.Jobs) > 0 || o.command.Kind == GatePartition {
			p.facts.JobCommands = append(p.facts.JobCommands, JobCommand{o.command.Kind, o.command.Jobs, o.command.Partition, o.expires})
		}
	}
}

// unsettled reports whether what becomes of the node is being asked for.
func (s *overflowShell) unsettled(name NodeName) bool {
	return slices.ContainsFunc(s.ledger.intents, func(i *modelIntent) bool {
		return i.create != nil && slices.Contains(i.create.Nodes, name) ||
			i.terminate != nil && slices.ContainsFunc(i.terminate.Targets, func(t Target) bool { return t.Node == name })
	})
}

func (s *overflowShell) listAll(p *modelPass) {
	if p.facts.CycleCloudFailed = s.now.Before(s.down); p.facts.CycleCloudFailed {
		return
	}
	for i := range p.facts.Nodes {
		if n := &p.facts.Nodes[i]; !s.unsettled(n.Name) {
			s.show(n)
		}
	}
}

// decides asks CycleCloud where the core wants to know more. Whoever looks at
// the same facts comes to the same plan.
func (s *overflowShell) decides(p *modelPass) Plan {
	for range 3 {
		plan := Decide(s.now, s.policy, p.facts)
		if s.chance(50) {
			if other := Decide(s.now, s.policy, copyOf(p.facts)); !reflect.DeepEqual(plan, other) {
				s.breaks("two deciders differ:\n%s", cmp.Diff(plan, other))
			}
		}
		switch {
		case p.facts.CycleCloudFailed || !plan.Look && !plan.Status:
			return plan
		case plan.Look:
			s.listAll(p)
		case s.now.Before(s.down):
			p.facts.CycleCloudFailed = true
		default:
			p.facts.Nodearrays = slices.Clone(p.facts.Nodearrays)
			for i := range p.facts.Nodearrays {
				p.facts.Nodearrays[i].Available = s.offers(i)
			}
		}
	}
	return Decide(s.now, s.policy, p.facts)
}

// decideAndCommit is one transaction: who looked at an older revision loses,
// and begins anew.
func (s *overflowShell) decideAndCommit(p *modelPass) {
	plan := s.decides(p)
	s.plans++
	if p.revision != s.ledger.revision {
		s.conflicts++
		p.tries++
		p.stage, p.over = s.load, p.tries > 5
		return
	}
	if s.mishap(60) { // killed before the commit: nothing has happened
		s.crashes++
		p.over = true
		return
	}
	reasonsOf(plan, func(r Reason) { s.met[r.Code]++ })
	if plan.Acts() || len(plan.Failures) > 0 {
		s.tell("%s\n%s", s.picture(), renderPlan(s.now, plan))
	}
	next := p.facts.After(s.now, plan)
	s.audit.commit(p.facts, plan, next)
	again := Decide(s.now, s.policy, next)
	next = next.After(s.now, Plan{Timers: again.Timers, Memory: next.Memory})
	l := &s.ledger
	l.revision++
	l.facts, l.due, l.decided = next, again.NextDue, p.decided
	l.sent = slices.DeleteFunc(slices.Clone(l.sent), func(c sentCommand) bool {
		return slices.Contains(p.answered, c.id) || s.now.After(c.expires)
	})
	p.intents = s.intentsOf(p, plan)
	l.intents = append(slices.Clone(l.intents), p.intents...)
	if s.mishap(40) { // killed after it: somebody else finds the intents
		s.crashes++
		p.over = true
		return
	}
	p.stage, p.at = s.act, s.slow()
}

func (s *overflowShell) intentsOf(p *modelPass, plan Plan) []*modelIntent {
	l := &s.ledger
	var all []*modelIntent
	add := func() *modelIntent {
		i := &modelIntent{
			request: fmt.Sprintf("%d/%02d", l.revision, len(all)), generation: l.revision, owner: p,
			claimed: s.now.Add(90 * time.Second), notAfter: s.now.Add(5 * time.Minute),
		}
		if s.mishap(3) {
			i.claimed = s.now.Add(s.span(5, 20)) // a function that says that it gives up
		}
		all = append(all, i)
		return i
	}
	for _, c := range plan.Commands {
		l.ids++
		sent := sentCommand{l.ids, c, s.now.Add(CommandTTL)}
		l.sent = append(l.sent, sent)
		add().command = &sent
	}
	for _, t := range plan.Terminates {
		add().terminate = &t
	}
	for _, c := range plan.Creates {
		add().create = &c
	}
	return all
}

// act carries out what the pass committed, and decides again where something
// came out differently.
func (s *overflowShell) act(p *modelPass) {
	for _, i := range p.intents {
		if i.settled || i.owner != p || !s.now.Before(i.claimed) {
			continue
		}
		if s.mishap(80) {
			s.crashes++
			p.over = true
			return
		}
		s.carryOut(p, i)
	}
	p.intents = nil
	p.rounds++
	if p.surprised && p.rounds < 3 {
		p.surprised = false
		p.stage, p.at = s.load, s.now
		return
	}
	p.over = true
}

// carryOut makes an effect happen, and settles it. It may have happened before.
func (s *overflowShell) carryOut(p *modelPass, i *modelIntent) {
	switch {
	case i.command != nil:
		s.sendOrder(i)
	case s.now.Before(s.down):
		i.claimed = s.now.Add(15 * time.Second) // CycleCloud does not answer
		return
	case s.now.After(i.notAfter) && i.terminate != nil: // history
	case i.terminate != nil:
		for _, t := range i.terminate.Targets {
			s.terminate(t)
			if s.mishap(4) {
				s.terminate(t)
			}
		}
	case s.now.After(i.notAfter) && s.answers[i.request] == nil: // history
		s.ledger.facts.Nodes = slices.Clone(s.ledger.facts.Nodes)
		for k := range s.ledger.facts.Nodes {
			if n := &s.ledger.facts.Nodes[k]; slices.Contains(i.create.Nodes, n.Name) {
				n.Forget()
			}
		}
	default:
		array := slices.IndexFunc(s.policy.Nodearrays, func(a Nodearray) bool { return a.Name == i.create.Nodearray })
		taken := s.makes(i.request, array, i.create.Nodes)
		if s.mishap(8) {
			taken = s.makes(i.request, array, i.create.Nodes)
		}
		if s.mishap(30) {
			s.crashes++ // killed before it could note the answer
			i.claimed = s.now
			return
		}
		s.noteTaken(p, i.create.Nodes, taken)
	}
	i.settled = true
	s.ledger.intents = slices.DeleteFunc(slices.Clone(s.ledger.intents), func(o *modelIntent) bool { return o == i })
	s.ledger.revision++
}

func (s *overflowShell) noteTaken(p *modelPass, names []NodeName, taken map[NodeName]bool) {
	l := &s.ledger
	l.facts.Nodes = slices.Clone(l.facts.Nodes)
	for k := range l.facts.Nodes {
		n := &l.facts.Nodes[k]
		switch {
		case !slices.Contains(names, n.Name):
		case taken[n.Name] && s.vms[n.Name] != nil:
			n.Supply, n.NodeID, n.SeenAt = Booting, s.vms[n.Name].id, s.now
		case taken[n.Name]: // it is gone already, as a look will show
			n.Supply, n.SeenAt = Absent, s.now
		default:
			n.Fail(s.now, ReasonCreateRefused)
			p.surprised = true
		}
	}
}

func (s *overflowShell) sendOrder(i *modelIntent) {
	c := i.command
	if s.now.After(c.expires) {
		return
	}
	o := order{id: c.id, command: c.command, at: s.now.Add(s.span(0, 4)), expires: c.expires, silent: s.mishap(10), generation: i.generation}
	if n := len(s.orders); n > 0 && o.at.Before(s.orders[n-1].at) {
		o.at = s.orders[n-1].at // a session keeps its order
	}
	if s.mishap(10) {
		return // lost
	}
	s.orders = append(s.orders, o)
	if s.mishap(10) {
		s.orders = append(s.orders, o)
	}
}
