package servicebusemu

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The model is a queue as its documentation describes it, small enough to be seen
// to be right. The same random operations go to it and to the emulator, through
// the emulator's own protocol but without a network, so that a failing sequence
// can be shrunk and repeated.
type model struct {
	t     *rapid.T
	srv   *Server
	clock *manualClock
	s     *session
	mgmt  func(request) response
	cfg   QueueConfig

	messages  map[string]*modelMessage // by body; what is gone is removed
	receivers [3]modelReceiver
	waiting   []int // receivers that wait for any session, the oldest first
	sent      uint32
	completed uint64
	dead      int
	stale     []uint32 // deliveries that no longer hold a message
}

type modelMessage struct {
	body, session string
	sequence      int64
	state         messageState
	deferred      bool
	failures      uint32
	until         time.Time // end of the lock
	holder        int       // receiver, or -1 for a lock by token
	token         uuid
}

type modelReceiver struct {
	attached     bool
	session      string
	until        time.Time // end of the hold on the session
	waits        bool
	since        time.Time
	credit       uint32
	count        uint32 // deliveries on the link
	held         map[uint32]string
	mustBeClosed bool // the server ended it; the client has not answered
}

const modelQueue = "q"

func newModel(t *rapid.T, sessions bool, data string) *model {
	m := &model{
		t: t, clock: newManualClock(), messages: make(map[string]*modelMessage),
		cfg: QueueConfig{Name: modelQueue, RequiresSession: sessions, LockDuration: 10 * time.Second, MaxDeliveryCount: 3},
	}
	srv, err := New(Config{Queues: []QueueConfig{m.cfg}, Clock: m.clock, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	m.srv = srv
	m.s = bareSession(srv)
	m.mgmt = managementOf(m.s, srv.entities[modelQueue].main)
	m.s.handle(codeAttach, fields{"sender", uint32(100), false, nil, nil, sourceOf(""), targetOf(modelQueue)}, nil)
	m.frames()
	return m
}

// bareSession is a session without a network: what is sent stays in the write
// buffer.
func bareSession(srv *Server) *session {
	c := &connection{srv: srv, log: slog.New(slog.DiscardHandler), maxSend: maxFrameSize, wake: make(chan struct{}, 1)}
	c.drained = sync.NewCond(&c.mu)
	return beginSession(c, 0, fields{nil, uint32(0), uint32(ourWindow)})
}

// frames takes what the emulator has written.
func (m *model) frames() []performative {
	c := m.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []performative
	for b := c.out; len(b) > 0; {
		size := binary.BigEndian.Uint32(b)
		var p performative
		var err error
		if p.code, p.fields, p.payload, err = parseFrameBody(b[frameHeaderSize:size]); err != nil {
			m.t.Fatal(err)
		}
		all = append(all, p)
		b = b[size:]
	}
	c.out = nil
	return all
}

// settleUp follows up on what the emulator sent, and then compares everything.
func (m *model) settleUp() []performative {
	var answers []performative
	for _, p := range m.frames() {
		handle, _ := field[uint32](p.fields, 0)
		switch p.code {
		case codeTransfer:
			m.delivered(int(handle), p)
		case codeAttach:
			m.attached(p)
		case codeDetach:
			m.detached(int(handle), p)
		case codeEnd, codeClose:
			m.t.Fatalf("the emulator gave up: %v", p.fields)
		default:
			answers = append(answers, p)
		}
	}
	m.compare()
	return answers
}

// delivered checks that a message could go to a receiver, and was next in order.
func (m *model) delivered(handle int, p performative) {
	r := &m.receivers[handle]
	body, count, sequence := readDelivery(m.t, p.payload)
	msg := m.messages[body]
	switch {
	case msg == nil:
		m.t.Fatalf("%q was delivered after it was gone", body)
	case msg.state != stateActive:
		m.t.Fatalf("%q was delivered in state %d", body, msg.state)
	case msg.failures != count:
		m.t.Fatalf("%q has delivery count %d, want %d", body, count, msg.failures)
	case r.credit == 0 || !r.attached:
		m.t.Fatalf("%q was delivered to a receiver that did not ask", body)
	case m.cfg.RequiresSession && msg.session != r.session:
		m.t.Fatalf("%q of session %q was delivered to the holder of %q", body, msg.session, r.session)
	}
	msg.sequence = sequence
	for _, other := range m.messages {
		if other.state == stateActive && other.sequence < sequence && other.session == msg.session {
			m.t.Fatalf("%q (%d) was delivered before %q (%d)", body, sequence, other.body, other.sequence)
		}
	}
	id, _ := field[uint32](p.fields, 1)
	r.credit--
	r.count++
	r.held[id] = body
	msg.state, msg.holder, msg.until = stateLocked, handle, m.clock.Now().Add(m.cfg.LockDuration)
}

func readDelivery(t *rapid.T, b []byte) (body string, count uint32, sequence int64) {
	d := decoder{buf: b}
	for d.rest() > 0 {
		v, err := d.value()
		if err != nil {
			t.Fatal(err)
		}
		section := v.(described)
		switch section.descriptor {
		case uint64(codeHeader):
			count, _ = field[uint32](section.value.([]any), 4)
		case uint64(codeMessageAnnotations):
			sequence, _ = section.value.(orderedMap).get(string(annSequence)).(int64)
		case uint64(codeData):
			body = string(section.value.([]byte))
		}
	}
	return body, count, sequence
}

// attached checks an answer to an attach: a session that was free, or a refusal.
func (m *model) attached(p performative) {
	handle, _ := field[uint32](p.fields, attachHandle)
	r := &m.receivers[handle]
	if len(p.fields) <= attachSource || p.fields[attachSource] == nil {
		r.mustBeClosed = true // the detach that follows says why
		return
	}
	wasWaiting := r.waits
	*r = modelReceiver{attached: true, held: make(map[uint32]string)}
	if !m.cfg.RequiresSession {
		return
	}
	id, _, _ := sessionFilter(p.fields)
	r.session, r.until = id.(string), m.clock.Now().Add(m.cfg.LockDuration)
	for i, other := range m.receivers {
		if i != int(handle) && other.attached && other.session == r.session {
			m.t.Fatalf("session %q was given to two receivers", r.session)
		}
	}
	if wasWaiting {
		if m.waiting[0] != int(handle) {
			m.t.Fatalf("receiver %d was served before %d", handle, m.waiting[0])
		}
		m.waiting = m.waiting[1:]
	}
}

func (m *model) detached(handle int, p performative) {
	r := &m.receivers[handle]
	if len(p.fields) > 2 && p.fields[2] != nil {
		_, e := listOf(p.fields[2])
		switch e[0] {
		case condSessionLockLost:
			if m.clock.Now().Before(r.until) {
				m.t.Fatalf("receiver %d lost session %q too early", handle, r.session)
			}
			m.release(handle, true)
		case condTimeout:
			if m.clock.Now().Before(r.since.Add(defaultAcceptTimeout)) {
				m.t.Fatal("a wait for a session ended too early")
			}
			m.waiting = slices.DeleteFunc(m.waiting, func(i int) bool { return i == handle })
		case condSessionLocked:
			if !m.heldByAnother(handle, r.session) {
				m.t.Fatalf("session %q was refused, but nobody holds it", r.session)
			}
		default:
			m.t.Fatalf("detach of receiver %d: %v", handle, e)
		}
		*r = modelReceiver{}
		m.s.handle(codeDetach, fields{uint32(handle), true}, nil)
	}
}

func (m *model) heldByAnother(handle int, session string) bool {
	for i, r := range m.receivers {
		if i != handle && r.attached && r.session == session {
			return true
		}
	}
	return false
}

// release ends a receiver's hold on its session. Messages that it had locked are
// active again; failed says whether that counts.
func (m *model) release(handle int, failed bool) {
	for _, msg := range m.messages {
		if msg.state == stateLocked && m.cfg.RequiresSession && msg.session == m.receivers[handle].session {
			m.back(msg, failed)
		}
	}
}

// back ends a lock that nobody settled.
func (m *model) back(msg *modelMessage, failed bool) {
	if failed {
		msg.failures++
		if int(msg.failures) >= m.cfg.MaxDeliveryCount {
			m.bury(msg)
			return
		}
	}
	msg.state = stateActive
	if msg.deferred {
		msg.state = stateDeferred
	}
}

func (m *model) bury(msg *modelMessage) {
	m.dead++
	delete(m.messages, msg.body)
}

// compare checks the counts, and that nothing waits that could go on.
func (m *model) compare() {
	var count [messageStates]int
	for _, msg := range m.messages {
		count[msg.state]++
	}
	s := m.srv.Stats()[modelQueue]
	got := fmt.Sprint(s.Active, s.Locked, s.Deferred, s.Scheduled, s.DeadLettered, s.Completed)
	want := fmt.Sprint(count[stateActive], count[stateLocked], count[stateDeferred], count[stateScheduled], m.dead, m.completed)
	if got != want {
		m.t.Fatalf("active, locked, deferred, scheduled, dead, completed: got %s, want %s", got, want)
	}
	for _, msg := range m.messages {
		if msg.state != stateActive {
			continue
		}
		free := m.cfg.RequiresSession && !m.heldByAnother(-1, msg.session)
		if free && len(m.waiting) > 0 {
			m.t.Fatalf("%q of free session %q waits, and so does a receiver", msg.body, msg.session)
		}
		for i, r := range m.receivers {
			if r.attached && r.credit > 0 && (!m.cfg.RequiresSession || r.session == msg.session) {
				m.t.Fatalf("%q waits although receiver %d has credit", msg.body, i)
			}
		}
	}
}

// bodies lists the messages in a state, in a stable order.
func (m *model) bodies(state messageState) []string {
	all := slices.Sorted(maps.Keys(m.messages))
	return slices.DeleteFunc(all, func(body string) bool { return m.messages[body].state != state })
}

func (m *model) operations() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"send":            m.send,
		"schedule":        m.schedule,
		"cancel":          m.cancel,
		"attach":          m.attach,
		"detach":          m.detach,
		"credit":          m.giveCredit,
		"settle":          m.settle,
		"settle late":     m.settleLate,
		"receive by id":   m.receiveDeferred,
		"settle by token": m.settleByToken,
		"renew":           m.renew,
		"advance":         m.advance,
	}
}

func TestRandomOperationsAgreeWithTheModel(t *testing.T) {
	for name, sessions := range map[string]bool{"without sessions": false, "with sessions": true} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				m := newModel(t, sessions, "")
				t.Repeat(m.operations())
				m.drainAll()
			})
		})
	}
}
