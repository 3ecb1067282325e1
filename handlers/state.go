package handlers

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/logging"
)

// statePage is one page of a table.
type statePage struct {
	Items any `json:"items"`
	// Next is the token of the next page, given as ?token=; empty at the end.
	Next string `json:"next,omitempty"`
}

// table is one of the public tables: the filters that it takes besides the
// parameters that all take, and how a page of it is read.
type table struct {
	filters []string
	list    func(ctx context.Context, from stateReader, q url.Values, page ledger.Page) (any, string, error)
}

// common are the parameters that every table takes. The host adds code and
// clientId, its function keys, which must not be read here.
var common = []string{"cluster", "top", "token", "code", "clientId"}

var tables = map[string]table{
	"clusters": {nil, func(ctx context.Context, from stateReader, q url.Values, page ledger.Page) (any, string, error) {
		rows, next, err := from.ListClusters(ctx, page)
		if wanted := q.Get("cluster"); wanted != "" {
			rows = slices.DeleteFunc(rows, func(s ledger.ClusterStatus) bool { return s.Cluster.Cluster != wanted })
		}
		return listed(rows, next, err)
	}},
	"nodearrays": {[]string{"partition"}, func(ctx context.Context, from stateReader, q url.Values, page ledger.Page) (any, string, error) {
		return listed(from.ListNodearrays(ctx, ledger.NodearrayFilter{Cluster: q.Get("cluster"), Partition: q.Get("partition")}, page))
	}},
	"nodes": {[]string{"nodearray", "reason"}, func(ctx context.Context, from stateReader, q url.Values, page ledger.Page) (any, string, error) {
		f := ledger.NodeFilter{Cluster: q.Get("cluster"), Nodearray: q.Get("nodearray"), ReasonCode: q.Get("reason")}
		return listed(from.ListNodes(ctx, f, page))
	}},
	"decisions": {[]string{"trigger"}, func(ctx context.Context, from stateReader, q url.Values, page ledger.Page) (any, string, error) {
		return listed(from.ListDecisions(ctx, ledger.DecisionFilter{Cluster: q.Get("cluster"), Trigger: q.Get("trigger")}, page))
	}},
	"commands": {[]string{"kind", "nodearray", "state"}, func(ctx context.Context, from stateReader, q url.Values, page ledger.Page) (any, string, error) {
		f := ledger.CommandFilter{
			Cluster: q.Get("cluster"), Kind: q.Get("kind"), Nodearray: q.Get("nodearray"), State: ledger.CommandState(q.Get("state")),
		}
		return listed(from.ListCommands(ctx, f, page))
	}},
	"failures": {[]string{"node", "failure"}, func(ctx context.Context, from stateReader, q url.Values, page ledger.Page) (any, string, error) {
		f := ledger.FailureFilter{Cluster: q.Get("cluster"), Node: q.Get("node"), Code: q.Get("failure")}
		return listed(from.ListFailures(ctx, f, page))
	}},
	"jobs": {[]string{"state", "nodearray", "user", "account", "reason"}, func(ctx context.Context, from stateReader, q url.Values, page ledger.Page) (any, string, error) {
		f := ledger.JobFilter{
			Cluster: q.Get("cluster"), State: q.Get("state"), Nodearray: q.Get("nodearray"), User: q.Get("user"), Account: q.Get("account"),
			ReasonCode: q.Get("reason"),
		}
		return listed(from.ListJobs(ctx, f, page))
	}},
	"spend": {[]string{"month", "account", "nodearray"}, func(ctx context.Context, from stateReader, q url.Values, page ledger.Page) (any, string, error) {
		f := ledger.SpendFilter{Cluster: q.Get("cluster"), Month: q.Get("month"), Account: q.Get("account"), Nodearray: q.Get("nodearray")}
		return listed(from.ListSpend(ctx, f, page))
	}},
}

// state answers GET /api/state/v1/{table}: the public tables as paged JSON.
// Parameters: cluster, top (1 to 1000), token, and the table's own filters.
func (a *app) state(ctx context.Context, r *http.Request) (any, error) {
	name := strings.TrimPrefix(r.URL.Path, "/api/state/v1/")
	asked, ok := tables[name]
	if !ok {
		return nil, fault.Newf(fault.Invalid, "no table %.40q: ask for clusters, nodearrays, nodes, decisions, commands, failures, jobs or spend", name)
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault.Newf(fault.Invalid, "the query cannot be read: %v", err)
	}
	for key := range q {
		if !slices.Contains(common, key) && !slices.Contains(asked.filters, key) {
			return nil, fault.Newf(fault.Invalid, "no parameter %.40q: table %s takes cluster, top, token%s", key, name,
				strings.Join(append([]string{""}, asked.filters...), ", "))
		}
	}
	page, err := pageOf(q)
	if err != nil {
		return nil, err
	}
	items, next, err := asked.list(ctx, a.State, q, page)
	return statePage{Items: items, Next: next}, err
}

// listed keeps an empty page from becoming null.
func listed[T any](items []T, next string, err error) (any, string, error) {
	if items == nil {
		items = []T{}
	}
	return items, next, err
}

func pageOf(q url.Values) (ledger.Page, error) {
	page := ledger.Page{Token: q.Get("token")}
	text := q.Get("top")
	if text == "" {
		return page, nil
	}
	top, err := strconv.Atoi(text)
	if err != nil || top < 1 || top > ledger.MaxTop {
		return page, fault.Newf(fault.Invalid, "top is %.20q, want 1 to %d", text, ledger.MaxTop)
	}
	page.Top = top
	return page, nil
}

// forwarded answers an HTTP function: the host passes the request on as it is.
func (a *app) forwarded(name string, answer func(context.Context, *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := a.Now()
		ctx, cancel := context.WithTimeout(r.Context(), a.Deadline)
		defer cancel()
		body, err := guarded(func() (any, error) { return answer(ctx, r) })
		status := http.StatusOK
		if err != nil {
			status = httpStatus(err)
			body = map[string]string{"error": a.publicText(err)}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // the caller is gone: nobody to tell
		attrs := []any{logging.Function, name, logging.Path, r.URL.Path, "status", status, logging.Duration, a.Now().Sub(began)}
		if status >= http.StatusInternalServerError {
			a.Logger.Error("request failed", append(attrs, logging.Error, err.Error())...)
			return
		}
		a.Logger.Info("request answered", attrs...)
	})
}

func guarded(answer func() (any, error)) (body any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Newf(fault.Bug, "panic: %v\n%s", p, debug.Stack())
		}
	}()
	return answer()
}

func httpStatus(err error) int {
	switch fault.Of(err) {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Transient, fault.Conflict:
		return http.StatusServiceUnavailable
	case fault.Denied, fault.Bug:
	}
	return http.StatusInternalServerError
}

// publicText is what a caller may see of an error: only what they can mend.
func (a *app) publicText(err error) string {
	switch fault.Of(err) {
	case fault.Invalid:
		return err.Error()
	case fault.Transient, fault.Conflict:
		return "the tables do not answer; try again"
	case fault.Denied, fault.Bug:
	}
	return "internal error; the app's log has it at " + a.Now().UTC().Format(time.RFC3339)
}
