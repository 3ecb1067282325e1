package functionshost

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The host has its own idea of how a .NET value becomes JSON
// (ScriptInvocationContextExtensions.GetHttpScriptInvocationContextValue):
// scalars are encoded and the result is put into a string once more, objects are
// left alone. Each function below makes one row of that table.

// plain is ordinary JSON, the encoding of objects. HTML characters stay as they
// are: Json.NET does not escape them.
func plain(v any) json.RawMessage {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		// Every value given comes from JSON, AMQP or a literal in this package.
		panic(fmt.Sprintf("functionshost: encode %T: %v", v, err))
	}
	return bytes.TrimRight(buf.Bytes(), "\n")
}

// twice is the encoding of strings, numbers, truths and arrays.
func twice(v any) json.RawMessage { return plain(string(plain(v))) }

// base64Once is the encoding of bytes.
func base64Once(b []byte) json.RawMessage { return plain(base64.StdEncoding.EncodeToString(b)) }

// dateTime and dateTimeOffset lose the fraction on the way through a culture
// string; dateTime loses the zone as well.
func dateTime(t time.Time) json.RawMessage {
	return plain(t.UTC().Format("2006-01-02T15:04:05"))
}

func dateTimeOffset(t time.Time) json.RawMessage {
	return plain(t.UTC().Format("2006-01-02T15:04:05-07:00"))
}

// ticks keeps .NET's 100 ns, as inside objects and arrays.
func ticks(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.9999999-07:00") }

func ticksUTC(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.9999999Z") }

// bindingData is Metadata on its way to the handler: names keep their order and
// are compared without case, and the first spelling of a name stays.
type bindingData struct {
	names  []string
	values map[string]json.RawMessage // by lower-case name
}

func newBindingData() *bindingData { return &bindingData{values: map[string]json.RawMessage{}} }

// set adds or overwrites an entry. A nil value leaves the name out, as a null in
// .NET does.
func (b *bindingData) set(name string, value json.RawMessage) {
	key := strings.ToLower(name)
	if _, known := b.values[key]; !known {
		b.names = append(b.names, name)
	}
	b.values[key] = value
}

func (b *bindingData) setText(name string, value *string) {
	if value == nil {
		b.set(name, nil)
		return
	}
	b.set(name, twice(*value))
}

// MarshalJSON writes the entries in order. Names that end in "trigger" never
// reach a handler.
func (b *bindingData) MarshalJSON() ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteByte('{')
	for _, name := range b.names {
		value := b.values[strings.ToLower(name)]
		if value == nil || strings.HasSuffix(strings.ToLower(name), "trigger") {
			continue
		}
		if buf.Len() > 1 {
			buf.WriteByte(',')
		}
		buf.Write(plain(name))
		buf.WriteByte(':')
		buf.Write(value)
	}
	buf.WriteByte('}')
	return buf.Bytes(), nil
}

// leak copies the top-level properties of a JSON body into the binding data
// (Utility.ApplyBindingData). A body can so overwrite MessageId, DeliveryCount
// and the rest; only dataType binary is safe from it.
func (b *bindingData) leak(body string) {
	text := strings.TrimSpace(body)
	if !strings.HasPrefix(text, "{") || !strings.HasSuffix(text, "}") {
		return
	}
	dec := json.NewDecoder(strings.NewReader(text))
	var properties orderedObject
	if err := dec.Decode(&properties); err != nil || dec.More() {
		return // a body that is no JSON is no error for the real host either
	}
	for _, p := range properties {
		switch raw := bytes.TrimSpace(p.value); raw[0] {
		case '[':
		case '{':
			b.set(p.name, raw)
		case 'n':
			b.set(p.name, nil)
		default:
			b.set(p.name, twice(scalarText(raw)))
		}
	}
}

// orderedObject is a JSON object whose properties keep their order; the last of
// two equal names wins.
type orderedObject []property

type property struct {
	name  string
	value json.RawMessage
}

// UnmarshalJSON reads the object token by token.
func (o *orderedObject) UnmarshalJSON(raw []byte) error {
	values := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &values); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		var skipped json.RawMessage
		if err := dec.Decode(&skipped); err != nil {
			return err
		}
		key := name.(string) // a name inside an object is always a string token
		if v, first := values[key]; first {
			*o = append(*o, property{name: key, value: v})
			delete(values, key)
		}
	}
	return nil
}

var isoDate = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})?$`)

// scalarText is the .NET text of a JSON scalar: True and False, the invariant
// form of numbers, and ISO dates as Json.NET recognises and prints them.
func scalarText(raw []byte) string {
	switch raw[0] {
	case 't':
		return "True"
	case 'f':
		return "False"
	case '"':
		var s string
		_ = json.Unmarshal(raw, &s) // raw was cut out of valid JSON
		if !isoDate.MatchString(s) {
			return s
		}
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
			if t, err := time.Parse(layout, s); err == nil {
				return t.UTC().Format("01/02/2006 15:04:05")
			}
		}
		return s
	default:
		text := string(raw)
		if !strings.ContainsAny(text, ".eE") {
			return text
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return text
		}
		if f != 0 && (f >= 1e15 || f <= -1e15 || (f < 1e-4 && f > -1e-4)) {
			return strconv.FormatFloat(f, 'E', -1, 64)
		}
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
}

// systemData is Metadata.sys.
func systemData(function, id string, now time.Time) json.RawMessage {
	return plain(struct {
		MethodName string
		UtcNow     string
		RandGUID   string `json:"RandGuid"`
	}{function, now.UTC().Format("2006-01-02T15:04:05.0000000Z"), id})
}

// envelope is the body of an invocation: {"Data":{...},"Metadata":{...}}.
func envelope(binding string, data json.RawMessage, meta *bindingData) []byte {
	return plain(struct {
		Data     map[string]json.RawMessage
		Metadata *bindingData
	}{map[string]json.RawMessage{binding: data}, meta})
}
