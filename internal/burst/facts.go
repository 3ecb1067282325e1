package burst

import "time"

// Position orders snapshots: by the epoch of the agent that took them, then by
// its sequence. Clocks play no part.
type Position struct {
	Epoch    int64
	Sequence int64
}

// After reports whether p is newer than q.
func (p Position) After(q Position) bool {
	if p.Epoch != q.Epoch {
		return p.Epoch > q.Epoch
	}
	return p.Sequence > q.Sequence
}

// Facts is all that is known about one cluster at one moment. Decide reads
// nothing else.
type Facts struct {
	Snapshot   Snapshot
	Nodearrays []NodearrayFacts
	// Nodes joins what Slurm, CycleCloud and the ledger say about each name.
	Nodes []Node
	// Groups are the waiting jobs, those that wait longest first.
	Groups []Group
	// Running are the jobs on cloud nodes, Ended those that left them since the
	// last snapshot, both ordered by ID.
	Running []RunningJob
	Ended   []EndedJob
	// Cut says that the snapshot was too big to name all groups or all running
	// jobs: what it does not name may exist all the same.
	Cut bool
	// Local are the on-prem partitions, Partitions what Slurm admits to each.
	Local      []LocalPartition
	Partitions []Partition
	// Finished are runs of any partition, for the ratio of run to limit.
	Finished []FinishedRuns
	// JobCommands are commands about jobs and partitions that are not answered.
	JobCommands []JobCommand
	// Memory is what earlier decisions left behind.
	Memory Memory
	// Paused is an admin's switch: nothing new starts.
	Paused bool
	// CycleCloudFailed says that CycleCloud could not be asked just now.
	CycleCloudFailed bool
}

// Snapshot identifies the newest snapshot of Slurm's tables.
type Snapshot struct {
	Position
	// AsOf is when Slurm was read, in the cloud's clock; zero for never.
	AsOf time.Time
}

// NodearrayFacts is what is known about a nodearray as a whole.
type NodearrayFacts struct {
	Name NodearrayName
	// Available is CycleCloud's own limit; it is fetched only for a plan that
	// creates.
	Available Availability
	// Armed are the timers that are scheduled.
	Armed []Timer
}

// Availability is what CycleCloud's status says may still be created.
type Availability struct {
	Known bool
	// Count is CycleCloud's availableCount, which lags after a create.
	Count int
	// MaxCount is CycleCloud's own ceiling on the nodes of the nodearray.
	MaxCount int
}

// BootJob is a job that waits for a node to boot.
type BootJob struct {
	ID string
	// Requeueable is true for a batch job with requeue: only such a job
	// survives the abort of a boot.
	Requeueable bool
}

// Generation says for which resume call of a node name a VM was created.
type Generation struct {
	Position
	// ResumeID names the ResumeProgram call; empty where it was not seen.
	ResumeID string
}

// Node joins what is known about one node name.
type Node struct {
	Name      NodeName
	Nodearray NodearrayName

	// Slurm is the state in the newest snapshot, Since when it began (for an
	// idle node: when it became idle), in the cloud's clock.
	Slurm SlurmState
	Since time.Time
	// ResumeID names the newest ResumeProgram call for the name, Jobs the jobs
	// that wait for it to boot.
	ResumeID string
	Jobs     []BootJob

	// Supply is CycleCloud's side, as of SeenAt.
	Supply Supply
	NodeID string
	SeenAt time.Time

	// Created is the generation that the VM was created for, CreatedAt when.
	Created   Generation
	CreatedAt time.Time
	// TerminatedAt is when we last asked CycleCloud to terminate the VM.
	TerminatedAt time.Time
	// DownAt is the newest snapshot in which the name was powered down or
	// powering down while a VM existed under it.
	DownAt Position
	// AbortedAt is when we last aborted a boot of the name.
	AbortedAt time.Time
	// RefusedAt is when CycleCloud last refused the name or lost its VM.
	RefusedAt time.Time
	// FailedAt is when a Failure about the name was last recorded.
	FailedAt time.Time

	// Command is the newest command about the node that is not yet answered.
	Command OpenCommand
}

// OpenCommand is a command to Slurm whose result is not known yet.
type OpenCommand struct {
	Kind      CommandKind
	ExpiresAt time.Time
}

// SlurmState is what Slurm's base state and flags mean for us. Base state is
// judged before power flags.
type SlurmState int

// The states of a node in Slurm.
const (
	// SlurmUnknown is a combination that nobody has mapped, or no report.
	SlurmUnknown SlurmState = iota
	// Undefined is a name that slurmctld does not know.
	Undefined
	// PoweredDown is IDLE+POWERED_DOWN: Slurm may allocate it.
	PoweredDown
	// Fenced is powered down and drained with our reason.
	Fenced
	// Drained is powered down and drained by somebody else.
	Drained
	// Waking is wanted by Slurm, before it calls ResumeProgram: POWER_UP, or
	// ALLOCATED or MIXED with POWERED_DOWN.
	Waking
	// PoweringUp is between ResumeProgram and the first registration.
	PoweringUp
	// Idle is up with nothing to do.
	Idle
	// Busy is up with jobs, or completing one.
	Busy
	// Reserved is up and idle, but kept for somebody: PLANNED, RESERVED, MAINT.
	Reserved
	// DrainedUp is up, idle and drained by an admin.
	DrainedUp
	// Down is DOWN, neither powered down nor in between.
	Down
	// NotResponding is up but silent: it may run jobs.
	NotResponding
	// PowerDownPending will be powered down when its jobs are done.
	PowerDownPending
	// PoweringDown is between SuspendProgram and SuspendTimeout: registrations
	// are ignored and no job is allocated.
	PoweringDown
	// DownPoweredDown missed ResumeTimeout; it stays so until repaired.
	DownPoweredDown
	// StuckPoweredDown is IDLE+POWERED_DOWN+NOT_RESPONDING: the next
	// reconfigure takes it out of scheduling for ever.
	StuckPoweredDown
	// DownPoweringUp was set DOWN during its boot.
	DownPoweringUp
	slurmStates
)

var slurmStateNames = [slurmStates]string{
	"unknown", "undefined", "powered_down", "fenced", "drained", "waking", "powering_up", "idle", "busy", "reserved",
	"drained_up", "down", "not_responding", "power_down_pending", "powering_down", "down_powered_down",
	"stuck_powered_down", "down_powering_up",
}

// String gives the state's name as it appears in tables.
func (s SlurmState) String() string {
	if s < 0 || s >= slurmStates {
		return slurmStateNames[SlurmUnknown]
	}
	return slurmStateNames[s]
}

// wanted reports whether Slurm counts on the node now or soon.
func (s SlurmState) wanted() bool {
	switch s {
	case Waking, PoweringUp, Idle, Busy, Reserved, DrainedUp, Down, NotResponding, PowerDownPending, DownPoweringUp:
		return true
	case SlurmUnknown, Undefined, PoweredDown, Fenced, Drained, PoweringDown, DownPoweredDown, StuckPoweredDown, slurmStates:
	}
	return false
}

// joined reports whether a slurmd of the node has registered.
func (s SlurmState) joined() bool {
	return s.wanted() && s != Waking && s != PoweringUp && s != DownPoweringUp
}

// Supply is what CycleCloud has under a node's name.
type Supply int

// The states of a node in CycleCloud.
const (
	// SupplyUnknown means that CycleCloud was never asked.
	SupplyUnknown Supply = iota
	// Absent means that CycleCloud lists no such name.
	Absent
	// Creating means that a create is under way or just accepted.
	Creating
	// Booting is any state between the request for a VM and Ready.
	Booting
	// Ready is CycleCloud's Ready or Started.
	Ready
	// Failed is CycleCloud's Failed: the VM may exist and bill.
	Failed
	// Leaving is on its way out.
	Leaving
	// Off is listed without a running VM: deallocated, terminated, off.
	Off
	supplies
)

var supplyNames = [supplies]string{"unknown", "absent", "creating", "booting", "ready", "failed", "leaving", "off"}

// String gives the state's name as it appears in tables.
func (s Supply) String() string {
	if s < 0 || s >= supplies {
		return supplyNames[SupplyUnknown]
	}
	return supplyNames[s]
}

// ParseSupply reads what String wrote; anything else is SupplyUnknown.
func ParseSupply(name string) Supply {
	for s, n := range supplyNames {
		if n == name {
			return Supply(s)
		}
	}
	return SupplyUnknown
}

// present reports whether CycleCloud holds something that counts against
// limits and may bill.
func (s Supply) present() bool {
	switch s {
	case Creating, Booting, Ready, Failed, Leaving, Off:
		return true
	case SupplyUnknown, Absent, supplies:
	}
	return false
}

// oldGeneration reports whether the VM was created for an earlier resume call
// of the name: Slurm ignores its slurmd until ResumeTimeout.
func (n *Node) oldGeneration() bool {
	if n.Created.ResumeID != "" && n.ResumeID != "" && n.Created.ResumeID != n.ResumeID {
		return true
	}
	return n.DownAt.After(n.Created.Position)
}

// failedSince reports whether a failure about the node was recorded at or after
// the given time.
func (n *Node) failedSince(t time.Time) bool {
	return !n.FailedAt.IsZero() && !n.FailedAt.Before(t)
}

// vanished reports whether the VM that was made for this resume call
// disappeared without our asking: a failed allocation, an eviction, or a
// deletion by somebody else.
func (n *Node) vanished() bool {
	return n.Supply == Absent && !n.CreatedAt.IsZero() && n.TerminatedAt.IsZero() && !n.oldGeneration()
}
