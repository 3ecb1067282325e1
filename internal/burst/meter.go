package burst

import (
	"cmp"
	"slices"
	"time"
)

// maxAccrual bounds what one reading of a meter books: what nodes did in a long
// silence is not known.
const maxAccrual = 24 * time.Hour

// bills reports whether a VM in this state costs money.
func (s Supply) bills() bool { return s.present() && s != Off }

// use is what a node's VM is good for at the moment.
type use int

const (
	usedNot   use = iota // no VM that bills
	usedByJob            // a job runs there, or may: its commitment pays
	usedToBoot
	usedIdle
)

// use tells what the node's VM does. A VM that bills and neither boots nor has
// a job idles, whatever Slurm thinks of the node.
func (n *Node) use() use {
	if !n.Supply.bills() {
		return usedNot
	}
	switch n.Slurm {
	case Waking, PoweringUp, DownPoweringUp:
		return usedToBoot
	case Busy, NotResponding, PowerDownPending, SlurmUnknown:
		return usedByJob
	case Undefined, PoweredDown, Fenced, Drained, Idle, Reserved, DrainedUp, Down, PoweringDown, DownPoweredDown, StuckPoweredDown, slurmStates:
	}
	return usedIdle
}

// readMeters books what nodes without a job cost since the last reading, and
// counts them anew. A nodearray that wastes nothing has no meter.
func readMeters(now time.Time, p Policy, f Facts, old []Meter, books *bookkeeper) []Meter {
	readAt := make(map[NodearrayName]time.Time, len(old))
	for i := range old {
		m := &old[i]
		readAt[m.Nodearray] = m.At
		until := now
		if last := m.At.Add(maxAccrual); last.Before(until) {
			until = last
		}
		if m.At.Before(until) {
			books.waste(m, until)
		}
	}
	meters := make([]Meter, len(p.Nodearrays))
	index := make(map[NodearrayName]int, len(p.Nodearrays))
	for i, a := range p.Nodearrays {
		// A clock that went back must not make the same time count twice.
		meters[i] = Meter{Nodearray: a.Name, At: later(now, readAt[a.Name]).UTC(), Rate: a.Price}
		index[a.Name] = i
	}
	waiting := make([]pool, len(p.Nodearrays))
	for i := range f.Nodes {
		n := &f.Nodes[i]
		at, known := index[n.Nodearray]
		if !known {
			continue
		}
		waiting[at].see(n)
		switch n.use() {
		case usedToBoot:
			meters[at].Booting++
		case usedIdle:
			meters[at].Idle++
		case usedNot, usedByJob:
		}
	}
	for i := range f.Running {
		if at, known := index[f.Running[i].Nodearray]; known {
			waiting[at].take(&f.Running[i])
		}
	}
	for at := range waiting {
		meters[at].Booting += waiting[at].idleUntilStart()
	}
	meters = slices.DeleteFunc(meters, func(m Meter) bool { return m.Booting+m.Idle == 0 })
	slices.SortFunc(meters, func(a, b Meter) int { return cmp.Compare(a.Nodearray, b.Nodearray) })
	return meters
}

// pool counts the nodes of a nodearray that are up and allocated to jobs that
// have not begun: Slurm begins a job when the last of its nodes has booted, and
// bills no time before. What the others cost until then belongs to the boot.
type pool struct {
	waking, busy, configuring, running int
}

func (p *pool) see(n *Node) {
	switch n.Slurm {
	case Waking, PoweringUp, DownPoweringUp:
		p.waking++
	case Busy:
		if n.Supply.bills() {
			p.busy++
		}
	case SlurmUnknown, Undefined, PoweredDown, Fenced, Drained, Idle, Reserved, DrainedUp, Down, NotResponding,
		PowerDownPending, PoweringDown, DownPoweredDown, StuckPoweredDown, slurmStates:
	}
}

func (p *pool) take(r *RunningJob) {
	if r.Configuring {
		p.configuring += max(0, r.Nodes)
	} else {
		p.running += max(0, r.Nodes)
	}
}

// idleUntilStart is how many nodes wait for others. Where jobs share nodes it
// counts too few rather than too many.
func (p *pool) idleUntilStart() int {
	return max(0, min(p.configuring-p.waking, p.busy-p.running))
}
