package cyclecloud

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/fault"
)

func TestActionsSendIdsOnlyAndGiveOneOutcomeForEach(t *testing.T) {
	type method func(*Client, context.Context, ClusterName, NodeRequest) (NodeResult, error)
	for path, method := range map[string]method{
		"start": (*Client).Start, "shutdown": (*Client).Shutdown, "terminate": (*Client).Terminate,
		"deallocate": (*Client).Deallocate, "remove": (*Client).Remove,
	} {
		t.Run(path, func(t *testing.T) {
			client, server := newScripted(t, reply{status: 202, body: `{"operationId":"op","nodes":[
				{"name":"n2","id":"ID-2","status":"Error","error":"KeepAlive is\nset"},
				{"name":"n1","id":"id-1","status":"OK"},
				{"name":"n4","id":"id-4","status":"Queued"}]}`})
			got, err := method(client, t.Context(), "hpc10", NodeRequest{RequestID: "r-2", IDs: []NodeID{"id-1", "id-2", "id-3", "id-4"}})
			if err != nil {
				t.Fatal(err)
			}
			want := NodeResult{OperationID: "op", Nodes: []NodeOutcome{
				{ID: "id-1", Name: "n1", Outcome: OutcomeAccepted},
				{ID: "id-2", Name: "n2", Outcome: OutcomeRefused, Text: "Error KeepAlive is set"},
				{ID: "id-3", Outcome: OutcomeNotFound},
				{ID: "id-4", Name: "n4", Text: "Queued"},
			}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			body := `{"requestId":"r-2","ids":["id-1","id-2","id-3","id-4"]}`
			if diff := cmp.Diff([]request{{"POST", "/clusters/hpc10/nodes/" + path, body}}, server.asked()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnAnswerForAnotherNodeIsNoProofThatTheNodeIsGone(t *testing.T) {
	for _, body := range []string{
		`{"nodes":[{"name":"n1","status":"OK"}]}`,
		`{"nodes":[{"name":"n1","id":"{id-1}","status":"OK"}]}`,
	} {
		client, _ := newScripted(t, reply{status: 202, body: body})
		got, err := client.Terminate(t.Context(), "hpc10", NodeRequest{RequestID: "r", IDs: []NodeID{"id-1"}})
		if err != nil {
			t.Fatal(err)
		}
		if got.Nodes[0].Outcome != OutcomeUnknown || got.Nodes[0].Text == "" {
			t.Errorf("%s: got %+v", body, got)
		}
	}
}

func TestEmptySelectionsAreRefusedBeforeAnyIO(t *testing.T) {
	for _, tt := range []struct {
		name string
		ids  []NodeID
		want string
	}{
		{"no ids", nil, "empty selection"},
		{"an empty list", []NodeID{}, "empty selection"},
		{"an empty id", []NodeID{"id-1", ""}, "id 2: the node id is empty"},
		{"an id that does not print", []NodeID{"a\x00"}, "do not print"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := newScripted(t)
			_, err := client.Terminate(t.Context(), "hpc10", NodeRequest{RequestID: "r", IDs: tt.ids})
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "terminate nodes of cluster hpc10") {
				t.Errorf("got %v, want fault.Invalid saying %q", err, tt.want)
			}
			if len(server.asked()) != 0 {
				t.Error("the server was asked")
			}
		})
	}
}

func TestAnActionThatDoesNotExistIsABug(t *testing.T) {
	client, server := newScripted(t)
	_, err := client.ActEncoded(t.Context(), "hpc10", 0, []byte(`{"ids":["id-1"]}`))
	if !fault.Is(err, fault.Bug) || len(server.asked()) != 0 {
		t.Errorf("got %v after %d requests", err, len(server.asked()))
	}
}

func TestActionsFindOutWhatA409Means(t *testing.T) {
	request := NodeRequest{RequestID: "r-2", IDs: []NodeID{"id-1"}}
	t.Run("accepted earlier", func(t *testing.T) {
		client, _ := newScripted(t, reply{status: 409}, reply{status: 200, body: `[{"action":"terminate"}]`})
		got, err := client.Terminate(t.Context(), "hpc10", request)
		if diff := cmp.Diff(NodeResult{AlreadyAccepted: true}, got); err != nil || diff != "" {
			t.Errorf("got %v %s", err, diff)
		}
	})
	t.Run("refused", func(t *testing.T) {
		client, _ := newScripted(t, reply{status: 409, body: "no such filter"}, reply{status: 404})
		got, err := client.Terminate(t.Context(), "hpc10", request)
		if !fault.Is(err, fault.Invalid) || !strings.HasPrefix(err.Error(), "terminate node id-1 of cluster hpc10: answered 409 Conflict: no such filter") {
			t.Errorf("got %v", err)
		}
		if got.AlreadyAccepted {
			t.Error("it was not accepted")
		}
	})
}

func TestAnActionWithoutAListOfNodesIsOfUnknownOutcome(t *testing.T) {
	client, _ := newScripted(t, reply{status: 202, body: `{"operationId":"op"}`})
	_, err := client.Remove(t.Context(), "hpc10", NodeRequest{RequestID: "r", IDs: []NodeID{"a", "b"}})
	if !fault.Is(err, fault.Transient) || !strings.HasPrefix(err.Error(), "remove 2 nodes (first a) of cluster hpc10") {
		t.Errorf("got %v", err)
	}
}

func TestOperationsTellsWhatTheServerKnows(t *testing.T) {
	start := time.Date(2026, 1, 1, 12, 34, 56, 0, time.UTC)
	for _, tt := range []struct {
		name  string
		reply reply
		want  []Operation
	}{
		{"one operation", reply{status: 200, body: `[{"action":"create","startTime":"2026-01-01T12:34:56Z"}]`}, []Operation{{"create", start}}},
		{"an operation whose time can't be read", reply{status: 200, body: `[{"action":"create","startTime":"yesterday"}]`}, []Operation{{Action: "create"}}},
		{"none", reply{status: 200, body: `[]`}, []Operation{}},
		{"the documented 404", reply{status: 404}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, _ := newScripted(t, tt.reply)
			got, err := client.Operations(t.Context(), "r-1")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadsWithoutTheirNameAreRefusedBeforeAnyIO(t *testing.T) {
	client, server := newScripted(t)
	_, errStatus := client.Status(t.Context(), "", true)
	_, errNodes := client.Nodes(t.Context(), ".")
	_, _, errByRequest := client.NodesByRequest(t.Context(), "hpc10", "")
	_, errOperations := client.Operations(t.Context(), "")
	for _, err := range []error{errStatus, errNodes, errByRequest, errOperations} {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("got %v", err)
		}
	}
	if len(server.asked()) != 0 {
		t.Errorf("asked %v", server.asked())
	}
}
