package burst

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// TestMain gives the properties more cases than rapid's hundred.
func TestMain(m *testing.M) {
	flag.Parse()
	// The same cases in every run of the suite; -rapid.seed=N draws others.
	settings := map[string]string{"rapid.checks": "1500", "rapid.seed": "20260301", "rapid.nofailfile": "true"}
	flag.Visit(func(f *flag.Flag) { delete(settings, f.Name) })
	for name, value := range settings {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

var origin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// moments are offsets from now on both sides of every deadline of the core.
var moments = []time.Duration{
	-48 * time.Hour, -31 * time.Minute, -30 * time.Minute, -11 * time.Minute, -10 * time.Minute, -10*time.Minute + time.Nanosecond,
	-5 * time.Minute, -5*time.Minute + 1, -4 * time.Minute, -2 * time.Minute, -90 * time.Second, -90*time.Second + 1, -61 * time.Second,
	-time.Minute, -time.Minute + 1, -31 * time.Second, -30 * time.Second, -16 * time.Second, -15 * time.Second, -14 * time.Second,
	-5 * time.Second, -2 * time.Second, -1, 0,
}

func drawMoment(now time.Time) *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time { return now.Add(rapid.SampledFrom(moments).Draw(t, "offset")) })
}

// drawMaybe gives a moment of the past, or zero.
func drawMaybe(now time.Time) *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "never") {
			return time.Time{}
		}
		return drawMoment(now).Draw(t, "moment")
	})
}

func drawPosition(t *rapid.T, label string) Position {
	return Position{Epoch: rapid.Int64Range(0, 2).Draw(t, label+" epoch"), Sequence: rapid.Int64Range(0, 4).Draw(t, label+" sequence")}
}

func drawPolicy(t *rapid.T) Policy {
	p := Policy{Version: "1", Cluster: "onprem", MaxActAge: 90 * time.Second}
	for i := range rapid.IntRange(1, 3).Draw(t, "nodearrays") {
		a := Nodearray{
			Name: NodearrayName(fmt.Sprintf("array%d", i)), MachineType: "Standard_F4s_v2",
			MaxNodes:    rapid.IntRange(0, 6).Draw(t, "max nodes"),
			IdleTimeout: rapid.SampledFrom([]time.Duration{0, time.Minute, 5 * time.Minute}).Draw(t, "idle timeout"), BootDeadline: 10 * time.Minute,
		}
		for n := range rapid.IntRange(1, 6).Draw(t, "nodes") {
			a.Nodes = append(a.Nodes, NodeName(fmt.Sprintf("n%d-%d", i, n)))
		}
		p.Nodearrays = append(p.Nodearrays, a)
	}
	return p
}

func drawFacts(t *rapid.T, now time.Time, p Policy) Facts {
	f := Facts{
		Snapshot: Snapshot{Position: Position{Epoch: rapid.Int64Range(1, 2).Draw(t, "epoch"), Sequence: rapid.Int64Range(1, 4).Draw(t, "sequence")}},
		Paused:   rapid.IntRange(0, 7).Draw(t, "paused") == 0, CycleCloudFailed: rapid.IntRange(0, 7).Draw(t, "cyclecloud failed") == 0,
	}
	f.Snapshot.AsOf = now.Add(-rapid.SampledFrom([]time.Duration{0, 0, 0, time.Second, 89 * time.Second, 90*time.Second - 1, 90 * time.Second, time.Hour}).Draw(t, "age"))
	if rapid.IntRange(0, 20).Draw(t, "no snapshot") == 0 {
		f.Snapshot = Snapshot{}
	}
	for _, array := range p.Nodearrays {
		if rapid.IntRange(0, 9).Draw(t, "nodearray unheard of") > 0 {
			f.Nodearrays = append(f.Nodearrays, drawNodearray(t, now, array.Name))
			f.Memory.Breakers = append(f.Memory.Breakers, drawBreaker(t, now, array)...)
		}
		kind := rapid.SampledFrom([]string{"any", "any", "storm", "rest"}).Draw(t, "kind")
		for _, name := range array.Nodes {
			if rapid.IntRange(0, 19).Draw(t, "node unheard of") > 0 {
				n := drawNode(t, now, array.Name, name)
				switch kind {
				case "storm": // jobs of several nodes ask for all at once
					n.Slurm, n.Supply, n.CreatedAt, n.RefusedAt = PoweringUp, Absent, time.Time{}, time.Time{}
					n.Jobs = []BootJob{{ID: strconv.Itoa(rapid.IntRange(2, 4).Draw(t, "storm's job")), Requeueable: true}}
				case "rest": // only the fence has work
					n.Slurm = rapid.SampledFrom([]SlurmState{PoweredDown, PoweredDown, Fenced, Fenced, StuckPoweredDown, PoweringDown}).Draw(t, "rest's state")
					n.Supply, n.AbortedAt = Absent, time.Time{}
				}
				f.Nodes = append(f.Nodes, n)
			}
		}
	}
	return f
}

func drawNodearray(t *rapid.T, now time.Time, name NodearrayName) NodearrayFacts {
	a := NodearrayFacts{Name: name}
	a.Available = Availability{
		Known: rapid.IntRange(0, 3).Draw(t, "status known") > 0, Count: rapid.IntRange(0, 6).Draw(t, "available"), MaxCount: rapid.IntRange(0, 8).Draw(t, "ceiling"),
	}
	for _, purpose := range []Purpose{BootDeadline, IdleDeadline, Retry} {
		if rapid.IntRange(0, 3).Draw(t, "armed") == 0 {
			at := now.Add(rapid.SampledFrom([]time.Duration{-time.Minute, 0, time.Second, time.Minute, time.Hour}).Draw(t, "fires"))
			a.Armed = append(a.Armed, Timer{Nodearray: name, Purpose: purpose, At: at})
		}
	}
	return a
}

// drawBreaker gives the breaker of one nodearray in four.
func drawBreaker(t *rapid.T, now time.Time, array Nodearray) []Breaker {
	if rapid.IntRange(0, 3).Draw(t, "was closed") > 0 {
		return nil
	}
	until := now.Add(rapid.SampledFrom([]time.Duration{-time.Hour, 0, 1, time.Second, time.Minute}).Draw(t, "closed until"))
	b := Breaker{Nodearray: array.Name, MachineType: array.MachineType, OpenUntil: until}
	if b.Failures = rapid.IntRange(0, 3).Draw(t, "failures"); b.Failures > 0 {
		b.FailedAt = until.Add(-5 * time.Minute)
	}
	return []Breaker{b}
}

func drawNode(t *rapid.T, now time.Time, array NodearrayName, name NodeName) Node {
	// Half of all nodes are in the states where most is decided.
	busy := []SlurmState{PoweringUp, PoweringUp, PoweringUp, PoweredDown, PoweringDown, Idle, Fenced}
	n := Node{
		Name: name, Nodearray: array, Since: drawMoment(now).Draw(t, "since"), SeenAt: drawMaybe(now).Draw(t, "seen"),
		Supply: Supply(rapid.IntRange(0, int(supplies)-1).Draw(t, "supply")),
		Slurm:  SlurmState(rapid.IntRange(0, int(slurmStates)-1).Draw(t, "slurm")),
	}
	if rapid.Bool().Draw(t, "usual") {
		n.Slurm = rapid.SampledFrom(busy).Draw(t, "usual state")
	}
	if n.Slurm == PoweringUp && rapid.Bool().Draw(t, "lacking") {
		n.Supply = Absent
	}
	if n.Slurm == PoweringUp {
		n.ResumeID = rapid.SampledFrom([]string{"", "r1", "r2"}).Draw(t, "resume")
		for range rapid.IntRange(0, 2).Draw(t, "jobs") {
			id := rapid.IntRange(1, 4).Draw(t, "job")
			n.Jobs = append(n.Jobs, BootJob{ID: strconv.Itoa(id), Requeueable: id > 1})
		}
	}
	if n.Supply.present() && rapid.IntRange(0, 9).Draw(t, "id unknown") > 0 {
		n.NodeID = "id-" + string(name)
	}
	if n.CreatedAt = drawMaybe(now).Draw(t, "created"); !n.CreatedAt.IsZero() {
		n.Created = Generation{drawPosition(t, "created"), rapid.SampledFrom([]string{"", "r1", "r2"}).Draw(t, "created for")}
	}
	rare := func(label string) time.Time {
		if rapid.IntRange(0, 2).Draw(t, "no "+label) > 0 {
			return time.Time{}
		}
		return drawMoment(now).Draw(t, label)
	}
	n.TerminatedAt, n.AbortedAt, n.RefusedAt, n.FailedAt = rare("terminated"), rare("aborted"), rare("refused"), rare("failed")
	if rapid.IntRange(0, 3).Draw(t, "was seen down") == 0 {
		n.DownAt = drawPosition(t, "down")
	}
	if rapid.IntRange(0, 5).Draw(t, "commanded") == 0 {
		n.Command = OpenCommand{
			Kind:      rapid.SampledFrom(commandOrder).Draw(t, "command"),
			ExpiresAt: now.Add(rapid.SampledFrom([]time.Duration{-time.Second, 0, 1, time.Second, 90 * time.Second}).Draw(t, "expires")),
		}
	}
	return n
}

// drawAll gives a policy and facts, in half of the cases with waiting jobs.
func drawAll(t *rapid.T) (Policy, Facts) {
	p := drawPolicy(t)
	waiting := rapid.Bool().Draw(t, "jobs wait")
	if waiting {
		drawRules(t, origin, &p)
	}
	f := drawFacts(t, origin, p)
	if waiting {
		drawWaiting(t, origin, p, &f)
	}
	return p, f
}

// oneIn is how many of the cases must show what a property is about.
func oneIn(per int) int {
	checks, err := strconv.Atoi(flag.Lookup("rapid.checks").Value.String())
	if err != nil {
		panic(err)
	}
	return checks / per
}

// withoutNotices leaves out what jobs are told, which is spread over minutes.
func withoutNotices(p Plan) Plan {
	p.Commands = slices.DeleteFunc(slices.Clone(p.Commands), func(c Command) bool { return c.Kind == NoticeJobs })
	return p
}

// property checks what holds for every policy, every set of facts and its plan.
func property(t *testing.T, check func(t *rapid.T, now time.Time, p Policy, f Facts, plan Plan)) {
	t.Helper()
	rapid.Check(t, func(t *rapid.T) {
		p, f := drawAll(t)
		check(t, origin, p, f, Decide(origin, p, f))
	})
}

func TestNoPlanBreaksAnInvariant(t *testing.T) {
	property(t, func(t *rapid.T, now time.Time, p Policy, f Facts, plan Plan) {
		if err := breach(now, p, f, plan); err != nil {
			t.Fatalf("the plan %v\n%s", err, renderPlan(now, plan))
		}
	})
}

func TestAPlanCarriedOutAndDecidedAgainAddsNothing(t *testing.T) {
	property(t, func(t *rapid.T, now time.Time, p Policy, f Facts, plan Plan) {
		f = f.After(now, plan)
		again := Decide(now, p, f)
		if err := breach(now, p, f, again); err != nil {
			t.Fatalf("the plan on what was carried out %v\n%s", err, renderPlan(now, again))
		}
		if left := withoutNotices(again); left.Acts() || len(again.Closings)+len(again.Failures)+len(again.Warnings) > 0 {
			t.Fatalf("after\n%s\ncame\n%s", renderPlan(now, plan), renderPlan(now, again))
		}
		third := Decide(now, p, f.After(now, again))
		if len(third.Timers) > 0 {
			t.Fatalf("timers that are armed are armed again:\n%s", renderPlan(now, third))
		}
	})
}

func TestOrderAndRepetitionOfFactsChangeNothing(t *testing.T) {
	property(t, func(t *rapid.T, now time.Time, p Policy, f Facts, plan Plan) {
		seed := rapid.Uint64().Draw(t, "seed")
		r := rand.New(rand.NewPCG(seed, 1))
		g := copyOf(f)
		for i := range g.Nodes {
			r.Shuffle(len(g.Nodes[i].Jobs), func(a, b int) { g.Nodes[i].Jobs[a], g.Nodes[i].Jobs[b] = g.Nodes[i].Jobs[b], g.Nodes[i].Jobs[a] })
			g.Nodes[i].Jobs = append(g.Nodes[i].Jobs, g.Nodes[i].Jobs...)
		}
		g.Nodes = append(g.Nodes, g.Nodes...)
		g.Nodearrays = append(g.Nodearrays, g.Nodearrays...)
		r.Shuffle(len(g.Nodes), func(a, b int) { g.Nodes[a], g.Nodes[b] = g.Nodes[b], g.Nodes[a] })
		r.Shuffle(len(g.Groups), func(a, b int) { g.Groups[a], g.Groups[b] = g.Groups[b], g.Groups[a] })
		r.Shuffle(len(g.Running), func(a, b int) { g.Running[a], g.Running[b] = g.Running[b], g.Running[a] })
		r.Shuffle(len(g.JobCommands), func(a, b int) { g.JobCommands[a], g.JobCommands[b] = g.JobCommands[b], g.JobCommands[a] })
		r.Shuffle(len(g.Partitions), func(a, b int) { g.Partitions[a], g.Partitions[b] = g.Partitions[b], g.Partitions[a] })
		r.Shuffle(len(g.Nodearrays), func(a, b int) { g.Nodearrays[a], g.Nodearrays[b] = g.Nodearrays[b], g.Nodearrays[a] })
		if diff := cmp.Diff(plan, Decide(now, p, g)); diff != "" {
			t.Fatalf("plan (-in order +shuffled and doubled):\n%s", diff)
		}
	})
}

func TestDecideIsDeterministicAndChangesNoArgument(t *testing.T) {
	property(t, func(t *rapid.T, now time.Time, p Policy, f Facts, plan Plan) {
		before, policy := copyOf(f), copyOfPolicy(p)
		again := Decide(now, p, f)
		if !reflect.DeepEqual(plan, again) {
			t.Fatalf("plan (-first +second):\n%s", cmp.Diff(plan, again))
		}
		after := f.After(now, plan)
		for i := range after.Nodes {
			after.Nodes[i].Fail(now, ReasonVanished)
		}
		if !reflect.DeepEqual(before, f) || !reflect.DeepEqual(policy, p) {
			t.Fatalf("facts (-before +after):\n%s\npolicy:\n%s", cmp.Diff(before, f), cmp.Diff(policy, p))
		}
	})
}

// Until NextDue nothing new is decided on the same facts, whether the plan was
// carried out or not.
func TestNothingNewBeforeNextDue(t *testing.T) {
	property(t, func(t *rapid.T, now time.Time, p Policy, f Facts, _ Plan) {
		if rapid.Bool().Draw(t, "money") {
			noAccrual(&f)
		} else {
			p.Budgets = nil
		}
		plan := Decide(now, p, f)
		if rapid.Bool().Draw(t, "carried out") {
			f = f.After(now, plan)
			plan = Decide(now, p, f)
		}
		wait := time.Duration(rapid.Int64Range(0, int64(2*time.Hour)).Draw(t, "wait"))
		if !plan.NextDue.IsZero() {
			wait = min(wait, plan.NextDue.Sub(now)-rapid.SampledFrom([]time.Duration{1, time.Second}).Draw(t, "before"))
		}
		if wait < 0 {
			return // stale facts are due at once
		}
		later := Decide(now.Add(wait), p, f)
		if !later.Acts() && now.Add(wait).Sub(f.Snapshot.AsOf) >= p.MaxActAge {
			return // they became stale
		}
		plan, later = withoutNotices(plan), withoutNotices(later)
		same := cmp.Options{
			cmpopts.IgnoreFields(Plan{}, "Timers", "NextDue", "Holds", "Memory", "Warnings"), cmpopts.IgnoreFields(Closing{}, "Until", "Reason"), cmpopts.EquateEmpty(),
		}
		if diff := cmp.Diff(plan, later, same); diff != "" {
			t.Fatalf("plan (-now +%s later, due %s):\n%s", wait, plan.NextDue.Sub(now), diff)
		}
	})
}

// noAccrual leaves facts in which nothing costs more as time goes by: what nodes
// without a job cost is used up meanwhile, which no moment foretells.
func noAccrual(f *Facts) {
	for i := range f.Nodes {
		f.Nodes[i].Supply = Absent
		f.Nodes[i].Slurm = []SlurmState{PoweredDown, Fenced}[i%2]
	}
	f.Memory.Jobs = slices.DeleteFunc(f.Memory.Jobs, func(j CloudJob) bool { return !j.StartedAt.IsZero() })
	f.Running = nil
}

// A later moment on the same facts asks for no timer that is armed.
func TestArmedTimersReachEveryDeadline(t *testing.T) {
	property(t, func(t *rapid.T, now time.Time, p Policy, f Facts, plan Plan) {
		f = f.After(now, plan)
		again := Decide(now, p, f)
		f = f.After(now, again)
		for step := range 20 {
			var next time.Time
			for _, a := range f.Nodearrays {
				for _, timer := range a.Armed {
					if timer.At.After(now) && (next.IsZero() || timer.At.Before(next)) {
						next = timer.At
					}
				}
			}
			if again.NextDue.IsZero() || !now.Before(f.Snapshot.AsOf.Add(p.MaxActAge)) {
				return
			}
			if len(f.Nodearrays) == len(p.Nodearrays) && (next.IsZero() || next.After(again.NextDue.Add(time.Second))) {
				t.Fatalf("step %d: due at %s, the next timer fires at %s", step, again.NextDue, next)
			}
			if next.IsZero() {
				return
			}
			now, f.Snapshot.AsOf = next, next
			again = Decide(now, p, f)
			f = f.After(now, again)
			again = Decide(now, p, f)
			f = f.After(now, again)
		}
	})
}

// Every pair of states is decided, alone and beside others, without a panic and
// with a reason.
func TestEveryPairIsDecided(t *testing.T) {
	p := Policy{MaxActAge: time.Minute, Nodearrays: []Nodearray{{Name: "htc", Nodes: []NodeName{"htc-1"}, MaxNodes: 1, BootDeadline: time.Minute}}}
	for state := range slurmStates {
		for supply := range supplies {
			for _, seen := range []time.Duration{-time.Hour, -time.Second} {
				f := Facts{
					Snapshot: Snapshot{Position{1, 2}, origin},
					Nodes:    []Node{{Name: "htc-1", Nodearray: "htc", Slurm: state, Supply: supply, Since: origin.Add(-time.Minute), SeenAt: origin.Add(seen)}},
				}
				if err := breach(origin, p, f, Decide(origin, p, f)); err != nil {
					t.Errorf("Slurm %s with CycleCloud %s: the plan %v", state, supply, err)
				}
			}
		}
	}
}

func copyOf(f Facts) Facts {
	f.Nodes, f.Nodearrays = slices.Clone(f.Nodes), slices.Clone(f.Nodearrays)
	f.Groups, f.Running, f.Ended = slices.Clone(f.Groups), slices.Clone(f.Running), slices.Clone(f.Ended)
	f.JobCommands, f.Partitions, f.Local = slices.Clone(f.JobCommands), slices.Clone(f.Partitions), slices.Clone(f.Local)
	f.Memory = f.Memory.clone()
	for i := range f.Groups {
		f.Groups[i].Jobs, f.Groups[i].Partitions = slices.Clone(f.Groups[i].Jobs), slices.Clone(f.Groups[i].Partitions)
	}
	for i := range f.Nodes {
		f.Nodes[i].Jobs = slices.Clone(f.Nodes[i].Jobs)
	}
	for i := range f.Nodearrays {
		f.Nodearrays[i].Armed = slices.Clone(f.Nodearrays[i].Armed)
	}
	return f
}

func copyOfPolicy(p Policy) Policy {
	p.Nodearrays = slices.Clone(p.Nodearrays)
	for i := range p.Nodearrays {
		p.Nodearrays[i].Nodes = slices.Clone(p.Nodearrays[i].Nodes)
	}
	return p
}

// FuzzDecide lets the fuzzer's bytes draw policy and facts.
func FuzzDecide(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		p, facts := drawAll(t)
		plan := Decide(origin, p, facts)
		if err := breach(origin, p, facts, plan); err != nil {
			t.Fatalf("the plan %v\n%s", err, renderPlan(origin, plan))
		}
		facts = facts.After(origin, plan)
		if again := withoutNotices(Decide(origin, p, facts)); again.Acts() {
			t.Fatalf("after\n%s\ncame\n%s", renderPlan(origin, plan), renderPlan(origin, again))
		}
	}))
}
