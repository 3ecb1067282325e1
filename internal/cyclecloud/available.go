package cyclecloud

import (
	"fmt"
	"strings"
	"time"
)

// throttleCapacityTime is how long CycleCloud says 0 after a capacity failure,
// where ThrottleCapacity is on (default of ThrottleCapacityTime).
const throttleCapacityTime = 5 * time.Minute

// Availability is how many nodes can be created now, and which number said so.
type Availability struct {
	Count   int    // never negative
	Because string // for operators: "availableCount is 14"
}

// Available tells how many nodes of this VM size the nodearray can take. It is
// the server's availableCount with three lies taken out:
//   - spot: family quota is reported as 0, so the region's numbers and the
//     limits of bucket, nodearray and cluster are used, unless Azure had no
//     capacity within the last five minutes;
//   - nodes that still terminate are not counted by the server, so they are
//     recounted from the node records where the status has them;
//   - what is missing or not valid is 0, with the reason.
//
// The fourth lie can't be seen from here: availableCount lags behind a create,
// so callers subtract what they have asked for and not yet seen. The result is
// false where the nodearray or the VM size in it does not exist.
func (s ClusterStatus) Available(array NodeArrayName, size MachineType) (Availability, bool) {
	for _, a := range s.NodeArrays {
		for _, b := range a.Buckets {
			if a.Name == array && b.MachineType != "" && strings.EqualFold(string(b.MachineType), string(size)) {
				return s.availableIn(a, b), true
			}
		}
	}
	return Availability{}, false
}

func (s ClusterStatus) availableIn(a NodeArray, b Bucket) Availability {
	switch {
	case !b.Valid:
		return Availability{Because: strings.TrimSuffix("the bucket is not valid: "+b.InvalidReason, ": ")}
	case b.AvailableCount == nil:
		return Availability{Because: "the server gives no availableCount"}
	}
	result := Availability{Count: max(0, *b.AvailableCount), Because: fmt.Sprintf("availableCount is %d", *b.AvailableCount)}
	asked := s.HasNodes
	if a.Spot && result.Count == 0 && b.FamilyQuotaCores != nil && *b.FamilyQuotaCores == 0 {
		result, asked = b.regionalRoom(), true
	}
	if !asked {
		return result
	}
	for _, ceiling := range s.ceilings(a, b) {
		if ceiling.max == nil {
			continue
		}
		if room := max(0, *ceiling.max-ceiling.used); room < result.Count {
			result = Availability{Count: room, Because: fmt.Sprintf("%s holds %d of %d", ceiling.of, ceiling.used, *ceiling.max)}
		}
	}
	return result
}

// regionalRoom is what the region's quota leaves for spot nodes.
func (b Bucket) regionalRoom() Availability {
	if ago, happened := b.LastCapacityFailure(); happened && ago < throttleCapacityTime {
		return Availability{Because: fmt.Sprintf("Azure had no capacity %s ago", ago.Round(time.Second))}
	}
	cores := b.VM.VCPUQuota
	if cores <= 0 {
		cores = b.VM.VCPUs
	}
	if b.RegionalQuotaCores == nil || b.RegionalConsumedCores == nil || cores <= 0 {
		return Availability{Because: "the server gives no regional quota, which spot nodes need"}
	}
	return Availability{
		Count: max(0, *b.RegionalQuotaCores-*b.RegionalConsumedCores) / cores,
		Because: fmt.Sprintf("spot: %d of the region's %d cores are in use, a node takes %d",
			*b.RegionalConsumedCores, *b.RegionalQuotaCores, cores),
	}
}

// ceiling is a limit in nodes and how much of it is taken.
type ceiling struct {
	of   string
	max  *int
	used int
}

// ceilings gives the limits in nodes around a bucket. A node takes room until
// it has settled in a state other than Started, however far its end has come;
// nodes outside nodearrays (scheduler, login) take none.
func (s ClusterStatus) ceilings(a NodeArray, b Bucket) []ceiling {
	bucket := ceiling{of: "the bucket", max: b.MaxCount}
	array := ceiling{of: "the nodearray", max: a.MaxCount}
	cluster := ceiling{of: "the cluster", max: s.MaxCount}
	perArray := make(map[NodeArrayName]int, len(s.NodeArrays))
	inBucket := 0
	for _, n := range s.Nodes {
		if n.IsSettledDown() {
			continue
		}
		perArray[n.NodeArray]++
		if n.NodeArray == a.Name && strings.EqualFold(string(n.MachineType), string(b.MachineType)) {
			inBucket++
		}
	}
	bucket.used = max(b.ActiveCount, inBucket)
	for _, other := range s.NodeArrays {
		active := 0
		for _, ob := range other.Buckets {
			active += ob.ActiveCount
		}
		active = max(active, perArray[other.Name])
		cluster.used += active
		if other.Name == a.Name {
			array.used = active
		}
	}
	return []ceiling{bucket, array, cluster}
}
