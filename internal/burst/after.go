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
		change(x.Node, func(n *Node) { n.Fail(now, x.Reason.Code) })
	}
	for _, c := range p.Creates {
		for _, name := range c.Nodes {
			change(name, func(n *Node) { n.Create(now, Generation{f.Snapshot.Position, n.ResumeID}) })
		}
	}
	for _, t := range p.Terminates {
		for _, target := range t.Targets {
			change(target.Node, func(n *Node) { n.Terminate(now) })
		}
	}
	for _, c := range p.Commands {
		for _, name := range c.Nodes {
			change(name, func(n *Node) { n.Send(c.Kind, now, now.Add(CommandTTL)) })
		}
	}
	for _, c := range p.Commands {
		if len(c.Jobs) > 0 || c.Kind == GatePartition {
			f.JobCommands = append(slices.Clip(f.JobCommands), JobCommand{Kind: c.Kind, Jobs: c.Jobs, Partition: c.Partition, ExpiresAt: now.Add(CommandTTL)})
		}
	}
	f.Memory = p.Memory
	for _, t := range p.Timers {
		f.Nodearrays = withNodearray(f.Nodearrays, t.Nodearray)
	}
	for i := range f.Nodearrays {
		f.Nodearrays[i] = f.Nodearrays[i].after(p)
	}
	return f
}

// withNodearray adds a nodearray of which nothing was known.
func withNodearray(arrays []NodearrayFacts, name NodearrayName) []NodearrayFacts {
	if slices.ContainsFunc(arrays, func(a NodearrayFacts) bool { return a.Name == name }) {
		return arrays
	}
	return append(arrays, NodearrayFacts{Name: name})
}

// Create notes that CycleCloud is being asked for a VM under the name.
func (n *Node) Create(now time.Time, g Generation) {
	n.Supply, n.NodeID = Creating, ""
	n.Created, n.CreatedAt, n.TerminatedAt, n.DownAt = g, now, time.Time{}, Position{}
}

// Terminate notes that CycleCloud is being asked to delete the VM.
func (n *Node) Terminate(now time.Time) { n.Supply, n.TerminatedAt = Leaving, now }

// Send notes that a command about the node is on its way to Slurm.
func (n *Node) Send(kind CommandKind, now, expires time.Time) {
	n.Command = OpenCommand{Kind: kind, ExpiresAt: expires}
	if kind == AbortBoot && now.After(n.AbortedAt) {
		n.AbortedAt = now
	}
}

// Fail notes a failure. A VM that was refused or that vanished is forgotten:
// its name may be created again. One that CycleCloud still lists is not.
func (n *Node) Fail(now time.Time, code Code) {
	n.FailedAt = now
	if code == ReasonCreateRefused || (code == ReasonVanished && n.Supply == Absent) {
		n.RefusedAt = now
		n.Forget()
	}
}

// Forget notes that CycleCloud has nothing under the name.
func (n *Node) Forget() {
	n.Supply, n.NodeID = Absent, ""
	n.Created, n.CreatedAt, n.TerminatedAt, n.DownAt = Generation{}, time.Time{}, time.Time{}, Position{}
}

func (a NodearrayFacts) after(p Plan) NodearrayFacts {
	for _, c := range p.Creates {
		if c.Nodearray == a.Name {
			a.Available.Count -= len(c.Nodes)
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
