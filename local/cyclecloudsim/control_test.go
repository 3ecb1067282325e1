package cyclecloudsim

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// control sends one call to the control surface.
func control(s *Sim, method, path, body string) (int, string) {
	w := httptest.NewRecorder()
	s.ControlHandler().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

func TestControlCallsHaveTheirEffect(t *testing.T) {
	for _, test := range []struct {
		name, call, body string
		holds            func(*testing.T, *Sim, *manual) bool
	}{
		{"fail-next", "fail-next", `{"nodearray":"htc","kind":"refuse","count":2}`, func(t *testing.T, s *Sim, _ *manual) bool {
			return create(t, s, "htc", 1, "").Sets[0].Added+create(t, s, "htc", 1, "").Sets[0].Added == 0
		}},
		{"vanish", "vanish", `{"node":"a","reason":"SpotEvicted"}`, func(_ *testing.T, s *Sim, c *manual) bool {
			c.advance(time.Second)
			return len(s.Nodes()) == 2 && len(s.VMs()) == 2 && count(s, Vanished) == 1
		}},
		{"delete-vm", "delete-vm", `{"vm":"htc_2"}`, func(_ *testing.T, s *Sim, c *manual) bool {
			c.advance(time.Second)
			return s.named("b") == nil
		}},
		{"never-ready", "never-ready", `{"patterns":["htc-*"]}`, func(t *testing.T, s *Sim, c *manual) bool {
			create(t, s, "htc", 1, "")
			c.advance(time.Hour)
			return s.named("htc-1").status == statusPreparing
		}},
		{"limit", "limit", `{"nodearray":"htc","max_count":4}`, func(t *testing.T, s *Sim, _ *manual) bool {
			return create(t, s, "htc", 5, "").Sets[0].Added == 1
		}},
		{"limit below what is there", "limit", `{"nodearray":"htc","max_count":0}`, func(t *testing.T, s *Sim, _ *manual) bool {
			b := bucketOf(t, s, "htc", "F4")
			return b.ActiveCount == 3 && b.AvailableCount == 0 && len(s.Nodes()) == 3
		}},
		{"available-lag", "available-lag", `{"lag":"30s"}`, func(t *testing.T, s *Sim, _ *manual) bool {
			create(t, s, "htc", 5, "")
			return bucketOf(t, s, "htc", "F4").AvailableCount == 7
		}},
		{"keep-alive", "keep-alive", `{"node":"a","keep":true}`, func(t *testing.T, s *Sim, _ *manual) bool {
			return manage(t, s, "terminate", `{"names":["a"]}`).Nodes[0].Status == "Error"
		}},
		{"terminate-by-user", "terminate-by-user", `{"node":"a"}`, func(_ *testing.T, s *Sim, c *manual) bool {
			c.advance(time.Minute)
			j := s.Journal()
			return s.named("a") == nil && j[len(j)-1].Detail == "UserInitiated"
		}},
		{"cluster-state", "cluster-state", `{"state":"Off","target":"Off"}`, func(t *testing.T, s *Sim, _ *manual) bool {
			return status(t, s).State == "Off" && call(t, s, "POST", root+"/nodes/create", set("htc", 1, "")).code == 409
		}},
		{"outage", "outage", `{"kind":"503","duration":"1m","retry_after":"5s"}`, func(t *testing.T, s *Sim, c *manual) bool {
			a := want(t, s, 503, "GET", root+"/status", "")
			c.advance(time.Minute)
			want(t, s, 200, "GET", root+"/status", "")
			return a.header.Get("Retry-After") == "5"
		}},
		{"clear-outages", "clear-outages", `{}`, func(t *testing.T, s *Sim, _ *manual) bool {
			if err := s.Outage(Outage{Kind: Outage500}); err != nil {
				t.Error(err)
			}
			want(t, s, 500, "GET", root+"/status", "")
			control(s, "POST", "/sim/clear-outages", `{}`)
			return call(t, s, "GET", root+"/status", "").code == 200
		}},
		{"regenerate-certificate", "regenerate-certificate", `{}`, func(_ *testing.T, s *Sim, _ *manual) bool {
			before := s.Pin()
			code, _ := control(s, "POST", "/sim/regenerate-certificate", `{}`)
			return code == 204 && s.Pin() != before
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, clock := three(t, nil)
			if code, body := control(s, "POST", "/sim/"+test.call, test.body); code != 204 {
				t.Fatalf("got %d %q", code, body)
			}
			if !test.holds(t, s, clock) {
				t.Errorf("no effect; nodes %v", statuses(s))
			}
			if count(s, Chaos)+count(s, Terminating) == 0 {
				t.Error("the journal does not say that the control surface was used")
			}
		})
	}
}

func TestControlNamesMistakes(t *testing.T) {
	s, _ := three(t, nil)
	before := len(s.Journal())
	for _, test := range []struct {
		call, body string
		code       int
		message    string
	}{
		{"nonsense", `{}`, 404, "unknown call"},
		{"fail-next", `{"nodearray":"x","kind":"init"}`, 400, `nodearray "x"`},
		{"fail-next", `{"nodearray":"htc","kind":"x"}`, 400, `"x" is not one of`},
		{"fail-next", `{"nodearay":"htc"}`, 400, "nodearay"},
		{"fail-next", `nonsense`, 400, "invalid character"},
		{"vanish", `{"node":"x"}`, 400, `node "x" has no VM`},
		{"vanish", `{"node":"a","reason":"x"}`, 400, `reason "x"`},
		{"delete-vm", `{"vm":"x"}`, 400, `VM "x"`},
		{"never-ready", `{"patterns":["["]}`, 400, "syntax"},
		{"limit", `{"nodearray":"htc"}`, 400, "max_count is missing"},
		{"limit", `{"nodearray":"htc","max_count":-1}`, 400, "limit -1"},
		{"available-lag", `{"lag":"soon"}`, 400, "lag"},
		{"keep-alive", `{"node":"x"}`, 400, `node "x"`},
		{"terminate-by-user", `{"node":"x"}`, 400, `node "x"`},
		{"outage", `{"kind":"x"}`, 400, `"x" is not one of`},
		{"outage", `{"kind":"500","duration":"x"}`, 400, "duration"},
	} {
		code, body := control(s, "POST", "/sim/"+test.call, test.body)
		if code != test.code || !strings.Contains(body, test.message) {
			t.Errorf("%s %s: got %d %q, want %d %q", test.call, test.body, code, body, test.code, test.message)
		}
	}
	if after := len(s.Journal()); after != before {
		t.Errorf("%d mistakes left a trace in the journal", after-before)
	}
}

func TestTheSnapshotTellsNodesAndOrphans(t *testing.T) {
	s, clock := three(t, nil)
	failNext(t, s, FailOrphan)
	manage(t, s, "terminate", `{"names":["a"]}`)
	clock.advance(time.Minute)
	code, body := control(s, "GET", "/sim/snapshot", "")
	snap := decode[Snapshot](t, answer{body: body})
	if code != 200 || len(snap.Nodes) != 2 || len(snap.VMs) != 3 || !snap.VMs[0].Orphan || snap.VMs[0].Name != "a" || snap.VMs[1].Orphan {
		t.Errorf("got %d %+v", code, snap)
	}
	if err := s.DeleteVM(snap.VMs[0].InstanceID, ReasonVMDisappeared); err != nil {
		t.Fatal(err)
	}
	if vms := s.VMs(); len(vms) != 2 {
		t.Errorf("%d VMs after the orphan was deleted", len(vms))
	}
	create(t, s, "htc", 1, "")
	clock.advance(time.Minute)
	if got := s.named("htc-1").address.String(); got != "127.64.0.4" {
		t.Errorf("the orphan's address is not free: the next node got %s", got)
	}
	if code, body := control(s, "GET", "/sim/journal", ""); code != 200 || len(decode[[]Entry](t, answer{body: body})) != len(s.Journal()) {
		t.Errorf("journal: %d, %d bytes", code, len(body))
	}
}

func TestVanishLeavesATerminatingNodeToItsOwnEnd(t *testing.T) {
	s, clock := three(t, func(c *Config) { c.VanishLag = seconds(5) })
	manage(t, s, "terminate", `{"names":["a"]}`)
	if err := s.Vanish("a", ReasonVMDisappeared); err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Minute)
	if count(s, Vanished) != 0 || count(s, Terminated) != 1 || count(s, VMStopped) != 1 {
		t.Errorf("vanished %d, terminated %d, VMs stopped %d", count(s, Vanished), count(s, Terminated), count(s, VMStopped))
	}
}
