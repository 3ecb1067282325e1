package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite docs/policy.md and docs/policy.schema.json")

const pageHead = `# The policy file

This page is made from the tables in internal/policy (` + "`make docs`" + `). One file says what one Slurm cluster may do in the cloud; the Functions app, burst-agent
and burstctl read the same one. ` + "[examples/policy.yaml](../examples/policy.yaml)" + ` shows all of it, and an editor that knows YAML schemas checks and completes it
by [policy.schema.json](policy.schema.json). ` + "`burstctl policy check FILE`" + ` finds everything that is wrong, at once and with line numbers: unknown keys, keys given twice,
values out of range, and what the schema cannot say, such as a budget below one node-hour. Nothing is applied of a file that is wrong.

A policy's version is made from what it means: comments, the order of keys, the spelling of a hostlist and defaults that are written out do not change it.
Every decision names the version that it followed.

The app is packaged with a policy and follows it until ` + "`burstctl policy apply FILE`" + ` puts another one in force, which needs no deployment: the next snapshot is decided
on with it. ` + "`burstctl policy diff FILE`" + ` shows beforehand what changes, ` + "`history`" + ` lists the versions, ` + "`show`" + ` prints one as it was applied, and ` + "`rollback VERSION`" + ` returns
to one. Two things do not follow by themselves: burst-agent obeys commands only for the nodes and partitions of its own copy, so install the file on the head node
too when these change; and the app opens CycleCloud as its package says, so another ` + "`cyclecloud`" + ` section wants a deployment and is refused by apply.

**Forms.** A duration is a number with a unit, or several: ` + "`90s`, `15m`, `1h30m`" + `; days are hours (` + "`48h`" + `). Money is a decimal number with at most six places,
exact to a millionth of the currency's unit, never a binary fraction. A hostlist is Slurm's. A name that YAML could take for something else wants quotes: ` + "`\"007\"`, `\"*\"`" + `.
`

const pageWhen = `
## The expression of overflow.when

The expression is [CEL](https://cel.dev). It is checked when the file is read: its types must fit, it must give true or false, and it may cost at most %d of CEL's
units by estimate, for a job with at most %d partitions and texts of at most %d bytes. A larger job is judged too, but counted, and one that costs more is not
released; so is a job for which the expression has no answer, such as a division by zero. Both are told with the reason ` + "`rule_failed`" + `.
There is no clock in it: waiting and schedules have keys of their own.

| field | type | meaning |
|---|---|---|
`

// cell keeps a text within its cell of a table.
func cell(text string) string { return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(text) }

func section(page *strings.Builder, path string, keys []field) {
	title := "The file"
	if path != "" {
		title = "`" + path + "`"
	}
	fmt.Fprintf(page, "\n## %s\n\n| key | default | form | meaning |\n|---|---|---|---|\n", title)
	for _, f := range keys {
		def := "required"
		if f.optional {
			def = f.def
		}
		fmt.Fprintf(page, "| `%s` | %s | %s | %s |\n", f.key, cell(def), cell(f.form.want), cell(f.about))
	}
	for _, f := range keys {
		if f.form.keys != nil {
			section(page, strings.TrimPrefix(path+"."+f.key, "."), f.form.keys)
		}
	}
}

func page() string {
	var text strings.Builder
	text.WriteString(pageHead)
	p := parsing{}
	section(&text, "", p.document(&Document{}).keys)
	fmt.Fprintf(&text, pageWhen, maxCost, listSize, textSize)
	for _, f := range jobFields {
		fmt.Fprintf(&text, "| `job.%s` | %s | %s |\n", f.name, strings.TrimPrefix(strings.ToLower(f.kind.String()), "google.protobuf."), cell(f.about))
	}
	return text.String()
}

func TestPolicyPagesAreUpToDate(t *testing.T) {
	for file, want := range map[string]string{"../../docs/policy.md": page(), "../../docs/policy.schema.json": string(Schema())} {
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s is not up to date, run make docs (-want +got):\n%s", file, diff)
		}
	}
}

func TestEveryKeyIsExplained(t *testing.T) {
	var walk func(path string, keys []field)
	walk = func(path string, keys []field) {
		seen := map[string]bool{}
		for _, f := range keys {
			at := path + "." + f.key
			if seen[f.key] {
				t.Errorf("%s is twice in the table", at)
			}
			seen[f.key] = true
			if !strings.HasSuffix(f.about, ".") || f.form.want == "" || f.form.schema == nil || f.form.read == nil {
				t.Errorf("%s lacks its sentence or its form", at)
			}
			if f.optional != (f.def != "") {
				t.Errorf("%s: an optional key, and no other, says what its absence means", at)
			}
			walk(at, f.form.keys)
		}
	}
	p := parsing{}
	walk("", p.document(&Document{}).keys)
}

// The schema that is published has the keys that Parse asks for: no more, no
// less, and the same ones are required.
func TestTheSchemaHasTheKeysOfTheParser(t *testing.T) {
	type node struct {
		Properties map[string]json.RawMessage
		Required   []string
		Items      json.RawMessage
		Additional *bool `json:"additionalProperties"`
	}
	var walk func(path string, data []byte, keys []field)
	walk = func(path string, data []byte, keys []field) {
		var n node
		if err := json.NewDecoder(bytes.NewReader(data)).Decode(&n); err != nil {
			t.Fatal(err)
		}
		if n.Items != nil {
			walk(path, n.Items, keys)
			return
		}
		if len(keys) == 0 {
			return
		}
		if n.Additional == nil || *n.Additional || len(n.Properties) != len(keys) {
			t.Errorf("%s: the schema has %d keys and lets others in; the parser has %d", path, len(n.Properties), len(keys))
		}
		required := map[string]bool{}
		for _, key := range n.Required {
			required[key] = true
		}
		for _, f := range keys {
			property, found := n.Properties[f.key]
			if !found || required[f.key] == f.optional {
				t.Errorf("%s.%s: in the schema %v, required %v; optional to the parser %v", path, f.key, found, required[f.key], f.optional)
				continue
			}
			walk(path+"."+f.key, property, f.form.keys)
		}
	}
	published, err := os.ReadFile("../../docs/policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	p := parsing{}
	walk("", published, p.document(&Document{}).keys)
}
