package burst

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// world is Slurm and CycleCloud in virtual time, as they were measured to
// behave, with everything that may go wrong drawn from a seed.
type world struct {
	*rand.Rand
	now   time.Time
	calm  time.Time // from here on nothing goes wrong any more
	array Nodearray

	nodes map[NodeName]*modelNode
	jobs  []*modelJob
	vms   map[NodeName]*modelVM
	made  int // VMs ever made
	done  int // jobs that completed
	lost  int // jobs that Slurm ended: ResumeTimeout, or a VM that was evicted
	turns int // how often anything changed in Slurm
	// down is until when CycleCloud does not answer, short until when it
	// offers nothing.
	down, short time.Time
	broken      error // the first promise that was broken
}

const (
	modelTick           = 2 * time.Second
	modelResumeTimeout  = 6 * time.Minute
	modelSuspendTimeout = 4 * time.Minute // above snapshot age and the slowest removal
	modelSlurmdTimeout  = time.Minute
)

type modelNode struct {
	name  NodeName
	state SlurmState // Idle with a job is busy
	since time.Time
	// resume names the newest resume call, request is when it came.
	resume  int
	request time.Time
	aborted time.Time
	silent  time.Time // since when an up node has no VM
	job     *modelJob
}

type modelJob struct {
	id     string
	size   int
	batch  bool
	length time.Duration
	begin  time.Time
	ends   time.Time // zero while it does not run
	nodes  []*modelNode
	over   bool // completed, or lost in a way that no cloud can help
}

type fate int

const (
	boots fate = iota
	hangs      // the VM is ready and its slurmd never joins
	fails
	vanishes // before it has booted
	evicted  // after it has booted
)

type modelVM struct {
	id     string
	fate   fate
	made   time.Time
	booted time.Time
	ends   time.Time // when CycleCloud no longer lists it
	kept   time.Time // until when CycleCloud refuses to terminate it
	asked  bool      // its termination was asked for
	joined bool
}

func newWorld(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 7)), now: origin, calm: origin.Add(40 * time.Minute), nodes: map[NodeName]*modelNode{}, vms: map[NodeName]*modelVM{}}
	w.array = Nodearray{Name: "htc", MachineType: "Standard_F4s_v2", MaxNodes: 1 + w.IntN(4), IdleTimeout: time.Minute, BootDeadline: 3 * time.Minute}
	for i := range w.array.MaxNodes + w.IntN(4) {
		name := NodeName("htc-" + strconv.Itoa(i+1))
		w.array.Nodes = append(w.array.Nodes, name)
		w.nodes[name] = &modelNode{name: name, state: PoweredDown, since: w.now}
	}
	for i := range 2 + w.IntN(8) {
		w.jobs = append(w.jobs, &modelJob{
			id: strconv.Itoa(i + 1), size: 1 + w.IntN(w.array.MaxNodes), batch: w.IntN(3) > 0,
			length: w.span(5, 300), begin: w.now.Add(w.span(0, 1200)),
		})
	}
	return w
}

// span draws a time of lo to hi seconds.
func (w *world) span(lo, hi int) time.Duration {
	return time.Duration(lo+w.IntN(hi-lo+1)) * time.Second
}

// chance is true in one of n cases, while things may go wrong.
func (w *world) chance(n int) bool { return w.now.Before(w.calm) && w.IntN(n) == 0 }

func (w *world) breaks(format string, args ...any) {
	if w.broken == nil {
		w.broken = fmt.Errorf(format, args...)
	}
}

// step lets one tick pass.
func (w *world) step() {
	w.now = w.now.Add(modelTick)
	if w.chance(900) {
		w.down = w.now.Add(w.span(20, 200))
	}
	if w.chance(900) {
		w.short = w.now.Add(w.span(20, 200))
	}
	for _, name := range w.array.Nodes {
		n := w.nodes[name]
		w.stepVM(n)
		w.stepNode(n)
	}
	for _, j := range w.jobs {
		w.stepJob(j)
	}
}

func (w *world) stepVM(n *modelNode) {
	vm := w.vms[n.name]
	if vm == nil {
		return
	}
	if !vm.ends.IsZero() && !w.now.Before(vm.ends) {
		delete(w.vms, n.name)
		return
	}
	if vm.fate != boots && vm.fate != evicted || vm.asked || vm.joined || w.now.Before(vm.booted) {
		return
	}
	// slurmd registers once, when it starts.
	vm.joined = true
	switch {
	case n.state == PoweringUp && !vm.made.Before(n.request):
		w.set(n, Idle)
	case n.state == PoweredDown, n.state == DownPoweredDown:
		w.set(n, Idle) // even a late one: Slurm may start a job there at once
	}
}

func (w *world) stepNode(n *modelNode) {
	age := w.now.Sub(n.since)
	switch {
	case n.state == Waking && w.IntN(2) == 0:
		n.resume++
		n.request = w.now
		w.set(n, PoweringUp)
	case n.state == PoweringUp && age >= modelResumeTimeout:
		if vm := w.vms[n.name]; vm != nil && vm.made.Before(n.request) && !vm.asked && w.now.Sub(vm.kept) > 3*time.Minute && w.now.Sub(w.down) > 3*time.Minute {
			w.breaks("Slurm waited for %s in vain: an old VM was left under the name", n.name)
		}
		w.lose(n.job, "ResumeTimeout")
		w.set(n, DownPoweredDown)
	case n.state == PoweringDown && age >= modelSuspendTimeout:
		w.set(n, PoweredDown)
	case n.state == PowerDownPending && n.job == nil:
		w.set(n, PoweringDown)
	case n.state != Idle && n.state != PowerDownPending:
	case w.vms[n.name] != nil:
		n.silent = time.Time{}
	case n.silent.IsZero():
		n.silent = w.now
	case w.now.Sub(n.silent) >= modelSlurmdTimeout:
		w.lose(n.job, "SlurmdTimeout")
		w.set(n, Down)
	}
}

func (w *world) set(n *modelNode, s SlurmState) {
	w.turns++
	n.state, n.since, n.silent = s, w.now, time.Time{}
}

func (w *world) stepJob(j *modelJob) {
	switch {
	case j.over || w.now.Before(j.begin):
	case j.nodes == nil:
		w.allocate(j)
	case !j.ends.IsZero() && !w.now.Before(j.ends):
		j.over = true
		w.done++
		w.free(j)
	case j.ends.IsZero() && !slices.ContainsFunc(j.nodes, func(n *modelNode) bool { return n.state != Idle && n.state != PowerDownPending }):
		j.ends = w.now.Add(j.length)
	}
}

// allocate takes idle nodes first, then powered-down ones, all or none.
func (w *world) allocate(j *modelJob) {
	var free []*modelNode
	for _, state := range []SlurmState{Idle, PoweredDown} {
		for _, name := range w.array.Nodes {
			if n := w.nodes[name]; n.state == state && n.job == nil {
				free = append(free, n)
			}
		}
	}
	if len(free) < j.size {
		return
	}
	w.turns++
	j.nodes = free[:j.size]
	for _, n := range j.nodes {
		n.job = j
		if n.state == PoweredDown {
			w.set(n, Waking)
		}
	}
}

func (w *world) free(j *modelJob) {
	w.turns++
	for _, n := range j.nodes {
		n.job = nil
		if n.state == Waking {
			w.set(n, PoweredDown)
		} else if n.state == Idle {
			n.since = w.now
		}
	}
	j.nodes, j.ends = nil, time.Time{}
}

// lose takes a job off its nodes: Slurm requeues batch jobs with a begin time
// two minutes away, and ends all others.
func (w *world) lose(j *modelJob, cause string) {
	if j == nil {
		return
	}
	if !j.batch && cause == "abort" {
		w.breaks("job %s was killed by an abort", j.id)
	}
	w.free(j)
	j.over, j.begin = !j.batch, w.now.Add(121*time.Second)
	if j.over {
		w.lost++
	}
}

// create answers which names CycleCloud took. A repeat changes nothing.
func (w *world) create(names []NodeName) (taken map[NodeName]bool) {
	taken = map[NodeName]bool{}
	for _, name := range names {
		if w.vms[name] == nil && w.chance(8) {
			continue
		}
		taken[name] = true
		if w.vms[name] != nil {
			continue
		}
		w.made++
		vm := &modelVM{id: fmt.Sprintf("vm-%d", w.made), made: w.now, booted: w.now.Add(w.span(10, 150))}
		if w.chance(8) {
			vm.kept = w.now.Add(w.span(200, 900))
		}
		if w.chance(3) {
			vm.fate = fate(1 + w.IntN(4))
		}
		switch vm.fate {
		case vanishes:
			vm.ends = w.now.Add(w.span(1, 100))
		case evicted:
			vm.ends = vm.booted.Add(w.span(1, 300))
		case boots, hangs, fails:
		}
		w.vms[name] = vm
	}
	if len(w.vms) > w.array.MaxNodes {
		w.breaks("%d VMs exist, the limit is %d", len(w.vms), w.array.MaxNodes)
	}
	return taken
}

func (w *world) terminate(t Target) {
	vm := w.vms[t.Node]
	if vm == nil || vm.id != t.NodeID || vm.asked || w.now.Before(vm.kept) || w.chance(10) {
		return
	}
	if n := w.nodes[t.Node]; n.job != nil && (n.state == Idle || n.state == PowerDownPending) {
		w.breaks("the VM of %s was terminated under job %s", t.Node, n.job.id)
	}
	vm.asked, vm.ends = true, w.now.Add(w.span(3, 90))
}

// show tells what CycleCloud lists under a name.
func (w *world) show(n *Node) {
	vm := w.vms[n.Name]
	n.SeenAt = w.now
	switch {
	case vm == nil && (n.CreatedAt.IsZero() || !n.TerminatedAt.IsZero()):
		n.Forget()
	case vm == nil:
		n.Supply = Absent
	default:
		if n.NodeID != vm.id && n.NodeID != "" {
			n.Forget()
		}
		n.NodeID, n.Supply = vm.id, vm.supply(w.now)
		if n.CreatedAt.IsZero() {
			n.CreatedAt = w.now
		}
	}
}

func (vm *modelVM) supply(now time.Time) Supply {
	switch {
	case vm == nil:
		return Absent
	case vm.asked:
		return Leaving
	case now.Before(vm.booted):
		return Booting
	case vm.fate == fails:
		return Failed
	}
	return Ready
}

// obey carries a command out as the agent does: a node that no longer is what
// the command expects is left alone.
func (w *world) obey(c Command) {
	for _, name := range c.Nodes {
		n := w.nodes[name]
		switch {
		case c.Kind == FenceNodes && n.state == PoweredDown && n.job == nil:
			w.set(n, Fenced)
		case c.Kind == UnfenceNodes && n.state == Fenced, c.Kind == PowerDownDone && n.state == PoweringDown:
			w.set(n, PoweredDown)
		case c.Kind == PowerDownASAP && (n.state == Idle || n.state == Down) && n.job == nil:
			w.set(n, PowerDownPending)
		case c.Kind == PowerDown && (n.state == PoweredDown || n.state == Fenced || n.state == DownPoweredDown):
			w.set(n, PoweringDown)
		case c.Kind == AbortBoot && n.state == PoweringUp && (n.job == nil || n.job.batch):
			if !n.aborted.IsZero() && w.now.Sub(n.aborted) < AbortCooldown {
				w.breaks("%s was aborted twice within %s", name, w.now.Sub(n.aborted))
			}
			n.aborted = w.now
			w.lose(n.job, "abort")
			w.set(n, PoweringDown)
		}
	}
	for _, j := range w.jobs {
		if slices.Contains(c.Jobs, j.id) && j.nodes == nil && !j.over {
			j.begin = w.now
		}
	}
}

// over reports whether all is done and nothing is left.
func (w *world) over() bool {
	for _, n := range w.nodes {
		if n.state != PoweredDown && n.state != Fenced {
			return false
		}
	}
	return len(w.vms) == 0 && !slices.ContainsFunc(w.jobs, func(j *modelJob) bool { return !j.over })
}
