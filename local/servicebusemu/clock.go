package servicebusemu

import "time"

// Clock tells the time and wakes the server when a lock, a schedule or a time to
// live runs out. Tests replace it.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in a goroutine of its own once d has passed.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is what *time.Timer offers.
type Timer interface {
	Stop() bool
	Reset(d time.Duration) bool
}

// machineClock is the clock of the machine, or of a testing/synctest bubble.
type machineClock struct{}

func (machineClock) Now() time.Time                            { return time.Now() }
func (machineClock) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }
