package servicebusemu

import "slices"

// disposition carries out what the client, as a receiver, says about deliveries.
// Every one that it leaves unsettled is answered, known or not: the client waits
// for that.
func (s *session) disposition(f fields) {
	receiver, _ := field[bool](f, 0)
	first, ok := field[uint32](f, 1)
	if !receiver || !ok {
		return
	}
	last := fieldOr(f, 2, first)
	settled := fieldOr(f, 3, false)
	var state any
	if len(f) > 4 {
		state = f[4]
	}
	d, terminal := readOutcome(state)
	if !terminal && !settled {
		return
	}
	for _, id := range s.deliveries(first, last) {
		q, outcome := s.settle(id, d)
		if settled || outcome == nil {
			continue
		}
		s.answer(q, nil, id, outcome)
	}
}

// deliveries lists the unsettled deliveries from first to last, and first itself
// if the range is one. Delivery ids wrap around.
func (s *session) deliveries(first, last uint32) []uint32 {
	if first == last {
		return []uint32{first}
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	var ids []uint32
	for id := range s.unsettled {
		if id-first <= last-first {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b uint32) int { return int(int32(a - b)) })
	return ids
}

// settle carries out d on one delivery and returns the encoded answer, or nil for
// none. The queue is nil if the delivery is not known.
func (s *session) settle(id uint32, d disposition) (*queue, []byte) {
	s.c.mu.Lock()
	u, ok := s.unsettled[id]
	delete(s.unsettled, id)
	s.c.mu.Unlock()
	if !ok {
		return nil, refuse(condMessageLockLost, textMessageLockLost).outcome()
	}
	f := noFault
	if d.verb != verbRelease {
		f = u.q.e.faultOf(settling)
	}
	switch f {
	case faultDetach:
		u.link.detachFor(forcedDetach)
		return u.q, nil
	case faultDrop:
		s.c.drop()
		return u.q, nil
	}
	r := u.q.settleNow(u, d, f == faultLostLock)
	switch {
	case f == faultLostAnswer:
		u.link.detachFor(forcedDetach)
		return u.q, nil
	case f == faultDropAfter:
		s.c.drop()
		return u.q, nil
	case r != nil:
		return u.q, r.outcome()
	}
	return u.q, answers[d.verb]
}

// settleNow carries out d, after the lock was lost if it is to be.
func (q *queue) settleNow(u unsettled, d disposition, lost bool) *refusal {
	q.e.lock()
	defer q.e.unlock()
	now := q.e.clock.Now()
	if lost && u.m.held(u.token, now) {
		q.loseLock(u.m, now)
	}
	return q.settle(u.m, u.token, d, now)
}

// answers are what the client expects to hear back. A dead-lettering is answered
// by a rejection without an error: with one, the client would return it.
var answers = map[verb][]byte{
	verbComplete:   outcomeAccepted,
	verbRelease:    outcomeReleased,
	verbAbandon:    outcomeModified,
	verbDefer:      outcomeModified,
	verbDeadLetter: outcomeRejected,
}

// readOutcome turns a delivery state into a disposition; terminal is false for
// states that settle nothing. Settling without a state releases.
func readOutcome(state any) (d disposition, terminal bool) {
	code, f := listOf(state)
	switch code {
	case codeAccepted:
		return disposition{verb: verbComplete}, true
	case codeReleased:
		return disposition{verb: verbRelease}, true
	case codeModified:
		d.verb = verbAbandon
		if fieldOr(f, 1, false) {
			d.verb = verbDefer
		}
		d.properties, _ = field[orderedMap](f, 2)
		return d, true
	case codeRejected:
		return readRejected(f), true
	}
	return disposition{verb: verbRelease}, false
}

// readRejected reads the reason of a dead-lettering out of the error's info map;
// whatever else is there becomes application properties.
func readRejected(f fields) disposition {
	d := disposition{verb: verbDeadLetter}
	if len(f) == 0 {
		return d
	}
	_, e := listOf(f[0])
	if condition, ok := field[symbol](e, 0); ok && condition != condDeadLetter {
		d.reason = string(condition)
	}
	d.description, _ = field[string](e, 1)
	info, _ := field[orderedMap](e, 2)
	for _, p := range info {
		name, ok := propertyName(p.key)
		switch text, isString := p.value.(string); {
		case !ok:
		case name == propReason && isString:
			d.reason = text
		case name == propDescription && isString:
			d.description = text
		case name != propReason && name != propDescription:
			d.properties = append(d.properties, p)
		}
	}
	return d
}
