package burst

import "slices"

// warnedPartition is the scope of a warning that was told about a partition.
const warnedPartition = "partition"

func lackedBySlurm(partition string) Reason {
	return because(ReasonPartitionMissing, "the policy names partition %s, which Slurm does not have", partition)
}

// lacks reports whether Slurm has no partition of the name. A snapshot without
// any partition says nothing about them.
func (o *overflow) lacks(partition string) bool {
	return len(o.partitions) > 0 && o.partitions[partition] == nil
}

// warnMissing tells once a day of each partition of the policy that Slurm lacks:
// no job would ever wait in one on-prem, and none start in one of the cloud.
func (o *overflow) warnMissing() {
	var names []string
	for _, a := range o.policy.Nodearrays {
		names = append(names, a.Partition)
	}
	for i := range o.policy.Overflow {
		names = append(names, o.policy.Overflow[i].Partition)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !o.lacks(name) {
			continue
		}
		told := Warned{Scope: warnedPartition, Name: name, Period: Day, From: o.till.present[Day.index()]}
		at, known := slices.BinarySearchFunc(o.memory.Warned, told, compareWarned)
		if !known {
			o.memory.Warned = slices.Insert(o.memory.Warned, at, told)
			o.plan.Warnings = append(o.plan.Warnings, Warning{Reason: lackedBySlurm(name)})
		}
	}
}

// renamed reports that the partition which a released job was given is none of
// its nodearray any more, in Slurm or in the policy. That its list does not name
// it then is nobody's wish.
func (o *overflow) renamed(record CloudJob) Reason {
	a := o.arrays[record.Nodearray]
	switch {
	case a == nil || len(record.Home) == 0:
	case o.lacks(a.policy.Partition):
		return lackedBySlurm(a.policy.Partition)
	case record.ListedIn != "" && record.ListedIn != a.policy.Partition:
		return because(ReasonRevoked, "the partition of %s was %.64s when the job was released and is %s now", record.Nodearray, record.ListedIn, a.policy.Partition)
	}
	return Reason{}
}
