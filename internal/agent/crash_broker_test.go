//go:build crashpoints

package agent_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/slurmburst/slurmburst/internal/agent"
	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
)

// broker is Service Bus with the one session of the command queue and its lock,
// which runs out. It complains of an epoch that goes back, that two agents
// write, or that speaks after it was followed by another.
type broker struct {
	w *crashWorld

	mu      sync.Mutex
	holder  *grip
	until   time.Time
	state   []byte
	epoch   int64              // the highest written
	writers map[int64]*process // by epoch
	queue   []*letter
	sent    []event.QueuePressure
	// stall, once, is how long the sender of a snapshot stands still while it is
	// on its way; refused are those of an older epoch that came late by it.
	stall   time.Duration
	refused int
}

// letter is a command on its way.
type letter struct {
	id         string
	body       []byte
	by         *grip // who has it under lock
	token      int64
	deliveries int
}

func (b *broker) put(id string, body []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(b.queue, &letter{id: id, body: body})
}

func (b *broker) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

// since gives the snapshots from number from on.
func (b *broker) since(from int) []event.QueuePressure {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sent[from:])
}

// free ends the hold of the session: what was handed out is handed out again.
func (b *broker) free() {
	for _, l := range b.queue {
		l.by = nil
	}
	b.holder = nil
}

// disconnect is the end of a process's connection, as far as the broker sees it.
func (b *broker) disconnect(p *process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holder != nil && b.holder.p == p {
		b.free()
	}
}

// isCharge reports whether p wrote the newest epoch and nobody else has the
// session.
func (b *broker) isCharge(p *process) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire()
	return b.writers[b.epoch] == p && (b.holder == nil || b.holder.p == p)
}

func (b *broker) expire() {
	if b.holder != nil && !time.Now().Before(b.until) {
		b.free()
	}
}

func (b *broker) grant(g *grip) {
	b.holder, b.until = g, time.Now().Add(agent.DefaultLock)
}

// link is a process's connection to the broker.
type link struct {
	*broker
	p *process
}

func (l link) Send(ctx context.Context, queue string, m bus.Message) error {
	if err := cmp.Or(l.p.reach(), ctx.Err()); err != nil {
		return err
	}
	encoding, _ := m.Properties[event.EncodingProperty].(string)
	q, err := event.DecodeQueuePressure(m.Body, encoding)
	if err != nil || queue != pressureQueue || m.SessionID != cluster {
		return fault.Newf(fault.Bug, "sent to %s, session %s: %v", queue, m.SessionID, err)
	}
	late := l.stalls()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case late && q.Epoch < l.epoch:
		l.refused++
		return nil
	case l.writers[q.Epoch] != l.p:
		l.w.breaks("%v publishes in epoch %d, which it did not write", l.p, q.Epoch)
	case q.Epoch != l.epoch:
		l.w.breaks("%v publishes in epoch %d after epoch %d has begun", l.p, q.Epoch, l.epoch)
	case q.Sequence <= l.p.sequence:
		l.w.breaks("%v publishes number %d after %d", l.p, q.Sequence, l.p.sequence)
	}
	l.p.sequence = q.Sequence
	l.sent = append(l.sent, q)
	l.w.tell(q)
	return nil
}

func (l link) stalls() bool {
	l.mu.Lock()
	stall := l.stall
	l.stall = 0
	l.mu.Unlock()
	if stall > 0 {
		l.p.freeze(stall, func() {})
	}
	return stall > 0
}

func (l link) AcceptSession(_ context.Context, queue, name string) (agent.Session, error) {
	if err := l.p.reach(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire()
	switch {
	case queue != commandQueue || name != cluster:
		return nil, fault.Newf(fault.Bug, "accepting session %s of %s", name, queue)
	case l.holder != nil:
		return nil, fault.New(fault.Conflict, "accept session", bus.ErrSessionLocked)
	}
	g := &grip{link: l}
	l.grant(g)
	return g, nil
}

// grip is a process's hold of the session. As the client does, it takes a
// session again without a word where it was lost and nobody has it now.
type grip struct {
	link
	closed bool
}

func (g *grip) enter(ctx context.Context) (func(), error) {
	err := cmp.Or(g.p.reach(), ctx.Err())
	g.mu.Lock()
	if err != nil {
		return g.mu.Unlock, err
	}
	g.expire()
	if g.closed || g.holder != nil && g.holder != g {
		return g.mu.Unlock, fault.Newf(fault.Conflict, "the lock is lost")
	}
	if g.holder == nil {
		g.grant(g)
	}
	return g.mu.Unlock, nil
}

func (g *grip) State(ctx context.Context) ([]byte, error) {
	done, err := g.enter(ctx)
	defer done()
	return bytes.Clone(g.state), err
}

func (g *grip) SetState(ctx context.Context, state []byte) error {
	done, err := g.enter(ctx)
	defer done()
	if err != nil {
		return err
	}
	var wire struct{ Epoch int64 }
	if err := json.Unmarshal(state, &wire); err != nil {
		return fault.New(fault.Bug, "read the state", err)
	}
	switch writer := g.writers[wire.Epoch]; {
	case wire.Epoch < g.epoch:
		g.w.breaks("%v writes epoch %d over %d", g.p, wire.Epoch, g.epoch)
	case writer != nil && writer != g.p:
		g.w.breaks("%v writes epoch %d, which is that of %v", g.p, wire.Epoch, writer)
	case wire.Epoch > g.epoch:
		g.p.sequence = 0
	}
	g.state, g.epoch, g.writers[wire.Epoch] = bytes.Clone(state), wire.Epoch, g.p
	return nil
}

func (g *grip) RenewLock(ctx context.Context) error {
	done, err := g.enter(ctx)
	defer done()
	if err == nil {
		g.grant(g)
	}
	return err
}

func (g *grip) Receive(ctx context.Context, limit int) ([]bus.Received, error) {
	for ctx.Err() == nil {
		if err := g.p.awake(); err != nil { // nobody takes anything in its sleep
			return nil, err
		}
		messages, err := g.take(ctx, limit)
		if err != nil || len(messages) > 0 {
			return messages, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil, nil
}

func (g *grip) take(ctx context.Context, limit int) (messages []bus.Received, err error) {
	done, err := g.enter(ctx)
	defer done()
	if err != nil {
		return nil, err
	}
	for _, l := range g.queue {
		if l.by != nil || len(messages) == limit {
			continue
		}
		l.by, l.deliveries = g, l.deliveries+1
		l.token++
		if l.deliveries > 10 {
			g.w.breaks("%s is delivered %d times: the broker would give up", l.id, l.deliveries)
		}
		messages = append(messages, bus.Received{ID: l.id, Body: l.body, DeliveryCount: l.deliveries, SequenceNumber: l.token})
	}
	return messages, nil
}

func (g *grip) Complete(ctx context.Context, m bus.Received) error {
	done, err := g.enter(ctx)
	defer done()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(g.queue, func(l *letter) bool { return l.id == m.ID && l.by == g && l.token == m.SequenceNumber })
	if at < 0 {
		return fault.Newf(fault.Transient, "the lock of message %s is lost", m.ID)
	}
	g.queue = slices.Delete(g.queue, at, at+1)
	return nil
}

func (g *grip) Close(context.Context) error {
	err := g.p.reach()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if err == nil && g.holder == g {
		g.free()
	}
	return err
}

// tell notes the hook calls that a snapshot tells of: those that lie in the
// spool while the broker takes it. Their files go only after that.
func (w *crashWorld) tell(q event.QueuePressure) {
	if q.Cause == event.CausePoll || q.Cause == event.CauseCommand {
		return
	}
	for _, call := range w.calls {
		if q.TakenAt.Before(call.at) {
			continue
		}
		if _, err := os.Stat(filepath.Join(w.spool, call.file)); err != nil {
			continue
		}
		boots := q.CloudNodes[0].PoweringUp
		at := slices.IndexFunc(boots, func(n event.PoweringUpNode) bool { return n.Node == call.node })
		if call.kind != event.CauseResume || at < 0 || boots[at].ResumeID == call.id {
			call.told = true
		}
	}
}
