package burst

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// burstCluster is a cluster with an on-prem partition whose jobs may overflow:
// the nodes and VMs of world, and a small scheduler that knows partitions.
type burstCluster struct {
	*world
	start         time.Time
	policy, later Policy // later takes over when calm begins
	seed          uint64
	// gentle clusters lose and delay nothing, and nothing but VMs and creates
	// fails: there, how soon something happens can be told.
	gentle bool
	crowd  bool // one with hundreds of jobs
	// contested clusters have a limit that keeps nodearrays from what others have.
	contested bool

	jobs   []*burstJob // in the order in which they came
	byID   map[string]*burstJob
	admits []Partition     // what each cloud partition admits
	up     map[string]bool // cloud partitions that start jobs
	local  int             // nodes on-prem
	used   int             // those with a job
	broke  time.Time       // until when all nodes on-prem are down
	ended  []EndedJob      // jobs that left the cloud since the last snapshot
	ran    []FinishedRuns
	owner  map[NodeName]int // a node's nodearray
	// capacity is how many VMs CycleCloud can have in each nodearray, scarce
	// until when it has none.
	capacity []int
	scarce   []time.Time
	// madeBy is the request that made each VM, answers what each request got.
	madeBy  map[string]string
	answers map[string]map[NodeName]bool
	// given are the jobs that users gave up.
	given []*burstJob
}

// burstJob is a job of a modelled cluster.
type burstJob struct {
	modelJob
	user, account string
	limit         time.Duration
	parts         []string
	came, submit  time.Time // Slurm's submit time moves with a requeue
	held          time.Time // until when its user holds it
	feature       string
	nodeList      bool
	reason        string
	restarted     bool
	onprem        time.Time // when its run on-prem ends
	inCloud       bool      // it held cloud nodes at the last tick
	allocated     time.Time
	started       time.Time
	array         int // the nodearray that it runs in
	cancelled     bool
	// took is when its user took the cloud off its list, and none put it there
	// again since.
	took time.Time
	why  Code // what it was told last
}

func (j *burstJob) waits(now time.Time) bool {
	return !j.over && !now.Before(j.came) && j.nodes == nil && j.onprem.IsZero()
}

func newBurstCluster(seed uint64) *burstCluster {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 11)), nodes: map[NodeName]*modelNode{}, vms: map[NodeName]*modelVM{}}
	w.now = origin.Add(w.span(0, 30*3600))
	w.calm = w.now.Add(w.span(300, 1500))
	c := &burstCluster{
		world: w, seed: seed, start: w.now, gentle: seed%4 == 1, crowd: seed%250 == 3, local: 1 + w.IntN(3),
		byID: map[string]*burstJob{}, owner: map[NodeName]int{}, madeBy: map[string]string{}, answers: map[string]map[NodeName]bool{},
	}
	c.drawPolicy()
	if seed%16 == 5 {
		c.contest()
	}
	c.drawJobs()
	for i, a := range c.policy.Nodearrays {
		for _, name := range a.Nodes {
			c.owner[name] = i
			w.nodes[name] = &modelNode{name: name, state: PoweredDown, since: w.now}
			w.array.Nodes = append(w.array.Nodes, name)
		}
		c.capacity = append(c.capacity, max(a.MaxNodes+w.IntN(6)-1, 1)-maybe(w, 8, 1))
		c.scarce = append(c.scarce, time.Time{})
	}
	return c
}

// tick lets the cluster live for a moment.
func (c *burstCluster) tick() {
	down := c.down
	c.step()
	if c.gentle {
		c.down = down
	}
	if !c.now.Before(c.calm) && c.policy.Version != c.later.Version {
		c.policy = c.later
		for i := range c.capacity {
			c.capacity[i] = max(c.capacity[i], c.policy.Nodearrays[i].MaxNodes)
		}
	}
	for i := range c.scarce {
		if c.chance(400) {
			c.scarce[i] = c.now.Add(c.span(20, 300))
		}
	}
	if c.chance(600) {
		c.broke = c.now.Add(c.span(20, 200))
	}
	if c.chance(800) { // slurmctld restarts
		for p := range c.up {
			c.up[p] = true
		}
		c.turns++
	}
	c.users()
	c.regrets()
	for _, j := range c.jobs {
		c.leaves(j)
	}
	for _, j := range c.jobs {
		if j.nodes != nil && !j.over {
			c.runs(j)
		}
		if !j.onprem.IsZero() && !c.now.Before(j.onprem) {
			j.onprem, j.over = time.Time{}, true
			c.used -= j.size
			c.done++
			c.turns++
			c.finish(j, j.length)
		}
	}
	c.schedule()
}

// leaves notices that a job lost its nodes.
func (c *burstCluster) leaves(j *burstJob) {
	if !j.inCloud || j.nodes != nil {
		return
	}
	j.inCloud = false
	c.ended = append(c.ended, EndedJob{ID: j.id, EndedAt: c.now, Requeued: !j.over})
	if !j.over {
		j.restarted, j.submit, j.took = true, c.now, time.Time{}
	}
	j.started = time.Time{}
}

// runs lets a job on cloud nodes go on.
func (c *burstCluster) runs(j *burstJob) {
	c.stepJob(&j.modelJob)
	if j.started.IsZero() && !j.ends.IsZero() {
		j.started = c.now
		c.turns++
	}
	if j.over {
		c.finish(j, j.length)
	}
	c.leaves(j)
}

func (c *burstCluster) finish(j *burstJob, run time.Duration) {
	c.ran = append(c.ran, FinishedRuns{User: j.user, Account: j.account, Jobs: 1, Run: run, Limit: j.limit})
}

// users cancel jobs, and move them as they like.
func (c *burstCluster) users() {
	if !c.chance(120) {
		return
	}
	j := c.jobs[c.IntN(len(c.jobs))]
	switch {
	case j.over || c.now.Before(j.came):
	case c.IntN(3) == 0:
		c.cancel(j)
	case j.waits(c.now):
		a := c.policy.Nodearrays[c.IntN(len(c.policy.Nodearrays))]
		listed := len(j.parts) == 2
		j.parts = oneOf(c.world, []string{"local"}, []string{"local"}, []string{a.Partition, "local"})
		switch {
		case len(j.parts) == 2:
			j.took = time.Time{}
		case listed:
			j.took = c.now
		}
		j.size = min(j.size, c.local)
		c.turns++
	}
}

// regrets lets a user take back a job that waits with the cloud in its list.
func (c *burstCluster) regrets() {
	if !c.chance(40) {
		return
	}
	var listed []*burstJob
	for _, j := range c.jobs {
		if j.waits(c.now) && len(j.parts) == 2 {
			listed = append(listed, j)
		}
	}
	if len(listed) == 0 {
		return
	}
	j := listed[c.IntN(len(listed))]
	j.parts, j.took, j.size = []string{"local"}, c.now, min(j.size, c.local)
	c.turns++
}

func (c *burstCluster) cancel(j *burstJob) {
	c.turns++
	j.over, j.cancelled = true, true
	switch {
	case j.nodes != nil:
		c.free(&j.modelJob)
	case !j.onprem.IsZero():
		j.onprem = time.Time{}
		c.used -= j.size
	}
	c.leaves(j)
}

// schedule starts what fits, the oldest first, each in the first partition of
// its list that can take it: on-prem has the higher tier.
func (c *burstCluster) schedule() {
	first := true
	for _, j := range c.jobs {
		if !j.waits(c.now) {
			continue
		}
		reason := c.lacks(j)
		if reason == "" && c.starts(j) {
			reason = ""
			c.turns++
		} else if reason == "" {
			reason = "Priority"
			if first {
				reason = "Resources"
			}
			first = false
		}
		if reason != j.reason {
			j.reason = reason
			c.turns++
		}
	}
}

// lacks is what the job waits for beside nodes.
func (c *burstCluster) lacks(j *burstJob) string {
	switch {
	case c.now.Before(j.came.Add(4 * time.Second)):
		return "None"
	case c.now.Before(j.held):
		return "JobHeldUser"
	case c.now.Before(j.begin):
		return "BeginTime"
	}
	return ""
}

func (c *burstCluster) starts(j *burstJob) bool {
	for _, p := range slices.Backward(j.parts) { // sorted, and "local" is the last
		if p == "local" {
			if !c.now.Before(c.broke) && c.used+j.size <= c.local {
				c.used += j.size
				j.onprem = c.now.Add(j.length)
				return true
			}
		} else if c.startsIn(j, p) {
			return true
		}
	}
	return false
}

func (c *burstCluster) startsIn(j *burstJob, partition string) bool {
	at := slices.IndexFunc(c.admits, func(p Partition) bool { return p.Name == partition })
	p := c.admits[at]
	a := &c.policy.Nodearrays[at]
	if !c.up[partition] || p.MaxTime > 0 && j.limit > p.MaxTime || p.MaxNodes > 0 && j.size > p.MaxNodes ||
		p.AllowAccounts != nil && !slices.Contains(p.AllowAccounts, j.account) || j.nodeList ||
		j.feature != "" && !slices.Contains(a.Features, j.feature) {
		return false
	}
	var free []*modelNode
	for _, state := range []SlurmState{Idle, PoweredDown} {
		for _, name := range a.Nodes {
			if n := c.nodes[name]; n.state == state && n.job == nil {
				free = append(free, n)
			}
		}
	}
	if len(free) < j.size {
		return false
	}
	j.nodes, j.inCloud, j.allocated, j.array = free[:j.size], true, c.now, at
	for _, n := range j.nodes {
		n.job = &j.modelJob
		if n.state == PoweredDown {
			c.set(n, Waking)
		}
	}
	return true
}

// sends carries out a command about jobs or a partition.
func (c *burstCluster) sends(cmd Command) {
	if cmd.Kind == GatePartition {
		if c.up[cmd.Partition] != cmd.Up {
			c.up[cmd.Partition] = cmd.Up
			c.turns++
		}
		return
	}
	for _, id := range cmd.Jobs {
		if cmd.Kind == NoticeJobs {
			for _, j := range c.jobs {
				if j.id == id || strings.HasPrefix(j.id, id+"_") {
					j.why = cmd.Reason.Code
				}
			}
			continue
		}
		if j := c.byID[id]; j.waits(c.now) {
			c.changes(j, cmd)
		}
	}
}

func (c *burstCluster) changes(j *burstJob, cmd Command) {
	if cmd.Kind == BeginNow {
		j.begin = c.now
		c.turns++
		return
	}
	onprem := func(p string) bool { return p == "local" }
	if slices.ContainsFunc(j.parts, onprem) != slices.ContainsFunc(cmd.Partitions, onprem) {
		return // its owner moved it meanwhile
	}
	if cmd.Kind == RevokeJobs && slices.ContainsFunc(cmd.Partitions, func(p string) bool { return !slices.Contains(j.parts, p) }) {
		return
	}
	parts := slices.Sorted(slices.Values(cmd.Partitions))
	if !slices.Equal(parts, j.parts) {
		j.took = time.Time{} // a command that was on its way undid it
	}
	j.parts = parts
	c.turns++
}
