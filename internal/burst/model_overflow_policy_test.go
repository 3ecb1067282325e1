package burst

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// hours is a window that opens and closes again and again.
type hours struct{ open, shut time.Duration }

func (h hours) At(t time.Time) (bool, time.Time) {
	cycle := h.open + h.shut
	began := t.Truncate(cycle)
	if t.Sub(began) < h.open {
		return true, began.Add(h.open)
	}
	return false, began.Add(cycle)
}

// ofAccount agrees with the jobs of one account; of the others, it says or
// costs too much.
type ofAccount struct {
	name   string
	others Answer
}

func (p ofAccount) Judge(g *Group) Answer {
	if g.Account == p.name {
		return Yes
	}
	return p.others
}

// The people of every modelled cluster.
var (
	modelAccounts = []string{"bio", "chem"}
	modelUsers    = []string{"ada", "ben", "cleo"}
)

// maybe gives x in one of n cases, and otherwise nothing.
func maybe[T any](w *world, n int, x T) T {
	var none T
	if w.IntN(n) > 0 {
		return none
	}
	return x
}

// oneOf gives one of the values.
func oneOf[T any](w *world, values ...T) T { return values[w.IntN(len(values))] }

// drawPolicy draws what the site allows, and what it allows later on, when
// nothing of it keeps a job for ever.
func (c *burstCluster) drawPolicy() {
	p := Policy{
		Version: "1", Cluster: "onprem", Shadow: c.IntN(15) == 0, MaxActAge: 90 * time.Second,
		Breaker: BreakerPolicy{First: c.span(40, 200), Max: c.span(200, 600)},
	}
	for i := range 1 + c.IntN(3) {
		p.Nodearrays = append(p.Nodearrays, c.drawNodearray(i))
	}
	all := 0
	for _, a := range p.Nodearrays {
		all += a.MaxNodes
	}
	p.MaxNodes = maybe(c.world, 3, 1+c.IntN(all))
	p.Overflow = c.drawRules(p.Nodearrays)
	if c.IntN(2) == 0 {
		p.Budgets = c.drawBudgets(p.Nodearrays)
	}
	if c.IntN(3) == 0 {
		p.Accounts = append(p.Accounts, Share{oneOf(c.world, "", "bio"), 1 + c.IntN(3)})
	}
	if c.IntN(3) == 0 {
		p.Users = append(p.Users, Share{oneOf(c.world, "", "ada"), 1 + c.IntN(2)})
	}
	c.policy, c.later = p, p
	c.later.Version, c.later.Shadow = "2", false
	c.later.Nodearrays = slices.Clone(p.Nodearrays)
	for i := range c.later.Nodearrays {
		a := &c.later.Nodearrays[i]
		a.Window, a.Gated = nil, false
	}
}

func (c *burstCluster) drawNodearray(rank int) Nodearray {
	name := string(rune('a' + rank))
	a := Nodearray{
		Name: NodearrayName(name), Partition: "cloud-" + name, MachineType: "Standard_F4s_v2",
		MaxNodes: 1 + c.IntN(3), Price: Money(1+c.IntN(20)) * 100_000, IdleTimeout: time.Minute, BootDeadline: 3 * time.Minute,
		BootTime: c.span(20, 100), MaxPlacementGroup: maybe(c.world, 10, 1), CPUs: 4,
		Features: maybe(c.world, 2, []string{"big"}), Spot: c.IntN(3) == 0,
		StepUp: maybe(c.world, 5, Step{1 + c.IntN(2), c.span(60, 200)}), StepDown: maybe(c.world, 8, Step{1, c.span(30, 90)}),
		CooldownUp: maybe(c.world, 8, c.span(20, 120)), CooldownDown: maybe(c.world, 8, c.span(20, 120)),
		Gated: c.IntN(20) == 0,
	}
	if c.IntN(10) == 0 {
		a.Window = hours{c.span(100, 600), c.span(100, 600)}
	}
	for i := range a.MaxNodes + c.IntN(3) {
		a.Nodes = append(a.Nodes, NodeName(name+"-"+strconv.Itoa(i+1)))
	}
	return a
}

func (c *burstCluster) drawRules(arrays []Nodearray) []Overflow {
	rule := func() Overflow {
		o := Overflow{Partition: "local", Waiting: c.drawWaiting(), MaxJobCost: maybe(c.world, 6, Money(100_000+c.IntN(1_000_000)))}
		for _, a := range arrays {
			if c.IntN(6) > 0 {
				o.Nodearrays = append(o.Nodearrays, a.Name)
			}
		}
		if c.IntN(4) == 0 {
			slices.Reverse(o.Nodearrays)
		}
		return o
	}
	rules := []Overflow{rule()}
	if c.IntN(4) == 0 {
		rules[0].When = ofAccount{oneOf(c.world, modelAccounts...), oneOf(c.world, No, Overrun)}
		if c.IntN(2) == 0 {
			rules = append(rules, rule())
		}
	}
	return rules
}

func (c *burstCluster) drawWaiting() Waiting {
	return oneOf(c.world,
		Waiting{Rule: WaitingImmediate}, Waiting{Rule: WaitingImmediate}, Waiting{Rule: WaitingWait, Wait: c.span(5, 120)},
		Waiting{Rule: WaitingPressure, Drain: c.span(30, 300)}, Waiting{Rule: WaitingWeighted, Kappa: 0.1 * c.Float64()})
}

// drawBudgets draws budgets of the size of a few jobs.
func (c *burstCluster) drawBudgets(arrays []Nodearray) []Budget {
	var budgets []Budget
	for range 1 + c.IntN(3) {
		b := Budget{Scope: ScopeCluster, Period: oneOf(c.world, Hour, Hour, Day, Month)}
		switch c.IntN(3) {
		case 0:
			b.Scope, b.Name = ScopeNodearray, string(arrays[c.IntN(len(arrays))].Name)
		case 1:
			b.Scope, b.Name = ScopeAccount, oneOf(c.world, modelAccounts...)
		}
		dearest := Money(0)
		for _, a := range arrays {
			dearest = max(dearest, a.Price)
		}
		b.Hard = dearest + Money(c.IntN(int(2*dearest))) // a policy whose budget pays for no node-hour is refused
		b.Medium = maybe(c.world, 3, b.Hard/2)
		b.Soft = maybe(c.world, 2, b.Hard/3)
		b.MediumJobCost = Money(c.IntN(int(dearest)))
		same := func(o Budget) bool { return o.Scope == b.Scope && o.Name == b.Name && o.Period == b.Period }
		if !slices.ContainsFunc(budgets, same) {
			budgets = append(budgets, b)
		}
	}
	return budgets
}

// drawJobs draws what the users submit: jobs and arrays of tasks, most of them
// on-prem, some straight to a nodearray.
func (c *burstCluster) drawJobs() {
	until := int(c.calm.Sub(c.start)/time.Second) * 2 / 3
	if c.IntN(2) == 0 {
		until = 100 // all come at once
	}
	c.up = map[string]bool{}
	for _, a := range c.policy.Nodearrays {
		p := Partition{Name: a.Partition, Up: true}
		p.MaxTime = maybe(c.world, 10, c.span(400, 3600))
		p.MaxNodes = maybe(c.world, 12, 1)
		p.AllowAccounts = maybe(c.world, 12, []string{oneOf(c.world, modelAccounts...)})
		c.admits = append(c.admits, p)
		c.up[a.Partition] = true
	}
	shapes := 2 + c.IntN(4)
	for shape := range shapes {
		j := burstJob{
			account: oneOf(c.world, modelAccounts...), user: oneOf(c.world, modelUsers...), came: c.now.Add(c.span(0, until)),
			parts: []string{"local"}, feature: maybe(c.world, 10, "big"), nodeList: c.IntN(25) == 0,
		}
		j.size, j.batch, j.length = 1+c.IntN(c.local), c.IntN(4) > 0, c.span(10, 240)
		j.limit = j.length.Truncate(time.Minute) + time.Duration(1+c.IntN(oneOf(c.world, 8, 90)))*time.Minute
		if direct := c.IntN(5) == 0; direct {
			a := c.policy.Nodearrays[c.IntN(len(c.policy.Nodearrays))]
			j.parts, j.size, j.feature, j.nodeList = []string{a.Partition}, 1+c.IntN(a.MaxNodes), "", false
		}
		if c.IntN(12) == 0 {
			j.held = j.came.Add(c.span(10, 200))
		}
		tasks := 1 + c.IntN(5)
		if c.crowd && shape == 0 {
			tasks, j.length, j.limit, j.size, j.parts = 320, 4*time.Second, time.Minute, 1, []string{"local"}
		}
		array := c.IntN(2) == 0 && !c.crowd
		for task := range tasks {
			k := j
			k.id = fmt.Sprint(1000*(shape+1) + task)
			if array {
				k.id = fmt.Sprintf("%d_%d", 1000*(shape+1), task)
			} else {
				k.came = k.came.Add(c.span(0, 60))
			}
			k.submit = k.came
			c.jobs = append(c.jobs, &k)
		}
	}
	if c.contested {
		c.drawContest(until)
	}
	slices.SortStableFunc(c.jobs, func(a, b *burstJob) int { return a.came.Compare(b.came) })
	for _, j := range c.jobs {
		c.byID[j.id] = j
	}
}
