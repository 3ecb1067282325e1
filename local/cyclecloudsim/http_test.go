package cyclecloudsim

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEveryPathAndMethod(t *testing.T) {
	for _, test := range []struct {
		name, method, path, body string
		code                     int
	}{
		{"status", "GET", root + "/status", "", 200},
		{"status with a bad flag", "GET", root + "/status?nodes=perhaps", "", 400},
		{"nodes", "GET", root + "/nodes", "", 200},
		{"nodes of an unknown operation", "GET", root + "/nodes?operation=x", "", 404},
		{"nodes of an unknown request", "GET", root + "/nodes?request_id=x", "", 404},
		{"nodes with both filters", "GET", root + "/nodes?request_id=x&operation=y", "", 400},
		{"all operations, with the slash", "GET", "/operations/", "", 200},
		{"all operations, without the slash", "GET", "/operations", "", 200},
		{"an unknown operation", "GET", "/operations/x", "", 404},
		{"usage", "GET", root + "/usage", "", 200},
		{"usage of an unknown timeframe", "GET", root + "/usage?timeframe=never", "", 400},
		{"an unknown action", "POST", root + "/nodes/delete", "{}", 404},
		{"an unknown path", "GET", "/api/v1/clusters", "", 404},
		{"an unknown cluster's status", "GET", "/clusters/other/status", "", 404},
		{"a cluster's name in other capitals", "GET", "/clusters/hpc%201/status", "", 404},
		{"an unknown cluster's nodes", "POST", "/clusters/other/nodes/create", set("htc", 1, ""), 404},
		{"a GET of create is an unknown path", "GET", root + "/nodes/create", "", 404},
		{"a body above the bound", "POST", root + "/nodes/create", `{"requestId":"` + strings.Repeat("x", maxBody) + `"}`, 409},
		{"a request id above the bound", "POST", root + "/nodes/create", `{"requestId":"` + strings.Repeat("x", 257) + `","sets":[{"nodearray":"htc","count":1}]}`, 409},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, func(c *Config) { c.Clock = newManual() })
			want(t, s, test.code, test.method, test.path, test.body)
			journal := s.Journal()
			e := journal[len(journal)-1]
			if e.Event != HTTP || e.Method != test.method || e.Status != test.code || !strings.HasPrefix(test.path, e.Path) {
				t.Errorf("the journal says %+v", e)
			}
		})
	}
}

func TestWrongCredentialsAre401(t *testing.T) {
	for _, form := range []Answer{HTML, JSON, Empty} {
		s := newSim(t, func(c *Config) { c.Clock = newManual(); c.Quirks.Unauthorized = form })
		for _, pair := range [][2]string{{"", ""}, {"u", ""}, {"u", "P"}, {"U", "p"}, {"p", "u"}} {
			r := httptest.NewRequest("GET", root+"/status", nil)
			r.SetBasicAuth(pair[0], pair[1])
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			if w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" || strings.Contains(w.Body.String(), "htc") {
				t.Errorf("%v: %d %q", pair, w.Code, w.Body)
			}
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest("POST", root+"/nodes/create", strings.NewReader(set("htc", 1, ""))))
		if w.Code != 401 || len(s.Nodes()) > 0 {
			t.Errorf("without credentials: %d, %d nodes", w.Code, len(s.Nodes()))
		}
	}
}

func TestOpenPointsOfAnswers(t *testing.T) {
	create1 := func(t *testing.T, s *Sim) answer {
		return want(t, s, 202, "POST", "http://cc.example:81"+root+"/nodes/create", set("htc", 1, ""))
	}
	for _, test := range []struct {
		name   string
		quirks func(*Quirks)
		check  func(*testing.T, *Sim) (got, want any)
	}{
		{"Location is a whole URL", func(q *Quirks) { q.Location = Absolute }, func(t *testing.T, s *Sim) (any, any) {
			a := create1(t, s)
			return a.header.Get("Location"), "http://cc.example:81/operations/" + decode[creationResult](t, a).OperationID
		}},
		{"Location is a path", func(q *Quirks) { q.Location = Relative }, func(t *testing.T, s *Sim) (any, any) {
			a := create1(t, s)
			return a.header.Get("Location"), "/operations/" + decode[creationResult](t, a).OperationID
		}},
		{"Location is missing", func(q *Quirks) { q.Location = Omitted }, func(t *testing.T, s *Sim) (any, any) {
			return create1(t, s).header.Get("Location"), ""
		}},
		{"an error body is JSON", func(q *Quirks) { q.ErrorBody = JSON }, func(t *testing.T, s *Sim) (any, any) {
			a := want(t, s, 404, "GET", "/operations/x", "")
			return decode[map[string]any](t, a)["message"], "No operation found for id x"
		}},
		{"an error body is HTML and escaped", func(q *Quirks) { q.ErrorBody = HTML }, func(t *testing.T, s *Sim) (any, any) {
			a := want(t, s, 404, "GET", "/operations/%3Cb%3E", "")
			return strings.Contains(a.body, "<html>") && strings.Contains(a.body, "&lt;b&gt;"), true
		}},
		{"an error body is empty", func(q *Quirks) { q.ErrorBody = Empty }, func(t *testing.T, s *Sim) (any, any) {
			return want(t, s, 404, "GET", "/operations/x", "").body, ""
		}},
		{"an unknown request is an empty list", func(q *Quirks) { q.UnknownOperation = EmptyList }, func(t *testing.T, s *Sim) (any, any) {
			return strings.TrimSpace(want(t, s, 200, "GET", "/operations/?request_id=x", "").body), "[]"
		}},
		{"an unknown cluster is 409", func(q *Quirks) { q.UnknownCluster = Conflict }, func(t *testing.T, s *Sim) (any, any) {
			return call(t, s, "GET", "/clusters/x/status", "").code, 409
		}},
		{"fields without a value are omitted", func(q *Quirks) { q.EmptyFields = Omitted }, func(t *testing.T, s *Sim) (any, any) {
			create1(t, s)
			_, there := record(t, s, "htc-1")["InstanceId"]
			return there, false
		}},
		{"fields without a value are null", func(q *Quirks) { q.EmptyFields = Null }, func(t *testing.T, s *Sim) (any, any) {
			create1(t, s)
			value, there := record(t, s, "htc-1")["InstanceId"]
			return []any{value, there}, []any{nil, true}
		}},
		{"TargetState is missing now and then", func(q *Quirks) { q.TargetState = Mixed }, func(t *testing.T, s *Sim) (any, any) {
			create1(t, s)
			seen := map[bool]bool{}
			for range 100 {
				_, there := record(t, s, "htc-1")["TargetState"]
				seen[there] = true
			}
			return seen, map[bool]bool{true: true, false: true}
		}},
		{"optional counts are missing but for spot", func(q *Quirks) { q.OptionalCounts = Omitted }, func(t *testing.T, s *Sim) (any, any) {
			plain, spot := bucketOf(t, s, "htc", "F4"), bucketOf(t, s, "cheap", "F8")
			return []bool{plain.FamilyQuotaCount != nil, plain.SpotPlacementScore != nil, spot.FamilyQuotaCount != nil, spot.RegionalQuotaCount != nil},
				[]bool{false, false, true, true}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, func(c *Config) { c.Clock = newManual(); test.quirks(&c.Quirks) })
			got, want := test.check(t, s)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheSeedSettlesEveryQuirkAndRepeats(t *testing.T) {
	seen := map[string]map[Answer]bool{}
	for seed := int64(1); seed <= 200; seed++ {
		free := func(c *Config) { c.Quirks, c.Seed = Quirks{}, seed }
		a, b := newSim(t, free).Quirks(), newSim(t, free).Quirks()
		if a != b {
			t.Fatalf("seed %d gives two servers:\n%s\n%s", seed, a, b)
		}
		for _, q := range quirkTable {
			if seen[q.name] == nil {
				seen[q.name] = map[Answer]bool{}
			}
			seen[q.name][*q.field(&a)] = true
		}
	}
	for _, q := range quirkTable {
		if len(seen[q.name]) != len(q.answers) {
			t.Errorf("%s: 200 seeds gave only %v", q.name, seen[q.name])
		}
	}
	one := newSim(t, func(c *Config) { c.Quirks, c.Seed = Quirks{}, 5 }).Quirks()
	two := newSim(t, func(c *Config) { c.Quirks, c.Seed = Quirks{AddedZero: Conflict}, 5 }).Quirks()
	one.AddedZero = Conflict
	if one != two {
		t.Errorf("pinning one quirk moved another:\n%s\n%s", one, two)
	}
}

func TestMistakesInTheConfigurationAreNamed(t *testing.T) {
	_, err := New(Config{NodeArrays: []NodeArray{{Name: "a b"}, {Name: "x", MachineType: "F4", Cores: 4, MaxCount: -1}, {Name: "x", MachineType: "F4", Cores: 4}}})
	for _, part := range []string{"cluster name is empty", `"a b" is unusable`, "MaxCount -1", `"x" is unusable or used twice`, `size "" with 0 cores`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not name %q", err, part)
		}
	}
	cfg := lab()
	cfg.Quirks.Location = JSON
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "location") {
		t.Errorf("an answer of another quirk: %v", err)
	}
}

func TestTheContextPathPrefixesEverything(t *testing.T) {
	s := newSim(t, func(c *Config) { c.Clock = newManual(); c.ContextPath = "/cyclecloud"; c.Quirks.Location = Relative })
	want(t, s, 404, "GET", root+"/status", "")
	a := want(t, s, 202, "POST", "/cyclecloud"+root+"/nodes/create", set("htc", 1, ""))
	want(t, s, 200, "GET", a.header.Get("Location"), "")
}

// live serves the API on a real connection.
func live(t *testing.T, s *Sim, overTLS bool) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve, scheme := s.Serve, "http://"
	if overTLS {
		serve, scheme = s.ServeTLS, "https://"
	}
	done := make(chan error, 1)
	go func() { done <- serve(ln) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-done); err != nil {
			t.Error(err)
		}
	})
	return scheme + ln.Addr().String()
}

func get(ctx context.Context, t *testing.T, client *http.Client, method, url, body string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("u", "p")
	resp, err := client.Do(r)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

func TestTheCertificateIsPinnableAndUsableAsCA(t *testing.T) {
	s := newSim(t, nil)
	url := live(t, s, true)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.CertificatePEM()) {
		t.Fatal("the PEM holds no certificate")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	resp, err := get(t.Context(), t, client, "GET", url+root+"/status", "")
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("with the CA: %v %v", resp, err)
	}
	sum := sha256.Sum256(resp.TLS.PeerCertificates[0].Raw)
	if hex.EncodeToString(sum[:]) != s.Pin() || resp.TLS.Version != tls.VersionTLS12 {
		t.Errorf("pin %s, TLS version %x", s.Pin(), resp.TLS.Version)
	}
	if _, err := get(t.Context(), t, &http.Client{Transport: &http.Transport{}}, "GET", url+root+"/status", ""); err == nil {
		t.Error("a client without the CA was content")
	}
	before := s.Pin()
	if err := s.RegenerateCertificate(); err != nil {
		t.Fatal(err)
	}
	if _, err := get(t.Context(), t, client, "GET", url+root+"/status", ""); err == nil || s.Pin() == before {
		t.Errorf("after a new certificate: error %v, same pin %t", err, s.Pin() == before)
	}
}

func TestOnlyLoopbackIsServed(t *testing.T) {
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := newSim(t, nil).Serve(ln); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("got %v", err)
	}
}

func TestOutages(t *testing.T) {
	for _, test := range []struct {
		name    string
		outage  Outage
		code    int // 0 means that the connection breaks
		retry   string
		body    string
		created int
	}{
		{"401", Outage{Kind: Outage401, Requests: 1}, 401, "", "", 0},
		{"403", Outage{Kind: Outage403, Requests: 1}, 403, "", "simulated outage", 0},
		{"409 that created nothing", Outage{Kind: Outage409, Requests: 1}, 409, "", "simulated outage", 0},
		{"429 with Retry-After", Outage{Kind: Outage429, Requests: 1, RetryAfter: 2 * time.Second}, 429, "2", "", 0},
		{"500", Outage{Kind: Outage500, Requests: 1}, 500, "", "", 0},
		{"503 with Retry-After", Outage{Kind: Outage503, Requests: 1, RetryAfter: time.Second}, 503, "1", "", 0},
		{"a page of HTML with 200", Outage{Kind: OutageHTML, Requests: 1}, 200, "", "<html>", 0},
		{"nothing with 200", Outage{Kind: OutageNothing, Requests: 1}, 200, "", "", 0},
		{"a connection cut before the request counts", Outage{Kind: OutageCut, Requests: 1}, 0, "", "", 0},
		{"an answer lost after the request counted", Outage{Kind: OutageLost, Requests: 1}, 0, "", "", 1},
		{"another method is left alone", Outage{Kind: Outage500, Requests: 1, Method: "GET"}, 202, "", "added", 1},
		{"another path is left alone", Outage{Kind: Outage500, Requests: 1, Path: "/clusters/*/status"}, 202, "", "added", 1},
		{"the path is a pattern", Outage{Kind: Outage500, Requests: 1, Path: "/clusters/*/nodes/create"}, 500, "", "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, nil)
			url := live(t, s, false)
			if err := s.Outage(test.outage); err != nil {
				t.Fatal(err)
			}
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := get(t.Context(), t, client, "POST", url+root+"/nodes/create", set("htc", 1, ""))
			if (err != nil) != (test.code == 0) {
				t.Fatalf("got error %v", err)
			}
			if err == nil {
				body, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != test.code || resp.Header.Get("Retry-After") != test.retry || !strings.Contains(string(body), test.body) {
					t.Errorf("got %d Retry-After=%q %q", resp.StatusCode, resp.Header.Get("Retry-After"), body)
				}
			}
			if got := len(s.Nodes()); got != test.created {
				t.Errorf("%d nodes were created, want %d", got, test.created)
			}
			if test.outage.Method == "" && test.code != 202 {
				want(t, s, 202, "POST", root+"/nodes/create", set("htc", 1, ""))
			}
		})
	}
}

func TestAHangingServerAnswersNobody(t *testing.T) {
	s := newSim(t, nil)
	url := live(t, s, false)
	if err := s.Outage(Outage{Kind: OutageHang}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // in which the request has to arrive
	defer cancel()
	if _, err := get(ctx, t, http.DefaultClient, "POST", url+root+"/nodes/create", set("htc", 1, "")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	eventually(t, "the journal has the cut request", func() bool {
		for _, e := range s.Journal() {
			if e.Event == HTTP && e.Status == 0 {
				return true
			}
		}
		return false
	})
	s.ClearOutages()
	want(t, s, 200, "GET", root+"/status", "")
	if got := len(s.Nodes()); got != 0 {
		t.Errorf("%d nodes came from a request that hung", got)
	}
}

func TestAnOutageEndsAfterItsDuration(t *testing.T) {
	clock := newManual()
	s := newSim(t, func(c *Config) { c.Clock = clock })
	if err := s.Outage(Outage{Kind: Outage500, Duration: time.Minute}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		want(t, s, 500, "GET", root+"/status", "")
	}
	clock.advance(time.Minute)
	want(t, s, 200, "GET", root+"/status", "")
	for _, bad := range []Outage{{Kind: "418"}, {Kind: Outage500, Path: "["}} {
		if err := s.Outage(bad); err == nil {
			t.Errorf("outage %+v was accepted", bad)
		}
	}
}

func TestTheJournalIsWrittenAsJSONLines(t *testing.T) {
	var out strings.Builder
	s := newSim(t, func(c *Config) { c.Clock = newManual(); c.Journal = &out })
	create(t, s, "htc", 2, "")
	var lines []Entry
	for line := range strings.Lines(out.String()) {
		var e Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		lines = append(lines, e)
	}
	if diff := cmp.Diff(s.Journal(), lines); diff != "" {
		t.Error(diff)
	}
}
