package functionshost

import "time"

const (
	crashWindow = 30 * time.Minute
	crashLimit  = 3
)

// crashes counts how often a handler died (HttpFunctionInvocationDispatcher):
// the count is cleared when the previous crash is more than 30 minutes old, and
// the third crash in a row stops the host.
type crashes struct {
	count int
	last  time.Time
}

// add counts a crash and reports whether the host must stop.
func (c *crashes) add(now time.Time) bool {
	if c.count > 0 && now.Sub(c.last) > crashWindow {
		c.count = 0
	}
	c.count++
	c.last = now
	return c.count >= crashLimit
}
