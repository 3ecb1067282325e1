package burst

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// roomWorld is a cluster under one limit, told by snapshots: Slurm carries out
// fences late, and starts jobs on whatever it may allocate meanwhile.
type roomWorld struct {
	t      *rapid.T
	now    time.Time
	policy Policy
	nodes  map[NodeName]*roomNode
	jobs   []Group
	memory Memory
	serial int
	within bool // the limit was kept once
	frozen bool // Slurm starts nothing
	given  int  // names that were given back
}

// roomNode is a name: what Slurm does with it, and the command on its way to it.
type roomNode struct {
	state   SlurmState
	since   time.Time
	command OpenCommand
	at      time.Time // when the command is carried out
	ends    int       // steps until its job is over
}

const roomStep = 10 * time.Second

func drawRoomWorld(t *rapid.T) *roomWorld {
	w := &roomWorld{t: t, now: origin, nodes: map[NodeName]*roomNode{}, policy: Policy{Version: "1", Cluster: "onprem", MaxActAge: 90 * time.Second}}
	all := 0
	for i := range rapid.IntRange(2, 3).Draw(t, "nodearrays") {
		a := Nodearray{
			Name: NodearrayName("array" + strconv.Itoa(i)), Partition: "cloud" + strconv.Itoa(i), MachineType: "Standard_F4s_v2",
			IdleTimeout: 5 * time.Minute, BootDeadline: 10 * time.Minute,
		}
		kind := rapid.SampledFrom([]SlurmState{PoweredDown, Fenced, SlurmUnknown}).Draw(t, "at first")
		for n := range rapid.IntRange(1, 5).Draw(t, "names") {
			name := NodeName(fmt.Sprintf("n%d-%d", i, n))
			a.Nodes = append(a.Nodes, name)
			w.nodes[name] = &roomNode{state: kind, since: origin}
			if kind == SlurmUnknown {
				w.nodes[name].state = rapid.SampledFrom([]SlurmState{PoweredDown, Fenced, Busy}).Draw(t, "state")
				w.nodes[name].ends = rapid.IntRange(1, 9).Draw(t, "ends")
			}
		}
		a.MaxNodes = rapid.IntRange(1, len(a.Nodes)).Draw(t, "max nodes")
		all += a.MaxNodes
		w.policy.Nodearrays = append(w.policy.Nodearrays, a)
	}
	w.policy.MaxNodes = rapid.IntRange(1, all).Draw(t, "cluster's nodes")
	return w
}

func (w *roomWorld) submit(array Nodearray, nodes, count int) {
	w.serial++
	g := Group{
		Key: "g" + strconv.Itoa(w.serial), Partitions: []string{array.Partition}, User: "eva", Account: "physics", StateReason: "Resources",
		Nodes: nodes, CPUs: nodes, TimeLimit: time.Hour, Batch: true, Requeue: true, Count: count, OldestSubmit: w.now, NewestSubmit: w.now,
	}
	w.jobs = append(w.jobs, g)
}

// lives lets Slurm carry out what is due and start and end jobs.
func (w *roomWorld) lives() {
	for _, array := range w.policy.Nodearrays {
		for _, name := range array.Nodes {
			n := w.nodes[name]
			if n.command.Kind != "" && !w.now.Before(n.at) {
				switch {
				case n.command.Kind == FenceNodes && n.state == PoweredDown:
					n.state = Fenced
				case n.command.Kind == UnfenceNodes && n.state == Fenced:
					n.state = PoweredDown
				}
				n.command = OpenCommand{}
			}
			switch {
			case n.state == PoweringDown:
				n.state = PoweredDown
			case n.state == Busy && n.ends == 0:
				n.state, n.since = PoweringDown, w.now
			case n.state == Busy:
				n.ends--
			}
		}
	}
	if !w.frozen {
		w.jobs = slices.DeleteFunc(w.jobs, func(g Group) bool { return w.starts(&g) })
	}
}

// starts starts the group's first job where Slurm may, and reports whether none
// is left; groups have one job while Slurm starts any.
func (w *roomWorld) starts(g *Group) bool {
	at := slices.IndexFunc(w.policy.Nodearrays, func(a Nodearray) bool { return a.Partition == g.Partitions[0] })
	var free []*roomNode
	for _, name := range w.policy.Nodearrays[at].Nodes {
		if n := w.nodes[name]; n.state == PoweredDown {
			free = append(free, n)
		}
	}
	if len(free) < g.Nodes {
		return false
	}
	for _, n := range free[:g.Nodes] {
		n.state, n.since, n.ends = Busy, w.now, rapid.IntRange(0, 5).Draw(w.t, "runs")
	}
	return true
}

func (w *roomWorld) facts() Facts {
	w.serial++
	f := Facts{Snapshot: Snapshot{Position{1, int64(w.serial)}, w.now}, Groups: slices.Clone(w.jobs), Memory: w.memory}
	for _, array := range w.policy.Nodearrays {
		f.Partitions = append(f.Partitions, Partition{Name: array.Partition, Up: true})
		for _, name := range array.Nodes {
			n := w.nodes[name]
			told := Node{Name: name, Nodearray: array.Name, Slurm: n.state, Supply: Absent, Since: n.since, SeenAt: w.now, Command: n.command}
			if n.state == Busy {
				told.Supply, told.NodeID = Ready, "id-"+string(name)
			}
			f.Nodes = append(f.Nodes, told)
		}
	}
	return f
}

// pass decides on a snapshot and sends its commands on their way. It gives how
// many names they are about.
func (w *roomWorld) pass() (commands int) {
	f := w.facts()
	w.lives() // what happens while the function decides
	plan := Decide(w.now, w.policy, f)
	if err := breach(w.now, w.policy, f, plan); err != nil {
		w.t.Fatalf("the plan %v\n%s", err, renderPlan(w.now, plan))
	}
	w.memory = plan.Memory
	for _, c := range plan.Commands {
		for _, name := range c.Nodes {
			if c.Kind != FenceNodes && c.Kind != UnfenceNodes {
				continue
			}
			commands++
			if c.Kind == UnfenceNodes {
				w.given++
			}
			n := w.nodes[name]
			n.command = OpenCommand{c.Kind, w.now.Add(CommandTTL)}
			n.at = w.now.Add(roomStep * time.Duration(rapid.IntRange(0, 6).Draw(w.t, "late")))
		}
	}
	w.now = w.now.Add(roomStep)
	w.lives()
	w.limit()
	return commands
}

// limit: once the limit is kept, what is up, what Slurm may allocate and what is
// on its way back never exceed it again.
func (w *roomWorld) limit() {
	sum := 0
	for _, n := range w.nodes {
		if n.state != Fenced || n.command.Kind == UnfenceNodes {
			sum++
		}
	}
	if w.within && sum > w.policy.MaxNodes {
		w.t.Fatalf("%s: %d nodes are up or may be allocated, the limit is %d", w.now.Sub(origin), sum, w.policy.MaxNodes)
	}
	w.within = w.within || sum <= w.policy.MaxNodes
}

// may counts the names of a nodearray that Slurm may allocate.
func (w *roomWorld) may(array Nodearray) (names, taken int) {
	for _, name := range array.Nodes {
		switch w.nodes[name].state {
		case PoweredDown:
			names++
		case Fenced:
		default:
			taken++
		}
	}
	return names, taken
}

// Over any sequence of snapshots in which fences are confirmed late the cluster's
// limit holds, jobs get the room that others do not need, and then nothing moves.
func TestRoomGoesToThoseWhoNeedIt(t *testing.T) {
	moved := 0
	rapid.Check(t, func(t *rapid.T) {
		w := drawRoomWorld(t)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			if rapid.IntRange(0, 2).Draw(t, "submits") == 0 {
				w.submit(rapid.SampledFrom(w.policy.Nodearrays).Draw(t, "to"), rapid.IntRange(1, 3).Draw(t, "nodes"), 1)
			}
			if rapid.IntRange(0, 9).Draw(t, "new policy") == 0 {
				w.policy.MaxNodes, w.within = rapid.IntRange(1, w.policy.MaxNodes+2).Draw(t, "new limit"), false
			}
			w.pass()
		}
		ends := rapid.SampledFrom([]int{0, 1000}).Draw(t, "jobs end")
		for _, n := range w.nodes {
			n.ends = ends
		}
		w.frozen, w.jobs = true, nil
		wants := map[NodearrayName]int{}
		for _, array := range w.policy.Nodearrays {
			if wants[array.Name] = rapid.IntRange(0, 4).Draw(t, "wants"); wants[array.Name] > 0 {
				w.submit(array, 1, wants[array.Name])
			}
		}
		for range 30 {
			w.pass()
		}
		moved += w.given
		left := w.policy.MaxNodes
		for _, array := range w.policy.Nodearrays {
			_, taken := w.may(array)
			left -= taken
		}
		for _, array := range w.policy.Nodearrays {
			names, taken := w.may(array)
			due := min(wants[array.Name], array.MaxNodes-taken, left)
			if names < due {
				t.Fatalf("%s has %d nodes for its jobs after 30 snapshots, %d could be had", array.Name, names, due)
			}
			left -= max(due, 0)
		}
		for i := range 6 {
			if i == 3 {
				w.jobs = nil // the need is over
			}
			if n := w.pass(); n > 0 {
				t.Fatalf("%d names move though nobody needs more", n)
			}
		}
	})
	if moved < oneIn(2) {
		t.Errorf("only %d names were given back", moved)
	}
}
