package burst

import "time"

// Plan is the answer of Decide: what to change, what is held, and why. Equal
// arguments give equal plans, in a stable order.
type Plan struct {
	Creates    []Create
	Terminates []Terminate
	// Commands are in the order in which they have to reach Slurm.
	Commands []Command
	Closings []Closing
	Failures []Failure
	Holds    []Hold
	// Timers are the ones to arm; those that are armed already and early
	// enough are not repeated.
	Timers []Timer
	// Look asks for CycleCloud's node list, Status for its limits: the plan is
	// incomplete until Decide was asked again with them.
	Look   bool
	Status bool
	// Verdicts say what became of each group of waiting jobs, in their order.
	Verdicts []Verdict
	// Warnings are what an admin has to know of, each told once in its period.
	Warnings []Warning
	// Withheld are the effects that shadow mode kept from happening.
	Withheld []Reason
	// Memory is what the next decision has to know; it goes into the commit.
	Memory Memory
	// NextDue is the earliest moment at which Decide could answer differently
	// on the same facts; zero for never. On stale facts it has passed: even a
	// snapshot that says nothing new has to be decided on.
	NextDue time.Time
}

// Acts reports whether the plan changes anything outside the ledger.
func (p Plan) Acts() bool {
	return len(p.Creates)+len(p.Terminates)+len(p.Commands) > 0
}

// Create asks CycleCloud for nodes by their exact names.
type Create struct {
	Nodearray      NodearrayName
	Nodes          []NodeName
	MachineType    string
	PlacementGroup string
	Reason         Reason
}

// Terminate asks CycleCloud to delete nodes by their NodeIds.
type Terminate struct {
	Nodearray NodearrayName
	Targets   []Target
	Reason    Reason
}

// Target is a node as CycleCloud knows it: names are reused, NodeIds never.
type Target struct {
	Node   NodeName
	NodeID string
}

// CommandKind is what the agent is asked to do in Slurm.
type CommandKind string

// The commands that the core may send.
const (
	FenceNodes    CommandKind = "fence_nodes"
	UnfenceNodes  CommandKind = "unfence_nodes"
	PowerDownASAP CommandKind = "power_down_asap"
	AbortBoot     CommandKind = "abort_boot"
	BeginNow      CommandKind = "begin_now"
	PowerDown     CommandKind = "power_down"
	PowerDownDone CommandKind = "power_down_done"
	ReleaseJobs   CommandKind = "release_jobs"
	RevokeJobs    CommandKind = "revoke_jobs"
	GatePartition CommandKind = "gate_partition"
	NoticeJobs    CommandKind = "notice_jobs"
)

// Command asks the agent to change Slurm.
type Command struct {
	Kind      CommandKind
	Nodearray NodearrayName
	Nodes     []NodeName
	Jobs      []string
	// Partitions is the new list of release_jobs and revoke_jobs.
	Partitions []string
	// Partition is the one of gate_partition, Up its new state.
	Partition string
	Up        bool
	Reason    Reason
}

// Verdict is the one answer to a group of waiting jobs. Where some of its jobs
// are released and others not, the reason is that of the others.
type Verdict struct {
	Group string
	// Released are the jobs that go now, to Nodearray.
	Released  []string
	Nodearray NodearrayName
	// Held is how many jobs stay.
	Held int
	// Cost is what one of the jobs would commit in Nodearray, or in the first
	// nodearray of its rule.
	Cost   Money
	Reason Reason
}

// Warning is a budget whose soft limit was passed, or, without a budget, a
// partition of the policy that Slurm does not have.
type Warning struct {
	Budget Budget
	Used   Money
	Reason Reason
}

// Closing takes a nodearray out of use for a while.
type Closing struct {
	Nodearray NodearrayName
	Until     time.Time
	Reason    Reason
}

// Failure is something that an admin should see, counted per node.
type Failure struct {
	Nodearray NodearrayName
	Node      NodeName
	Reason    Reason
}

// Hold says why something was not done.
type Hold struct {
	Nodearray NodearrayName
	Nodes     []NodeName
	Reason    Reason
}

// Purpose says what a timer is for.
type Purpose string

// The purposes of a timer.
const (
	BootDeadline Purpose = "boot_deadline"
	IdleDeadline Purpose = "idle_deadline"
	Retry        Purpose = "retry"
)

// Timer is a moment at which a nodearray has to be looked at again.
type Timer struct {
	Nodearray NodearrayName
	Purpose   Purpose
	At        time.Time
}
