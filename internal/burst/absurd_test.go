package burst

import (
	"cmp"
	"math"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// absurd draws numbers and moments of every size, most often the worst.
type absurd struct{ *rapid.T }

func (t absurd) int(label string) int64 {
	return rapid.OneOf(rapid.SampledFrom([]int64{math.MinInt64, -1, 0, 1, 100, math.MaxInt32, math.MaxInt64}), rapid.Int64()).Draw(t.T, label)
}

func (t absurd) time(label string) time.Time {
	switch rapid.IntRange(0, 3).Draw(t.T, label+" kind") {
	case 0:
		return time.Time{}
	case 1:
		return time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t.T, label), 0).UTC()
	}
	return origin.Add(time.Duration(rapid.Int64Range(-int64(800*time.Hour), int64(800*time.Hour)).Draw(t.T, label)))
}

func (t absurd) name(label string, names ...string) string {
	return rapid.SampledFrom(names).Draw(t.T, label)
}

func (t absurd) array() NodearrayName {
	return NodearrayName(t.name("nodearray", "", "htc", "hpc", "old"))
}

func (t absurd) period() Period {
	return Period(t.name("period", string(Hour), string(Day), string(Month), "eon"))
}

func (t absurd) position() Position {
	return Position{rapid.Int64Range(0, 2).Draw(t.T, "epoch"), rapid.Int64Range(0, 3).Draw(t.T, "sequence")}
}

func (t absurd) memory() Memory {
	m := Memory{Seen: t.position()}
	for range rapid.IntRange(0, 5).Draw(t.T, "jobs") {
		m.Jobs = append(m.Jobs, CloudJob{
			ID: t.name("id", "1", "2", "3", "4", "5", "6"), Nodearray: t.array(), Account: t.name("account", "", "chem"), Nodes: int(t.int("nodes")),
			Home: []string{t.name("home", "local", "htc-part")}, Rate: Money(t.int("rate")), Committed: max(0, Money(t.int("committed"))),
			CommittedAt: t.time("committed at"), TimeLimit: time.Duration(t.int("limit")), StartedAt: t.time("started"), RevokedAt: t.time("revoked"),
			MissingAt: t.position(), Shadow: rapid.Bool().Draw(t.T, "shadow"), ListedIn: t.name("listed in", "", "htc-part"),
			TakenBackAt: t.time("taken back"), ArrayBack: rapid.Bool().Draw(t.T, "array back"),
		})
	}
	slices.SortFunc(m.Jobs, func(a, b CloudJob) int { return cmp.Compare(a.ID, b.ID) })
	m.Jobs = slices.CompactFunc(m.Jobs, func(a, b CloudJob) bool { return a.ID == b.ID })
	for range rapid.IntRange(0, 3).Draw(t.T, "books") {
		m.Books = append(m.Books, Book{
			Period: t.period(), From: t.time("from"), Account: t.name("account", "", "chem"), Nodearray: t.array(), Settled: max(0, Money(t.int("settled"))),
			BootWaste: max(0, Money(t.int("boot waste"))), NodeTime: max(0, time.Duration(t.int("node time"))), JobsSettled: 1,
		})
	}
	for range rapid.IntRange(0, 3).Draw(t.T, "meters") {
		m.Meters = append(m.Meters, Meter{Nodearray: t.array(), At: t.time("at"), Rate: Money(t.int("rate")), Booting: int(t.int("booting")), Idle: int(t.int("idle"))})
	}
	for range rapid.IntRange(0, 2).Draw(t.T, "warned") {
		m.Warned = append(m.Warned, Warned{Scope: ScopeCluster, Period: t.period(), From: t.time("from")})
	}
	return m
}

func (t absurd) facts() Facts {
	f := Facts{Snapshot: Snapshot{t.position(), t.time("as of")}, Memory: t.memory(), Cut: rapid.IntRange(0, 4).Draw(t.T, "cut") == 0}
	for _, id := range []string{"1", "2", "3", "4", "7"} {
		switch rapid.IntRange(0, 5).Draw(t.T, "fate") {
		case 0:
			f.Running = append(f.Running, RunningJob{
				ID: id, Nodearray: t.array(), Account: t.name("account", "", "chem"), Nodes: int(t.int("nodes")), Configuring: rapid.Bool().Draw(t.T, "configuring"),
				StartedAt: t.time("started"), TimeLimit: time.Duration(t.int("limit")),
			})
		case 1:
			f.Ended = append(f.Ended, EndedJob{ID: id, EndedAt: t.time("ended"), Requeued: rapid.Bool().Draw(t.T, "requeued")})
		case 2:
			f.Groups = append(f.Groups, Group{
				Partitions: []string{t.name("partition", "local", "htc-part", "hpc-part")}, Count: int(t.int("count")), Jobs: []string{id},
				Restarted: rapid.Bool().Draw(t.T, "restarted"),
			})
		}
	}
	for range rapid.IntRange(0, 6).Draw(t.T, "nodes") {
		f.Nodes = append(f.Nodes, Node{Nodearray: t.array(), Slurm: SlurmState(t.int("slurm")), Supply: Supply(rapid.IntRange(-1, 9).Draw(t.T, "supply"))})
	}
	return f
}

func (t absurd) policy() Policy {
	p := priced()
	p.Shadow = rapid.Bool().Draw(t.T, "shadow mode")
	p.Nodearrays[0].Price = Money(t.int("price"))
	p.Zone = zone(t, t.name("zone", "UTC", "Australia/Lord_Howe", "America/Havana"))
	for range rapid.IntRange(0, 4).Draw(t.T, "budgets") {
		p.Budgets = append(p.Budgets, Budget{
			Scope: Scope(t.name("scope", string(ScopeCluster), string(ScopeNodearray), string(ScopeAccount), "galaxy")), Name: t.name("name", "", "htc", "chem"),
			Period: t.period(), Soft: Money(t.int("soft")), Medium: Money(t.int("medium")), Hard: Money(t.int("hard")), MediumJobCost: Money(t.int("job cost")),
		})
	}
	return p
}

// orderly holds what is true of every memory.
func orderly(t *rapid.T, now time.Time, p Policy, m Memory) {
	ids := func(a, b CloudJob) int { return cmp.Compare(a.ID, b.ID) }
	if !slices.IsSortedFunc(m.Jobs, ids) || len(slices.CompactFunc(slices.Clone(m.Jobs), func(a, b CloudJob) bool { return ids(a, b) == 0 })) != len(m.Jobs) {
		t.Fatalf("jobs out of order: %v", m.Jobs)
	}
	books := func(a, b Book) int {
		return cmp.Or(cmp.Compare(a.Period, b.Period), a.From.Compare(b.From), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Nodearray, b.Nodearray))
	}
	for i, b := range m.Books {
		if b.Settled < 0 || b.BootWaste < 0 || b.IdleWaste < 0 || b.NodeTime < 0 || b.WastedTime < 0 || b.JobsSettled < 0 {
			t.Fatalf("less than nothing in %+v", b)
		}
		if i > 0 && books(m.Books[i-1], b) >= 0 {
			t.Fatalf("books out of order: %+v", m.Books)
		}
	}
	if !slices.IsSortedFunc(m.Meters, func(a, b Meter) int { return cmp.Compare(a.Nodearray, b.Nodearray) }) {
		t.Fatalf("meters out of order: %v", m.Meters)
	}
	at := newTill(now, p, &m)
	for _, b := range at.budgets {
		if b.used < 0 {
			t.Fatalf("%+v is used up to %d", b, b.used)
		}
	}
}

func absurdity(rt *rapid.T) {
	t := absurd{rt}
	now, p, f := t.time("now"), t.policy(), t.facts()
	before := f.Memory.clone()
	m := advance(now, p, f)
	if diff := gocmp.Diff(before, f.Memory); diff != "" {
		t.Fatalf("the old memory changed:\n%s", diff)
	}
	orderly(rt, now, p, m)
	// What Slurm lists in another order is the same.
	g := f
	g.Running, g.Ended, g.Groups, g.Nodes = slices.Clone(f.Running), slices.Clone(f.Ended), slices.Clone(f.Groups), slices.Clone(f.Nodes)
	slices.Reverse(g.Running)
	slices.Reverse(g.Ended)
	slices.Reverse(g.Groups)
	slices.Reverse(g.Nodes)
	if diff := gocmp.Diff(m, advance(now, p, g)); diff != "" {
		t.Fatalf("in another order:\n%s", diff)
	}
	// The same snapshot again changes only what meters book.
	f.Memory = m
	again := advance(now.Add(time.Hour), p, f)
	if diff := gocmp.Diff([]any{m.Seen, m.Jobs, m.Runs}, []any{again.Seen, again.Jobs, again.Runs}); diff != "" {
		t.Fatalf("the same snapshot a second time changed:\n%s", diff)
	}
	orderly(rt, now.Add(time.Hour), p, again)
	at := newTill(now, p, &m)
	amount := Money(t.int("amount"))
	for _, array := range []NodearrayName{"htc", "old"} {
		_, why := at.afford(array, "chem", amount)
		if len(why.Text) > 250 {
			t.Fatalf("a long reason: %s", why)
		}
		if n := at.nodesFor(array, amount); n < 0 || n > manyNodes {
			t.Fatalf("%d nodes", n)
		}
		at.commit(array, "chem", max(0, amount))
	}
	for i := range m.Jobs {
		at.release(&m.Jobs[i])
	}
	at.warnings(&m)
	orderly(rt, now, p, m)
}

// Nothing that Slurm, a clock or a ledger may say makes money wrap around,
// go below nothing or end the process.
func TestAbsurdFactsAreBorne(t *testing.T) { rapid.Check(t, absurdity) }

// FuzzAdvance looks for absurd facts by coverage.
func FuzzAdvance(f *testing.F) { f.Fuzz(rapid.MakeFuzz(absurdity)) }
