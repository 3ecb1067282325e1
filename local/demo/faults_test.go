package demo

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lines are what a plan says.
func lines(steps []step) []string {
	var all []string
	for _, s := range steps {
		all = append(all, fmt.Sprintf("%s: %s, then %s", s.kind, s, s.pause))
	}
	return all
}

func TestEqualSeedsGiveEqualFaultsInTheSameOrder(t *testing.T) {
	first := lines(plan(7, false))
	if diff := cmp.Diff(first, lines(plan(7, false))); diff != "" {
		t.Errorf("two plans of one seed differ:\n%s", diff)
	}
	if cmp.Equal(first, lines(plan(8, false))) {
		t.Error("two seeds gave the same plan")
	}
}

func TestEveryPlanHasTwentyFaultsAndEveryKindOfThem(t *testing.T) {
	// What a chaos run promises to kill, to pause and to cut off.
	promised := []string{
		"handler", "functions host", "agent", "Azurite paused", "Azurite cut off", "CycleCloud cut off", "Service Bus cut off",
	}
	for seed := range int64(200) {
		for _, likeAzure := range []bool{false, true} {
			steps := plan(seed, likeAzure)
			times := map[string]int{}
			for _, s := range steps {
				times[s.kind]++
				if s.lasts < 0 || s.lasts > s.most || s.pause <= 0 {
					t.Errorf("seed %d: %s lasts %s of at most %s, then a pause of %s", seed, s.name, s.lasts, s.most, s.pause)
				}
			}
			if len(steps) < 20 {
				t.Errorf("seed %d: %d faults, want at least 20", seed, len(steps))
			}
			want := promised
			if likeAzure {
				want = append([]string{"identity cut off"}, promised...)
			}
			for _, kind := range want {
				if times[kind] < 2 {
					t.Errorf("seed %d: %d faults of kind %q, want at least 2", seed, times[kind], kind)
				}
			}
		}
	}
}
