package cyclecloudsim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func set(nodearray string, count int, more string) string {
	return fmt.Sprintf(`{"sets":[{"nodearray":%q,"count":%d%s}]}`, nodearray, count, more)
}

// TestCreate gives each request to a cluster that already has the node htc-2.
func TestCreate(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(*Config)
		body    string
		code    int
		added   []int
		message string // part of the first message or of the 409
		names   []string
	}{
		{name: "default names fill the lowest free numbers", body: set("htc", 3, ""), code: 202, added: []int{3}, names: []string{"htc-1", "htc-3", "htc-4"}},
		{name: "a literal name works for count 1", body: set("htc", 1, `,"nameFormat":"c-htc-7"`), code: 202, added: []int{1}, names: []string{"c-htc-7"}},
		{name: "a literal name is refused for count 2", body: set("htc", 2, `,"nameFormat":"c-htc-7"`), code: 409, message: "count 1 only"},
		{
			name: "several sets are answered in order", body: `{"sets":[{"nodearray":"htc","count":1,"nameFormat":"a"},{"nodearray":"hpc","count":9},{"nodearray":"cheap","count":2}]}`,
			code: 202, added: []int{1, 6, 2}, names: []string{"a", "cheap-1", "cheap-2", "hpc-1", "hpc-2", "hpc-3", "hpc-4", "hpc-5", "hpc-6"},
		},
		{name: "what does not fit is said in the message of a 202", body: set("htc", 12, ""), code: 202, added: []int{9}, message: "9 of 12 nodes added: limit reached"},
		{
			name: "nothing added is 202 with a message on one kind of server", body: set("htc", 1, `,"placementGroupId":"full"`), code: 202, added: []int{0}, message: "placement group full is full",
			change: func(c *Config) { c.NodeArrays[0].MaxPlacementGroupSize = -1 },
		},
		{
			name: "nothing added is 409 on the other kind", body: set("htc", 1, `,"placementGroupId":"full"`), code: 409, message: "placement group full is full",
			change: func(c *Config) { c.NodeArrays[0].MaxPlacementGroupSize = -1; c.Quirks.AddedZero = Conflict },
		},
		{name: "a taken name is 409 on one kind of server", body: set("htc", 1, `,"nameFormat":"htc-2"`), code: 409, message: "htc-2 already exists"},
		{
			name: "a taken name is a message on the other kind", body: `{"sets":[{"nodearray":"htc","count":1,"nameFormat":"htc-2"},{"nodearray":"htc","count":1,"nameFormat":"htc-9"}]}`,
			change: func(c *Config) { c.Quirks.DuplicateName = Accepted }, code: 202, added: []int{0, 1}, message: "htc-2 already exists", names: []string{"htc-9"},
		},
		{name: "one name twice in one request is 409", body: `{"sets":[{"nodearray":"htc","count":1,"nameFormat":"x"},{"nodearray":"htc","count":1,"nameFormat":"x"}]}`, code: 409, message: "x already exists"},
		{
			name: "one name twice in one request is added once", body: `{"sets":[{"nodearray":"htc","count":1,"nameFormat":"x"},{"nodearray":"htc","count":1,"nameFormat":"x"}]}`,
			change: func(c *Config) { c.Quirks.DuplicateName = Accepted }, code: 202, added: []int{1, 0}, names: []string{"x"},
		},
		{name: "nameOffset is the first number and taken numbers are skipped", body: set("htc", 2, `,"nameFormat":"htc-%d","nameOffset":1`), code: 202, added: []int{2}, names: []string{"htc-1", "htc-3"}},
		{
			name: "nameOffset is the number before the first", body: set("htc", 2, `,"nameFormat":"htc-%d","nameOffset":4`),
			change: func(c *Config) { c.Quirks.OffsetStart = NextOffset }, code: 202, added: []int{2}, names: []string{"htc-5", "htc-6"},
		},
		{
			name: "a taken number ends the numbering", body: set("htc", 2, `,"nameFormat":"htc-%d","nameOffset":1`),
			change: func(c *Config) { c.Quirks.OffsetCollision = Stop }, code: 202, added: []int{1}, message: "htc-2 already exists", names: []string{"htc-1"},
		},
		{name: "the machine type picks the bucket and its own limit", body: set("hpc", 5, `,"definition":{"machineType":"HC44"}`), code: 202, added: []int{3}, message: "limit reached for HC44"},
		{name: "an unknown machine type is 409", body: set("hpc", 1, `,"definition":{"machineType":"X"}`), code: 409, message: "no machine type"},
		{name: "a placement group takes what it can hold", body: set("hpc", 4, `,"placementGroupId":"pg0"`), code: 202, added: []int{2}, message: "placement group pg0 is full"},
		{name: "an unknown nodearray is 409", body: set("nope", 1, ""), code: 409, message: "does not exist"},
		{name: "a missing count is 409", body: `{"sets":[{"nodearray":"htc"}]}`, code: 409, message: "count is required"},
		{name: "a negative count is 409", body: set("htc", -1, ""), code: 409, message: "out of range"},
		{name: "no sets are 409", body: `{"sets":[]}`, code: 409, message: "at least one set"},
		{name: "no JSON is 409", body: `<xml/>`, code: 409, message: "invalid input"},
		{name: "two JSON objects are 409", body: set("htc", 1, "") + set("htc", 1, ""), code: 409, message: "data after"},
		{name: "a hostile name is 409", body: set("htc", 1, `,"nameFormat":"../../etc/passwd"`), code: 409, message: "no valid node name"},
		{name: "a name that is an option is 409", body: set("htc", 1, `,"nameFormat":"-rf"`), code: 409, message: "no valid node name"},
		{name: "another verb in the name is 409", body: set("htc", 1, `,"nameFormat":"htc-%s"`), code: 409, message: "other %"},
		{
			name: "more than 100 sets are 409 on one kind of server", body: `{"sets":[` + strings.Repeat(`{"nodearray":"htc","count":1},`, 100) + `{"nodearray":"htc","count":1}]}`,
			change: func(c *Config) { c.Quirks.MaxSets = Hundred }, code: 409, message: "more than 100",
		},
		{name: "an invalid bucket adds nothing", body: set("cheap", 1, ""), change: func(c *Config) { c.NodeArrays[2].InvalidReason = "NotActivated" }, code: 202, added: []int{0}, message: "NotActivated"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, func(c *Config) {
				c.Clock = newManual()
				if test.change != nil {
					test.change(c)
				}
			})
			create(t, s, "htc", 1, `,"nameFormat":"htc-2"`)
			a := want(t, s, test.code, "POST", root+"/nodes/create", test.body)
			if test.code != 202 {
				if !strings.Contains(a.body, test.message) || len(s.Nodes()) != 1 {
					t.Errorf("got %q and %v, want %q and nothing new", a.body, statuses(s), test.message)
				}
				return
			}
			r := decode[creationResult](t, a)
			var added []int
			for _, one := range r.Sets {
				added = append(added, one.Added)
			}
			if diff := cmp.Diff(test.added, added); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(r.Sets[0].Message, test.message) {
				t.Errorf("message %q, want %q", r.Sets[0].Message, test.message)
			}
			var names []string
			for _, n := range s.Nodes()[1:] {
				names = append(names, n.Name)
			}
			slices.Sort(names)
			if diff := cmp.Diff(test.names, names); diff != "" && test.names != nil {
				t.Error(diff)
			}
		})
	}
}

func TestQueuedFailuresShortenTheNextSet(t *testing.T) {
	s := newSim(t, func(c *Config) { c.Clock = newManual() })
	for _, kind := range []FailKind{FailPartial, FailRefuse} {
		if err := s.FailNext("htc", kind); err != nil {
			t.Fatal(err)
		}
	}
	var added []int
	for range 3 {
		added = append(added, create(t, s, "htc", 2, "").Sets[0].Added)
	}
	if diff := cmp.Diff([]int{1, 0, 2}, added); diff != "" {
		t.Error(diff)
	}
}

func TestARequestIDIsTakenOnce(t *testing.T) {
	body := func(id string, count int) string {
		return fmt.Sprintf(`{"requestId":%q,"sets":[{"nodearray":"htc","count":%d}]}`, id, count)
	}
	s := newSim(t, func(c *Config) { c.Clock = newManual() })
	want(t, s, 202, "POST", root+"/nodes/create", body("r-1", 2))
	want(t, s, 409, "POST", root+"/nodes/create", body("r-1", 2))
	if got := len(s.Nodes()); got != 2 {
		t.Errorf("%d nodes after a repeated create of 2", got)
	}
	ops := decode[[]operationStatus](t, want(t, s, 200, "GET", "/operations/?request_id=r-1", ""))
	if len(ops) != 1 || ops[0].Action != "create" || ops[0].StartTime != "2026-03-01T12:00:00Z" {
		t.Errorf("operations of r-1: %+v", ops)
	}
	list := decode[nodeList](t, want(t, s, 200, "GET", root+"/nodes?request_id=r-1", ""))
	if len(list.Nodes) != 2 || list.Operation == nil || list.Nodes[0]["RequestId"] != "r-1" {
		t.Errorf("nodes of r-1: %+v", list)
	}
	want(t, s, 409, "POST", root+"/nodes/create", body("r-2", -1))
	a := want(t, s, 404, "GET", "/operations/?request_id=r-2", "")
	if !strings.Contains(a.body, "No operation found for request id") {
		t.Errorf("a refused request is told as %q", a.body)
	}
	want(t, s, 202, "POST", root+"/nodes/create", body("r-2", 1))
}

func TestARequestIDIsFreeAgainAfterAddedZeroWas409(t *testing.T) {
	s := newSim(t, func(c *Config) { c.Clock = newManual(); c.Quirks.AddedZero = Conflict })
	body := `{"requestId":"r","sets":[{"nodearray":"htc","count":1}]}`
	if err := s.FailNext("htc", FailRefuse); err != nil {
		t.Fatal(err)
	}
	want(t, s, 409, "POST", root+"/nodes/create", body)
	want(t, s, 404, "GET", root+"/nodes?request_id=r", "")
	want(t, s, 202, "POST", root+"/nodes/create", body)
}

func TestRequestIDsOfCreateAndTerminate(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer Answer
		code   int
	}{
		{"collide on one kind of server", Shared, 409},
		{"are apart on the other", Separate, 202},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, func(c *Config) { c.Clock = newManual(); c.Quirks.RequestIDs = test.answer })
			want(t, s, 202, "POST", root+"/nodes/create", `{"requestId":"r","sets":[{"nodearray":"htc","count":1}]}`)
			want(t, s, test.code, "POST", root+"/nodes/terminate", `{"requestId":"r","names":["htc-1"]}`)
			want(t, s, 409, "POST", root+"/nodes/create", `{"requestId":"r","sets":[{"nodearray":"htc","count":1}]}`)
		})
	}
}

func TestScaleGrowsToATotalOnce(t *testing.T) {
	s := newSim(t, func(c *Config) { c.Clock = newManual() })
	for _, test := range []struct {
		query string
		code  int
		nodes int
	}{
		{"totalNodeCount=3", 202, 3},
		{"totalNodeCount=3", 202, 3},
		{"totalNodeCount=1", 202, 3},
		{"totalCoreCount=17", 202, 5},
		{"totalCoreCount=0", 202, 5},
		{"totalNodeCount=99", 202, 10},
		{"", 409, 10},
		{"totalNodeCount=1&totalCoreCount=1", 409, 10},
		{"totalNodeCount=-1", 409, 10},
		{"totalNodeCount=x", 409, 10},
	} {
		want(t, s, test.code, "POST", root+"/scale/htc?"+test.query, "")
		if got := len(s.Nodes()); got != test.nodes {
			t.Errorf("%s: %d nodes, want %d", test.query, got, test.nodes)
		}
	}
	want(t, s, 409, "POST", root+"/scale/nope?totalNodeCount=1", "")
}

func TestNothingIsCreatedWhileTheClusterIsNotStarted(t *testing.T) {
	s := newSim(t, func(c *Config) { c.Clock = newManual() })
	s.SetClusterState("", "")
	want(t, s, 409, "POST", root+"/nodes/create", set("htc", 1, ""))
	want(t, s, 409, "POST", root+"/scale/htc?totalNodeCount=1", "")
	if a := want(t, s, 200, "GET", root+"/status", ""); strings.Contains(a.body, "tate\"") {
		t.Errorf("a cluster that was never started shows a state: %s", a.body)
	}
}

func TestAvailableCountLagsACreateAndTheLimitDoesNot(t *testing.T) {
	clock := newManual()
	s := newSim(t, func(c *Config) { c.Clock, c.AvailableLag = clock, 20*time.Second })
	create(t, s, "htc", 7, "")
	if b := bucketOf(t, s, "htc", "F4"); b.AvailableCount != 10 || b.ActiveCount != 7 {
		t.Errorf("at once: available %d active %d", b.AvailableCount, b.ActiveCount)
	}
	if got := create(t, s, "htc", 5, "").Sets[0].Added; got != 3 {
		t.Errorf("%d nodes were added behind the lag", got)
	}
	clock.advance(20 * time.Second)
	if b := bucketOf(t, s, "htc", "F4"); b.AvailableCount != 0 || b.ActiveCount != 10 {
		t.Errorf("later: available %d active %d", b.AvailableCount, b.ActiveCount)
	}
}
