package reconcile

import (
	"testing"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/event"
)

func TestADrainIsAnAdminsOnlyWithAReasonOfTheirs(t *testing.T) {
	for _, test := range []struct {
		name, reason string
		flags        []string
		want         burst.SlurmState
	}{
		{"off, drained by us", event.FenceReason, []string{"DRAIN", "POWERED_DOWN"}, burst.Fenced},
		{"off, drained by an admin", "disk", []string{"DRAIN", "POWERED_DOWN"}, burst.Drained},
		{"up, drained by an admin", "disk", []string{"DRAIN"}, burst.DrainedUp},
		{"up, drained by us", event.FenceReason, []string{"DRAIN"}, burst.Idle},
		{"up, drained by us, and Slurm wiped the reason", "", []string{"DRAIN"}, burst.Idle},
		{"up, drained without a reason and kept for a job", "", []string{"DRAIN", "PLANNED"}, burst.Reserved},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := slurmState("IDLE", test.flags, test.reason); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
