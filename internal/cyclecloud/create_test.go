package cyclecloud

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/fault"
)

var named = CreateRequest{RequestID: "r-1", Sets: []CreateSet{
	{NodeArray: "hpc", Count: 1, MachineType: "Standard_HB120rs_v3", NameFormat: "hpc10-hpc-3", PlacementGroupID: "pg0"},
	{NodeArray: "htc", Count: 4, NameFormat: "hpc10-htc-%d", NameOffset: 11},
}}

const namedBody = `{"requestId":"r-1","sets":[` +
	`{"nodearray":"hpc","count":1,"definition":{"machineType":"Standard_HB120rs_v3"},"nameFormat":"hpc10-hpc-3","placementGroupId":"pg0"},` +
	`{"nodearray":"htc","count":4,"nameFormat":"hpc10-htc-%d","nameOffset":11}]}`

const createOp = "create nodes in hpc, htc of cluster hpc10"

func TestCreateSendsTheDocumentedBodyAndComparesAddedWithCount(t *testing.T) {
	client, server := newScripted(t, reply{
		status: 202, header: map[string]string{"Location": "/operations/op-1"},
		body: `{"operationId":"op-1","sets":[{"added":1},{"added":2,"message":"quota\nreached"}]}`,
	})
	got, err := client.Create(t.Context(), "hpc10", named)
	if err != nil {
		t.Fatal(err)
	}
	want := CreateResult{OperationID: "op-1", Sets: []SetResult{
		{NodeArray: "hpc", Asked: 1, Added: 1},
		{NodeArray: "htc", Asked: 4, Added: 2, Message: "quota reached"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Missing() != 2 || got.Sets[1].Missing() != 2 {
		t.Errorf("missing %d", got.Missing())
	}
	if diff := cmp.Diff([]request{{"POST", "/clusters/hpc10/nodes/create", namedBody}}, server.asked()); diff != "" {
		t.Error(diff)
	}
	if ct := server.headers[0].Get("Content-Type"); ct != "application/json" {
		t.Errorf("content type %q", ct)
	}
}

func TestCreateSendsStoredBytesAsTheyAre(t *testing.T) {
	client, server := newScripted(t, reply{status: 202, body: `{"operationId":"op","sets":[{"added":0,"message":"none"}]}`})
	// Another order, spaces and a field of a later version: nothing is rewritten.
	body := `{ "sets": [ {"count":3, "nodearray":"htc", "futureField":true} ], "requestId":"r-1" }`
	got, err := client.CreateEncoded(t.Context(), "hpc10", []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	want := CreateResult{OperationID: "op", Sets: []SetResult{{NodeArray: "htc", Asked: 3, Message: "none"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(body, server.asked()[0].Body); diff != "" {
		t.Error(diff)
	}
}

func TestCreateFindsOutWhatA409Means(t *testing.T) {
	const operation = `[{"action":"create","startTime":"2026-01-01T12:34:56Z"}]`
	long := strings.Repeat("bad input ", 400)
	for _, tt := range []struct {
		name         string
		conflict     string
		lookup       []reply
		wantAccepted bool
		wantKind     fault.Kind
		wantText     string
	}{
		{"an operation: it was accepted earlier", "request id was used", []reply{{status: 200, body: operation}}, true, 0, ""},
		{"one object instead of a list", "", []reply{{status: 200, body: `{"action":"create","startTime":"x"}`}}, true, 0, ""},
		{"no operation: the request is bad", "Unknown nodearray hpc", []reply{{status: 200, body: `[]`}}, false, fault.Invalid, "Unknown nodearray hpc"},
		{"an unknown request id: the request is bad", "Unknown nodearray hpc", []reply{{status: 404}}, false, fault.Invalid, "Unknown nodearray hpc"},
		{"the text of an unknown request id", "Unknown nodearray hpc", []reply{{status: 400, body: "No operation found for request id r-1"}}, false, fault.Invalid, "Unknown nodearray hpc"},
		{"a bad request without a text", "", []reply{{status: 404}}, false, fault.Invalid, "without a text"},
		{"at most 2 KB of the text are kept", long, []reply{{status: 404}}, false, fault.Invalid, "…"},
		{"the look-up fails for the moment", "x", []reply{{status: 500}, {status: 500}, {status: 500}, {status: 500}}, false, fault.Transient, "meaning is unknown"},
		{"the look-up is refused", "x", []reply{{status: 403}}, false, fault.Denied, "meaning is unknown"},
		{"the look-up itself is called bad: nothing is known", "x", []reply{{status: 400, body: "?"}}, false, fault.Transient, "meaning is unknown"},
		{"the look-up answers null", "x", []reply{{status: 200, body: `null`}}, false, fault.Transient, "no list of operations"},
		{"the look-up answers an empty object", "x", []reply{{status: 200, body: `{}`}}, false, fault.Transient, "neither action nor startTime"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := newScripted(t, append([]reply{{status: 409, body: tt.conflict}}, tt.lookup...)...)
			got, err := client.Create(t.Context(), "hpc10", named)
			if tt.wantAccepted {
				if diff := cmp.Diff(CreateResult{AlreadyAccepted: true}, got); err != nil || diff != "" {
					t.Fatalf("got %v %s", err, diff)
				}
			} else if !fault.Is(err, tt.wantKind) || !strings.Contains(err.Error(), tt.wantText) || !strings.HasPrefix(err.Error(), createOp+": answered 409") {
				t.Fatalf("got %v, want %v saying %q", err, tt.wantKind, tt.wantText)
			} else if diff := cmp.Diff(CreateResult{}, got); diff != "" {
				t.Error(diff)
			}
			if err != nil && len(err.Error()) > refusalExcerpt+200 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if asked := server.asked(); asked[1].URI != "/operations/?request_id=r-1" || len(asked) != 1+len(tt.lookup) {
				t.Errorf("asked %v", asked)
			}
		})
	}
}

func TestA409WithoutARequestIDIsABadRequest(t *testing.T) {
	client, server := newScripted(t, reply{status: 409, body: "Unknown nodearray"})
	_, err := client.Create(t.Context(), "hpc10", CreateRequest{Sets: named.Sets})
	if !fault.Is(err, fault.Invalid) || len(server.asked()) != 1 {
		t.Errorf("got %v after %d requests", err, len(server.asked()))
	}
}

func TestCreateRefusesBadRequestsBeforeAnyIO(t *testing.T) {
	set := func(s CreateSet) CreateRequest { return CreateRequest{RequestID: "r-1", Sets: []CreateSet{s}} }
	for _, tt := range []struct {
		name    string
		cluster ClusterName
		request CreateRequest
		want    string
	}{
		{"no cluster", "", named, "cluster name is empty"},
		{"a cluster that is a path", "..", named, "path"},
		{"a cluster with a control character", "a\nb", named, "do not print"},
		{"a cluster that is not UTF-8", "a\xff", named, "do not print"},
		{"a cluster without end", ClusterName(strings.Repeat("x", 300)), named, "300 bytes"},
		{"no sets", "hpc10", CreateRequest{RequestID: "r-1"}, "no set"},
		{"too many sets", "hpc10", CreateRequest{RequestID: "r-1", Sets: slices.Repeat(named.Sets, 51)}, "102 sets"},
		{"no nodearray", "hpc10", set(CreateSet{Count: 1}), "set 1: the nodearray is empty"},
		{"a count of 0", "hpc10", set(CreateSet{NodeArray: "htc"}), "count is 0"},
		{"a negative count", "hpc10", set(CreateSet{NodeArray: "htc", Count: -1}), "count is -1"},
		{"one name for two nodes", "hpc10", set(CreateSet{NodeArray: "htc", Count: 2, NameFormat: "n1"}), "2 nodes"},
		{"two indices in a name", "hpc10", set(CreateSet{NodeArray: "htc", Count: 2, NameFormat: "n%d-%d"}), "percent"},
		{"another percent sign", "hpc10", set(CreateSet{NodeArray: "htc", Count: 1, NameFormat: "n%s"}), "percent"},
		{"a negative offset", "hpc10", set(CreateSet{NodeArray: "htc", Count: 1, NameFormat: "n%d", NameOffset: -1}), "offset"},
		{"a machine type with a line break", "hpc10", set(CreateSet{NodeArray: "htc", Count: 1, MachineType: "a\nb"}), "machine type"},
		{"a placement group with a tab", "hpc10", set(CreateSet{NodeArray: "htc", Count: 1, PlacementGroupID: "a\tb"}), "placement group"},
		{"a request id with a line break", "hpc10", CreateRequest{RequestID: "r\n", Sets: named.Sets}, "request id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := newScripted(t)
			_, err := client.Create(t.Context(), tt.cluster, tt.request)
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want fault.Invalid saying %q", err, tt.want)
			}
			if len(server.asked()) != 0 {
				t.Error("the server was asked")
			}
		})
	}
}

func TestStoredBytesThatAreNoRequestAreRefusedBeforeAnyIO(t *testing.T) {
	for _, body := range []string{"", "x", "null", "[]", `{"requestId":"r"}`, `{"sets":[{"nodearray":"htc","count":0}]}`, `{"sets":[{"nodearray":"htc","count":"1"}]}`} {
		client, server := newScripted(t)
		if _, err := client.CreateEncoded(t.Context(), "hpc10", []byte(body)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v", body, err)
		}
		if _, err := client.ActEncoded(t.Context(), "hpc10", ActionTerminate, []byte(body)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q as a node request: got %v", body, err)
		}
		if len(server.asked()) != 0 {
			t.Errorf("%q: the server was asked", body)
		}
	}
}

func TestAnAcceptanceThatCannotBeReadIsOfUnknownOutcome(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"an empty body", "", "empty"},
		{"HTML", "<html>", "<html>"},
		{"no sets", `{"operationId":"op"}`, "each of 2 sets"},
		{"fewer sets than asked for", `{"operationId":"op","sets":[{"added":1}]}`, "each of 2 sets"},
		{"a set without a number", `{"operationId":"op","sets":[{"added":1},{"message":"?"}]}`, "set 2"},
		{"a negative number", `{"operationId":"op","sets":[{"added":-1},{"added":1}]}`, "set 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, _ := newScripted(t, reply{status: 202, body: tt.body})
			_, err := client.Create(t.Context(), "hpc10", named)
			if !fault.Is(err, fault.Transient) || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), createOp+": answered 202") {
				t.Errorf("got %v, want fault.Transient saying %q", err, tt.want)
			}
		})
	}
}

func TestRefusalsAreClassifiedByStatus(t *testing.T) {
	for _, tt := range []struct {
		status   int
		header   map[string]string
		wantKind fault.Kind
		wantText string
	}{
		{400, nil, fault.Invalid, "answered 400 Bad Request: because"},
		{401, nil, fault.Denied, "answered 401 Unauthorized: because"},
		{403, nil, fault.Denied, "answered 403 Forbidden: because"},
		{404, nil, fault.Invalid, "answered 404 Not Found: because"},
		{405, nil, fault.Invalid, "405"},
		{407, nil, fault.Denied, "407"},
		{413, nil, fault.Invalid, "413"},
		{302, map[string]string{"Location": "https://cc.example.com/login?next=x"}, fault.Transient, "cc.example.com/login"},
		{501, nil, fault.Transient, "501"},
	} {
		t.Run(fmt.Sprint(tt.status), func(t *testing.T) {
			client, server := newScripted(t, reply{status: tt.status, header: tt.header, body: "because"})
			_, err := client.Create(t.Context(), "hpc10", named)
			if !fault.Is(err, tt.wantKind) || !strings.Contains(err.Error(), tt.wantText) || !strings.HasPrefix(err.Error(), createOp) {
				t.Errorf("got %v, want %v saying %q", err, tt.wantKind, tt.wantText)
			}
			if len(server.asked()) != 1 {
				t.Errorf("asked %d times", len(server.asked()))
			}
		})
	}
}
