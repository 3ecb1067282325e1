package functionshost

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxWebBody bounds a request body: the service takes 100 MB.
const maxWebBody = 100 << 20

// forward sends the original request to the handler and its answer straight
// back (enableForwardingHttpRequest). The body goes along only if its length is
// announced: a chunked body is lost, as in the real host.
func (c *caller) forward(w http.ResponseWriter, r *http.Request, f *function) {
	inv := c.invocation(f, httpTrigger)
	status, err := c.forwardOnce(w, r, &inv)
	inv.Status = status
	c.finish(inv, err)
	if err != nil && status == 0 {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func (c *caller) forwardOnce(w http.ResponseWriter, r *http.Request, inv *Invocation) (status int, err error) {
	if err := c.w.await(c.ctx); err != nil {
		return 0, err
	}
	guard := c.guard()
	defer guard.stop()
	var body io.Reader = http.NoBody
	switch {
	case r.ContentLength > 0:
		body = http.MaxBytesReader(w, r.Body, maxWebBody)
	case r.ContentLength < 0:
		c.cfg.Logger.Warn("a chunked request body was dropped: the host forwards only bodies with a Content-Length", "function", inv.Function)
	}
	req, err := http.NewRequestWithContext(c.ctx, r.Method, c.w.base()+r.URL.RequestURI(), body)
	if err != nil {
		return 0, fmt.Errorf("make call of %s: %w", inv.Function, err)
	}
	req.Header = r.Header.Clone()
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		req.Header.Del(name)
	}
	if r.ContentLength > 0 {
		req.ContentLength = r.ContentLength
	}
	req.Host = r.Host
	hostHeaders(req, inv.ID)
	resp, err := c.w.client.Transport.RoundTrip(req)
	if err != nil {
		return 0, guard.explain(fmt.Errorf("forward to %s: %w", inv.Function, err))
	}
	defer resp.Body.Close()
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	if _, err := io.Copy(w, resp.Body); err != nil {
		return resp.StatusCode, guard.explain(fmt.Errorf("copy answer of %s: %w", inv.Function, err))
	}
	return resp.StatusCode, nil
}

// serveEnvelope calls an HTTP function by POST /<function> and turns its output
// into the answer. A handler that does not answer 2xx gives the caller a bare
// 500.
func (c *caller) serveEnvelope(w http.ResponseWriter, r *http.Request, f *function, params map[string]string) {
	inv := c.invocation(f, httpTrigger)
	answer, err := c.envelopeOnce(w, r, f, params, &inv)
	c.finish(inv, err)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	for name, value := range answer.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(answer.body) // the caller may be gone
}

func (c *caller) envelopeOnce(w http.ResponseWriter, r *http.Request, f *function, params map[string]string, inv *Invocation) (*webAnswer, error) {
	var body []byte
	if r.ContentLength > 0 {
		var err error
		if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxWebBody)); err != nil {
			return nil, fmt.Errorf("read request: %w", err)
		}
	}
	reply, err := c.send(f, f.webEnvelope(r, body, params, inv.ID), inv)
	if err != nil {
		return nil, err
	}
	if len(f.outputs) == 0 {
		return &webAnswer{status: http.StatusNoContent}, nil
	}
	answer, err := readWebOutput(reply.outputs[f.outputs[0]])
	if err == nil && answer.ignoredStatus {
		c.cfg.Logger.Warn("output sets status, which the host ignores: only statusCode counts", "function", f.name)
	}
	return answer, err
}

// webEnvelope is GetRequestAsJObject: headers are arrays in Data and single
// strings in Metadata; query, route and body properties leak into Metadata.
func (f *function) webEnvelope(r *http.Request, body []byte, params map[string]string, id string) []byte {
	query := map[string]string{}
	meta := newBindingData()
	for name, values := range r.URL.Query() {
		query[name] = strings.Join(values, ",")
	}
	headers, single := map[string][]string{"Host": {r.Host}}, map[string]string{"Host": r.Host}
	for name, values := range r.Header {
		headers[name], single[name] = values, strings.Join(values, ",")
	}
	type identity struct {
		AuthenticationType      *string
		IsAuthenticated         bool
		Actor, BootstrapContext *string
		Claims                  []string
		Label, Name             *string
		NameClaimType           string
		RoleClaimType           string
	}
	req := struct {
		URL        string `json:"Url"`
		Method     string
		Query      map[string]string
		Headers    map[string][]string
		Params     map[string]string `json:",omitempty"`
		Identities []identity
		Body       *string `json:",omitempty"`
	}{
		URL: "http://" + r.Host + r.URL.RequestURI(), Method: r.Method, Query: query, Headers: headers, Params: params,
		Identities: []identity{{
			Claims:        []string{},
			NameClaimType: "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
			RoleClaimType: "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
		}},
	}
	meta.set("Query", plain(query))
	meta.set("Headers", plain(single))
	for _, set := range []map[string]string{query, params} {
		for name, value := range set {
			if !strings.EqualFold(name, "code") {
				meta.set(name, twice(value))
			}
		}
	}
	if body != nil {
		text := string(body)
		media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // unknown reads as text
		if media == "application/octet-stream" || strings.HasPrefix(media, "multipart/") {
			text = base64.StdEncoding.EncodeToString(body)
		} else {
			meta.leak(text)
		}
		req.Body = &text
	}
	meta.set("sys", systemData(f.name, id, time.Now()))
	return envelope(f.binding, plain(req), meta)
}

// webAnswer is the http output of a reply.
type webAnswer struct {
	status        int
	header        map[string]string
	body          []byte
	ignoredStatus bool
}

// readWebOutput reads {"statusCode":201,"headers":{...},"body":...} (HttpBinding).
// No output at all is 200 with {}.
func readWebOutput(value json.RawMessage) (*webAnswer, error) {
	a := &webAnswer{status: http.StatusOK, header: map[string]string{"Content-Type": "application/json; charset=utf-8"}}
	if len(value) == 0 || string(value) == "null" {
		a.body = []byte("{}")
		return a, nil
	}
	var wire struct {
		StatusCode json.RawMessage `json:"statusCode"`
		Status     json.RawMessage `json:"status"`
		Headers    map[string]string
		Body       json.RawMessage
	}
	if err := json.Unmarshal(value, &wire); err != nil || value[0] != '{' {
		return nil, errors.New("the http output is no object with statusCode, headers (of strings) and body")
	}
	if code, err := strconv.Atoi(strings.Trim(string(wire.StatusCode), `"`)); err == nil {
		if code < 200 || code > 999 {
			return nil, fmt.Errorf("the http output has statusCode %d", code)
		}
		a.status = code
	}
	a.ignoredStatus = wire.Status != nil && wire.StatusCode == nil
	a.body = wire.Body
	var text string
	if len(wire.Body) > 0 && json.Unmarshal(wire.Body, &text) == nil {
		a.body = []byte(text)
		a.header["Content-Type"] = "text/plain; charset=utf-8"
	}
	for name, v := range wire.Headers {
		a.header[http.CanonicalHeaderKey(name)] = v
	}
	return a, nil
}
