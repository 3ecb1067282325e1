package servicebusemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// maxControlBody bounds what is read of a request to the control surface.
const maxControlBody = 1 << 16

// ControlHandler changes faults while the server runs, and tells its stats, as
// JSON over HTTP. It asks nobody who they are: bind loopback.
//
//	GET    /stats               QueueStats by queue
//	GET    /faults              Faults by queue
//	PUT    /faults/{queue}      Faults of one queue, replacing all of them
//	DELETE /faults/{queue}      none
//	POST   /detach/{queue}      DetachLinks
//	POST   /lose-locks/{queue}  LoseLocks
//	POST   /drop                DropConnections
func (s *Server) ControlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, s.Stats(), nil) })
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, s.Faults(), nil) })
	mux.HandleFunc("PUT /faults/{queue...}", func(w http.ResponseWriter, r *http.Request) {
		var f Faults
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControlBody))
		d.DisallowUnknownFields()
		if err := d.Decode(&f); err != nil {
			answerJSON(w, nil, fmt.Errorf("read faults: %w", err))
			return
		}
		answerJSON(w, f, s.SetFaults(r.PathValue("queue"), f))
	})
	mux.HandleFunc("DELETE /faults/{queue...}", func(w http.ResponseWriter, r *http.Request) {
		answerJSON(w, Faults{}, s.SetFaults(r.PathValue("queue"), Faults{}))
	})
	mux.HandleFunc("POST /detach/{queue...}", func(w http.ResponseWriter, r *http.Request) {
		n, err := s.DetachLinks(r.PathValue("queue"))
		answerJSON(w, map[string]int{"links": n}, err)
	})
	mux.HandleFunc("POST /lose-locks/{queue...}", func(w http.ResponseWriter, r *http.Request) {
		n, err := s.LoseLocks(r.PathValue("queue"))
		answerJSON(w, map[string]int{"locks": n}, err)
	})
	mux.HandleFunc("POST /drop", func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, map[string]int{"connections": s.DropConnections()}, nil)
	})
	return mux
}

func answerJSON(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	switch {
	case errors.Is(err, errNoQueue):
		status = http.StatusNotFound
	case err != nil:
		status = http.StatusBadRequest
	}
	if err != nil {
		v = map[string]string{"error": err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The peer may be gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(v)
}
