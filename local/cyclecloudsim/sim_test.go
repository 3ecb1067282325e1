package cyclecloudsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// pinned answers every open point in the milder way, so that a test names only
// the one it is about.
var pinned = Quirks{
	AddedZero: Accepted, DuplicateName: Conflict, TerminateAgain: OK, StartRunning: OK,
	ErrorBody: Text, Location: Absolute, TargetState: Present, EmptyFields: Empty,
	RequestIDs: Separate, UnknownOperation: NotFound, OffsetStart: FromOffset, OffsetCollision: Skip,
	SKUNotAvailable: Capacity, InstanceID: Short, OptionalCounts: Present, MaxSets: Unlimited,
	Unauthorized: HTML, UnknownCluster: NotFound,
}

func seconds(n float64) Range {
	d := time.Duration(n * float64(time.Second))
	return Range{Min: d, Max: d}
}

// lab is a cluster with one ordinary nodearray, one of two sizes and one spot.
func lab() Config {
	return Config{
		Cluster: "HPC 1", User: "u", Password: "p", Seed: 7, Quirks: pinned,
		NodeArrays: []NodeArray{
			{Name: "htc", MachineType: "F4", Cores: 4, MaxCount: 10, MemoryGB: 8, PricePerHour: 0.25},
			{Name: "hpc", MachineType: "HB120", Cores: 120, MaxCount: 6, MoreSizes: []Size{{MachineType: "HC44", Cores: 44, MaxCount: 3}}, MaxPlacementGroupSize: 2},
			{Name: "cheap", MachineType: "F8", Cores: 8, MaxCount: 5, Spot: true, PriceFree: true},
		},
		AcquireDelay: seconds(10), BootDelay: seconds(60), TerminateDelay: seconds(30),
	}
}

// newSim starts a simulator that ends with the test.
func newSim(t testing.TB, change func(*Config)) *Sim {
	t.Helper()
	cfg := lab()
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// failer is what a test and a property's run have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// answer is a reply with its body read.
type answer struct {
	code   int
	header http.Header
	body   string
}

// call sends one request with good credentials straight to the handler.
func call(t failer, s *Sim, method, path, body string) answer {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.SetBasicAuth("u", "p")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return answer{code: w.Code, header: w.Header(), body: w.Body.String()}
}

// want calls and fails the test when the status code is another one.
func want(t failer, s *Sim, code int, method, path, body string) answer {
	t.Helper()
	a := call(t, s, method, path, body)
	if a.code != code {
		t.Fatalf("%s %s: got %d %q, want %d", method, path, a.code, a.body, code)
	}
	return a
}

func decode[T any](t failer, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("decode %q: %v", a.body, err)
	}
	return v
}

const root = "/clusters/HPC%201"

// create adds count nodes under names like htc-1 and returns the result.
func create(t testing.TB, s *Sim, nodearray string, count int, more string) creationResult {
	t.Helper()
	body := fmt.Sprintf(`{"sets":[{"nodearray":%q,"count":%d%s}]}`, nodearray, count, more)
	return decode[creationResult](t, want(t, s, 202, "POST", root+"/nodes/create", body))
}

func manage(t testing.TB, s *Sim, action, body string) managementResult {
	t.Helper()
	return decode[managementResult](t, want(t, s, 202, "POST", root+"/nodes/"+action, body))
}

func status(t failer, s *Sim) clusterStatus {
	t.Helper()
	return decode[clusterStatus](t, want(t, s, 200, "GET", root+"/status?nodes=true", ""))
}

// bucketOf finds a bucket in the status answer.
func bucketOf(t testing.TB, s *Sim, nodearray, machineType string) bucketStatus {
	t.Helper()
	for _, a := range status(t, s).NodeArrays {
		for _, b := range a.Buckets {
			if a.Name == nodearray && b.Definition["machineType"] == machineType {
				return b
			}
		}
	}
	t.Fatalf("no bucket %s/%s", nodearray, machineType)
	return bucketStatus{}
}

// record finds one node record in the API's own answer.
func record(t testing.TB, s *Sim, name string) map[string]any {
	t.Helper()
	list := decode[nodeList](t, want(t, s, 200, "GET", root+"/nodes", ""))
	for _, n := range list.Nodes {
		if n["Name"] == name {
			return n
		}
	}
	return nil
}

func statuses(s *Sim) []string {
	out := []string{}
	for _, n := range s.Nodes() {
		out = append(out, n.Name+"="+n.Status)
	}
	return out
}

func count(s *Sim, event EventName) int {
	n := 0
	for _, e := range s.Journal() {
		if e.Event == event {
			n++
		}
	}
	return n
}

// manual is a clock that moves only when told to. Timers run on the caller's
// goroutine, in the order of their time.
type manual struct {
	now    time.Time
	timers []*manualTimer
}

type manualTimer struct {
	at time.Time
	f  func()
}

func newManual() *manual {
	return &manual{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

func (m *manual) Now() time.Time { return m.now }

func (m *manual) AfterFunc(d time.Duration, f func()) func() bool {
	timer := &manualTimer{at: m.now.Add(d), f: f}
	m.timers = append(m.timers, timer)
	return func() bool {
		before := len(m.timers)
		m.timers = slices.DeleteFunc(m.timers, func(o *manualTimer) bool { return o == timer })
		return len(m.timers) < before
	}
}

func (m *manual) advance(d time.Duration) {
	end := m.now.Add(d)
	for {
		i := -1
		for j, timer := range m.timers {
			if !timer.at.After(end) && (i < 0 || timer.at.Before(m.timers[i].at)) {
				i = j
			}
		}
		if i < 0 {
			m.now = end
			return
		}
		timer := m.timers[i]
		m.timers = slices.Delete(m.timers, i, i+1)
		if timer.at.After(m.now) {
			m.now = timer.at
		}
		timer.f()
	}
}
