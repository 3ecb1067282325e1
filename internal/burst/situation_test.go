package burst

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// situation is one golden file, read. Times in it are relative to now.
type situation struct {
	now    time.Time
	policy Policy
	facts  Facts
	plan   string
	// removed are the partitions that Slurm does not have.
	removed map[string]bool
}

// parseSituation reads
//
//	-- policy --  one nodearray a line: NAME nodes=HOSTLIST max=N idle=D boot=D [group=ID]
//	-- facts --   snapshot EPOCH/SEQUENCE age=D | none
//	              paused | cyclecloud does not answer
//	              nodearray NAME closed=D available=COUNT/MAX armed=PURPOSE@D
//	              node HOSTLIST SLURM/SUPPLY key=value… (jobs=ID requeueable, jobs=ID! not)
//	-- now --     a moment
//
// Names of the policy that no line speaks of are powered down and absent.
func parseSituation(t *testing.T, a *txtar.Archive) situation {
	t.Helper()
	title, rest, _ := strings.Cut(string(a.Comment), "\n")
	if title == "" || !strings.HasSuffix(title, ".") || strings.TrimSpace(rest) != "" {
		t.Fatalf("a situation is headed by one sentence, not %q", a.Comment)
	}
	sections := map[string]string{}
	for _, f := range a.Files {
		sections[f.Name] = string(f.Data)
	}
	now, err := time.Parse(time.DateTime, strings.TrimSpace(sections["now"]))
	if err != nil {
		t.Fatal(err)
	}
	s := situation{now: now, plan: sections["plan"], policy: Policy{Version: "1", Cluster: "onprem", MaxActAge: 90 * time.Second}}
	for line := range lines(sections["policy"]) {
		if !s.readPolicyLine(t, line) {
			s.readNodearray(t, line)
		}
	}
	for line := range lines(sections["facts"]) {
		s.readFact(t, line)
	}
	s.fillUp()
	return s
}

// lines yields the words of every line.
func lines(text string) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(text) {
			if words := strings.Fields(line); len(words) > 0 && !yield(words) {
				return
			}
		}
	}
}

func (s *situation) readNodearray(t *testing.T, words []string) {
	t.Helper()
	a := Nodearray{Name: NodearrayName(words[0]), Partition: words[0], MachineType: "Standard_F4s_v2"}
	for key, value := range pairs(t, words[1:]) {
		switch key {
		case "nodes":
			a.Nodes = expand(t, value)
		case "max":
			a.MaxNodes = number(t, value)
		case "idle":
			a.IdleTimeout = duration(t, value)
		case "boot":
			a.BootDeadline = duration(t, value)
		case "group":
			a.PlacementGroup = value
		default:
			if !s.readNodearrayKey(t, &a, key, value) {
				t.Fatalf("unknown key %q in the policy", key)
			}
		}
	}
	s.policy.Nodearrays = append(s.policy.Nodearrays, a)
}

func (s *situation) readFact(t *testing.T, words []string) {
	t.Helper()
	switch words[0] {
	case "paused":
		s.facts.Paused = true
	case "cyclecloud":
		s.facts.CycleCloudFailed = true
	case "snapshot":
		if words[1] != "none" {
			s.facts.Snapshot = Snapshot{Position: position(t, words[1]), AsOf: s.now.Add(-duration(t, strings.TrimPrefix(words[2], "age=")))}
		}
	case "nodearray":
		s.readNodearrayFacts(t, words)
	case "node", "missing":
		for _, name := range expand(t, words[1]) {
			n := Node{Name: name}
			if words[0] == "node" {
				n = s.readNode(t, name, words)
			}
			s.facts.Nodes = append(s.facts.Nodes, n)
		}
	default:
		if !s.readJobFact(t, words) {
			t.Fatalf("unknown fact %q", words)
		}
	}
}

func (s *situation) readNodearrayFacts(t *testing.T, words []string) {
	t.Helper()
	a := NodearrayFacts{Name: NodearrayName(words[1])}
	for key, value := range pairs(t, words[2:]) {
		switch key {
		case "closed":
			s.facts.Memory.Breakers = append(s.facts.Memory.Breakers, Breaker{
				Nodearray: a.Name, MachineType: "Standard_F4s_v2", Failures: 1, OpenUntil: s.at(t, value), FailedAt: s.at(t, value).Add(-5 * time.Minute),
			})
		case "available":
			few, most, _ := strings.Cut(value, "/")
			a.Available = Availability{Known: true, Count: number(t, few), MaxCount: number(t, most)}
		case "armed":
			purpose, at, _ := strings.Cut(value, "@")
			a.Armed = append(a.Armed, Timer{Nodearray: a.Name, Purpose: Purpose(purpose), At: s.at(t, at)})
		default:
			t.Fatalf("unknown key %q of a nodearray", key)
		}
	}
	s.facts.Nodearrays = append(s.facts.Nodearrays, a)
}

func (s *situation) readNode(t *testing.T, name NodeName, words []string) Node {
	t.Helper()
	state, supply, _ := strings.Cut(words[2], "/")
	n := Node{Name: name, Slurm: SlurmState(slices.Index(slurmStateNames[:], state)), Supply: ParseSupply(supply), Since: s.now.Add(-time.Minute), SeenAt: s.now.Add(-5 * time.Second)}
	if n.Slurm < 0 || n.Supply.String() != supply {
		t.Fatalf("unknown state %q", words[2])
	}
	if n.Supply.present() && n.Supply != Creating {
		n.NodeID = "id-" + string(name)
	}
	for key, value := range pairs(t, words[3:]) {
		switch key {
		case "since":
			n.Since = s.at(t, value)
		case "resume":
			n.ResumeID = value
		case "jobs":
			for _, id := range strings.Split(value, ",") {
				kept, fragile := strings.CutSuffix(id, "!")
				n.Jobs = append(n.Jobs, BootJob{ID: kept, Requeueable: !fragile})
			}
		case "id":
			n.NodeID = strings.Trim(value, "-")
		case "seen":
			n.SeenAt = s.at(t, value)
		case "created":
			n.Created.Position = position(t, value)
		case "for":
			n.Created.ResumeID = value
		case "made":
			n.CreatedAt = s.at(t, value)
		case "terminated":
			n.TerminatedAt = s.at(t, value)
		case "down":
			n.DownAt = position(t, value)
		case "aborted":
			n.AbortedAt = s.at(t, value)
		case "refused":
			n.RefusedAt = s.at(t, value)
		case "failed":
			n.FailedAt = s.at(t, value)
		case "command":
			kind, expires, _ := strings.Cut(value, "@")
			n.Command = OpenCommand{Kind: CommandKind(kind), ExpiresAt: s.at(t, expires)}
		default:
			t.Fatalf("unknown key %q of a node", key)
		}
	}
	return n
}

// fillUp adds what no line speaks of.
func (s *situation) fillUp() {
	for _, array := range s.policy.Nodearrays {
		for _, name := range array.Nodes {
			i := slices.IndexFunc(s.facts.Nodes, func(n Node) bool { return n.Name == name })
			if i < 0 {
				s.facts.Nodes = append(s.facts.Nodes, Node{Name: name, Slurm: PoweredDown, Supply: Absent, SeenAt: s.now.Add(-5 * time.Second)})
				i = len(s.facts.Nodes) - 1
			}
			s.facts.Nodes[i].Nodearray = array.Name
		}
		if !slices.ContainsFunc(s.facts.Nodearrays, func(a NodearrayFacts) bool { return a.Name == array.Name }) {
			s.facts.Nodearrays = append(s.facts.Nodearrays, NodearrayFacts{Name: array.Name})
		}
	}
	var partitions []string
	for _, array := range s.policy.Nodearrays {
		partitions = append(partitions, array.Partition)
	}
	for _, rule := range s.policy.Overflow {
		partitions = append(partitions, rule.Partition)
	}
	for _, name := range partitions {
		if !s.removed[name] && !slices.ContainsFunc(s.facts.Partitions, func(p Partition) bool { return p.Name == name }) {
			s.facts.Partitions = append(s.facts.Partitions, Partition{Name: name, Up: true})
		}
	}
	s.facts.Nodes = slices.DeleteFunc(s.facts.Nodes, func(n Node) bool { return n.Slurm == SlurmUnknown && n.Supply == SupplyUnknown })
}

func (s *situation) at(t *testing.T, offset string) time.Time {
	t.Helper()
	return s.now.Add(duration(t, offset))
}

func pairs(t *testing.T, words []string) func(func(string, string) bool) {
	t.Helper()
	return func(yield func(string, string) bool) {
		for _, word := range words {
			key, value, found := strings.Cut(word, "=")
			if !found {
				t.Fatalf("want key=value, not %q", word)
			}
			if !yield(key, value) {
				return
			}
		}
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func position(t *testing.T, text string) Position {
	t.Helper()
	epoch, sequence, _ := strings.Cut(text, "/")
	return Position{Epoch: int64(number(t, epoch)), Sequence: int64(number(t, sequence))}
}

// expand reads name or prefix[first-last].
func expand(t *testing.T, hostlist string) []NodeName {
	t.Helper()
	prefix, numbers, found := strings.Cut(strings.TrimSuffix(hostlist, "]"), "[")
	if !found {
		return []NodeName{NodeName(hostlist)}
	}
	first, last, _ := strings.Cut(numbers, "-")
	var names []NodeName
	for i := number(t, first); i <= number(t, last); i++ {
		names = append(names, NodeName(fmt.Sprintf("%s%d", prefix, i)))
	}
	return names
}

// renderPlan writes a plan as text, with times relative to now.
func renderPlan(now time.Time, p Plan) string {
	var b strings.Builder
	after := func(t time.Time) string { return fmt.Sprintf("%+g s", t.Sub(now).Seconds()) }
	for _, c := range p.Commands {
		on := names(c.Nodes)
		if len(c.Jobs) > 0 {
			on = strings.TrimSuffix("jobs "+strings.Join(c.Jobs, ",")+" -> "+strings.Join(c.Partitions, ","), " -> ")
		}
		if c.Kind == GatePartition {
			on = fmt.Sprintf("%s up=%t", c.Partition, c.Up)
		}
		fmt.Fprintf(&b, "command %s %s %s\n\t%s\n", c.Nodearray, c.Kind, on, c.Reason)
	}
	for _, c := range p.Creates {
		fmt.Fprintf(&b, "create %s %s %s\n\t%s\n", c.Nodearray, names(c.Nodes), strings.TrimSpace(c.MachineType+" "+c.PlacementGroup), c.Reason)
	}
	for _, x := range p.Terminates {
		fmt.Fprintf(&b, "terminate %s", x.Nodearray)
		for _, target := range x.Targets {
			fmt.Fprintf(&b, " %s (%s)", target.Node, target.NodeID)
		}
		fmt.Fprintf(&b, "\n\t%s\n", x.Reason)
	}
	for _, c := range p.Closings {
		fmt.Fprintf(&b, "close %s until %s\n\t%s\n", c.Nodearray, after(c.Until), c.Reason)
	}
	for _, x := range p.Failures {
		fmt.Fprintf(&b, "failure %s %s\n\t%s\n", x.Nodearray, x.Node, x.Reason)
	}
	for _, h := range p.Holds {
		fmt.Fprintf(&b, "hold %s\n\t%s\n", strings.TrimSpace(string(h.Nodearray)+" "+names(h.Nodes)), h.Reason)
	}
	for _, x := range p.Timers {
		fmt.Fprintf(&b, "timer %s %s %s\n", x.Nodearray, x.Purpose, after(x.At))
	}
	if p.Look {
		b.WriteString("look at CycleCloud's nodes\n")
	}
	if p.Status {
		b.WriteString("ask for CycleCloud's limits\n")
	}
	if !p.NextDue.IsZero() {
		fmt.Fprintf(&b, "next due %s\n", after(p.NextDue))
	}
	return b.String()
}

func names(nodes []NodeName) string {
	text := make([]string, len(nodes))
	for i, n := range nodes {
		text[i] = string(n)
	}
	return strings.Join(text, ",")
}
