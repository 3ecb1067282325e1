package slurm

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// NodeAction is what UpdateNodes may ask for: a closed list, each with what
// 22.05.8 and 26.05.3 were measured to do.
type NodeAction string

const (
	// PowerUp boots a powered-down node (ResumeProgram).
	PowerUp NodeAction = "POWER_UP"
	// PowerDown powers down once the running jobs have ended; new ones are
	// not started. On a POWERED_DOWN node SuspendProgram runs once more,
	// and for SuspendTimeout Slurm ignores that node's registrations.
	PowerDown NodeAction = "POWER_DOWN"
	// PowerDownASAP drains first, then powers down. Never for a node that
	// is powered down already.
	PowerDownASAP NodeAction = "POWER_DOWN_ASAP"
	// PowerDownForce ends every job on the node at once. Only this one
	// aborts a boot.
	PowerDownForce NodeAction = "POWER_DOWN_FORCE"
	// Drain keeps jobs off the node; it survives reconfigure and restart.
	// It needs a reason.
	Drain NodeAction = "DRAIN"
	// Idle takes a Drain back, from a powered-down node, too.
	Idle NodeAction = "IDLE"
	// Resume ends POWERING_DOWN at once. On a POWERED_DOWN node it leaves
	// NOT_RESPONDING, and the next reconfigure takes the node out of
	// scheduling for ever: never send it there.
	Resume NodeAction = "RESUME"
)

func (a NodeAction) isKnown() bool {
	switch a {
	case PowerUp, PowerDown, PowerDownASAP, PowerDownForce, Drain, Idle, Resume:
		return true
	}
	return false
}

// Outcome is how scontrol took an update. It is information, not the result:
// 22.05 exits with 1 for lists that took effect partly or wholly, and 26.05
// fails at random. Whoever asked for the update reads back.
type Outcome struct {
	// Calls counts the runs of scontrol, repeats included.
	Calls int
	// ExitCode is the last exit status other than 0, if any.
	ExitCode int
	// Stderr is what scontrol complained about last, one line, at most 2 KB.
	Stderr string
}

const (
	// maxRepeats bounds the repeats of an update that 26.05 refused with
	// "Resource temporarily unavailable"; at most 9 were needed when
	// measured.
	maxRepeats    = 30
	repeatText    = "Resource temporarily unavailable"
	maxTextBytes  = 200
	maxListBytes  = 96 << 10 // Linux takes at most 128 KB in one argument
	maxJobsPerRun = 500
)

// UpdateNodes asks for the action on all nodes, in one scontrol call unless
// their hostlist is longer than a command line may be. reason is shown to
// users; it must be printable and at most 200 bytes, may be empty except for
// Drain, and stays on the node.
//
// The error is fault.Invalid for bad arguments (nothing was run), Transient
// when slurmctld did not answer, Denied when it refused the caller.
func (c *Client) UpdateNodes(ctx context.Context, nodes []NodeName, action NodeAction, reason string) (Outcome, error) {
	if !action.isKnown() {
		return Outcome{}, fault.Newf(fault.Invalid, "node action %s is not known", quoteBounded(string(action)))
	}
	if action == Drain && reason == "" {
		return Outcome{}, fault.Newf(fault.Invalid, "node action DRAIN needs a reason")
	}
	lists, err := hostlists(nodes)
	if err != nil {
		return Outcome{}, err
	}
	args := []string{"State=" + string(action)}
	if reason != "" {
		if err := validateText("reason", reason); err != nil {
			return Outcome{}, err
		}
		args = append(args, "Reason="+reason)
	}
	var outcome Outcome
	for _, list := range lists {
		if err := c.update(ctx, &outcome, append([]string{"NodeName=" + list}, args...)); err != nil {
			return outcome, err
		}
	}
	return outcome, nil
}

// SetNodeAddr sets NodeAddr, a host name or an IP address. Slurm resets it to
// the node's name at the next power-down.
func (c *Client) SetNodeAddr(ctx context.Context, node NodeName, address string) (Outcome, error) {
	if err := node.Validate(); err != nil {
		return Outcome{}, err
	}
	if _, err := netip.ParseAddr(address); err != nil || strings.Contains(address, "%") {
		if err := validateName("node address", address); err != nil {
			return Outcome{}, err
		}
	}
	var outcome Outcome
	err := c.update(ctx, &outcome, []string{"NodeName=" + string(node), "NodeAddr=" + address})
	return outcome, err
}

// SuspendExclusion adds nodes to SuspendExcNodes or removes them.
type SuspendExclusion string

const (
	// KeepFromSuspend adds nodes to SuspendExcNodes.
	KeepFromSuspend SuspendExclusion = "+="
	// AllowSuspend removes them.
	AllowSuspend SuspendExclusion = "-="
)

// ExcludeFromSuspend changes SuspendExcNodes of the running slurmctld; the
// change is lost at a reconfigure. scontrol before 23.02 refuses it (measured
// on 22.05.8: "No valid entity in update command").
func (c *Client) ExcludeFromSuspend(ctx context.Context, nodes []NodeName, exclusion SuspendExclusion) (Outcome, error) {
	if exclusion != KeepFromSuspend && exclusion != AllowSuspend {
		return Outcome{}, fault.Newf(fault.Invalid, "suspend exclusion %s is not known", quoteBounded(string(exclusion)))
	}
	lists, err := hostlists(nodes)
	if err != nil {
		return Outcome{}, err
	}
	var outcome Outcome
	for _, list := range lists {
		if err := c.update(ctx, &outcome, []string{"SuspendExcNodes" + string(exclusion) + list}); err != nil {
			return outcome, err
		}
	}
	return outcome, nil
}

// JobUpdate is what UpdateJobs may change. The zero value changes nothing and
// is refused.
type JobUpdate struct {
	// Partitions replaces the job's list; only a pending job takes it.
	Partitions []PartitionName
	// StartNow sets StartTime=now: lifts the wait of a requeued job.
	StartNow bool
	// AdminComment, where not empty, replaces the administrator's comment:
	// printable, at most 200 bytes.
	AdminComment string
}

// UpdateJobs makes the same change to all jobs. Updating some tasks splits each
// off its array's record; naming an array changes all of its tasks, running ones
// included. Errors are those of UpdateNodes.
func (c *Client) UpdateJobs(ctx context.Context, jobs []JobRef, change JobUpdate) (Outcome, error) {
	args, err := change.args()
	if err != nil {
		return Outcome{}, err
	}
	if len(jobs) == 0 {
		return Outcome{}, fault.Newf(fault.Invalid, "update of no jobs")
	}
	for _, job := range jobs {
		if job.Job == 0 {
			return Outcome{}, fault.Newf(fault.Invalid, "job id 0 names no job")
		}
	}
	var outcome Outcome
	for _, some := range batches(jobs) {
		// 26.05 fails for each job of a list by itself, so a repeat of the
		// whole list would never see all of them succeed at once.
		narrow := func(stderr string) []string {
			some = stillBusy(some, stderr)
			return append([]string{"JobId=" + jobList(some)}, args...)
		}
		if err := c.updateUntilTaken(ctx, &outcome, narrow(""), narrow); err != nil {
			return outcome, err
		}
	}
	return outcome, nil
}

// stillBusy gives the jobs that scontrol named as temporarily unavailable, or
// all of them where it named none that was asked for.
func stillBusy(jobs []JobRef, stderr string) []JobRef {
	named := map[string]bool{}
	for line := range strings.Lines(stderr) {
		if _, job, found := strings.Cut(line, repeatText+" for job "); found {
			named[strings.TrimSpace(job)] = true
		}
	}
	busy := slices.DeleteFunc(slices.Clone(jobs), func(job JobRef) bool { return !named[job.String()] })
	if len(busy) < len(named) || len(busy) == 0 {
		return jobs
	}
	return busy
}

func (u JobUpdate) args() ([]string, error) {
	var args []string
	if len(u.Partitions) > 0 {
		words := make([]string, len(u.Partitions))
		for i, partition := range u.Partitions {
			if err := partition.Validate(); err != nil {
				return nil, err
			}
			words[i] = string(partition)
		}
		args = append(args, "Partition="+strings.Join(words, ","))
	}
	if u.StartNow {
		args = append(args, "StartTime=now")
	}
	if u.AdminComment != "" {
		if err := validateText("admin comment", u.AdminComment); err != nil {
			return nil, err
		}
		args = append(args, "AdminComment="+u.AdminComment)
	}
	if len(args) == 0 {
		return nil, fault.Newf(fault.Invalid, "update of jobs that changes nothing")
	}
	return args, nil
}

// UpdatePartition opens or closes a partition. Closing stops new starts only,
// and is lost at a reconfigure and at a restart of slurmctld.
func (c *Client) UpdatePartition(ctx context.Context, partition PartitionName, state PartitionState) (Outcome, error) {
	if err := partition.Validate(); err != nil {
		return Outcome{}, err
	}
	if state != PartitionUp && state != PartitionDown {
		return Outcome{}, fault.Newf(fault.Invalid, "partition state %s is neither UP nor DOWN", quoteBounded(string(state)))
	}
	var outcome Outcome
	err := c.update(ctx, &outcome, []string{"PartitionName=" + string(partition), "State=" + string(state)})
	return outcome, err
}

// update runs "scontrol update", repeating it unchanged.
func (c *Client) update(ctx context.Context, outcome *Outcome, args []string) error {
	return c.updateUntilTaken(ctx, outcome, args, func(string) []string { return args })
}

// updateUntilTaken runs "scontrol update", at once again while slurmctld says
// that the resource is temporarily unavailable. narrow gives the arguments of
// the repeat from what scontrol complained about.
func (c *Client) updateUntilTaken(ctx context.Context, outcome *Outcome, args []string, narrow func(stderr string) []string) error {
	for range 1 + maxRepeats {
		outcome.Calls++
		exit, err := c.run(ctx, "scontrol", append([]string{"update"}, args...), func(stdout io.Reader) error {
			_, err := io.Copy(io.Discard, stdout)
			return err
		})
		if err != nil {
			return err
		}
		if exit.Code != 0 {
			outcome.ExitCode = exit.Code
			outcome.Stderr = oneLine(exit.Stderr)
		}
		if isUnreachable(exit.Stderr) {
			return fault.Newf(fault.Transient, "scontrol update: status %d: %s", exit.Code, oneLine(exit.Stderr))
		}
		if exit.Code != 0 && kindOfStderr(exit.Stderr) == fault.Denied {
			return fault.Newf(fault.Denied, "scontrol update: status %d: %s", exit.Code, oneLine(exit.Stderr))
		}
		if !strings.Contains(exit.Stderr, repeatText) {
			if exit.Code == 0 {
				outcome.ExitCode, outcome.Stderr = 0, ""
			}
			return nil
		}
		args = narrow(exit.Stderr)
	}
	return nil // the read-back tells what became of it
}

// hostlists writes the nodes as few hostlists as fit into one argument each.
func hostlists(nodes []NodeName) ([]string, error) {
	if len(nodes) == 0 {
		return nil, fault.Newf(fault.Invalid, "update of no nodes")
	}
	if len(nodes) > MaxHostlistNames {
		return nil, fault.Newf(fault.Invalid, "update of %d nodes is more than %d", len(nodes), MaxHostlistNames)
	}
	for _, node := range nodes {
		if err := node.Validate(); err != nil {
			return nil, err
		}
	}
	return splitHostlist(nodes), nil
}

func splitHostlist(nodes []NodeName) []string {
	list := FormatHostlist(nodes)
	if len(list) <= maxListBytes {
		return []string{list}
	}
	half := len(nodes) / 2 // one name is at most 255 bytes: there are many
	return append(splitHostlist(nodes[:half]), splitHostlist(nodes[half:])...)
}

// validateText refuses text that is not printable or too long: scontrol passes
// newlines on, and its own output could no longer be read line by line.
func validateText(what, text string) error {
	if len(text) > maxTextBytes {
		return fault.Newf(fault.Invalid, "%s of %d bytes is longer than %d", what, len(text), maxTextBytes)
	}
	if printable([]byte(text), maxTextBytes) != text {
		return fault.Newf(fault.Invalid, "%s %s is not printable", what, quoteBounded(text))
	}
	return nil
}
