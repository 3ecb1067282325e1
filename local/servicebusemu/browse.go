package servicebusemu

import (
	"fmt"
	"slices"
	"time"
)

// maxBrowse bounds what one peek returns, in messages and in bytes.
const (
	maxBrowse      = 250
	maxBrowseBytes = 1 << 20
)

// peek returns encoded messages in every state, in order, from a sequence number
// on; of one group only, if group is not nil.
func (q *queue) peek(from int64, limit int, group *string) [][]byte {
	limit = min(limit, maxBrowse)
	var found [][]byte
	size := 0
	q.index.from(from, func(m *message) bool {
		if len(found) >= limit || size > maxBrowseBytes {
			return false
		}
		if group != nil && m.content.group != *group {
			return true
		}
		v := m.view()
		v.showState = true
		b := m.appendDelivery(nil, v)
		size += len(b)
		found = append(found, b)
		return true
	})
	return found
}

// receiveDeferred locks deferred messages (or removes them), all or none. For a
// queue with sessions they must belong to a group whose holder satisfies holds.
func (q *queue) receiveDeferred(sequences []int64, deletes bool, holds func(*consumer) bool, now time.Time) ([]*message, *refusal) {
	found := make([]*message, 0, len(sequences))
	for _, s := range sequences {
		m := q.index.get(s)
		if m == nil || m.state != stateDeferred || slices.Contains(found, m) {
			return nil, refuse(condNotFound, fmt.Sprintf("Failed to lock one or more specified messages. The message with sequence number %d does not exist or is not deferred.", s))
		}
		if m.group != nil {
			if _, r := q.heldGroup(m.group.id, holds, now); r != nil {
				return nil, r
			}
		}
		found = append(found, m)
	}
	for _, m := range found {
		if deletes {
			q.total.completed++
			q.remove(m)
			continue
		}
		q.lock(m, now)
	}
	return found, nil
}

// groupIDs lists groups in order of their id: those with messages or a state, or
// those whose state changed after since, if it is not zero.
func (q *queue) groupIDs(since time.Time) []string {
	var ids []string
	for id, g := range q.groups {
		if since.IsZero() && (g.messages > 0 || g.state != nil) || !since.IsZero() && g.updated.After(since) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
