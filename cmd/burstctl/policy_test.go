package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/ledger"
)

const sitePolicy = `# the site's policy
version: 1
cluster: onprem
cyclecloud:
  url: https://cc.example.com
  cluster: hpc
  credential: main
nodearrays:
  - name: htc
    partition: cloud
    nodes: htc-[1-10]
    machineType: Standard_D4s_v5
    price: {onDemand: 0.222}
    maxNodes: 5
    idleTimeout: 5m
    bootDeadline: 15m
budgets:
  - {scope: cluster, period: day, hard: 100}
`

// policyFile writes the site's policy with replacements, each of which has to
// be found.
func policyFile(t *testing.T, oldnew ...string) (file, text string) {
	t.Helper()
	text = sitePolicy
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			t.Fatalf("the policy lacks %q", oldnew[i])
		}
		text = strings.Replace(text, oldnew[i], oldnew[i+1], 1)
	}
	file = filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, text
}

// ok runs burstctl, which must succeed, and gives its output.
func ok(t *testing.T, s store, args ...string) string {
	t.Helper()
	code, out, errs := ctlRun(s, args...)
	if code != 0 || errs != "" {
		t.Fatalf("%v: exit %d, %s", args, code, errs)
	}
	return out
}

// fails runs burstctl, which must fail with all of wants.
func fails(t *testing.T, s store, wants []string, args ...string) {
	t.Helper()
	code, _, errs := ctlRun(s, args...)
	if code != 1 {
		t.Errorf("%v: exit %d", args, code)
	}
	for _, want := range wants {
		if !strings.Contains(errs, want) {
			t.Errorf("%v: %q is not in %s", args, want, errs)
		}
	}
}

// object reads one line of JSON.
func object[T any](t *testing.T, line string) T {
	t.Helper()
	var value T
	if err := json.Unmarshal([]byte(line), &value); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return value
}

// inForceNow is the version that the cluster is told to follow, and its row.
func inForceNow(t *testing.T, m *ledger.Memory) (string, ledger.Policy) {
	t.Helper()
	p, err := m.Load(t.Context(), "onprem")
	if err != nil {
		t.Fatal(err)
	}
	row, _, err := m.CurrentPolicy(t.Context(), "onprem")
	if err != nil {
		t.Fatal(err)
	}
	return p.Cluster.PolicyInForce, row
}

func TestPolicyCheckNeedsNoTables(t *testing.T) {
	closed := func() (store, error) { return nil, errors.New("the tables were opened") }
	check := func(args ...string) (int, string, string) {
		var out, errs strings.Builder
		code := run(append([]string{"policy", "check"}, args...), closed, &out, &errs)
		return code, out.String(), errs.String()
	}
	file, _ := policyFile(t)
	code, out, errs := check(file)
	if code != 0 || errs != "" || !strings.HasPrefix(out, "ok: cluster onprem, version ") || !strings.Contains(out, "mode active, 1 nodearrays with 10 nodes") {
		t.Errorf("exit %d, %q, %s", code, out, errs)
	}
	code, out, _ = check("--json", file)
	if got := object[checked](t, out); code != 0 || !got.OK || len(got.Policies) != 1 || len(got.Policies[0].Version) != 12 || got.Policies[0].Nodes != 10 {
		t.Errorf("exit %d, %s", code, out)
	}

	wrong, _ := policyFile(t, "maxNodes: 5", "maxNodes: 11", "hard: 100", "hard: 0.1", "credential: main", "credential: \"a\\eb\"\n  extra: 1")
	wants := []string{
		`line 7: cyclecloud.credential: is not well-formed (got "a\x1bb"`, `line 8: cyclecloud: unknown key "extra"`,
		"line 15: nodearrays[0].maxNodes: is more than the nodearray's nodes (got 11, want 1 to 10)",
		"line 19: budgets[0].hard: is less than one node-hour",
	}
	code, out, errs = check(wrong)
	if code != 1 || !strings.Contains(errs, "the policy is refused: 4 problems in "+wrong) || !strings.Contains(errs, "hint: docs/policy.md") || strings.Contains(out, "\x1b") {
		t.Errorf("exit %d, %s, %s", code, out, errs)
	}
	for _, want := range wants {
		if !strings.Contains(out, wrong+": "+want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
	code, out, _ = check(wrong, "--json")
	if got := object[checked](t, out); code != 1 || got.OK || len(got.Problems) != 4 || len(got.Policies) != 0 {
		t.Errorf("exit %d, %s", code, out)
	}
	if code, out, _ := check("../../examples/policy.yaml"); code != 0 || !strings.Contains(out, "cluster onprem") {
		t.Errorf("the example: exit %d, %s", code, out)
	}
	if code, _, errs := check(filepath.Join(t.TempDir(), "none.yaml")); code != 1 || !strings.Contains(errs, "refused") {
		t.Errorf("no file: exit %d, %s", code, errs)
	}
}

func TestPolicySchemaIsThePublishedOne(t *testing.T) {
	published, err := os.ReadFile("../../docs/policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(published), ok(t, ledger.NewMemory(), "policy", "schema")); diff != "" {
		t.Errorf("the schema (-published +printed):\n%s", diff)
	}
}

func TestAPolicyIsAppliedComparedAndRolledBack(t *testing.T) {
	m := tables(t, "onprem")
	first, firstText := policyFile(t)
	fails(t, m, []string{"no policy is stored yet", "hint: "}, "policy", "show")
	if out := ok(t, m, "policy", "diff", first); !strings.Contains(out, "no policy is stored to compare") {
		t.Errorf("diff says %s", out)
	}

	out := ok(t, m, "policy", "apply", first, "--author", "eva")
	version, row := inForceNow(t, m)
	if !strings.Contains(out, "onprem: version "+version+" is in force") || row.Version != version || row.Text != firstText || row.Author != "eva" || time.Since(row.AppliedAt) > time.Minute {
		t.Errorf("apply says %s; in force is %s, %+v", out, version, row)
	}
	if got := ok(t, m, "policy", "show"); got != firstText {
		t.Errorf("show prints %q", got)
	}

	second, secondText := policyFile(t, "htc-[1-10]", "htc-[1-20]", "hard: 100", "hard: 250.5", "# the site's", "# the new")
	want := []string{
		"nodearrays[htc].nodes: htc-[1-10] -> htc-[1-20]", "budgets[cluster per day].hard: 100 -> 250.5", "burst-agent reads its own file",
	}
	for _, args := range [][]string{{"policy", "diff", second}, {"policy", "apply", second, "--dry-run"}} {
		out := ok(t, m, args...)
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%v does not say %q:\n%s", args, w, out)
			}
		}
		if now, _ := inForceNow(t, m); now != version {
			t.Errorf("%v put %s in force", args, now)
		}
	}
	got := object[comparison](t, ok(t, m, "policy", "apply", second, "--json"))
	newer, row := inForceNow(t, m)
	if got.State != "applied" || got.From != version || got.To != newer || len(got.Changes) != 2 || !got.Agent || row.Text != secondText || newer == version {
		t.Errorf("apply says %+v; in force is %s, %+v", got, newer, row)
	}
	if out := ok(t, m, "policy", "diff", first, version); !strings.Contains(out, "nothing changes") {
		t.Errorf("a version differs from its own file: %s", out)
	}

	out = ok(t, m, "policy", "history")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[1], newer) || !strings.HasSuffix(lines[1], "yes") || !strings.Contains(lines[2], "eva") || strings.HasSuffix(lines[2], "yes") {
		t.Errorf("history is\n%s", out)
	}

	fails(t, m, []string{`version "feed"`, "no such version", "burstctl policy history"}, "policy", "rollback", "feed")
	if out := ok(t, m, "policy", "rollback", version, "--author", "bob"); !strings.Contains(out, "hard: 250.5 -> 100") || !strings.Contains(out, version+" is in force") {
		t.Errorf("rollback says %s", out)
	}
	if now, row := inForceNow(t, m); now != version || row.Version != version || row.Text != firstText || row.Author != "bob" {
		t.Errorf("in force is %s, %+v", now, row)
	}
	if got := ok(t, m, "policy", "show", newer); got != secondText {
		t.Errorf("show prints %q", got)
	}
}

func TestApplyingWhatIsInForceChangesNothing(t *testing.T) {
	m := tables(t, "onprem")
	file, text := policyFile(t)
	ok(t, m, "policy", "apply", file, "--author", "eva")
	before, err := m.Load(t.Context(), "onprem")
	if err != nil {
		t.Fatal(err)
	}
	same, _ := policyFile(t, "# the site's", "# another comment about the")
	if out := ok(t, m, "policy", "apply", same, "--author", "bob"); !strings.Contains(out, "was in force already") {
		t.Errorf("apply says %s", out)
	}
	after, err := m.Load(t.Context(), "onprem")
	if err != nil {
		t.Fatal(err)
	}
	if _, row := inForceNow(t, m); row.Author != "eva" || row.Text != text || after.Cluster.Revision != before.Cluster.Revision {
		t.Errorf("the row is %+v, the revision went from %d to %d", row, before.Cluster.Revision, after.Cluster.Revision)
	}
	// Applied again after another one, the first text stays that of its version.
	other, _ := policyFile(t, "maxNodes: 5", "maxNodes: 6")
	ok(t, m, "policy", "apply", other)
	ok(t, m, "policy", "apply", same, "--author", "bob")
	if _, row := inForceNow(t, m); row.Author != "bob" || row.Text != text {
		t.Errorf("the row is %+v", row)
	}
}

// The app stores the policy that it came with. Applying the same one pins it,
// so that another package does not bring another policy.
func TestThePackagedPolicyCanBeAppliedToo(t *testing.T) {
	m := tables(t, "onprem")
	file, text := policyFile(t)
	version := object[comparison](t, ok(t, m, "policy", "apply", file, "--dry-run", "--json")).To
	if err := m.ApplyPolicy(t.Context(), "onprem", ledger.Policy{Version: version, Text: text, Author: "seed", AppliedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if got := ok(t, m, "policy", "show"); got != text {
		t.Errorf("show prints %q", got)
	}
	if out := ok(t, m, "policy", "apply", file); !strings.Contains(out, version+" is in force") {
		t.Errorf("apply says %s", out)
	}
	if now, _ := inForceNow(t, m); now != version {
		t.Errorf("in force is %q", now)
	}
}

func TestPoliciesThatCannotBeAppliedAreRefused(t *testing.T) {
	m := tables(t, "onprem", "other")
	file, _ := policyFile(t)
	ok(t, m, "policy", "apply", file)
	version, _ := inForceNow(t, m)

	unknown, _ := policyFile(t, "cluster: onprem", "cluster: elsewhere")
	elsewhere, _ := policyFile(t, "cc.example.com", "cc.example.net")
	wrong, _ := policyFile(t, "maxNodes: 5", "maxNodes: 0")
	fails(t, m, []string{`cluster "elsewhere": no such cluster`}, "policy", "apply", unknown)
	fails(t, m, []string{"another cluster's", "hint: "}, "policy", "apply", file, "--cluster", "other")
	fails(t, m, []string{"another cluster's"}, "policy", "diff", file, "--cluster", "other")
	fails(t, m, []string{"section cyclecloud differs", "make package POLICY=FILE"}, "policy", "apply", elsewhere)
	fails(t, m, []string{"line 14: nodearrays[0].maxNodes: is not a count", "hint: docs/policy.md"}, "policy", "apply", wrong)
	fails(t, m, []string{"--author"}, "policy", "apply", file, "--author", "a\x1b[2J")
	fails(t, m, []string{"open policy"}, "policy", "apply", filepath.Join(t.TempDir(), "none"))
	fails(t, m, []string{"choose one with --cluster"}, "policy", "rollback", version)
	fails(t, m, []string{"no such version"}, "policy", "rollback", version, "--cluster", "other")
	if now, _ := inForceNow(t, m); now != version {
		t.Errorf("in force is %s, want %s still", now, version)
	}

	// A row that this release cannot read is no ground to refuse a sound file.
	if err := m.EnforcePolicy(t.Context(), "onprem", ledger.Policy{Version: "future", Text: "version: 9\n", AppliedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	fails(t, m, []string{"refused", "line 1: version"}, "policy", "rollback", "future", "--cluster", "onprem")
	if out := ok(t, m, "policy", "apply", file); !strings.Contains(out, "version future is in force and cannot be read") || !strings.Contains(out, version+" is in force") {
		t.Errorf("apply says %s", out)
	}
}

// lostRace is a ledger in which somebody else always moves first.
type lostRace struct{ store }

func (lostRace) EnforcePolicy(context.Context, string, ledger.Policy) error {
	return ledger.ErrConflict
}

func TestALostRaceIsTold(t *testing.T) {
	file, _ := policyFile(t)
	fails(t, lostRace{tables(t, "onprem")}, []string{"hint: somebody else"}, "policy", "apply", file)
}
