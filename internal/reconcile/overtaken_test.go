package reconcile_test

import (
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// A create that failed on its way says which resumption it answers. Where Slurm
// has resumed the node anew meanwhile, a VM of the first one would be ignored by
// Slurm and thrown away.
func TestACreateForAnEarlierResumptionIsNotRepeated(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	s.only("create")
	s.report()
	s.want("open intents", len(s.intents()), 1)
	s.cloud.failing = nil
	s.resume("htc-1", "r2", batch)
	s.after(time.Minute)
	s.report()
	s.want("VMs", s.cloud.ids, 1)
	s.want("resumption that the VM answers", s.row("htc-1").ResumeID, "r2")
	s.after(time.Minute)
	s.report()
	s.want("terminates", s.called("terminate"), 0)
	s.want("open intents", len(s.intents()), 0)
}

// A terminate that could not be sent for five minutes rests on what CycleCloud
// said of the VM then. It is decided anew: the VM may have come up since.
func TestATerminateIsNotSentOnceItsFactsAreHistory(t *testing.T) {
	for waits, terminates := range map[time.Duration]int{4 * time.Minute: 1, 6 * time.Minute: 0} {
		s := quiet(t)
		s.resume("htc-1", "r1", event.BootJob{ID: "7"}) // srun: the boot cannot be aborted
		s.report()
		status := func(to cyclecloud.Status) {
			vm := s.cloud.nodes["htc-1"]
			vm.Status, vm.StatusText = to, to.String()
			s.cloud.nodes["htc-1"] = vm
		}
		status(cyclecloud.StatusFailed)
		s.only("terminate")
		s.after(70 * time.Second)
		s.report()
		s.want("open intents", len(s.intents()), 1)

		status(cyclecloud.StatusReady) // an admin had it tried again
		s.cloud.failing = nil
		calls := s.called("terminate")
		s.after(waits)
		s.report()
		s.want("terminates after "+waits.String(), s.called("terminate")-calls, terminates)
		s.want("open intents in the end", len(s.intents()), 0)
	}
}

// A fallen epoch is written down even if the snapshot says nothing else that is
// new: until then every snapshot of the new agent would count as old.
func TestAFallenEpochIsWrittenDownThoughNothingElseChanged(t *testing.T) {
	s := quiet(t)
	s.epoch = 5
	s.after(10 * time.Second)
	s.report()
	s.epoch, s.sequence = 2, 0
	s.after(4 * time.Minute)
	s.want("outcome", s.report().Outcome, reconcile.OutcomeDecided)
	s.want("alerts", s.failed("epoch_reset"), 1)
	s.after(10 * time.Second)
	s.want("outcome of the next", s.report().Outcome, reconcile.OutcomeNoted)
	s.want("alerts in the end", s.failed("epoch_reset"), 1)
}

// While the owner of an intent may be sending it, nobody else judges the node by
// CycleCloud's list, which may be older or newer, or has the same done.
func TestANodeOfWhichAnIntentIsOpenIsLeftToTheIntentsOwner(t *testing.T) {
	for name, begin := range map[string]func(*testing.T) *site{
		"create": func(t *testing.T) *site { s := quiet(t); s.resume("htc-1", "r1", batch); return s },
		"terminate": func(t *testing.T) *site {
			s := running(t)
			s.after(time.Minute)
			s.in("htc-1", "IDLE", "POWERING_DOWN")
			return s
		},
	} {
		for _, how := range []string{"a sweep", "a snapshot"} {
			t.Run(name+" and "+how, func(t *testing.T) {
				s := begin(t)
				stop := &slow{Ledger: s.ledger, Outbox: s.outbox, after: "commit", stand: func() { panic(crash{"front of the effect"}) }}
				owner, q, calls := s.process(stop, s.cloud, s.outbox), s.pressure(), s.called(name)
				if err := surviving(func() error { _, err := owner.Pressure(t.Context(), q, s.now); return err }, func() {}); err == nil {
					t.Fatal("the owner lives on")
				}
				commands := len(s.kinds())
				for range 2 {
					s.after(40 * time.Second)
					if s.report(); how == "a sweep" {
						s.sweep()
					}
				}
				s.want("calls while the claim lasts", s.called(name)-calls, 0)
				s.want("open intents", len(s.intents()), 1)
				s.want("commands", len(s.kinds()), commands)
				s.want("failures that tell of a lost VM", s.failed("vm_vanished"), 0)
				s.after(11 * time.Second)
				s.report()
				s.want("calls when it is over", s.called(name)-calls, 1)
				s.want("open intents in the end", len(s.intents()), 0)
			})
		}
	}
}

// The rows of a commit come after it, and maybe after the commit of somebody who
// saw its intent open. What that one knows of the rows is not exact, though nobody
// commits between its two looks.
func TestRowsThatComeAfterSomebodyElsesCommitAreSeenByItsNextLook(t *testing.T) {
	s := running(t)
	other := s.process(s.ledger, s.cloud, s.outbox)
	look := func() {
		t.Helper()
		s.after(10 * time.Second)
		if _, err := other.Pressure(t.Context(), s.pressure(), s.now); err != nil {
			t.Fatal(err)
		}
	}
	look()
	committed, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	owner := s.process(&slow{Ledger: s.ledger, Outbox: s.outbox, after: "commit", stand: func() { close(committed); <-goOn }}, s.cloud, s.outbox)
	s.after(10 * time.Second)
	s.resume("htc-2", "r2", batch)
	s.in("htc-1", "MIXED")
	first, now := s.pressure(), s.now
	go func() { _, err := owner.Pressure(t.Context(), first, now); ended <- err }()
	<-committed
	s.in("htc-1", "ALLOCATED") // as its row still says
	before := s.revision()
	look()
	s.want("revision of the other's commit", s.revision(), before+1)
	close(goOn)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s.want("what the owner's late row tells", s.row("htc-1").SlurmState, "MIXED")
	s.want("revision when it is written", s.revision(), before+1)
	look()
	s.want("what the row tells in the end", s.row("htc-1").SlurmState, "ALLOCATED")
	s.want("creates", s.called("create"), 2)
	s.want("what the row of the new node tells", s.row("htc-2").Supply+" "+s.row("htc-2").NodeID, "booting id-2")
	s.want("open intents", len(s.intents()), 0)
}
