package handlers

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"runtime/debug"
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

// state answers GET /api/state/v1/{table}: the public tables as paged JSON.
// Parameters: cluster, top (1 to 1000), token, and the table's own filters.
func (a *app) state(ctx context.Context, r *http.Request) (any, error) {
	table := strings.TrimPrefix(r.URL.Path, "/api/state/v1/")
	q := r.URL.Query()
	page, err := pageOf(q)
	if err != nil {
		return nil, err
	}
	var items any
	var next string
	cluster := q.Get("cluster")
	switch table {
	case "clusters":
		items, next, err = listed(a.State.ListClusters(ctx, page))
	case "nodearrays":
		items, next, err = listed(a.State.ListNodearrays(ctx, ledger.NodearrayFilter{Cluster: cluster, Partition: q.Get("partition")}, page))
	case "nodes":
		items, next, err = listed(a.State.ListNodes(ctx, ledger.NodeFilter{Cluster: cluster, Nodearray: q.Get("nodearray"), ReasonCode: q.Get("reason")}, page))
	case "decisions":
		items, next, err = listed(a.State.ListDecisions(ctx, ledger.DecisionFilter{Cluster: cluster, Trigger: q.Get("trigger")}, page))
	case "commands":
		items, next, err = listed(a.State.ListCommands(ctx, ledger.CommandFilter{
			Cluster: cluster, Kind: q.Get("kind"), Nodearray: q.Get("nodearray"), State: ledger.CommandState(q.Get("state")),
		}, page))
	case "failures":
		items, next, err = listed(a.State.ListFailures(ctx, ledger.FailureFilter{Cluster: cluster, Node: q.Get("node"), Code: q.Get("code")}, page))
	default:
		return nil, fault.Newf(fault.Invalid, "no table %.40q: ask for clusters, nodearrays, nodes, decisions, commands or failures", table)
	}
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
			body = map[string]string{"error": publicText(err)}
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
func publicText(err error) string {
	switch fault.Of(err) {
	case fault.Invalid:
		return err.Error()
	case fault.Transient, fault.Conflict:
		return "the tables do not answer; try again"
	case fault.Denied, fault.Bug:
	}
	return "internal error; the app's log has it at " + time.Now().UTC().Format(time.RFC3339)
}
