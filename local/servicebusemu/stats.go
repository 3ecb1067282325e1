package servicebusemu

// QueueStats is what a queue holds now and what has happened to it since New.
type QueueStats struct {
	// Active messages can be received now; Locked ones are with a receiver. The
	// service's own active message count is the sum of both.
	Active    int `json:"active"`
	Locked    int `json:"locked"`
	Scheduled int `json:"scheduled"`
	Deferred  int `json:"deferred"`
	// DeadLettered is what the dead-letter sub-queue holds, in whatever state.
	DeadLettered int `json:"dead_lettered"`
	// Sessions counts the sessions with messages, a state or a holder.
	Sessions int `json:"sessions"`
	// Waiting counts the receivers that wait to be given any session.
	Waiting int `json:"waiting"`

	// Sent counts accepted messages, duplicates and scheduled ones included.
	Sent uint64 `json:"sent"`
	// Completed counts messages completed, or received in receive-and-delete mode.
	Completed uint64 `json:"completed"`
	Abandoned uint64 `json:"abandoned"`
	// Expired counts messages whose time to live passed.
	Expired uint64 `json:"expired"`
	// LockExpiries counts message locks and session locks that ran out.
	LockExpiries uint64 `json:"lock_expiries"`
	// Duplicates were accepted and dropped.
	Duplicates uint64 `json:"duplicates"`
	// Cancelled counts scheduled messages that were cancelled.
	Cancelled uint64 `json:"cancelled"`
	// EverDeadLettered counts moves to the dead-letter sub-queue.
	EverDeadLettered uint64 `json:"ever_dead_lettered"`
	// DeadLettersCompleted counts messages removed from the dead-letter sub-queue.
	DeadLettersCompleted uint64 `json:"dead_letters_completed"`
}

// totals are the counters of one queue.
type totals struct {
	sent, completed, abandoned, expired, lockExpiries, duplicates, cancelled, deadLettered uint64
}

func (e *entity) stats() QueueStats {
	e.lock()
	defer e.unlock()
	q := e.main
	s := QueueStats{
		Active: q.count[stateActive], Locked: q.count[stateLocked],
		Scheduled: q.count[stateScheduled], Deferred: q.count[stateDeferred],
		Sessions: len(q.groups), Waiting: q.waiters.Len(),
		Sent: q.total.sent, Completed: q.total.completed, Abandoned: q.total.abandoned,
		Expired: q.total.expired, LockExpiries: q.total.lockExpiries, Duplicates: q.total.duplicates,
		Cancelled: q.total.cancelled, EverDeadLettered: q.total.deadLettered,
		DeadLettersCompleted: e.dead.total.completed,
	}
	for _, n := range e.dead.count {
		s.DeadLettered += n
	}
	return s
}
