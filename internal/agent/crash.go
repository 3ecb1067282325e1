package agent

// crashPoint numbers the moments between two steps of an agent's life at which
// its process may be killed, stopped for minutes or cut off from the broker.
// The sentences below are the table of them; the suite under the build tag
// crashpoints reads it, strikes at each, and fails at one that no agent ever
// comes by. Any other build contains nothing of it.
type crashPoint int

const (
	// pointAccepted: the session is ours; its state has not been read.
	pointAccepted crashPoint = iota + 1
	// pointStateRead: the last epoch is known; the next one has not been written.
	pointStateRead
	// pointEpochWritten: the epoch is written; nothing has been published or obeyed in it.
	pointEpochWritten
	// pointRenewed: the lock was renewed; whether our epoch still stands has not been asked.
	pointRenewed
	// pointReceived: the broker has handed out commands; the loop does not know of them.
	pointReceived
	// pointTaken: the loop has the commands; none of them has been begun.
	pointTaken
	// pointObeying: our epoch was found to stand; the next command has not been read.
	pointObeying
	// pointRecognised: a command was carried out before; this delivery of it is not settled.
	pointRecognised
	// pointBegun: a new command was read; its targets have not been looked at.
	pointBegun
	// pointConfirmed: the targets were read again and fit; Slurm has not been told.
	pointConfirmed
	// pointActed: Slurm was told; what became of it has not been read back.
	pointActed
	// pointReadBack: the result is known; it is remembered nowhere.
	pointReadBack
	// pointPostponed: a command has to wait for its targets; the backlog does not hold it yet.
	pointPostponed
	// pointRemembered: the result is remembered; the session state does not tell of it.
	pointRemembered
	// pointStored: the session state tells the result; the command is not settled.
	pointStored
	// pointSettled: the command is settled; no snapshot tells its result.
	pointSettled
	// pointCertain: after a broken connection our epoch was found to stand; nothing has been said since.
	pointCertain
	// pointListed: the hook calls in the spool were read; Slurm has not been looked at.
	pointListed
	// pointLooked: hook calls and Slurm were read; no snapshot has been made of them.
	pointLooked
	// pointUnchanged: the look was no news; nothing is sent.
	pointUnchanged
	// pointSending: the snapshot is made; the broker does not have it.
	pointSending
	// pointSent: the broker has the snapshot; every spool file that it tells of is still there.
	pointSent
	// pointRemoved: a spool file that was told is removed; others may still be there.
	pointRemoved
	// pointTold: nothing is left of what the snapshot told.
	pointTold
	// pointEnded: the charge is over; the session has not been given back.
	pointEnded
	// pointGivenBack: the session is given back; the agent has not begun to stand by.
	pointGivenBack
)
