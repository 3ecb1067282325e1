package functionshost

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
)

// maxReply bounds what the host reads of one reply.
const maxReply = 64 << 20

// errEmptyReply marks the replies that hang the real host: a 2xx without a body
// or with the body null (DefaultHttpWorkerService: the result is set only inside
// "if (httpScriptInvocationResult != null)").
var errEmptyReply = errors.New("the handler answered 2xx with an empty or null body: the real host hangs until functionTimeout and then kills the handler; answer {\"Outputs\":{},\"Logs\":[],\"ReturnValue\":null}")

// reply is a validated answer to an invocation.
type reply struct {
	outputs map[string]json.RawMessage
	logs    []string
	// warnings are mistakes that the real host passes over in silence.
	warnings []string
}

// readReply applies the checks of the real host in its order: status, content
// type, JSON object, emptiness. body is what resp carried.
func (f *function) readReply(resp *http.Response, body []byte) (*reply, error) {
	if len(body) > maxReply {
		return nil, fmt.Errorf("the reply is longer than %d bytes", maxReply)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, fmt.Errorf("the handler answered %s; body (which the real host drops): %s", resp.Status, excerpt(body))
	}
	kind := resp.Header.Get("Content-Type")
	// The formatters look at the content type only when there is content.
	if len(body) == 0 {
		return nil, errEmptyReply
	}
	media, _, err := mime.ParseMediaType(kind)
	if err != nil || (media != "application/json" && media != "text/json") {
		return nil, fmt.Errorf("invalid HttpResponseMessage: content type %q, want application/json; body: %s", kind, excerpt(body))
	}
	return f.parseReply(body)
}

func (f *function) parseReply(body []byte) (*reply, error) {
	trimmed := bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	if len(trimmed) == 0 || string(trimmed) == "null" {
		return nil, errEmptyReply
	}
	if trimmed[0] != '{' {
		return nil, fmt.Errorf("invalid HttpResponseMessage: the body is no JSON object: %s", excerpt(body))
	}
	// encoding/json matches names without case, as Json.NET does.
	var wire struct {
		Outputs     map[string]json.RawMessage
		Logs        []string
		ReturnValue json.RawMessage
	}
	if err := json.Unmarshal(trimmed, &wire); err != nil {
		return nil, fmt.Errorf("invalid HttpResponseMessage: %w; body: %s", err, excerpt(body))
	}
	r := &reply{outputs: map[string]json.RawMessage{}, logs: wire.Logs}
	values := wire.Outputs
	if values == nil {
		values = map[string]json.RawMessage{}
	}
	f.spreadReturnValue(wire.ReturnValue, values)
	for name, value := range values {
		if !f.hasOutput(name) {
			r.warnings = append(r.warnings, fmt.Sprintf("output %q is no binding of this function; the real host ignores it without a message", name))
			continue
		}
		if err := checkBase64Trap(name, value); err != nil {
			return nil, err
		}
		r.outputs[name] = value
	}
	return r, nil
}

func (f *function) hasOutput(name string) bool {
	for _, o := range f.outputs {
		if o == name {
			return true
		}
	}
	return false
}

// spreadReturnValue feeds the binding $return, or else spreads the keys of an
// object over the outputs (WorkerFunctionInvoker).
func (f *function) spreadReturnValue(value json.RawMessage, outputs map[string]json.RawMessage) {
	if len(value) == 0 || string(value) == "null" {
		return
	}
	if f.hasOutput("$return") {
		outputs["$return"] = value
		return
	}
	var keys map[string]json.RawMessage
	if json.Unmarshal(value, &keys) == nil {
		for k, v := range keys {
			outputs[k] = v
		}
	}
}

// checkBase64Trap refuses an output string that the real host would take for
// base64 and turn into bytes.
func checkBase64Trap(name string, value json.RawMessage) error {
	var s string
	if json.Unmarshal(value, &s) != nil {
		return nil
	}
	blankless := strings.Join(strings.Fields(s), "")
	if _, err := base64.StdEncoding.DecodeString(blankless); err == nil {
		return fmt.Errorf("output %q is the string %q, which the real host decodes as base64; send an object", name, s)
	}
	return nil
}

func excerpt(body []byte) string {
	const limit = 2048
	if len(body) > limit {
		return fmt.Sprintf("%q… (%d bytes)", body[:limit], len(body))
	}
	return fmt.Sprintf("%q", body)
}
