package logging

// Keys of attributes. They are spelt as the system that the value comes from
// spells them, in snake_case; all programs use these and no others.
const (
	JobID         = "job_id"
	Jobs          = "jobs" // job ids with commas
	Cluster       = "cluster"
	Partition     = "partition"
	Node          = "node"
	Nodes         = "nodes" // a hostlist or a count
	NodeArray     = "node_array"
	MachineType   = "machine_type"
	NodeID        = "node_id"        // CycleCloud's
	RequestID     = "request_id"     // ours, sent, the same on a repeat
	OperationID   = "operation_id"   // CycleCloud's, returned
	InvocationID  = "invocation_id"  // the Functions host's
	Function      = "function"       // the folder's name
	Trigger       = "trigger"        // what made us look
	Queue         = "queue"          // the physical name
	MessageID     = "message_id"     // Service Bus's
	DeliveryCount = "delivery_count" // from 1
	SessionID     = "session_id"
	Traceparent   = "traceparent" // W3C Trace Context
	Epoch         = "epoch"       // the agent in charge
	Sequence      = "sequence"    // the snapshot within its epoch
	SnapshotAge   = "snapshot_age_ms"
	Revision      = "revision" // of the commit partition
	PolicyVersion = "policy_version"
	Decision      = "decision" // the id in burstdecisions
	Intent        = "intent"   // revision/nn
	CommandID     = "command_id"
	Kind          = "kind"       // of an intent, a command or a timer
	Generation    = "generation" // of a timer, a command or a node's name
	Actions       = "actions"
	Holds         = "holds"
	Reason        = "reason" // a code of burst.Reason
	Fault         = "fault"  // a fault.Kind
	Error         = "error"
	Duration      = "duration_ms"
	Attempt       = "attempt"
	Count         = "count"
	Path          = "path"
	Address       = "address"
	Version       = "version"
)
