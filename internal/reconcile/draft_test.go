package reconcile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// passOver is a pass that is about to draft a plan for nodes of these names.
func passOver(names ...burst.NodeName) *pass {
	p := &pass{
		Reconciler: New(Options{Owner: "test", Now: time.Now}), name: "onprem",
		index: map[burst.NodeName]int{}, rows: map[string]ledger.Node{},
	}
	for i, name := range names {
		p.index[name] = i
		p.facts.Nodes = append(p.facts.Nodes, burst.Node{Name: name, ResumeID: "r1"})
	}
	return p
}

// Intents are carried out in their order: the fence has to stand before a name
// is given up, and what is terminated makes room for what is created.
func TestIntentsAreDraftedCommandsFirstCreatesLast(t *testing.T) {
	d, err := passOver("htc-1", "htc-2", "htc-3").draft(time.Now(), burst.Plan{
		Creates:    []burst.Create{{Nodearray: "htc", Nodes: []burst.NodeName{"htc-1"}}},
		Terminates: []burst.Terminate{{Nodearray: "htc", Targets: []burst.Target{{Node: "htc-2", NodeID: "id-2"}}}},
		Commands:   []burst.Command{{Kind: burst.FenceNodes, Nodearray: "htc", Nodes: []burst.NodeName{"htc-3"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, i := range d.intents {
		kinds = append(kinds, i.Kind)
	}
	if want := []string{kindCommand, kindTerminate, kindCreate}; !slices.Equal(kinds, want) || d.full {
		t.Errorf("drafted %v, full %v; want %v", kinds, d.full, want)
	}
}

// A commit is one transaction of 4 MiB, and beside the intents the snapshot has
// to fit. Where they would be too large the rest waits for the next commit, and
// so does what is small enough and comes later.
func TestIntentsThatWouldNotFitTheTransactionWaitAndNothingOvertakesThem(t *testing.T) {
	var names []burst.NodeName
	for i := range 80 * maxTargets {
		names = append(names, burst.NodeName(fmt.Sprintf("%s-%d", strings.Repeat("n", 240), i)))
	}
	p := passOver(append(names, "small-1")...)
	d, err := p.draft(time.Now(), burst.Plan{Creates: []burst.Create{
		{Nodearray: "large", Nodes: names, MachineType: "Standard_F4s_v2"},
		{Nodearray: "small", Nodes: []burst.NodeName{"small-1"}, MachineType: "Standard_F4s_v2"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, i := range d.intents {
		if i.Nodearray == "small" {
			t.Error("a later intent overtook one that did not fit")
		}
		targets, err := json.Marshal(i.Targets)
		if err != nil {
			t.Fatal(err)
		}
		size += len(i.Body) + len(targets) + len(i.Detail)
	}
	if !d.full || size > maxDraft || size < maxDraft*3/4 {
		t.Errorf("%d intents of %d bytes, full %v; at most %d bytes may be drafted", len(d.intents), size, d.full, maxDraft)
	}
}

// Whoever remembers rows reads those again that a commit announced. A row that it
// did not announce would be missed, so it waits for a commit that does.
func TestARowThatItsCommitDidNotAnnounceIsNotWritten(t *testing.T) {
	store := ledger.NewMemory()
	p := passOver("htc-1", "htc-2")
	p.Ledger, p.part.Cluster.Revision = store, 7
	p.config.Policy.Nodearrays = []burst.Nodearray{{Name: "htc", Nodes: []burst.NodeName{"htc-1", "htc-2"}}}
	for i := range p.facts.Nodes {
		n := &p.facts.Nodes[i]
		n.Nodearray, n.Slurm, n.Supply = "htc", burst.Busy, burst.Ready
	}
	p.announced = map[string]bool{"htc-2": true}
	if err := p.projectNodes(t.Context(), time.Now(), nil); err != nil {
		t.Fatal(err)
	}
	rows, err := store.Nodes(t.Context(), "onprem")
	if err != nil || len(rows) != 1 || rows[0].Name != "htc-2" {
		t.Errorf("rows %+v, %v; want that of htc-2 alone", rows, err)
	}
}
