package functionshost

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// checkRoutes refuses two functions that would answer the same requests.
func checkRoutes(functions []*function, p *problems) {
	seen := map[string]string{}
	for _, f := range functions {
		if f.trigger != httpTrigger {
			continue
		}
		methods := f.web.methods
		if methods == nil {
			methods = []string{"*"}
		}
		for _, m := range methods {
			key := m + " " + strings.ToLower(f.web.route.text)
			if other, twice := seen[key]; twice {
				p.errorf("%s and %s have the same route %s %s", other, f.name, m, f.web.route.text)
			}
			seen[key] = f.name
		}
	}
}

// front is the public HTTP side: functions under the route prefix, and the admin
// routes that a developer needs.
func (h *Host) front() http.Handler {
	web := sortedWeb(h.functions)
	admin := http.NewServeMux()
	admin.HandleFunc("GET /admin/host/status", h.status)
	admin.HandleFunc("POST /admin/functions/{name}", h.start)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.EscapedPath(); {
		case path == "/" && r.Method == http.MethodGet:
			fmt.Fprintln(w, "local Functions host: this app is up and running")
		case strings.HasPrefix(strings.ToLower(path), "/admin/"):
			if !h.opens(r, h.cfg.Keys.Master) {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			admin.ServeHTTP(w, r)
		default:
			h.serveFunction(w, r, web)
		}
	})
}

// sortedWeb picks the HTTP functions, the most specific route first.
func sortedWeb(functions []*function) []*function {
	var web []*function
	for _, f := range functions {
		if f.trigger == httpTrigger {
			web = append(web, f)
		}
	}
	slices.SortFunc(web, byPrecedence)
	return web
}

// opens reports whether the request carries one of the keys. An empty key opens
// nothing.
func (h *Host) opens(r *http.Request, keys ...string) bool {
	given := r.Header.Get("X-Functions-Key")
	if given == "" {
		given = r.URL.Query().Get("code")
	}
	for _, key := range keys {
		if key != "" && subtle.ConstantTimeCompare([]byte(given), []byte(key)) == 1 {
			return true
		}
	}
	return false
}

func (h *Host) serveFunction(w http.ResponseWriter, r *http.Request, web []*function) {
	f, params := h.find(r, web)
	if f == nil {
		// A wrong method is no 405 either: the method is part of the route.
		w.WriteHeader(http.StatusNotFound)
		return
	}
	allowed := f.web.authLevel == "anonymous" ||
		f.web.authLevel == "function" && h.opens(r, h.cfg.Keys.Function, h.cfg.Keys.Master) ||
		f.web.authLevel == "admin" && h.opens(r, h.cfg.Keys.Master)
	c := h.callerFor(f)
	switch {
	case !allowed:
		w.WriteHeader(http.StatusUnauthorized)
	case c == nil:
		w.WriteHeader(http.StatusServiceUnavailable)
	case f.web.forward:
		c.forward(w, r, f)
	default:
		c.serveEnvelope(w, r, f, params)
	}
}

func (h *Host) find(r *http.Request, web []*function) (*function, map[string]string) {
	path := strings.Trim(r.URL.EscapedPath(), "/")
	if prefix := h.file.routePrefix; prefix != "" {
		if len(path) <= len(prefix) || !strings.EqualFold(path[:len(prefix)], prefix) || path[len(prefix)] != '/' {
			return nil, nil
		}
		path = path[len(prefix)+1:]
	}
	segments := strings.Split(path, "/")
	for _, f := range web {
		if f.web.methods != nil && !slices.Contains(f.web.methods, r.Method) {
			continue
		}
		if params, ok := f.web.route.match(segments); ok {
			return f, params
		}
	}
	return nil, nil
}

// status answers GET /admin/host/status.
func (h *Host) status(w http.ResponseWriter, _ *http.Request) {
	state := "Running"
	select {
	case <-h.ready:
	default:
		state = "Default"
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(plain(struct {
		ID      string `json:"id"`
		State   string `json:"state"`
		Version string `json:"version"`
		Stats   Stats  `json:"stats"`
	}{"local", state, hostVersion, h.Stats()})) // the reader may be gone
}

// start answers POST /admin/functions/<Name>: it calls the function in the
// background and says 202.
func (h *Host) start(w http.ResponseWriter, r *http.Request) {
	i := slices.IndexFunc(h.functions, func(f *function) bool { return strings.EqualFold(f.name, r.PathValue("name")) })
	if i < 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	f := h.functions[i]
	var body struct {
		Input string `json:"input"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&body); err != nil {
		http.Error(w, "want a JSON object, {} or {\"input\":\"...\"}", http.StatusBadRequest)
		return
	}
	if f.trigger == httpTrigger {
		http.Error(w, "call an HTTP function by its route", http.StatusBadRequest)
		return
	}
	c := h.callerFor(f)
	if c == nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	h.manual.Go(func() { h.startManually(c, f, body.Input) })
	w.WriteHeader(http.StatusAccepted)
}

// startManually calls a function without its listener. A timer gets its usual
// TimerInfo; a message has a body and no system metadata.
func (h *Host) startManually(c *caller, f *function, input string) {
	inv := c.invocation(f, "manual")
	opts := encoding{id: inv.ID, singleData: c.cfg.SingleEncodedData}
	var body []byte
	if f.trigger == timerTrigger {
		body = h.timer(f, c).body(inv.ID, time.Now(), false)
	} else {
		meta := newBindingData()
		meta.set("sys", systemData(f.name, inv.ID, time.Now()))
		data := opts.text(input)
		switch {
		case f.bus.many && f.bus.dataType == "binary":
			data = twice([][]byte{[]byte(input)})
		case f.bus.many:
			data = twice([]string{input})
		case f.bus.dataType == "binary":
			data = base64Once([]byte(input))
		default:
			meta.leak(input)
		}
		body = envelope(f.binding, data, meta)
	}
	_, err := c.send(f, body, &inv)
	c.finish(inv, err)
}
