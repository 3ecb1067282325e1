package cyclecloudsim

import (
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"time"
)

// OutageKind is a way in which the whole server misbehaves.
type OutageKind string

// The kinds of outage. OutageHTML and OutageNothing answer 200 with a body
// that is no JSON, as a proxy in between does. OutageCut ends the connection
// before the request is carried out, OutageLost after it: the client cannot
// tell them apart, and only its requestId saves it.
const (
	Outage401     OutageKind = "401"
	Outage403     OutageKind = "403"
	Outage409     OutageKind = "409"
	Outage429     OutageKind = "429"
	Outage500     OutageKind = "500"
	Outage503     OutageKind = "503"
	OutageHTML    OutageKind = "html"
	OutageNothing OutageKind = "empty"
	OutageHang    OutageKind = "hang"
	OutageCut     OutageKind = "cut"
	OutageLost    OutageKind = "lost"
)

var outageKinds = []OutageKind{
	Outage401, Outage403, Outage409, Outage429, Outage500, Outage503,
	OutageHTML, OutageNothing, OutageHang, OutageCut, OutageLost,
}

// Outage is one disturbance. With both Requests and Duration zero it lasts
// until ClearOutages.
type Outage struct {
	Kind OutageKind `json:"kind"`
	// Requests is the number of requests it strikes; 0 means no count.
	Requests int `json:"requests"`
	// Duration is how long it lasts; 0 means no end.
	Duration time.Duration `json:"duration"`
	// Method and Path narrow it; Path is a pattern of path.Match on the URL
	// path without the context path. Empty means all.
	Method string `json:"method"`
	Path   string `json:"path"`
	// RetryAfter is sent with 429 and 503, in whole seconds; 0 sends none.
	RetryAfter time.Duration `json:"retry_after"`

	until   time.Time
	counted bool
}

// Outage begins a disturbance. The oldest one that fits a request strikes.
func (s *Sim) Outage(o Outage) error {
	if !slices.Contains(outageKinds, o.Kind) {
		return fmt.Errorf("outage kind %q is not one of %v", o.Kind, outageKinds)
	}
	if _, err := path.Match(o.Path, ""); err != nil {
		return fmt.Errorf("outage path %q: %w", o.Path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.counted = o.Requests > 0
	if o.Duration > 0 {
		o.until = s.clock.Now().Add(o.Duration)
	}
	s.outages = append(s.outages, &o)
	s.journal.add(Entry{Event: Chaos, Detail: fmt.Sprintf("outage %s requests=%d duration=%s %s %s", o.Kind, o.Requests, o.Duration, o.Method, o.Path)})
	return nil
}

// ClearOutages ends every disturbance; requests that hang stay hanging.
func (s *Sim) ClearOutages() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outages = nil
	s.journal.add(Entry{Event: Chaos, Detail: "outages cleared"})
}

// disturbance takes the outage that strikes this request, or nil.
func (s *Sim) disturbance(r *http.Request) *Outage {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	s.outages = slices.DeleteFunc(s.outages, func(o *Outage) bool {
		return o.counted && o.Requests == 0 || !o.until.IsZero() && !now.Before(o.until)
	})
	for _, o := range s.outages {
		fits, _ := path.Match(o.Path, r.URL.Path)
		if o.Method != "" && o.Method != r.Method || o.Path != "" && !fits {
			continue
		}
		if o.counted {
			o.Requests--
		}
		return o
	}
	return nil
}

func (s *Sim) disturbed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := s.disturbance(r)
		if o == nil {
			next.ServeHTTP(w, r)
			return
		}
		switch o.Kind {
		case Outage401:
			s.unauthorized(w)
		case OutageHTML:
			writeError(w, http.StatusOK, "Please sign in", HTML)
		case OutageNothing:
			writeError(w, http.StatusOK, "", Empty)
		case OutageHang:
			// A client that goes away is noticed only once its body was read.
			_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody))
			select {
			case <-r.Context().Done():
			case <-s.ctx.Done():
			}
			panic(http.ErrAbortHandler)
		case OutageLost:
			next.ServeHTTP(unheard{}, r)
			panic(http.ErrAbortHandler)
		case OutageCut:
			panic(http.ErrAbortHandler)
		default:
			code, _ := strconv.Atoi(string(o.Kind))
			if o.RetryAfter > 0 && (o.Kind == Outage503 || o.Kind == Outage429) {
				w.Header().Set("Retry-After", strconv.Itoa(max(1, int(o.RetryAfter.Seconds()))))
			}
			s.refuse(w, code, "simulated outage")
		}
	})
}

// unheard takes an answer that nobody will get.
type unheard struct{}

func (unheard) Header() http.Header         { return http.Header{} }
func (unheard) Write(b []byte) (int, error) { return len(b), nil }
func (unheard) WriteHeader(int)             {}
