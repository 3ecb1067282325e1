package agent

import (
	"context"
	"strings"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// nodeRule is what one kind of command does to nodes. The rules hold whatever
// the command expects: the cloud may be wrong, or forged.
type nodeRule struct {
	// check refuses a command whose arguments make no sense.
	check func(c event.SlurmCommand, names []slurm.NodeName) error
	// fits tells whether the act is safe on a node in this state.
	fits func(n *slurm.Node, c event.SlurmCommand) bool
	// sparesJobs keeps the act from nodes with a job that it would end.
	sparesJobs bool
	act        func(ctx context.Context, t *term, c event.SlurmCommand, names []slurm.NodeName) (slurm.Outcome, error)
	// shows tells whether the node bears the mark of the act.
	shows func(n *slurm.Node, c event.SlurmCommand) bool
	// confirm, where the node does not tell, asks Slurm otherwise and gives
	// the nodes on which the act does not show.
	confirm func(ctx context.Context, t *term, c event.SlurmCommand, names []slurm.NodeName) ([]slurm.NodeName, error)
}

// nodeRules are the commands on nodes, with what 22.05.8 and 26.05.3 were
// measured to do.
var nodeRules = map[event.CommandKind]nodeRule{
	event.FenceNodes: {
		fits: func(n *slurm.Node, _ event.SlurmCommand) bool {
			return isOff(n.State) && n.State.Base == slurm.NodeIdle && (!n.State.Has(slurm.FlagDrain) || isFenced(n))
		},
		act:   update(slurm.Drain),
		shows: func(n *slurm.Node, _ event.SlurmCommand) bool { return n.State.Has(slurm.FlagDrain) },
	},
	event.UnfenceNodes: {
		// An admin's drain is not ours to lift. IDLE, never RESUME or UNDRAIN:
		// those leave NOT_RESPONDING on a powered-down node.
		fits: func(n *slurm.Node, _ event.SlurmCommand) bool {
			return n.State.Has(slurm.FlagPoweredDown) && isFenced(n)
		},
		act:   update(slurm.Idle),
		shows: func(n *slurm.Node, _ event.SlurmCommand) bool { return !n.State.Has(slurm.FlagDrain) },
	},
	event.PowerUp: {
		fits: func(n *slurm.Node, _ event.SlurmCommand) bool {
			return isOff(n.State) && n.State.Base == slurm.NodeIdle
		},
		act: update(slurm.PowerUp),
		shows: func(n *slurm.Node, _ event.SlurmCommand) bool {
			return n.State.Has(slurm.FlagPowerUp) || n.State.Has(slurm.FlagPoweringUp) || !n.State.Has(slurm.FlagPoweredDown)
		},
	},
	event.PowerDownASAP: {
		// On a powered-down node it would call SuspendProgram once more and
		// take the node away for SuspendTimeout.
		fits: func(n *slurm.Node, _ event.SlurmCommand) bool {
			return !n.State.Has(slurm.FlagPoweredDown) && !n.State.Has(slurm.FlagPoweringDown) && !n.State.Has(slurm.FlagPoweringUp)
		},
		act:   update(slurm.PowerDownASAP),
		shows: goesDown,
	},
	event.AbortBoot: {
		// A node that has registered may be about to run its jobs.
		fits: func(n *slurm.Node, _ event.SlurmCommand) bool {
			return n.State.Has(slurm.FlagPoweringUp) && n.State.Has(slurm.FlagNotResponding)
		},
		sparesJobs: true,
		act:        update(slurm.PowerDownForce),
		shows:      goesDown,
	},
	event.PowerDown: {
		fits: func(n *slurm.Node, _ event.SlurmCommand) bool {
			return isOff(n.State) && !n.State.Has(slurm.FlagPowerDown) && (n.State.Base == slurm.NodeIdle || n.State.Base == slurm.NodeDown)
		},
		act: update(slurm.PowerDown),
		shows: func(n *slurm.Node, _ event.SlurmCommand) bool {
			repaired := n.State.Has(slurm.FlagPoweredDown) && n.State.Base == slurm.NodeIdle && !n.State.Has(slurm.FlagNotResponding)
			return n.State.Has(slurm.FlagPowerDown) || n.State.Has(slurm.FlagPoweringDown) || repaired
		},
	},
	event.PowerDownDone: {
		fits:  func(n *slurm.Node, _ event.SlurmCommand) bool { return n.State.Has(slurm.FlagPoweringDown) },
		act:   update(slurm.Resume),
		shows: func(n *slurm.Node, _ event.SlurmCommand) bool { return !n.State.Has(slurm.FlagPoweringDown) },
	},
	event.SetNodeAddr: {
		check: func(_ event.SlurmCommand, names []slurm.NodeName) error {
			if len(names) != 1 {
				return fault.Newf(fault.Invalid, "set_node_addr names %d nodes, want 1", len(names))
			}
			return nil
		},
		fits: func(*slurm.Node, event.SlurmCommand) bool { return true },
		act: func(ctx context.Context, t *term, c event.SlurmCommand, names []slurm.NodeName) (slurm.Outcome, error) {
			return t.Slurm.SetNodeAddr(ctx, names[0], c.Value)
		},
		shows: func(n *slurm.Node, c event.SlurmCommand) bool { return n.Address == c.Value },
	},
	event.ExcludeFromSuspend: {
		check: func(c event.SlurmCommand, _ []slurm.NodeName) error {
			if c.Value != event.ExcludeKeep && c.Value != event.ExcludeAllow {
				return fault.Newf(fault.Invalid, "exclude_from_suspend: value %.40q is neither %s nor %s", c.Value, event.ExcludeKeep, event.ExcludeAllow)
			}
			return nil
		},
		fits: func(*slurm.Node, event.SlurmCommand) bool { return true },
		act: func(ctx context.Context, t *term, c event.SlurmCommand, names []slurm.NodeName) (slurm.Outcome, error) {
			if c.Value == event.ExcludeAllow {
				return t.Slurm.ExcludeFromSuspend(ctx, names, slurm.AllowSuspend)
			}
			return t.Slurm.ExcludeFromSuspend(ctx, names, slurm.KeepFromSuspend)
		},
		shows:   func(*slurm.Node, event.SlurmCommand) bool { return true },
		confirm: excludedWrongly,
	},
}

// isOff reports whether Slurm has powered the node down, means to leave it so,
// and has promised it to no job.
func isOff(state slurm.NodeState) bool {
	return state.Has(slurm.FlagPoweredDown) && !state.Has(slurm.FlagPowerUp) && !state.Has(slurm.FlagPoweringUp) &&
		!state.Has(slurm.FlagPoweringDown) && !isBusy(state)
}

func isFenced(n *slurm.Node) bool {
	return n.State.Has(slurm.FlagDrain) && strings.HasPrefix(n.Reason, event.FenceReason)
}

func goesDown(n *slurm.Node, _ event.SlurmCommand) bool {
	return n.State.Has(slurm.FlagPowerDown) || n.State.Has(slurm.FlagPoweringDown) || n.State.Has(slurm.FlagPoweredDown)
}

// update makes the act of a change of state.
func update(action slurm.NodeAction) func(context.Context, *term, event.SlurmCommand, []slurm.NodeName) (slurm.Outcome, error) {
	return func(ctx context.Context, t *term, c event.SlurmCommand, names []slurm.NodeName) (slurm.Outcome, error) {
		return t.Slurm.UpdateNodes(ctx, names, action, reasonOf(c))
	}
}

// reasonOf is the reason that the nodes are going to bear. That of a fence is
// how our drains are told from an admin's.
func reasonOf(c event.SlurmCommand) string {
	switch {
	case c.Kind == event.FenceNodes && !strings.HasPrefix(c.Reason, event.FenceReason):
		return event.FenceReason
	case c.Kind == event.UnfenceNodes || c.Kind == event.PowerDownDone:
		return "" // nothing to explain on a node that is free again
	case c.Reason == "":
		return "slurmburst: " + string(c.Kind)
	}
	return bounded(c.Reason, maxReasonBytes)
}

// excludedWrongly reads SuspendExcNodes back.
func excludedWrongly(ctx context.Context, t *term, c event.SlurmCommand, names []slurm.NodeName) ([]slurm.NodeName, error) {
	config, err := t.Slurm.Config(ctx)
	if err != nil {
		return names, err
	}
	listed := map[slurm.NodeName]bool{}
	for _, element := range config.SuspendExcNodes {
		element, _, _ = strings.Cut(element, ":") // a count may follow
		some, err := slurm.ParseHostlist(element)
		if err != nil {
			return names, err
		}
		for _, name := range some {
			listed[name] = true
		}
	}
	var wrong []slurm.NodeName
	for _, name := range names {
		if listed[name] != (c.Value == event.ExcludeKeep) {
			wrong = append(wrong, name)
		}
	}
	return wrong, nil
}
