package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/functionshost"
	"github.com/slurmburst/slurmburst/local/slurmlab"
	"github.com/slurmburst/slurmburst/local/world"
)

// timeline prints what happens, as it happens. It watches Slurm's log, its
// node table, the simulator's journal and the calls of the functions.
type timeline struct {
	out   io.Writer
	mu    sync.Mutex
	began time.Time
	calls []functionshost.Invocation
	stop  context.CancelFunc
	done  chan struct{}

	journal, resumes, suspends, starts int
	states                             map[string]string
	asked                              time.Time
	hushed                             bool
	decided                            map[string]bool
}

func newTimeline(out io.Writer) *timeline {
	return &timeline{out: out, states: map[string]string{}, decided: map[string]bool{}, done: make(chan struct{})}
}

// invocation notes a finished call of a function.
func (t *timeline) invocation(i functionshost.Invocation) {
	t.mu.Lock()
	t.calls = append(t.calls, i)
	began := t.began
	t.mu.Unlock()
	if began.IsZero() || i.Start.Before(began) {
		return
	}
	switch i.Function {
	case "queue_pressure":
		t.say("snapshot", "event", fmt.Sprintf("%s handled in %s", i.MessageID, i.Duration.Round(time.Millisecond)))
	case "scale_down":
		if purpose := purposeOf(i.MessageID); purpose != "recheck" {
			t.say("timer", "fired", purpose)
		}
	}
	if i.Err != nil {
		t.say(i.Function, "FAILED", i.Err.Error())
	}
}

// purposeOf reads cluster/purpose/target/generation.
func purposeOf(messageID string) string {
	parts := strings.Split(messageID, "/")
	if len(parts) < 2 {
		return ""
	}
	return parts[1]
}

// invocations gives the calls so far.
func (t *timeline) invocations() []functionshost.Invocation {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]functionshost.Invocation(nil), t.calls...)
}

// say prints one line.
func (t *timeline) say(who, what, detail string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hushed {
		return
	}
	if t.began.IsZero() {
		t.began = time.Now()
	}
	fmt.Fprintf(t.out, "  %6.1fs  %-22s %-16s %s\n", time.Since(t.began).Seconds(), who, what, detail)
}

// start begins to watch.
func (t *timeline) start(w *world.World) {
	t.mu.Lock()
	t.began = time.Now()
	t.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	t.journal = len(w.Sim.Journal())
	go func() {
		defer close(t.done)
		for {
			// A look goes on to its end: a question to the state API that is broken
			// off is a call that failed.
			look, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			t.watch(look, w)
			done()
			if sleep(ctx, 250*time.Millisecond) != nil {
				return
			}
		}
	}()
}

// finish stops watching.
func (t *timeline) finish() {
	t.stop()
	<-t.done
}

// hush ends the printing: what comes now belongs to the clean-up.
func (t *timeline) hush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hushed = true
}

func (t *timeline) watch(ctx context.Context, w *world.World) {
	if log, err := controllerLog(w); err == nil {
		for _, call := range log.Resumes[min(t.resumes, len(log.Resumes)):] {
			t.say("slurmctld", "ResumeProgram", call.Hostlist)
		}
		for _, call := range log.Suspends[min(t.suspends, len(log.Suspends)):] {
			t.say("slurmctld", "SuspendProgram", call.Hostlist)
		}
		for _, start := range log.Started[min(t.starts, len(log.Started)):] {
			t.say("job "+start.JobID, "allocated", start.Nodes)
		}
		t.resumes, t.suspends, t.starts = len(log.Resumes), len(log.Suspends), len(log.Started)
	}
	t.watchDecisions(ctx, w)
	entries := w.Sim.Journal()
	var nodes together
	for _, e := range entries[t.journal:] {
		nodes.entry(e)
	}
	t.journal = len(entries)
	t.sayAll(nodes)
	t.watchJobs(ctx, w)
	t.watchComments(ctx, w)
	t.watchNodes(ctx, w)
}

// together collects what happened to several nodes at once.
type together struct {
	order []happening
	names map[happening][]string
}

type happening struct{ what, detail string }

func (g *together) add(name, what, detail string) {
	if g.names == nil {
		g.names = map[happening][]string{}
	}
	h := happening{what, detail}
	if _, seen := g.names[h]; !seen {
		g.order = append(g.order, h)
	}
	g.names[h] = append(g.names[h], name)
}

func (g *together) entry(e cyclecloudsim.Entry) {
	switch e.Event {
	case cyclecloudsim.Created:
		g.add(e.Name, "created", "in CycleCloud, nodearray "+e.NodeArray)
	case cyclecloudsim.SoftwareOn:
		g.add(e.Name, "booted", "the VM runs slurmd")
	case cyclecloudsim.Terminated:
		g.add(e.Name, "terminated", "CycleCloud has no such node any more")
	case cyclecloudsim.Failed, cyclecloudsim.Vanished, cyclecloudsim.Refused, cyclecloudsim.CapacityFailed:
		g.add(e.Name, string(e.Event), e.Detail)
	}
}

func (t *timeline) sayAll(g together) {
	for _, h := range g.order {
		t.say(fold(g.names[h]), h.what, h.detail)
	}
}

// fold writes node names as Slurm does: htc-[1-2,4],hpc-1. Job ids, which are
// numbers alone, get no brackets.
func fold(names []string) string {
	numbers := map[string][]int{}
	var prefixes []string
	for _, name := range names {
		at := strings.LastIndex(name, "-") + 1
		n, err := strconv.Atoi(name[at:])
		if err != nil {
			return strings.Join(names, ",")
		}
		if _, seen := numbers[name[:at]]; !seen {
			prefixes = append(prefixes, name[:at])
		}
		numbers[name[:at]] = append(numbers[name[:at]], n)
	}
	var parts []string
	for _, prefix := range prefixes {
		folded := foldNumbers(numbers[prefix])
		if prefix == "" {
			folded = strings.Trim(folded, "[]")
		}
		parts = append(parts, prefix+folded)
	}
	return strings.Join(parts, ",")
}

func foldNumbers(numbers []int) string {
	slices.Sort(numbers)
	if len(numbers) == 1 {
		return strconv.Itoa(numbers[0])
	}
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		part := strconv.Itoa(numbers[i])
		if j > i {
			part += "-" + strconv.Itoa(numbers[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// watchDecisions prints what was decided since the last look, oldest first, as
// the state API tells it.
func (t *timeline) watchDecisions(ctx context.Context, w *world.World) {
	if time.Since(t.asked) < 300*time.Millisecond {
		return
	}
	t.asked = time.Now()
	page, err := askState(ctx, w, "decisions", "20", "")
	if err != nil {
		return
	}
	for _, raw := range slices.Backward(page.Items) {
		var d struct {
			ID, Actions string
			At          time.Time
		}
		if json.Unmarshal(raw, &d) != nil || t.decided[d.ID] {
			continue
		}
		t.decided[d.ID] = true
		var actions []struct {
			Kind, Code string
			Targets    []string
		}
		if d.At.Before(t.began) || json.Unmarshal([]byte(d.Actions), &actions) != nil {
			continue
		}
		for _, a := range actions {
			t.say("decision", a.Kind, fold(a.Targets)+" because "+a.Code)
		}
	}
}

func (t *timeline) watchJobs(ctx context.Context, w *world.World) {
	text, err := w.Lab.Squeue(ctx, "--noheader", "--array", "--states=RUNNING,COMPLETED,FAILED,NODE_FAIL,CANCELLED,TIMEOUT", "--format=%i %T %N")
	if err != nil {
		return
	}
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || t.states[fields[0]] == fields[1] {
			continue
		}
		t.states[fields[0]] = fields[1]
		t.say("job "+fields[0], strings.ToLower(fields[1]), strings.Join(fields[2:], " "))
	}
}

// watchComments prints what the owners of jobs are told, as they would read it.
func (t *timeline) watchComments(ctx context.Context, w *world.World) {
	comments, err := adminComments(ctx, w)
	if err != nil {
		return
	}
	for _, c := range comments {
		if key := "comment " + c.job; t.states[key] != c.text {
			t.states[key] = c.text
			t.say("job "+c.job, "is told", c.text)
		}
	}
}

func (t *timeline) watchNodes(ctx context.Context, w *world.World) {
	text, err := w.Lab.Sinfo(ctx, "--noheader", "--Node", "--partition="+cloudPartitions(w), "--Format=NodeList:30,StateComplete:100")
	if err != nil {
		return
	}
	var nodes together
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		state := phase(fields[1])
		before := t.states[fields[0]]
		t.states[fields[0]] = state
		if before == "" || state == "" || before == state {
			continue
		}
		nodes.add(fields[0], state, "in Slurm")
	}
	t.sayAll(nodes)
}

// phase is what a node's StateComplete means for the timeline.
func phase(state string) string {
	has := func(flag string) bool { return strings.Contains(state, flag) }
	switch {
	case has("powering_down"):
		return "powering down"
	case has("powered_down"):
		return "off"
	case has("powering_up"):
		return "powering up"
	case has("power_down"), has("drain"):
		return "drained"
	case has("idle"):
		return "idle"
	case has("allocated"), has("mixed"):
		return "joined"
	}
	return ""
}

// controllerLog reads slurmctld's own log.
func controllerLog(w *world.World) (slurmlab.ControllerLog, error) {
	f, err := os.Open(w.Lab.LogPath())
	if err != nil {
		return slurmlab.ControllerLog{}, err
	}
	defer f.Close()
	return slurmlab.ParseControllerLog(f)
}
