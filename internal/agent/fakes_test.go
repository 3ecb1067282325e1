package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/agent"
	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/internal/spool"
)

// fakeSlurm is a controller in memory. It changes nodes as slurmctld does in the
// moment of a command; what Slurm does later, the test does.
type fakeSlurm struct {
	mu          sync.Mutex
	nodes       map[slurm.NodeName]*slurm.Node
	jobs        []slurm.Job
	counters    slurm.Counters
	busy        map[slurm.NodeName]time.Time
	controllers []slurm.Controller
	down        error // answered to every question
	deaf        bool  // updates change nothing
	gate        slurm.PartitionState
	asked       map[string]int
	asking      func(what string) // called with every question
	updates     []string
	dropped     int
}

func newFakeSlurm() *fakeSlurm {
	s := &fakeSlurm{nodes: map[slurm.NodeName]*slurm.Node{}, busy: map[slurm.NodeName]time.Time{}, asked: map[string]int{}, gate: slurm.PartitionUp}
	for i := range 4 {
		s.setNode(fmt.Sprintf("htc-%d", i+1), "IDLE+CLOUD+POWERED_DOWN", "")
	}
	s.nodes["local-1"] = &slurm.Node{Name: "local-1", Partitions: []slurm.PartitionName{"local"}, State: slurm.NodeState{Base: "IDLE"}, CPUs: slurm.CPUs{Idle: 8, Total: 8}}
	return s
}

func (s *fakeSlurm) setNode(name, state, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	words := strings.Split(state, "+")
	n := &slurm.Node{Name: slurm.NodeName(name), Partitions: []slurm.PartitionName{"htc"}, State: slurm.NodeState{Base: slurm.NodeBase(words[0])}, Reason: reason, CPUs: slurm.CPUs{Idle: 4, Total: 4}}
	for _, word := range words[1:] {
		n.State.Flags = append(n.State.Flags, slurm.NodeFlag(word))
	}
	s.nodes[n.Name] = n
	s.counters.Started++ // as a change that the cheap look sees
}

func (s *fakeSlurm) change(f func(*fakeSlurm)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
	s.counters.Submitted++
}

func (s *fakeSlurm) ask(what string) (func(), error) {
	s.mu.Lock()
	s.asked[what]++
	if s.asking != nil {
		s.asking(what)
	}
	return s.mu.Unlock, s.down
}

func (s *fakeSlurm) Gate(context.Context) (slurm.Counters, error) {
	done, err := s.ask("gate")
	defer done()
	return s.counters, err
}

func (s *fakeSlurm) Nodes(context.Context) ([]slurm.Node, int, error) {
	done, err := s.ask("nodes")
	defer done()
	var nodes []slurm.Node
	for _, n := range s.nodes {
		nodes = append(nodes, *n)
	}
	slices.SortFunc(nodes, func(a, b slurm.Node) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return nodes, s.dropped, err
}

func (s *fakeSlurm) Jobs(_ context.Context, query slurm.JobQuery) ([]slurm.Job, int, error) {
	done, err := s.ask("jobs")
	defer done()
	var jobs []slurm.Job
	for _, job := range s.jobs {
		if len(query.States) > 0 && !slices.Contains(query.States, job.State) || len(query.Jobs) > 0 && !slices.ContainsFunc(query.Jobs, names(&job)) {
			continue
		}
		if !query.AdminComment {
			job.AdminComment = ""
		}
		jobs = append(jobs, job)
	}
	return jobs, 0, err
}

// names reports whether a reference means the job: itself, or its whole array.
func names(job *slurm.Job) func(slurm.JobRef) bool {
	return func(ref slurm.JobRef) bool {
		return ref == job.Ref() || job.IsTask && ref == slurm.JobRef{Job: job.ArrayID}
	}
}

func (s *fakeSlurm) Partitions(context.Context) ([]slurm.Partition, error) {
	done, err := s.ask("partitions")
	defer done()
	return []slurm.Partition{{Name: "htc", State: s.gate, MaxTime: slurm.Unlimited, MaxNodes: slurm.UnlimitedNodes, SuspendTime: slurm.Unlimited}}, err
}

func (s *fakeSlurm) Config(context.Context) (slurm.Config, error) {
	done, err := s.ask("config")
	defer done()
	config := slurm.Config{ClusterName: cluster, Version: "22.05.8"}
	for _, c := range s.controllers {
		config.ControllerHosts = append(config.ControllerHosts, c.Host)
	}
	return config, err
}

func (s *fakeSlurm) Ping(context.Context) ([]slurm.Controller, error) {
	done, err := s.ask("ping")
	defer done()
	return slices.Clone(s.controllers), err
}

func (s *fakeSlurm) LastBusy(context.Context) (map[slurm.NodeName]time.Time, error) {
	done, err := s.ask("lastbusy")
	defer done()
	return maps.Clone(s.busy), err
}

// effects are what the commands do to flags at once.
var effects = map[slurm.NodeAction]struct{ add, remove slurm.NodeFlag }{
	slurm.PowerUp: {add: slurm.FlagPowerUp}, slurm.PowerDown: {add: slurm.FlagPowerDown}, slurm.PowerDownASAP: {add: slurm.FlagPowerDown},
	slurm.PowerDownForce: {add: slurm.FlagPowerDown}, slurm.Drain: {add: slurm.FlagDrain}, slurm.Idle: {remove: slurm.FlagDrain},
	slurm.Resume: {remove: slurm.FlagPoweringDown},
}

func (s *fakeSlurm) UpdateNodes(_ context.Context, names []slurm.NodeName, action slurm.NodeAction, reason string) (slurm.Outcome, error) {
	done, err := s.ask("update")
	defer done()
	s.updates = append(s.updates, fmt.Sprintf("%s %s %q", action, slurm.FormatHostlist(names), reason))
	if err != nil || s.deaf {
		return slurm.Outcome{ExitCode: 1, Stderr: "slurm_update error: no"}, err
	}
	for _, name := range names {
		n := *s.nodes[name]
		effect := effects[action]
		n.State.Flags = slices.DeleteFunc(slices.Clone(n.State.Flags), func(f slurm.NodeFlag) bool { return f == effect.remove })
		if effect.add != "" {
			n.State.Flags = append(n.State.Flags, effect.add)
		}
		if reason != "" {
			n.Reason = reason
		}
		s.nodes[name] = &n
	}
	return slurm.Outcome{}, nil
}

func (s *fakeSlurm) UpdateJobs(_ context.Context, refs []slurm.JobRef, change slurm.JobUpdate) (slurm.Outcome, error) {
	done, err := s.ask("update")
	defer done()
	for _, ref := range refs {
		s.updates = append(s.updates, fmt.Sprintf("job %s %+v", ref, change))
		for i := range s.jobs {
			if names(&s.jobs[i])(ref) && !s.deaf && err == nil {
				s.applyTo(&s.jobs[i], change)
			}
		}
	}
	if s.deaf {
		return slurm.Outcome{ExitCode: 1, Stderr: "slurm_update error: no"}, err
	}
	return slurm.Outcome{}, err
}

// applyTo changes a job as slurmctld does: it orders partitions itself.
func (s *fakeSlurm) applyTo(job *slurm.Job, change slurm.JobUpdate) {
	if change.AdminComment != "" && !job.State.IsFinished() {
		job.AdminComment = change.AdminComment
	}
	if job.State != slurm.JobPending {
		return
	}
	if len(change.Partitions) > 0 {
		job.Partitions = slices.Sorted(slices.Values(change.Partitions))
	}
	if change.StartNow {
		job.Eligible = time.Now()
	}
}

func (s *fakeSlurm) UpdatePartition(_ context.Context, name slurm.PartitionName, state slurm.PartitionState) (slurm.Outcome, error) {
	done, err := s.ask("update")
	defer done()
	s.updates = append(s.updates, fmt.Sprintf("partition %s %s", name, state))
	if err != nil || s.deaf {
		return slurm.Outcome{ExitCode: 1, Stderr: "slurm_update error: no"}, err
	}
	s.gate = state
	return slurm.Outcome{}, nil
}

func (s *fakeSlurm) SetNodeAddr(_ context.Context, name slurm.NodeName, address string) (slurm.Outcome, error) {
	done, err := s.ask("update")
	defer done()
	s.updates = append(s.updates, fmt.Sprintf("addr %s %s", name, address))
	s.nodes[name].Address = address
	return slurm.Outcome{}, err
}

func (s *fakeSlurm) ExcludeFromSuspend(_ context.Context, names []slurm.NodeName, how slurm.SuspendExclusion) (slurm.Outcome, error) {
	done, err := s.ask("update")
	defer done()
	s.updates = append(s.updates, fmt.Sprintf("exclude%s %s", how, slurm.FormatHostlist(names)))
	return slurm.Outcome{Stderr: "No valid entity in update command"}, err // as 22.05 answers
}

func (s *fakeSlurm) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[what]
}

func (s *fakeSlurm) done() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.updates)
}

// fakeBus is a broker in memory with the one session of the command queue.
type fakeBus struct {
	mu        sync.Mutex
	down      error // answered to every call
	noSend    error // answered to every send
	noSettle  error // answered to every settlement
	noRenew   error // answered to every renewal
	holder    *fakeSession
	state     []byte
	waiting   []bus.Received
	completed []string
	sent      []sent
	accepts   int
	journal   []string
	setState  error
}

type sent struct {
	at    time.Time
	q     event.QueuePressure
	trace any
}

func (b *fakeBus) Send(_ context.Context, queue string, m bus.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := errors.Join(b.down, b.noSend); err != nil {
		return fault.New(fault.Transient, "send", err)
	}
	encoding, _ := m.Properties[event.EncodingProperty].(string)
	q, err := event.DecodeQueuePressure(m.Body, encoding)
	if err != nil || queue != pressureQueue || m.SessionID != cluster {
		return fault.Newf(fault.Bug, "sent to %s, session %s: %v", queue, m.SessionID, err)
	}
	b.sent = append(b.sent, sent{time.Now(), q, m.Properties[event.TraceProperty]})
	b.journal = append(b.journal, "sent")
	return nil
}

func (b *fakeBus) AcceptSession(_ context.Context, queue, name string) (agent.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accepts++
	switch {
	case b.down != nil:
		return nil, b.down
	case queue != commandQueue || name != cluster:
		return nil, fault.Newf(fault.Bug, "accepting session %s of %s", name, queue)
	case b.holder != nil:
		return nil, fault.New(fault.Conflict, "accept session", bus.ErrSessionLocked)
	}
	b.holder = &fakeSession{bus: b}
	return b.holder, nil
}

// seize gives the session to somebody else, as the broker does after a lock ran
// out; the holder is not told. release lets it go again.
func (b *fakeBus) seize() (release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	other := &fakeSession{bus: b}
	b.holder = other
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.holder == other {
			b.holder = nil
		}
	}
}

func (b *fakeBus) set(f func(*fakeBus)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

func (b *fakeBus) all() []sent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sent)
}

// last gives the newest snapshot.
func (b *fakeBus) last(t *testing.T) event.QueuePressure {
	t.Helper()
	all := b.all()
	if len(all) == 0 {
		t.Fatal("no snapshot was sent")
	}
	return all[len(all)-1].q
}

// put gives the agent a command, as the cloud encodes it.
func (b *fakeBus) put(t *testing.T, c event.SlurmCommand) {
	t.Helper()
	c.Cluster, c.Attempt, c.ExpiresAt = cluster, max(c.Attempt, 1), time.Now().Add(time.Minute)
	m, err := c.Encode(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b.putMessage(bus.Received{ID: m.ID, Body: m.Body, Properties: map[string]any{event.EncodingProperty: m.Encoding}})
}

func (b *fakeBus) putBody(id string, body []byte) { b.putMessage(bus.Received{ID: id, Body: body}) }

func (b *fakeBus) putMessage(m bus.Received) {
	m.DeliveryCount = 1
	b.set(func(b *fakeBus) { b.waiting = append(b.waiting, m) })
}

type fakeSession struct {
	bus    *fakeBus
	given  []bus.Received
	closed bool
}

func (s *fakeSession) enter() (func(), error) {
	s.bus.mu.Lock()
	switch {
	case s.bus.down != nil:
		return s.bus.mu.Unlock, s.bus.down
	case s.bus.holder != s || s.closed:
		return s.bus.mu.Unlock, fault.Newf(fault.Conflict, "the lock is lost")
	}
	return s.bus.mu.Unlock, nil
}

func (s *fakeSession) State(context.Context) ([]byte, error) {
	done, err := s.enter()
	defer done()
	return s.bus.state, err
}

func (s *fakeSession) SetState(_ context.Context, state []byte) error {
	done, err := s.enter()
	defer done()
	if err = errors.Join(err, s.bus.setState); err != nil {
		return fault.New(fault.Of(err), "set state", err)
	}
	s.bus.state = bytes.Clone(state)
	s.bus.journal = append(s.bus.journal, "stored")
	return nil
}

func (s *fakeSession) RenewLock(context.Context) error {
	done, err := s.enter()
	defer done()
	return errors.Join(err, s.bus.noRenew)
}

func (s *fakeSession) Receive(ctx context.Context, limit int) ([]bus.Received, error) {
	for {
		done, err := s.enter()
		if err != nil || len(s.bus.waiting) > 0 {
			n := min(limit, len(s.bus.waiting))
			if err != nil {
				n = 0
			}
			messages := slices.Clone(s.bus.waiting[:n])
			s.bus.waiting = slices.Clone(s.bus.waiting[n:])
			s.given = append(s.given, messages...)
			done()
			return messages, err
		}
		done()
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *fakeSession) Complete(_ context.Context, m bus.Received) error {
	done, err := s.enter()
	defer done()
	if err = errors.Join(err, s.bus.noSettle); err != nil {
		return err
	}
	s.given = slices.DeleteFunc(s.given, func(g bus.Received) bool { return g.ID == m.ID })
	s.bus.completed = append(s.bus.completed, m.ID)
	s.bus.journal = append(s.bus.journal, "completed "+m.ID)
	return nil
}

// Close gives the session back; what was not settled is delivered again.
func (s *fakeSession) Close(context.Context) error {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	s.closed = true
	if s.bus.holder == s {
		s.bus.holder = nil
	}
	s.bus.waiting = append(s.given, s.bus.waiting...)
	s.given = nil
	return nil
}

// world is an agent among fakes.
type world struct {
	t     *testing.T
	slurm *fakeSlurm
	bus   *fakeBus
	spool string
	log   *logText
	pokes chan struct{}
	calls int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, slurm: newFakeSlurm(), bus: &fakeBus{}, spool: t.TempDir(), log: &logText{}, pokes: make(chan struct{}, 1)}
}

const (
	poll      = 5 * time.Second
	heartbeat = 30 * time.Second
)

func (w *world) options() agent.Options {
	return agent.Options{
		Cluster: cluster, Nodearrays: []agent.Nodearray{{Name: "htc", Partition: "htc", Nodes: []slurm.NodeName{"htc-1", "htc-2", "htc-3", "htc-4"}}},
		Slurm: w.slurm, Bus: w.bus, Spool: w.spool, Pokes: w.pokes, PressureQueue: pressureQueue, CommandQueue: commandQueue,
		Host: "head1", Version: "test", Poll: poll, Heartbeat: heartbeat, Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	}
}

// hook is a call of burst-hook.
func (w *world) hook(kind spool.Kind, hostlist string) string {
	w.t.Helper()
	w.calls++
	name, err := spool.Write(w.spool, spool.Record{Kind: kind, Time: time.Now().Add(time.Duration(w.calls)), Hostlist: hostlist, Traceparent: "00-trace-" + hostlist})
	if err != nil {
		w.t.Fatal(err)
	}
	select {
	case w.pokes <- struct{}{}:
	default:
	}
	return strings.TrimSuffix(name, ".call")
}

func (w *world) spooled() int {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.spool, "*.call"))
	if err != nil {
		w.t.Fatal(err)
	}
	return len(files)
}

func (w *world) corrupt(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.spool, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// logText is a log that can be read while it is written.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// of reads something of the broker while it works.
func of[T any](b *fakeBus, f func(*fakeBus) T) T {
	b.mu.Lock()
	defer b.mu.Unlock()
	return f(b)
}

func accepts(b *fakeBus) int        { return b.accepts }
func stored(b *fakeBus) []byte      { return bytes.Clone(b.state) }
func completed(b *fakeBus) []string { return slices.Clone(b.completed) }
func journal(b *fakeBus) []string   { return slices.Clone(b.journal) }
func isHeld(b *fakeBus) bool        { return b.holder != nil }
