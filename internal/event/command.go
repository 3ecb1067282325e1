package event

import "time"

// CommandKind is the closed list of what the cloud may ask of the agent.
type CommandKind string

// The commands, with what scontrol does for each.
const (
	ReleaseJobs        CommandKind = "release_jobs"         // JobId Partition=local,cloud
	RevokeJobs         CommandKind = "revoke_jobs"          // JobId Partition=local
	BeginNow           CommandKind = "begin_now"            // JobId StartTime=now
	FenceNodes         CommandKind = "fence_nodes"          // State=DRAIN on powered-down nodes
	UnfenceNodes       CommandKind = "unfence_nodes"        // State=IDLE on nodes that we fenced
	PowerUp            CommandKind = "power_up"             // State=POWER_UP
	PowerDownASAP      CommandKind = "power_down_asap"      // State=POWER_DOWN_ASAP
	AbortBoot          CommandKind = "abort_boot"           // State=POWER_DOWN_FORCE
	PowerDown          CommandKind = "power_down"           // State=POWER_DOWN, only to repair
	PowerDownDone      CommandKind = "power_down_done"      // State=RESUME on POWERING_DOWN
	GatePartition      CommandKind = "gate_partition"       // PartitionName State=UP|DOWN
	SetNodeAddr        CommandKind = "set_node_addr"        // NodeAddr=
	ExcludeFromSuspend CommandKind = "exclude_from_suspend" // SuspendExcNodes
	NoticeJobs         CommandKind = "notice_jobs"          // AdminComment
)

// FenceReason is the Reason that our drains carry on powered-down nodes; a
// drained node with another reason belongs to somebody else.
const FenceReason = "slurmburst: held back"

// The values of exclude_from_suspend.
const (
	// ExcludeKeep keeps Slurm's own timer from the nodes.
	ExcludeKeep = "keep"
	// ExcludeAllow gives them back to it.
	ExcludeAllow = "allow"
)

// SlurmCommand asks the agent to change Slurm. The agent re-reads the target,
// leaves alone what Expect does not cover, and refuses any node, job or
// partition outside its own allow-list. Commands expire with their message's
// time to live.
type SlurmCommand struct {
	ID      string      `json:"id"`
	Cluster string      `json:"cluster"`
	Kind    CommandKind `json:"kind"`
	// Generation is the revision of the commit that sent the command. The
	// agent answers superseded to a generation lower than the highest that it
	// has seen for a target.
	Generation int64 `json:"generation"`
	// Attempt counts the sendings of the same command, from 1.
	Attempt int `json:"attempt"`
	// Nodes is a hostlist.
	Nodes string `json:"nodes,omitempty"`
	// Jobs are at most 1000; "117" is a job or a whole array.
	Jobs JobIDs `json:"jobs,omitzero"`
	// Partition is the partition of gate_partition; Partitions the new list of
	// release_jobs and revoke_jobs, whole: every partition outside the policy
	// that the jobs have must be in it.
	Partition  string   `json:"partition,omitempty"`
	Partitions []string `json:"partitions,omitempty"`
	// Value is the new state of gate_partition, the address of set_node_addr,
	// the text of notice_jobs (200 bytes of it count), ExcludeKeep or ExcludeAllow.
	Value  string `json:"value,omitempty"`
	Reason string `json:"reason,omitempty"`
	Expect Expect `json:"expect"`
	// ExpiresAt is for people; the broker drops the message by its time to
	// live.
	ExpiresAt time.Time `json:"expiresAt"`
	// Known lists results that the cloud has recorded: they need no repeating.
	Known []string `json:"known,omitempty"`
}

// Expect is the state that must still hold when the agent acts; a target that
// does not match is answered as stale and left alone.
type Expect struct {
	// States are the base states accepted; empty accepts any.
	States []string `json:"states,omitempty"`
	// Flags must all be set, NotFlags must all be clear.
	Flags    []string `json:"flags,omitempty"`
	NotFlags []string `json:"notFlags,omitempty"`
	// Reason, when given, must be a prefix of the node's reason.
	Reason string `json:"reason,omitempty"`
	// RequeueableBatchOnly refuses a node on which any job is not a
	// requeueable batch job (abort_boot).
	RequeueableBatchOnly bool `json:"requeueableBatchOnly,omitempty"`
	// Pending refuses jobs that are no longer pending.
	Pending bool `json:"pending,omitempty"`
}

// TimerPurpose says what a timer is for. One timer per nodearray and purpose
// is armed at a time.
type TimerPurpose string

// The purposes of a timer.
const (
	BootDeadline TimerPurpose = "boot_deadline"
	IdleDeadline TimerPurpose = "idle_deadline"
	Retry        TimerPurpose = "retry"
	Recheck      TimerPurpose = "recheck"
)

// ScaleDownTimer is a reason to look at a cluster again. It carries no truth.
// A timer whose Generation is not the armed one is completed without a look.
type ScaleDownTimer struct {
	Cluster    string       `json:"cluster"`
	Nodearray  string       `json:"nodearray,omitempty"`
	Purpose    TimerPurpose `json:"purpose"`
	Generation int64        `json:"generation"`
	Due        time.Time    `json:"due"`
}

// NodeEvent is one of CycleCloud's own Event Grid events about a node: a hint
// that causes a look, never an action by itself.
type NodeEvent struct {
	// ID is Event Grid's; Subject is /sites/SITE/clusters/C/nodes/N.
	ID      string `json:"id"`
	Subject string `json:"subject,omitempty"`
	// Kind is CycleCloud's event type without its prefix: NodeCreated, …
	Kind string `json:"kind"`
	// CycleCloudCluster is CycleCloud's cluster name.
	CycleCloudCluster string    `json:"cycleCloudCluster"`
	Node              string    `json:"node,omitempty"`
	NodeID            string    `json:"nodeId,omitempty"`
	Status            string    `json:"status,omitempty"`
	Reason            string    `json:"reason,omitempty"`
	ErrorCode         string    `json:"errorCode,omitempty"`
	Message           string    `json:"message,omitempty"`
	ResourceID        string    `json:"resourceId,omitempty"`
	SubscriptionID    string    `json:"subscriptionId,omitempty"`
	At                time.Time `json:"at"`
}

// Rejected is a message that can never succeed, moved out of the way with all
// that a person needs to judge it.
type Rejected struct {
	Queue         string         `json:"queue"`
	MessageID     string         `json:"messageId,omitempty"`
	SessionID     string         `json:"sessionId,omitempty"`
	DeliveryCount int            `json:"deliveryCount"`
	EnqueuedAt    time.Time      `json:"enqueuedAt,omitzero"`
	Reason        string         `json:"reason"`
	Properties    map[string]any `json:"properties,omitempty"`
	// Body is the first 128 KB; BodySize and BodySHA256 describe all of it.
	Body       []byte `json:"body,omitempty"`
	BodySize   int    `json:"bodySize"`
	BodySHA256 string `json:"bodySha256"`
}
