package reconcile

import (
	"os"
	"strings"
	"testing"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
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

// CycleCloud reports family quota 0 for spot: the region's numbers count.
func TestASpotNodearrayHasTheRoomOfItsRegion(t *testing.T) {
	number := func(n int) *int { return &n }
	bucket := cyclecloud.Bucket{
		MachineType: "Standard_F4s_v2", Valid: true, AvailableCount: number(0), FamilyQuotaCores: number(0), MaxCount: number(20),
		RegionalQuotaCores: number(100), RegionalConsumedCores: number(60), VM: cyclecloud.VirtualMachine{VCPUs: 4, VCPUQuota: 4},
	}
	policy := burst.Policy{Nodearrays: []burst.Nodearray{{Name: "spot", MachineType: "standard_f4s_v2", Spot: true}}}
	for _, test := range []struct {
		name   string
		spot   bool
		change func(*cyclecloud.Bucket)
		want   burst.Availability
	}{
		{"spot", true, func(*cyclecloud.Bucket) {}, burst.Availability{Known: true, Count: 10, MaxCount: 20}},
		{"spot, with the region used up", true, func(b *cyclecloud.Bucket) { b.RegionalConsumedCores = number(99) }, burst.Availability{Known: true, MaxCount: 20}},
		{"spot, with a lower ceiling", true, func(b *cyclecloud.Bucket) { b.MaxCount = number(3) }, burst.Availability{Known: true, Count: 3, MaxCount: 3}},
		{"on demand without quota", false, func(*cyclecloud.Bucket) {}, burst.Availability{Known: true, MaxCount: 20}},
	} {
		b := bucket
		test.change(&b)
		status := cyclecloud.ClusterStatus{State: "Started", TargetState: "Started", NodeArrays: []cyclecloud.NodeArray{
			{Name: "spot", Spot: test.spot, Buckets: []cyclecloud.Bucket{b}},
		}}
		if got := availability(status, policy, "spot"); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

// A code that an admin meets in the tables stands on the page of reasons, also
// where no decision gives it.
func TestTheCodesOfThisPackageAreOnThePageOfReasons(t *testing.T) {
	page, err := os.ReadFile("../../docs/reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []string{reasonNotInPolicy, reasonPolicyRefused, reasonEpochReset} {
		if !strings.Contains(string(page), "| `"+code+"` |") {
			t.Errorf("docs/reasons.md does not explain %s", code)
		}
	}
}
