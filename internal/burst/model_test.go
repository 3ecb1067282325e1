package burst

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestTheModelEndsAtZero lets the core run clusters in which snapshots, timers,
// commands and answers are lost, doubled, delayed and reordered, VMs fail,
// hang and vanish, and CycleCloud refuses or is silent. Every plan is held to
// the invariants, and every cluster ends with its jobs over, all nodes down
// and no VM. SLURMBURST_MODEL_SEED repeats one seed and prints its story,
// SLURMBURST_MODEL_SEEDS runs more of them.
func TestTheModelEndsAtZero(t *testing.T) {
	if text := os.Getenv("SLURMBURST_MODEL_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s, err := runModel(seed)
		t.Log("\n" + strings.Join(s.story, "\n"))
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	seeds := uint64(600)
	if text := os.Getenv("SLURMBURST_MODEL_SEEDS"); text != "" {
		more, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = more
	}
	const lanes = 4
	plans, vms, done, lost := [lanes]int{}, [lanes]int{}, [lanes]int{}, [lanes]int{}
	met := [lanes]map[Code]int{}
	t.Run("clusters", func(t *testing.T) {
		for lane := range lanes {
			met[lane] = map[Code]int{}
			t.Run(fmt.Sprintf("lane %d", lane), func(t *testing.T) {
				t.Parallel()
				for seed := uint64(lane); seed < seeds; seed += lanes {
					s, err := runModel(seed)
					if err != nil {
						t.Fatalf("SLURMBURST_MODEL_SEED=%d: %v\n%s", seed, err, strings.Join(s.story[max(0, len(s.story)-40):], "\n"))
					}
					plans[lane] += s.plans
					vms[lane] += s.made
					done[lane] += s.done
					lost[lane] += s.lost
					for code, n := range s.met {
						met[lane][code] += n
					}
				}
			})
		}
	})
	sum := func(x [lanes]int) int { return x[0] + x[1] + x[2] + x[3] }
	t.Logf("%d clusters, %d plans, %d VMs, %d jobs completed, %d ended by Slurm: ResumeTimeout or a VM that vanished",
		seeds, sum(plans), sum(vms), sum(done), sum(lost))
	if sum(done) < int(seeds) || sum(lost) > sum(done)/5 {
		t.Error("so few jobs completed: the clusters are not what they should be")
	}
	for _, e := range Explanations() {
		if met[0][e.Code]+met[1][e.Code]+met[2][e.Code]+met[3][e.Code] == 0 && !slices.Contains(elsewhere, e.Code) && !slices.Contains(ofWaitingJobs, e.Code) {
			t.Errorf("no cluster ever met the reason %s", e.Code)
		}
	}
}

// elsewhere are the reasons that only other tests meet: what admins do to nodes,
// what Slurm does of which the models know nothing, and questions that a pass
// answers at once.
var elsewhere = []Code{
	ReasonDrainedByAdmin, ReasonReserved, ReasonNotResponding, ReasonUndefined, ReasonUnknownState, ReasonNoSnapshot,
	ReasonAskCycleCloud, ReasonOlderSnapshot,
}

// ofWaitingJobs are those that only the overflow model meets: nothing waits
// on-prem in these clusters.
var ofWaitingJobs = []Code{
	ReasonBudgetHard, ReasonBudgetMedium, ReasonBudgetSoft, ReasonSlurmReason, ReasonNotEvaluated, ReasonLocalDown, ReasonNodeList,
	ReasonRuleSaysNo, ReasonRuleFailed, ReasonPartitionRefuses, ReasonPartitionMissing, ReasonDoesNotFit, ReasonPlacementGroup, ReasonWaiting, ReasonReleasing,
	ReasonLocalStart, ReasonShort, ReasonClusterNodes, ReasonAccountNodes, ReasonUserNodes, ReasonStep, ReasonCooldown, ReasonWindow,
	ReasonGate, ReasonJobCost, ReasonInCloud, ReasonReleased, ReasonMoved, ReasonRevoked, ReasonTakenBack, ReasonShadow,
}

// shell does around the core what internal/reconcile does, in memory.
type shell struct {
	*world
	policy Policy
	facts  Facts
	plans  int
	met    map[Code]int // how often each reason for an effect or failure was met
	blind  bool         // the agent never sees which resume call it was

	epoch, sequence int64
	mail            []delivery // snapshots on their way
	orders          []order    // commands on their way
	answered        map[int]bool
	sent            map[int]order // commands without an answer
	ids             int
	decided         int // turns of the newest snapshot that was decided on
	seen            int // turns of the newest snapshot that arrived
	told            int // turns of the newest snapshot that was sent
	nextBeat        time.Time
	due             time.Time
	nextSweep       time.Time
	story           []string
}

type delivery struct {
	at       time.Time
	snapshot Snapshot
	nodes    map[NodeName]Node
	answers  []int
	turns    int
}

type order struct {
	id      int
	at      time.Time
	expires time.Time
	command Command
	silent  bool // its answer is lost
	// generation is the revision of its commit.
	generation int
}

func runModel(seed uint64) (*shell, error) {
	s := &shell{world: newWorld(seed), epoch: 1, answered: map[int]bool{}, sent: map[int]order{}, met: map[Code]int{}}
	s.blind = s.IntN(3) == 0
	s.policy = Policy{MaxActAge: 90 * time.Second, Nodearrays: []Nodearray{s.array}}
	s.facts.Nodearrays = []NodearrayFacts{{Name: s.array.Name}}
	for _, name := range s.array.Nodes {
		s.facts.Nodes = append(s.facts.Nodes, Node{Name: name, Nodearray: s.array.Name})
	}
	s.nextSweep = s.now.Add(5 * time.Minute)
	for s.broken == nil && !s.over() {
		s.step()
		if s.now.Sub(origin) > 4*time.Hour {
			s.breaks("not over after four hours: %s", s.picture())
		}
		s.agent()
		s.cloud()
	}
	return s, s.broken
}

func (s *shell) tell(format string, args ...any) {
	s.story = append(s.story, fmt.Sprintf("%8s ", s.now.Sub(origin))+fmt.Sprintf(format, args...))
}

// reports is what a snapshot says about every node.
func (s *shell) reports() map[NodeName]Node {
	nodes := map[NodeName]Node{}
	for name, n := range s.nodes {
		r := Node{Slurm: n.state, Since: n.since}
		if n.state == Idle && n.job != nil {
			r.Slurm = Busy
		}
		if n.state == PoweringUp {
			if !s.blind {
				r.ResumeID = fmt.Sprintf("%s/%d", name, n.resume)
			}
			if n.job != nil {
				r.Jobs = []BootJob{{n.job.id, n.job.batch}}
			}
		}
		nodes[name] = r
	}
	return nodes
}

// picture shows what Slurm and CycleCloud really have.
func (s *shell) picture() string {
	var b strings.Builder
	for name, n := range s.reports() {
		fmt.Fprintf(&b, "%s=%s/%s%v ", name, n.Slurm, s.vms[name].supply(s.now), n.Jobs)
	}
	return b.String()
}

// agent carries out what arrived, and sends a snapshot on change and as a
// heartbeat. Snapshots are lost, doubled and delayed.
func (s *shell) agent() {
	s.orders = slices.DeleteFunc(s.orders, func(o order) bool {
		if s.now.Before(o.at) {
			return false
		}
		if !s.now.After(o.expires) {
			s.obey(o.command)
			s.answered[o.id] = !o.silent
		}
		return true
	})
	if s.chance(1500) {
		s.epoch, s.sequence = s.epoch+1, 0
	}
	if s.told == s.turns && s.now.Before(s.nextBeat) {
		return
	}
	s.told, s.nextBeat = s.turns, s.now.Add(s.span(24, 36))
	s.sequence++
	d := delivery{snapshot: Snapshot{Position{s.epoch, s.sequence}, s.now}, nodes: s.reports(), turns: s.turns}
	for id, heard := range s.answered {
		if heard {
			d.answers = append(d.answers, id)
		}
	}
	for !s.chance(8) {
		d.at = s.now
		if s.chance(3) {
			d.at = s.now.Add(s.span(0, 80))
		}
		s.mail = append(s.mail, d)
		if !s.chance(8) {
			break
		}
	}
}

// cloud looks whenever a snapshot or a timer arrives, and on a schedule.
func (s *shell) cloud() {
	looks, sweep := false, false
	s.mail = slices.DeleteFunc(s.mail, func(d delivery) bool {
		if s.now.Before(d.at) {
			return false
		}
		looks = s.accept(d) || looks
		return true
	})
	for _, t := range s.facts.Nodearrays[0].Armed {
		if !t.At.After(s.now) && t.At.After(s.now.Add(-modelTick)) && !s.chance(6) {
			looks = true
		}
	}
	if !s.now.Before(s.nextSweep) {
		looks, sweep = true, true
		s.nextSweep = s.now.Add(5 * time.Minute)
		s.facts.Paused = s.chance(6)
	}
	if looks {
		s.pass(sweep)
	}
}

// accept takes the newest snapshot, and reports whether it has to be decided on.
func (s *shell) accept(d delivery) bool {
	if !d.snapshot.After(s.facts.Snapshot.Position) {
		return false
	}
	s.facts.Snapshot = d.snapshot
	for i := range s.facts.Nodes {
		n, r := &s.facts.Nodes[i], d.nodes[s.facts.Nodes[i].Name]
		n.Slurm, n.Since, n.ResumeID, n.Jobs = r.Slurm, r.Since, r.ResumeID, r.Jobs
	}
	s.seen = d.turns
	news := d.turns != s.decided || (!s.due.IsZero() && !s.now.Before(s.due))
	for _, id := range d.answers {
		if _, open := s.sent[id]; open {
			delete(s.sent, id)
			news = true
		}
	}
	return news
}

// pass decides once, as one function does: facts, plan, commit, effects.
func (s *shell) pass(sweep bool) {
	s.decided = s.seen
	s.overlay()
	s.facts.CycleCloudFailed = false
	s.facts.Nodearrays[0].Available = Availability{}
	if sweep {
		s.look()
	}
	for range 3 { // effects that come out differently are decided on at once
		plan := s.decide()
		if err := breach(s.now, s.policy, s.facts, plan); err != nil {
			s.breaks("a plan %v\n%s", err, renderPlan(s.now, plan))
		}
		s.plans++
		reasonsOf(plan, func(r Reason) { s.met[r.Code]++ })
		next := s.facts.After(s.now, plan)
		if plan.Acts() || len(plan.Failures) > 0 {
			s.tell("%s\n%s", s.picture(), renderPlan(s.now, plan))
		}
		s.facts = next
		surprised := s.act(plan)
		again := Decide(s.now, s.policy, s.facts)
		s.facts = s.facts.After(s.now, Plan{Timers: again.Timers, Memory: s.facts.Memory})
		s.due = again.NextDue
		if !surprised {
			return
		}
	}
}

// overlay joins open commands with the facts, and keeps what tells one
// generation of a name from the next.
func (s *shell) overlay() {
	for i := range s.facts.Nodes {
		n := &s.facts.Nodes[i]
		n.Command = OpenCommand{}
		for _, o := range s.sent {
			if slices.Contains(o.command.Nodes, n.Name) && s.now.Before(o.expires) && o.expires.After(n.Command.ExpiresAt) {
				n.Command = OpenCommand{o.command.Kind, o.expires}
			}
		}
		notePassage(n, s.facts.Snapshot.Position)
	}
}

// notePassage keeps of a node what the shell has to keep for the core.
func notePassage(n *Node, at Position) {
	switch n.Slurm {
	case PoweredDown, Fenced, PoweringDown, DownPoweredDown:
		if n.Supply == Absent {
			n.Forget()
		} else if n.Supply != SupplyUnknown && n.DownAt == (Position{}) && at.After(n.Created.Position) {
			n.DownAt = at
		}
	default:
	}
}

// decide asks CycleCloud where the core wants to know more. Two functions that
// look at the same facts come to the same plan.
func (s *shell) decide() Plan {
	for range 3 {
		plan := Decide(s.now, s.policy, s.facts)
		if s.chance(50) {
			if other := Decide(s.now, s.policy, copyOf(s.facts)); !reflect.DeepEqual(plan, other) {
				s.breaks("two deciders differ:\n%s", cmp.Diff(plan, other))
			}
		}
		switch {
		case s.facts.CycleCloudFailed || (!plan.Look && !plan.Status):
			return plan
		case plan.Look:
			s.look()
		case s.now.Before(s.down):
			s.facts.CycleCloudFailed = true
		case s.now.Before(s.short):
			s.facts.Nodearrays[0].Available = Availability{Known: true, MaxCount: 100}
		default:
			s.facts.Nodearrays[0].Available = Availability{Known: true, Count: s.array.MaxNodes, MaxCount: 100}
		}
	}
	return Decide(s.now, s.policy, s.facts)
}

func (s *shell) look() {
	if s.facts.CycleCloudFailed = s.now.Before(s.down); s.facts.CycleCloudFailed {
		return
	}
	for i := range s.facts.Nodes {
		s.show(&s.facts.Nodes[i])
	}
}

// act makes the effects happen, some of them twice, and reports whether one
// came out differently than planned.
func (s *shell) act(plan Plan) (surprised bool) {
	for _, c := range plan.Creates {
		taken := s.create(c.Nodes)
		if s.chance(8) {
			s.create(slices.DeleteFunc(slices.Clone(c.Nodes), func(name NodeName) bool { return !taken[name] }))
		}
		for i := range s.facts.Nodes {
			n := &s.facts.Nodes[i]
			switch {
			case !slices.Contains(c.Nodes, n.Name):
			case taken[n.Name]:
				n.Supply, n.NodeID, n.SeenAt = Booting, s.vms[n.Name].id, s.now
			default:
				n.Fail(s.now, ReasonCreateRefused)
				surprised = true
			}
		}
	}
	for _, t := range plan.Terminates {
		for _, target := range t.Targets {
			s.terminate(target)
			s.terminate(target)
		}
	}
	for _, c := range plan.Commands {
		s.ids++
		o := order{id: s.ids, command: c, at: s.now.Add(s.span(0, 4)), expires: s.now.Add(CommandTTL), silent: s.chance(10)}
		s.sent[o.id] = o
		if n := len(s.orders); n > 0 && o.at.Before(s.orders[n-1].at) {
			o.at = s.orders[n-1].at // a session keeps its order
		}
		if !s.chance(10) {
			s.orders = append(s.orders, o)
		}
	}
	return surprised
}
