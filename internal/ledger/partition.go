package ledger

import "time"

// Cluster is the row `cluster` of a commit partition: the lock, the gates and
// the schedule of one Slurm cluster. A value comes from Load and goes back with
// Commit; its version travels with it, unseen.
type Cluster struct {
	// Cluster is Slurm's ClusterName.
	Cluster string
	// LedgerID names this life of the ledger. A ledger that was lost and began
	// anew has another one, so that identifiers derived from it never repeat.
	LedgerID string
	// Revision grows by one with every commit. It starts at the time of the
	// first Load in milliseconds since 1970, not at zero: the agent remembers
	// the highest revision it obeyed, and a ledger that was lost must not count
	// below it.
	Revision int64
	// Epoch and Sequence name the newest snapshot that a commit took in.
	Epoch, Sequence int64
	// Paused says that an admin stopped new bursts. PausedBy, PausedReason and
	// PausedAt are for people.
	Paused                 bool
	PausedBy, PausedReason string
	PausedAt               time.Time
	// NextDue is the earliest moment at which the same facts could lead to
	// another decision; zero means never.
	NextDue time.Time
	// MinWriter is the lowest writer version that may still commit. It is
	// raised by Commit.Requires, and never lowered.
	MinWriter int
	// PolicyVersion is the version of the policy that the last commit followed.
	PolicyVersion string
	// PolicyInForce is the version that an admin put in force; empty while the
	// one that the app was packaged with is.
	PolicyInForce string
	// CommandsSince is the lowest revision whose command may still wait for an
	// answer, or count although Slurm refused it. Like every bound it may be too
	// low, never too high; 0 is none. A version that does not know it leaves it as
	// it is: what that one commits has a higher revision.
	CommandsSince int64
	// SweptAt and SweepDue are when the sweep last ended and next has to run.
	SweptAt, SweepDue time.Time

	// commitID tells a writer whose answer was lost that the row holds its own
	// commit. snapshotSize is the length of the stored body: it says which of
	// the columns of the snapshot's rows count.
	commitID     string
	snapshotSize int64
	version
}

// Heartbeat is the row `heartbeat`: the newest snapshot that was received,
// whether or not it changed anything.
type Heartbeat struct {
	Epoch, Sequence int64
	// ReceivedAt is when the cloud took it in; AsOf is when Slurm was read,
	// by the cloud's clock.
	ReceivedAt, AsOf time.Time
	// Digest identifies the snapshot's contents.
	Digest string
	// AgentHost is the head node whose agent is in charge.
	AgentHost string

	version
}

// Snapshot is the row `snapshot` and its continuations: the newest snapshot
// that a commit took in.
type Snapshot struct {
	Epoch, Sequence int64
	AsOf            time.Time
	Digest          string
	// Body is compressed by the caller and stored as it is, at most MaxSnapshot
	// bytes.
	Body []byte
}

// Budget is the row `budget`: what decisions have to know of earlier ones, the
// money that they committed above all. It is compressed by the caller, who
// alone understands it, and has at most MaxBudget bytes.
type Budget struct {
	Body []byte

	version
}

// IntentState says what became of an intent.
type IntentState string

// The states of an intent. Every state but IntentOpen is final.
const (
	IntentOpen       IntentState = "open"
	IntentDone       IntentState = "done"
	IntentFailed     IntentState = "failed"
	IntentSuperseded IntentState = "superseded"
)

// Target is a node that an intent is about.
type Target struct {
	// Node is Slurm's NodeName.
	Node string `json:"node"`
	// NodeID is CycleCloud's, where one is known.
	NodeID string `json:"nodeId,omitempty"`
	// ResumeID names the resume call that the node is created for.
	ResumeID string `json:"resumeId,omitempty"`
}

// Outcome is what happened to one target.
type Outcome struct {
	Node   string `json:"node"`
	NodeID string `json:"nodeId,omitempty"`
	// Code is a word from a closed list of the caller's; Detail is for people.
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
}

// Intent is a row `intent|…`: an effect that was committed and has to be
// carried out exactly once, by whoever holds its claim.
type Intent struct {
	// ID is "<revision>/<nn>", unique in its cluster and ledger.
	ID              string
	Kind, Nodearray string
	Targets         []Target
	// RequestID is the idempotency key sent to the other system.
	RequestID string
	// Attempt counts how often the effect was tried.
	Attempt int
	// Body is the exact request, so that a repeat is byte-identical.
	Body []byte
	// Reserved is money set aside, in millionths of the currency's unit.
	Reserved int64
	// NotAfter ends the time in which the effect still makes sense.
	NotAfter time.Time
	// Epoch and Sequence name the snapshot that the intent rests on;
	// Generation orders it against others on the same targets.
	Epoch, Sequence int64
	Generation      int64
	// Owner may act until ClaimUntil.
	Owner      string
	ClaimUntil time.Time
	State      IntentState
	// OperationID is the other system's name for what it is doing.
	OperationID string
	// TimerSequences are the broker's numbers of messages scheduled for it.
	TimerSequences []int64
	Outcome        []Outcome
	// Reason is a code, Detail a sentence for people.
	Reason, Detail       string
	CreatedAt, SettledAt time.Time

	version
}

// Fact is a row `fact|…`: something that was heard and that no commit has used
// yet.
type Fact struct {
	// ID makes a repeat harmless: a fact is stored once per ID.
	ID, Kind string
	At       time.Time
	Body     []byte

	version
}

// Partition is everything in the commit partition of one cluster.
type Partition struct {
	Cluster   Cluster
	Heartbeat Heartbeat
	Snapshot  Snapshot
	Budget    Budget
	Changes   Changes
	// Intents are ordered by ID: by revision, then by number.
	Intents []Intent
	// Facts are ordered by time, then by ID.
	Facts []Fact
	// Found is false for a cluster that nothing was committed for. Its Cluster
	// can be committed all the same: that makes the first commit.
	Found bool
}

// Commit is one step of a cluster, written whole or not at all.
type Commit struct {
	// Cluster is the one that Load returned, with new values. The store writes
	// its Revision plus one.
	Cluster Cluster
	// Writer is the version that commits; zero means this build's. Requires is
	// the lowest that may commit after it.
	Writer, Requires int
	// Snapshot, Heartbeat, Budget and Changes are written where they are not
	// nil. Changes are those that Load returned with this commit added.
	Snapshot  *Snapshot
	Heartbeat *Heartbeat
	Budget    *Budget
	Changes   *Changes
	// NewIntents become rows; their IDs must be new.
	NewIntents []Intent
	// DropIntents are settled and projected, DropFacts are used: both are
	// deleted, on the condition that nobody changed them since they were loaded.
	DropIntents []Intent
	DropFacts   []Fact
}

// Committed is what a commit left behind: values that can be used for the next
// one.
type Committed struct {
	Cluster Cluster
	// Intents are the new ones, in the order given.
	Intents []Intent
}
