package burst

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// groups are the waiting jobs as a snapshot tells them.
func (c *burstCluster) groups(names int) []Group {
	index := map[string]int{}
	var groups []Group
	for _, j := range c.jobs {
		if !j.waits(c.now) {
			continue
		}
		g := c.group(j)
		at, known := index[g.Key]
		if !known {
			at = len(groups)
			index[g.Key] = at
			groups = append(groups, g)
		}
		in := &groups[at]
		in.Count++
		if j.submit.Before(in.OldestSubmit) {
			in.OldestSubmit = j.submit
		}
		if j.submit.After(in.NewestSubmit) {
			in.NewestSubmit = j.submit
		}
		if len(in.Jobs) < names {
			in.Jobs = append(in.Jobs, j.id)
		}
	}
	slices.SortStableFunc(groups, func(a, b Group) int {
		return cmp.Or(a.OldestSubmit.Compare(b.OldestSubmit), cmp.Compare(a.Key, b.Key))
	})
	return groups
}

func (c *burstCluster) group(j *burstJob) Group {
	g := Group{
		Partitions: slices.Clone(j.parts), User: j.user, Account: j.account, QOS: "normal", StateReason: j.reason, Nodes: j.size, CPUs: 4 * j.size,
		TimeLimit: j.limit, Features: j.feature, NodeList: j.nodeList, Batch: true, Requeue: j.batch, Restarted: j.restarted,
		OldestSubmit: j.submit, NewestSubmit: j.submit,
	}
	if c.now.Before(j.begin) {
		g.BeginTime = j.begin
	}
	if j.reason == "Resources" && slices.Contains(j.parts, "local") {
		if c.now.Before(c.broke) {
			g.Description = "(Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions)"
		} else {
			g.ExpectedStart = c.expects()
		}
	}
	g.Key = fmt.Sprintf("%v %s %s %s %d %s %s %t %t %t %s", j.parts, j.user, j.account, j.reason, j.size, j.limit, j.feature, j.nodeList, j.batch, j.restarted, g.BeginTime)
	return g
}

// expects is when Slurm thinks that a node on-prem becomes free: it knows
// limits, not lengths.
func (c *burstCluster) expects() (first time.Time) {
	if c.seed%2 == 0 {
		return first
	}
	for _, j := range c.jobs {
		if !j.onprem.IsZero() {
			if at := j.onprem.Add(j.limit - j.length); first.IsZero() || at.Before(first) {
				first = at
			}
		}
	}
	return first
}

// running are the jobs on cloud nodes.
func (c *burstCluster) running() []RunningJob {
	var jobs []RunningJob
	for _, j := range c.jobs {
		if j.nodes == nil {
			continue
		}
		r := RunningJob{
			ID: j.id, User: j.user, Account: j.account, Nodearray: c.policy.Nodearrays[j.array].Name, Nodes: len(j.nodes),
			Configuring: j.started.IsZero(), StartedAt: j.allocated, TimeLimit: j.limit,
		}
		if !r.Configuring {
			r.StartedAt = j.started
		}
		jobs = append(jobs, r)
	}
	slices.SortFunc(jobs, func(a, b RunningJob) int { return cmp.Compare(a.ID, b.ID) })
	return jobs
}

// partitions are what the cloud's partitions admit at the moment.
func (c *burstCluster) partitions() []Partition {
	all := slices.Clone(c.admits)
	for i := range all {
		all[i].Up = c.up[all[i].Name]
	}
	return append(all, Partition{Name: "local", Up: true})
}

func (c *burstCluster) onprem() []LocalPartition {
	l := LocalPartition{Name: "local", Nodes: c.local, IdleNodes: c.local - c.used}
	if c.now.Before(c.broke) {
		l.DownNodes, l.IdleNodes = c.local-c.used, 0
	}
	return []LocalPartition{l}
}

// rests reports whether Slurm and CycleCloud have nothing left to do.
func (c *burstCluster) rests() bool {
	for _, n := range c.nodes {
		if n.state != PoweredDown && n.state != Fenced {
			return false
		}
	}
	return len(c.vms) == 0 && !slices.ContainsFunc(c.jobs, func(j *burstJob) bool { return !j.over })
}
