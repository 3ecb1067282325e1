package cyclecloud

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// ClusterStatus is what a cluster may hold and holds. Numbers that the server
// did not send are nil, never 0.
type ClusterStatus struct {
	// State and TargetState are empty until the cluster was started once.
	State, TargetState string
	MaxCount, MaxCores *int // limits of the whole cluster
	NodeArrays         []NodeArray
	Nodes              []Node // only where asked for
	HasNodes           bool   // Nodes was asked for and is whole
}

// NodeArray is a template that nodes are made from.
type NodeArray struct {
	Name               NodeArrayName
	MaxCount, MaxCores *int
	Region             string
	Spot               bool // Interruptible
	Priority           *int
	PlacementGroupID   string
	MaxScaleSetSize    *int // nodes per Azure scale set
	Buckets            []Bucket
}

// Bucket is one VM size in one nodearray.
type Bucket struct {
	ID            string // stable until the cluster is deleted; requests can't name it
	MachineType   MachineType
	Valid         bool   // false: the nodes that exist may stay, none may be created
	InvalidReason string // NotActivated and DisabledMachineType are known

	ActiveCount, ActiveCores int        // includes nodes that still wait for their VM
	ActiveNodes              []NodeName // only where nodes were asked for

	// AvailableCount is what the server would still create. It is 0 for five
	// minutes after a capacity failure, does not know of nodes that are still
	// terminating, is wrong for spot, and lags behind a create; see Available.
	AvailableCount, AvailableCores *int
	MaxCount, MaxCores             *int // limits of nodearray and cluster included

	QuotaCount, QuotaCores *int // of the VM family, already lowered to the region's
	ConsumedCores          *int // of the VM family in the whole region, whoever uses them
	// Family numbers are 0 on spot nodearrays, whose quota is the region's.
	FamilyQuotaCount, FamilyQuotaCores, FamilyConsumedCores       *int
	RegionalQuotaCount, RegionalQuotaCores, RegionalConsumedCores *int

	MaxPlacementGroupSize *int
	PlacementGroups       []PlacementGroup
	// SinceCapacityFailure is nil where there was none; see LastCapacityFailure.
	SinceCapacityFailure *time.Duration
	SpotPlacementScore   string // High, Medium, Low or empty; from 8.9.0, off by default
	VM                   VirtualMachine
}

// LastCapacityFailure tells how long ago Azure had no capacity for this
// bucket; false where that never happened (the server says so by a negative
// number).
func (b Bucket) LastCapacityFailure() (ago time.Duration, happened bool) {
	if b.SinceCapacityFailure == nil {
		return 0, false
	}
	return *b.SinceCapacityFailure, true
}

// PlacementGroup is CycleCloud's label of one scale set on one switch; it is
// not an Azure proximity placement group.
type PlacementGroup struct {
	Name        string
	ActiveCount int
}

// VirtualMachine describes a VM size; 0 is unknown.
type VirtualMachine struct {
	VCPUs, PCPUs, GPUs int
	VCPUQuota          int     // virtual CPUs charged to quota, which can differ from VCPUs
	MemoryGB           float64 // too rough for Slurm's RealMemory
	InfiniBand         bool
}

// IsStarted says that the cluster runs and is meant to: nothing may be created
// otherwise.
func (s ClusterStatus) IsStarted() bool {
	return ParseStatus(s.State) == StatusStarted && ParseStatus(s.TargetState) == StatusStarted
}

// Status asks for limits and counts, and with withNodes for the nodes too: one
// call then gives both at one instant.
func (c *Client) Status(ctx context.Context, cluster ClusterName, withNodes bool) (ClusterStatus, error) {
	op := "read status of cluster " + excerpt(string(cluster), maxName)
	if err := checkName("the cluster name", string(cluster)); err != nil {
		return ClusterStatus{}, fault.New(fault.Invalid, op, err)
	}
	a, err := c.send(ctx, call{
		op: op, span: "Status", method: http.MethodGet, path: clusterPath(cluster, "/status"),
		query: url.Values{"nodes": {strconv.FormatBool(withNodes)}}, repeatable: true,
	})
	if err != nil {
		return ClusterStatus{}, err
	}
	return a.clusterStatus(withNodes)
}

func (a answer) clusterStatus(withNodes bool) (ClusterStatus, error) {
	if !a.ok() {
		return ClusterStatus{}, a.refusal()
	}
	var wire wireStatus
	if err := a.decode(&wire); err != nil {
		return ClusterStatus{}, err
	}
	if wire.NodeArrays == nil {
		return ClusterStatus{}, a.malformed(errors.New("it has no list of nodearrays"))
	}
	status := ClusterStatus{
		State: excerpt(string(wire.State), maxName), TargetState: excerpt(string(wire.TargetState), maxName),
		MaxCount: wire.MaxCount.count(), MaxCores: wire.MaxCoreCount.count(), HasNodes: withNodes,
	}
	for _, w := range *wire.NodeArrays {
		status.NodeArrays = append(status.NodeArrays, nodeArrayFrom(w))
	}
	switch {
	case !withNodes:
		return status, nil // "nodes" may then be an empty list, which says nothing
	case wire.Nodes == nil:
		return ClusterStatus{}, a.malformed(errors.New("it has no list of nodes, which was asked for"))
	}
	var err error
	if status.Nodes, err = nodesFrom(*wire.Nodes); err != nil {
		return ClusterStatus{}, a.malformed(err)
	}
	return status, nil
}

func nodeArrayFrom(w wireNodeArray) NodeArray {
	record := w.Record.value
	array := NodeArray{
		Name:     NodeArrayName(excerpt(string(w.Name), maxName)),
		MaxCount: w.MaxCount.count(), MaxCores: w.MaxCoreCount.count(),
		Region: excerpt(string(record.Region), maxName), Spot: bool(record.Interruptible),
		Priority: record.Priority.count(), PlacementGroupID: excerpt(string(record.PlacementGroupID), maxName),
		MaxScaleSetSize: record.Azure.value.MaxScalesetSize.count(),
	}
	for _, b := range w.Buckets {
		array.Buckets = append(array.Buckets, bucketFrom(b))
	}
	return array
}

func bucketFrom(w wireBucket) Bucket {
	vm := w.VirtualMachine.value
	bucket := Bucket{
		ID: excerpt(string(w.BucketID), maxName), MachineType: MachineType(excerpt(string(w.Definition.value.MachineType), maxName)),
		Valid: bool(w.Valid), InvalidReason: excerpt(string(w.InvalidReason), maxName),
		ActiveCount: w.ActiveCount.orZero(), ActiveCores: w.ActiveCoreCount.orZero(),
		AvailableCount: w.AvailableCount.count(), AvailableCores: w.AvailableCoreCount.count(),
		MaxCount: w.MaxCount.count(), MaxCores: w.MaxCoreCount.count(),
		QuotaCount: w.QuotaCount.count(), QuotaCores: w.QuotaCoreCount.count(), ConsumedCores: w.ConsumedCoreCount.count(),
		FamilyQuotaCount: w.FamilyQuotaCount.count(), FamilyQuotaCores: w.FamilyQuotaCoreCount.count(),
		FamilyConsumedCores: w.FamilyConsumedCoreCount.count(),
		RegionalQuotaCount:  w.RegionalQuotaCount.count(), RegionalQuotaCores: w.RegionalQuotaCoreCount.count(),
		RegionalConsumedCores: w.RegionalConsumedCoreCount.count(),
		MaxPlacementGroupSize: w.MaxPlacementGroupSize.count(),
		SinceCapacityFailure:  w.LastCapacityFailure.sinceSeconds(),
		SpotPlacementScore:    excerpt(string(w.SpotPlacementScore), maxName),
		VM: VirtualMachine{
			VCPUs: vm.VCPUCount.orZero(), PCPUs: vm.PCPUCount.orZero(), GPUs: vm.GPUCount.orZero(),
			VCPUQuota: vm.VCPUQuotaCount.orZero(), MemoryGB: vm.Memory.value, InfiniBand: bool(vm.Infiniband),
		},
	}
	for _, name := range w.ActiveNodes.value {
		bucket.ActiveNodes = append(bucket.ActiveNodes, NodeName(excerpt(string(name), maxName)))
	}
	for _, group := range w.PlacementGroups.value {
		bucket.PlacementGroups = append(bucket.PlacementGroups,
			PlacementGroup{Name: excerpt(string(group.Name), maxName), ActiveCount: group.ActiveCount.orZero()})
	}
	return bucket
}
