package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/logging"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/internal/spool"
)

// term is the time of one agent in charge, from the acceptance of the session
// to its loss.
type term struct {
	*Agent
	session Session
	// held is the latest moment at which the session's lock was certainly ours.
	held   atomic.Pointer[time.Time]
	charge *charge
	// dirty says that the charge holds what the session state does not.
	dirty    bool
	settings settings
	// commands are what receive hands to the loop; backlog is what the loop
	// has not settled yet.
	commands chan []bus.Received
	backlog  []bus.Received
	// postponed is what is known of commands that cannot be carried out yet.
	postponed map[string]*jobPass

	// doubt says that the connection broke: the session may have been another's
	// since.
	doubt atomic.Bool

	sequence int64
	// accepted counts the snapshots that the broker has taken.
	accepted       int64
	digest         string
	counters       slurm.Counters
	jobs           int       // how many the last look found
	lookedAt       time.Time // when the last look that was told of began
	moving         bool
	heartbeatDue   time.Time
	lastController time.Time
	failures       int
}

var (
	errSessionLost     = errors.New("the command session was lost")
	errControllerMoved = errors.New("another slurmctld took over")
)

// begin takes charge: only an epoch that is stored may publish or obey.
func (a *Agent) begin(ctx context.Context, session Session, accepting time.Time) (*term, error) {
	ctx, cancel := context.WithTimeout(ctx, a.Lock/2)
	defer cancel()
	stored, err := session.State(ctx)
	if err != nil {
		return nil, err
	}
	c, err := readCharge(stored)
	if err != nil {
		a.problems.add(codeState, err.Error(), a.Clock.Now())
		a.Logger.Error("session state was not readable", logging.Error, err)
	}
	c.Epoch++
	a.crash(pointStateRead)
	state, err := c.encode(a.Clock.Now())
	if err != nil {
		return nil, err
	}
	if err := session.SetState(ctx, state); err != nil {
		return nil, err
	}
	a.crash(pointEpochWritten)
	t := &term{
		Agent: a, session: session, charge: c, commands: make(chan []bus.Received), lastController: a.Clock.Now(), postponed: map[string]*jobPass{},
	}
	t.held.Store(&accepting)
	return t, nil
}

// run publishes and obeys until the session is lost or ctx ends, and says why
// it ended.
func (t *term) run(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var others sync.WaitGroup
	others.Go(func() { t.hold(ctx, end) })
	others.Go(func() { t.receive(ctx, end) })
	t.loop(ctx, end)
	end(nil)
	others.Wait()
	return context.Cause(ctx)
}

const (
	// commandsAtOnce bounds the commands that are received together.
	commandsAtOnce = 32
	// receivePause follows an empty or failed receive: the client may answer
	// both at once, again and again, while it reconnects.
	receivePause = 500 * time.Millisecond
)

// receive hands commands to the loop.
func (t *term) receive(ctx context.Context, end context.CancelCauseFunc) {
	for ctx.Err() == nil {
		messages, err := t.session.Receive(ctx, commandsAtOnce)
		if ctx.Err() != nil {
			return
		}
		if bus.Lost(err) {
			end(fmt.Errorf("%w: %w", errSessionLost, err))
			return
		}
		t.conditions.report("receiving commands", err)
		if len(messages) == 0 {
			t.doubt.Store(true)
			t.pause(ctx, receivePause)
			continue
		}
		t.crash(pointReceived)
		select {
		case t.commands <- messages:
		case <-ctx.Done():
		}
	}
}

const (
	firstRetry   = time.Second
	longestRetry = 15 * time.Second
	// controllerEvery is how often a pair of controllers is asked who is in
	// charge.
	controllerEvery = 30 * time.Second
)

// loop is the only goroutine that looks at Slurm and changes it.
func (t *term) loop(ctx context.Context, end context.CancelCauseFunc) {
	full, cause := true, event.CausePoll
	for ctx.Err() == nil {
		if len(t.backlog) > 0 {
			acted, err := t.obey(ctx)
			t.conditions.report("carrying out commands", err)
			if bus.Lost(err) || errors.Is(err, errUnsettled) {
				end(fmt.Errorf("%w: %w", errSessionLost, err))
				return
			}
			if acted {
				full, cause = true, event.CauseCommand
			}
		}
		if full && ctx.Err() == nil {
			err := t.publish(ctx, cause)
			if bus.Lost(err) {
				end(fmt.Errorf("%w: %w", errSessionLost, err))
				return
			}
			if err == nil {
				full, cause = false, event.CausePoll
			}
		}
		select {
		case <-ctx.Done():
		case messages := <-t.commands:
			t.backlog = append(t.backlog, messages...)
			t.crash(pointTaken)
		case <-t.Pokes:
			full = true
		case <-t.Clock.After(t.nextLook()):
			if !t.stillLeads(ctx) {
				end(errControllerMoved)
				return
			}
			full = full || t.mustLook(ctx)
		}
	}
}

// nextLook is the pause before the next cheap look, or before a failed step is
// tried again.
func (t *term) nextLook() time.Duration {
	if t.failures > 0 {
		return min(firstRetry<<min(t.failures-1, 10), longestRetry)
	}
	if len(t.backlog) > 0 {
		return firstRetry
	}
	return min(t.Poll, max(t.heartbeatDue.Sub(t.Clock.Now()), 0))
}

// stillLeads asks a pair of controllers, every now and then, who is in charge.
func (t *term) stillLeads(ctx context.Context) bool {
	if len(t.controllers) < 2 || t.Clock.Now().Sub(t.lastController) < controllerEvery {
		return true
	}
	t.lastController = t.Clock.Now()
	err := t.checkController(ctx)
	return !errors.Is(err, errOtherController)
}

// mustLook decides cheaply whether a whole look is due.
func (t *term) mustLook(ctx context.Context) bool {
	if t.moving || !t.Clock.Now().Before(t.heartbeatDue) {
		return true
	}
	waiting, err := spool.List(t.Spool, 1)
	if err != nil || len(waiting.Entries) > 0 || len(waiting.Corrupt) > 0 {
		// What is corrupt was moved away by this very call.
		t.hooks(spool.Listing{Corrupt: waiting.Corrupt}, t.Clock.Now())
		return true
	}
	counters, err := t.Slurm.Gate(ctx)
	return err != nil || counters != t.counters
}

// publish looks at Slurm and sends what it saw, if that is news or the heartbeat
// is due. On an error nothing is forgotten, and the next attempt looks anew.
func (t *term) publish(ctx context.Context, cause event.Cause) (err error) {
	defer func() {
		if err != nil {
			t.failures++
			return
		}
		t.failures = 0
	}()
	if err := t.settleDoubt(ctx); err != nil {
		t.conditions.report("publishing snapshots", err)
		return err
	}
	r, err := t.look(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	t.conditions.report("reading Slurm", wrapRead(err))
	if err != nil {
		return err
	}
	t.crash(pointLooked)
	t.counters, t.moving = r.counters, t.restless(r)
	q := t.snapshot(r, cause)
	digest := steadyDigest(q)
	tells := len(q.Ended) > 0 || len(q.Problems) > 0 || cause == event.CauseCommand
	if digest == t.digest && !tells && len(r.hooks.Entries) == 0 && t.Clock.Now().Before(t.heartbeatDue) {
		t.crash(pointUnchanged)
		return nil
	}
	err = t.send(ctx, &q, traceOf(r.hooks))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	t.conditions.report("publishing snapshots", err)
	if err != nil {
		t.doubt.Store(true)
		return err
	}
	t.crash(pointSent)
	if !t.holds() {
		// The cloud may have heard of a later epoch first, and refuse this one.
		return errLapsed
	}
	t.accept(q, r, digest)
	return nil
}

// send gives the snapshot to the broker, with the trace that it belongs to. Each attempt is a snapshot of its own:
// the broker would drop a second one of the same number.
func (t *term) send(ctx context.Context, q *event.QueuePressure, trace string) error {
	t.crash(pointSending)
	if !t.holds() {
		return errLapsed
	}
	t.sequence++
	q.Sequence = t.sequence
	q.AgeAtSendMS = t.Clock.Now().Sub(q.TakenAt).Milliseconds()
	m, err := q.Encode()
	if err != nil {
		return err
	}
	out := bus.Message{ID: m.ID, SessionID: m.SessionID, ContentType: event.ContentType, Body: m.Body, TTL: m.TTL}
	out.Properties = map[string]any{}
	if m.Encoding != "" {
		out.Properties[event.EncodingProperty] = m.Encoding
	}
	if trace != "" {
		out.Properties[event.TraceProperty] = trace
	}
	return t.Bus.Send(ctx, t.PressureQueue, out)
}

// traceOf is the trace context of the newest hook call that a snapshot tells
// of.
func traceOf(listing spool.Listing) string {
	for _, entry := range slices.Backward(listing.Entries) {
		if entry.Record.Traceparent != "" {
			return entry.Record.Traceparent
		}
	}
	return ""
}

// accept forgets what the broker has taken.
func (t *term) accept(q event.QueuePressure, r reading, digest string) {
	t.accepted++
	t.digest = digest
	t.heartbeatDue = t.Clock.Now().Add(jittered(t.Heartbeat, t.Random()))
	t.problems.told(q.Problems)
	t.memory.rememberEnded(r.ran)
	clear(t.memory.running)
	for _, job := range q.Running {
		t.memory.running[job.ID] = job
	}
	for _, entry := range r.hooks.Entries {
		if err := spool.Remove(t.Spool, entry.Name); err != nil {
			// It is told again with the next snapshot, which does no harm.
			t.Logger.Warn("spool file was not removed", logging.Path, entry.Name, logging.Error, err)
		}
		t.crash(pointRemoved)
	}
	t.crash(pointTold)
	t.Logger.Debug("published snapshot", logging.Epoch, q.Epoch, logging.Sequence, q.Sequence, "cause", string(q.Cause),
		logging.SnapshotAge, q.AgeAtSendMS, logging.Count, q.PendingJobs)
}

// jittered spreads the agents of many clusters: give or take a fifth.
func jittered(d time.Duration, random float64) time.Duration {
	return d*4/5 + time.Duration(float64(d)*2/5*random)
}
