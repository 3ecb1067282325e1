package demo

import (
	"strings"
	"testing"
)

// The closing sentence has the counts where a reader looks for them.
func TestASummaryIsASentence(t *testing.T) {
	for want, got := range map[string]string{
		"All 9 jobs are done, 2 of them moved to the cloud from the full on-prem partition. 10 nodes came and went; 0 nodes and 1 VMs are left.\n": Summary{
			JobsCompleted: 9, JobsReleased: 2, NodesTerminated: 10, VMsLeft: 1,
		}.String(),
		"All 11 jobs are done: 6 were released to the cloud (2 of them moved on from where there was no capacity), 3 were held with a reason. 1 nodes and 0 VMs are left.\n": OverflowSummary{
			Completed: 11, Released: 6, Moved: 2, Held: map[string]int{"budget_hard": 1, "shorter_than_boot": 2}, NodesLeft: 1,
		}.String(),
	} {
		if !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q first", got, want)
		}
	}
}
