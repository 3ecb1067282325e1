package burst

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Code is a stable reason code; admins search for it and tables keep it.
type Code string

// The closed list of reasons.
const (
	ReasonStale            Code = "stale_facts"
	ReasonNoSnapshot       Code = "no_snapshot"
	ReasonPaused           Code = "paused"
	ReasonWanted           Code = "slurm_wants_node"
	ReasonWaking           Code = "waking"
	ReasonBooting          Code = "booting"
	ReasonMaxNodes         Code = "limit_max_nodes"
	ReasonAvailable        Code = "limit_cyclecloud_available"
	ReasonClosed           Code = "nodearray_closed"
	ReasonCreateRefused    Code = "create_refused"
	ReasonBootDeadline     Code = "boot_deadline_passed"
	ReasonBootFailed       Code = "boot_failed"
	ReasonVanished         Code = "vm_vanished"
	ReasonVMMissing        Code = "vm_missing_under_jobs"
	ReasonOldGeneration    Code = "old_vm_under_name"
	ReasonOlderSnapshot    Code = "snapshot_older_than_create"
	ReasonIdle             Code = "idle"
	ReasonIdleDeadline     Code = "idle_deadline_passed"
	ReasonBusy             Code = "busy"
	ReasonReserved         Code = "reserved_by_slurm"
	ReasonDrainedByAdmin   Code = "drained_by_admin"
	ReasonDown             Code = "down"
	ReasonNotResponding    Code = "not_responding"
	ReasonPoweringDown     Code = "powering_down"
	ReasonTerminating      Code = "terminating"
	ReasonConfirmedAbsent  Code = "confirmed_absent"
	ReasonVMUnderOffName   Code = "vm_under_powered_down_name"
	ReasonRepair           Code = "repair_powered_down"
	ReasonFence            Code = "fence"
	ReasonUnfence          Code = "unfence"
	ReasonCooling          Code = "cooling_after_abort"
	ReasonCommandOpen      Code = "command_unanswered"
	ReasonRetryLater       Code = "retry_later"
	ReasonCycleCloudFailed Code = "cyclecloud_unavailable"
	ReasonAskCycleCloud    Code = "asking_cyclecloud"
	ReasonRequeued         Code = "requeued_by_abort"
	ReasonUndefined        Code = "undefined_in_slurm"
	ReasonUnknownState     Code = "unknown_state"
	ReasonBudgetHard       Code = "budget_hard"
	ReasonBudgetMedium     Code = "budget_medium"
	ReasonBudgetSoft       Code = "budget_soft"

	ReasonSlurmReason      Code = "slurm_reason"
	ReasonNotEvaluated     Code = "not_evaluated"
	ReasonLocalDown        Code = "local_nodes_down"
	ReasonNodeList         Code = "asks_for_nodes"
	ReasonRuleSaysNo       Code = "rule_says_no"
	ReasonRuleFailed       Code = "rule_failed"
	ReasonPartitionRefuses Code = "partition_refuses"
	ReasonPartitionMissing Code = "partition_missing"
	ReasonDoesNotFit       Code = "does_not_fit"
	ReasonPlacementGroup   Code = "limit_placement_group"
	ReasonWaiting          Code = "waiting_rule"
	ReasonReleasing        Code = "older_jobs_first"
	ReasonLocalStart       Code = "local_start_near"
	ReasonShort            Code = "shorter_than_boot"
	ReasonClusterNodes     Code = "limit_cluster_nodes"
	ReasonAccountNodes     Code = "limit_account_nodes"
	ReasonUserNodes        Code = "limit_user_nodes"
	ReasonStep             Code = "limit_step"
	ReasonCooldown         Code = "cooldown"
	ReasonWindow           Code = "outside_schedule"
	ReasonGate             Code = "gate"
	ReasonProbing          Code = "probing_after_failure"
	ReasonJobCost          Code = "limit_job_cost"
	ReasonInCloud          Code = "in_cloud_partition"
	ReasonReleased         Code = "released"
	ReasonMoved            Code = "moved_to_next"
	ReasonRevoked          Code = "revoked"
	ReasonTakenBack        Code = "taken_back"
	ReasonShadow           Code = "shadow_mode"
)

// Reason explains one line of a plan: a stable code, and a sentence with the
// numbers in it.
type Reason struct {
	Code Code
	Text string
}

// String gives code and sentence.
func (r Reason) String() string { return string(r.Code) + ": " + r.Text }

func because(code Code, format string, args ...any) Reason {
	return Reason{Code: code, Text: fmt.Sprintf(format, args...)}
}

// count prints a number of things: 1 job, 2 jobs.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// Spell writes a duration as people do, without the zeros in which Go's String
// ends: 15m, not 15m0s.
func Spell(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// seconds prints a duration as people say it: in whole seconds.
func seconds(d time.Duration) string { return Spell(d.Round(time.Second)) }
