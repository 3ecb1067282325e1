// Package event holds the versioned messages that travel between the head node
// and the cloud, and their encoding. It answers what a message may say and how
// it looks on the wire. It never sends one, and it knows no vendor's types:
// Slurm's words appear as text.
package event

import "time"

// The CloudEvents types of this version. Readers take this version and the one
// before it.
const (
	TypeQueuePressure  = "slurmburst.queue_pressure.v1"
	TypeSlurmCommand   = "slurmburst.slurm_command.v1"
	TypeScaleDownTimer = "slurmburst.scale_down_timer.v1"
	TypeNodeEvent      = "slurmburst.node_event.v1"
	TypeRejected       = "slurmburst.rejected.v1"
)

// Cause says why the agent took a snapshot.
type Cause string

// The causes of a snapshot.
const (
	CausePoll       Cause = "poll"
	CauseResume     Cause = "resume"
	CauseSuspend    Cause = "suspend"
	CauseResumeFail Cause = "resume_fail"
	CauseCommand    Cause = "command"
)

// QueuePressure is one whole snapshot of a cluster's queue and cloud nodes.
// Snapshots are level-triggered: the one with the highest (Epoch, Sequence)
// replaces all others, and losing one is harmless.
//
// Every time in it is the head node's clock and may be compared only with
// TakenAt of the same snapshot.
type QueuePressure struct {
	// Cluster is Slurm's ClusterName.
	Cluster string `json:"cluster"`
	// Epoch counts the agents that have been in charge of the cluster;
	// Sequence counts the snapshots of one of them.
	Epoch    int64 `json:"epoch"`
	Sequence int64 `json:"sequence"`
	// TakenAt is when the agent began to read Slurm.
	TakenAt time.Time `json:"takenAt"`
	// AgeAtSendMS is the monotonic time from reading Slurm to sending, in
	// milliseconds. The snapshot's age is this plus the time since the broker
	// enqueued it.
	AgeAtSendMS int64 `json:"ageAtSendMs"`
	Cause       Cause `json:"cause"`
	// AgentHost and AgentVersion name the sender; SlurmVersion is slurmctld's.
	AgentHost    string `json:"agentHost,omitempty"`
	AgentVersion string `json:"agentVersion,omitempty"`
	SlurmVersion string `json:"slurmVersion,omitempty"`

	// PendingJobs counts all pending jobs, array tasks one by one, also those
	// whose groups were cut.
	PendingJobs int            `json:"pendingJobs"`
	Pending     []PendingGroup `json:"pending,omitempty"`
	// Truncated says that ids or groups were cut to stay within MaxBody.
	Truncated bool         `json:"truncated,omitempty"`
	Running   []RunningJob `json:"running,omitempty"`
	// RunningCut says that Running does not name all.
	RunningCut bool       `json:"runningCut,omitempty"`
	Ended      []EndedJob `json:"ended,omitempty"`
	// Finished sums up the jobs of any partition that ended since the last
	// accepted snapshot, at most MaxFinished rows, most jobs first. It feeds an
	// average and is a best effort: what ends while no agent is in charge is
	// never told, and a snapshot that was sent but not acknowledged is told
	// again.
	Finished []FinishedRuns `json:"finished,omitempty"`

	CloudNodes []CloudNodes     `json:"cloudNodes"`
	Local      []LocalPartition `json:"local,omitempty"`
	Partitions []Partition      `json:"partitions,omitempty"`

	// CommandResults repeats every command of the last hour, at most 500,
	// until the cloud names it as known.
	CommandResults []CommandResult `json:"commandResults,omitempty"`
	// Problems are errors of the head node that an admin should see: a hook
	// called with a name outside the configured cloud nodes, dropped lines.
	Problems []Problem `json:"problems,omitempty"`
}

// PendingGroup is a set of alike pending jobs.
type PendingGroup struct {
	Partitions []string `json:"partitions"`
	User       string   `json:"user,omitempty"`
	Account    string   `json:"account,omitempty"`
	QOS        string   `json:"qos,omitempty"`
	// StateReason is Slurm's reason code (squeue %r); Description its %R text.
	StateReason string `json:"stateReason,omitempty"`
	Description string `json:"description,omitempty"`
	Nodes       int    `json:"nodes"`
	CPUs        int    `json:"cpus"`
	MemoryMiB   int64  `json:"memoryMiB,omitempty"`
	GPUs        int    `json:"gpus,omitempty"`
	// TimeLimitSeconds is 0 for UNLIMITED.
	TimeLimitSeconds int64  `json:"timeLimitSeconds,omitempty"`
	Features         string `json:"features,omitempty"`
	// NodeList says that the job asks for nodes by name.
	NodeList  bool `json:"nodeList,omitempty"`
	Batch     bool `json:"batch,omitempty"`
	Requeue   bool `json:"requeue,omitempty"`
	Restarted bool `json:"restarted,omitempty"`
	// BeginTime is zero where the job may start at once.
	BeginTime time.Time `json:"beginTime,omitzero"`

	Count           int       `json:"count"`
	OldestSubmit    time.Time `json:"oldestSubmit"`
	NewestSubmit    time.Time `json:"newestSubmit"`
	HighestPriority int64     `json:"highestPriority,omitempty"`
	// ExpectedStart is the earliest start that Slurm itself foresees for any of
	// the jobs, rounded down to the minute; zero where it has no estimate.
	ExpectedStart time.Time `json:"expectedStart,omitzero"`
	// Jobs names at most MaxGroupIDs of them, oldest first.
	Jobs JobIDs `json:"jobs,omitzero"`
}

// JobID is a Slurm job id as squeue prints it: "117", or "117_4" for a task of
// an array.
type JobID string

// JobIDs is a list of job ids, delta-coded on the wire.
type JobIDs []JobID

// RunningJob is a job on cloud nodes, configuring or running.
type RunningJob struct {
	ID        JobID  `json:"id"`
	User      string `json:"user,omitempty"`
	Account   string `json:"account,omitempty"`
	QOS       string `json:"qos,omitempty"`
	Partition string `json:"partition"`
	// State is Slurm's job state: CONFIGURING, RUNNING, COMPLETING, SUSPENDED.
	State string `json:"state"`
	// Nodes is a hostlist.
	Nodes string `json:"nodes"`
	// NodeCount is how many those are; 0 from an agent that does not tell.
	NodeCount        int       `json:"nodeCount,omitempty"`
	Start            time.Time `json:"start,omitzero"`
	TimeLimitSeconds int64     `json:"timeLimitSeconds,omitempty"`
	Batch            bool      `json:"batch,omitempty"`
	Requeue          bool      `json:"requeue,omitempty"`
}

// EndedJob left the cloud nodes since the last accepted snapshot.
type EndedJob struct {
	ID    JobID     `json:"id"`
	State string    `json:"state"`
	Nodes string    `json:"nodes,omitempty"`
	End   time.Time `json:"end,omitzero"`
}

// MaxFinished bounds QueuePressure.Finished.
const MaxFinished = 500

// FinishedRuns sums up ended jobs of one user and account: those with a time
// limit that ran to their end or to that limit, array tasks one by one.
type FinishedRuns struct {
	User    string `json:"user,omitempty"`
	Account string `json:"account,omitempty"`
	Jobs    int    `json:"jobs"`
	// RunSeconds is how long they ran, LimitSeconds how long they might have.
	RunSeconds   int64 `json:"runSeconds"`
	LimitSeconds int64 `json:"limitSeconds"`
}

// CloudNodes is the state of one nodearray's nodes in Slurm's own words.
// Nodes of the policy that no group and not Undefined names are IDLE,
// POWERED_DOWN and without a reason.
type CloudNodes struct {
	Nodearray string `json:"nodearray"`
	// Defined counts the policy's nodes that slurmctld knows; Usable those of
	// them that it may allocate.
	Defined int `json:"defined"`
	Usable  int `json:"usable"`
	// PoweredDown counts the powered-down nodes that are in no group.
	PoweredDown int `json:"poweredDown"`
	// Undefined is the hostlist of nodes that the policy names and slurmctld
	// does not know.
	Undefined string      `json:"undefined,omitempty"`
	Groups    []NodeGroup `json:"groups,omitempty"`
	// PoweringUp tells more about each node that has POWERING_UP.
	PoweringUp []PoweringUpNode `json:"poweringUp,omitempty"`
}

// NodeGroup is a set of nodes in one state since one moment.
type NodeGroup struct {
	// State is the base state: IDLE, ALLOCATED, MIXED, DOWN, UNKNOWN, ERROR.
	State string `json:"state"`
	// Flags are Slurm's, sorted: DRAIN, NOT_RESPONDING, POWERED_DOWN, …
	Flags []string `json:"flags,omitempty"`
	// Nodes is a hostlist.
	Nodes string `json:"nodes"`
	// Since is when the agent first saw the nodes so (for IDLE nodes: when
	// they became idle). It never moves later without a change in between.
	Since time.Time `json:"since,omitzero"`
	// Reason is the admin-visible text on the nodes: hostile input.
	Reason string `json:"reason,omitempty"`
}

// PoweringUpNode is a node that Slurm is powering up.
type PoweringUpNode struct {
	Node string `json:"node"`
	// ResumeID names the ResumeProgram call that asked for the node; empty
	// where the agent has not seen the call. A different ResumeID is a new
	// generation of the name.
	ResumeID string `json:"resumeId,omitempty"`
	// Jobs wait for the node.
	Jobs []BootJob `json:"jobs,omitempty"`
}

// BootJob is a job that waits for a node to boot. Only requeueable batch jobs
// survive the abort of a boot.
type BootJob struct {
	ID      JobID `json:"id"`
	Batch   bool  `json:"batch,omitempty"`
	Requeue bool  `json:"requeue,omitempty"`
}

// LocalPartition counts an on-prem partition.
type LocalPartition struct {
	Name       string `json:"name"`
	Nodes      int    `json:"nodes"`
	IdleNodes  int    `json:"idleNodes"`
	DownNodes  int    `json:"downNodes"`
	Cores      int    `json:"cores"`
	IdleCores  int    `json:"idleCores"`
	DownCores  int    `json:"downCores"`
	CloudNodes int    `json:"cloudNodes,omitempty"`
}

// Partition is what Slurm will admit to a partition.
type Partition struct {
	Name  string `json:"name"`
	State string `json:"state"`
	// MaxTimeSeconds and MaxNodes are 0 for UNLIMITED.
	MaxTimeSeconds int64  `json:"maxTimeSeconds,omitempty"`
	MaxNodes       int    `json:"maxNodes,omitempty"`
	AllowAccounts  string `json:"allowAccounts,omitempty"`
	AllowQOS       string `json:"allowQos,omitempty"`
	AllowGroups    string `json:"allowGroups,omitempty"`
	QOS            string `json:"qos,omitempty"`
	PriorityTier   int    `json:"priorityTier,omitempty"`
	// SuspendTimeSeconds is 0 where slurmctld does not print it and -1 for
	// INFINITE.
	SuspendTimeSeconds int64 `json:"suspendTimeSeconds,omitempty"`
}

// CommandResult is what became of a command.
type CommandResult struct {
	ID         string      `json:"id"`
	Generation int64       `json:"generation"`
	State      ResultState `json:"state"`
	// Stale and Failed name targets: those that were left alone because
	// Expect no longer held, and those whose read-back was wrong. All others
	// are as the command wants them. Nodes are a hostlist, jobs are ids with
	// commas, a partition is its name. Of an array that the command named
	// whole, single tasks may be named.
	Stale  string `json:"stale,omitempty"`
	Failed string `json:"failed,omitempty"`
	Error  string `json:"error,omitempty"`
}

// ResultState is the outcome of a command.
type ResultState string

// The outcomes of a command.
const (
	// ResultOK: at least one target is as the command wants it, some may be
	// Stale, and none has failed.
	ResultOK ResultState = "ok"
	// ResultStale: every target was left alone.
	ResultStale ResultState = "stale"
	// ResultRefused: nothing was done and never will be; Error says why.
	ResultRefused ResultState = "refused"
	// ResultSuperseded: a command of a higher generation has touched every
	// target.
	ResultSuperseded ResultState = "superseded"
	// ResultFailed: the targets in Failed do not show what was asked for;
	// Error is Slurm's complaint, or "rate" for notices over the agent's rate.
	ResultFailed ResultState = "failed"
)

// Problem is an error on the head node that nobody else can report.
type Problem struct {
	// Code is stable: unknown_node, dropped_lines, corrupt_spool_file, …
	Code   string    `json:"code"`
	Detail string    `json:"detail"`
	At     time.Time `json:"at,omitzero"`
}
