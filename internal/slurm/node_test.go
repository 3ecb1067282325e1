package slurm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func nodeLine(n *Node) string {
	return fmt.Sprintf("%s %s parts=%v cpus=%+v mem=%d/%d features=%q gres=%q gpus=%d addr=%s reason=%q at=%s",
		n.Name, n.State, n.Partitions, n.CPUs, n.AllocatedMemoryMB, n.MemoryMB, n.Features, n.Gres, n.GPUs, n.Address, n.Reason, clock(n.ReasonTime))
}

func TestNodesOfBothVersionsAreReadAndMerged(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			columns := capturedColumns(nodeColumns, longFields(capture(t, version, "sinfo-N-O.format.txt")))
			nodes, dropped, err := parseNodes(bytes.NewReader(capture(t, version, "sinfo-N-O.txt")), newTableParser(columns), "\n")
			if err != nil || dropped != 0 {
				t.Fatalf("%d dropped, error %v", dropped, err)
			}
			if len(nodes) != 44 {
				t.Errorf("%d nodes, want the 44 of slurm.conf", len(nodes))
			}
			compareGolden(t, version, "sinfo-N-O", lines(nodes, nodeLine))
		})
	}
}

func TestUnknownNodeStatesAreKeptAsText(t *testing.T) {
	tests := []struct {
		name, text string
		want       NodeState
		ok         bool
	}{
		{"a plain state", "idle", NodeState{Base: NodeIdle}, true},
		{"the flags of a powered-down cloud node", "idle+cloud+powered_down", NodeState{Base: NodeIdle, Flags: []NodeFlag{FlagCloud, FlagPoweredDown}}, true},
		{"a flag of a later release", "mixed+cloud+hibernating2", NodeState{Base: NodeMixed, Flags: []NodeFlag{FlagCloud, "HIBERNATING2"}}, true},
		{"a base of a later release", "dreaming", NodeState{Base: "DREAMING"}, true},
		{"no state", "", NodeState{}, false},
		{"an empty flag", "idle+", NodeState{}, false},
		{"text that is no state", "idle cloud", NodeState{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parseNodeState(tt.text)
			if diff := cmp.Diff(tt.want, got); diff != "" || ok != tt.ok {
				t.Errorf("ok %v (-want +got):\n%s", ok, diff)
			}
			if ok && got.String() != strings.ToUpper(tt.text) {
				t.Errorf("printed as %q", got.String())
			}
		})
	}
}

func TestAReasonMayHoldAnything(t *testing.T) {
	const end = "\x1eMARK\n"
	row := func(name, reason string) string {
		return name + "\x1flocal*\x1fidle+drain\x1f0/0/4/4\x1f1000\x1f0\x1f(null)\x1f(null)\x1f127.0.0.1\x1f1795441409\x1f" + reason + end
	}
	parser := newTableParser(nodeColumns)
	parser.openEnd = true
	stream := row("n1", "bad\x1fdisk\nn9\x1flocal") + row("n2", strings.Repeat("é", 200)) + row("n3", "none")
	nodes, dropped, err := parseNodes(strings.NewReader(stream), parser, end)
	if err != nil || dropped != 0 || len(nodes) != 3 {
		t.Fatalf("%d nodes, %d dropped, error %v", len(nodes), dropped, err)
	}
	want := []string{"bad?disk?n9?local", strings.Repeat("é", 127), ""}
	for i, reason := range want {
		if nodes[i].Reason != reason {
			t.Errorf("reason %q, want %q", nodes[i].Reason, reason)
		}
	}
	if diff := cmp.Diff([]PartitionName{"local"}, nodes[0].Partitions); diff != "" {
		t.Error(diff)
	}
}
