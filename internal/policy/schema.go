package policy

import (
	"bytes"
	"encoding/json"
)

// Schema gives the JSON Schema (draft 2020-12) of a policy file, for editors:
// docs/policy.schema.json. It is made from the tables that Parse reads by, so
// it knows the same keys and forms. It cannot say what one value must be for
// another; what Parse accepts is also sound by the schema, but not the other
// way round.
func Schema() []byte {
	p := parsing{}
	root := p.document(&Document{}).schema
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "slurmburst policy"
	root["description"] = "What one Slurm cluster may do in the cloud."
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(root); err != nil {
		panic("policy: a schema of strings and numbers always encodes: " + err.Error())
	}
	return out.Bytes()
}
