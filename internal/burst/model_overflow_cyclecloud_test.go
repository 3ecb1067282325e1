package burst

import (
	"fmt"
	"time"
)

// makes lets CycleCloud make the VMs of one request, as far as it can. A
// request that is repeated gets the same answer.
func (c *burstCluster) makes(request string, array int, names []NodeName) (taken map[NodeName]bool) {
	if answer, repeated := c.answers[request]; repeated {
		return answer
	}
	taken = map[NodeName]bool{}
	c.answers[request] = taken
	for _, name := range names {
		if vm := c.vms[name]; vm != nil {
			c.breaks("%s asks for %s, which %s made", request, name, c.madeBy[vm.id])
			continue
		}
		if c.now.Before(c.scarce[array]) || c.exist(array) >= c.capacity[array] || c.chance(25) {
			continue
		}
		taken[name] = true
		c.makeVM(request, name)
	}
	most := c.policy.Nodearrays[array].MaxNodes
	if have := c.exist(array); have > most {
		c.breaks("%d VMs exist in %s, the limit is %d", have, c.policy.Nodearrays[array].Name, most)
	}
	if c.policy.MaxNodes > 0 && len(c.vms) > c.policy.MaxNodes {
		c.breaks("%d VMs exist in the cluster, the limit is %d", len(c.vms), c.policy.MaxNodes)
	}
	return taken
}

func (c *burstCluster) makeVM(request string, name NodeName) {
	c.made++
	vm := &modelVM{id: fmt.Sprintf("vm-%d", c.made), made: c.now, booted: c.now.Add(c.span(10, 150))}
	if c.chance(16) {
		vm.kept = c.now.Add(c.span(200, 900))
	}
	if c.chance(6) {
		vm.fate = fate(1 + c.IntN(4))
	}
	switch vm.fate {
	case vanishes:
		vm.ends = c.now.Add(c.span(1, 100))
	case evicted:
		vm.ends = vm.booted.Add(c.span(1, 300))
	case boots, hangs, fails:
	}
	c.vms[name] = vm
	c.madeBy[vm.id] = request
}

// exist counts the VMs of a nodearray.
func (c *burstCluster) exist(array int) int {
	n := 0
	for name := range c.vms {
		if c.owner[name] == array {
			n++
		}
	}
	return n
}

// offers is what CycleCloud says that it can make, late by up to 20 seconds.
func (c *burstCluster) offers(array int) Availability {
	if c.now.Before(c.scarce[array].Add(-10 * time.Second)) {
		return Availability{Known: true, MaxCount: 100}
	}
	count := c.capacity[array]
	lag := c.now.Add(-c.span(0, 20))
	for name, vm := range c.vms {
		if c.owner[name] == array && vm.made.Before(lag) {
			count--
		}
	}
	return Availability{Known: true, Count: max(count, 0), MaxCount: 100}
}
