package functionshost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wireTo is a caller whose handler is an HTTP server of the test.
func wireTo(t *testing.T, cfg Config, file hostFile, h http.Handler) *caller {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	if file.initTimeout == 0 {
		file.initTimeout = 30 * time.Second
	}
	w, err := newWorker(cfg.withDefaults(), file, "app")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if w.port, err = strconv.Atoi(u.Port()); err != nil {
		t.Fatal(err)
	}
	w.setState(WorkerReady)
	t.Cleanup(w.client.CloseIdleConnections)
	return newCaller(context.Background(), cfg.withDefaults(), w, &counters{})
}

func TestReplyValidation(t *testing.T) {
	const good = `{"Outputs":{},"Logs":[],"ReturnValue":null}`
	for _, c := range []struct {
		name, kind, body string
		status           int
		want             string // part of the error; "" is success
	}{
		{name: "the full shape is a success", kind: "application/json", body: good},
		{name: "an empty object is a success", kind: "application/json; charset=utf-8", body: `{}`},
		{name: "text/json is JSON", kind: "text/json", body: good},
		{name: "unknown keys are ignored", kind: "application/json", body: `{"x":1}`},
		{name: "names are matched without case", kind: "application/json", body: `{"outputs":{},"logs":["a"]}`},
		{name: "202 is a success", status: 202, kind: "application/json", body: good},
		{name: "500 fails and its body is shown", status: 500, kind: "application/json", body: `{"why":"broken"}`, want: "broken"},
		{name: "404 fails", status: 404, kind: "application/json", body: good, want: "404"},
		{name: "text/plain fails even with status 200", kind: "text/plain; charset=utf-8", body: good, want: "content type"},
		{name: "a missing content type fails", kind: "-", body: good, want: "content type"},
		{name: "problem+json is not JSON to the host", kind: "application/problem+json", body: good, want: "content type"},
		{name: "204 hangs the real host", status: 204, want: "hangs"},
		{name: "an empty body hangs the real host", kind: "application/json", want: "hangs"},
		{name: "an empty text body hangs the real host", kind: "text/plain", want: "hangs"},
		{name: "null hangs the real host", kind: "application/json", body: " null\n", want: "hangs"},
		{name: "an array fails", kind: "application/json", body: `[]`, want: "no JSON object"},
		{name: "a number fails", kind: "application/json", body: `1`, want: "no JSON object"},
		{name: "broken JSON fails", kind: "application/json", body: `{"Outputs":`, want: "unexpected end"},
		{name: "an object in Logs fails", kind: "application/json", body: `{"Logs":[{"a":1}]}`, want: "Logs"},
		{name: "an array as Outputs fails", kind: "application/json", body: `{"Outputs":[]}`, want: "Outputs"},
		{name: "an output string that is base64 fails", kind: "application/json", body: `{"Outputs":{"res":"test"}}`, want: "base64"},
		{name: "an empty output string is base64 too", kind: "application/json", body: `{"Outputs":{"res":""}}`, want: "base64"},
		{name: "an output that is no binding is ignored", kind: "application/json", body: `{"Outputs":{"other":"test"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			call := wireTo(t, Config{}, hostFile{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.kind)
				if c.kind == "-" {
					w.Header()["Content-Type"] = nil
				}
				if c.status != 0 {
					w.WriteHeader(c.status)
				}
				io.WriteString(w, c.body)
			}))
			f := &function{name: "work", outputs: []string{"res"}}
			inv := call.invocation(f, "manual")
			_, err := call.post(f, []byte(`{}`), &inv)
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want one about %q", err, c.want)
			}
		})
	}
}

func TestInvocationRequest(t *testing.T) {
	var got *http.Request
	var body []byte
	call := wireTo(t, Config{}, hostFile{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.Background())
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Set-Cookie", "a=b")
		fmt.Fprint(w, `{}`)
	}))
	f := &function{name: "Work_Queue-1"}
	for range 2 {
		inv := call.invocation(f, "manual")
		if _, err := call.post(f, []byte(`{"Data":{}}`), &inv); err != nil {
			t.Fatal(err)
		}
		for what, pair := range map[string][2]string{
			"path":       {"/Work_Queue-1", got.URL.Path},
			"method":     {"POST", got.Method},
			"version":    {"HTTP/1.1", got.Proto},
			"type":       {"application/json; charset=utf-8", got.Header.Get("Content-Type")},
			"id":         {inv.ID, got.Header.Get("X-Azure-Functions-InvocationId")},
			"host":       {hostVersion, got.Header.Get("X-Azure-Functions-HostVersion")},
			"agent":      {"Azure-Functions-Host/" + hostVersion, got.Header.Get("User-Agent")},
			"encoding":   {"[chunked]", fmt.Sprint(got.TransferEncoding)},
			"no length":  {"-1", fmt.Sprint(got.ContentLength)},
			"no cookies": {"", got.Header.Get("Cookie")},
			"body":       {`{"Data":{}}`, string(body)},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s is %q, want %q", what, pair[1], pair[0])
			}
		}
	}
}

func TestRedirectedInvocation(t *testing.T) {
	handler := http.NewServeMux()
	var methods []string
	handler.HandleFunc("/work/", func(w http.ResponseWriter, r *http.Request) { // ServeMux answers 301 for /work
		methods = append(methods, r.Method)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{}`)
	})
	for _, c := range []struct {
		name       string
		forwarding bool
		methods    string
		fails      bool
	}{
		{name: "is followed as GET, loudly, without forwarding", methods: "[GET]"},
		{name: "fails with forwarding, which switches redirects off", forwarding: true, methods: "[]", fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			methods = nil
			var seen events
			cfg := Config{}
			seen.attach(&cfg)
			moved := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/work" {
					http.Redirect(w, r, "/work/", http.StatusMovedPermanently)
					return
				}
				handler.ServeHTTP(w, r)
			})
			call := wireTo(t, cfg, hostFile{forwarding: c.forwarding}, moved)
			f := &function{name: "work"}
			inv := call.invocation(f, "manual")
			_, err := call.post(f, []byte(`{}`), &inv)
			if (err != nil) != c.fails {
				t.Errorf("error %v", err)
			}
			if fmt.Sprint(methods) != c.methods {
				t.Errorf("handler saw %v, want %s", methods, c.methods)
			}
			if !c.fails && !seen.logged("level=WARN", "redirect") {
				t.Error("the redirect was followed without a warning")
			}
		})
	}
}

func TestRepliesReachTheLogAfterSuccessOnly(t *testing.T) {
	var seen events
	cfg := Config{}
	seen.attach(&cfg)
	status := 200
	call := wireTo(t, cfg, hostFile{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"Logs":["line of %d"],"Outputs":{"stray":1}}`, status)
	}))
	f := &function{name: "work"}
	for _, status = range []int{200, 500} {
		inv := call.invocation(f, "manual")
		_, err := call.post(f, []byte(`{}`), &inv)
		call.finish(inv, err)
	}
	if !seen.logged("function logged", "line of 200") || seen.logged("function logged", "line of 500") {
		t.Errorf("logs: %q", seen.records)
	}
	if !seen.logged("level=WARN", "stray") {
		t.Error("an output that is no binding passed in silence")
	}
	calls := seen.calls()
	if len(calls) != 2 || !calls[0].OK() || calls[1].OK() || calls[1].Status != 500 {
		t.Errorf("invocations %+v", calls)
	}
}

func TestEmptyReplyHangsWhenEmulated(t *testing.T) {
	call := wireTo(t, Config{HangOnEmptyReply: true}, hostFile{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	}))
	ctx, cancel := context.WithCancel(context.Background())
	call.ctx = ctx
	f := &function{name: "work"}
	inv := call.invocation(f, "manual")
	done := make(chan error, 1)
	go func() {
		_, err := call.post(f, nil, &inv)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("the call ended with %v, want it to hang", err)
	case <-time.After(200 * time.Millisecond):
	}
	cancel()
	if err := <-done; !errors.Is(err, errEmptyReply) && !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
