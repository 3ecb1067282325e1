package cyclecloudsim

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// three is a cluster whose nodes a, b and c are Ready.
func three(t *testing.T, change func(*Config)) (*Sim, *manual) {
	t.Helper()
	clock := newManual()
	s := newSim(t, func(c *Config) {
		c.Clock = clock
		if change != nil {
			change(c)
		}
	})
	for _, n := range []string{"a", "b", "c"} {
		create(t, s, "htc", 1, fmt.Sprintf(`,"nameFormat":%q,"nodeAttributes":{"Pool":%q}`, n, "pool-"+n))
	}
	clock.advance(2 * time.Minute)
	return s, clock
}

func TestSelectors(t *testing.T) {
	for _, test := range []struct {
		name string
		body func(Node) string // gets node b
		want []string          // nil means 409
	}{
		{"names", func(Node) string { return `{"names":["b","nobody"]}` }, []string{"b"}},
		{"ids", func(b Node) string { return `{"ids":["` + b.NodeID + `"]}` }, []string{"b"}},
		{"hostnames", func(Node) string { return `{"hostnames":["c"]}` }, []string{"c"}},
		{"ip_addresses is snake_case", func(b Node) string { return `{"ip_addresses":["` + b.PrivateIP + `"]}` }, []string{"b"}},
		{"ipAddresses in camelCase is no selector", func(b Node) string { return `{"ipAddresses":["` + b.PrivateIP + `"]}` }, nil},
		{"a filter", func(Node) string { return `{"filter":"Pool === \"pool-c\""}` }, []string{"c"}},
		{"a broad filter takes all", func(Node) string { return `{"filter":"State === \"Started\""}` }, []string{"a", "b", "c"}},
		{"several selectors are a union", func(b Node) string { return `{"names":["a"],"ids":["` + b.NodeID + `"]}` }, []string{"a", "b"}},
		{"one node twice is one node", func(b Node) string { return `{"names":["b"],"ids":["` + b.NodeID + `"]}` }, []string{"b"}},
		{"no match is an empty list", func(Node) string { return `{"names":["nobody"]}` }, []string{}},
		{"no selector is refused", func(Node) string { return `{}` }, nil},
		{"a broken filter is refused", func(Node) string { return `{"filter":"State ==="}` }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, _ := three(t, nil)
			body := test.body(s.Nodes()[1])
			if test.want == nil {
				want(t, s, 409, "POST", root+"/nodes/terminate", body)
				return
			}
			got := []string{}
			for _, r := range manage(t, s, "terminate", body).Nodes {
				if r.Status != "OK" || r.ID == "" {
					t.Errorf("result %+v", r)
				}
				got = append(got, r.Name)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPerNodeAnswers does something to node a and then looks at what a second
// call says about it and leaves it at.
func TestPerNodeAnswers(t *testing.T) {
	const gone = ""
	for _, test := range []struct {
		name   string
		change func(*Config)
		before func(*testing.T, *Sim, *manual)
		action string
		answer string // status of the node in the 202
		left   string // its Status two minutes later
	}{
		{name: "terminate again is OK on one kind of server", before: first("terminate", time.Second), action: "terminate", answer: "OK", left: gone},
		{
			name: "terminate again is an Error on the other", change: func(c *Config) { c.Quirks.TerminateAgain = Error },
			before: first("terminate", time.Second), action: "terminate", answer: "Error", left: gone,
		},
		{
			name: "a failed terminate may be repeated", change: func(c *Config) { c.Quirks.TerminateAgain = Error },
			before: func(t *testing.T, s *Sim, m *manual) {
				failNext(t, s, FailTerminate)
				first("terminate", time.Minute)(t, s, m)
			},
			action: "terminate", answer: "OK", left: gone,
		},
		{name: "starting a running node is OK on one kind of server", action: "start", answer: "OK", left: "Ready"},
		{name: "starting a running node is an Error on the other", change: func(c *Config) { c.Quirks.StartRunning = Error }, action: "start", answer: "Error", left: "Ready"},
		{name: "starting a terminating node is an Error", before: first("terminate", time.Second), action: "start", answer: "Error", left: gone},
		{name: "deallocating twice is OK", before: first("deallocate", time.Minute), action: "deallocate", answer: "OK", left: "Deallocated"},
		{name: "deallocating a terminating node is an Error", before: first("terminate", time.Second), action: "deallocate", answer: "Error", left: gone},
		{name: "a deallocated node can be terminated", before: first("deallocate", time.Minute), action: "terminate", answer: "OK", left: gone},
		{name: "restarting a deallocated node is an Error", before: first("deallocate", time.Minute), action: "restart", answer: "Error", left: "Deallocated"},
		{name: "KeepAlive refuses terminate", before: keep, action: "terminate", answer: "Error", left: "Ready"},
		{name: "KeepAlive refuses shutdown", before: keep, action: "shutdown", answer: "Error", left: "Ready"},
		{name: "KeepAlive refuses deallocate", before: keep, action: "deallocate", answer: "Error", left: "Ready"},
		{name: "KeepAlive refuses remove", before: keep, action: "remove", answer: "Error", left: "Ready"},
		{name: "remove of an ordinary node terminates it", action: "remove", answer: "OK", left: gone},
		{name: "shutdown terminates by default", action: "shutdown", answer: "OK", left: gone},
		{name: "restart comes back to Ready", action: "restart", answer: "OK", left: "Ready"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, clock := three(t, test.change)
			if test.before != nil {
				test.before(t, s, clock)
			}
			r := manage(t, s, test.action, `{"names":["a"]}`)
			if len(r.Nodes) != 1 || r.Nodes[0].Status != test.answer || (r.Nodes[0].Error != "") != (test.answer == "Error") {
				t.Errorf("answer %+v, want %s", r.Nodes, test.answer)
			}
			clock.advance(2 * time.Minute)
			left := gone
			if n := record(t, s, "a"); n != nil {
				left = n["Status"].(string)
			}
			if left != test.left {
				t.Errorf("the node is left %q, want %q", left, test.left)
			}
		})
	}
}

func first(action string, then time.Duration) func(*testing.T, *Sim, *manual) {
	return func(t *testing.T, s *Sim, clock *manual) {
		manage(t, s, action, `{"names":["a"]}`)
		clock.advance(then)
	}
}

func keep(t *testing.T, s *Sim, _ *manual) {
	if err := s.SetKeepAlive("a", true); err != nil {
		t.Error(err)
	}
}

func failNext(t *testing.T, s *Sim, kind FailKind) {
	t.Helper()
	if err := s.FailNext("htc", kind); err != nil {
		t.Error(err)
	}
}

func TestAFixedNodeStaysTerminatedUntilItIsRemoved(t *testing.T) {
	clock := newManual()
	s := newSim(t, func(c *Config) { c.Clock = clock })
	create(t, s, "htc", 1, `,"nodeAttributes":{"Fixed":true}`)
	clock.advance(2 * time.Minute)
	if r := manage(t, s, "remove", `{"names":["htc-1"]}`); r.Nodes[0].Error != "This node must be terminated before it can be removed" {
		t.Errorf("remove of a running fixed node: %+v", r)
	}
	manage(t, s, "terminate", `{"names":["htc-1"]}`)
	clock.advance(time.Minute)
	if r := record(t, s, "htc-1"); r["Status"] != "Terminated" || r["InstanceId"] != "" || len(s.VMs()) > 0 {
		t.Errorf("terminated: %v with %d VMs", r, len(s.VMs()))
	}
	manage(t, s, "start", `{"names":["htc-1"]}`)
	clock.advance(2 * time.Minute)
	if r := record(t, s, "htc-1"); r["Status"] != "Ready" {
		t.Errorf("started again: %v", r)
	}
	manage(t, s, "terminate", `{"names":["htc-1"]}`)
	clock.advance(time.Minute)
	manage(t, s, "remove", `{"names":["htc-1"]}`)
	if got := statuses(s); len(got) > 0 {
		t.Errorf("removed: %v", got)
	}
}

func TestKeepAliveAtCreate(t *testing.T) {
	s, _ := three(t, nil)
	create(t, s, "htc", 1, `,"nodeAttributes":{"KeepAlive":true}`)
	if r := record(t, s, "htc-1"); r["KeepAlive"] != true {
		t.Errorf("record shows KeepAlive %v", r["KeepAlive"])
	}
	if r := manage(t, s, "terminate", `{"names":["htc-1"]}`); r.Nodes[0].Status != "Error" {
		t.Errorf("terminate: %+v", r)
	}
	if err := s.SetKeepAlive("htc-1", false); err != nil {
		t.Fatal(err)
	}
	if r := manage(t, s, "terminate", `{"names":["htc-1"]}`); r.Nodes[0].Status != "OK" {
		t.Errorf("terminate after clearing: %+v", r)
	}
}

func TestAnOperationFollowsItsNodes(t *testing.T) {
	s, clock := three(t, nil)
	r := manage(t, s, "terminate", `{"names":["a","b"],"requestId":"t-1"}`)
	list := decode[nodeList](t, want(t, s, 200, "GET", root+"/nodes?operation="+r.OperationID, ""))
	if len(list.Nodes) != 2 || list.Operation.Action != "terminate" {
		t.Errorf("during: %+v", list)
	}
	clock.advance(time.Minute)
	list = decode[nodeList](t, want(t, s, 200, "GET", root+"/nodes?request_id=t-1", ""))
	if len(list.Nodes) != 0 || list.Nodes == nil {
		t.Errorf("afterwards: %+v", list)
	}
}

func TestFilters(t *testing.T) {
	record := map[string]any{"State": "Started", "CoreCount": 4, "Interruptible": true, "Null": nil, "Name": "htc-1"}
	for _, test := range []struct {
		filter string
		want   bool
	}{
		{`State === "Started"`, true},
		{`State === "started"`, false},
		{`State == "started"`, true},
		{`State =!= "Started"`, false},
		{`State != "Off"`, true},
		{`Missing == "x"`, false},
		{`Missing != "x"`, false},
		{`Missing =!= "x"`, true},
		{`Missing === undefined`, true},
		{`State === undefined`, false},
		{`CoreCount == 4`, true},
		{`CoreCount === "4"`, false},
		{`Interruptible`, true},
		{`!Interruptible`, false},
		{`Interruptible === true && CoreCount == 4`, true},
		{`(State === "Off" || Name === "htc-1") && !(CoreCount == 5)`, true},
		{`Name === "a === b"`, false},
	} {
		f, err := parseFilter(test.filter)
		if err != nil {
			t.Errorf("%s: %v", test.filter, err)
			continue
		}
		if got := f(record); got != test.want {
			t.Errorf("%s is %t", test.filter, got)
		}
	}
	for _, bad := range []string{``, `State` + "\n" + `Off`, `CoreCount < 4`, `State ===`, `f(State)`, `4 == CoreCount`, `State === Name`, `-State`, `State === "a\"b"`, "State === `x`", `a.b === "x"`, `State + 1`} {
		if _, err := parseFilter(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzFilterNeverPanics(f *testing.F) {
	f.Add(`State === "Started" && !(CoreCount =!= 4)`)
	f.Add(`((((`)
	f.Fuzz(func(t *testing.T, text string) {
		if match, err := parseFilter(text); err == nil {
			match(map[string]any{"State": "Started"})
		}
	})
}
