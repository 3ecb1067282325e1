package burst

import (
	"slices"
	"strings"
)

// suits judges whether jobs of the group may leave their partition at all, and
// by which rule. It knows neither time nor limits.
func (o *overflow) suits(g *Group, rules []*Overflow) (*Overflow, Reason) {
	if why := o.startable(g); why.Code != "" {
		return first(rules), why
	}
	rule, overran := agrees(g, rules)
	switch {
	case rule != nil:
		return rule, Reason{}
	case overran:
		return first(rules), because(ReasonRuleFailed, "the rule's expression could not be judged or cost more than it may")
	}
	return first(rules), because(ReasonRuleSaysNo, "no overflow rule of the policy lets the job go")
}

// agrees gives the first rule that agrees with the jobs, or nil and whether one
// cost more than it may.
func agrees(g *Group, rules []*Overflow) (rule *Overflow, overran bool) {
	for _, rule := range rules {
		if rule.When == nil {
			return rule, false
		}
		switch rule.When.Judge(g) {
		case Yes:
			return rule, false
		case Overrun:
			overran = true
		case No:
		}
	}
	return nil, overran
}

func first(rules []*Overflow) *Overflow {
	if len(rules) == 0 {
		return nil
	}
	return rules[0]
}

// startable reports whether more nodes are all that the jobs lack. Slurm tells
// one reason per job, and the same word may mean several things
// (measured on 22.05.8): Resources also where all nodes are down.
func (o *overflow) startable(g *Group) Reason {
	switch {
	case g.NodeList:
		return because(ReasonNodeList, "the job asks for nodes by name")
	case strings.Contains(g.Description, "DOWN") || strings.Contains(g.Description, "DRAINED"):
		return because(ReasonLocalDown, "its nodes are down, drained or reserved: they have to come back, more do not help")
	case g.StateReason == "Resources", g.StateReason == "Priority":
		return Reason{}
	case g.StateReason == "None", g.StateReason == "":
		return because(ReasonNotEvaluated, "Slurm has not looked at the job yet")
	case g.StateReason == "BeginTime" && g.Restarted && o.soon(g.BeginTime.Add(-requeueDelay)):
		return Reason{} // a failed boot requeued it; steer lifts the time
	}
	return because(ReasonSlurmReason, "Slurm holds the job for another reason: %.40s", g.StateReason)
}

// admits reports why Slurm would not start the jobs in the nodearray's
// partition. Slurm accepts nearly every release and then hides why the job
// waits on-prem, so a release that would be refused is never made.
func (o *overflow) admits(a *arrayDecision, g *Group) blocker {
	if b := o.takes(a, g); b.blocks() {
		return b
	}
	if p := o.partitions[a.policy.Partition]; p.AllowGroups != nil {
		return blocker{code: ReasonPartitionRefuses, format: "partition %s admits some groups only, and whose the job is cannot be told", args: []any{p.Name}}
	}
	return o.fitsNode(a, g)
}

// takes is admits without what the nodes offer and without the groups of users,
// which Slurm checks when a job is submitted there.
func (o *overflow) takes(a *arrayDecision, g *Group) blocker {
	p := o.partitions[a.policy.Partition]
	refused := func(format string, args ...any) blocker {
		return blocker{code: ReasonPartitionRefuses, format: format, args: args}
	}
	switch {
	case p == nil:
		why := lackedBySlurm(a.policy.Partition)
		return blocker{code: why.Code, told: why}
	case a.policy.Gated:
		return blocker{code: ReasonGate, format: "the gate of %s is closed", args: []any{a.policy.Name}}
	case !p.Up:
		return refused("partition %s is not UP", p.Name)
	case p.MaxTime > 0 && limitOf(g.TimeLimit) > p.MaxTime:
		return refused("the time limit is above partition %s's %s", p.Name, seconds(p.MaxTime))
	case p.MaxNodes > 0 && g.Nodes > p.MaxNodes:
		return refused("%d nodes are more than partition %s's %d", g.Nodes, p.Name, p.MaxNodes)
	case p.AllowAccounts != nil && !slices.Contains(p.AllowAccounts, g.Account):
		return refused("partition %s does not admit account %.40s", p.Name, g.Account)
	case p.AllowQOS != nil && !slices.Contains(p.AllowQOS, g.QOS):
		return refused("partition %s does not admit QOS %.40s", p.Name, g.QOS)
	}
	return blocker{}
}

// fitsNode compares what the job needs per node with what a node has.
func (o *overflow) fitsNode(a *arrayDecision, g *Group) blocker {
	nodes := max(g.Nodes, 1)
	misfit := func(format string, args ...any) blocker {
		return blocker{code: ReasonDoesNotFit, format: format, args: args}
	}
	perNode := func(n int64) int64 { return (n + int64(nodes) - 1) / int64(nodes) }
	array := &a.policy
	switch {
	case array.CPUs > 0 && perNode(int64(g.CPUs)) > int64(array.CPUs):
		return misfit("%d CPUs per node do not fit a node of %s, which has %d", perNode(int64(g.CPUs)), array.Name, array.CPUs)
	case array.MemoryMiB > 0 && perNode(g.MemoryMiB) > array.MemoryMiB:
		return misfit("%d MiB per node do not fit a node of %s, which has %d", perNode(g.MemoryMiB), array.Name, array.MemoryMiB)
	case perNode(int64(g.GPUs)) > int64(array.GPUs):
		return misfit("%d GPUs per node do not fit a node of %s, which has %d", perNode(int64(g.GPUs)), array.Name, array.GPUs)
	case nodes > len(array.Nodes):
		return misfit("%d nodes are more than %s has names for", nodes, array.Name)
	case array.MaxPlacementGroup > 0 && nodes > array.MaxPlacementGroup:
		return blocker{code: ReasonPlacementGroup, format: "%d nodes are more than the %d of a placement group of %s", args: []any{nodes, array.MaxPlacementGroup, array.Name}}
	}
	for feature := range strings.SplitSeq(g.Features, "&") {
		if feature != "" && !slices.Contains(array.Features, feature) {
			return misfit("nodes of %s lack the feature %.40s", array.Name, feature)
		}
	}
	return blocker{}
}

// blocker is a reason that is put into words only if it is told: thousands of
// groups meet several each.
type blocker struct {
	code   Code
	format string
	args   []any
	// told is a reason that has its words already.
	told Reason
}

func (b blocker) blocks() bool { return b.code != "" }

func (b blocker) reason() Reason {
	if b.told.Code != "" {
		return b.told
	}
	return because(b.code, b.format, b.args...)
}
