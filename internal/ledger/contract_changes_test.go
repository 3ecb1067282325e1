package ledger_test

import (
	"fmt"
	"testing"

	"github.com/slurmburst/slurmburst/internal/ledger"
)

func nodesNamed(t *testing.T, w world) {
	var nodes []ledger.Node
	for n := range 40 {
		nodes = append(nodes, ledger.Node{Name: fmt.Sprintf("n%02d", n), Revision: int64(n)})
	}
	nodes = append(nodes, fullNode("full"))
	for _, name := range hostile {
		nodes = append(nodes, ledger.Node{Name: name})
	}
	mustPutNodes(t, w, "c1", nodes)
	mustPutNodes(t, w, "c2", []ledger.Node{{Name: "n01", Reason: "another cluster's"}, {Name: "elsewhere"}})
	names := []string{"n39", "missing", "elsewhere"}
	want := []ledger.Node{nodes[39]}
	for _, n := range nodes {
		names, want = append(names, n.Name), append(want, n)
	}
	for i := range want {
		want[i].Cluster = "c1"
	}
	got, err := w.NodesNamed(t.Context(), "c1", names)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the nodes by name", got, want)
	// What was read can be written, as what a query gave can.
	for i := range got[1:] {
		got[i+1].Reason = "again"
	}
	mustPutNodes(t, w, "c1", got[1:])
	none, err := w.NodesNamed(t.Context(), "c1", nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "no names", none, []ledger.Node(nil))
}

func changesWithCommit(t *testing.T, w world) {
	p := mustLoad(t, w, "c1")
	changes := p.Cluster.Begin()
	first := p.Cluster.Revision
	for n := range 3 {
		changes = changes.With(p.Cluster.Revision+1, []string{"shared", fmt.Sprintf("n%d", n)})
		mustCommit(t, w, ledger.Commit{Cluster: p.Cluster, Changes: &changes})
		p = mustLoad(t, w, "c1")
	}
	got, known := p.Changes.After(first+1, p.Cluster.Revision)
	same(t, "what the last two commits changed", got, map[string]int64{"shared": first + 3, "n1": first + 2, "n2": first + 3})
	if !known {
		t.Error("the history of a new cluster is not known")
	}
	if _, known := p.Changes.AfterWithCommands(first+1, p.Cluster.Revision); !known {
		t.Error("it is not known that a new cluster's commits announced commands")
	}
	// A writer that knows nothing of commands moves the rest of the history on.
	after, until := p.Changes.CommandsAfter, p.Changes.CommandsUntil
	changes = p.Changes.With(p.Cluster.Revision+1, []string{"n3"})
	changes.CommandsAfter, changes.CommandsUntil = after, until
	mustCommit(t, w, ledger.Commit{Cluster: p.Cluster, Changes: &changes})
	for range 2 { // and the next one does not make up for it
		p = mustLoad(t, w, "c1")
		if _, known := p.Changes.After(first+1, p.Cluster.Revision); !known {
			t.Error("the history ends where one knows nothing of commands")
		}
		if _, known := p.Changes.AfterWithCommands(first+1, p.Cluster.Revision); known {
			t.Error("a commit that announced no commands went unnoticed")
		}
		changes = p.Changes.With(p.Cluster.Revision+1, nil)
		mustCommit(t, w, ledger.Commit{Cluster: p.Cluster, Changes: &changes})
	}
	p = mustLoad(t, w, "c1")
	if _, known := p.Changes.AfterWithCommands(p.Cluster.Revision-2, p.Cluster.Revision); !known {
		t.Error("two commits that announced commands are not known to have")
	}
	// A writer that keeps no history leaves a gap, and the next begins anew.
	mustCommit(t, w, ledger.Commit{Cluster: p.Cluster})
	p = mustLoad(t, w, "c1")
	if _, known := p.Changes.After(first+1, p.Cluster.Revision); known {
		t.Error("a commit without a history went unnoticed")
	}
	changes = p.Changes.With(p.Cluster.Revision+1, nil)
	mustCommit(t, w, ledger.Commit{Cluster: p.Cluster, Changes: &changes})
	p = mustLoad(t, w, "c1")
	if _, known := p.Changes.After(p.Cluster.Revision-2, p.Cluster.Revision); known {
		t.Error("the gap was forgotten")
	}
	got, known = p.Changes.After(p.Cluster.Revision-1, p.Cluster.Revision)
	if !known || len(got) != 0 {
		t.Errorf("the commit after the gap: %v, known %v", got, known)
	}
}
