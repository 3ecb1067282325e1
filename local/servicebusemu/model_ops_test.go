package servicebusemu

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// The operations of the model. Each does one thing to the emulator and to the
// model, and ends with settleUp. One that cannot be done now does nothing.

var modelSessions = rapid.SampledFrom([]string{"x", "y", "z"})

// encoded is a new message, scheduled if delay is not 0.
func (m *model) encoded(t *rapid.T, delay time.Duration) (msg *modelMessage, b []byte) {
	m.sent++
	msg = &modelMessage{body: fmt.Sprint(m.sent), holder: -1}
	if delay > 0 {
		msg.state = stateScheduled
		msg.until = m.clock.Now().Add(delay).Truncate(time.Millisecond)
		b = append(b, ctorDescribed, ctorSmallUlng, codeMessageAnnotations)
		b = appendValue(b, orderedMap{{annScheduled, timestampOf(msg.until)}})
	}
	if m.cfg.RequiresSession {
		msg.session = modelSessions.Draw(t, "session")
		b = appendDescribedList(b, codeProperties, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, msg.session)
	}
	return msg, append(b, text(msg.body)...)
}

func (m *model) send(t *rapid.T) {
	msg, b := m.encoded(t, 0)
	m.messages[msg.body] = msg
	msg.sequence = 1 << 62 // until the emulator says: after all others
	m.s.handle(codeTransfer, fields{uint32(100), m.sent, []byte{1}, uint32(0), false}, b)
	m.learnSequences()
	m.settleUp()
}

// learnSequences reads the sequence numbers of messages that have become active.
func (m *model) learnSequences() {
	q := m.srv.entities[modelQueue].main
	q.e.lock()
	defer q.e.unlock()
	q.index.from(0, func(x *message) bool {
		if msg := m.messages[string(x.body[len(x.body)-int(x.body[4]):])]; msg != nil {
			msg.sequence = x.sequence
		}
		return true
	})
}

func (m *model) schedule(t *rapid.T) {
	msg, b := m.encoded(t, time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds"))*time.Second)
	m.messages[msg.body] = msg
	rsp := m.mgmt(request{operation: "com.microsoft:schedule-message", body: orderedMap{{"messages", []any{orderedMap{{"message", b}}}}}})
	if rsp.code != 200 {
		m.t.Fatalf("schedule: %+v", rsp)
	}
	msg.sequence = rsp.body.(orderedMap).get("sequence-numbers").(array).items[0].(int64)
	m.settleUp()
}

func (m *model) cancel(t *rapid.T) {
	scheduled := m.bodies(stateScheduled)
	if len(scheduled) == 0 {
		return
	}
	body := rapid.SampledFrom(scheduled).Draw(t, "message")
	numbers := array{ctorLong, []any{m.messages[body].sequence}}
	for _, want := range []int32{200, 404} {
		rsp := m.mgmt(request{operation: "com.microsoft:cancel-scheduled-message", body: orderedMap{{"sequence-numbers", numbers}}})
		if rsp.code != want {
			m.t.Fatalf("cancel: %+v, want %d", rsp, want)
		}
	}
	delete(m.messages, body)
	m.settleUp()
}

func (m *model) attach(t *rapid.T) {
	handle := rapid.IntRange(0, len(m.receivers)-1).Draw(t, "receiver")
	r := &m.receivers[handle]
	if r.attached || r.waits {
		return
	}
	from := sourceOf(modelQueue)
	if m.cfg.RequiresSession {
		var id any
		if rapid.Bool().Draw(t, "named") {
			r.session = modelSessions.Draw(t, "session")
			id = r.session
		} else {
			r.waits, r.since = true, m.clock.Now()
			m.waiting = append(m.waiting, handle)
		}
		from.value = []any{modelQueue, nil, nil, nil, nil, nil, nil, orderedMap{{filterSession, described{filterSessionCode, id}}}}
	}
	m.s.handle(codeAttach, fields{fmt.Sprint(handle), uint32(handle), true, nil, uint8(1), from, targetOf("")}, nil)
	m.settleUp()
}

func (m *model) detach(t *rapid.T) {
	handle := rapid.IntRange(0, len(m.receivers)-1).Draw(t, "receiver")
	r := &m.receivers[handle]
	if !r.attached && !r.waits {
		return
	}
	if r.attached {
		m.release(handle, false)
		m.stale = append(m.stale, slices.Sorted(maps.Keys(r.held))...)
		for _, body := range r.held {
			if msg := m.messages[body]; msg != nil && msg.holder == handle {
				msg.holder = -1
			}
		}
	}
	m.waiting = slices.DeleteFunc(m.waiting, func(i int) bool { return i == handle })
	*r = modelReceiver{}
	m.s.handle(codeDetach, fields{uint32(handle), true}, nil)
	m.settleUp()
}

func (m *model) giveCredit(t *rapid.T) {
	handle := rapid.IntRange(0, len(m.receivers)-1).Draw(t, "receiver")
	r := &m.receivers[handle]
	if !r.attached {
		return
	}
	r.credit = uint32(rapid.IntRange(0, 4).Draw(t, "credit"))
	m.s.handle(codeFlow, fields{uint32(firstOutgoing), uint32(ourWindow), uint32(0), uint32(1), uint32(handle), r.count, r.credit}, nil)
	m.settleUp()
}

var outcomes = map[string]described{
	"complete": performativeOf(codeAccepted),
	"release":  performativeOf(codeReleased),
	"abandon":  performativeOf(codeModified, false, false),
	"defer":    performativeOf(codeModified, false, true),
	"bury":     performativeOf(codeRejected, performativeOf(codeError, condDeadLetter)),
}

// apply does to the model what an outcome does to a message.
func (m *model) apply(outcome string, msg *modelMessage) {
	switch outcome {
	case "complete":
		m.completed++
		delete(m.messages, msg.body)
	case "release", "abandon":
		m.back(msg, outcome == "abandon")
	case "defer":
		msg.state, msg.deferred = stateDeferred, true
	case "bury":
		m.bury(msg)
	}
}

// settle settles a random delivery that a receiver still holds.
func (m *model) settle(t *rapid.T) {
	handle := rapid.IntRange(0, len(m.receivers)-1).Draw(t, "receiver")
	r := &m.receivers[handle]
	if len(r.held) == 0 {
		return
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(r.held))).Draw(t, "delivery")
	outcome := rapid.SampledFrom(slices.Sorted(maps.Keys(outcomes))).Draw(t, "outcome")
	msg := m.messages[r.held[id]]
	delete(r.held, id)
	m.stale = append(m.stale, id)
	m.apply(outcome, msg)
	m.dispose(id, outcomes[outcome], "")
}

// settleLate tries it with one that holds nothing any more.
func (m *model) settleLate(t *rapid.T) {
	if len(m.stale) == 0 {
		return
	}
	m.dispose(rapid.SampledFrom(m.stale).Draw(t, "delivery"), outcomes["complete"], condMessageLockLost)
}

// dispose sends a disposition and checks that it is answered, with an error or
// without.
func (m *model) dispose(id uint32, outcome described, want symbol) {
	m.s.handle(codeDisposition, fields{true, id, nil, false, outcome}, nil)
	answers := m.settleUp()
	if len(answers) != 1 || answers[0].code != codeDisposition || answers[0].fields[1] != id {
		m.t.Fatalf("answers to a disposition: %v", answers)
	}
	code, state := listOf(answers[0].fields[4])
	got := symbol("")
	if code == codeRejected && len(state) > 0 {
		_, e := listOf(state[0])
		got, _ = field[symbol](e, 0)
	}
	if got != want {
		m.t.Fatalf("disposition %d was answered by %q, want %q", id, got, want)
	}
}

// receiveDeferred locks a deferred message by its number.
func (m *model) receiveDeferred(t *rapid.T) {
	deferred := m.bodies(stateDeferred)
	if len(deferred) == 0 {
		return
	}
	msg := m.messages[rapid.SampledFrom(deferred).Draw(t, "message")]
	rsp := m.mgmt(request{operation: "com.microsoft:receive-by-sequence-number", body: orderedMap{
		{"sequence-numbers", array{ctorLong, []any{msg.sequence}}}, {"receiver-settle-mode", uint32(1)},
	}})
	if m.cfg.RequiresSession && !m.heldByAnother(-1, msg.session) {
		if rsp.code != 410 {
			m.t.Fatalf("receive deferred %q of a session that nobody holds: %+v", msg.body, rsp)
		}
		return
	}
	if rsp.code != 200 {
		m.t.Fatalf("receive deferred %q: %+v", msg.body, rsp)
	}
	entry := rsp.body.(orderedMap).get("messages").([]any)[0].(orderedMap)
	if body, count, _ := readDelivery(m.t, entry.get("message").([]byte)); body != msg.body || count != msg.failures {
		m.t.Fatalf("received %q with count %d, want %q with %d", body, count, msg.body, msg.failures)
	}
	msg.state, msg.holder, msg.until = stateLocked, -1, m.clock.Now().Add(m.cfg.LockDuration)
	msg.token = entry.get("lock-token").(uuid)
	m.settleUp()
}

// settleByToken settles what receiveDeferred locked, now or too late.
func (m *model) settleByToken(t *rapid.T) {
	all := slices.Sorted(maps.Keys(m.messages))
	all = slices.DeleteFunc(all, func(body string) bool { return m.messages[body].token == (uuid{}) })
	if len(all) == 0 {
		return
	}
	msg := m.messages[rapid.SampledFrom(all).Draw(t, "message")]
	verb := rapid.SampledFrom([]string{"complete", "abandon", "defer", "bury"}).Draw(t, "outcome")
	rsp := m.mgmt(request{operation: "com.microsoft:update-disposition", body: orderedMap{
		{"lock-tokens", array{ctorUUID, []any{msg.token}}},
		{"disposition-status", map[string]string{"complete": "completed", "abandon": "abandoned", "defer": "defered", "bury": "suspended"}[verb]},
	}})
	held := msg.state == stateLocked && msg.holder == -1 && msg.deferred
	msg.token = uuid{}
	if !held {
		if rsp.code != 410 {
			m.t.Fatalf("settle %q by an old token: %+v", msg.body, rsp)
		}
		return
	}
	if rsp.code != 200 {
		m.t.Fatalf("settle %q by token: %+v", msg.body, rsp)
	}
	m.apply(verb, msg)
	m.settleUp()
}

// renew renews the session of a receiver.
func (m *model) renew(t *rapid.T) {
	handle := rapid.IntRange(0, len(m.receivers)-1).Draw(t, "receiver")
	r := &m.receivers[handle]
	if !m.cfg.RequiresSession || !r.attached {
		return
	}
	rsp := m.mgmt(request{
		operation:  "com.microsoft:renew-session-lock",
		properties: orderedMap{{"associated-link-name", fmt.Sprint(handle)}},
		body:       orderedMap{{"session-id", r.session}},
	})
	if rsp.code != 200 {
		m.t.Fatalf("renew %q: %+v", r.session, rsp)
	}
	r.until = m.clock.Now().Add(m.cfg.LockDuration)
}

// advance moves the time: locks end and scheduled messages become active.
func (m *model) advance(t *rapid.T) {
	d := time.Duration(rapid.IntRange(1, 30_000).Draw(t, "milliseconds")) * time.Millisecond
	now := m.clock.Now().Add(d)
	// Step to each moment at which something is due, so that the order is known.
	for {
		next := now
		for _, msg := range m.messages {
			if (msg.state == stateScheduled || msg.state == stateLocked && !m.cfg.RequiresSession) && msg.until.Before(next) {
				next = msg.until
			}
		}
		m.due(next)
		if !next.Before(now) {
			return
		}
	}
}

// due moves the time to a moment and ends what ends then.
func (m *model) due(at time.Time) {
	for _, body := range slices.Sorted(maps.Keys(m.messages)) {
		msg := m.messages[body]
		switch {
		case msg.until.After(at):
		case msg.state == stateScheduled:
			msg.state = stateActive
		case msg.state == stateLocked && !m.cfg.RequiresSession:
			for i := range m.receivers {
				for id, held := range m.receivers[i].held {
					if held == body {
						delete(m.receivers[i].held, id)
						m.stale = append(m.stale, id)
					}
				}
			}
			m.back(msg, true)
		}
	}
	m.clock.advance(max(0, at.Sub(m.clock.Now())))
	m.learnSequences()
	m.settleUp()
}

// drainAll ends every receiver and then receives everything that can be received:
// nothing was lost.
func (m *model) drainAll() {
	for handle, r := range m.receivers {
		if r.attached || r.waits {
			m.waiting = slices.DeleteFunc(m.waiting, func(i int) bool { return i == handle })
			if r.attached {
				m.release(handle, false)
			}
			m.receivers[handle] = modelReceiver{}
			m.s.handle(codeDetach, fields{uint32(handle), true}, nil)
			m.settleUp()
		}
	}
	m.due(m.clock.Now().Add(time.Hour))
	want := m.bodies(stateActive)
	q := m.srv.entities[modelQueue].main
	q.e.lock()
	defer q.e.unlock()
	var got []string
	q.index.from(0, func(x *message) bool {
		if x.state == stateActive {
			got = append(got, string(x.body[len(x.body)-int(x.body[4]):]))
		}
		return true
	})
	slices.Sort(got)
	if !slices.Equal(got, want) {
		m.t.Fatalf("left in the queue: %v, want %v", got, want)
	}
}
