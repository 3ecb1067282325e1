package cyclecloudsim

import "slices"

// limits are the ceilings and uses that bear on one bucket, in nodes unless
// the name says cores.
type limits struct {
	active, activeArray, activeCluster int
	familyCores, regionalCores         int // what is meant to be up
	available                          int
	max                                int
	quota, familyQuota, regionalQuota  int
	familyQuotaCores                   int
}

// measure counts what a new node in the bucket would compete with. A node that
// is terminating or deallocated does not count, although its VM may still hold
// quota in Azure: the real server does the same, and acquire pays for it.
func (s *Sim) measure(a *array, b *bucket) limits {
	var l limits
	for _, n := range s.nodes {
		if !n.active() {
			continue
		}
		l.activeCluster++
		l.regionalCores += n.bucket.Cores
		if n.bucket.Family == b.Family && n.array.Spot == a.Spot {
			l.familyCores += n.bucket.Cores
		}
		if n.array == a {
			l.activeArray++
		}
		if n.bucket == b {
			l.active++
		}
	}
	l.regionalQuota = s.cfg.RegionalQuota / b.Cores
	l.familyQuotaCores = s.familyQuota(b.Family)
	l.familyQuota = l.familyQuotaCores / b.Cores
	l.quota = min(l.familyQuota, l.regionalQuota)
	free := (s.cfg.RegionalQuota - l.regionalCores) / b.Cores
	ceiling := l.quota
	if a.Spot {
		l.familyQuota, l.familyQuotaCores, l.quota = 0, 0, 0
		ceiling = l.regionalQuota
	} else {
		free = min(free, (s.familyQuota(b.Family)-l.familyCores)/b.Cores)
	}
	l.max = min(b.MaxCount, a.MaxCount, ceiling)
	free = min(free, b.MaxCount-l.active, a.MaxCount-l.activeArray)
	if s.cfg.ClusterMaxCount > 0 {
		l.max = min(l.max, s.cfg.ClusterMaxCount)
		free = min(free, s.cfg.ClusterMaxCount-l.activeCluster)
	}
	if a.InvalidReason != "" || s.clock.Now().Before(b.throttled) {
		free = 0
	}
	l.available = max(free, 0)
	return l
}

func (s *Sim) familyQuota(family string) int {
	if q, ok := s.cfg.FamilyQuota[family]; ok {
		return q
	}
	return s.cfg.RegionalQuota
}

// shownAvailable is availableCount as the status call shows it: creates of the
// last moments are not in it yet.
func (s *Sim) shownAvailable(b *bucket, l limits) int {
	now := s.clock.Now()
	b.lagging = slices.DeleteFunc(b.lagging, func(g lagging) bool { return !now.Before(g.until) })
	shown := l.available
	if now.Before(b.throttled) {
		return 0
	}
	for _, g := range b.lagging {
		shown += g.count
	}
	return min(shown, l.max)
}

// quotaAllows says whether Azure still has quota for the node's VM, with every
// VM that exists counted.
func (s *Sim) quotaAllows(n *node) bool {
	family, region := n.bucket.Cores, n.bucket.Cores
	for _, m := range s.machines {
		region += m.cores
		if m.family == n.bucket.Family {
			family += m.cores
		}
	}
	return region <= s.cfg.RegionalQuota && (n.array.Spot || family <= s.familyQuota(n.bucket.Family))
}

// groupRoom is how many nodes the placement group can still take.
func (s *Sim) groupRoom(a *array, group string) int {
	room := a.MaxPlacementGroupSize
	for _, n := range s.nodes {
		if n.array == a && n.group == group && n.active() {
			room--
		}
	}
	return max(room, 0)
}

// pick chooses the bucket of a set: by machine type, else the first that can
// take the whole set, else the first that can take anything, else the first.
func (s *Sim) pick(a *array, machineType string, count int) *bucket {
	if machineType != "" {
		for _, b := range a.buckets {
			if b.MachineType == machineType {
				return b
			}
		}
		return nil
	}
	var some *bucket
	for _, b := range a.buckets {
		free := s.measure(a, b).available
		if free >= count {
			return b
		}
		if free > 0 && some == nil {
			some = b
		}
	}
	if some != nil {
		return some
	}
	return a.buckets[0]
}
