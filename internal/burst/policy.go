package burst

import "time"

// ClusterName is Slurm's ClusterName: one on-prem cluster, one ledger
// partition, one Service Bus session.
type ClusterName string

// NodeName is a node's name in Slurm's node table; CycleCloud is made to use
// the same one.
type NodeName string

// NodearrayName names a CycleCloud nodearray.
type NodearrayName string

// Policy is what the site allows, in the core's own terms. Package policy
// reads and checks the file; a Policy that reaches the core is sound.
type Policy struct {
	// Version identifies the policy's text; every decision names it.
	Version string
	Cluster ClusterName
	// MaxActAge is the age above which a snapshot may only hold, never create
	// or release. Default 90 s.
	MaxActAge time.Duration
	// Nodearrays in rank order.
	Nodearrays []Nodearray
}

// Nodearray is one CycleCloud nodearray and the Slurm nodes that it backs.
type Nodearray struct {
	Name NodearrayName
	// Partition is the Slurm partition that holds the nodes.
	Partition string
	// Nodes are all names that the nodearray may ever create, in the order of
	// the policy's hostlist. No name belongs to two nodearrays.
	Nodes []NodeName
	// MachineType is the Azure VM size, for example Standard_HB120rs_v3.
	MachineType string
	// PlacementGroup is CycleCloud's placementGroupId; empty for none.
	PlacementGroup string
	// MaxNodes is the Limit: how many of Nodes may be wanted at once.
	MaxNodes int
	// IdleTimeout is how long a node may idle before it is powered down.
	IdleTimeout time.Duration
	// BootDeadline is how long a node may take from create to joining Slurm.
	BootDeadline time.Duration
}
