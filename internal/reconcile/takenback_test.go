package reconcile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// showQueue makes eva's waiting jobs be shown with these partitions: some named,
// some only counted.
func (s *site) showQueue(unnamed int, partitions string, jobs ...event.JobID) {
	s.pending[0].Partitions = strings.Split(partitions, ",")
	s.pending[0].Jobs, s.pending[0].Count = jobs, len(jobs)+unnamed
	s.after(10 * time.Second)
	s.report()
}

// A long queue names some of its jobs only. What its owner took back while it was
// not named stays on-prem all the same, and its row tells why.
func TestAJobThatIsTakenBackWhileItIsNotNamedStaysAndItsRowTellsWhy(t *testing.T) {
	for name, unnamed := range map[string][]int{"at once": nil, "not named meanwhile": {50, 50, 50}} {
		t.Run(name, func(t *testing.T) {
			s := overflowing(t, nil)
			s.wait("eva", "100")
			s.showQueue(0, "batch", "100")
			s.answer()
			s.showQueue(0, "batch,htc", "100")
			released := "release_jobs[100] batch,htc; notice_jobs[100] released"
			s.want("commands", s.about(), released)
			for _, n := range unnamed {
				s.showQueue(n, "batch")
			}
			s.showQueue(0, "batch", "100")
			s.showQueue(0, "batch", "100")
			s.want("commands in the end", s.about(), released+"; notice_jobs[100] taken_back")
			row := s.jobs()["100"]
			s.want("row", fmt.Sprint(row.State, " ", row.ReasonCode, ": ", row.Reason), "revoked taken_back: its owner or an admin took it back from htc")
		})
	}
}

// A partition of the policy that Slurm does not have, on-prem or in the cloud, is
// among the failures once a day.
func TestAPartitionThatSlurmLacksIsAmongTheFailuresOnce(t *testing.T) {
	for gone, left := range map[string]string{"htc": "batch", "batch": "htc"} {
		s := overflowing(t, nil)
		s.partitions = []event.Partition{{Name: left, State: "UP"}}
		s.wait("eva", "100")
		for range 3 {
			s.after(time.Minute)
			s.report()
		}
		failures := slices.DeleteFunc(s.failures(), func(f ledger.Failure) bool { return f.Code != string(burst.ReasonPartitionMissing) })
		if len(failures) != 1 || failures[0].What != "policy" || !strings.Contains(failures[0].Detail, "partition "+gone+", which") {
			t.Errorf("without %s the failures tell %+v", gone, failures)
		}
	}
}
