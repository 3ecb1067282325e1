package agent

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/logging"
)

// conditions logs what changes: a failure once, and once that it is over.
type conditions struct {
	logger  *slog.Logger
	mu      sync.Mutex
	failing map[string]bool
}

// report notes how an activity went.
func (c *conditions) report(activity string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.failing[activity]
	if was == (err != nil) {
		return
	}
	if c.failing == nil {
		c.failing = map[string]bool{}
	}
	c.failing[activity] = err != nil
	switch {
	case err == nil:
		c.logger.Info("works again", "activity", activity)
	case errors.Is(err, errStandby), errors.Is(err, errOtherController):
		c.logger.Info("stands by", logging.Error, err)
	default:
		c.logger.Warn("did not work and is tried again", "activity", activity, logging.Error, err, logging.Fault, fault.Of(err).String())
	}
}

// problems collects what an admin should hear of until a snapshot that tells
// it was accepted.
type problems struct {
	waiting []event.Problem
	// dropped is the last reported count of unreadable records per program.
	dropped map[string]int
}

const (
	maxProblems     = 100
	maxDetailBytes  = 300
	codeUnknownNode = "unknown_node"
	codeDropped     = "dropped_lines"
	codeCorrupt     = "corrupt_spool_file"
	codeUnreadable  = "unreadable_command"
	codeNotCloud    = "not_a_cloud_node"
	codeState       = "unreadable_session_state"
)

// add notes a problem, unless it waits already.
func (p *problems) add(code, detail string, at time.Time) {
	detail = bounded(detail, maxDetailBytes)
	for _, w := range p.waiting {
		if w.Code == code && w.Detail == detail {
			return
		}
	}
	if len(p.waiting) < maxProblems {
		p.waiting = append(p.waiting, event.Problem{Code: code, Detail: detail, At: at.UTC().Truncate(time.Second)})
	}
}

// addDropped notes unreadable records when their number has changed.
func (p *problems) addDropped(program string, count int, at time.Time) {
	if p.dropped[program] == count {
		return
	}
	if p.dropped == nil {
		p.dropped = map[string]int{}
	}
	p.dropped[program] = count
	if count > 0 {
		p.add(codeDropped, program+": records that made no sense: "+decimal(count), at)
	}
}

// told forgets what an accepted snapshot said.
func (p *problems) told(said []event.Problem) {
	p.waiting = p.waiting[min(len(said), len(p.waiting)):]
}
