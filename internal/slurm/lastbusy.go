package slurm

import (
	"context"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// LastBusy gives, per node, when Slurm last saw it busy: the idle-since of an
// idle node. A powered-down node has none. A restart of slurmctld moves the
// time forward (measured on 22.05.8), so a caller keeps the earliest one while
// no job was seen. sinfo has no such field, hence scontrol show node.
func (c *Client) LastBusy(ctx context.Context) (map[NodeName]time.Time, error) {
	text, err := c.queryText(ctx, "scontrol", "-a", "-o", "show", "node")
	if err != nil {
		return nil, err
	}
	return parseLastBusy(text)
}

func parseLastBusy(text string) (map[NodeName]time.Time, error) {
	busy := map[NodeName]time.Time{}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "NodeName=") {
			continue // an administrator's comment may hold a newline
		}
		values := keyValues(line)
		name := NodeName(values["NodeName"])
		if err := name.Validate(); err != nil {
			return nil, fault.New(fault.Invalid, "read scontrol show node", err)
		}
		at, ok := parseTime([]byte(values["LastBusyTime"]))
		if !ok {
			return nil, fault.Newf(fault.Invalid, "read scontrol show node %s: LastBusyTime %s is no time", name, quoteBounded(values["LastBusyTime"]))
		}
		if _, seen := busy[name]; !seen && !at.IsZero() {
			busy[name] = at
		}
	}
	return busy, nil
}
