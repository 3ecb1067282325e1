package agent

import (
	"errors"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/logging"
)

// keep adds a result to those that are published until the cloud knows them.
func (t *term) keep(result event.CommandResult) {
	t.charge.results = append(t.charge.results, storedResult{CommandResult: result, At: t.Clock.Now().UTC().Truncate(time.Second)})
	t.dirty = true
}

// refuseVersion answers a command of a version that this agent does not read,
// and reports whether it was one: the cloud, which may be newer, hears at once
// which it has to send.
func (t *term) refuseVersion(err error) bool {
	var unread *event.VersionError
	if !errors.As(err, &unread) || unread.Cluster != t.Cluster || unread.ID == "" || len(unread.ID) > maxErrorBytes || unread.Generation < 1 {
		return false
	}
	if !t.charge.find(unread.ID) {
		t.keep(event.CommandResult{
			ID: unread.ID, Generation: unread.Generation, State: event.ResultRefused, Error: bounded(unread.Error(), maxErrorBytes),
		})
	}
	t.Logger.Warn("command is of another version", logging.CommandID, unread.ID, logging.Error, err)
	return true
}
