package agent

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// maxReasonBytes bounds a node's reason in a snapshot.
const maxReasonBytes = 200

// jobsByNode gives, for each node of the allow-list, the jobs that hold it.
func (a *Agent) jobsByNode(jobs []slurm.Job) map[slurm.NodeName][]*slurm.Job {
	onNode := map[slurm.NodeName][]*slurm.Job{}
	for i := range jobs {
		if jobs[i].State == slurm.JobPending {
			continue
		}
		for _, name := range jobs[i].Nodes {
			if _, ours := a.owner[name]; ours {
				onNode[name] = append(onNode[name], &jobs[i])
			}
		}
	}
	return onNode
}

// groupKey is what the nodes of a group have in common.
type groupKey struct {
	state, flags, reason string
	since                time.Time
}

// arrayView collects what a snapshot says about one nodearray.
type arrayView struct {
	cloud  event.CloudNodes
	groups map[groupKey][]slurm.NodeName
	seen   map[slurm.NodeName]bool
}

// cloudNodes describes the nodes of every nodearray.
func (t *term) cloudNodes(r reading, onNode map[slurm.NodeName][]*slurm.Job) []event.CloudNodes {
	views := make([]arrayView, len(t.arrays))
	for i, array := range t.arrays {
		views[i] = arrayView{cloud: event.CloudNodes{Nodearray: array.Name}, groups: map[groupKey][]slurm.NodeName{}, seen: map[slurm.NodeName]bool{}}
	}
	for i := range r.nodes {
		n := &r.nodes[i]
		owner, ours := t.owner[n.Name]
		if !ours {
			continue
		}
		if !isCloud(n.State) {
			t.problems.add(codeNotCloud, "the policy names "+string(n.Name)+", which is no cloud node in Slurm", r.began)
		}
		t.addNode(&views[owner], n, onNode[n.Name], r)
	}
	out := make([]event.CloudNodes, len(views))
	for i := range views {
		out[i] = views[i].finish(t.arrays[i])
	}
	return out
}

// isCloud reports whether Slurm may power the node up and down for us.
func isCloud(state slurm.NodeState) bool {
	return slices.ContainsFunc(state.Flags, func(f slurm.NodeFlag) bool {
		return f == slurm.FlagCloud || strings.HasPrefix(string(f), "DYNAMIC_")
	})
}

// isPlain reports whether a node is off and waits for work: most are, and need
// no word.
func isPlain(state slurm.NodeState) bool {
	return state.Base == slurm.NodeIdle && !slices.ContainsFunc(state.Flags, func(f slurm.NodeFlag) bool {
		return f != slurm.FlagPoweredDown && f != slurm.FlagCloud && !strings.HasPrefix(string(f), "DYNAMIC_")
	}) && state.Has(slurm.FlagPoweredDown)
}

func (t *term) addNode(v *arrayView, n *slurm.Node, jobs []*slurm.Job, r reading) {
	v.seen[n.Name] = true
	v.cloud.Defined++
	if isUsable(n.State) {
		v.cloud.Usable++
	}
	t.memory.forget(n.Name, n.State)
	resume := t.memory.resumes[n.Name]
	hint := n.ReasonTime // of a node that is DOWN
	if n.State.Base == slurm.NodeIdle {
		hint = r.lastBusy[n.Name]
	}
	since := t.memory.see(n.Name, phaseOf(n.State, resume, len(jobs)), r.began, hint)
	key := groupKey{state: string(n.State.Base), flags: flagText(n.State), reason: bounded(n.Reason, maxReasonBytes), since: since}
	if isPlain(n.State) {
		if n.Reason == "" {
			v.cloud.PoweredDown++
			return
		}
		key.since = time.Time{} // a leftover reason: nothing hangs on its age
	}
	v.groups[key] = append(v.groups[key], n.Name)
	if n.State.Has(slurm.FlagPoweringUp) {
		v.cloud.PoweringUp = append(v.cloud.PoweringUp, event.PoweringUpNode{Node: string(n.Name), ResumeID: resume, Jobs: bootJobs(jobs)})
	}
}

// isUsable reports whether Slurm may allocate the node to a job.
func isUsable(state slurm.NodeState) bool {
	unusable := []slurm.NodeFlag{
		slurm.FlagDrain, slurm.FlagFail, slurm.FlagPoweringDown, slurm.FlagPowerDown, slurm.FlagMaintenance, slurm.FlagInvalidReg,
	}
	if hasAny(state, unusable) || state.Has(slurm.FlagNotResponding) && !state.Has(slurm.FlagPoweringUp) {
		return false
	}
	return state.Base == slurm.NodeIdle || state.Base == slurm.NodeAllocated || state.Base == slurm.NodeMixed
}

// flagText gives the flags in alphabetical order. CLOUD goes without saying.
func flagText(state slurm.NodeState) string {
	words := make([]string, 0, len(state.Flags))
	for _, flag := range state.Flags {
		if flag != slurm.FlagCloud {
			words = append(words, string(flag))
		}
	}
	slices.Sort(words)
	return strings.Join(slices.Compact(words), "+")
}

func bootJobs(jobs []*slurm.Job) []event.BootJob {
	var out []event.BootJob
	for _, job := range jobs {
		out = append(out, event.BootJob{ID: jobID(job.Ref()), Batch: job.IsBatch, Requeue: job.Requeue})
	}
	slices.SortFunc(out, func(a, b event.BootJob) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// finish puts the groups into an order that depends only on what they say.
func (v *arrayView) finish(array Nodearray) event.CloudNodes {
	var missing []slurm.NodeName
	for _, name := range array.Nodes {
		if !v.seen[name] {
			missing = append(missing, name)
		}
	}
	v.cloud.Undefined = slurm.FormatHostlist(missing)
	for key, names := range v.groups {
		group := event.NodeGroup{State: key.state, Nodes: slurm.FormatHostlist(names), Since: key.since, Reason: key.reason}
		if key.flags != "" {
			group.Flags = strings.Split(key.flags, "+")
		}
		v.cloud.Groups = append(v.cloud.Groups, group)
	}
	slices.SortFunc(v.cloud.Groups, func(a, b event.NodeGroup) int {
		return cmp.Or(cmp.Compare(a.State, b.State), slices.Compare(a.Flags, b.Flags), a.Since.Compare(b.Since), cmp.Compare(a.Nodes, b.Nodes))
	})
	slices.SortFunc(v.cloud.PoweringUp, func(a, b event.PoweringUpNode) int { return cmp.Compare(a.Node, b.Node) })
	return v.cloud
}

// localPartitions counts the partitions that have nodes outside the allow-list.
func (t *term) localPartitions(nodes []slurm.Node) []event.LocalPartition {
	byName := map[slurm.PartitionName]*event.LocalPartition{}
	for i := range nodes {
		n := &nodes[i]
		_, cloud := t.owner[n.Name]
		for _, name := range n.Partitions {
			p := byName[name]
			if p == nil {
				p = &event.LocalPartition{Name: string(name)}
				byName[name] = p
			}
			if cloud {
				p.CloudNodes++
				continue
			}
			p.Nodes++
			p.Cores += n.CPUs.Total
			switch {
			case !isUsable(n.State) || hasAny(n.State, powerFlags):
				p.DownNodes++
				p.DownCores += n.CPUs.Total - n.CPUs.Allocated
			case n.State.Base == slurm.NodeIdle:
				p.IdleNodes++
				p.IdleCores += n.CPUs.Idle
			default:
				p.IdleCores += n.CPUs.Idle
			}
		}
	}
	var out []event.LocalPartition
	for _, p := range byName {
		if p.Nodes > 0 {
			out = append(out, *p)
		}
	}
	slices.SortFunc(out, func(a, b event.LocalPartition) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// partitionRules says what Slurm will admit to each partition.
func partitionRules(partitions []slurm.Partition) []event.Partition {
	var out []event.Partition
	for i := range partitions {
		p := &partitions[i]
		rule := event.Partition{
			Name: string(p.Name), State: string(p.State), MaxTimeSeconds: limitSeconds(p.MaxTime), MaxNodes: p.MaxNodes,
			AllowAccounts: strings.Join(p.AllowAccounts, ","), AllowQOS: strings.Join(p.AllowQOS, ","),
			AllowGroups: strings.Join(p.AllowGroups, ","), QOS: string(p.QOS), PriorityTier: p.PriorityTier,
			SuspendTimeSeconds: limitSeconds(p.SuspendTime),
		}
		if p.MaxNodes == slurm.UnlimitedNodes {
			rule.MaxNodes = 0
		}
		if p.SuspendTime == slurm.Unlimited {
			rule.SuspendTimeSeconds = -1
		}
		out = append(out, rule)
	}
	slices.SortFunc(out, func(a, b event.Partition) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// limitSeconds is 0 for a limit that is not set or has no bound.
func limitSeconds(limit slurm.TimeLimit) int64 {
	d, bounded := limit.Duration()
	if !bounded {
		return 0
	}
	return int64(d / time.Second)
}
