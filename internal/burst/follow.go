package burst

import "time"

// move carries out what the table says about one node.
func (a *arrayDecision) move(n *Node) {
	switch moves[n.Slurm][n.Supply] {
	case moveRest:
	case moveLook:
		a.look(n)
	case moveWake:
		a.hold(n.Name, because(ReasonWaking, "Slurm has allocated the node and not called ResumeProgram yet"))
	case moveCreate:
		a.wantAbsent(n)
	case moveBoot:
		a.boot(n)
	case moveBootFail:
		a.bootFailed(n)
	case moveIdle:
		a.idle(n)
	case moveDown:
		a.down(n)
	case moveGone:
		a.gone(n)
	case moveMissing:
		a.missing(n)
	case moveRelease:
		a.release(n)
	case moveWaitGone:
		a.waitGone(n)
	case moveConfirm:
		a.confirm(n)
	case moveReopen:
		a.reopen(n)
	case moveRepair:
		a.repair(n)
	case moveBusy, moveReserved, moveAdmin, moveSilent, moveDrain, moveUndefined, moveReport:
		a.leave(n)
	}
}

// leave says why a node is left alone.
func (a *arrayDecision) leave(n *Node) {
	switch moves[n.Slurm][n.Supply] {
	case moveBusy:
		a.hold(n.Name, because(ReasonBusy, "jobs run on the node"))
	case moveReserved:
		a.hold(n.Name, because(ReasonReserved, "Slurm keeps the idle node for a planned job or a reservation"))
	case moveAdmin:
		a.hold(n.Name, because(ReasonDrainedByAdmin, "an admin drained the node"))
		if n.Slurm == Drained && n.Supply.present() {
			a.failOnce(n, because(ReasonVMUnderOffName, "a VM exists under a name that Slurm has powered down and an admin drained"))
		}
	case moveSilent:
		a.hold(n.Name, because(ReasonNotResponding, "the node does not respond and may run jobs"))
	case moveDrain:
		a.hold(n.Name, because(ReasonPoweringDown, "Slurm powers the node down when its jobs are done"))
	case moveUndefined:
		a.hold(n.Name, because(ReasonUndefined, "slurmctld does not know the node"))
		if n.Supply.present() {
			a.failOnce(n, because(ReasonUndefined, "CycleCloud has a VM under a name that slurmctld does not know"))
		}
	case moveReport, moveRest, moveLook, moveWake, moveCreate, moveBoot, moveBootFail, moveIdle, moveMissing, moveGone,
		moveDown, moveRelease, moveWaitGone, moveConfirm, moveReopen, moveRepair:
		if n.Slurm == SlurmUnknown && n.Since.IsZero() && !n.Supply.present() {
			// The agent's policy may be older than ours; no VM is at stake.
			a.hold(n.Name, because(ReasonUnknownState, "the snapshot says nothing about the node"))
			return
		}
		why := because(ReasonUnknownState, "no rule for Slurm %s with CycleCloud %s", n.Slurm, n.Supply)
		a.hold(n.Name, why)
		a.failOnce(n, why)
	}
}

// wantAbsent judges a node that Slurm powers up and CycleCloud lacks.
func (a *arrayDecision) wantAbsent(n *Node) {
	if n.vanished() && n.SeenAt.Before(n.CreatedAt.Add(listLag)) {
		if a.reached(Retry, n.CreatedAt.Add(listLag)) {
			a.look(n)
			return
		}
		a.hold(n.Name, because(ReasonBooting, "CycleCloud accepted the node and does not list it yet"))
		return
	}
	if n.vanished() {
		why := because(ReasonVanished, "the VM of the node disappeared while it booted")
		a.fail(n, why)
		a.trip(a.now, why)
		a.abortOr(n, why)
		return
	}
	if n.RefusedAt.After(n.Since.Add(-clockGrain)) {
		why := because(ReasonCreateRefused, "CycleCloud did not give the node")
		reopens := n.RefusedAt.Add(closeAfterRefusal)
		a.trip(n.RefusedAt, why)
		if !a.reached(Retry, reopens) {
			a.abortOr(n, why)
			return
		}
	}
	a.candidates = append(a.candidates, n)
}

// boot watches a node on its way up.
func (a *arrayDecision) boot(n *Node) {
	if n.oldGeneration() && n.Supply != Creating {
		a.replace(n)
		return
	}
	overdue := !n.CreatedAt.IsZero() && a.reached(BootDeadline, n.CreatedAt.Add(a.policy.BootDeadline)) && n.Supply != Creating
	switch {
	case overdue && a.abortable(n):
		a.overdue(n, a.abort)
	case a.reached(Retry, latest(n.CreatedAt, n.SeenAt).Add(bootLook)):
		a.look(n)
	case overdue:
		a.overdue(n, a.abortOr)
	default:
		a.hold(n.Name, because(ReasonBooting, "the VM is on its way"))
	}
}

// replace terminates the VM of an earlier resume call, so that the name can be
// created anew: Slurm ignores a slurmd that booted before the call.
func (a *arrayDecision) replace(n *Node) {
	if !a.terminating(n, retryEffect) {
		a.terminate(n, because(ReasonOldGeneration, "the VM was created for an earlier resume of the name and Slurm ignores it"))
	}
}

// overdue gives up a node that did not join in time, where that kills nobody's
// job. Otherwise it is left to Slurm's ResumeTimeout: its slurmd may have
// registered since the snapshot, and then a job runs on the VM.
func (a *arrayDecision) overdue(n *Node, give func(*Node, Reason)) {
	why := because(ReasonBootDeadline, "the node did not join within %s", seconds(a.policy.BootDeadline))
	if !n.failedSince(n.CreatedAt) {
		a.fail(n, why)
	}
	give(n, why)
}

// bootFailed gives up a node whose VM came to nothing, where that kills
// nobody's job, and otherwise replaces the VM: Slurm waits until ResumeTimeout.
// Either way the nodearray rests, so that a cause that hits every VM does not
// wear out one name after the other.
func (a *arrayDecision) bootFailed(n *Node) {
	if n.oldGeneration() {
		a.replace(n)
		return
	}
	why := because(ReasonBootFailed, "CycleCloud says that the node is %s", n.Supply)
	switch {
	case a.abortable(n):
		a.fail(n, why)
		a.trip(a.now, why)
		a.abort(n, why)
	case n.Command.Kind == AbortBoot && a.blocked(n), a.terminating(n, retryEffect):
	case n.NodeID == "":
		a.look(n)
	default:
		a.fail(n, why)
		a.trip(a.now, why)
		a.terminate(n, why)
	}
}

// abortOr aborts the boot where that is allowed and otherwise holds.
func (a *arrayDecision) abortOr(n *Node, why Reason) {
	switch {
	case a.abortable(n):
		a.abort(n, why)
	case n.Command.Kind == AbortBoot && a.blocked(n):
	case a.decision.facts.Paused:
		a.hold(n.Name, because(ReasonPaused, "%s; an admin paused bursting", why.Text))
	default:
		a.hold(n.Name, because(ReasonRetryLater, "%s; an abort now could kill a job or repeat itself", why.Text))
	}
}

// abortAfter is abortOr for what may pass by itself: nodes that are needed
// together wait for it before their boots are aborted, all at once.
func (a *arrayDecision) abortAfter(group []*Node, patience time.Duration, why Reason) {
	first := group[0].Since
	for _, n := range group {
		if n.Since.Before(first) {
			first = n.Since
		}
	}
	waited := a.reached(Retry, first.Add(patience))
	for _, n := range group {
		if waited {
			a.abortOr(n, why)
		} else {
			a.hold(n.Name, why)
		}
	}
}

// abortable reports whether the boot may be aborted: no job that waits for the
// node would be lost, and the name was not aborted just before.
func (a *arrayDecision) abortable(n *Node) bool {
	for _, job := range n.Jobs {
		if !job.Requeueable {
			return false
		}
	}
	if a.decision.facts.Paused {
		return false
	}
	if a.open(n) {
		return false
	}
	return n.AbortedAt.IsZero() || a.reached(Retry, n.AbortedAt.Add(abortRest))
}

func (a *arrayDecision) abort(n *Node, why Reason) {
	a.command(AbortBoot, n.Name, why)
	if why.Code == ReasonAccountNodes || why.Code == ReasonUserNodes {
		return // the fence cannot keep the owner's next try away, Slurm's two minutes slow it
	}
	for _, job := range n.Jobs {
		a.begin = append(a.begin, job.ID)
	}
}

// release terminates the VM of a node that Slurm is powering down.
func (a *arrayDecision) release(n *Node) {
	if !a.decision.facts.Snapshot.After(n.Created.Position) {
		a.hold(n.Name, because(ReasonOlderSnapshot, "the VM was created on this very snapshot; a newer one has to confirm"))
		return
	}
	// A node that CycleCloud keeps, for example one with KeepAlive, is asked for
	// ever less often.
	rest := min(max(n.TerminatedAt.Sub(n.Since)/2, retryEffect), retryEffectMax)
	if a.terminating(n, rest) {
		return
	}
	a.terminate(n, because(ReasonPoweringDown, "Slurm powers the node down"))
}

// terminating reports whether a termination was asked for just now and has to
// show before it is asked for again.
func (a *arrayDecision) terminating(n *Node, rest time.Duration) bool {
	if n.TerminatedAt.IsZero() || a.reached(Retry, n.TerminatedAt.Add(rest)) {
		return false
	}
	a.hold(n.Name, because(ReasonTerminating, "the termination was asked for and has to show"))
	return true
}

// waitGone looks again, ever less often, until CycleCloud has let go.
func (a *arrayDecision) waitGone(n *Node) {
	began := n.TerminatedAt
	if began.IsZero() {
		began = n.SeenAt
	}
	if n.Supply == Leaving && !n.TerminatedAt.IsZero() && !n.failedSince(began) && a.reached(Retry, began.Add(removalLimit)) {
		a.fail(n, because(ReasonTerminating, "CycleCloud has been removing the node for %s and its VM may still bill", seconds(removalLimit)))
	}
	wait := min(max(n.SeenAt.Sub(began)/2, goneLookFirst), goneLookLast)
	if a.reached(Retry, latest(began, n.SeenAt).Add(wait)) {
		a.look(n)
		return
	}
	a.hold(n.Name, because(ReasonTerminating, "CycleCloud is still removing the node"))
}

// confirm tells Slurm that the VM is gone, so that the name is free before
// SuspendTimeout.
func (a *arrayDecision) confirm(n *Node) {
	if n.SeenAt.Before(n.Since.Add(-clockGrain)) {
		a.look(n)
		return
	}
	if a.blocked(n) {
		return
	}
	if a.cooling(n) {
		// Slurm could allocate the name again before its fence stands, most of all
		// to the very job that the abort has requeued.
		a.hold(n.Name, because(ReasonCooling, "the name rests for %s after an aborted boot", seconds(AbortCooldown)))
		return
	}
	a.command(PowerDownDone, n.Name, because(ReasonConfirmedAbsent, "CycleCloud no longer lists the node"))
}

// reopen handles a VM under a powered-down name. Its slurmd may register at any
// moment and make the node schedulable, so it is never terminated directly:
// power_down opens the window in which registrations are ignored.
func (a *arrayDecision) reopen(n *Node) {
	if !a.decision.facts.Snapshot.After(n.Created.Position) {
		a.hold(n.Name, because(ReasonOlderSnapshot, "the VM was created on this very snapshot; a newer one has to confirm"))
		return
	}
	if a.blocked(n) {
		return
	}
	why := because(ReasonVMUnderOffName, "a VM exists under a name that Slurm has powered down")
	a.failOnce(n, why)
	a.command(PowerDown, n.Name, why)
}

// repair powers down a name that Slurm will not use again by itself.
func (a *arrayDecision) repair(n *Node) {
	if a.blocked(n) {
		return
	}
	why := because(ReasonRepair, "Slurm left the node %s, which only power_down repairs", n.Slurm)
	a.failOnce(n, why)
	a.command(PowerDown, n.Name, why)
}

// idle powers a node down when it idled long enough.
func (a *arrayDecision) idle(n *Node) {
	if !a.reached(IdleDeadline, n.Since.Add(a.policy.IdleTimeout)) {
		if !a.open(n) {
			a.free++
		}
		a.hold(n.Name, because(ReasonIdle, "the node may idle for %s", seconds(a.policy.IdleTimeout)))
		return
	}
	if a.blocked(n) {
		return
	}
	if b := a.stepDown(); b.blocks() {
		a.free++
		a.hold(n.Name, b.reason())
		return
	}
	a.command(PowerDownASAP, n.Name, because(ReasonIdleDeadline, "the node idled for %s", seconds(a.policy.IdleTimeout)))
}

// down gives a node that is DOWN as long as an idle one to come back.
func (a *arrayDecision) down(n *Node) {
	if !a.reached(IdleDeadline, n.Since.Add(a.policy.IdleTimeout)) {
		a.hold(n.Name, because(ReasonDown, "the node is DOWN and may come back within %s", seconds(a.policy.IdleTimeout)))
		return
	}
	if !a.blocked(n) {
		a.command(PowerDownASAP, n.Name, because(ReasonDown, "the node was DOWN for %s", seconds(a.policy.IdleTimeout)))
	}
}

// gone powers a node down in Slurm whose VM no longer exists.
func (a *arrayDecision) gone(n *Node) {
	if n.SeenAt.Before(n.Since.Add(-clockGrain)) {
		a.look(n)
		return
	}
	if a.blocked(n) {
		return
	}
	why := because(ReasonVanished, "CycleCloud no longer has the VM of the node, and no job runs on it")
	a.failOnce(n, why)
	a.command(PowerDownASAP, n.Name, why)
}

// missing reports jobs on a node whose VM is gone; Slurm will notice and
// requeue them, and nobody else may.
func (a *arrayDecision) missing(n *Node) {
	if n.SeenAt.Before(n.Since.Add(-clockGrain)) {
		a.look(n)
		return
	}
	why := because(ReasonVMMissing, "CycleCloud no longer has the VM of the node, and Slurm still counts on it")
	a.hold(n.Name, why)
	a.failOnce(n, why)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
