package burst

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What a node is once an effect was noted on it.
func TestNotes(t *testing.T) {
	made, now := origin.Add(-time.Hour), origin
	old := Node{
		Name: "htc-1", Supply: Ready, NodeID: "id-1", Created: Generation{Position{1, 2}, "r1"}, CreatedAt: made,
		TerminatedAt: made.Add(time.Minute), DownAt: Position{1, 4}, FailedAt: made, AbortedAt: made,
	}
	with := func(change func(*Node)) Node {
		n := old
		change(&n)
		return n
	}
	forgotten := func(n *Node) {
		n.Supply, n.NodeID, n.Created, n.CreatedAt, n.TerminatedAt, n.DownAt = Absent, "", Generation{}, time.Time{}, time.Time{}, Position{}
	}
	for _, tt := range []struct {
		name       string
		note, want func(*Node)
	}{
		{
			"a create begins a generation, and what its predecessor did is history",
			func(n *Node) { n.Create(now, Generation{Position{2, 1}, "r2"}) },
			func(n *Node) {
				n.Supply, n.NodeID, n.Created, n.CreatedAt = Creating, "", Generation{Position{2, 1}, "r2"}, now
				n.TerminatedAt, n.DownAt = time.Time{}, Position{}
			},
		},
		{
			"a termination leaves the VM on its way out and its generation known",
			func(n *Node) { n.Terminate(now) },
			func(n *Node) { n.Supply, n.TerminatedAt = Leaving, now },
		},
		{
			"a command is open until it expires",
			func(n *Node) { n.Send(PowerDownASAP, now, now.Add(CommandTTL)) },
			func(n *Node) { n.Command = OpenCommand{PowerDownASAP, now.Add(90 * time.Second)} },
		},
		{
			"an abort is remembered beyond its answer",
			func(n *Node) { n.Send(AbortBoot, now, now.Add(CommandTTL)) },
			func(n *Node) { n.Command, n.AbortedAt = OpenCommand{AbortBoot, now.Add(CommandTTL)}, now },
		},
		{
			"an older abort does not shorten the rest of the name",
			func(n *Node) { n.Send(AbortBoot, made.Add(-time.Hour), made) },
			func(n *Node) { n.Command = OpenCommand{AbortBoot, made} },
		},
		{
			"a refused create leaves nothing under the name",
			func(n *Node) { n.Fail(now, ReasonCreateRefused) },
			func(n *Node) { forgotten(n); n.FailedAt, n.RefusedAt = now, now },
		},
		{
			"a VM that vanished leaves nothing under the name",
			func(n *Node) { n.Supply = Absent; n.Fail(now, ReasonVanished) },
			func(n *Node) { forgotten(n); n.FailedAt, n.RefusedAt = now, now },
		},
		{
			"a VM that CycleCloud still lists is not forgotten",
			func(n *Node) { n.Supply = Leaving; n.Fail(now, ReasonVanished) },
			func(n *Node) { n.Supply, n.FailedAt = Leaving, now },
		},
		{
			"any other failure is only noted",
			func(n *Node) { n.Fail(now, ReasonBootFailed) },
			func(n *Node) { n.FailedAt = now },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(with(tt.want), with(tt.note)); diff != "" {
				t.Errorf("node (-want +got):\n%s", diff)
			}
		})
	}
}
