package ledger_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

func decisions(t *testing.T, w world) {
	ctx := t.Context()
	now := time.Now().UTC().Truncate(time.Microsecond)
	var want []ledger.Decision
	for n := range 25 {
		want = append(want, ledger.Decision{
			Cluster: "c1", ID: fmt.Sprintf("d/%02d", n), At: now.Add(-time.Duration(n) * 7 * time.Hour), Trigger: []string{"queue_pressure", "scale_down"}[n%2],
			Revision: int64(n), PolicyVersion: "v1", Actions: `[{"kind":"create"}]`, Holds: `["a"]`, Reasons: `["b"]`, RequestIDs: []string{"x", "y"},
		})
	}
	for _, n := range []int{7, 3, 24, 0, 12} {
		want[n].Facts = noise(10_000*n, n)
	}
	want[12].Facts = noise(w.long, 12)
	for n := range want {
		if err := w.AppendDecision(ctx, "c1", want[(n*7)%25]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.AppendDecision(ctx, "c1", want[12]); err != nil {
		t.Errorf("a repeat: %v", err)
	}
	if err := w.AppendDecision(ctx, "c10", want[0]); err != nil {
		t.Fatal(err)
	}
	for _, id := range []int{0, 3, 12, 24} {
		got, found, err := w.FindDecision(ctx, "c1", want[id].ID)
		if err != nil || !found {
			t.Fatal(found, err)
		}
		same(t, "decision "+want[id].ID, got, want[id])
	}
	if _, found, err := w.FindDecision(ctx, "c1", "no' or true"); found || err != nil {
		t.Errorf("found %v, %v", found, err)
	}
	for n := range want {
		want[n].Facts = nil
	}
	for _, top := range []int{1, 4, 1000} {
		var got []ledger.Decision
		for wanted := (ledger.Page{Top: top}); ; {
			page, next, err := w.ListDecisions(ctx, ledger.DecisionFilter{Cluster: "c1"}, wanted)
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, page...); next == "" {
				break
			}
			wanted.Token = next
		}
		same(t, fmt.Sprintf("the decisions by %d", top), got, want)
	}
	f := ledger.DecisionFilter{Cluster: "c1", Trigger: "scale_down", Since: now.Add(-40 * time.Hour), Until: now.Add(-7 * time.Hour)}
	got, _, err := w.ListDecisions(ctx, f, ledger.Page{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the filtered decisions", got, []ledger.Decision{want[3], want[5]})
	if _, _, err := w.ListDecisions(ctx, ledger.DecisionFilter{}, ledger.Page{}); fault.Of(err) != fault.Invalid {
		t.Errorf("without a cluster: got %v, want a refusal", err)
	}
}

func failures(t *testing.T, w world) {
	ctx := t.Context()
	var want []ledger.Failure
	for n := range 120 {
		want = append(want, ledger.Failure{
			Cluster: "c1", At: moment(-n), Node: fmt.Sprintf("htc/%d", n), Nodearray: "htc", Source: "cyclecloud",
			What: "create nodes", Code: []string{"SkuNotAvailable", "Quota"}[n%2], Detail: "no <capacity>", RequestID: "r",
		})
	}
	for range 2 {
		if err := w.AppendFailures(ctx, "c1", want); err != nil {
			t.Fatal(err)
		}
	}
	got, next, err := w.ListFailures(ctx, ledger.FailureFilter{Cluster: "c1"}, ledger.Page{Top: 500})
	if err != nil || next != "" {
		t.Fatal(next, err)
	}
	same(t, "the failures", got, want)
	got, _, err = w.ListFailures(ctx, ledger.FailureFilter{Cluster: "c1", Code: "Quota", Since: moment(-5), Until: moment(-1)}, ledger.Page{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the filtered failures", got, []ledger.Failure{want[3], want[5]})

	together := []ledger.Failure{
		{Cluster: "c2", At: moment(0), Source: "agent", What: "read slurm", Code: "unknown_node", Detail: "local-1"},
		{Cluster: "c2", At: moment(0), Source: "agent", What: "read slurm", Code: "unknown_node", Detail: "nosuch-[1-3]"},
	}
	for range 2 {
		if err := w.AppendFailures(ctx, "c2", together); err != nil {
			t.Fatal(err)
		}
	}
	if got, _, err = w.ListFailures(ctx, ledger.FailureFilter{Cluster: "c2"}, ledger.Page{}); err != nil || len(got) != len(together) {
		t.Errorf("of %d failures of one moment %d are listed, %v", len(together), len(got), err)
	}
}

func policies(t *testing.T, w world) {
	ctx := t.Context()
	if _, found, err := w.CurrentPolicy(ctx, "c1"); found || err != nil {
		t.Fatal(found, err)
	}
	// Azurite 3.37.0 decodes a request piece by piece and breaks characters of
	// several bytes at the seams, so the long text is ASCII.
	long := ledger.Policy{Cluster: "c1", Version: "v1", Text: strings.Repeat("x: <y> & \"z\"\n", 12_000), Author: "eva", AppliedAt: moment(0)}
	next := ledger.Policy{Cluster: "c1", Version: "v2", Text: "# ü🙂\nb: 1\n", Author: "bob", AppliedAt: moment(1)}
	for _, p := range []ledger.Policy{long, next, long} {
		if err := w.ApplyPolicy(ctx, "c1", p); err != nil {
			t.Fatal(err)
		}
		p.Current = true
		got, found, err := w.CurrentPolicy(ctx, "c1")
		if err != nil || !found {
			t.Fatal(found, err)
		}
		same(t, "the policy in force", got, p)
	}
	listed, _, err := w.ListPolicies(ctx, ledger.PolicyFilter{Cluster: "c1", Author: "bob"}, ledger.Page{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "bob's policies", listed, []ledger.Policy{next})
	next.Text = "changed"
	if err := w.ApplyPolicy(ctx, "c1", next); fault.Of(err) != fault.Invalid {
		t.Errorf("a version with another text: got %v, want a refusal", err)
	}
}

func clusterList(t *testing.T, w world) {
	ctx := t.Context()
	for _, name := range []string{"b", "a/1", "c"} {
		beat := ledger.Heartbeat{AgentHost: "head-" + name}
		mustCommit(t, w, ledger.Commit{Cluster: mustLoad(t, w, name).Cluster, Heartbeat: &beat, NewIntents: []ledger.Intent{fullIntent("1/1")}})
	}
	if err := w.NoteHeartbeat(ctx, "silent", ledger.Heartbeat{}); err != nil {
		t.Fatal(err)
	}
	clusters, err := w.Clusters(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range clusters {
		names = append(names, c.Cluster)
	}
	same(t, "the clusters", names, []string{"a/1", "b", "c"})
	names = nil
	for wanted := (ledger.Page{Top: 2}); ; {
		got, next, err := w.ListClusters(ctx, wanted)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range got {
			names = append(names, c.Heartbeat.AgentHost)
		}
		if next == "" {
			break
		}
		wanted.Token = next
	}
	same(t, "the agents' hosts", names, []string{"head-a/1", "head-b", "head-c"})
}

func purge(t *testing.T, w world) {
	ctx := t.Context()
	now := time.Now().UTC()
	old, limit := now.AddDate(0, 0, -10), now.AddDate(0, 0, -5)
	for n, at := range []time.Time{old, old.AddDate(0, 0, 1), now} {
		if err := w.AppendDecision(ctx, "c1", ledger.Decision{ID: fmt.Sprint(n), At: at, Facts: noise(100, n)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.AppendFailures(ctx, "c1", []ledger.Failure{{At: old}, {At: now}}); err != nil {
		t.Fatal(err)
	}
	commands := []ledger.Command{{ID: "1", SentAt: old, State: ledger.CommandOK}, {ID: "2", SentAt: old, State: ledger.CommandSent}, {ID: "3", SentAt: now, State: ledger.CommandOK}}
	if _, _, err := w.PutCommands(ctx, "c1", commands); err != nil {
		t.Fatal(err)
	}
	jobs := []ledger.Job{
		{ID: "1", State: "ended", UpdatedAt: old},
		{ID: "2", State: "ended", UpdatedAt: now},
		{ID: "3", State: "running", UpdatedAt: old},
		{ID: "4", Group: true, State: "held", UpdatedAt: old},
		{ID: "5", State: "revoked", UpdatedAt: old},
	}
	if _, _, err := w.PutJobs(ctx, "c1", jobs); err != nil {
		t.Fatal(err)
	}
	removed, err := w.Purge(ctx, "c1", limit)
	if err != nil {
		t.Fatal(err)
	}
	if want := 4 + 1 + 1 + 2; removed != want {
		t.Errorf("%d rows were removed, want %d", removed, want)
	}
	if again, err := w.Purge(ctx, "c1", limit); again != 0 || err != nil {
		t.Errorf("the second purge removed %d, %v", again, err)
	}
	left, _, err := w.ListDecisions(ctx, ledger.DecisionFilter{Cluster: "c1"}, ledger.Page{})
	if err != nil || len(left) != 1 || left[0].ID != "2" {
		t.Errorf("decisions left: %v, %v", left, err)
	}
	open, err := w.Commands(ctx, "c1", "")
	if err != nil || len(open) != 2 {
		t.Errorf("%d commands left, %v", len(open), err)
	}
	kept, err := w.Jobs(ctx, "c1")
	if err != nil || len(kept) != 3 {
		t.Errorf("jobs left: %+v, %v", kept, err)
	}
}

// purgeMuch has more commands than one call deletes, of a day whose decisions
// are the sign that they are there.
func purgeMuch(t *testing.T, w world) {
	const many = 1250
	ctx := t.Context()
	now := time.Now().UTC()
	old, limit := now.AddDate(0, 0, -10), now.AddDate(0, 0, -5)
	var commands []ledger.Command
	for n := range many {
		commands = append(commands, ledger.Command{ID: fmt.Sprintf("1/%04d", n), SentAt: old, State: ledger.CommandOK})
	}
	if _, _, err := w.PutCommands(ctx, "c1", commands); err != nil {
		t.Fatal(err)
	}
	if err := w.AppendDecision(ctx, "c1", ledger.Decision{ID: "1", At: old}); err != nil {
		t.Fatal(err)
	}
	for call, want := range []int{1000, many - 1000 + 1, 0} {
		if removed, err := w.Purge(ctx, "c1", limit); removed != want || err != nil {
			t.Errorf("call %d removed %d, want %d: %v", call+1, removed, want, err)
		}
	}
	if left, err := w.Commands(ctx, "c1", ""); err != nil || len(left) != 0 {
		t.Errorf("%d commands left, %v", len(left), err)
	}
}

func enforced(t *testing.T, w world) {
	ctx := t.Context()
	mustCommit(t, w, ledger.Commit{Cluster: mustLoad(t, w, "c1").Cluster})
	first := ledger.Policy{Cluster: "c1", Version: "v/1", Text: "a: 1\n", Author: "eva", AppliedAt: moment(0)}
	second := ledger.Policy{Cluster: "c1", Version: "v/2", Text: "a: 2\n", Author: "bob", AppliedAt: moment(1)}
	for _, p := range []ledger.Policy{first, second, second, first} {
		before := mustLoad(t, w, "c1").Cluster
		if err := w.EnforcePolicy(ctx, "c1", p); err != nil {
			t.Fatal(err)
		}
		after := mustLoad(t, w, "c1").Cluster
		moved := before.PolicyInForce != p.Version
		if after.PolicyInForce != p.Version || (after.Revision > before.Revision) != moved || moved && after.NextDue.IsZero() {
			t.Errorf("the cluster after %s: %+v", p.Version, after)
		}
		p.Current = true
		got, found, err := w.FindPolicy(ctx, "c1", p.Version)
		if err != nil || !found {
			t.Fatal(found, err)
		}
		same(t, "the stored version", got, p)
	}
	if _, found, err := w.FindPolicy(ctx, "c1", "v/3"); found || err != nil {
		t.Errorf("a version that nobody stored: %t, %v", found, err)
	}
	if _, found, err := w.FindPolicy(ctx, "c2", "v/1"); found || err != nil {
		t.Errorf("another cluster's version: %t, %v", found, err)
	}
}
