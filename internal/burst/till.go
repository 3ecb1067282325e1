package burst

import (
	"cmp"
	"slices"
	"time"
)

// manyNodes stands for no bound on nodes.
const manyNodes = 1 << 30

// till knows what is left of every budget while a plan is made.
type till struct {
	calendar
	budgets []tillBudget
	// The budgets that apply, as places in budgets.
	cluster   []int
	nodearray map[NodearrayName][]int
	account   map[string][]int
}

// tillBudget is a budget and what is used of it in the present period: what was
// settled and wasted, and what is committed to jobs that did not end.
type tillBudget struct {
	Budget
	used Money
}

// newTill counts what is used of each budget of the policy.
func newTill(now time.Time, p Policy, m *Memory) *till {
	t := &till{
		calendar: newCalendar(now, p.Zone), budgets: make([]tillBudget, len(p.Budgets)),
		nodearray: map[NodearrayName][]int{}, account: map[string][]int{},
	}
	for i, b := range p.Budgets {
		t.budgets[i].Budget = b
		switch b.Scope {
		case ScopeCluster:
			t.cluster = append(t.cluster, i)
		case ScopeNodearray:
			t.nodearray[NodearrayName(b.Name)] = append(t.nodearray[NodearrayName(b.Name)], i)
		case ScopeAccount:
			t.account[b.Name] = append(t.account[b.Name], i)
		}
	}
	for i := range m.Books {
		b := &m.Books[i]
		for _, list := range t.covering(b.Nodearray, b.Account) {
			for _, at := range list {
				if t.budgets[at].Period == b.Period && t.counts(b.Period, b.From) {
					t.budgets[at].add(b.Settled.plus(b.BootWaste).plus(b.IdleWaste))
				}
			}
		}
	}
	for i := range m.Jobs {
		t.open(&m.Jobs[i])
	}
	return t
}

// covering gives the budgets that cover an account's use of a nodearray.
func (t *till) covering(nodearray NodearrayName, account string) [3][]int {
	return [3][]int{t.cluster, t.nodearray[nodearray], t.account[account]}
}

// open counts the commitment of a job that is in the memory already.
func (t *till) open(j *CloudJob) {
	for _, list := range t.covering(j.Nodearray, j.Account) {
		for _, at := range list {
			if t.counts(t.budgets[at].Period, j.CommittedAt) {
				t.budgets[at].add(j.Committed)
			}
		}
	}
}

// commit counts money that is committed now.
func (t *till) commit(nodearray NodearrayName, account string, amount Money) {
	for _, list := range t.covering(nodearray, account) {
		for _, at := range list {
			t.budgets[at].add(amount)
		}
	}
}

// release gives back the open commitment of a job, to the budgets in whose
// present period it was made.
func (t *till) release(j *CloudJob) {
	for _, list := range t.covering(j.Nodearray, j.Account) {
		for _, at := range list {
			if t.counts(t.budgets[at].Period, j.CommittedAt) {
				t.budgets[at].used = t.budgets[at].used.minus(j.Committed)
			}
		}
	}
}

// afford reports whether all budgets allow an account to commit so much in a
// nodearray, and if not, which one does not.
func (t *till) afford(nodearray NodearrayName, account string, amount Money) (bool, Reason) {
	covering := t.covering(nodearray, account)
	for _, list := range covering {
		for _, at := range list {
			if b := &t.budgets[at]; b.Hard > 0 && b.used.plus(amount) > b.Hard {
				return false, b.refuse(ReasonBudgetHard, amount)
			}
		}
	}
	for _, list := range covering {
		for _, at := range list {
			if b := &t.budgets[at]; b.Medium > 0 && b.used.plus(amount) > b.Medium && amount > b.MediumJobCost {
				return false, b.refuse(ReasonBudgetMedium, amount)
			}
		}
	}
	return true, Reason{}
}

// nodesFor is how many commitments of so much the budgets of the cluster and of
// a nodearray still allow, whoever makes them.
func (t *till) nodesFor(nodearray NodearrayName, perNode Money) int {
	if perNode <= 0 {
		return manyNodes
	}
	least := Money(manyNodes)
	for _, list := range [][]int{t.cluster, t.nodearray[nodearray]} {
		for _, at := range list {
			if b := &t.budgets[at]; b.Hard > 0 {
				least = min(least, b.Hard.minus(max(0, b.used))/perNode)
			}
		}
	}
	return int(least)
}

// warnings tells the soft limits that are passed and were not told in this
// period, and notes in the memory that they are told now.
func (t *till) warnings(m *Memory) []Warning {
	var all []Warning
	for i := range t.budgets {
		b := &t.budgets[i]
		if b.Soft <= 0 || b.used < b.Soft {
			continue
		}
		told := Warned{Scope: b.Scope, Name: b.Name, Period: b.Period, From: t.present[b.Period.index()]}
		at, known := slices.BinarySearchFunc(m.Warned, told, compareWarned)
		if known {
			continue
		}
		m.Warned = slices.Insert(m.Warned, at, told)
		why := because(ReasonBudgetSoft, "%s is taken from %s %s, and its soft limit is %s", b.used, b.title(), b.Period, b.Soft)
		all = append(all, Warning{Budget: b.Budget, Used: b.used, Reason: why})
	}
	return all
}

func compareWarned(a, b Warned) int {
	return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Period, b.Period), a.From.Compare(b.From))
}

// used is how much of a budget is taken in the present period.
func (m *Memory) used(p Policy, b Budget, now time.Time) Money {
	return newTill(now, Policy{Zone: p.Zone, Budgets: []Budget{b}}, m).budgets[0].used
}

func (b *tillBudget) add(amount Money) { b.used = b.used.plus(amount) }

// title names the budget: "the budget of account chem for the".
func (b *tillBudget) title() string {
	if b.Scope == ScopeCluster {
		return "the cluster's budget for the"
	}
	return "the budget of " + string(b.Scope) + " " + b.Name + " for the"
}

// refuse says why an amount is too much. It is asked for each group that waits,
// so it does without fmt.
func (b *tillBudget) refuse(code Code, amount Money) Reason {
	var buffer [256]byte
	medium := code == ReasonBudgetMedium
	text := b.used.append(buffer[:0])
	if !medium {
		text = b.Hard.append(append(text, " of "...))
	}
	text = append(append(text, " is taken from "...), b.title()...)
	text = append(append(text, ' '), b.Period...)
	if medium {
		text = b.Medium.append(append(text, "; above "...))
		text = b.MediumJobCost.append(append(text, " a job may ask for "...))
		text = append(text, ", and this one asks for "...)
	} else {
		text = append(text, ", and the job asks for "...)
	}
	return Reason{Code: code, Text: string(amount.append(text))}
}
