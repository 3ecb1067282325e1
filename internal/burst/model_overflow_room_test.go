package burst

import (
	"slices"
	"strconv"
	"time"
)

// roomInTime is how long a job of one node may wait for a nodearray all of whose
// names are fenced while another one has names that no job waits for: a snapshot
// that tells it, a fence, a snapshot that confirms it, and a name given back. The
// heartbeat may be 36 s away, and a nodearray may have been closed, or its breaker
// probed, just before.
const roomInTime = 36*time.Second + 10*time.Second

// roomAudit holds a cluster to its limit, by what is in Slurm.
type roomAudit struct {
	within bool // the limit was kept once
	hungry map[NodearrayName]time.Time
	served int // nodearrays that got room after they had none
	slow   time.Duration
}

// contest makes a cluster in which nothing but the cluster's limit stands between
// its nodearrays, and users who send jobs of one node to each of them.
func (c *burstCluster) contest() {
	p := c.policy
	p.Shadow, p.Budgets, p.Accounts, p.Users = false, nil, nil, nil
	for len(p.Nodearrays) < 2 {
		p.Nodearrays = append(p.Nodearrays, c.drawNodearray(len(p.Nodearrays)))
	}
	most := 0
	for i := range p.Nodearrays {
		a := &p.Nodearrays[i]
		a.Gated, a.Window, a.StepUp = false, nil, Step{}
		most = max(most, a.MaxNodes)
	}
	p.MaxNodes = most + c.IntN(2)
	c.policy, c.later = p, p
	c.later.Version = "2"
	c.contested = true
}

// drawContest draws the jobs of one node that go straight to each nodearray.
func (c *burstCluster) drawContest(until int) {
	for i, a := range c.policy.Nodearrays {
		for k := range 2 + c.IntN(4) {
			j := burstJob{account: modelAccounts[0], user: modelUsers[i%len(modelUsers)], came: c.now.Add(c.span(0, until)), parts: []string{a.Partition}}
			j.id, j.size, j.batch, j.length, j.submit = strconv.Itoa(90_000+100*i+k), 1, true, c.span(10, 240), j.came
			j.limit = 10 * time.Minute
			c.jobs = append(c.jobs, &j)
		}
	}
}

// room: once the limit is kept, what is up and what Slurm may allocate never
// exceed it again; and who needs room gets it where others have more than they need.
func (a *auditor) room() {
	if a.policy.MaxNodes == 0 {
		return
	}
	sum := 0
	for _, n := range a.nodes {
		if n.state != Fenced {
			sum++
		}
	}
	if a.rooms.within && sum > a.policy.MaxNodes {
		a.breaks("%d nodes are up or may be allocated, the cluster may have %d: %s", sum, a.policy.MaxNodes, a.picture())
	}
	a.rooms.within = a.rooms.within || sum <= a.policy.MaxNodes
	p := &a.policy
	if !a.gentle || p.Shadow || len(p.Budgets)+len(p.Accounts)+len(p.Users) > 0 {
		return // other limits may keep the job out
	}
	for i := range p.Nodearrays {
		name := p.Nodearrays[i].Name
		if !a.starves(i) {
			if since, was := a.rooms.hungry[name]; was {
				a.rooms.served++
				a.rooms.slow = max(a.rooms.slow, a.now.Sub(since))
			}
			delete(a.rooms.hungry, name)
			continue
		}
		since, was := a.rooms.hungry[name]
		if !was {
			a.rooms.hungry[name] = a.now
			continue
		}
		if a.now.Sub(since) > roomInTime {
			a.breaks("jobs of %s have waited %s for room that nobody needs: %s", name, a.now.Sub(since), a.picture())
		}
	}
}

// starves reports whether a job of one node waits for the nodearray, which has
// only fenced names and may have more nodes, while others have names to spare.
func (a *auditor) starves(i int) bool {
	array := &a.policy.Nodearrays[i]
	admits := a.admits[i]
	rests := a.ledger.facts.Memory.OpenUntil(array.Name).After(a.now) || len(a.ledger.facts.Memory.Breakers) > 0
	if array.Gated || array.Window != nil || array.StepUp.Nodes > 0 || rests || a.ledger.facts.Paused || !a.up[array.Partition] {
		return false
	}
	waits := slices.ContainsFunc(a.jobs, func(j *burstJob) bool {
		return len(j.parts) == 1 && j.parts[0] == array.Partition && j.size == 1 && j.waits(a.now) && (j.reason == "Resources" || j.reason == "Priority") &&
			!j.nodeList && (admits.MaxTime == 0 || j.limit <= admits.MaxTime) && (admits.AllowAccounts == nil || slices.Contains(admits.AllowAccounts, j.account)) &&
			(j.feature == "" || slices.Contains(array.Features, j.feature))
	})
	if !waits {
		return false
	}
	taken, fenced, spare := 0, 0, 0
	for k := range a.policy.Nodearrays {
		names := 0
		for _, name := range a.policy.Nodearrays[k].Nodes {
			n := a.nodes[name]
			switch {
			case k != i && n.state == PoweredDown:
				names++
			case k != i:
			case n.state == Fenced && n.aborted.IsZero():
				fenced++
			case n.state == Fenced:
			case n.state == Idle && n.job == nil, n.state == PoweredDown:
				return false // it has what it needs
			default:
				taken++
			}
		}
		for _, j := range a.jobs {
			if j.waits(a.now) && slices.Contains(j.parts, a.policy.Nodearrays[k].Partition) {
				names -= j.size
			}
		}
		spare += max(names, 0)
	}
	return fenced > 0 && taken < array.MaxNodes && spare > 0
}
