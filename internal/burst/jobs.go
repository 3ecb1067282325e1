package burst

import "time"

// Group is a set of waiting jobs that are alike: same shape, owner, partitions
// and state. All times are the cloud's clock.
type Group struct {
	// Key names the group from one snapshot to the next.
	Key        string
	Partitions []string
	User       string
	Account    string
	QOS        string
	// StateReason is Slurm's reason code, Description its text.
	StateReason, Description string
	// Nodes, CPUs, MemoryMiB and GPUs are what one whole job needs; Slurm
	// estimates Nodes from the partition.
	Nodes, CPUs int
	MemoryMiB   int64
	GPUs        int
	// TimeLimit is 0 for UNLIMITED.
	TimeLimit time.Duration
	Features  string
	// NodeList says that the job asks for nodes by name.
	NodeList, Batch, Requeue, Restarted bool
	// BeginTime is zero where the job may start at once. ExpectedStart is when
	// Slurm expects the first of the jobs to start; zero where it has no idea.
	BeginTime, ExpectedStart time.Time
	// Count is how many jobs there are, Jobs names the oldest of them.
	Count                      int
	OldestSubmit, NewestSubmit time.Time
	Priority                   int64
	Jobs                       []string
}

// RunningJob is a job on cloud nodes, configuring or running.
type RunningJob struct {
	ID, User, Account string
	Nodearray         NodearrayName
	Nodes             int
	// Configuring is true until all nodes of the job are up.
	Configuring bool
	StartedAt   time.Time
	TimeLimit   time.Duration // 0 for UNLIMITED
}

// EndedJob left the cloud's nodes.
type EndedJob struct {
	ID      string
	EndedAt time.Time // zero where Slurm no longer knows
	// Requeued says that the job waits again.
	Requeued bool
}

// LocalPartition counts an on-prem partition's own nodes.
type LocalPartition struct {
	Name                        string
	Nodes, IdleNodes, DownNodes int
}

// Partition is what Slurm admits to a partition. Zero numbers and empty lists
// are no bound.
type Partition struct {
	Name string
	// Up says that Slurm starts jobs in it.
	Up       bool
	MaxTime  time.Duration
	MaxNodes int
	// AllowAccounts, AllowQOS and AllowGroups are nil for ALL.
	AllowAccounts, AllowQOS, AllowGroups []string
}

// FinishedRuns are jobs that ended, summed.
type FinishedRuns struct {
	User, Account string
	Jobs          int
	Run, Limit    time.Duration
}

// JobCommand is a command about jobs or a partition whose result is not known.
type JobCommand struct {
	Kind CommandKind
	// Jobs for a command about jobs, Partition for gate_partition.
	Jobs      []string
	Partition string
	ExpiresAt time.Time
}
