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
)

// Command asks the agent to change Slurm.
type Command struct {
	Kind      CommandKind
	Nodearray NodearrayName
	Nodes     []NodeName
	Jobs      []string
	Reason    Reason
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
