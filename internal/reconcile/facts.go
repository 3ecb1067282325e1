package reconcile

import (
	"fmt"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// view is the newest snapshot and when it was taken by the cloud's clock.
type view struct {
	pressure event.QueuePressure
	position burst.Position
	// takenAt is pressure.TakenAt in the cloud's clock; asOf is the newest
	// moment at which the snapshot is known to have held.
	takenAt, asOf time.Time
}

// cloudTime turns a moment of the head node's clock into the cloud's. Only
// differences within one snapshot are used.
func (v view) cloudTime(t time.Time) time.Time {
	if t.IsZero() {
		return v.takenAt
	}
	return v.takenAt.Add(t.Sub(v.pressure.TakenAt))
}

// slurmNode is what a snapshot says about one node.
type slurmNode struct {
	state    burst.SlurmState
	base     string
	flags    []string
	since    time.Time
	resumeID string
	jobs     []burst.BootJob
}

// slurmNodes spreads the groups of a snapshot over the nodes of the policy. A
// node that no group names is powered down, if the snapshot speaks of its
// nodearray at all.
func (v view) slurmNodes(policy burst.Policy) (map[burst.NodeName]slurmNode, error) {
	nodes := map[burst.NodeName]slurmNode{}
	for _, array := range policy.Nodearrays {
		for i := range v.pressure.CloudNodes {
			c := &v.pressure.CloudNodes[i]
			if c.Nodearray != string(array.Name) {
				continue
			}
			for _, name := range array.Nodes {
				nodes[name] = slurmNode{state: burst.PoweredDown, base: "IDLE", flags: []string{"POWERED_DOWN"}, since: v.takenAt}
			}
			if err := v.addGroups(nodes, c); err != nil {
				return nil, fmt.Errorf("read nodes of %s: %w", array.Name, err)
			}
		}
	}
	return nodes, nil
}

func (v view) addGroups(nodes map[burst.NodeName]slurmNode, c *event.CloudNodes) error {
	set := func(hostlist string, n slurmNode) error {
		names, err := slurm.ParseHostlist(hostlist)
		if err != nil {
			return fault.New(fault.Invalid, "expand hostlist", err)
		}
		for _, name := range names {
			if _, known := nodes[burst.NodeName(name)]; known {
				nodes[burst.NodeName(name)] = n
			}
		}
		return nil
	}
	if err := set(c.Undefined, slurmNode{state: burst.Undefined, since: v.takenAt}); err != nil {
		return err
	}
	for _, g := range c.Groups {
		n := slurmNode{state: slurmState(g.State, g.Flags, g.Reason), base: g.State, flags: g.Flags, since: v.cloudTime(g.Since)}
		if err := set(g.Nodes, n); err != nil {
			return err
		}
	}
	for _, up := range c.PoweringUp {
		n, known := nodes[burst.NodeName(up.Node)]
		if !known {
			continue
		}
		n.resumeID = up.ResumeID
		for _, job := range up.Jobs {
			n.jobs = append(n.jobs, burst.BootJob{ID: string(job.ID), Requeueable: job.Batch && job.Requeue})
		}
		nodes[burst.NodeName(up.Node)] = n
	}
	return nil
}

// facts joins snapshot, rows and open commands. Nothing of it is changed by
// reading it again.
func (p *pass) buildFacts() error {
	slurmNodes, err := p.view.slurmNodes(p.config.Policy)
	if err != nil {
		return err
	}
	p.slurm = slurmNodes
	f := burst.Facts{
		Snapshot: burst.Snapshot{Position: p.view.position, AsOf: p.view.asOf},
		Paused:   p.part.Cluster.Paused,
		Cut:      p.view.pressure.Hides(),
	}
	if f.Memory, err = memoryOf(p.part.Budget); err != nil {
		return err
	}
	p.stored, p.shown = f.Memory, f.Memory
	p.index = map[burst.NodeName]int{}
	for _, array := range p.config.Policy.Nodearrays {
		f.Nodearrays = append(f.Nodearrays, p.arrayFacts(array.Name))
		for _, name := range array.Nodes {
			p.index[name] = len(f.Nodes)
			f.Nodes = append(f.Nodes, p.joinNode(array.Name, name))
		}
	}
	p.view.addQueue(&f, p.config.Policy, func(name burst.NodeName) (burst.NodearrayName, bool) {
		at, ours := p.index[name]
		if !ours {
			return "", false
		}
		return f.Nodes[at].Nodearray, true
	})
	p.facts = f
	return nil
}

func (p *pass) joinNode(array burst.NodearrayName, name burst.NodeName) burst.Node {
	row, stored := p.rows[string(name)]
	s := p.slurm[name]
	n := burst.Node{Name: name, Nodearray: array, Slurm: s.state, Since: s.since, ResumeID: s.resumeID, Jobs: s.jobs}
	swept := p.part.Cluster.SweptAt
	if !stored {
		if !swept.IsZero() {
			n.Supply, n.SeenAt = burst.Absent, swept
		}
		return n
	}
	n.Supply, n.NodeID, n.SeenAt = burst.ParseSupply(row.Supply), row.NodeID, row.SeenAt
	if swept.After(n.SeenAt) {
		n.SeenAt = swept
	}
	n.Created = burst.Generation{Position: burst.Position{Epoch: row.CreatedEpoch, Sequence: row.CreatedSequence}, ResumeID: row.ResumeID}
	n.CreatedAt, n.TerminatedAt = row.CreatedAt, row.TerminatedAt
	n.DownAt = burst.Position{Epoch: row.DownEpoch, Sequence: row.DownSequence}
	n.AbortedAt, n.RefusedAt, n.FailedAt = row.LastAbortAt, row.RefusedAt, row.FailedAt
	return n
}

func (p *pass) arrayFacts(name burst.NodearrayName) burst.NodearrayFacts {
	a := burst.NodearrayFacts{Name: name}
	row := p.arrays[string(name)]
	for _, t := range []struct {
		purpose burst.Purpose
		timer   ledger.Timer
	}{{burst.BootDeadline, row.BootDeadline}, {burst.IdleDeadline, row.IdleDeadline}, {burst.Retry, row.Retry}} {
		if !t.timer.At.IsZero() && !p.fires(row.Name, t.purpose, t.timer) {
			a.Armed = append(a.Armed, burst.Timer{Nodearray: name, Purpose: t.purpose, At: t.timer.At})
		}
	}
	return a
}

// notePassage keeps what the core needs to tell one generation of a node name
// from the next: the newest snapshot that saw the name down, and the resume
// call that a VM answers.
func (p *pass) notePassage() {
	for i := range p.facts.Nodes {
		n := &p.facts.Nodes[i]
		switch n.Slurm {
		case burst.PoweredDown, burst.Fenced, burst.Drained, burst.PoweringDown, burst.DownPoweredDown, burst.StuckPoweredDown:
			switch {
			case n.Supply == burst.Absent:
				n.Forget() // nothing can vanish any more
			case n.Supply != burst.SupplyUnknown && n.DownAt == burst.Position{} && p.view.position.After(n.Created.Position):
				n.DownAt = p.view.position
			}
		case burst.PoweringUp:
			if n.Supply != burst.Absent && n.Created.ResumeID == "" && n.DownAt == (burst.Position{}) {
				n.Created.ResumeID = n.ResumeID
			}
		case burst.SlurmUnknown, burst.Undefined, burst.Waking, burst.Idle, burst.Busy, burst.Reserved, burst.DrainedUp,
			burst.Down, burst.NotResponding, burst.PowerDownPending, burst.DownPoweringUp:
		}
	}
}

// observe lays CycleCloud's whole node list over the facts. Nodes that were
// created after the list was asked for, or whose create or terminate is still
// open, are not judged by it.
//
// SweptAt moves only if the list says what the rows say already: names without
// a row count as absent since then, and a crash before the rows are written
// must not make a VM that was just found disappear again.
func (p *pass) observe(list []cyclecloud.Node, asked time.Time) {
	byName := map[burst.NodeName]cyclecloud.Node{}
	for _, n := range list {
		name := burst.NodeName(n.Name)
		i, ours := p.index[name]
		if !ours {
			p.stray(n, asked)
			continue
		}
		if old, double := byName[name]; double && !preferred(n, old, p.facts.Nodes[i].NodeID) {
			continue
		}
		byName[name] = n
	}
	told := true
	for i := range p.facts.Nodes {
		n := &p.facts.Nodes[i]
		if n.CreatedAt.After(asked) || p.opening[n.Name] != "" {
			continue
		}
		n.SeenAt = asked
		record, listed := byName[n.Name]
		if listed {
			p.status[n.Name] = record.StatusText
			p.present(n, record, asked)
		} else {
			p.status[n.Name] = ""
			p.absent(n)
		}
		told = told && p.told(n)
	}
	p.straysGone(list, asked)
	if told {
		p.part.Cluster.SweptAt = asked
	}
	p.swept = true
}

// told reports whether the node's row says what the facts say about its VM.
func (p *pass) told(n *burst.Node) bool {
	row, stored := p.rows[string(n.Name)]
	if !stored {
		return n.Supply == burst.Absent
	}
	return burst.ParseSupply(row.Supply) == n.Supply && row.NodeID == n.NodeID
}

// preferred reports whether, of two records under one name, a tells more about
// the node than b: our own VM, then one that is not on its way out.
func preferred(a, b cyclecloud.Node, nodeID string) bool {
	if (string(a.ID) == nodeID) != (string(b.ID) == nodeID) {
		return string(a.ID) == nodeID
	}
	return supplyOf(a) != burst.Leaving && supplyOf(b) == burst.Leaving
}

func (p *pass) absent(n *burst.Node) {
	if n.CreatedAt.IsZero() || !n.TerminatedAt.IsZero() {
		n.Forget()
		return
	}
	n.Supply = burst.Absent // and CreatedAt stays: the core sees that it vanished
}

func (p *pass) present(n *burst.Node, record cyclecloud.Node, now time.Time) {
	if n.NodeID != string(record.ID) && n.NodeID != "" {
		n.Forget() // another VM took the name
	}
	n.NodeID, n.Supply = string(record.ID), supplyOf(record)
	if n.CreatedAt.IsZero() {
		n.CreatedAt = now // found, not made by us as far as we know
	}
}
