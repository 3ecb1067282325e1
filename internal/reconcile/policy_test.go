package reconcile_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

func TestAVMThatThePolicyNoLongerNamesIsReported(t *testing.T) {
	s := running(t)
	p := &s.policy.Nodearrays[0]
	p.Nodes, p.MaxNodes = p.Nodes[1:], 2
	s.policy.Version = "v2"
	s.restart()
	s.after(30 * time.Second)
	s.sweep()
	s.sweep()
	row := s.row("htc-1")
	if diff := cmp.Diff([]string{"not_in_policy", "booting", "id-1"}, []string{row.ReasonCode, row.Supply, row.NodeID}); diff != "" {
		t.Error(diff)
	}
	s.want("failures that tell", s.failed("not_in_policy"), 1)
	s.want("VMs that are left alone", s.cloud.nodes["htc-1"].StatusText, "Preparing")
	delete(s.cloud.nodes, "htc-1")
	s.after(30 * time.Second)
	s.sweep()
	s.want("supply at the end", s.row("htc-1").Supply, "absent")
}

func TestPausingStartsNothingNewAndKillsNothing(t *testing.T) {
	s := running(t)
	p, err := s.ledger.Load(t.Context(), clusterName)
	if err != nil {
		t.Fatal(err)
	}
	p.Cluster.Paused, p.Cluster.NextDue = true, s.now
	if _, err := s.ledger.Commit(t.Context(), ledger.Commit{Cluster: p.Cluster}); err != nil {
		t.Fatal(err)
	}
	s.resume("htc-2", "r2", batch)
	s.after(time.Second)
	s.report()
	s.want("VMs", s.cloud.ids, 1)
	s.want("the running one", s.cloud.nodes["htc-1"].StatusText, "Preparing")
}

// A plan that does not fit one commit is carried out over several, each
// nodearray for itself.
func TestAPlanForManyNodearraysIsCarriedOutInParts(t *testing.T) {
	const arrays = 100
	s := newSite(t)
	s.policy.Nodearrays = nil
	q := s.pressure()
	q.CloudNodes = nil
	for i := range arrays {
		name := fmt.Sprintf("a%02d", i)
		s.policy.Nodearrays = append(s.policy.Nodearrays, burst.Nodearray{
			Name: burst.NodearrayName(name), Partition: name, Nodes: []burst.NodeName{burst.NodeName(name + "-1"), burst.NodeName(name + "-2")},
			MachineType: "Standard_F4s_v2", MaxNodes: 1, IdleTimeout: time.Minute, BootDeadline: 10 * time.Minute,
		})
		q.CloudNodes = append(q.CloudNodes, event.CloudNodes{Nodearray: name, Defined: 2, Usable: 2, PoweredDown: 2})
	}
	s.restart()
	s.send(q)
	s.want("fences of the first commit", len(s.outbox.commands), ledger.MaxIntents)
	s.follow()
	s.want("fences in the end", len(s.outbox.commands), arrays)

	for i := range q.CloudNodes {
		c := &q.CloudNodes[i]
		c.Groups = []event.NodeGroup{
			{State: "ALLOCATED", Flags: []string{"NOT_RESPONDING", "POWERING_UP"}, Nodes: c.Nodearray + "-1", Since: s.now},
			{State: "IDLE", Flags: []string{"DRAIN", "POWERED_DOWN"}, Nodes: c.Nodearray + "-2", Since: s.now, Reason: event.FenceReason},
		}
	}
	s.answer()
	q.CommandResults = s.results
	q.Sequence++
	s.send(q)
	s.want("VMs after the first commit", s.cloud.ids, ledger.MaxIntents)
	s.follow()
	s.want("VMs in the end", s.cloud.ids, arrays)
	s.want("open intents", len(s.intents()), 0)
	if row := s.row("a99-1"); row.Nodearray != "a99" || row.Supply != "booting" {
		t.Errorf("the row is %+v", row)
	}
}

func (s *site) send(q event.QueuePressure) {
	s.t.Helper()
	if _, err := s.rec.Pressure(s.t.Context(), q, s.now); err != nil {
		s.t.Fatal(err)
	}
}

// follow delivers the recheck that a pass asked for.
func (s *site) follow() {
	s.t.Helper()
	last := s.outbox.timers[len(s.outbox.timers)-1]
	s.want("the timer that follows", last.Purpose, event.Recheck)
	if _, err := s.rec.Timer(s.t.Context(), last); err != nil {
		s.t.Fatal(err)
	}
}
