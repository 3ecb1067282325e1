//go:build crashpoints

package reconcile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// lifeOfARelease is a job from its queue on-prem to its end in the cloud. come
// hears of every crash point that a pass comes by; a pass that dies is followed
// by another process, which gets the message again.
func lifeOfARelease(t *testing.T, come func(number int)) *site {
	t.Helper()
	reconcile.OnCrashPoint = nil
	s := overflowing(t, nil)
	reconcile.OnCrashPoint = come
	t.Cleanup(func() { reconcile.OnCrashPoint = nil })
	tell := func() {
		s.t.Helper()
		q := s.pressure()
		for range 3 { // a claim lasts 90 seconds, and the message comes again after it
			err := surviving(func() error { _, err := s.rec.Pressure(t.Context(), q, s.now); return err }, s.restart)
			if err == nil {
				return
			}
			s.after(100 * time.Second)
			q.AgeAtSendMS = 0
			q.Sequence = s.sequence + 1
			s.sequence++
			q.TakenAt = s.now
		}
		t.Fatal("no process gets through")
	}
	answered := func() {
		s.answer()
		s.after(2 * time.Second)
		tell()
	}
	s.wait("eva", "100")
	s.after(time.Second)
	tell()
	answered()
	s.pending = nil
	s.resume("htc-1", "r1", event.BootJob{ID: "100", Batch: true, Requeue: true})
	s.running = []event.RunningJob{{ID: "100", User: "eva", Account: "bio", Partition: "htc", State: "CONFIGURING", Nodes: "htc-1", TimeLimitSeconds: 3600}}
	answered()
	s.in("htc-1", "ALLOCATED")
	s.after(time.Minute)
	s.running[0].State, s.running[0].Start = "RUNNING", s.now
	started := s.now
	answered()
	s.now = started.Add(30 * time.Minute)
	s.running, s.ended = nil, []event.EndedJob{{ID: "100", State: "COMPLETED", Nodes: "htc-1", End: s.now}}
	s.in("htc-1", "IDLE")
	answered()
	s.ended = nil
	answered()
	answered()
	return s
}

// Wherever a process dies while a job is released, runs and ends, the job is
// released, paid for once, and shown as it was.
func TestCrashPointsOfARelease(t *testing.T) {
	hits := map[int]int{}
	lifeOfARelease(t, func(number int) { hits[number]++ })
	for _, p := range crashPoints(t) {
		for hit := range hits[p.number] {
			left := hit
			s := lifeOfARelease(t, func(number int) {
				if number != p.number {
					return
				}
				if left--; left == -1 {
					panic(crash{p.name})
				}
			})
			s.want("releases", strings.Count(s.about(), "release_jobs[100] batch,htc") > 0, true)
			s.want("row", s.jobs()["100"].State, "ended")
			var accrued, committed int64
			for _, x := range s.spend() {
				accrued, committed = accrued+x.Accrued, committed+x.Committed
			}
			s.want("accrued", accrued, 1_000_000)
			s.want("committed", committed, 0)
			s.want("open intents", len(s.intents()), 0)
			if t.Failed() {
				t.Fatalf("killed at hit %d of %s", hit+1, p.name)
			}
		}
	}
}
