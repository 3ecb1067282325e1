package cyclecloudsim

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// maxBody bounds a request body: 100 sets need far less.
const maxBody = 4 << 20

// Handler is the REST API, with authentication, outages and the journal
// around it.
func (s *Sim) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /clusters/{cluster}/status", s.getStatus)
	mux.HandleFunc("GET /clusters/{cluster}/nodes", s.getNodes)
	mux.HandleFunc("POST /clusters/{cluster}/nodes/create", s.postCreate)
	mux.HandleFunc("POST /clusters/{cluster}/nodes/{action}", s.postManage)
	mux.HandleFunc("POST /clusters/{cluster}/scale/{nodearray}", s.postScale)
	mux.HandleFunc("GET /clusters/{cluster}/usage", s.getUsage)
	mux.HandleFunc("GET /operations/{$}", s.getOperations)
	mux.HandleFunc("GET /operations", s.getOperations)
	mux.HandleFunc("GET /operations/{id}", s.getOperation)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { s.refuse(w, http.StatusNotFound, "not found") })
	api := http.StripPrefix(s.cfg.ContextPath, mux)
	return s.recorded(s.disturbed(s.authenticated(api)))
}

// statusWriter remembers the status code for the journal.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recorded writes every request into the journal, also one whose connection
// was cut (status 0).
func (s *Sim) recorded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sw := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		cut := true
		defer func() {
			if cut {
				sw.code = 0
			}
			s.journal.add(Entry{
				Event: HTTP, Method: r.Method, Path: r.URL.EscapedPath(), Status: sw.code,
				RequestID: r.URL.Query().Get("request_id"), Detail: r.URL.RawQuery,
			})
		}()
		next.ServeHTTP(sw, r)
		cut = false
	})
}

func (s *Sim) authenticated(next http.Handler) http.Handler {
	same := func(a, b string) bool {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
		return subtle.ConstantTimeCompare(x[:], y[:]) == 1
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		userOK, passwordOK := same(user, s.cfg.User), same(password, s.cfg.Password)
		if !userOK || !passwordOK {
			s.unauthorized(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Sim) unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="CycleCloud"`)
	writeError(w, http.StatusUnauthorized, "Unauthorized", s.cfg.Quirks.Unauthorized)
}

// refuse answers an error with the body that the quirk chose. The reference
// documents no body at all, and clients match its text.
func (s *Sim) refuse(w http.ResponseWriter, code int, message string) {
	form := s.cfg.Quirks.ErrorBody
	if form == Mixed {
		s.mu.Lock()
		form = []Answer{JSON, HTML, Text, Empty}[s.rng.IntN(4)]
		s.mu.Unlock()
	}
	writeError(w, code, message, form)
}

func writeError(w http.ResponseWriter, code int, message string, form Answer) {
	switch form {
	case JSON:
		writeJSON(w, code, map[string]any{"code": code, "message": message})
	case HTML:
		w.Header().Set("Content-Type", "text/html;charset=utf-8")
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, "<html><head><title>Error %d</title></head><body><h2>HTTP ERROR %d</h2><p>%s</p></body></html>\n",
			code, code, html.EscapeString(message))
	case Text:
		w.Header().Set("Content-Type", "text/plain;charset=utf-8")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, message+"\n")
	default:
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(code)
	}
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client went away
}

// cluster answers 404 for any cluster but ours, and says whether it is ours.
func (s *Sim) cluster(w http.ResponseWriter, r *http.Request) bool {
	if r.PathValue("cluster") == s.cfg.Cluster {
		return true
	}
	code := http.StatusNotFound
	if s.cfg.Quirks.UnknownCluster == Conflict {
		code = http.StatusConflict
	}
	s.refuse(w, code, "Cluster not found: "+r.PathValue("cluster"))
	return false
}

// decode reads a JSON body, whatever its Content-Type: Microsoft's clients
// send text/plain as well as application/json.
func (s *Sim) decode(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("data after the JSON object")
		}
	}
	if err != nil {
		s.refuse(w, http.StatusConflict, "invalid input: "+err.Error())
		return false
	}
	return true
}

func (s *Sim) getStatus(w http.ResponseWriter, r *http.Request) {
	if !s.cluster(w, r) {
		return
	}
	withNodes, err := strconv.ParseBool(orElse(r.URL.Query().Get("nodes"), "false"))
	if err != nil {
		s.refuse(w, http.StatusBadRequest, "nodes must be true or false")
		return
	}
	s.mu.Lock()
	out := s.status(withNodes)
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, out)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (s *Sim) getNodes(w http.ResponseWriter, r *http.Request) {
	if !s.cluster(w, r) {
		return
	}
	q := r.URL.Query()
	id, requestID := q.Get("operation"), q.Get("request_id")
	if id != "" && requestID != "" {
		s.refuse(w, http.StatusBadRequest, "give operation or request_id, not both")
		return
	}
	s.mu.Lock()
	out := nodeList{}
	var op *operation
	if id != "" || requestID != "" {
		op = s.findOperation(id, requestID)
		if op != nil {
			out.Operation = op.status()
		}
	}
	out.Nodes = s.records(func(n *node) bool { return op == nil || op.has(n) })
	s.mu.Unlock()
	if op == nil && id+requestID != "" {
		s.refuse(w, http.StatusNotFound, noOperation(id, requestID))
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// noOperation is the text that Microsoft's Symphony client looks for.
func noOperation(id, requestID string) string {
	if requestID != "" {
		return "No operation found for request id " + requestID
	}
	return "No operation found for id " + id
}

func (s *Sim) postCreate(w http.ResponseWriter, r *http.Request) {
	var req creationRequest
	if !s.cluster(w, r) || !s.decode(w, r, &req) {
		return
	}
	s.mu.Lock()
	out, err := s.create(req)
	s.mu.Unlock()
	s.accepted(w, r, out.OperationID, out, err)
}

func (s *Sim) postManage(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("action")
	if actions[name] == nil {
		s.refuse(w, http.StatusNotFound, "unknown action "+name)
		return
	}
	var req managementRequest
	if !s.cluster(w, r) || !s.decode(w, r, &req) {
		return
	}
	s.mu.Lock()
	out, err := s.manage(name, req)
	s.mu.Unlock()
	s.accepted(w, r, out.OperationID, out, err)
}

func (s *Sim) postScale(w http.ResponseWriter, r *http.Request) {
	if !s.cluster(w, r) {
		return
	}
	a := s.array(r.PathValue("nodearray"))
	if a == nil {
		s.refuse(w, http.StatusConflict, "nodearray "+r.PathValue("nodearray")+" does not exist")
		return
	}
	q := r.URL.Query()
	text := q.Get("totalNodeCount") + q.Get("totalCoreCount")
	total, err := strconv.Atoi(text)
	if q.Has("totalNodeCount") == q.Has("totalCoreCount") || err != nil || total < 0 || total > 1_000_000 {
		s.refuse(w, http.StatusConflict, "give exactly one of totalNodeCount and totalCoreCount, a number")
		return
	}
	s.mu.Lock()
	nodes, cores := total, 0
	if q.Has("totalCoreCount") {
		nodes, cores = 0, total
	}
	out, err := s.scale(a, nodes, cores)
	s.mu.Unlock()
	s.accepted(w, r, out.OperationID, out, err)
}

// accepted writes the 202 with its Location, or the 409.
func (s *Sim) accepted(w http.ResponseWriter, r *http.Request, id string, out any, err error) {
	if err != nil {
		s.refuse(w, http.StatusConflict, err.Error())
		return
	}
	location := s.cfg.ContextPath + "/operations/" + id
	switch s.cfg.Quirks.Location {
	case Absolute:
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		w.Header().Set("Location", (&url.URL{Scheme: scheme, Host: r.Host, Path: location}).String())
	case Relative:
		w.Header().Set("Location", location)
	}
	writeJSON(w, http.StatusAccepted, out)
}

func (s *Sim) getUsage(w http.ResponseWriter, r *http.Request) {
	if !s.cluster(w, r) {
		return
	}
	s.mu.Lock()
	out, err := s.usage(r.URL.Query())
	s.mu.Unlock()
	if err != nil {
		s.refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Sim) getOperations(w http.ResponseWriter, r *http.Request) {
	requestID := r.URL.Query().Get("request_id")
	out := []*operationStatus{}
	s.mu.Lock()
	for _, op := range s.operations {
		if requestID == "" {
			out = append(out, op.status())
		}
	}
	if op := s.findOperation("", requestID); op != nil {
		out = append(out, op.status())
	}
	s.mu.Unlock()
	if len(out) == 0 && requestID != "" && s.cfg.Quirks.UnknownOperation == NotFound {
		s.refuse(w, http.StatusNotFound, noOperation("", requestID))
		return
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Sim) getOperation(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	op := s.findOperation(r.PathValue("id"), "")
	s.mu.Unlock()
	if op == nil {
		s.refuse(w, http.StatusNotFound, noOperation(r.PathValue("id"), ""))
		return
	}
	writeJSON(w, http.StatusOK, op.status())
}

// findOperation looks an operation up by one of its two ids. A request id
// that was used for several kinds of action gives the newest.
func (s *Sim) findOperation(id, requestID string) *operation {
	for i := len(s.operations) - 1; i >= 0; i-- {
		op := s.operations[i]
		if id != "" && op.id == id || requestID != "" && op.requestID == requestID {
			return op
		}
	}
	return nil
}

func (op *operation) status() *operationStatus {
	return &operationStatus{Action: op.action, StartTime: op.start.UTC().Format(time.RFC3339)}
}

func (op *operation) has(n *node) bool {
	return slices.Contains(op.nodeIDs, n.id)
}
