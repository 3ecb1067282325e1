package burst

import "slices"

// Explanation is what an admin should know about a reason.
type Explanation struct {
	Code Code
	// Says is what the sentence tells; its numbers differ from case to case.
	Says string
	// Do is what an admin can do about it.
	Do string
}

// Explanations gives one explanation per reason of the closed list, in the
// order of a node's life. docs/reasons.md is made from it.
func Explanations() []Explanation { return slices.Clone(explanations) }

var explanations = []Explanation{
	{
		ReasonNoSnapshot, "No snapshot of Slurm has arrived yet, so nothing is done.",
		"Start burst-agent on the Slurm head node and check that it reaches Service Bus.",
	},
	{
		ReasonStale, "The newest snapshot of Slurm is too old to act on. Nothing is created, terminated or commanded until a newer one arrives.",
		"Look at burst-agent's log: the agent, slurmctld or the way to Service Bus is down. Running jobs go on.",
	},
	{
		ReasonPaused, "An admin paused bursting: nothing new starts, powered-down nodes are fenced, and nodes that are up leave as usual.",
		"`burstctl resume` ends the pause.",
	},

	{
		ReasonWaking, "Slurm has allocated the node and not called ResumeProgram yet.",
		"Nothing, for a few seconds. If it lasts, ResumeRate holds the node back, or slurmctld's power saving is off.",
	},
	{ReasonWanted, "Slurm powers the node up and CycleCloud lacks it, so it is created.", "Nothing."},
	{ReasonBooting, "The VM is on its way.", "Nothing until the boot deadline."},
	{ReasonAskCycleCloud, "CycleCloud has to be asked before anything can be decided about the node.", "Nothing: it is asked at once."},
	{
		ReasonCycleCloudFailed, "CycleCloud did not answer. Nothing that needs its word is done; it is asked again within seconds.",
		"Check that CycleCloud runs, that the app reaches it and that its credentials and certificate are right.",
	},

	{
		ReasonMaxNodes, "The nodearray has as many nodes as the policy allows. A job that Slurm had placed there before the fence stood waits, or is requeued where that is safe.",
		"Raise maxNodes in the policy, or wait.",
	},
	{
		ReasonAvailable, "CycleCloud's availableCount is below what Slurm wants: its own limits, a quota or a shortage in Azure.",
		"Compare the nodearray's limits in CycleCloud and the subscription's quota with maxNodes in the policy.",
	},
	{
		ReasonClosed, "The nodearray rests after a refused, lost or failed node. It opens by itself.",
		"See the failure that closed it in the table of failures.",
	},
	{
		ReasonCreateRefused, "CycleCloud did not give the node that it was asked for.",
		"Read the failure's detail: it is CycleCloud's own text, most often quota or capacity.",
	},

	{
		ReasonBootFailed, "CycleCloud says that the node failed or is off. Its boot is aborted where that kills no job, and otherwise its VM is replaced.",
		"Read the node's status message in CycleCloud: the allocation or the installation failed.",
	},
	{
		ReasonBootDeadline, "The VM did not join Slurm within the boot deadline. Its boot is aborted where that kills no job; otherwise Slurm's ResumeTimeout decides.",
		"Log in to such a VM: look for slurmd, munge, DNS and the network to slurmctld. Raise bootDeadline if boots are only slow.",
	},
	{
		ReasonVanished, "CycleCloud no longer has the VM of the node, though nobody asked for its end.",
		"Look for a spot eviction, a failed allocation or a deletion by hand in CycleCloud's event log.",
	},
	{ReasonRequeued, "The abort of a boot requeued jobs, and Slurm made them wait two minutes; that wait is lifted.", "Nothing."},
	{
		ReasonRetryLater, "The node cannot be had now, and an abort now could kill a job that waits for it (srun, salloc, --no-requeue) or would repeat one just made. It is tried again until Slurm's ResumeTimeout.",
		"Nothing, or cancel the job if it need not wait.",
	},
	{ReasonCooling, "A boot of the node name was aborted just before, so the name rests.", "Nothing: other names are used."},
	{
		ReasonOldGeneration, "The VM under the name was created for an earlier resume, and Slurm ignores its slurmd. It is terminated, then the node is created anew.",
		"Nothing. If it is frequent, raise SuspendTimeout above the time that a VM takes to go.",
	},

	{ReasonBusy, "Jobs run on the node; it is never touched.", "Nothing."},
	{
		ReasonReserved, "The node is idle, and Slurm keeps it for a planned job, a reservation or maintenance.",
		"End the reservation if it is not meant: the VM bills.",
	},
	{ReasonIdle, "The node is idle and may be so for the policy's idleTimeout.", "Lower idleTimeout if the next job is rarely near."},
	{ReasonIdleDeadline, "The node idled for idleTimeout, so Slurm is told to power it down.", "Nothing."},
	{
		ReasonDrainedByAdmin, "An admin drained the node; it is theirs. Its VM bills until it is powered down or given back.",
		"`scontrol update nodename=… state=power_down_asap`, or `state=resume` on a node that is up.",
	},
	{
		ReasonDown, "The node is DOWN in Slurm. It may come back within idleTimeout, then it is powered down.",
		"See Slurm's reason for the node with `sinfo -R`.",
	},
	{
		ReasonNotResponding, "The node does not respond and may run jobs. It is left alone until Slurm gives it up (SlurmdTimeout, ResumeTimeout).",
		"Check the network between slurmctld and the node.",
	},
	{
		ReasonVMMissing, "CycleCloud no longer has the VM of a node on which Slurm counts. Slurm notices by itself and requeues what can be.",
		"Look for a spot eviction or a deletion by hand in CycleCloud's event log.",
	},

	{ReasonPoweringDown, "Slurm powers the node down: once its jobs are done the VM is terminated.", "Nothing."},
	{
		ReasonOlderSnapshot, "The snapshot is no newer than the create of the VM, or a job left its nodes while it was taken; a newer one has to confirm.",
		"Nothing: the next snapshot decides.",
	},
	{
		ReasonTerminating, "The VM's termination is under way. As a failure: it has been for half an hour.",
		"See the node in CycleCloud. A node with KeepAlive is not terminated until that is cleared.",
	},
	{ReasonConfirmedAbsent, "The VM is gone from CycleCloud, so Slurm may use the name again.", "Nothing."},
	{
		ReasonVMUnderOffName, "A VM exists under a name that Slurm has powered down. Slurm is told to power the name down again, so that no job starts on the VM while it is terminated.",
		"If it recurs for one node, clear KeepAlive there or look for what starts it.",
	},
	{
		ReasonRepair, "Slurm left the node in a state that only power_down repairs: it missed ResumeTimeout, or it would be lost at the next reconfigure.",
		"See why the node did not boot, in the failures and in slurmctld's log.",
	},

	{
		ReasonFence, "No more nodes may be had now, so the other powered-down names are drained with our reason and jobs wait in the queue.",
		"Nothing. Do not resume fenced nodes by hand: `state=resume` on a powered-down node breaks it in Slurm 22.05.",
	},
	{ReasonUnfence, "There is room again, so fenced names are given back.", "Nothing."},
	{
		ReasonCommandOpen, "Slurm has not answered a command about the node yet, or about others that are fenced to make room for it; nothing else is asked for until then.",
		"If it lasts, look at burst-agent's log.",
	},
	{ReasonUndefined, "The policy names a node that slurmctld does not know.", "Define it in slurm.conf with State=CLOUD, or take it out of the policy."},
	{
		ReasonUnknownState, "Slurm reports a combination of state and flags for which there is no rule, or says nothing about the node. It is left alone.",
		"Report the state and flags of `scontrol show node` as a defect; until then look after the node by hand.",
	},

	{
		ReasonBudgetHard, "The job would commit more than a budget's hard limit leaves in this hour, day or month. Jobs that run are not touched.",
		"Wait for the next period, raise the budget in the policy, or shorten the job's time limit: what it commits is settled by what it really runs.",
	},
	{
		ReasonBudgetMedium, "A budget is above its medium limit, where only jobs below a cost are let go, and the job costs more.",
		"Wait for the next period, raise the budget's limit or mediumJobCost in the policy, or shorten the job's time limit.",
	},
	{
		ReasonBudgetSoft, "A budget's soft limit was passed in this period. Nothing is held for it.",
		"Look at the spend of the period with `burstctl`; the medium and the hard limit are next.",
	},
	{ReasonSlurmReason, "Slurm holds the job for a reason that more nodes do not cure: a dependency, a hold, a licence, a limit.", "See Slurm's own reason with `squeue`."},
	{ReasonNotEvaluated, "Slurm has not looked at the job yet.", "Nothing, for a few seconds."},
	{
		ReasonLocalDown, "The nodes that the job could use on-prem are down, drained or reserved. They have to come back; more nodes are not what it lacks.",
		"`sinfo -R` shows why they are out of service.",
	},
	{ReasonNodeList, "The job asks for nodes by name, so no other node can take it.", "Submit it without --nodelist if any node will do."},
	{
		ReasonRuleSaysNo, "No overflow rule of the policy lets the job go: the expression under `when` says no, or names no nodearray.",
		"Look at the rule for the job's partition in the policy.",
	},
	{ReasonRuleFailed, "The rule's expression could not be judged for the job, or cost more than it may. That counts as no.", "Simplify the expression under `when`, or look for a division by zero in it."},
	{
		ReasonPartitionMissing, "The policy names a partition that Slurm does not have: it was renamed or removed there. Jobs that were released to it are judged anew, and the first look of each day that misses it is among the failures.",
		"Give the partition its name in the policy, or in slurm.conf.",
	},
	{
		ReasonPartitionRefuses, "The cloud's partition would not start the job: its State, MaxTime, MaxNodes, AllowAccounts, AllowQos or AllowGroups. Slurm would accept the release and then hide why the job waits on-prem.",
		"Change the partition in slurm.conf if such jobs are welcome there.",
	},
	{ReasonDoesNotFit, "A node of the nodearray is too small for the job, or lacks a feature that it asks for.", "Name a nodearray of larger machines in the rule."},
	{ReasonPlacementGroup, "The job needs more nodes than fit into one placement group.", "Nothing, or a nodearray without a placement group."},
	{
		ReasonWaiting, "The waiting rule of the policy does not let the job go yet.",
		"Nothing. Lower kappa, wait or drain in the rule if such jobs should go sooner.",
	},
	{ReasonReleasing, "Alike jobs that wait longer go first; when each was submitted is known for the oldest only.", "Nothing: the next snapshot decides."},
	{ReasonLocalStart, "Slurm expects to start the job on-prem sooner than a node in the cloud would boot.", "Nothing."},
	{ReasonShort, "The job is expected to be over sooner than the boot that it would cost, and no idle node in the cloud can take it.", "Nothing."},
	{ReasonClusterNodes, "The cluster has as many nodes in the cloud as the policy allows in all, or jobs that wait for another nodearray need those that are left.", "Raise maxNodes at the top of the policy, or wait."},
	{ReasonAccountNodes, "The account has as many nodes in the cloud as the policy allows it.", "Raise the account's maxNodes in the policy, or wait."},
	{ReasonUserNodes, "The user has as many nodes in the cloud as the policy allows one.", "Raise the user's maxNodes in the policy, or wait."},
	{ReasonStep, "The nodearray grows or shrinks by the policy's step at most, within each interval.", "Nothing. Raise stepUp or stepDown to go faster."},
	{ReasonCooldown, "The nodearray has just changed in the other direction, and the policy's cooldown keeps it from swinging.", "Nothing."},
	{ReasonWindow, "The nodearray's schedule is closed at this hour.", "Nothing, or change its schedule in the policy."},
	{ReasonGate, "The policy closes or opens the gate of the nodearray: behind a closed one Slurm starts nothing new, and what runs goes on.", "Set the nodearray's gate in the policy."},
	{ReasonProbing, "The nodearray failed before and has rested; until a node of it joins, one job at a time tries it.", "Nothing."},
	{ReasonJobCost, "The job would cost more in the nodearray than the rule allows: its nodes times its time limit times the price.", "Ask for less time, or raise maxJobCost in the rule."},
	{ReasonInCloud, "The job's own list of partitions names the cloud: its owner put it there, so limits and budgets judge it, no waiting rule.", "Nothing."},
	{ReasonReleased, "The job may use the nodearray, beside its own partition: Slurm starts it where it can first.", "Nothing."},
	{ReasonMoved, "The nodearray that the job was released to failed, and the next in rank takes it.", "Nothing."},
	{ReasonRevoked, "The job was taken back from a nodearray that can no longer take it.", "Nothing: it is judged anew."},
	{
		ReasonTakenBack, "The job was released, and its owner or an admin took the cloud's partition off its list. It is not released again while it waits; of an array, no task is if all that were released were taken back.",
		"Nothing. `scontrol update JobId=… Partition=…` with the cloud's partition puts it there again.",
	},
	{ReasonShadow, "The policy is in shadow mode: what would be done is recorded, and nothing is.", "`mode: active` in the policy."},
}
