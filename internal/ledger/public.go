package ledger

import "time"

// Node is a row of the table of nodes: what Slurm and CycleCloud say about one
// cloud node, and what we mean to do with it.
type Node struct {
	Cluster string
	// Name is Slurm's NodeName.
	Name, Nodearray string
	// SlurmState is the base state, SlurmFlags the flags, in Slurm's words.
	SlurmState, SlurmFlags string
	// NodeID and CycleCloudStatus are CycleCloud's, VMID is Azure's.
	NodeID, CycleCloudStatus, VMID string
	// Supply is what CycleCloud has under the name, in the core's words.
	Supply string
	// State is what Slurm's state and flags mean, in the core's words.
	State string
	// RequestID made the node; ResumeID names the resume call it answers.
	RequestID, ResumeID string
	// CreatedEpoch and CreatedSequence name the snapshot that it was created for.
	CreatedEpoch, CreatedSequence int64
	// ReasonCode is from the closed list of docs/reasons.md; Reason is its
	// sentence.
	Reason, ReasonCode             string
	CreatedAt, JoinedAt, IdleSince time.Time
	PoweringUpSince                time.Time
	BootDeadline, IdleDeadline     time.Time
	LastAbortAt, SeenAt, UpdatedAt time.Time
	// TerminatedAt is when CycleCloud was last asked to delete the VM, RefusedAt
	// when it last refused the name or lost its VM, FailedAt when a failure about
	// the name was last recorded.
	TerminatedAt, RefusedAt, FailedAt time.Time
	// DownEpoch and DownSequence name the newest snapshot in which the name was
	// powered down or powering down while a VM existed under it.
	DownEpoch, DownSequence int64
	// Revision is that of the commit that the row shows.
	Revision int64

	version
}

// NodeCounts are the nodes of one nodearray by what they are doing. Each is a
// number of nodes.
type NodeCounts struct {
	// Defined is how many names Slurm knows; Usable is how many of them it may
	// allocate.
	Defined, Usable int
	// PoweredDown and Fenced are off; Fenced may not be allocated.
	PoweredDown, Fenced int
	// PoweringUp, Idle, Busy, PoweringDown, Down and Unknown add up, with the
	// two above, to Defined.
	PoweringUp, Idle, Busy, PoweringDown, Down, Unknown int
	// VMs is how many nodes CycleCloud has.
	VMs int
}

// Timer is a scheduled message that was armed for a nodearray.
type Timer struct {
	At time.Time
	// Generation is never used twice; a message with another one is void.
	Generation int64
	// SequenceNumber is the broker's, for cancelling.
	SequenceNumber int64
}

// Nodearray is a row of the table of nodearrays.
type Nodearray struct {
	Cluster, Name, Partition string
	Counts                   NodeCounts
	// Desired is how many nodes Slurm wants up; Limit is how many it may have.
	Desired, Limit int
	// One timer for each purpose, at its earliest deadline.
	BootDeadline, IdleDeadline, Retry, Recheck Timer
	// ClosedUntil is when a nodearray that failed may create nodes again.
	ClosedUntil time.Time
	// Failures counts the failures in a row that closed it, BreakerReason is the
	// newest of them.
	Failures                         int
	BreakerReasonCode, BreakerReason string
	// SpendToday and SpendMonth are what was committed, accrued and wasted since
	// the day and the month began, in millionths of the currency's unit.
	SpendToday, SpendMonth int64
	Reason, ReasonCode     string
	UpdatedAt              time.Time
	Revision               int64

	version
}

// CommandState says what became of a command.
type CommandState string

// The states of a command. Every state but CommandSent is final.
const (
	CommandSent       CommandState = "sent"
	CommandOK         CommandState = "ok"
	CommandRefused    CommandState = "refused"
	CommandSuperseded CommandState = "superseded"
	CommandStale      CommandState = "stale"
	CommandFailed     CommandState = "failed"
	CommandExpired    CommandState = "expired"
)

// Command is a row of the table of commands sent to a cluster's agent.
type Command struct {
	Cluster string
	// ID is the command's, the same for every attempt.
	ID, Kind, Nodearray string
	Generation          int64
	// Targets are names of nodes or numbers of jobs, as the command gave them.
	Targets []string
	// Expect is the state that has to hold when the agent obeys.
	Expect                      string
	SentAt, ExpiresAt, ResultAt time.Time
	State                       CommandState
	Detail                      string
	Attempt                     int

	version
}

// Job is a row of the table of jobs: one that was released, revoked or ran in
// the cloud, or a group of alike jobs that is held.
type Job struct {
	Cluster string
	// ID is Slurm's job id, or the group's key where Group is true.
	ID    string
	Group bool
	// Count is how many jobs a group has; 1 for a job.
	Count                                  int
	State, Partition, Nodearray, Nodes     string
	User, Account, QOS                     string
	ReasonCode, Reason                     string
	SubmittedAt, ReleasedAt, RevokedAt     time.Time
	StartedAt, EndedAt, NotedAt, UpdatedAt time.Time
	// Cost is the estimate in millionths of the currency's unit; for a job that
	// ended, what it cost.
	Cost int64
	// NodeCount is how many nodes the job needs, LimitSeconds its time limit; 0
	// for UNLIMITED, and for a group.
	NodeCount    int
	LimitSeconds int64
	// Revision is that of the commit that the row shows.
	Revision int64

	version
}

// Decision is a row of the table of decisions: enough to decide again.
type Decision struct {
	Cluster string
	// ID is unique in its cluster.
	ID string
	At time.Time
	// Trigger is the function and cause that made us look.
	Trigger       string
	Revision      int64
	PolicyVersion string
	// Actions, Holds and Reasons are JSON arrays, each kept whole.
	Actions, Holds, Reasons string
	RequestIDs              []string
	// Facts are what was decided on, compressed by the caller, at most MaxFacts
	// bytes. A listing leaves them out; FindDecision brings them.
	Facts []byte

	factsSize int64
	version
}

// Failure is a row of the table of failures.
type Failure struct {
	Cluster string
	At      time.Time
	// Node may be empty where the failure is not one node's.
	Node, Nodearray string
	// Source is the system that told us: slurm, cyclecloud, azure, agent, app.
	Source string
	// What was attempted, the code it failed with, and the words that came along.
	What, Code, Detail string
	RequestID          string

	version
}

// Policy is a row of the table of policies.
type Policy struct {
	Cluster, Version string
	// Text is the policy file, unchanged.
	Text      string
	Author    string
	AppliedAt time.Time
	// Current marks the one version in force.
	Current bool

	version
}
