package burst

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every reason that the source declares is explained exactly once.
func TestEveryReasonIsExplained(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared, explained []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		declared = append(declared, value)
		return true
	})
	for _, e := range Explanations() {
		explained = append(explained, string(e.Code))
		if e.Says == "" || e.Do == "" {
			t.Errorf("reason %s says %q and advises %q", e.Code, e.Says, e.Do)
		}
	}
	slices.Sort(declared)
	slices.Sort(explained)
	if diff := cmp.Diff(declared, explained); diff != "" {
		t.Errorf("reasons (-declared +explained):\n%s", diff)
	}
}

const reasonsPage = "../../docs/reasons.md"

// docs/reasons.md is what Explanations says.
func TestReasonsPage(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Reasons

<!-- Made from internal/burst by ` + "`make golden`" + `; do not edit. -->

Every change that slurmburst makes, and every change that it refuses to make, has a reason: a stable code
and a sentence with the numbers of the case. Both are in the tables (nodes, decisions, failures) and in
` + "`burstctl nodes`" + ` and ` + "`burstctl decisions`" + `. The list is closed: a code never changes its meaning.

| code | what it says | what you can do |
|---|---|---|
`)
	for _, e := range Explanations() {
		b.WriteString("| `" + string(e.Code) + "` | " + e.Says + " | " + e.Do + " |\n")
	}
	b.WriteString(`
Codes of the same tables that no decision gives, because the policy or the agent is at fault:

| code | what it says | what you can do |
|---|---|---|
| ` + "`not_in_policy`" + ` | CycleCloud has a node that the policy does not name. It bills, and nobody scales it down. | Name it in the policy again, or terminate it in CycleCloud. |
| ` + "`policy_refused`" + ` | The policy in force cannot be followed by this app: it was written for a newer one, or leads to another CycleCloud. The one before it stays. | ` + "`burstctl policy rollback`" + `, or deploy the app that knows it. |
| ` + "`epoch_reset`" + ` | The agent counts its epochs from a lower number than before: the session of its command queue was lost or made anew. | Nothing, once. If it recurs, see whether two head nodes send for one cluster. |
`)
	if *update {
		if err := os.WriteFile(reasonsPage, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	page, err := os.ReadFile(reasonsPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(page), b.String()); diff != "" {
		t.Errorf("%s (-page +source; rewrite it with make golden):\n%s", reasonsPage, diff)
	}
}
