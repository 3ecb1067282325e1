package agent

import (
	"slices"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/internal/spool"
)

// memory is what Slurm does not tell and the agent has seen: since when a node
// is as it is, which hook call asked for it, and which jobs were on cloud nodes
// in the last accepted snapshot.
type memory struct {
	nodes   map[slurm.NodeName]seenNode
	resumes map[slurm.NodeName]string
	running map[event.JobID]event.RunningJob
	// told are the ends of the jobs that were summed up as finished.
	told map[slurm.JobRef]time.Time
}

// seenNode is the phase of a node and when it was first seen in it.
type seenNode struct {
	phase string
	since time.Time
}

func newMemory() memory {
	return memory{
		nodes: map[slurm.NodeName]seenNode{}, resumes: map[slurm.NodeName]string{}, running: map[event.JobID]event.RunningJob{},
		told: map[slurm.JobRef]time.Time{},
	}
}

const (
	phaseIdle = "IDLE"
	// phasePoweringUp is followed by the resume call, once it was seen.
	phasePoweringUp = "POWERING_UP "
)

// phaseFlags begin a new phase of a node. Others, such as PLANNED or RESERVED,
// come and go without a change that matters to how long a node has been so.
var phaseFlags = []slurm.NodeFlag{
	slurm.FlagPoweredDown, slurm.FlagPoweringDown, slurm.FlagPowerUp, slurm.FlagPowerDown, slurm.FlagDrain, slurm.FlagNotResponding, slurm.FlagFail,
}

var powerFlags = []slurm.NodeFlag{
	slurm.FlagPoweredDown, slurm.FlagPoweringUp, slurm.FlagPoweringDown, slurm.FlagPowerUp, slurm.FlagPowerDown,
}

func hasAny(state slurm.NodeState, flags []slurm.NodeFlag) bool {
	return slices.ContainsFunc(flags, state.Has)
}

// isBusy reports whether jobs are on the node or going from it.
func isBusy(state slurm.NodeState) bool {
	return state.Base == slurm.NodeAllocated || state.Base == slurm.NodeMixed || state.Has(slurm.FlagCompleting)
}

// phaseOf names the phase of a node. A node that is powering up stays in one
// phase while jobs are added to it; an idle one while no job is seen on it.
func phaseOf(state slurm.NodeState, resume string, jobs int) string {
	switch {
	case state.Has(slurm.FlagPoweringUp) && state.Base != slurm.NodeDown:
		return phasePoweringUp + resume
	case state.Base == slurm.NodeIdle && jobs == 0 && !isBusy(state) && !hasAny(state, powerFlags):
		return phaseIdle
	}
	words := []string{string(state.Base)}
	if isBusy(state) || jobs > 0 {
		words[0] = "BUSY"
	}
	for _, flag := range phaseFlags {
		if state.Has(flag) {
			words = append(words, string(flag))
		}
	}
	return strings.Join(words, "+")
}

// see notes a node's state and gives since when it is in that phase. hint, where
// not zero, is an earlier moment that Slurm itself remembers for a node that was
// not seen before.
func (m *memory) see(name slurm.NodeName, phase string, now, hint time.Time) time.Time {
	before, seen := m.nodes[name]
	// The hook writes its record a moment after Slurm has changed the node.
	callCame := before.phase == phasePoweringUp && strings.HasPrefix(phase, phasePoweringUp)
	if seen && (before.phase == phase || callCame) {
		m.nodes[name] = seenNode{phase: phase, since: before.since}
		return before.since
	}
	since := now
	if !seen && !hint.IsZero() && hint.Before(now) {
		since = hint
	}
	since = since.UTC().Truncate(time.Second)
	m.nodes[name] = seenNode{phase: phase, since: since}
	return since
}

// reconsider takes jobs into account that came and went unseen, before this
// agent was in charge or between two of its looks: an idle node is then idle
// since Slurm last saw it busy. Only what happened after the last look counts:
// a restart of slurmctld moves LastBusyTime, too.
func (m *memory) reconsider(busy map[slurm.NodeName]time.Time, lastLook time.Time) {
	for name, last := range busy {
		node, seen := m.nodes[name]
		if seen && node.phase == phaseIdle && last.After(node.since) && !last.Before(lastLook.Truncate(time.Second)) {
			node.since = last.UTC()
			m.nodes[name] = node
		}
	}
}

// forget drops what no longer counts for a node that is down.
func (m *memory) forget(name slurm.NodeName, state slurm.NodeState) {
	down := state.Has(slurm.FlagPoweringDown) || state.Has(slurm.FlagPoweredDown) && !isBusy(state) && !state.Has(slurm.FlagPowerUp)
	if down && !state.Has(slurm.FlagPoweringUp) {
		delete(m.resumes, name)
	}
}

// hooks merges the calls in the spool, oldest first: a resume call begins a
// generation of each node that it names, a later suspend call ends it. Names
// outside the allow-list are reported, and nothing else happens with them.
func (a *Agent) hooks(listing spool.Listing, now time.Time) {
	for _, corrupt := range listing.Corrupt {
		a.problems.add(codeCorrupt, corrupt.Name+": "+corrupt.Err.Error(), now)
	}
	for _, entry := range listing.Entries {
		names, err := slurm.ParseHostlist(entry.Record.Hostlist)
		if err != nil {
			a.problems.add(codeUnknownNode, string(entry.Record.Kind)+" call: "+err.Error(), now)
			continue
		}
		var unknown []slurm.NodeName
		for _, name := range names {
			if _, ours := a.owner[name]; !ours {
				unknown = append(unknown, name)
				continue
			}
			if entry.Record.Kind == spool.Resume {
				a.memory.resumes[name] = entry.ID()
			} else {
				delete(a.memory.resumes, name)
			}
		}
		if len(unknown) > 0 {
			a.problems.add(codeUnknownNode, string(entry.Record.Kind)+" call named nodes that the policy does not: "+slurm.FormatHostlist(unknown), now)
		}
	}
}

// causeOf gives the cause of a snapshot: a boot that Slurm waits for counts
// most.
func causeOf(listing spool.Listing, otherwise event.Cause) event.Cause {
	cause := otherwise
	for _, entry := range listing.Entries {
		switch entry.Record.Kind {
		case spool.Resume:
			return event.CauseResume
		case spool.ResumeFail:
			cause = event.CauseResumeFail
		case spool.Suspend:
			if cause != event.CauseResumeFail {
				cause = event.CauseSuspend
			}
		}
	}
	return cause
}
