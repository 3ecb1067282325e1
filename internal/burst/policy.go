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
	// Shadow decides and records, and changes nothing outside the ledger.
	Shadow bool
	// MaxActAge is the age above which a snapshot may only hold, never create
	// or release. Default 90 s.
	MaxActAge time.Duration
	// MaxNodes is the limit over all nodearrays; 0 for none.
	MaxNodes int
	// Nodearrays in rank order.
	Nodearrays []Nodearray
	// Overflow says which waiting jobs of which on-prem partition may go where.
	// The first rule of a partition whose When agrees with a job counts.
	Overflow []Overflow
	// Budgets bound money; all that apply to a job count.
	Budgets []Budget
	// Accounts and Users bound nodes. An entry with an empty Name is the
	// default of those that no other entry names.
	Accounts, Users []Share
	// Breaker is how long a nodearray that failed rests.
	Breaker BreakerPolicy
	// Zone is where a day and a month begin; nil for UTC.
	Zone *time.Location
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
	// MaxPlacementGroup is how many nodes fit into one placement group, so the
	// most that one job may have; 0 for no bound.
	MaxPlacementGroup int
	// CPUs, MemoryMiB and GPUs are what one node offers to jobs, as slurm.conf
	// says. 0 CPUs or MemoryMiB is not known, which fits everything; 0 GPUs is
	// none.
	CPUs      int
	MemoryMiB int64
	GPUs      int
	// Features are those of the nodes in slurm.conf.
	Features []string
	// Spot says that the VMs are spot VMs, which Azure may take back.
	Spot bool
	// Price is what one node costs per hour: the spot price where Spot is set.
	Price Money
	// MaxNodes is the limit: how many of Nodes may be wanted at once.
	MaxNodes int
	// StepUp bounds how many nodes are newly allowed, StepDown how many idle
	// nodes are powered down, within an interval.
	StepUp, StepDown Step
	// CooldownUp is how long after an idle node was powered down no job is
	// released to the nodearray; CooldownDown how long after a create no idle
	// node is powered down. They keep a nodearray from swinging.
	CooldownUp, CooldownDown time.Duration
	// IdleTimeout is how long a node may idle before it is powered down.
	IdleTimeout time.Duration
	// BootDeadline is how long a node may take from create to joining Slurm.
	BootDeadline time.Duration
	// BootTime is how long a boot is expected to take.
	BootTime time.Duration
	// Window is when the nodearray may take new jobs; nil for always.
	Window Window
	// Gated is an admin's switch: Slurm starts nothing new in the partition.
	Gated bool
}

// Step is at most Nodes within Every; Nodes 0 for no bound.
type Step struct {
	Nodes int
	Every time.Duration
}

// Window tells when something is allowed. It is deterministic.
type Window interface {
	// At reports whether the window is open at t, and when that next changes:
	// a later moment, or zero for never.
	At(t time.Time) (open bool, changes time.Time)
}

// Answer is what a predicate says about a group of jobs.
type Answer int

// The answers of a predicate.
const (
	// No also stands for a predicate that nobody set.
	No Answer = iota
	Yes
	// Overrun means that the predicate cost more than it may.
	Overrun
)

// Predicate judges the jobs of a group, which are alike. It is deterministic,
// knows no time, and does not keep or change the group.
type Predicate interface {
	Judge(g *Group) Answer
}

// Overflow lets jobs that wait in an on-prem partition use the cloud.
type Overflow struct {
	// Partition is the on-prem partition.
	Partition string
	// Nodearrays in rank order: the next one is tried where one cannot take the
	// job.
	Nodearrays []NodearrayName
	// When judges the job; nil agrees with every one.
	When Predicate
	// Waiting says when an eligible job may go.
	Waiting Waiting
	// MaxJobCost keeps a job from a nodearray where it would cost more; 0 for no
	// bound. It is what guards the way from spot to on demand.
	MaxJobCost Money
}

// WaitingRule names a rule that says when an eligible job may go.
type WaitingRule string

// The waiting rules.
const (
	// WaitingWeighted lets a job go once its wait is worth its cost in the
	// cloud: wait >= Kappa x nodes x (expected run + boot).
	WaitingWeighted WaitingRule = "weighted"
	// WaitingImmediate lets it go at once.
	WaitingImmediate WaitingRule = "immediate"
	// WaitingWait lets it go after Wait.
	WaitingWait WaitingRule = "wait"
	// WaitingPressure lets it go while the work that waits in the partition
	// would keep its nodes busy for at least Drain.
	WaitingPressure WaitingRule = "pressure"
)

// Waiting is a waiting rule with its numbers.
type Waiting struct {
	Rule  WaitingRule
	Wait  time.Duration
	Drain time.Duration
	Kappa float64
}

// Scope says whose money a budget bounds.
type Scope string

// The scopes of a budget.
const (
	ScopeCluster   Scope = "cluster"
	ScopeNodearray Scope = "nodearray"
	ScopeAccount   Scope = "account"
)

// Period is the span of time that a budget covers.
type Period string

// The periods of a budget. Money counts in the period in which it was
// committed.
const (
	Hour  Period = "hour"
	Day   Period = "day"
	Month Period = "month"
)

// Budget bounds the money that is committed within a period. 0 is no bound.
type Budget struct {
	Scope Scope
	// Name is the nodearray or account; empty for the cluster.
	Name   string
	Period Period
	// Soft warns. Above Medium only jobs that cost at most MediumJobCost are
	// let go. Hard is never passed by a commitment.
	Soft, Medium, Hard Money
	MediumJobCost      Money
}

// Share bounds what one account or user may have.
type Share struct {
	Name     string
	MaxNodes int // in all nodearrays; 0 for no bound
}

// BreakerPolicy is how long a nodearray that failed rests: First, and twice as
// long after each failure in a row, at most Max.
type BreakerPolicy struct {
	First, Max time.Duration
}
