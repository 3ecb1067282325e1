package burst

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// spent is a memory in which account chem has used 20.00 of htc in the present
// hour, 30.00 today and 40.00 this month, and nodes of htc have wasted 5.00 of
// that: half is settled, the rest committed.
func spent() Memory {
	hour, month := origin, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	book := func(p Period, from time.Time, settled Money) []Book {
		return []Book{
			{Period: p, From: from, Account: "chem", Nodearray: "htc", Settled: settled},
			{Period: p, From: from, Nodearray: "htc", BootWaste: 2 * unit, IdleWaste: 3 * unit},
		}
	}
	return Memory{
		Books: slices.Concat(
			book(Day, month, 17*unit), book(Hour, hour.Add(-time.Hour), 99*unit), book(Hour, hour, 7*unit),
			book(Month, month.AddDate(0, -1, 0), 99*unit), book(Month, month, 27*unit),
		),
		Jobs: []CloudJob{
			released(func(j *CloudJob) { j.ID, j.CommittedAt, j.Committed = "1", hour.Add(-24*time.Hour), 99*unit }),
			released(func(j *CloudJob) { j.ID, j.CommittedAt, j.Committed = "2", hour.Add(time.Minute), 8*unit }),
		},
	}
}

func TestUsed(t *testing.T) {
	m := spent()
	for _, c := range []struct {
		scope  Scope
		name   string
		period Period
		want   Money
	}{
		{ScopeCluster, "", Hour, 20},
		{ScopeCluster, "", Day, 30},
		{ScopeCluster, "", Month, 40},
		{ScopeNodearray, "htc", Hour, 20},
		{ScopeNodearray, "hpc", Hour, 0},
		{ScopeNodearray, "hpc", Month, 0},
		{ScopeAccount, "chem", Hour, 15},
		{ScopeAccount, "chem", Day, 25},
		{ScopeAccount, "chem", Month, 35},
		{ScopeAccount, "bio", Month, 0},
		{Scope("galaxy"), "", Month, 0},
	} {
		if got := m.used(priced(), Budget{Scope: c.scope, Name: c.name, Period: c.period}, origin.Add(10*time.Minute)); got != c.want*unit {
			t.Errorf("%s %s has used %s in the %s, want %d", c.scope, c.name, got, c.period, c.want)
		}
	}
}

func TestAfford(t *testing.T) {
	for name, c := range map[string]struct {
		budgets   []Budget
		nodearray NodearrayName
		account   string
		amount    Money
		want      Reason
	}{
		"without a budget everything goes": {nil, "htc", "chem", math.MaxInt64, Reason{}},
		"a budget without limits is none":  {[]Budget{{Scope: ScopeCluster, Period: Hour}}, "htc", "chem", math.MaxInt64, Reason{}},
		"the last of a hard limit may be used": {
			[]Budget{{Scope: ScopeCluster, Period: Hour, Hard: 30 * unit}}, "htc", "chem", 10 * unit, Reason{},
		},
		"no more than a hard limit may be used": {
			[]Budget{{Scope: ScopeCluster, Period: Hour, Hard: 30 * unit}},
			"hpc", "bio", 10*unit + 1,
			Reason{ReasonBudgetHard, "20.00 of 30.00 is taken from the cluster's budget for the hour, and the job asks for 10.00"},
		},
		"an absurd amount is more than any limit": {
			[]Budget{{Scope: ScopeCluster, Period: Hour, Hard: 30 * unit}},
			"hpc", "bio", math.MaxInt64,
			Reason{ReasonBudgetHard, "20.00 of 30.00 is taken from the cluster's budget for the hour, and the job asks for 9223372036854.78"},
		},
		"one nodearray's budget is not another's": {
			[]Budget{{Scope: ScopeNodearray, Name: "hpc", Period: Day, Hard: 1}}, "htc", "chem", 10 * unit, Reason{},
		},
		"a nodearray's budget bounds every account": {
			[]Budget{{Scope: ScopeNodearray, Name: "htc", Period: Day, Hard: 35 * unit}},
			"htc", "bio", 6 * unit,
			Reason{ReasonBudgetHard, "30.00 of 35.00 is taken from the budget of nodearray htc for the day, and the job asks for 6.00"},
		},
		"one account's budget is not another's": {
			[]Budget{{Scope: ScopeAccount, Name: "bio", Period: Month, Hard: 1}}, "htc", "chem", 10 * unit, Reason{},
		},
		"an account's budget bounds it everywhere": {
			[]Budget{{Scope: ScopeAccount, Name: "chem", Period: Month, Hard: 40 * unit}},
			"hpc", "chem", 5*unit + 1,
			Reason{ReasonBudgetHard, "35.00 of 40.00 is taken from the budget of account chem for the month, and the job asks for 5.00"},
		},
		"above the medium limit a cheap job goes": {
			[]Budget{{Scope: ScopeCluster, Period: Hour, Medium: 15 * unit, MediumJobCost: 2 * unit}}, "htc", "chem", 2 * unit, Reason{},
		},
		"above the medium limit no other job goes": {
			[]Budget{{Scope: ScopeCluster, Period: Hour, Medium: 15 * unit, MediumJobCost: 2 * unit}},
			"htc", "chem", 3 * unit,
			Reason{ReasonBudgetMedium, "20.00 is taken from the cluster's budget for the hour; above 15.00 a job may ask for 2.00, and this one asks for 3.00"},
		},
		"a dear job may not pass the medium limit": {
			[]Budget{{Scope: ScopeCluster, Period: Hour, Medium: 21 * unit, MediumJobCost: 2 * unit}},
			"htc", "chem", 3 * unit,
			Reason{ReasonBudgetMedium, "20.00 is taken from the cluster's budget for the hour; above 21.00 a job may ask for 2.00, and this one asks for 3.00"},
		},
		"a dear job may reach the medium limit": {
			[]Budget{{Scope: ScopeCluster, Period: Hour, Medium: 23 * unit, MediumJobCost: 2 * unit}}, "htc", "chem", 3 * unit, Reason{},
		},
		"a hard limit is named before a medium one": {
			[]Budget{{Scope: ScopeCluster, Period: Hour, Medium: 15 * unit}, {Scope: ScopeAccount, Name: "chem", Period: Hour, Hard: 16 * unit}},
			"htc", "chem", 3 * unit,
			Reason{ReasonBudgetHard, "15.00 of 16.00 is taken from the budget of account chem for the hour, and the job asks for 3.00"},
		},
		"a soft limit holds nothing": {[]Budget{{Scope: ScopeCluster, Period: Hour, Soft: 1}}, "htc", "chem", 10 * unit, Reason{}},
	} {
		t.Run(name, func(t *testing.T) {
			p, m := priced(), spent()
			p.Budgets = c.budgets
			fits, why := newTill(origin.Add(10*time.Minute), p, &m).afford(c.nodearray, c.account, c.amount)
			if diff := cmp.Diff(c.want, why); diff != "" || fits != (c.want == Reason{}) {
				t.Errorf("%v, reason (-want +got):\n%s", fits, diff)
			}
		})
	}
}

func TestWhatIsReleasedCanBeCommittedAgain(t *testing.T) {
	p, m := priced(), spent()
	p.Budgets = []Budget{{Scope: ScopeCluster, Period: Hour, Hard: 20 * unit}, {Scope: ScopeCluster, Period: Month, Hard: 1000 * unit}}
	at := newTill(origin.Add(10*time.Minute), p, &m)
	at.release(&m.Jobs[0]) // committed yesterday: not in this hour's budget
	if fits, _ := at.afford("htc", "chem", 1); fits {
		t.Error("money of another hour made room in this one")
	}
	at.release(&m.Jobs[1])
	if fits, why := at.afford("htc", "chem", 8*unit); !fits {
		t.Error(why)
	}
	at.commit("hpc", "bio", 8*unit)
	if fits, _ := at.afford("htc", "chem", 1); fits {
		t.Error("the same money was committed twice")
	}
}

func TestNodesFor(t *testing.T) {
	for name, c := range map[string]struct {
		budgets []Budget
		perNode Money
		want    int
	}{
		"no budget is no bound":                   {nil, unit, manyNodes},
		"a soft or a medium limit is no bound":    {[]Budget{{Scope: ScopeCluster, Period: Hour, Soft: 1, Medium: 1}}, unit, manyNodes},
		"what is free is no bound":                {[]Budget{{Scope: ScopeCluster, Period: Hour, Hard: 1}}, 0, manyNodes},
		"whole nodes count":                       {[]Budget{{Scope: ScopeCluster, Period: Hour, Hard: 29 * unit}}, 4 * unit, 2},
		"the tightest budget counts":              {[]Budget{{Scope: ScopeCluster, Period: Hour, Hard: 100 * unit}, {Scope: ScopeNodearray, Name: "htc", Period: Day, Hard: 32 * unit}}, unit, 2},
		"another nodearray's budget is no bound":  {[]Budget{{Scope: ScopeNodearray, Name: "hpc", Period: Hour, Hard: 1}}, unit, manyNodes},
		"one account's budget does not bind all":  {[]Budget{{Scope: ScopeAccount, Name: "chem", Period: Hour, Hard: 1}}, unit, manyNodes},
		"a budget that is passed leaves no nodes": {[]Budget{{Scope: ScopeCluster, Period: Hour, Hard: unit}}, unit, 0},
		"a huge budget is as good as none":        {[]Budget{{Scope: ScopeCluster, Period: Hour, Hard: math.MaxInt64}}, 1, manyNodes},
	} {
		t.Run(name, func(t *testing.T) {
			p, m := priced(), spent()
			p.Budgets = c.budgets
			if got := newTill(origin.Add(10*time.Minute), p, &m).nodesFor("htc", c.perNode); got != c.want {
				t.Errorf("%d nodes, want %d", got, c.want)
			}
		})
	}
}

func TestASoftLimitIsToldOncePerPeriod(t *testing.T) {
	p, m := priced(), spent()
	p.Budgets = []Budget{
		{Scope: ScopeNodearray, Name: "htc", Period: Hour, Soft: 20 * unit},
		{Scope: ScopeCluster, Period: Hour, Soft: 20*unit + 1},
		{Scope: ScopeAccount, Name: "chem", Period: Day, Soft: 1},
		{Scope: ScopeCluster, Period: Month},
	}
	now := origin.Add(10 * time.Minute)
	var texts []string
	for _, w := range newTill(now, p, &m).warnings(&m) {
		texts = append(texts, w.Reason.String())
	}
	if diff := cmp.Diff([]string{
		"budget_soft: 20.00 is taken from the budget of nodearray htc for the hour, and its soft limit is 20.00",
		"budget_soft: 25.00 is taken from the budget of account chem for the day, and its soft limit is 0.00",
	}, texts); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	if again := newTill(now, p, &m).warnings(&m); again != nil {
		t.Errorf("told again: %v", again)
	}
	m = advance(now, p, Facts{Memory: m})
	if len(m.Warned) != 2 {
		t.Errorf("within the hour %v were told", m.Warned)
	}
	m = advance(now.Add(time.Hour), p, Facts{Memory: m})
	if len(m.Warned) != 1 || m.Warned[0].Period != Day {
		t.Errorf("in the next hour %v were told", m.Warned)
	}
	m.Jobs[1].CommittedAt, m.Jobs[1].Committed = now.Add(time.Hour), 100*unit
	if next := newTill(now.Add(time.Hour), p, &m).warnings(&m); len(next) != 2 || next[0].Budget.Period != Hour {
		t.Errorf("in the next hour %v was told", next)
	}
}

func drawBudgets(t *rapid.T) []Budget {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Budget {
		limit := func(label string) Money {
			if rapid.Bool().Draw(t, "no "+label) {
				return 0
			}
			return Money(rapid.Int64Range(1, 200*int64(unit)).Draw(t, label))
		}
		b := Budget{
			Scope: rapid.SampledFrom([]Scope{ScopeCluster, ScopeNodearray, ScopeAccount}).Draw(t, "scope"), Period: rapid.SampledFrom(periods[:]).Draw(t, "period"),
			Soft: limit("soft"), Medium: limit("medium"), Hard: limit("hard"), MediumJobCost: limit("job cost"),
		}
		switch b.Scope {
		case ScopeNodearray:
			b.Name = rapid.SampledFrom([]string{"htc", "hpc"}).Draw(t, "nodearray")
		case ScopeAccount:
			b.Name = rapid.SampledFrom([]string{"chem", "bio"}).Draw(t, "account")
		case ScopeCluster:
		}
		return b
	}), 0, 6).Draw(t, "budgets")
}

// tally is what a budget has used, counted one by one.
func tally(m Memory, b Budget, now time.Time, zone *time.Location) Money {
	var sum Money
	covers := func(nodearray NodearrayName, account string) bool {
		return b.Scope == ScopeCluster || b.Scope == ScopeNodearray && b.Name == string(nodearray) || b.Scope == ScopeAccount && b.Name == account
	}
	this := periodStart(b.Period, now, zone)
	for _, k := range m.Books {
		if k.Period == b.Period && k.From.Equal(this) && covers(k.Nodearray, k.Account) {
			sum += k.Settled + k.BootWaste + k.IdleWaste
		}
	}
	for _, j := range m.Jobs {
		if periodStart(b.Period, j.CommittedAt, zone).Equal(this) && covers(j.Nodearray, j.Account) {
			sum += j.Committed
		}
	}
	return sum
}

// What a till lets through is never more than a hard limit, and it counts as
// the memory does.
func TestATillNeverPassesAHardLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := origin.Add(time.Duration(rapid.Int64Range(0, int64(3*time.Hour)).Draw(t, "now")))
		p, m := priced(), spent()
		p.Zone = zone(t, rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "Asia/Kathmandu"}).Draw(t, "zone"))
		p.Budgets = drawBudgets(t)
		m = advance(now, p, Facts{Memory: m})
		before := make([]Money, len(p.Budgets))
		for i, b := range p.Budgets {
			before[i] = tally(m, b, now, p.Zone)
			if used := m.used(p, b, now); used != before[i] {
				t.Fatalf("budget %+v has used %s by the till and %s by the memory", b, used, before[i])
			}
		}
		at := newTill(now, p, &m)
		for i := range rapid.IntRange(0, 12).Draw(t, "steps") {
			nodearray := rapid.SampledFrom([]NodearrayName{"htc", "hpc"}).Draw(t, "nodearray")
			account := rapid.SampledFrom([]string{"chem", "bio", ""}).Draw(t, "account")
			amount := Money(rapid.Int64Range(0, 100*int64(unit)).Draw(t, "amount"))
			if k := rapid.IntRange(0, len(m.Jobs)).Draw(t, "job"); k < len(m.Jobs) {
				at.release(&m.Jobs[k])
				m.Jobs = slices.Delete(m.Jobs, k, k+1)
			}
			if fits, _ := at.afford(nodearray, account, amount); fits {
				at.commit(nodearray, account, amount)
				m.Jobs = append(m.Jobs, CloudJob{ID: fmt.Sprint("n", i), Nodearray: nodearray, Account: account, Committed: amount, CommittedAt: now})
			}
			if n := at.nodesFor(nodearray, amount); n < manyNodes {
				cheap := *at
				cheap.budgets = slices.Clone(at.budgets)
				for i := range cheap.budgets {
					cheap.budgets[i].Medium = 0
				}
				if fits, why := cheap.afford(nodearray, "nobody", Money(n)*amount); !fits && n > 0 {
					t.Fatalf("%d nodes of %s do not fit: %s", n, amount, why)
				}
				if fits, _ := cheap.afford(nodearray, "nobody", Money(n+1)*amount); fits {
					t.Fatalf("%d nodes of %s fit, not only %d", n+1, amount, n)
				}
			}
		}
		for i, b := range p.Budgets {
			used := tally(m, b, now, p.Zone)
			if b.Hard > 0 && used > max(b.Hard, before[i]) {
				t.Fatalf("%+v is used up to %s", b, used)
			}
			if used != at.budgets[i].used {
				t.Fatalf("%+v has used %s by the till and %s by the memory", b, at.budgets[i].used, used)
			}
		}
	})
}

// A higher limit never refuses what a lower one allows.
func TestAHigherLimitRefusesNoMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, m := priced(), spent()
		p.Budgets = drawBudgets(t)
		amount := Money(rapid.Int64Range(0, 100*int64(unit)).Draw(t, "amount"))
		allowed, _ := newTill(origin, p, &m).afford("htc", "chem", amount)
		nodes := newTill(origin, p, &m).nodesFor("htc", amount)
		for i := range p.Budgets {
			b := &p.Budgets[i]
			more := Money(rapid.Int64Range(0, 50*int64(unit)).Draw(t, "more"))
			switch rapid.IntRange(0, 3).Draw(t, "which") {
			case 0:
				if b.Hard > 0 {
					b.Hard += more
				}
			case 1:
				if b.Medium > 0 {
					b.Medium += more
				}
			case 2:
				b.MediumJobCost += more
			case 3:
				b.Hard, b.Medium = 0, 0
			}
		}
		if still, why := newTill(origin, p, &m).afford("htc", "chem", amount); allowed && !still {
			t.Errorf("a higher limit refuses %s: %s", amount, why)
		}
		if now := newTill(origin, p, &m).nodesFor("htc", amount); now < nodes {
			t.Errorf("a higher limit leaves %d nodes, not %d", now, nodes)
		}
	})
}
