package reconcile

import (
	"slices"
	"strings"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
)

// slurmState reads Slurm's base state and flags. The base state is judged
// before the power flags: an ALLOCATED node that is POWERED_DOWN waits for the
// next tick of the power saving thread.
func slurmState(base string, flags []string, reason string) burst.SlurmState {
	has := func(flag string) bool { return slices.Contains(flags, flag) }
	busy := base == "ALLOCATED" || base == "MIXED" || has("COMPLETING")
	// Slurm lets nobody drain without a reason, and 22.05.8 wipes the reason of
	// a fence when a slurmd registers under the name: what is left is no admin's.
	byAdmin := reason != "" && !strings.HasPrefix(reason, event.FenceReason)
	switch {
	case has("POWERING_DOWN"):
		return burst.PoweringDown
	case has("POWERED_DOWN"):
		return poweredDown(base, busy, has, reason)
	case has("POWERING_UP") && base == "DOWN":
		return burst.DownPoweringUp
	case has("POWERING_UP"):
		return burst.PoweringUp
	case has("POWER_UP"):
		return burst.Waking
	case has("POWER_DOWN"):
		return burst.PowerDownPending
	case base == "DOWN":
		return burst.Down
	case has("NOT_RESPONDING"), base == "UNKNOWN":
		return burst.NotResponding
	case busy:
		return burst.Busy
	case base == "IDLE" && has("DRAIN") && byAdmin:
		return burst.DrainedUp
	case base == "IDLE" && (has("PLANNED") || has("RESERVED") || has("MAINT") || has("MAINTENANCE") || has("REBOOT_REQUESTED") || has("REBOOT_ISSUED")):
		return burst.Reserved
	case base == "IDLE" && !has("FAIL") && !has("INVALID_REG") && !has("INVAL"):
		return burst.Idle
	}
	return burst.SlurmUnknown
}

func poweredDown(base string, busy bool, has func(string) bool, reason string) burst.SlurmState {
	ours := strings.HasPrefix(reason, event.FenceReason)
	switch {
	case base == "DOWN":
		return burst.DownPoweredDown
	case busy, has("POWER_UP"):
		return burst.Waking
	case has("POWER_DOWN"):
		return burst.PowerDownPending
	case base != "IDLE":
		return burst.SlurmUnknown
	case has("DRAIN") && !ours:
		return burst.Drained
	case has("NOT_RESPONDING"):
		return burst.StuckPoweredDown
	case has("DRAIN"):
		return burst.Fenced
	}
	return burst.PoweredDown
}

// supplyOf reads what CycleCloud says about a node. Status is judged before
// TargetState, which may be missing; an unknown status is on its way.
func supplyOf(n cyclecloud.Node) burst.Supply {
	switch n.Status {
	case cyclecloud.StatusFailed, cyclecloud.StatusError, cyclecloud.StatusUnavailable:
		return burst.Failed
	case cyclecloud.StatusStopping, cyclecloud.StatusTerminating:
		return burst.Leaving
	case cyclecloud.StatusOff, cyclecloud.StatusDeallocated, cyclecloud.StatusTerminated:
		if n.TargetState == cyclecloud.StatusStarted {
			return burst.Booting
		}
		return burst.Off
	case cyclecloud.StatusReady, cyclecloud.StatusStarted, cyclecloud.StatusAcquiring, cyclecloud.StatusPreparing,
		cyclecloud.StatusUnknown:
	}
	switch n.TargetState {
	case cyclecloud.StatusTerminated, cyclecloud.StatusDeallocated, cyclecloud.StatusOff:
		return burst.Leaving
	case cyclecloud.StatusUnknown, cyclecloud.StatusAcquiring, cyclecloud.StatusPreparing, cyclecloud.StatusReady,
		cyclecloud.StatusStarted, cyclecloud.StatusStopping, cyclecloud.StatusTerminating, cyclecloud.StatusFailed,
		cyclecloud.StatusUnavailable, cyclecloud.StatusError:
	}
	if n.IsUp() {
		return burst.Ready
	}
	return burst.Booting
}

// expectations is what must still hold in Slurm when the agent carries out a
// command: the state that the decision rested on.
func expectations(kind burst.CommandKind) event.Expect {
	switch kind {
	case burst.FenceNodes:
		return event.Expect{States: []string{"IDLE"}, Flags: []string{"POWERED_DOWN"}, NotFlags: []string{"DRAIN", "POWER_UP", "POWERING_UP", "POWERING_DOWN"}}
	case burst.UnfenceNodes:
		return event.Expect{States: []string{"IDLE"}, Flags: []string{"POWERED_DOWN", "DRAIN"}, Reason: event.FenceReason}
	case burst.PowerDownASAP:
		return event.Expect{States: []string{"IDLE", "DOWN"}, NotFlags: []string{"COMPLETING", "PLANNED", "RESERVED", "MAINT", "POWERED_DOWN", "POWERING_DOWN", "POWERING_UP", "POWER_UP", "POWER_DOWN"}}
	case burst.AbortBoot:
		return event.Expect{Flags: []string{"POWERING_UP", "NOT_RESPONDING"}, RequeueableBatchOnly: true}
	case burst.PowerDown:
		return event.Expect{States: []string{"IDLE", "DOWN"}, Flags: []string{"POWERED_DOWN"}, NotFlags: []string{"POWER_UP", "POWERING_UP"}}
	case burst.PowerDownDone:
		return event.Expect{Flags: []string{"POWERING_DOWN"}}
	case burst.ReleaseJobs, burst.RevokeJobs, burst.BeginNow, burst.NoticeJobs:
		return event.Expect{Pending: true}
	case burst.GatePartition: // depends on where it goes
	}
	return event.Expect{}
}
