package cyclecloudsim

import "math"

// status builds the answer of GET /clusters/{c}/status; mu is held.
func (s *Sim) status(withNodes bool) clusterStatus {
	out := clusterStatus{State: s.state, TargetState: s.target}
	maxNodes := 0
	for _, a := range s.arrays {
		na := nodearrayStatus{Name: a.Name, MaxCount: a.MaxCount, NodeArray: s.arrayRecord(a)}
		maxNodes += a.MaxCount
		for _, b := range a.buckets {
			na.MaxCoreCount = max(na.MaxCoreCount, a.MaxCount*b.Cores)
			na.Buckets = append(na.Buckets, s.bucketStatus(a, b, withNodes))
		}
		out.MaxCoreCount += na.MaxCoreCount
		out.NodeArrays = append(out.NodeArrays, na)
	}
	out.MaxCount = maxNodes
	if s.cfg.ClusterMaxCount > 0 {
		out.MaxCount = s.cfg.ClusterMaxCount
	}
	if withNodes {
		records := s.records(func(*node) bool { return true })
		out.Nodes = &records
	}
	return out
}

func (s *Sim) records(match func(*node) bool) []map[string]any {
	records := []map[string]any{}
	for _, n := range s.nodes {
		if match(n) {
			records = append(records, s.record(n))
		}
	}
	return records
}

func (s *Sim) arrayRecord(a *array) map[string]any {
	configuration := a.Configuration
	if configuration == nil {
		configuration = map[string]any{}
	}
	return map[string]any{
		"Name": a.Name, "Region": s.cfg.Region, "SubnetId": "burst-rg/burst-vnet/nodes",
		"Interruptible": a.Spot, "Priority": 1, "PlacementGroupId": nil,
		"Azure":         map[string]any{"MaxScalesetSize": a.MaxPlacementGroupSize},
		"Configuration": configuration,
	}
}

func (s *Sim) bucketStatus(a *array, b *bucket, withNodes bool) bucketStatus {
	l := s.measure(a, b)
	shown := s.shownAvailable(b, l)
	familyUsed, regionUsed := s.consumed(b.Family)
	out := bucketStatus{
		BucketID: b.id, Definition: map[string]string{"machineType": b.MachineType},
		Valid: a.InvalidReason == "", InvalidReason: a.InvalidReason,
		ActiveCount: l.active, ActiveCoreCount: l.active * b.Cores,
		AvailableCount: shown, AvailableCoreCount: shown * b.Cores,
		MaxCount: l.max, MaxCoreCount: l.max * b.Cores,
		QuotaCount: l.quota, QuotaCoreCount: l.quota * b.Cores, ConsumedCoreCount: familyUsed,
		MaxPlacementGroupSize:  a.MaxPlacementGroupSize,
		MaxPlacementGroupCores: a.MaxPlacementGroupSize * b.Cores,
		PlacementGroups:        s.groupStatus(a, b),
		LastCapacityFailure:    -1,
		VirtualMachine: map[string]any{
			"vcpuCount": b.Cores, "pcpuCount": b.Cores, "gpuCount": 0, "memory": a.MemoryGB,
			"infiniband": len(a.PlacementGroups) > 0, "vcpuQuotaCount": b.Cores,
		},
	}
	if s.cfg.Quirks.OptionalCounts == Present || a.Spot {
		score := ""
		out.FamilyQuotaCount, out.FamilyQuotaCoreCount = &l.familyQuota, &l.familyQuotaCores
		out.FamilyConsumedCoreCount = &familyUsed
		out.RegionalQuotaCount, out.RegionalQuotaCoreCount = &l.regionalQuota, &s.cfg.RegionalQuota
		out.RegionalConsumed, out.SpotPlacementScore = &regionUsed, &score
	}
	if !b.lastFailure.IsZero() {
		out.LastCapacityFailure = math.Max(0, s.clock.Now().Sub(b.lastFailure).Seconds())
	}
	if withNodes {
		names := []string{}
		for _, n := range s.nodes {
			if n.bucket == b && n.active() {
				names = append(names, n.name)
			}
		}
		out.ActiveNodes = &names
	}
	return out
}

// consumed gives the cores of the VMs that exist, in the family and in all.
func (s *Sim) consumed(family string) (inFamily, inRegion int) {
	for _, m := range s.machines {
		inRegion += m.cores
		if m.family == family {
			inFamily += m.cores
		}
	}
	return inFamily, inRegion
}

func (s *Sim) groupStatus(a *array, b *bucket) []groupStatus {
	out := []groupStatus{}
	for _, g := range a.groups {
		status := groupStatus{Name: g}
		for _, n := range s.nodes {
			if n.bucket == b && n.group == g && n.active() {
				status.ActiveCount++
				status.ActiveCoreCount += b.Cores
			}
		}
		out = append(out, status)
	}
	return out
}
