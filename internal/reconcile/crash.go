package reconcile

// crashPoint numbers the moments between two steps of a pass at which the host
// may end the process, or stop it for minutes. The sentences below are the
// table of them; the suite under the build tag crashpoints reads it, kills and
// freezes passes at each, and fails at one that no pass ever comes by. Any
// other build contains nothing of it.
type crashPoint int

const (
	// pointLoaded: the commit partition has been read; nothing has been written.
	pointLoaded crashPoint = iota + 1
	// pointNoted: a snapshot that changes nothing is noted; the broker has not heard that it was handled.
	pointNoted
	// pointRead: rows, open commands and the newest snapshot have been read too; nothing has been written.
	pointRead
	// pointClaimed: somebody's open intent is claimed; nothing has been done for it since.
	pointClaimed
	// pointRolledForward: every earlier intent is settled, or left open; nothing new has been decided.
	pointRolledForward
	// pointDecided: the effects are known and drafted; nothing of them has been written.
	pointDecided
	// pointCommitted: revision, snapshot and intents are written; no effect has begun.
	pointCommitted
	// pointCreating: the claim was checked, and an earlier attempt asked about; the create has not been sent.
	pointCreating
	// pointCreated: CycleCloud has the create; the ids of its nodes are not known, and the intent does not tell.
	pointCreated
	// pointTerminating: the claim was checked; the terminate has not been sent.
	pointTerminating
	// pointCommanding: the claim was checked; the command has not been sent.
	pointCommanding
	// pointActed: the outcome of an intent is known; the intent does not tell.
	pointActed
	// pointSettled: the intent tells its outcome; no row does.
	pointSettled
	// pointLeft: an effect is of unknown outcome; its intent stays open, and the claim has not been given up.
	pointLeft
	// pointTimerSent: the broker has the timer; no row names it.
	pointTimerSent
	// pointArmed: every intent is settled or left open, every timer sent; no row shows any of it.
	pointArmed
	// pointNodesWritten: the rows of the nodes are written; those of the nodearrays are not.
	pointNodesWritten
	// pointArraysWritten: the rows of the nodearrays are written; those of the held groups are not.
	pointArraysWritten
	// pointGroupsWritten: the rows of the held groups are written; those of the jobs are not.
	pointGroupsWritten
	// pointJobsWritten: the rows of the jobs are written; those of the spend are not.
	pointJobsWritten
	// pointSpendWritten: the rows of the spend are written; those of the commands are not.
	pointSpendWritten
	// pointCommandsWritten: the rows of the commands are written; the decision is not recorded.
	pointCommandsWritten
	// pointRecorded: the decision is recorded, where it has to be; the failures are not.
	pointRecorded
	// pointFailuresWritten: the failures are recorded; the settled intents are still there.
	pointFailuresWritten
	// pointDropped: the settled intents are gone; the broker has not heard that the message was handled.
	pointDropped
)
