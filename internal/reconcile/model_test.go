package reconcile_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/reconcile"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// model is a whole small world with a clock of its own: a Slurm that allocates
// jobs to nodes and obeys commands, VMs that boot and register, a broker that
// delivers. It knows nothing of how the reconciler works, and complains when a
// running job loses its VM or a limit is broken.
type model struct {
	*site
	// deliver hands one message to the app; an error means it was not handled.
	pressureTo func(context.Context, event.QueuePressure) error
	timerTo    func(context.Context, event.ScaleDownTimer) error
	// follow, where set, brings born, left and the cloud's nodes up to what
	// another CycleCloud says; else the model plays it itself.
	follow func()

	states  map[string]string // off, fenced, resuming, busy, idle, going
	resumed map[string]time.Time
	born    map[string]time.Time // VMs
	left    map[string]time.Time // VMs that are on their way out
	jobs    map[string]time.Time // node to the end of its job; zero before it runs
	waiting int
	done    int
	resume  int
	obeyed  int
	fired   int
	highest map[string]int64
	broken  []string
}

const (
	bootTime = 20 * time.Second
	goneTime = 15 * time.Second
	jobTime  = 40 * time.Second
	tickTime = 10 * time.Second
)

func newModel(t *testing.T, jobs int) *model {
	t.Helper()
	m := &model{
		site: newSite(t), states: map[string]string{}, resumed: map[string]time.Time{}, born: map[string]time.Time{},
		left: map[string]time.Time{}, jobs: map[string]time.Time{}, waiting: jobs, highest: map[string]int64{},
	}
	for _, name := range m.policy.Nodearrays[0].Nodes {
		m.states[string(name)] = "off"
	}
	m.cloud.onCreate = func(name string) {
		m.born[name] = m.now
		delete(m.left, name)
		if len(m.born) > m.policy.Nodearrays[0].MaxNodes {
			m.breaks("%d VMs where %d may be", len(m.born), m.policy.Nodearrays[0].MaxNodes)
		}
	}
	m.cloud.onTerminate = func(name string) {
		if _, going := m.left[name]; !going {
			m.left[name] = m.now
		}
		if s := m.states[name]; s == "busy" || s == "idle" {
			m.breaks("the VM of %s is terminated while Slurm says %s", name, s)
		}
	}
	m.pressureTo = func(ctx context.Context, q event.QueuePressure) error {
		_, err := m.rec.Pressure(ctx, q, m.now)
		return err
	}
	m.timerTo = func(ctx context.Context, timer event.ScaleDownTimer) error {
		_, err := m.rec.Timer(ctx, timer)
		return err
	}
	return m
}

func (m *model) breaks(format string, args ...any) {
	m.broken = append(m.broken, fmt.Sprintf(format, args...))
}

// set puts a node into a state, in Slurm's words for the snapshot.
func (m *model) set(node, state string) {
	m.states[node] = state
	switch state {
	case "off":
		m.in(node, "IDLE", "POWERED_DOWN")
	case "fenced":
		m.in(node, "IDLE", "DRAIN", "POWERED_DOWN")
	case "resuming":
		m.resume++
		m.resumed[node] = m.now
		m.site.resume(node, fmt.Sprintf("r%d", m.resume), event.BootJob{ID: event.JobID(fmt.Sprint(m.resume)), Batch: true, Requeue: true})
	case "busy":
		m.in(node, "ALLOCATED")
	case "idle":
		m.in(node, "IDLE")
	case "going":
		m.in(node, "IDLE", "POWERING_DOWN")
	}
}

func (m *model) names() []string { return slices.Sorted(maps.Keys(m.states)) }

// tick lets ten seconds pass.
func (m *model) tick(ctx context.Context) {
	m.after(tickTime)
	m.obey()
	m.machines()
	for _, node := range m.names() {
		switch {
		case m.states[node] == "off" && m.waiting > 0:
			m.waiting--
			m.set(node, "resuming")
		case m.states[node] == "idle" && m.waiting > 0:
			m.waiting--
			m.jobs[node] = m.now.Add(jobTime)
			m.set(node, "busy")
		}
	}
	_ = m.pressureTo(ctx, m.pressure()) // the next snapshot is the retry
	for m.fired < len(m.outbox.timers) {
		timer := m.outbox.timers[m.fired]
		if timer.Due.After(m.now) {
			// The broker sorts by time; the model keeps the order of sending.
			later := slices.IndexFunc(m.outbox.timers[m.fired:], func(t event.ScaleDownTimer) bool { return !t.Due.After(m.now) })
			if later < 0 {
				return
			}
			timer = m.outbox.timers[m.fired+later]
			m.outbox.timers = slices.Delete(m.outbox.timers, m.fired+later, m.fired+later+1)
			m.outbox.timers = slices.Insert(m.outbox.timers, m.fired, timer)
		}
		if m.timerTo(ctx, timer) != nil {
			return // delivered again at the next tick
		}
		m.fired++
	}
}

// machines moves the VMs and the jobs on them.
func (m *model) machines() {
	if m.follow != nil {
		m.follow()
	}
	for _, name := range slices.Sorted(maps.Keys(m.born)) {
		if at, going := m.left[name]; going && m.follow == nil && m.now.Sub(at) >= goneTime {
			delete(m.cloud.nodes, name)
			delete(m.born, name)
			delete(m.left, name)
			continue
		}
		n := m.cloud.nodes[name]
		if m.follow == nil && m.now.Sub(m.born[name]) >= bootTime && n.Status == cyclecloud.StatusPreparing {
			n.Status, n.StatusText = cyclecloud.StatusReady, "Ready"
			m.cloud.nodes[name] = n
		}
		if n.Status == cyclecloud.StatusReady && m.states[name] == "resuming" && !m.born[name].Before(m.resumed[name]) {
			m.jobs[name] = m.now.Add(jobTime)
			m.set(name, "busy")
		}
	}
	for _, name := range m.names() {
		if m.states[name] == "busy" && !m.now.Before(m.jobs[name]) {
			m.done++
			m.set(name, "idle")
		}
	}
}

// obey carries out the commands as the agent would.
func (m *model) obey() {
	for ; m.obeyed < len(m.outbox.commands); m.obeyed++ {
		c := m.outbox.commands[m.obeyed]
		result := event.CommandResult{ID: c.ID, Generation: c.Generation, State: event.ResultOK}
		names, err := slurm.ParseHostlist(c.Nodes)
		if err != nil && c.Nodes != "" {
			m.breaks("command %s: %v", c.ID, err)
		}
		if m.now.After(c.ExpiresAt) {
			continue // the broker dropped it
		}
		for _, name := range names {
			if c.Generation < m.highest[string(name)] {
				result.State = event.ResultSuperseded
				continue
			}
			m.highest[string(name)] = c.Generation
			if !m.carryOut(c.Kind, string(name)) {
				result.State = event.ResultStale
			}
		}
		m.results = append(m.results, result)
	}
}

// carryOut is one command on one node; false where its state has moved on.
func (m *model) carryOut(kind event.CommandKind, node string) bool {
	moves := map[event.CommandKind][2]string{
		event.FenceNodes: {"off", "fenced"}, event.UnfenceNodes: {"fenced", "off"}, event.PowerDownASAP: {"idle", "going"},
		event.AbortBoot: {"resuming", "going"}, event.PowerDownDone: {"going", "off"}, event.PowerDown: {"off", "going"},
	}
	move, known := moves[kind]
	if !known || m.states[node] != move[0] {
		return false
	}
	if kind == event.PowerDownDone && m.born[node] != (time.Time{}) {
		m.breaks("%s is declared gone while its VM exists", node)
	}
	if kind == event.AbortBoot {
		m.waiting++
	}
	m.set(node, move[1])
	return true
}

// finish runs the model until all is quiet, at most an hour of its time.
func (m *model) finish(ctx context.Context, jobs int) {
	m.t.Helper()
	for range 360 {
		m.tick(ctx)
		if m.done == jobs && len(m.born) == 0 && m.quiet() {
			break
		}
	}
	var wrong []string
	if m.done != jobs {
		wrong = append(wrong, fmt.Sprintf("%d of %d jobs are done", m.done, jobs))
	}
	if len(m.born) > 0 || len(m.cloud.nodes) > 0 {
		wrong = append(wrong, fmt.Sprintf("VMs are left: %v", m.born))
	}
	if open := m.intents(); len(open) > 0 {
		wrong = append(wrong, fmt.Sprintf("intents are left: %+v", open))
	}
	if wrong = append(wrong, m.broken...); len(wrong) > 0 {
		m.t.Errorf("%q\nstates %v, commands %v", wrong, m.states, m.kinds())
	}
}

func (m *model) quiet() bool {
	for _, s := range m.states {
		if s != "off" && s != "fenced" {
			return false
		}
	}
	return len(m.intents()) == 0
}

func TestTheModelComesBackToZero(t *testing.T) {
	m := newModel(t, 5)
	m.finish(t.Context(), 5)
	if m.cloud.ids < 3 || m.cloud.ids > 5 {
		t.Errorf("%d VMs were made for 5 jobs on at most 3 nodes", m.cloud.ids)
	}
}

var _ reconcile.CycleCloud = (*fakeCloud)(nil)
