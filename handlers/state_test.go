package handlers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/handlers"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

func (w *world) get(path string) *httptest.ResponseRecorder {
	w.t.Helper()
	got := httptest.NewRecorder()
	w.app.ServeHTTP(got, httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, path, nil))
	return got
}

type page struct {
	Items []map[string]any `json:"items"`
	Next  string           `json:"next"`
	Error string           `json:"error"`
}

func (w *world) page(path string, status int) page {
	w.t.Helper()
	got := w.get(path)
	var p page
	if err := json.Unmarshal(got.Body.Bytes(), &p); err != nil {
		w.t.Fatalf("%s: %v in %q", path, err, got.Body)
	}
	if got.Code != status {
		w.t.Errorf("%s: status %d, want %d: %s", path, got.Code, status, got.Body)
	}
	if got.Header().Get("Content-Type") != "application/json" || got.Header().Get("Cache-Control") != "no-store" {
		w.t.Errorf("%s: headers %v", path, got.Header())
	}
	return p
}

// filled is an app whose tables hold a little of everything.
func filled(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, nil)
	if code := w.post("queue_pressure", snapshot(t, 1).invocation()); code != 200 {
		t.Fatalf("status %d: %s", code, w.log)
	}
	ctx := t.Context()
	var nodes []ledger.Node
	for i := range 5 {
		nodes = append(nodes, ledger.Node{Name: fmt.Sprintf("htc-%d", i+1), Nodearray: "htc", ReasonCode: "idle"})
	}
	if _, lost, err := w.ledger.PutNodes(ctx, "onprem", nodes); err != nil || len(lost) > 0 {
		t.Fatal(lost, err)
	}
	if err := w.ledger.AppendFailures(ctx, "onprem", []ledger.Failure{{At: time.Now(), Node: "htc-1", Code: "boot_failed", Source: "cyclecloud"}}); err != nil {
		t.Fatal(err)
	}
	if err := w.ledger.NoteJobs(ctx, "onprem", []ledger.Job{
		{ID: "7", State: "ended", User: "eva", Account: "bio", Nodearray: "htc"},
		{ID: "a", Group: true, Count: 9, State: "held", ReasonCode: "budget_hard"},
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.ledger.PutSpend(ctx, "onprem", []ledger.Spend{
		{Month: "2026-10", Account: "bio", Nodearray: "htc", Accrued: 5}, {Month: "2026-11", Account: "bio", Nodearray: "htc", Accrued: 7},
	}); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestEveryTableCanBeRead(t *testing.T) {
	w := filled(t)
	for name, want := range map[string]int{
		"clusters": 1, "clusters?cluster=onprem": 1, "clusters?cluster=other": 0,
		"nodearrays?cluster=onprem": 1, "nodearrays?partition=htc": 1, "nodearrays?partition=gpu": 0,
		"nodes?cluster=onprem": 5, "nodes?nodearray=gpu": 0, "nodes?reason=idle": 5, "nodes?cluster=other": 0,
		"decisions?cluster=onprem": 1, "decisions?cluster=onprem&trigger=queue_pressure/poll": 1, "decisions?cluster=onprem&trigger=x": 0,
		"commands?state=sent": 1, "commands?kind=fence_nodes&nodearray=htc": 1, "commands?state=ok": 0,
		"failures?cluster=onprem&node=htc-1": 1, "failures?cluster=onprem&failure=boot_failed": 1, "failures?cluster=onprem&failure=other": 0,
		"jobs?cluster=onprem": 2, "jobs?state=held": 1, "jobs?state=ended&account=bio&user=eva": 1, "jobs?reason=budget_hard": 1, "jobs?nodearray=gpu": 0,
		"spend?cluster=onprem": 2, "spend?cluster=onprem&month=2026-11": 1, "spend?account=bio&nodearray=htc": 2, "spend?month=2020-01": 0,
		// The host leaves its function key in the query.
		"failures?cluster=onprem&code=secret-key": 1,
	} {
		p := w.page("/api/state/v1/"+name, http.StatusOK)
		if p.Items == nil {
			t.Errorf("%s: items is null, want a list", name)
		}
		if len(p.Items) != want {
			t.Errorf("%s: %d rows, want %d", name, len(p.Items), want)
		}
	}
}

func TestAListingComesInPages(t *testing.T) {
	w := filled(t)
	var names []string
	query := "/api/state/v1/nodes?cluster=onprem&top=2"
	for next := "first"; next != ""; {
		p := w.page(query, http.StatusOK)
		if len(p.Items) > 2 || len(names) > 5 {
			t.Fatalf("%d rows after %v", len(p.Items), names)
		}
		for _, row := range p.Items {
			names = append(names, row["Name"].(string))
		}
		next = p.Next
		query = "/api/state/v1/nodes?cluster=onprem&top=2&token=" + url.QueryEscape(next)
	}
	if !slices.Equal(names, []string{"htc-1", "htc-2", "htc-3", "htc-4", "htc-5"}) {
		t.Errorf("got %v", names)
	}
}

func TestBadParametersAreNamed(t *testing.T) {
	w := filled(t)
	token := w.page("/api/state/v1/nodes?cluster=onprem&top=1", http.StatusOK).Next
	for path, names := range map[string]string{
		"": "clusters", "policies": "policies", "nodes/htc-1": "nodes/htc-1", "..%2fadmin": "admin",
		"nodes?top=0": "top", "nodes?top=1001": "top", "nodes?top=many": "top", "nodes?top=-1": "top",
		"nodes?token=x": "token", "nodes?token=" + strings.Repeat("A", 5000): "token", "clusters?token=" + token: "token",
		"nodes?clutser=onprem": "clutser", "nodes?state=sent": "state", "nodes?%zz": "query", "nodes?a;b": "query",
		"nodes?" + strings.Repeat("x", 500) + "=1": "parameter",
	} {
		p := w.page("/api/state/v1/"+path, http.StatusBadRequest)
		if !strings.Contains(p.Error, names) || len(p.Error) > 400 {
			t.Errorf("%.60s: the error %q does not name %q", path, p.Error, names)
		}
	}
}

func TestHostileFiltersFindNothing(t *testing.T) {
	w := filled(t)
	for _, value := range []string{
		"' or '1' eq '1", "onprem' or PartitionKey ne '", "\x00", "\r\nX: y", "../..", "%", "*", "onprem/../other", strings.Repeat("a", 3000), "\xff\xfe",
	} {
		for _, parameter := range []string{"cluster", "nodearray", "reason"} {
			got := w.get("/api/state/v1/nodes?" + parameter + "=" + url.QueryEscape(value))
			var p page
			if err := json.Unmarshal(got.Body.Bytes(), &p); err != nil || len(p.Items) > 0 || got.Code >= 500 {
				t.Errorf("%s=%.30q: status %d, %.200s, %v", parameter, value, got.Code, got.Body, err)
			}
		}
	}
}

type brokenTables struct {
	*ledger.Memory
	err error
}

func (b brokenTables) ListClusters(context.Context, ledger.Page) ([]ledger.ClusterStatus, string, error) {
	if b.err == nil {
		panic("nil pointer in secret-place")
	}
	return nil, "", b.err
}

func TestErrorsTellCallersOnlyWhatTheyCanMend(t *testing.T) {
	secret := "AccountKey=secret-place"
	for name, c := range map[string]struct {
		err    error
		status int
	}{
		"tables away":  {fault.Newf(fault.Transient, "list: %s", secret), 503},
		"no role":      {fault.Newf(fault.Denied, "list: %s", secret), 500},
		"bug":          {fault.Newf(fault.Bug, "list: %s", secret), 500},
		"panic":        {nil, 500},
		"unclassified": {fmt.Errorf("list: %s", secret), 500},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(o *handlers.Options) { o.State = brokenTables{err: c.err} })
			p := w.page("/api/state/v1/clusters", c.status)
			if p.Error == "" || strings.Contains(p.Error, "secret-place") || p.Items != nil {
				t.Errorf("answer %+v", p)
			}
			if !strings.Contains(w.log.String(), "secret-place") {
				t.Errorf("the log does not say what happened: %s", w.log)
			}
		})
	}
}

func TestOnlyReadingIsServed(t *testing.T) {
	w := filled(t)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		got := httptest.NewRecorder()
		w.app.ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), method, "/api/state/v1/nodes", strings.NewReader("{}")))
		if got.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: status %d", method, got.Code)
		}
	}
}
