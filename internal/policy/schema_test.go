package policy_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/slurmburst/slurmburst/internal/policy"
)

// published is the schema as an editor reads it.
func published(t *testing.T) *jsonschema.Schema {
	t.Helper()
	data, err := os.ReadFile("../../docs/policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("policy.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// validate judges a YAML text by the schema, as an editor does.
func validate(t *testing.T, schema *jsonschema.Schema, text string) error {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

func TestTheSchemaAcceptsWhatTheParserAccepts(t *testing.T) {
	schema := published(t)
	example, err := os.ReadFile("../../examples/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"the example": string(example), "every key": whole, "an old file": sound,
		"defaults":               strings.Replace(sound, "nodearrays:", defaults+"nodearrays:", 1) + nodearrayDefaults,
		"quoted numbers":         strings.NewReplacer("maxNodes: 2", `maxNodes: "2"`, "version: 1", `version: "1"`).Replace(sound),
		"numbers for names":      strings.NewReplacer("partition: cloud", "partition: 7", "cluster: lab", "cluster: 42").Replace(sound),
		"an expression in lines": rule("when: |", "  job.batch &&", "  job.nodes < 3"),
		"a plain expression":     rule("when: true", "waiting: {}"),
		"an odd duration":        strings.Replace(sound, "idleTimeout: 5s", "idleTimeout: 1h30m0.5s", 1),
	} {
		if _, err := policy.Parse([]byte(text), expand); err != nil {
			t.Errorf("%s: the parser says %v", name, err)
		}
		if err := validate(t, schema, text); err != nil {
			t.Errorf("%s: the schema says %v", name, err)
		}
	}
}

func TestTheSchemaRefusesWhatItCanSay(t *testing.T) {
	schema := published(t)
	for _, r := range refusals {
		err := validate(t, schema, change(t, r.old, r.new))
		if r.bySchema && err == nil {
			t.Errorf("%s: accepted by the schema", r.name)
		}
		if !r.bySchema && err != nil {
			t.Errorf("%s: refused by the schema, so say so in the table: %v", r.name, err)
		}
	}
	for name, text := range map[string]string{
		"no nodearrays": "version: 1\ncluster: lab\n", "a list": "[]", "another version": strings.Replace(sound, "version: 1", "version: 2", 1),
		"a missing key": strings.Replace(sound, "    maxNodes: 2\n", "", 1), "an empty list": rule("waiting: {}") + "budgets: []\n",
		"a count that is none": strings.Replace(sound, "maxNodes: 2", "maxNodes: 0", 1),
	} {
		if validate(t, schema, text) == nil {
			t.Errorf("%s: accepted by the schema", name)
		}
		if _, err := policy.Parse([]byte(text), expand); err == nil {
			t.Errorf("%s: accepted by the parser", name)
		}
	}
}
