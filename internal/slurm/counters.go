package slurm

import (
	"context"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Counters are the controller's own counts of jobs (sdiag). Asking for them
// costs 3 to 10 ms at any queue length, so they tell cheaply that nothing was
// submitted, started or ended since the last look: compare with ==.
//
// They do not tell everything: a changed priority, a released hold, a node that
// went down leave them as they are, and slurmctld works Pending and Running
// out only every 30 s. Equal counters may put a look off, never replace it.
type Counters struct {
	// Since is when Slurm last set the counts below to zero: at midnight
	// UTC, at sdiag --reset, at a restart.
	Since time.Time
	// Submitted to Failed count job records since then, array tasks one by
	// one.
	Submitted, Started, Completed, Canceled, Failed int64
	// Pending and Running are the jobs at the time of Slurm's last count.
	Pending, Running int64
}

// Gate asks for the counters.
func (c *Client) Gate(ctx context.Context) (Counters, error) {
	text, err := c.queryText(ctx, "sdiag")
	if err != nil {
		return Counters{}, err
	}
	return parseCounters(text)
}

func parseCounters(text string) (Counters, error) {
	var counters Counters
	wanted := map[string]*int64{
		"Jobs submitted": &counters.Submitted,
		"Jobs started":   &counters.Started,
		"Jobs completed": &counters.Completed,
		"Jobs canceled":  &counters.Canceled,
		"Jobs failed":    &counters.Failed,
		"Jobs pending":   &counters.Pending,
		"Jobs running":   &counters.Running,
	}
	for line := range strings.Lines(text) {
		if since, found := strings.CutPrefix(line, "Data since"); found {
			counters.Since = epochInBrackets(since)
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		into, ok := wanted[key]
		if !ok {
			continue
		}
		n, ok := parseInt([]byte(strings.TrimSpace(value)))
		if !ok {
			return Counters{}, fault.Newf(fault.Invalid, "read sdiag: %s: %s is no count", key, quoteBounded(value))
		}
		*into = n
		delete(wanted, key)
	}
	for _, key := range []string{"Jobs submitted", "Jobs pending", "Jobs running"} {
		if _, missing := wanted[key]; missing {
			return Counters{}, fault.Newf(fault.Invalid, "read sdiag: %s is missing", key)
		}
	}
	return counters, nil
}

// epochInBrackets reads "Mon Nov 23 13:49:24 2026 (1795441764)".
func epochInBrackets(text string) time.Time {
	_, text, _ = strings.Cut(text, "(")
	text, _, _ = strings.Cut(text, ")")
	at, _ := parseTime([]byte(text)) // an unreadable time is the zero time
	return at
}
