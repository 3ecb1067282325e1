package cyclecloudsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// controlRequest is the body of every POST /sim/... call; each call uses the
// fields that its Go method takes. Durations are Go text, such as "90s".
type controlRequest struct {
	NodeArray  string   `json:"nodearray"`
	Node       string   `json:"node"`
	VM         string   `json:"vm"`
	Kind       string   `json:"kind"`
	Count      int      `json:"count"`
	Reason     string   `json:"reason"`
	Patterns   []string `json:"patterns"`
	MaxCount   *int     `json:"max_count"`
	Lag        string   `json:"lag"`
	Keep       bool     `json:"keep"`
	State      string   `json:"state"`
	Target     string   `json:"target"`
	Requests   int      `json:"requests"`
	Duration   string   `json:"duration"`
	RetryAfter string   `json:"retry_after"`
	Method     string   `json:"method"`
	Path       string   `json:"path"`
}

// controls maps the last part of the path to the Go method of that name.
var controls = map[string]func(*Sim, controlRequest) error{
	"fail-next": func(s *Sim, c controlRequest) error {
		for range min(max(c.Count, 1), 10_000) {
			if err := s.FailNext(c.NodeArray, FailKind(c.Kind)); err != nil {
				return err
			}
		}
		return nil
	},
	"vanish":      func(s *Sim, c controlRequest) error { return s.Vanish(c.Node, orElse(c.Reason, ReasonVMDisappeared)) },
	"delete-vm":   func(s *Sim, c controlRequest) error { return s.DeleteVM(c.VM, orElse(c.Reason, ReasonVMDisappeared)) },
	"never-ready": func(s *Sim, c controlRequest) error { return s.NeverReady(c.Patterns...) },
	"limit": func(s *Sim, c controlRequest) error {
		if c.MaxCount == nil {
			return fmt.Errorf("max_count is missing")
		}
		return s.SetLimit(c.NodeArray, *c.MaxCount)
	},
	"available-lag": func(s *Sim, c controlRequest) error {
		lag, err := time.ParseDuration(c.Lag)
		if err != nil {
			return fmt.Errorf("lag: %w", err)
		}
		s.SetAvailableLag(lag)
		return nil
	},
	"keep-alive":             func(s *Sim, c controlRequest) error { return s.SetKeepAlive(c.Node, c.Keep) },
	"terminate-by-user":      func(s *Sim, c controlRequest) error { return s.TerminateByUser(c.Node) },
	"cluster-state":          func(s *Sim, c controlRequest) error { s.SetClusterState(c.State, c.Target); return nil },
	"outage":                 controlOutage,
	"clear-outages":          func(s *Sim, _ controlRequest) error { s.ClearOutages(); return nil },
	"regenerate-certificate": func(s *Sim, _ controlRequest) error { return s.RegenerateCertificate() },
}

func controlOutage(s *Sim, c controlRequest) error {
	duration, err := time.ParseDuration(orElse(c.Duration, "0s"))
	if err != nil {
		return fmt.Errorf("duration: %w", err)
	}
	retryAfter, err := time.ParseDuration(orElse(c.RetryAfter, "0s"))
	if err != nil {
		return fmt.Errorf("retry_after: %w", err)
	}
	return s.Outage(Outage{
		Kind: OutageKind(c.Kind), Requests: c.Requests, Duration: duration,
		Method: c.Method, Path: c.Path, RetryAfter: retryAfter,
	})
}

// ControlHandler is the control surface of a standalone run: POST /sim/{call}
// with a JSON object, GET /sim/snapshot, GET /sim/journal. A mistake is a 400
// with one line of text. It has no authentication and belongs on loopback.
func (s *Sim) ControlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sim/snapshot", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.Snapshot())
	})
	mux.HandleFunc("GET /sim/journal", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.Journal())
	})
	mux.HandleFunc("POST /sim/{call}", func(w http.ResponseWriter, r *http.Request) {
		call, ok := controls[r.PathValue("call")]
		if !ok {
			http.Error(w, "unknown call", http.StatusNotFound)
			return
		}
		var c controlRequest
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
		d.DisallowUnknownFields()
		err := d.Decode(&c)
		if err == nil {
			err = call(s, c)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}
