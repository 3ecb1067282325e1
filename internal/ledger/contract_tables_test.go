package ledger_test

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// fullNode is a node with something in every field.
func fullNode(name string) ledger.Node {
	return ledger.Node{
		Cluster: "c1", Name: name, Nodearray: "htc", SlurmState: "IDLE", SlurmFlags: "CLOUD+POWERING_UP",
		NodeID: "f00", CycleCloudStatus: "Ready", VMID: "vm-1", RequestID: "r-1", ResumeID: "resume-1",
		CreatedEpoch: 4, CreatedSequence: math.MaxInt64, Reason: "it’s wanted, 雪", ReasonCode: "follow",
		CreatedAt: moment(1), JoinedAt: moment(2), IdleSince: moment(3), PoweringUpSince: moment(4),
		BootDeadline: moment(5), IdleDeadline: moment(6), LastAbortAt: moment(7), SeenAt: moment(8), UpdatedAt: moment(9),
		Supply: "ready", State: "idle", TerminatedAt: moment(10), RefusedAt: moment(11), FailedAt: moment(12),
		DownEpoch: 1, DownSequence: 2, Revision: math.MinInt64,
	}
}

func mustPutNodes(t *testing.T, w world, cluster string, nodes []ledger.Node) []ledger.Node {
	t.Helper()
	written, conflicted, err := w.PutNodes(t.Context(), cluster, nodes)
	if err != nil || len(conflicted) > 0 || len(written) != len(nodes) {
		t.Fatalf("%d of %d nodes were written, conflicts %v: %v", len(written), len(nodes), conflicted, err)
	}
	return written
}

func mustNodes(t *testing.T, w world, cluster string) []ledger.Node {
	t.Helper()
	nodes, err := w.Nodes(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

func nodeConflict(t *testing.T, w world) {
	ctx := t.Context()
	var nodes []ledger.Node
	for n := range 230 {
		nodes = append(nodes, fullNode(fmt.Sprintf("htc-%03d", n)))
	}
	nodes = mustPutNodes(t, w, "c1", nodes)
	same(t, "the nodes", mustNodes(t, w, "c1"), nodes)

	// Somebody else moves three of them and adds one.
	others := []ledger.Node{nodes[0], nodes[99], nodes[150], {Name: "new-2"}}
	for i := range others[:3] {
		others[i].Reason = "theirs"
	}
	mustPutNodes(t, w, "c1", others)

	mine := append(slices.Clone(nodes), ledger.Node{Name: "new-1"}, ledger.Node{Name: "new-2"})
	for i := range mine {
		mine[i].Reason = "mine"
	}
	written, conflicted, err := w.PutNodes(ctx, "c1", mine)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the conflicts", conflicted, []string{"htc-000", "htc-099", "htc-150", "new-2"})
	if len(written) != 228 {
		t.Errorf("%d rows were written beside 4 in conflict, want 228", len(written))
	}
	count := map[string]int{}
	for _, n := range mustNodes(t, w, "c1") {
		count[n.Reason]++
	}
	same(t, "who wrote the rows", count, map[string]int{"mine": 228, "theirs": 3, "": 1})
	// What was written can be written again with what came back.
	mustPutNodes(t, w, "c1", written)
	// The versions from the beginning are now good for no row at all.
	written, conflicted, err = w.PutNodes(ctx, "c1", nodes)
	if err != nil || len(written) != 0 || len(conflicted) != 230 {
		t.Errorf("%d rows were written with old versions, %d in conflict, %v", len(written), len(conflicted), err)
	}
}

func nodesSince(t *testing.T, w world) {
	const first = 1_795_451_648_012 // a time in milliseconds, as in life
	var nodes []ledger.Node
	for n := range 5 {
		nodes = append(nodes, ledger.Node{Name: fmt.Sprintf("n%d", n), Revision: first + int64(n)})
	}
	nodes = mustPutNodes(t, w, "c1", nodes)
	mustPutNodes(t, w, "c2", []ledger.Node{{Name: "another cluster's", Revision: first + 9}})
	for _, c := range []struct {
		since int64
		want  []ledger.Node
	}{{math.MinInt64, nodes}, {first, nodes}, {first + 3, nodes[3:]}, {first + 5, nil}} {
		got, err := w.NodesSince(t.Context(), "c1", c.since)
		if err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprintf("the nodes since %d", c.since), got, c.want)
	}
}

func clearColumns(t *testing.T, w world) {
	full := mustPutNodes(t, w, "c1", []ledger.Node{fullNode("n1")})[0]
	for _, loaded := range []bool{false, true} {
		empty := ledger.Node{Cluster: "c1", Name: "n1"}
		// Keep the version: only what a caller can set is emptied.
		cleared := full
		for v, n := reflect.ValueOf(&cleared).Elem(), 0; n < v.NumField(); n++ {
			if name := v.Type().Field(n).Name; v.Field(n).CanSet() && name != "Cluster" && name != "Name" {
				v.Field(n).SetZero()
			}
		}
		cleared = mustPutNodes(t, w, "c1", []ledger.Node{cleared})[0]
		same(t, "the cleared node", mustNodes(t, w, "c1"), []ledger.Node{empty})
		if loaded {
			cleared = mustNodes(t, w, "c1")[0]
		}
		refilled := cleared
		refilled.SlurmState, refilled.IdleSince = "DOWN", moment(3)
		refilled = mustPutNodes(t, w, "c1", []ledger.Node{refilled})[0]
		same(t, "the node filled again", mustNodes(t, w, "c1"), []ledger.Node{refilled})
		full = refilled
	}
	// The same for values that are spread over several columns.
	intent := fullIntent("1/01")
	intent.Body = noise(200_000, 1)
	done := mustCommit(t, w, ledger.Commit{Cluster: mustLoad(t, w, "c1").Cluster, NewIntents: []ledger.Intent{intent}})
	short := done.Intents[0]
	short.Body, short.Outcome, short.Owner, short.ClaimUntil = noise(70_000, 2), nil, "", time.Time{}
	short, err := w.UpdateIntent(t.Context(), "c1", short)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the shorter intent", mustLoad(t, w, "c1").Intents, []ledger.Intent{short})
}

// hostile are names that break naive keys, filters and paths.
var hostile = []string{
	"a/b", `a\b`, "a#b", "a?b", "a%b", "a%2Fb", "a~2Fb", "a'b", "a''b", `a"b`, "a|b", "a b", "..", ".", "-",
	"tab\tnl\nnul\x00del\x7f", "\x85\x9f", "ünïcödé", "雪の夜", "🙂", "\xff\xfe", "a,b", "(a='b')", "eq 'x' or true", "{}", "</m:properties>",
	"--changeset_1", strings.Repeat("x", 500), "group|1",
}

func hostileKeys(t *testing.T, w world) {
	ctx := t.Context()
	for _, cluster := range []string{hostile[0], "it's % #1", "雪/\x01"} {
		var nodes []ledger.Node
		for _, name := range hostile {
			nodes = append(nodes, ledger.Node{Name: name, Nodearray: "h"})
		}
		mustPutNodes(t, w, cluster, nodes)
		got := mustNodes(t, w, cluster)
		var names []string
		for i := range got {
			if got[i].Cluster != cluster {
				t.Errorf("the cluster %q came back as %q", cluster, got[i].Cluster)
			}
			names = append(names, got[i].Name)
			got[i].Reason = "again"
		}
		slices.Sort(names)
		same(t, "the names", names, slices.Sorted(slices.Values(hostile)))
		mustPutNodes(t, w, cluster, got)
		listed, _, err := w.ListNodes(ctx, ledger.NodeFilter{Cluster: cluster, Nodearray: "h"}, ledger.Page{Top: 1000})
		if err != nil || len(listed) != len(hostile) {
			t.Errorf("%d nodes are listed of %d: %v", len(listed), len(hostile), err)
		}
		// One at a time goes another way through the client than a batch does.
		for i := range 8 {
			one := mustNodes(t, w, cluster)[i : i+1]
			one[0].Reason = "alone"
			mustPutNodes(t, w, cluster, one)
		}
		p := mustLoad(t, w, cluster)
		var intents []ledger.Intent
		for _, id := range hostile {
			intents = append(intents, ledger.Intent{ID: id})
		}
		mustCommit(t, w, ledger.Commit{Cluster: p.Cluster, NewIntents: intents})
		p = mustLoad(t, w, cluster)
		if len(p.Intents) != len(hostile) || p.Cluster.Cluster != cluster {
			t.Errorf("%d intents of %d in %q", len(p.Intents), len(hostile), p.Cluster.Cluster)
		}
		if err := w.DeleteIntents(ctx, cluster, p.Intents); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", strings.Repeat("/", 200)} {
		if _, _, err := w.PutNodes(ctx, "c1", []ledger.Node{{Name: name}}); fault.Of(err) != fault.Invalid {
			t.Errorf("the name of %d characters: got %v, want a refusal", len(name), err)
		}
	}
	if got, err := w.Nodes(ctx, "x' or PartitionKey ne 'x"); err != nil || len(got) != 0 {
		t.Errorf("a cluster name is read as a filter: %d nodes, %v", len(got), err)
	}
}

func hostileText(t *testing.T, w world) {
	long := strings.Repeat("x", 29_998) + "🙂🙂"
	nodes := []ledger.Node{
		{Name: "n1", Reason: "a\x00b\x1b[31m\xffc\td\ne"},
		{Name: "n2", Reason: long},
		{Name: "n3", Reason: `"quotes" <tags> & {braces} 'single' --changeset_ ` + "\r\n\r\nDELETE http://127.0.0.1/x"},
		{Name: "n4", Reason: "PATCH"},
	}
	nodes[3].SeenAt = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("east", 7200))
	written := mustPutNodes(t, w, "c1", nodes)
	got := mustNodes(t, w, "c1")
	for i := range got {
		if got[i] != written[i] { // versions included
			t.Errorf("a write gave %+v and a read %+v", written[i], got[i])
		}
	}
	if want := "a\uFFFDb\uFFFD[31m\uFFFDc\td\ne"; got[0].Reason != want {
		t.Errorf("got %q, want %q", got[0].Reason, want)
	}
	if want := strings.Repeat("x", 29_998) + "…"; got[1].Reason != want {
		t.Errorf("the long text came back with %d bytes, want %d", len(got[1].Reason), len(want))
	}
	same(t, "the text with syntax in it", got[2].Reason, nodes[2].Reason)
	bad := ledger.Policy{Version: "1", Text: "a\x00b"}
	if err := w.ApplyPolicy(t.Context(), "c1", bad); fault.Of(err) != fault.Invalid {
		t.Errorf("data that cannot be kept whole: got %v, want a refusal", err)
	}
	wide := fullIntent("1/01")
	for range 20_000 {
		wide.Targets = append(wide.Targets, ledger.Target{Node: "a-node-with-a-name", NodeID: "雪"})
	}
	_, err := w.Commit(t.Context(), ledger.Commit{Cluster: mustLoad(t, w, "c1").Cluster, NewIntents: []ledger.Intent{wide}})
	if fault.Of(err) != fault.Invalid {
		t.Errorf("a list that does not fit: got %v, want a refusal", err)
	}
	wide.Targets = wide.Targets[:3000]
	mustCommit(t, w, ledger.Commit{Cluster: mustLoad(t, w, "c1").Cluster, NewIntents: []ledger.Intent{wide}})
	same(t, "the wide intent", mustLoad(t, w, "c1").Intents, []ledger.Intent{wide})
}

func nodearrays(t *testing.T, w world) {
	ctx := t.Context()
	array := ledger.Nodearray{
		Cluster: "c1", Name: "htc", Partition: "cloud",
		Counts:  ledger.NodeCounts{Defined: 20, Usable: 12, PoweredDown: 4, Fenced: 5, PoweringUp: 3, Idle: 1, Busy: 2, PoweringDown: 2, Down: 2, Unknown: 1, VMs: 8},
		Desired: 8, Limit: 10,
		BootDeadline: ledger.Timer{At: moment(1), Generation: 7, SequenceNumber: math.MaxInt64},
		IdleDeadline: ledger.Timer{At: moment(2), Generation: 8, SequenceNumber: 2},
		Retry:        ledger.Timer{Generation: 9},
		Recheck:      ledger.Timer{At: moment(3), Generation: 10, SequenceNumber: 4},
		Reason:       "ok", ReasonCode: "ok", UpdatedAt: moment(4), Revision: 5,
	}
	written, _, err := w.PutNodearrays(ctx, "c1", []ledger.Nodearray{array})
	if err != nil {
		t.Fatal(err)
	}
	written[0].BootDeadline = ledger.Timer{Generation: 11}
	if written, _, err = w.PutNodearrays(ctx, "c1", written); err != nil {
		t.Fatal(err)
	}
	got, err := w.Nodearrays(ctx, "c1")
	if err != nil {
		t.Fatal(err)
	}
	array.BootDeadline = ledger.Timer{Generation: 11}
	same(t, "the nodearray", got, []ledger.Nodearray{array})
	_, conflicted, err := w.PutNodearrays(ctx, "c1", []ledger.Nodearray{array})
	if err != nil || !slices.Equal(conflicted, []string{"htc"}) {
		t.Errorf("a nodearray that was never loaded replaces one: conflicts %v, %v", conflicted, err)
	}
	array.Limit = math.MaxInt32 + 1
	if _, _, err := w.PutNodearrays(ctx, "c1", []ledger.Nodearray{array}); fault.Of(err) != fault.Invalid {
		t.Errorf("a limit of more than 32 bits: got %v, want a refusal", err)
	}
	if _, _, err := w.PutNodearrays(ctx, "c1", written); err != nil {
		t.Fatal(err)
	}
}

func commandsByState(t *testing.T, w world) {
	ctx := t.Context()
	commands := []ledger.Command{
		{Cluster: "c1", ID: "1/a", Kind: "power_up", Nodearray: "htc", Generation: 4, Targets: []string{"htc-1", "htc-2"}, Expect: "IDLE", SentAt: moment(0), ExpiresAt: moment(5), State: ledger.CommandSent, Attempt: 1},
		{Cluster: "c1", ID: "1/b", Kind: "fence_nodes", State: ledger.CommandRefused, Detail: "not ours", ResultAt: moment(2)},
		{Cluster: "c1", ID: "1/c", Kind: "power_up", State: ledger.CommandSent},
	}
	written, _, err := w.PutCommands(ctx, "c1", commands)
	if err != nil {
		t.Fatal(err)
	}
	open, err := w.Commands(ctx, "c1", ledger.CommandSent)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the open commands", open, []ledger.Command{commands[0], commands[2]})
	for _, c := range []struct {
		at   time.Time
		want []ledger.Command
	}{{moment(5), commands[:1]}, {moment(5).Add(time.Second), nil}} {
		inForce, err := w.CommandsInForce(ctx, "c1", c.at, "")
		if err != nil {
			t.Fatal(err)
		}
		same(t, "the commands in force", inForce, c.want)
	}
	for from, want := range map[string][]ledger.Command{"1": commands[:1], "1/a": commands[:1], "1/a0": nil, "1/b": nil, "2": nil} {
		inForce, err := w.CommandsInForce(ctx, "c1", moment(5), from)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "the commands in force from "+from, inForce, want)
	}
	open[0].State, open[0].ResultAt = ledger.CommandOK, moment(1)
	if _, _, err := w.PutCommands(ctx, "c1", open[:1]); err != nil {
		t.Fatal(err)
	}
	_, conflicted, err := w.PutCommands(ctx, "c1", written[:1])
	if err != nil || !slices.Equal(conflicted, []string{"1/a"}) {
		t.Errorf("conflicts %v, %v", conflicted, err)
	}
	everything, err := w.Commands(ctx, "c1", "")
	if err != nil || len(everything) != 3 {
		t.Errorf("%d commands, %v", len(everything), err)
	}
	listed, _, err := w.ListCommands(ctx, ledger.CommandFilter{Kind: "power_up", State: ledger.CommandSent}, ledger.Page{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the listed commands", listed, []ledger.Command{commands[2]})
}

func jobsAndGroups(t *testing.T, w world) {
	ctx := t.Context()
	jobs := []ledger.Job{
		{
			Cluster: "c1", ID: "42", Count: 1, State: "RUNNING", Partition: "cloud", Nodearray: "htc", Nodes: "htc-[1-2]", User: "ann", Account: "phys", QOS: "normal",
			ReasonCode: "released", Reason: "waited long enough", SubmittedAt: moment(0), ReleasedAt: moment(1), StartedAt: moment(2), UpdatedAt: moment(3), Cost: 5_000_000,
		},
		{Cluster: "c1", ID: "42", Group: true, Count: 300, ReasonCode: "held_quota", Reason: "held: 96 cores asked, 64 left", NotedAt: moment(1), UpdatedAt: moment(1)},
	}
	if _, conflicted, err := w.PutJobs(ctx, "c1", jobs); err != nil || len(conflicted) > 0 {
		t.Fatal(conflicted, err)
	}
	got, err := w.Jobs(ctx, "c1")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the jobs", got, jobs)
	held, _, err := w.ListJobs(ctx, ledger.JobFilter{Cluster: "c1", ReasonCode: "held_quota"}, ledger.Page{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the held groups", held, jobs[1:])
}

func paging(t *testing.T, w world) {
	ctx := t.Context()
	var nodes []ledger.Node
	for n := range w.perRow {
		nodes = append(nodes, ledger.Node{Name: fmt.Sprintf("n%05d", n), Nodearray: []string{"a", "b'c"}[n%2], SlurmState: "IDLE"})
	}
	mustPutNodes(t, w, "c1", nodes)
	mustPutNodes(t, w, "c0", nodes[:30])
	mustPutNodes(t, w, "c2", nodes[:30])
	if got := mustNodes(t, w, "c1"); len(got) != w.perRow {
		t.Errorf("all %d nodes are %d", w.perRow, len(got))
	}
	walk := func(f ledger.NodeFilter, top int) []string {
		var names []string
		for wanted := (ledger.Page{Top: top}); ; {
			got, next, err := w.ListNodes(ctx, f, wanted)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) > max(top, ledger.DefaultTop) || len(got) > ledger.MaxTop {
				t.Fatalf("a page of at most %d has %d rows", top, len(got))
			}
			for _, n := range got {
				names = append(names, n.Cluster+"/"+n.Name)
			}
			if next == "" {
				return names
			}
			wanted.Token = next
		}
	}
	if got := walk(ledger.NodeFilter{Cluster: "c1"}, 400); len(got) != w.perRow || !slices.IsSorted(got) || len(slices.Compact(got)) != w.perRow {
		t.Errorf("the pages hold %d rows of %d, or not in order", len(got), w.perRow)
	}
	if got := walk(ledger.NodeFilter{Cluster: "c1", Nodearray: "b'c", SlurmState: "IDLE"}, 5000); len(got) != w.perRow/2 {
		t.Errorf("the filter leaves %d rows of %d", len(got), w.perRow/2)
	}
	if got := walk(ledger.NodeFilter{Nodearray: "a"}, 0); len(got) != w.perRow/2+30 || len(slices.Compact(got)) != len(got) {
		t.Errorf("across clusters the filter leaves %d rows of %d", len(got), w.perRow/2+30)
	}
	if got := walk(ledger.NodeFilter{Cluster: "c0"}, 7); len(got) != 30 {
		t.Errorf("%d rows of 30", len(got))
	}
	_, token, err := w.ListNodes(ctx, ledger.NodeFilter{}, ledger.Page{Top: 1})
	if err != nil || token == "" {
		t.Fatal(token, err)
	}
	for _, bad := range []string{"x", "!!", token[1:], "e30", strings.Repeat("A", 9000)} {
		if _, _, err := w.ListNodes(ctx, ledger.NodeFilter{}, ledger.Page{Token: bad}); fault.Of(err) != fault.Invalid {
			t.Errorf("the token %.20q: got %v, want a refusal", bad, err)
		}
	}
	if _, _, err := w.ListJobs(ctx, ledger.JobFilter{}, ledger.Page{Token: token}); fault.Of(err) != fault.Invalid {
		t.Errorf("the token of another table: got %v, want a refusal", err)
	}
}
