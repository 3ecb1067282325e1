package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
)

// given reports whether the file has the key at path.
func (p *parsing) given(path string) bool {
	_, there := p.lines[path]
	return there
}

// lacks notes that the mapping at path has no key although it needs one.
func (p *parsing) lacks(path, key, format string, args ...any) {
	p.add(p.lines[path], path+"."+key, "is missing: "+format, args...)
}

// finish fills in what depends on other keys, and compiles what is compiled.
func (p *parsing) finish(d *Document) {
	d.CycleCloud.Pin = strings.ToLower(strings.ReplaceAll(d.CycleCloud.Pin, ":", ""))
	zone, err := time.LoadLocation(d.TimeZone)
	if err != nil || strings.EqualFold(d.TimeZone, "local") {
		p.at("timeZone", "is not known (got %s, want %s)", show(d.TimeZone), zoneForm.want)
		zone = time.UTC
	}
	if d.TimeZone != DefaultTimeZone {
		d.zone = zone
	}
	for i := range d.Nodearrays {
		a := &d.Nodearrays[i]
		if !p.given(fmt.Sprintf("nodearrays[%d].bootTime", i)) {
			a.BootTime = min(DefaultBootTime, a.BootDeadline/2)
		}
		a.window = p.compileSchedule(fmt.Sprintf("nodearrays[%d].schedule", i), a.Schedule, zone)
	}
	for i := range d.Overflow {
		o := &d.Overflow[i]
		if o.Waiting.Rule == burst.WaitingWeighted && o.Waiting.Kappa == 0 {
			o.Waiting.Kappa = DefaultKappa
		}
		if o.When != "" {
			o.when = p.compileWhen(fmt.Sprintf("overflow[%d].when", i), o.When)
		}
	}
}

func (p *parsing) compileWhen(path, text string) burst.Predicate {
	if p.env == nil {
		e, err := newEnvironment()
		if err != nil {
			p.at(path, "cannot be compiled: %w", err)
			return nil
		}
		p.env = e
	}
	compiled, err := compilePredicate(p.env, text)
	if err != nil {
		p.at(path, "is not a rule (got %s): %w", show(text), err)
		return nil
	}
	return compiled
}

// check finds what contradicts itself although each value may be right.
func (p *parsing) check(d Document) {
	p.checkTrust(d.CycleCloud)
	p.checkNodes(d.Nodearrays)
	p.checkPartitions(d.Nodearrays)
	nodes := 0
	for i, a := range d.Nodearrays {
		path := fmt.Sprintf("nodearrays[%d]", i)
		nodes += len(a.Nodes)
		p.checkSize(path, a)
		p.checkPrice(path, a)
		p.checkPace(path, a)
	}
	p.checkLimit("maxNodes", d.MaxNodes, nodes)
	p.checkShares("accounts", d.Accounts, nodes)
	p.checkShares("users", d.Users, nodes)
	p.checkBudgets(d)
	p.checkOverflow(d)
	if d.Breaker.First > d.Breaker.Max {
		p.at("breaker", "rests longer at first than at most (got first %s and max %s)", burst.Spell(d.Breaker.First), burst.Spell(d.Breaker.Max))
	}
}

// checkLimit refuses a limit that can never be reached: it is a slip, or the
// list of nodes is.
func (p *parsing) checkLimit(path string, limit, nodes int) {
	if limit > nodes && nodes > 0 {
		p.at(path, "is more than all nodes (got %d, want 1 to %d)", limit, nodes)
	}
}

func (p *parsing) checkSize(path string, a Nodearray) {
	if a.MaxNodes > len(a.Nodes) && len(a.Nodes) > 0 {
		p.at(path+".maxNodes", "is more than the nodearray's nodes (got %d, want 1 to %d)", a.MaxNodes, len(a.Nodes))
	}
	if a.PlacementGroup != "" && a.MaxPlacementGroup > 0 && a.MaxNodes > a.MaxPlacementGroup {
		p.at(path+".maxNodes", "is more than fits into the nodearray's placement group (got %d, want 1 to %d)", a.MaxNodes, a.MaxPlacementGroup)
	}
	for i, f := range a.Features {
		if slices.Contains(a.Features[:i], f) {
			p.at(fmt.Sprintf("%s.features[%d]", path, i), "is named twice (%s)", show(f))
		}
	}
}

func (p *parsing) checkPrice(path string, a Nodearray) {
	priced := p.given(path + ".price")
	switch {
	case a.Spot && !priced:
		p.lacks(path, "price", "a spot nodearray needs price.spot")
	case a.Spot && !p.given(path+".price.spot"):
		p.lacks(path+".price", "spot", "the nodearray is spot")
	case !a.Spot && priced && !p.given(path+".price.onDemand"):
		p.lacks(path+".price", "onDemand", "the nodearray is not spot")
	case a.Price.OnDemand > 0 && a.Price.Spot > a.Price.OnDemand:
		p.at(path+".price.spot", "is more than onDemand (got %s, want at most %s)", formatMoney(a.Price.Spot), formatMoney(a.Price.OnDemand))
	}
}

func (p *parsing) checkPace(path string, a Nodearray) {
	p.checkStep(path+".stepUp", a.StepUp, a.MaxNodes)
	p.checkStep(path+".stepDown", a.StepDown, a.MaxNodes)
	if a.BootTime > a.BootDeadline && a.BootDeadline > 0 {
		p.at(path+".bootTime", "is more than bootDeadline (got %s, want at most %s)", burst.Spell(a.BootTime), burst.Spell(a.BootDeadline))
	}
}

func (p *parsing) checkStep(path string, step Step, maxNodes int) {
	if step.Nodes > maxNodes && maxNodes > 0 {
		p.at(path+".nodes", "is more than maxNodes (got %d, want 1 to %d)", step.Nodes, maxNodes)
	}
}

func (p *parsing) checkShares(path string, shares []Share, nodes int) {
	first := map[string]int{}
	for i, s := range shares {
		first[s.Name] = i
	}
	_, others := first[Everyone]
	clear(first)
	for i, s := range shares {
		at := fmt.Sprintf("%s[%d]", path, i)
		if j, taken := first[s.Name]; taken && s.Name != "" {
			p.at(at+".name", "is taken (got %s, which is also %s[%d])", show(s.Name), path, j)
		} else {
			first[s.Name] = i
		}
		p.checkLimit(at+".maxNodes", s.MaxNodes, nodes)
		if s.MaxNodes == 0 && !p.given(at+".maxNodes") && (!others || s.Name == Everyone) {
			p.lacks(at, "maxNodes", "without it nothing is bounded")
		}
	}
}

// checkTrust allows one proof of the server's identity, and only where there
// is a certificate to prove it.
func (p *parsing) checkTrust(c CycleCloud) {
	if c.Pin != "" && c.CAFile != "" {
		p.at("cyclecloud.caFile", "excludes pin (want one of them)")
	}
	if strings.HasPrefix(c.URL, "http:") && c.Pin+c.CAFile != "" {
		p.at("cyclecloud.url", "is http, which has no certificate for pin or caFile to check")
	}
}

// checkNodes holds names to one owner: a nodearray's name in the policy, a
// node's name in all nodearrays. Host names ignore case, so nodes do too.
func (p *parsing) checkNodes(arrays []Nodearray) {
	arrayAt := map[burst.NodearrayName]int{}
	owner := map[string]int{}
	total := 0
	for i, a := range arrays {
		path := fmt.Sprintf("nodearrays[%d]", i)
		if first, taken := arrayAt[a.Name]; taken && a.Name != "" {
			p.at(path+".name", "is taken (got %s, which is also nodearrays[%d])", show(string(a.Name)), first)
		} else {
			arrayAt[a.Name] = i
		}
		total += len(a.Nodes)
		for _, node := range a.Nodes {
			key := strings.ToLower(string(node))
			if first, taken := owner[key]; taken {
				p.at(path+".nodes", "names a node twice (%s is also in nodearrays[%d])", show(string(node)), first)
				break
			}
			owner[key] = i
		}
	}
	if total > maxNodes {
		p.at("nodearrays", "name too many nodes (got %d, want at most %d)", total, maxNodes)
	}
}

// checkPartitions lets several nodearrays share a partition only when none of
// them has a placement group: Slurm would give one job nodes of both, and an
// MPI job across two groups loses the network that the groups exist for.
func (p *parsing) checkPartitions(arrays []Nodearray) {
	for i, a := range arrays {
		for j, b := range arrays {
			if i != j && a.PlacementGroup != "" && a.Partition != "" && a.Partition == b.Partition {
				p.at(fmt.Sprintf("nodearrays[%d].placementGroup", i),
					"needs a partition of its own (%s also serves nodearrays[%d])", show(a.Partition), j)
				break
			}
		}
	}
}
