package burst

import "slices"

// gatePartitions compares the admin's switch with what Slurm does: a partition
// that is DOWN comes back by every reconfigure and restart.
func (o *overflow) gatePartitions() {
	if o.policy.Shadow {
		return // what is not sent must not be remembered as ours
	}
	done := map[string]bool{}
	for i := range o.policy.Nodearrays {
		a := &o.policy.Nodearrays[i]
		p := o.partitions[a.Partition]
		if p == nil || done[a.Partition] {
			continue
		}
		done[a.Partition] = true
		gated, ours := o.gated(a.Partition), slices.Contains(o.memory.Gated, a.Partition)
		if p.Up != gated || !gated && !ours {
			if !gated && ours {
				o.memory.Gated = slices.DeleteFunc(o.memory.Gated, func(s string) bool { return s == a.Partition })
			}
			continue // as it should be, or an admin closed it by hand
		}
		if c := o.gates[a.Partition]; c != nil && !o.soon(c.ExpiresAt) {
			continue
		}
		why := because(ReasonGate, "the policy closes the gate of partition %s", a.Partition)
		if gated {
			if !ours {
				o.memory.Gated = append(o.memory.Gated, a.Partition)
				slices.Sort(o.memory.Gated)
			}
		} else {
			why = because(ReasonGate, "the policy opens the gate of partition %s again", a.Partition)
		}
		o.sends = append(o.sends, sending{command: Command{Kind: GatePartition, Nodearray: a.Name, Partition: a.Partition, Up: !gated, Reason: why}})
	}
}

// gated reports whether all nodearrays of the partition are gated.
func (o *overflow) gated(partition string) bool {
	for i := range o.policy.Nodearrays {
		if a := &o.policy.Nodearrays[i]; a.Partition == partition && !a.Gated {
			return false
		}
	}
	return true
}
