//go:build crashpoints

package agent_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/internal/spool"
)

// order is a command of the script, with what the cloud expects of its target.
type order struct {
	after   time.Duration
	command event.SlurmCommand
	// once, where given, is what must have happened before.
	once func(*crashWorld) bool
}

const generation = 10

// orders use a node each, so that every change of Slurm belongs to one of them.
var orders = []order{
	{2 * time.Second, event.SlurmCommand{ID: "fence", Kind: event.FenceNodes, Nodes: "htc-[1-2]", Expect: event.Expect{
		States: []string{"IDLE"}, Flags: []string{"POWERED_DOWN"}, NotFlags: []string{"DRAIN", "POWER_UP", "POWERING_UP", "POWERING_DOWN"},
	}}, nil},
	{2 * time.Second, event.SlurmCommand{ID: "older", Kind: event.UnfenceNodes, Generation: generation - 1, Nodes: "htc-1", Expect: event.Expect{
		States: []string{"IDLE"}, Flags: []string{"POWERED_DOWN", "DRAIN"}, Reason: event.FenceReason,
	}}, nil},
	{2 * time.Second, event.SlurmCommand{ID: "unfence", Kind: event.UnfenceNodes, Nodes: "htc-3", Expect: event.Expect{
		States: []string{"IDLE"}, Flags: []string{"POWERED_DOWN", "DRAIN"}, Reason: event.FenceReason,
	}}, nil},
	{2 * time.Second, event.SlurmCommand{ID: "up", Kind: event.PowerUp, Nodes: "htc-4"}, nil},
	{8 * time.Second, event.SlurmCommand{ID: "asap", Kind: event.PowerDownASAP, Nodes: "htc-5", Expect: event.Expect{
		States: []string{"IDLE", "DOWN"}, NotFlags: []string{"COMPLETING", "POWERED_DOWN", "POWERING_DOWN", "POWERING_UP", "POWER_UP", "POWER_DOWN"},
	}}, nil},
	{8 * time.Second, event.SlurmCommand{ID: "addr", Kind: event.SetNodeAddr, Nodes: "htc-9", Value: "10.0.0.9"}, nil},
	{8 * time.Second, event.SlurmCommand{ID: "exclude", Kind: event.ExcludeFromSuspend, Nodes: "htc-9", Value: event.ExcludeKeep}, nil},
	{8 * time.Second, event.SlurmCommand{
		ID: "release", Kind: event.ReleaseJobs, Jobs: event.JobIDs{"8"}, Partitions: []string{"htc", "local"}, Expect: event.Expect{Pending: true},
	}, nil},
	{8 * time.Second, event.SlurmCommand{
		ID: "older revoke", Kind: event.RevokeJobs, Generation: generation - 1, Jobs: event.JobIDs{"8"}, Partitions: []string{"local"}, Expect: event.Expect{Pending: true},
	}, nil},
	{8 * time.Second, event.SlurmCommand{ID: "revoke", Kind: event.RevokeJobs, Jobs: event.JobIDs{"9"}, Partitions: []string{"local"}, Expect: event.Expect{Pending: true}}, nil},
	{8 * time.Second, event.SlurmCommand{ID: "notice", Kind: event.NoticeJobs, Jobs: event.JobIDs{"9"}, Value: "held: quota"}, nil},
	{8 * time.Second, event.SlurmCommand{ID: "gate", Kind: event.GatePartition, Partition: "htc", Value: "DOWN"}, nil},
	{14 * time.Second, event.SlurmCommand{ID: "abort", Kind: event.AbortBoot, Nodes: "htc-6", Expect: event.Expect{
		Flags: []string{"POWERING_UP", "NOT_RESPONDING"}, RequeueableBatchOnly: true,
	}}, nil},
	{14 * time.Second, event.SlurmCommand{ID: "begin", Kind: event.BeginNow, Jobs: event.JobIDs{"7"}, Expect: event.Expect{Pending: true}}, nil},
	{20 * time.Second, event.SlurmCommand{ID: "done", Kind: event.PowerDownDone, Nodes: "htc-7", Expect: event.Expect{Flags: []string{"POWERING_DOWN"}}}, nil},
	{20 * time.Second, event.SlurmCommand{ID: "repair", Kind: event.PowerDown, Nodes: "htc-8", Expect: event.Expect{
		States: []string{"IDLE", "DOWN"}, Flags: []string{"POWERED_DOWN"}, NotFlags: []string{"POWER_UP", "POWERING_UP"},
	}}, nil},
	// Sent again after the cloud has seen the result, and the node went down again.
	{20 * time.Second, event.SlurmCommand{ID: "up", Kind: event.PowerUp, Nodes: "htc-4", Attempt: 2, Known: []string{"up"}}, func(w *crashWorld) bool {
		return w.play.results["up"] != "" && nodeState(w.slurm, "htc-4") == off
	}},
}

const off = "IDLE+CLOUD+POWERED_DOWN"

// changes are what the orders make of Slurm, each once.
var changes = map[string]int{
	"DRAIN htc-1": 1, "DRAIN htc-2": 1, "IDLE htc-3": 1, "POWER_UP htc-4": 1, "POWER_DOWN_ASAP htc-5": 1, "ADDR htc-9": 1, "EXCLUDE htc-9": 1,
	"MOVE job-8": 1, "MOVE job-9": 1, "NOTICE job-9": 1, "GATE htc": 1, "POWER_DOWN_FORCE htc-6": 1, "START job-7": 1, "RESUME htc-7": 1, "POWER_DOWN htc-8": 1,
}

// play is what goes on around the agents: a cloud that sends commands and reads
// results, and a Slurm that follows its commands and calls the hooks.
type play struct {
	began   time.Time
	sent    map[int]bool // of orders
	read    int          // snapshots
	results map[string]event.ResultState
	left    time.Time // when the aborted job began to leave its node
	was     map[slurm.NodeName]string
	broke   bool // the line, for a moment
	stopped bool // the agent, as systemd does
}

func (w *crashWorld) begin() {
	w.play = play{began: time.Now(), sent: map[int]bool{}, results: map[string]event.ResultState{}, was: map[slurm.NodeName]string{}}
	w.slurm.setNode("htc-3", off+"+DRAIN", event.FenceReason)
	w.slurm.setNode("htc-5", "IDLE+CLOUD", "")
	w.slurm.setNode("htc-6", "ALLOCATED+CLOUD+POWERING_UP+NOT_RESPONDING", "")
	w.slurm.setNode("htc-7", "IDLE+CLOUD+POWERING_DOWN", "")
	w.slurm.setNode("htc-8", "DOWN+CLOUD+POWERED_DOWN", "ResumeTimeout reached")
	w.slurm.setNode("htc-9", "IDLE+CLOUD", "")
	w.slurm.change(func(s *fakeSlurm) {
		s.jobs = []slurm.Job{
			{ID: 7, State: slurm.JobConfiguring, IsBatch: true, Requeue: true, Nodes: []slurm.NodeName{"htc-6"}},
			{ID: 8, State: slurm.JobPending, Partitions: []slurm.PartitionName{"local"}},
			{ID: 9, State: slurm.JobPending, Partitions: []slurm.PartitionName{"htc", "local"}},
		}
	})
	w.hook(event.CauseResume, "htc-6")
	w.hook(event.CauseSuspend, "htc-7")
	w.hook(event.CauseResumeFail, "htc-8")
}

// tick is one second of it.
func (w *crashWorld) tick() {
	p, passed := &w.play, time.Since(w.play.began)
	for _, q := range w.broker.since(p.read) {
		p.read++
		for _, r := range q.CommandResults {
			p.results[r.ID] = r.State
		}
	}
	for i, o := range orders {
		if !p.sent[i] && passed >= o.after && (o.once == nil || o.once(w)) {
			p.sent[i] = true
			w.send(o.command)
		}
	}
	w.follow()
	if passed > 26*time.Second && !p.broke {
		p.broke = true
		w.first().cut(300 * time.Millisecond)
		w.broker.disconnect(w.first())
	}
	if passed > 34*time.Second && !p.stopped {
		p.stopped = true
		w.broker.put("garbage", []byte("\x00\xff"))
		w.first().cancel()
	}
}

func (w *crashWorld) first() *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.living[firstHost]
}

func (w *crashWorld) send(c event.SlurmCommand) {
	if c.Generation == 0 {
		c.Generation = generation
	}
	c.Cluster, c.Attempt, c.ExpiresAt = cluster, max(c.Attempt, 1), time.Now().Add(time.Minute)
	m, err := c.Encode(time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	w.broker.put(m.ID, m.Body)
}

// follow is what Slurm does by itself.
func (w *crashWorld) follow() {
	for _, name := range []slurm.NodeName{"htc-4", "htc-5", "htc-6", "htc-8"} {
		state := nodeState(w.slurm, name)
		switch {
		case name == "htc-4" && w.play.results["up"] != "" && state != off:
			w.slurm.setNode("htc-4", off, "")
		case strings.Contains(state, "POWER_UP"):
			w.slurm.setNode(string(name), "IDLE+CLOUD+POWERING_UP+NOT_RESPONDING", "")
			w.hook(event.CauseResume, string(name))
		case strings.Contains(state, "POWER_DOWN"):
			w.slurm.setNode(string(name), "IDLE+CLOUD+POWERING_DOWN", "")
			w.hook(event.CauseSuspend, string(name))
		}
	}
	w.slurm.change(func(s *fakeSlurm) {
		s.counters.Submitted-- // unless something happens, nothing does
		job := &s.jobs[0]
		switch {
		case job.State == slurm.JobCompleting && w.play.left.IsZero():
			w.play.left = time.Now()
		case job.State == slurm.JobCompleting && time.Since(w.play.left) > 3*time.Second:
			job.State, job.Nodes, job.Eligible = slurm.JobPending, nil, time.Now().Add(121*time.Second)
			s.counters.Submitted++
		}
	})
}

// finished reports whether nothing more is to come.
func (w *crashWorld) finished() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &w.play
	return w.healed && p.stopped && len(p.sent) == len(orders) && len(p.results) == len(orders)-1 && w.broker.waiting() == 0 && w.spooled() == 0
}

func (w *crashWorld) spooled() int {
	listing, err := spool.List(w.spool, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(listing.Entries)
}

// limit is how long all of it may take, whatever befalls an agent.
const limit = 20 * time.Minute

// perform plays it with agents on the hosts, and gives what is wrong after it.
func (w *crashWorld) perform(hosts ...string) []string {
	w.begin()
	end := w.start(hosts...)
	for time.Since(w.play.began) < limit && !w.finished() {
		time.Sleep(time.Second)
		w.tick()
	}
	time.Sleep(heartbeat + 10*time.Second)
	w.tick()
	w.judge()
	end()
	return w.broken
}

// start starts the agents of the hosts, one after the other; end ends them.
func (w *crashWorld) start(hosts ...string) (end func()) {
	var running sync.WaitGroup
	for _, host := range hosts {
		running.Go(func() { w.supervise(host) })
		time.Sleep(733 * time.Millisecond) // the first takes charge
	}
	return func() {
		w.mu.Lock()
		w.over = true
		for _, p := range w.living {
			p.cancel()
		}
		w.mu.Unlock()
		running.Wait()
	}
}

// judge says what is missing at the end.
func (w *crashWorld) judge() {
	for _, call := range w.calls {
		if !call.told {
			w.breaks("nobody was told of the %s call for %s", call.kind, call.node)
		}
	}
	want := map[string]event.ResultState{}
	for _, o := range orders {
		want[o.command.ID] = event.ResultOK
	}
	want["older"], want["older revoke"] = event.ResultSuperseded, event.ResultSuperseded
	for id, state := range w.play.results {
		// Whoever comes after a crash finds the command carried out already.
		if w.strike.hit > 0 && state == event.ResultStale && !strings.HasPrefix(id, "older") {
			w.play.results[id] = event.ResultOK
		}
	}
	if diff := cmp.Diff(want, w.play.results); diff != "" {
		w.breaks("results (-want +got):\n%s", diff)
	}
	w.mu.Lock()
	acted := maps.Clone(w.acted)
	w.mu.Unlock()
	w.slurm.change(func(s *fakeSlurm) {
		if acted["START job-7"] == 0 && !s.jobs[0].Eligible.After(time.Now()) {
			acted["START job-7"] = 1 // nothing was left to do: the two minutes are over
		}
	})
	if diff := cmp.Diff(changes, acted); diff != "" {
		w.breaks("changes of Slurm (-want +got):\n%s", diff)
	}
	if w.spooled() > 0 || w.broker.waiting() > 0 {
		w.breaks("%d files are in the spool, %d commands in the queue", w.spooled(), w.broker.waiting())
	}
	if corrupt, err := os.ReadDir(w.spool + "/corrupt"); err == nil {
		w.breaks("%d spool files are corrupt", len(corrupt))
	}
	if w.play.read == 0 {
		w.breaks("no snapshot came")
		return
	}
	last := w.broker.since(w.play.read - 1)[0]
	for _, node := range []string{"htc-1", "htc-2"} {
		if state, _ := stateOf(last, node); state != "IDLE+DRAIN+POWERED_DOWN" {
			w.breaks("the last snapshot says that %s is %s", node, state)
		}
	}
	slices.Sort(w.broken)
}
