package functionshost

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ask sends a request and returns status and body.
func ask(t *testing.T, method, url, body string, header map[string]string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	if header["Chunked"] != "" {
		req.ContentLength = -1
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(got), resp.Header
}

func TestForwardedRequests(t *testing.T) {
	t.Parallel()
	a := newApp(t, goodHost, map[string]string{
		"orders": `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","route":"orders/{id:int}/{*rest}","authLevel":"anonymous"},{"type":"http","direction":"out","name":"res"}]}`,
		"work":   workFunction,
	})
	var base string
	r := a.run(func(c *Config) { base = listen(t, c) })
	r.awaitReady(t)
	t.Run("arrive with their own method, path, query, host, headers and body, and go back as they are", func(t *testing.T) {
		status, body, header := ask(t, "PATCH", base+"/api/orders/7/a%2Fb/c?x=1&code=k", "hello", map[string]string{"X-Own": "mine"})
		want := "PATCH /api/orders/7/a%2Fb/c?x=1&code=k host=" + strings.TrimPrefix(base, "http://") + " own=mine body=hello"
		if status != http.StatusFound || body != want || header.Get("Location") != "/elsewhere" {
			t.Errorf("%d %q, want 302 %q", status, body, want)
		}
		calls := r.calls(t, 1)
		if header.Get("X-Seen-Invocation") != calls[0].ID || !calls[0].OK() || calls[0].Status != http.StatusFound {
			t.Errorf("call %+v, handler saw id %q", calls[0], header.Get("X-Seen-Invocation"))
		}
	})
	t.Run("lose a chunked body", func(t *testing.T) {
		_, body, _ := ask(t, "POST", base+"/api/orders/7", "hello", map[string]string{"Chunked": "1"})
		if !strings.HasSuffix(body, "body=") {
			t.Errorf("the handler got a body: %q", body)
		}
		if !r.seen.logged("level=WARN", "chunked request body was dropped") {
			t.Error("the loss passed in silence")
		}
	})
	t.Run("match without case", func(t *testing.T) {
		if status, body, _ := ask(t, "GET", base+"/api/ORDERS/7", "", nil); status != http.StatusFound {
			t.Errorf("%d %q", status, body)
		}
	})
	t.Run("are 404 where no route fits", func(t *testing.T) {
		for _, path := range []string{"/api/orders/x", "/api/orders", "/orders/7", "/api", "/work", "/api/work"} {
			if status, _, _ := ask(t, "POST", base+path, "", nil); status != http.StatusNotFound {
				t.Errorf("%s: %d, want 404", path, status)
			}
		}
	})
}

func TestFrontWithoutHandler(t *testing.T) {
	t.Parallel()
	a := newApp(t, goodHost, map[string]string{"web": strings.Replace(webFunction, `"route"`, `"authLevel":"anonymous","route"`, 1)})
	var base string
	r := a.run(func(c *Config) { base = listen(t, c) })
	r.starts(t, 1)
	if err := r.KillHandler("web"); err != nil {
		t.Fatal(err)
	}
	// The call waits for the new process instead of failing.
	if status, body, _ := ask(t, "GET", base+"/api/a/b", "", nil); status != http.StatusFound {
		t.Errorf("%d %q", status, body)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	level := func(authLevel, route string) string {
		return `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","route":"` + route + `","authLevel":"` + authLevel + `","methods":["GET"]},{"type":"http","direction":"out","name":"res"}]}`
	}
	a := newApp(t, goodHost, map[string]string{"anyone": level("anonymous", "anyone"), "caller": level("function", "caller"), "boss": level("admin", "boss")})
	var base string
	r := a.run(func(c *Config) { base = listen(t, c) })
	r.awaitReady(t)
	const passed = http.StatusFound // what the test handler answers
	for _, c := range []struct {
		path, header, code string
		want               int
	}{
		{"/api/anyone", "", "", passed},
		{"/api/caller", "", "", 401},
		{"/api/caller", "wrong", "", 401},
		{"/api/caller", "fkey", "", passed},
		{"/api/caller", "", "fkey", passed},
		{"/api/caller", "mkey", "", passed},
		{"/api/boss", "", "", 401},
		{"/api/boss", "fkey", "", 401},
		{"/api/boss", "", "mkey", passed},
		{"/admin/host/status", "", "", 401},
		{"/admin/host/status", "fkey", "", 401},
		{"/admin/host/status", "mkey", "", 200},
	} {
		header := map[string]string{}
		if c.header != "" {
			header["x-functions-key"] = c.header
		}
		if status, body, _ := ask(t, "GET", base+c.path+"?code="+c.code, "", header); status != c.want {
			t.Errorf("%s with header %q and code %q: %d %q, want %d", c.path, c.header, c.code, status, body, c.want)
		}
	}
	h := &Host{}
	if h.opens(httptest.NewRequest("GET", "/", nil), "", "") {
		t.Error("no key opened a function that has no key")
	}
}

func TestAdminRoutes(t *testing.T) {
	t.Parallel()
	a := newApp(t, goodHost, map[string]string{"work": workFunction, "web": webFunction})
	var base string
	r := a.run(func(c *Config) { base = listen(t, c) })
	r.awaitReady(t)
	master := map[string]string{"x-functions-key": "mkey", "Content-Type": "application/json"}
	for _, c := range []struct {
		path, body string
		want       int
	}{
		{"/admin/functions/work", `{"input":"stdout started by hand"}`, 202},
		{"/admin/functions/WORK", `{}`, 202},
		{"/admin/functions/nobody", `{}`, 404},
		{"/admin/functions/work", ``, 400},
		{"/admin/functions/work", `[]`, 400},
		{"/admin/functions/web", `{}`, 400},
	} {
		if status, body, _ := ask(t, "POST", base+c.path, c.body, master); status != c.want {
			t.Errorf("%s %s: %d %q, want %d", c.path, c.body, status, body, c.want)
		}
	}
	for _, call := range r.calls(t, 2) {
		if !call.OK() || call.Trigger != "manual" {
			t.Errorf("call %+v", call)
		}
	}
	poll(t, "the handler's line", func() bool { return r.seen.logged("started by hand") })
	_, body, _ := ask(t, "GET", base+"/admin/host/status", "", master)
	var status struct {
		State string
		Stats Stats
	}
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	if status.State != "Running" || status.Stats.Functions["work"].Invocations != 2 {
		t.Errorf("status %s", body)
	}
}

func TestEnvelopeOfAnHTTPFunction(t *testing.T) {
	r := httptest.NewRequest("POST", "https://app/api/orders/7?x=1&code=secret", strings.NewReader(`{"name":"a"}`))
	r.Header.Set("Content-Type", "application/json")
	f := &function{name: "Orders", binding: "req"}
	got := f.webEnvelope(r, []byte(`{"name":"a"}`), map[string]string{"id": "7"}, "0b0c")
	var wire struct {
		Metadata struct{ Sys map[string]string }
	}
	if err := json.Unmarshal(got, &wire); err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(`{ "Data": { "req": {
      "Url": "http://app/api/orders/7?x=1&code=secret", "Method": "POST", "Query": { "x": "1", "code": "secret" },
      "Headers": { "Content-Type": ["application/json"], "Host": ["app"] },
      "Params": { "id": "7" },
      "Identities": [ { "AuthenticationType": null, "IsAuthenticated": false, "Actor": null, "BootstrapContext": null,
                        "Claims": [], "Label": null, "Name": null,
                        "NameClaimType": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
                        "RoleClaimType": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role" } ],
      "Body": "{\"name\":\"a\"}" } },
  "Metadata": {
      "Query": { "x": "1", "code": "secret" },
      "Headers": { "Content-Type": "application/json", "Host": "app" },
      "x": "\"1\"", "id": "\"7\"", "name": "\"a\"",
      "sys": { "MethodName": "Orders", "UtcNow": "NOW", "RandGuid": "0b0c" } } }`, "NOW", wire.Metadata.Sys["UtcNow"])
	diffJSON(t, want, string(got))

	r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	got = f.webEnvelope(r, []byte(`{"name":"a"}`), nil, "0b0c")
	if !strings.Contains(string(got), `"Body":"eyJuYW1lIjoiYSJ9"`) || strings.Contains(string(got), "Params") {
		t.Errorf("multipart body or missing params: %s", got)
	}
}

func TestHTTPOutput(t *testing.T) {
	for _, c := range []struct {
		name, reply string
		status      int
		body, kind  string
	}{
		{"an object body is JSON", `{"Outputs":{"res":{"statusCode":201,"headers":{"x-a":"b"},"body":{"ok":true}}}}`, 201, `{"ok":true}`, "application/json; charset=utf-8"},
		{"a string body is text", `{"Outputs":{"res":{"statusCode":"202","body":"hello"}}}`, 202, `hello`, "text/plain; charset=utf-8"},
		{"the type of a string body can be set", `{"Outputs":{"res":{"headers":{"content-type":"text/html"},"body":"<p>"}}}`, 200, `<p>`, "text/html"},
		{"status is ignored", `{"Outputs":{"res":{"status":404,"body":"x!"}}}`, 200, `x!`, "text/plain; charset=utf-8"},
		{"the letter case of statusCode is free", `{"Outputs":{"res":{"StatusCode":404}}}`, 404, ``, "application/json; charset=utf-8"},
		{"no output is 200 with an empty object", `{}`, 200, `{}`, "application/json; charset=utf-8"},
		{"the return value is spread over the outputs", `{"ReturnValue":{"res":{"statusCode":203}}}`, 203, ``, "application/json; charset=utf-8"},
		{"a header that is no string is a bare 500", `{"Outputs":{"res":{"headers":{"a":1}}}}`, 500, ``, ""},
		{"an array is a bare 500", `{"Outputs":{"res":[]}}`, 500, ``, ""},
		{"a reply that is no JSON is a bare 500", `hello`, 500, ``, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			call := wireTo(t, Config{}, hostFile{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, c.reply)
			}))
			w := httptest.NewRecorder()
			call.serveEnvelope(w, httptest.NewRequest("GET", "/api/x", nil), &function{name: "x", binding: "req", outputs: []string{"res"}}, nil)
			if diff := cmp.Diff([]any{c.status, c.body, c.kind}, []any{w.Code, w.Body.String(), w.Header().Get("Content-Type")}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	routes := []string{"a/{*rest}", "a/b", "a/{id:int}", "a/{name}", "b/{x?}", "{all}"}
	var functions []*function
	for _, text := range routes {
		r, err := parseRoute(text)
		if err != nil {
			t.Fatal(err)
		}
		functions = append(functions, &function{name: text, trigger: httpTrigger, web: webBinding{route: r, authLevel: "anonymous"}})
	}
	h := &Host{file: hostFile{routePrefix: "v1/api"}, functions: functions}
	for _, c := range []struct {
		path, want string
		params     map[string]string
	}{
		{"/v1/api/a/b", "a/b", map[string]string{}},
		{"/v1/api/a/12", "a/{id:int}", map[string]string{"id": "12"}},
		{"/v1/api/a/x%20y", "a/{name}", map[string]string{"name": "x y"}},
		{"/v1/api/a/b/c", "a/{*rest}", map[string]string{"rest": "b/c"}},
		{"/v1/api/a", "a/{*rest}", map[string]string{}},
		{"/v1/api/b", "b/{x?}", map[string]string{}},
		{"/v1/api/b/1", "b/{x?}", map[string]string{"x": "1"}},
		{"/v1/api/c", "{all}", map[string]string{"all": "c"}},
		{"/v1/api/c/d", "", nil},
		{"/v1/apia/b", "", nil},
		{"/v2/api/a/b", "", nil},
	} {
		sorted := sortedWeb(h.functions)
		f, params := h.find(httptest.NewRequest("GET", c.path, nil), sorted)
		name := ""
		if f != nil {
			name = f.name
		}
		if name != c.want || cmp.Diff(c.params, params) != "" {
			t.Errorf("%s: %q %v, want %q %v", c.path, name, params, c.want, c.params)
		}
	}
}
