package cyclecloud

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/fault"
)

func TestNodesReadsTheRecordedRecord(t *testing.T) {
	client, server := newScripted(t, reply{status: 200, body: testdata(t, "nodes.json")})
	got, err := client.Nodes(t.Context(), "hpc10")
	if err != nil {
		t.Fatal(err)
	}
	want := []Node{{
		ID: "62a1b116-0001-4321-98d6-431ee3ef8ed5", Name: "hpc10-hpc-3", NodeArray: "hpc", MachineType: "Standard_HB120rs_v3",
		Status: StatusPreparing, StatusText: "Preparing", TargetState: StatusStarted, State: "Started",
		StatusMessage: "Awaiting node software installation", PlacementGroupID: "Standard_HB120rs_v3_pg0",
		Hostname: "hpc10-hpc-3", PrivateIP: "10.1.0.6", InstanceID: "cc-1/3",
		RequestID: "463270ca-abcd-1234-98d6-431ee3ef8ed5", Region: "westeurope", Cores: 120,
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]request{{Method: "GET", URI: "/clusters/hpc10/nodes"}}, server.asked()); diff != "" {
		t.Error(diff)
	}
}

func TestNodeRecordsAreReadWhateverTheirTypes(t *testing.T) {
	for _, tt := range []struct {
		name, record string
		want         Node
	}{
		{
			"a missing TargetState is unknown, not started", `{"Name":"n","Status":"Ready"}`,
			Node{Name: "n", Status: StatusReady, StatusText: "Ready"},
		},
		{
			"an unknown status keeps its word", `{"Name":"n","Status":"Waiting for eviction","TargetState":"Started"}`,
			Node{Name: "n", StatusText: "Waiting for eviction", TargetState: StatusStarted},
		},
		{
			"Allocating is Acquiring", `{"Name":"n","Status":"Allocating"}`,
			Node{Name: "n", Status: StatusAcquiring, StatusText: "Allocating"},
		},
		{
			"case does not matter", `{"Name":"n","Status":"READY","TargetState":"started"}`,
			Node{Name: "n", Status: StatusReady, StatusText: "READY", TargetState: StatusStarted},
		},
		{
			"numbers and flags may be strings", `{"Name":"n","CoreCount":"120","KeepAlive":"true","Interruptible":1}`,
			Node{Name: "n", Cores: 120, KeepAlive: true, Spot: true},
		},
		{
			"strings may be numbers", `{"Name":17,"InstanceId":42}`,
			Node{Name: "17", InstanceID: "42"},
		},
		{
			"null and objects count as absent", `{"Name":"n","Status":null,"Hostname":{"a":1},"CoreCount":[1],"KeepAlive":{}}`,
			Node{Name: "n"},
		},
		{
			"a node that has no VM yet has no address", `{"Name":"n","NodeId":"i","Status":"Acquiring","TargetState":"Started"}`,
			Node{Name: "n", ID: "i", Status: StatusAcquiring, StatusText: "Acquiring", TargetState: StatusStarted},
		},
		{
			"a failure has its message on one line", `{"Name":"n","Status":"Failed","StatusMessage":"cluster-init\n\u001b[31mfailed"}`,
			Node{Name: "n", Status: StatusFailed, StatusText: "Failed", StatusMessage: "cluster-init [31mfailed"},
		},
		{
			"a fraction is rounded towards less, nonsense is absent", `{"Name":"n","CoreCount":119.9,"Memory":"lots"}`,
			Node{Name: "n", Cores: 119},
		},
		{
			"unknown fields are no matter", `{"Name":"n","PhaseMap":{"Cloud.AwaitBootup":{}},"LaunchTime":12}`,
			Node{Name: "n"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, _ := newScripted(t, reply{status: 200, body: `{"nodes":[` + tt.record + `]}`})
			got, err := client.Nodes(t.Context(), "hpc10")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]Node{tt.want}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEveryStatusReadsBackFromItsOwnWord(t *testing.T) {
	for status := StatusUnknown; status <= StatusError; status++ {
		if got := ParseStatus(status.String()); got != status {
			t.Errorf("%s reads back as %s", status, got)
		}
	}
	if got := Status(99).String(); got != "Status(99)" {
		t.Errorf("got %s", got)
	}
}

func TestNodesSayWhetherTheyAreUpOrSettled(t *testing.T) {
	for _, tt := range []struct {
		name        string
		node        Node
		up, settled bool
	}{
		{"ready", Node{Status: StatusReady, TargetState: StatusStarted}, true, false},
		{"started, as some servers say", Node{Status: StatusStarted, TargetState: StatusStarted}, true, false},
		{"ready without a target", Node{Status: StatusReady}, true, false},
		{"ready but told to go", Node{Status: StatusReady, TargetState: StatusTerminated}, false, false},
		{"terminating", Node{Status: StatusTerminating, TargetState: StatusTerminated}, false, false},
		{"deallocated for good", Node{Status: StatusDeallocated, TargetState: StatusDeallocated}, false, true},
		{"off", Node{Status: StatusOff, TargetState: StatusOff}, false, true},
		{"failed while ending", Node{Status: StatusFailed, TargetState: StatusTerminated}, false, false},
		{"nothing known", Node{}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.node.IsUp() != tt.up || tt.node.IsSettledDown() != tt.settled {
				t.Errorf("up %v, settled %v", tt.node.IsUp(), tt.node.IsSettledDown())
			}
		})
	}
}

func TestAnAnswerThatIsNoNodeListIsAnErrorAndNeverAnEmptyList(t *testing.T) {
	long := strings.Repeat("x", 400)
	for _, tt := range []struct {
		name        string
		contentType string
		body        string
		want        []string
	}{
		{"an empty body", "text/plain", "", []string{"text/plain", "empty"}},
		{"a login page", "text/html", "<html><title>Sign in</title>" + long, []string{"text/html", "<html><title>Sign in</title>"}},
		{"JSON cut off", "application/json", `{"nodes":[{"Name":"n1"},{"Na`, []string{"unexpected end of JSON"}},
		{"JSON with more behind it", "application/json", `{"nodes":[]}{"nodes":[]}`, []string{"after top-level value"}},
		{"an object without nodes", "application/json", `{}`, []string{"no list of nodes"}},
		{"nodes are null", "application/json", `{"nodes":null}`, []string{"no list of nodes"}},
		{"null", "application/json", `null`, []string{"no list of nodes"}},
		{"an array", "application/json", `[]`, []string{"cannot unmarshal"}},
		{"a record without identity", "application/json", `{"nodes":[{"Name":"n1"},{"Status":"Ready"}]}`, []string{"record 2 of 2", "neither Name nor NodeId"}},
		{"a null record", "application/json", `{"nodes":[null]}`, []string{"neither Name nor NodeId"}},
		{"a name that does not print", "application/json", `{"nodes":[{"Name":"a\u0000b"}]}`, []string{"not a name"}},
		{"a name without end", "application/json", `{"nodes":[{"NodeId":"` + long + `"}]}`, []string{"not a name"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := newScripted(t, reply{status: 200, header: map[string]string{"Content-Type": tt.contentType}, body: tt.body})
			nodes, err := client.Nodes(t.Context(), "hpc10")
			if !fault.Is(err, fault.Transient) || nodes != nil {
				t.Fatalf("got %v and %v, want fault.Transient and nothing", nodes, err)
			}
			for _, want := range append(tt.want, "list nodes of cluster hpc10: answered 200 OK") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
			if len(err.Error()) > 700 || strings.Contains(err.Error(), long) {
				t.Errorf("the error holds too much of the body: %d bytes", len(err.Error()))
			}
			if len(server.asked()) != 1 {
				t.Errorf("asked %d times", len(server.asked()))
			}
		})
	}
}

func TestNodesByRequestTellsUnknownRequestsFromErrors(t *testing.T) {
	for _, tt := range []struct {
		name      string
		reply     reply
		wantNodes int
		wantKnown bool
		wantKind  fault.Kind // of the error, where wantError
		wantError bool
	}{
		{name: "nodes made", reply: reply{status: 200, body: testdata(t, "nodes.json")}, wantNodes: 1, wantKnown: true},
		{name: "accepted, but the nodes have vanished", reply: reply{status: 200, body: `{"nodes":[],"operation":{"action":"create"}}`}, wantKnown: true},
		{name: "the documented 404 without a body", reply: reply{status: 404}},
		{name: "the text seen in practice, with 400", reply: reply{status: 400, body: "No operation found for request id r-1"}},
		{name: "the text in another case, with 409", reply: reply{status: 409, body: `{"error":"no Operation found for Request ID r-1"}`}},
		{name: "another 400", reply: reply{status: 400, body: "request_id is malformed"}, wantError: true, wantKind: fault.Invalid},
		{name: "no permission, whatever the text", reply: reply{status: 403, body: "No operation found for request id r-1"}, wantError: true, wantKind: fault.Denied},
		{name: "nothing in the answer", reply: reply{status: 200}, wantError: true, wantKind: fault.Transient},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := newScripted(t, tt.reply)
			nodes, known, err := client.NodesByRequest(t.Context(), "hpc10", "r 1&x")
			if (err != nil) != tt.wantError || err != nil && fault.Of(err) != tt.wantKind {
				t.Fatalf("got %v", err)
			}
			if len(nodes) != tt.wantNodes || known != tt.wantKnown {
				t.Errorf("got %d nodes, known %v", len(nodes), known)
			}
			if diff := cmp.Diff([]request{{Method: "GET", URI: "/clusters/hpc10/nodes?request_id=r+1%26x"}}, server.asked()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
