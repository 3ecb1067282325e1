package burst

// move is what the pair (Slurm state, CycleCloud state) calls for.
type move int

const (
	// moveReport is the zero value on purpose: a pair that nobody thought of
	// is reported, never ignored.
	moveReport    move = iota
	moveRest           // as it should be
	moveLook           // CycleCloud has to be asked first
	moveWake           // wanted, ResumeProgram not called yet
	moveCreate         // wanted and absent
	moveBoot           // wanted, on its way
	moveBootFail       // wanted, and the VM came to nothing
	moveIdle           // up and idle: look at the idle deadline
	moveBusy           // up with jobs: never touched
	moveReserved       // up and kept for somebody
	moveAdmin          // drained by an admin: theirs
	moveSilent         // not responding: may run jobs
	moveMissing        // jobs on a node without a VM: Slurm will notice
	moveGone           // idle or down without a VM: Slurm should power it down
	moveDown           // down with a VM
	moveDrain          // Slurm powers it down when its jobs are done
	moveRelease        // powering down and present: terminate
	moveWaitGone       // on its way out of CycleCloud
	moveConfirm        // powering down and absent: tell Slurm
	moveReopen         // powered down and present: never terminate directly
	moveRepair         // powered down in a way that needs a repair
	moveUndefined      // Slurm does not know the name
)

// row gives the moves of one Slurm state for each CycleCloud state, in the
// order of Supply: unknown, absent, creating, booting, ready, failed, leaving,
// off.
type row [supplies]move

// moves is total: every pair has a move, and TestEveryPairHasARow holds it so.
var moves = [slurmStates]row{
	SlurmUnknown: {},
	Undefined:    {moveLook, moveUndefined, moveUndefined, moveUndefined, moveUndefined, moveUndefined, moveUndefined, moveUndefined},
	PoweredDown:  {moveLook, moveRest, moveWaitGone, moveReopen, moveReopen, moveReopen, moveWaitGone, moveReopen},
	Fenced:       {moveLook, moveRest, moveWaitGone, moveReopen, moveReopen, moveReopen, moveWaitGone, moveReopen},
	Drained:      {moveLook, moveAdmin, moveWaitGone, moveAdmin, moveAdmin, moveAdmin, moveWaitGone, moveAdmin},
	Waking:       {moveLook, moveWake, moveWake, moveWake, moveWake, moveWake, moveWaitGone, moveWake},
	PoweringUp:   {moveLook, moveCreate, moveBoot, moveBoot, moveBoot, moveBootFail, moveWaitGone, moveBootFail},
	Idle:         {moveLook, moveGone, moveIdle, moveIdle, moveIdle, moveIdle, moveGone, moveGone},
	Busy:         {moveLook, moveMissing, moveBusy, moveBusy, moveBusy, moveBusy, moveMissing, moveMissing},
	Reserved:     {moveLook, moveMissing, moveReserved, moveReserved, moveReserved, moveReserved, moveMissing, moveMissing},
	DrainedUp:    {moveLook, moveGone, moveAdmin, moveAdmin, moveAdmin, moveAdmin, moveGone, moveGone},
	Down:         {moveLook, moveGone, moveDown, moveDown, moveDown, moveDown, moveGone, moveGone},

	NotResponding:    {moveLook, moveMissing, moveSilent, moveSilent, moveSilent, moveSilent, moveMissing, moveMissing},
	PowerDownPending: {moveLook, moveDrain, moveDrain, moveDrain, moveDrain, moveDrain, moveDrain, moveDrain},
	PoweringDown:     {moveLook, moveConfirm, moveWaitGone, moveRelease, moveRelease, moveRelease, moveWaitGone, moveRelease},
	DownPoweredDown:  {moveRepair, moveRepair, moveWaitGone, moveRepair, moveRepair, moveRepair, moveRepair, moveRepair},
	StuckPoweredDown: {moveRepair, moveRepair, moveWaitGone, moveRepair, moveRepair, moveRepair, moveRepair, moveRepair},
	DownPoweringUp:   {moveLook, moveSilent, moveSilent, moveSilent, moveSilent, moveSilent, moveWaitGone, moveSilent},
}
