package policy

import (
	"slices"

	"github.com/slurmburst/slurmburst/internal/burst"
)

// Burst gives the policy in the core's terms. The result shares nothing with d
// that can change.
func (d Document) Burst() burst.Policy {
	p := burst.Policy{
		Version:   d.Version(),
		Cluster:   d.Cluster,
		Shadow:    d.Mode == ModeShadow,
		MaxActAge: d.MaxActAge,
		MaxNodes:  d.MaxNodes,
		Accounts:  coreShares(d.Accounts),
		Users:     coreShares(d.Users),
		Breaker:   burst.BreakerPolicy(d.Breaker),
		Zone:      d.zone,
	}
	for _, a := range d.Nodearrays {
		p.Nodearrays = append(p.Nodearrays, a.core())
	}
	for _, o := range d.Overflow {
		p.Overflow = append(p.Overflow, burst.Overflow{
			Partition:  o.Partition,
			Nodearrays: slices.Clone(o.Nodearrays),
			When:       o.when,
			Waiting:    burst.Waiting(o.Waiting),
			MaxJobCost: o.MaxJobCost,
		})
	}
	for _, b := range d.Budgets {
		p.Budgets = append(p.Budgets, burst.Budget{
			Scope: b.Scope, Name: b.Name, Period: b.Period,
			Soft: b.Soft, Medium: b.Medium, Hard: b.Hard, MediumJobCost: b.MediumJobCost,
		})
	}
	return p
}

func (a Nodearray) core() burst.Nodearray {
	return burst.Nodearray{
		Name:              a.Name,
		Partition:         a.Partition,
		Nodes:             slices.Clone(a.Nodes),
		MachineType:       a.MachineType,
		PlacementGroup:    a.PlacementGroup,
		MaxPlacementGroup: a.MaxPlacementGroup,
		CPUs:              a.CPUs,
		MemoryMiB:         a.MemoryMiB,
		GPUs:              a.GPUs,
		Features:          slices.Clone(a.Features),
		Spot:              a.Spot,
		Price:             a.rate(),
		MaxNodes:          a.MaxNodes,
		StepUp:            burst.Step(a.StepUp),
		StepDown:          burst.Step(a.StepDown),
		CooldownUp:        a.CooldownUp,
		CooldownDown:      a.CooldownDown,
		IdleTimeout:       a.IdleTimeout,
		BootDeadline:      a.BootDeadline,
		BootTime:          a.BootTime,
		Window:            a.window,
		Gated:             a.Gate == GateClosed,
	}
}

// rate is what a node-hour costs here.
func (a Nodearray) rate() burst.Money {
	if a.Spot {
		return a.Price.Spot
	}
	return a.Price.OnDemand
}

func coreShares(shares []Share) []burst.Share {
	var core []burst.Share
	for _, s := range shares {
		if s.Name == Everyone {
			s.Name = ""
		}
		core = append(core, burst.Share(s))
	}
	return core
}
