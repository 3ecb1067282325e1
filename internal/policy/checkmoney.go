package policy

import (
	"fmt"
	"slices"

	"github.com/slurmburst/slurmburst/internal/burst"
)

func (p *parsing) checkBudgets(d Document) {
	type target struct {
		scope  burst.Scope
		name   string
		period burst.Period
	}
	first := map[target]int{}
	for i, b := range d.Budgets {
		path := fmt.Sprintf("budgets[%d]", i)
		t := target{b.Scope, b.Name, b.Period}
		if j, taken := first[t]; taken && b.Scope != "" && b.Period != "" {
			p.at(path, "has the scope, name and period of budgets[%d]", j)
		} else {
			first[t] = i
		}
		p.checkBudgetOrder(path, b)
		p.checkBudgetPrices(path, b, d.Nodearrays)
	}
}

// checkBudgetOrder wants soft <= medium <= hard.
func (p *parsing) checkBudgetOrder(path string, b Budget) {
	if !p.given(path+".soft") && !p.given(path+".medium") && !p.given(path+".hard") {
		p.add(p.lines[path], path, "bounds nothing (want soft, medium or hard)")
	}
	type bound struct {
		key    string
		amount burst.Money
	}
	var low bound
	for _, high := range []bound{{"soft", b.Soft}, {"medium", b.Medium}, {"hard", b.Hard}} {
		if high.amount == 0 {
			continue
		}
		if low.amount > high.amount {
			p.at(path+"."+high.key, "is less than %s (got %s, want at least %s)", low.key, formatMoney(high.amount), formatMoney(low.amount))
		}
		low = high
	}
	switch {
	case p.given(path+".medium") && !p.given(path+".mediumJobCost"):
		p.lacks(path, "mediumJobCost", "medium needs it")
	case p.given(path+".mediumJobCost") && !p.given(path+".medium"):
		p.lacks(path, "medium", "mediumJobCost has no meaning without it")
	case b.Hard > 0 && b.MediumJobCost > b.Hard:
		p.at(path+".mediumJobCost", "is more than hard (got %s, want at most %s)", formatMoney(b.MediumJobCost), formatMoney(b.Hard))
	}
}

// checkBudgetPrices holds a budget to nodearrays that exist and whose nodes
// have a price, and to at least one node-hour: with less it would only ever
// refuse.
func (p *parsing) checkBudgetPrices(path string, b Budget, arrays []Nodearray) {
	switch b.Scope {
	case burst.ScopeCluster:
		if p.given(path + ".name") {
			p.at(path+".name", "has no meaning for the scope cluster")
		}
	case burst.ScopeAccount, burst.ScopeNodearray:
		if !p.given(path + ".name") {
			p.lacks(path, "name", "the scope %s needs it", b.Scope)
			return
		}
	default:
		return // told already
	}
	if b.Scope == burst.ScopeNodearray && b.Name != "" &&
		!slices.ContainsFunc(arrays, func(a Nodearray) bool { return string(a.Name) == b.Name }) {
		p.at(path+".name", "is not a nodearray of this policy (got %s)", show(b.Name))
		return
	}
	var cheapest burst.Money
	for i, a := range arrays {
		if b.Scope == burst.ScopeNodearray && string(a.Name) != b.Name {
			continue
		}
		if !p.priced(i) {
			p.add(p.lines[path], path, "needs the price of each nodearray that it covers (%s has none)", show(string(a.Name)))
			return
		}
		if rate := a.rate(); cheapest == 0 || rate > 0 && rate < cheapest {
			cheapest = rate
		}
	}
	if b.Hard > 0 && b.Hard < cheapest {
		p.at(path+".hard", "is less than one node-hour of the cheapest nodearray that it covers (got %s, want at least %s)", formatMoney(b.Hard), formatMoney(cheapest))
	}
}

// priced reports whether the file gives the nodearray a price, right or wrong.
func (p *parsing) priced(nodearray int) bool {
	return p.given(fmt.Sprintf("nodearrays[%d].price", nodearray))
}

func (p *parsing) checkOverflow(d Document) {
	priced := map[burst.NodearrayName]bool{}
	owner := map[string]burst.NodearrayName{}
	for i, a := range d.Nodearrays {
		priced[a.Name] = p.priced(i)
		owner[a.Partition] = a.Name
	}
	all := map[string]int{} // the rule that takes all jobs of a partition
	for i, o := range d.Overflow {
		path := fmt.Sprintf("overflow[%d]", i)
		if j, shadowed := all[o.Partition]; shadowed && o.Partition != "" {
			p.add(p.lines[path], path, "is never reached: overflow[%d] takes every job of %s", j, show(o.Partition))
		} else if !p.given(path + ".when") {
			all[o.Partition] = i
		}
		if array, cloud := owner[o.Partition]; cloud && o.Partition != "" {
			p.at(path+".partition", "is in the cloud already (%s is the partition of nodearray %s)", show(o.Partition), show(string(array)))
		}
		for j, name := range o.Nodearrays {
			at := fmt.Sprintf("%s.nodearrays[%d]", path, j)
			hasPrice, known := priced[name]
			switch {
			case name == "":
			case !known:
				p.at(at, "is not a nodearray of this policy (got %s)", show(string(name)))
			case slices.Contains(o.Nodearrays[:j], name):
				p.at(at, "is named twice (%s)", show(string(name)))
			case o.MaxJobCost > 0 && !hasPrice:
				p.at(path+".maxJobCost", "needs the price of each nodearray of the rule (%s has none)", show(string(name)))
			}
		}
		p.checkWaiting(path, o.Waiting)
	}
}

// checkWaiting wants the numbers of the rule, and no others: a number that
// another rule would use is a slip.
func (p *parsing) checkWaiting(path string, w Waiting) {
	path += ".waiting"
	uses := map[burst.WaitingRule]string{burst.WaitingWeighted: "kappa", burst.WaitingWait: "wait", burst.WaitingPressure: "drain"}
	for _, key := range []string{"kappa", "wait", "drain"} {
		if p.given(path+"."+key) && uses[w.Rule] != key {
			p.at(path+"."+key, "has no meaning for the rule %s", w.Rule)
		}
	}
	if key := uses[w.Rule]; key != "" && key != "kappa" && !p.given(path+"."+key) {
		p.lacks(path, key, "the rule %s needs it", w.Rule)
	}
}
