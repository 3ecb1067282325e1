package burst

import (
	"slices"
	"time"
)

// CommandTTL is how long a command to Slurm may stay unanswered before it is
// forgotten and decided anew.
const CommandTTL = 90 * time.Second

// After gives the facts as they stand once the plan is committed and nothing
// has answered yet. Deciding again on them adds nothing.
func (f Facts) After(now time.Time, p Plan) Facts {
	f.Nodes = slices.Clone(f.Nodes)
	f.Nodearrays = slices.Clone(f.Nodearrays)
	index := make(map[NodeName]int, len(f.Nodes))
	for i, n := range f.Nodes {
		index[n.Name] = i
	}
	change := func(name NodeName, do func(*Node)) {
		if i, ok := index[name]; ok {
			do(&f.Nodes[i])
		}
	}
	for _, x := range p.Failures {
		change(x.Node, func(n *Node) { n.failed(now, x.Reason.Code) })
	}
	for _, c := range p.Creates {
		for _, name := range c.Nodes {
			change(name, func(n *Node) { n.create(now, f.Snapshot.Position) })
		}
	}
	for _, t := range p.Terminates {
		for _, target := range t.Targets {
			change(target.Node, func(n *Node) { n.Supply, n.TerminatedAt = Leaving, now })
		}
	}
	for _, c := range p.Commands {
		for _, name := range c.Nodes {
			change(name, func(n *Node) { n.commanded(now, c.Kind) })
		}
	}
	for i := range f.Nodearrays {
		f.Nodearrays[i] = f.Nodearrays[i].after(p)
	}
	return f
}

func (n *Node) create(now time.Time, at Position) {
	n.Supply, n.NodeID = Creating, ""
	n.Created = Generation{Position: at, ResumeID: n.ResumeID}
	n.CreatedAt, n.TerminatedAt = now, time.Time{}
}

func (n *Node) commanded(now time.Time, kind CommandKind) {
	n.Command = OpenCommand{Kind: kind, ExpiresAt: now.Add(CommandTTL)}
	if kind == AbortBoot {
		n.AbortedAt = now
	}
}

// failed notes a failure. A VM that vanished is forgotten: its name may be
// created again.
func (n *Node) failed(now time.Time, code Code) {
	n.FailedAt = now
	if code == ReasonVanished || code == ReasonCreateRefused {
		n.RefusedAt = now
		n.NodeID, n.CreatedAt, n.Created = "", time.Time{}, Generation{}
	}
}

func (a NodearrayFacts) after(p Plan) NodearrayFacts {
	for _, c := range p.Closings {
		if c.Nodearray == a.Name && c.Until.After(a.ClosedUntil) {
			a.ClosedUntil = c.Until
		}
	}
	a.Armed = slices.Clone(a.Armed)
	for _, t := range p.Timers {
		if t.Nodearray != a.Name {
			continue
		}
		a.Armed = slices.DeleteFunc(a.Armed, func(old Timer) bool { return old.Purpose == t.Purpose })
		a.Armed = append(a.Armed, t)
	}
	return a
}
