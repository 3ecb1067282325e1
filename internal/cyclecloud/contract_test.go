package cyclecloud

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// backend is a server that the contract is held against: the simulator in this
// process, or a real one named by the environment.
type backend struct {
	endpoint string
	cred     Credential
	options  ClientOptions
	cluster  ClusterName
	array    NodeArrayName
	size     MachineType
	// patience bounds every wait for a node; pause is between two looks.
	patience, pause time.Duration
}

func (b backend) client(t *testing.T) *Client {
	t.Helper()
	client, err := NewClient(b.endpoint, b.cred, &b.options)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// eventually looks until ok says yes, and fails the test when patience ends.
func eventually(t *testing.T, b backend, what string, ok func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), b.patience)
	defer cancel()
	tick := time.NewTicker(b.pause)
	defer tick.Stop()
	for !ok(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s", what, b.patience)
		}
	}
}

func newRequestID() RequestID { return RequestID(uuid.NewString()) }

const namePrefix = "contract-"

// newName is a node name that nobody else uses.
func newName() string { return namePrefix + uuid.NewString()[:8] }

func (b backend) one(name string) CreateRequest {
	return CreateRequest{RequestID: newRequestID(), Sets: []CreateSet{{NodeArray: b.array, Count: 1, MachineType: b.size, NameFormat: name}}}
}

// make1 creates one node and gives it back as the server lists it.
func (b backend) make1(t *testing.T, client *Client) Node {
	t.Helper()
	req := b.one(newName())
	result, err := client.Create(t.Context(), b.cluster, req)
	if err != nil || result.Missing() != 0 || result.AlreadyAccepted {
		t.Fatalf("got %+v, %v", result, err)
	}
	nodes, known, err := client.NodesByRequest(t.Context(), b.cluster, req.RequestID)
	if err != nil || !known || len(nodes) != 1 || string(nodes[0].Name) != req.Sets[0].NameFormat {
		t.Fatalf("got %+v, known %v, %v", nodes, known, err)
	}
	t.Cleanup(func() {
		_, err := client.Terminate(context.WithoutCancel(t.Context()), b.cluster, NodeRequest{RequestID: newRequestID(), IDs: []NodeID{nodes[0].ID}})
		if err != nil {
			t.Errorf("clean up %s: %v", nodes[0].Name, err)
		}
	})
	return nodes[0]
}

// find gives the node of this id, as the whole list has it.
func (b backend) find(ctx context.Context, t *testing.T, client *Client, id NodeID) (Node, bool) {
	t.Helper()
	nodes, err := client.Nodes(ctx, b.cluster)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.ID == id {
			return n, true
		}
	}
	return Node{}, false
}

// until waits for the node to be as wanted.
func (b backend) until(t *testing.T, client *Client, id NodeID, what string, ok func(Node) bool) Node {
	t.Helper()
	var last Node
	eventually(t, b, fmt.Sprintf("node %s is %s", id, what), func(ctx context.Context) bool {
		n, found := b.find(ctx, t, client, id)
		last = n
		return found && ok(n)
	})
	return last
}

func (b backend) untilGone(t *testing.T, client *Client, id NodeID) {
	t.Helper()
	eventually(t, b, fmt.Sprintf("node %s is gone", id), func(ctx context.Context) bool {
		_, found := b.find(ctx, t, client, id)
		return !found
	})
}

// contract is what every server must do for this client. It says nothing about
// what the documentation leaves open, except that all answers are understood.
var contract = map[string]func(*testing.T, backend){
	"the status knows the nodearray and its room":           contractStatus,
	"a create is carried out once however often it is sent": contractCreateOnce,
	"a node comes up, ends, and leaves the list":            contractLife,
	"a name is never given to two nodes":                    contractDuplicateName,
	"several sets are answered in their order":              contractSets,
	"the room shrinks by what was created":                  contractRoomShrinks,
	"an unknown request is told from an accepted one":       contractUnknownRequest,
	"a request that is bad is invalid":                      contractBadRequest,
	"a node that does not exist is not found":               contractUnknownNode,
	"a wrong password is denied":                            contractWrongPassword,
	"a cluster that does not exist is invalid":              contractUnknownCluster,
}

func runContract(t *testing.T, b backend) {
	for name, scenario := range contract {
		t.Run(name, func(t *testing.T) { scenario(t, b) })
	}
}

// TestContractOnARealServer makes a few nodes in the nodearray named, which
// cost money, and ends them. The simulator stands in for it everywhere else.
func TestContractOnARealServer(t *testing.T) {
	endpoint := os.Getenv("BURST_TEST_CYCLECLOUD_URL")
	if endpoint == "" {
		t.Skip("BURST_TEST_CYCLECLOUD_URL names no server; the simulator is judged by the same suite")
	}
	b := backend{
		endpoint: endpoint,
		cred:     Credential{User: os.Getenv("BURST_TEST_CYCLECLOUD_USER"), Password: Secret(os.Getenv("BURST_TEST_CYCLECLOUD_PASSWORD"))},
		options:  ClientOptions{PinSHA256: os.Getenv("BURST_TEST_CYCLECLOUD_PIN"), CACertFile: os.Getenv("BURST_TEST_CYCLECLOUD_CA_FILE")},
		cluster:  ClusterName(os.Getenv("BURST_TEST_CYCLECLOUD_CLUSTER")),
		array:    NodeArrayName(os.Getenv("BURST_TEST_CYCLECLOUD_NODEARRAY")),
		patience: 30 * time.Minute, pause: 15 * time.Second,
	}
	status, err := b.client(t).Status(t.Context(), b.cluster, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, array := range status.NodeArrays {
		if array.Name == b.array && len(array.Buckets) > 0 {
			b.size = array.Buckets[0].MachineType
		}
	}
	runContract(t, b)
}

func contractStatus(t *testing.T, b backend) {
	client := b.client(t)
	node := b.make1(t, client)
	without, err := client.Status(t.Context(), b.cluster, false)
	if err != nil {
		t.Fatal(err)
	}
	if !without.IsStarted() || without.HasNodes || without.Nodes != nil {
		t.Errorf("got %+v", without)
	}
	with, err := client.Status(t.Context(), b.cluster, true)
	if err != nil {
		t.Fatal(err)
	}
	if !with.HasNodes || !strings.Contains(fmt.Sprint(with.Nodes), string(node.Name)) {
		t.Errorf("node %s is not in %+v", node.Name, with.Nodes)
	}
	for _, status := range []ClusterStatus{without, with} {
		if room, ok := status.Available(b.array, b.size); !ok || room.Count < 1 || room.Because == "" {
			t.Errorf("got %+v, %v: the contract needs room for a few nodes", room, ok)
		}
	}
}

func contractCreateOnce(t *testing.T, b backend) {
	client := b.client(t)
	req := b.one(newName())
	body, err := req.Encode()
	if err != nil {
		t.Fatal(err)
	}
	first, err := client.CreateEncoded(t.Context(), b.cluster, body)
	if err != nil || first.AlreadyAccepted || first.OperationID == "" {
		t.Fatalf("got %+v, %v", first, err)
	}
	want := []SetResult{{NodeArray: b.array, Asked: 1, Added: 1}}
	if diff := cmp.Diff(want, first.Sets); diff != "" {
		t.Error(diff)
	}
	for range 2 {
		again, err := client.CreateEncoded(t.Context(), b.cluster, body)
		if diff := cmp.Diff(CreateResult{AlreadyAccepted: true}, again); err != nil || diff != "" {
			t.Fatalf("got %v %s", err, diff)
		}
	}
	nodes, known, err := client.NodesByRequest(t.Context(), b.cluster, req.RequestID)
	if err != nil || !known || len(nodes) != 1 {
		t.Fatalf("got %+v, known %v, %v", nodes, known, err)
	}
	n := nodes[0]
	if string(n.Name) != req.Sets[0].NameFormat || n.NodeArray != b.array || n.ID == "" || n.RequestID != req.RequestID ||
		!strings.EqualFold(string(n.MachineType), string(b.size)) {
		t.Errorf("got %+v", n)
	}
	operations, err := client.Operations(t.Context(), req.RequestID)
	if err != nil || len(operations) != 1 || operations[0].Action != "create" || operations[0].StartTime.IsZero() {
		t.Errorf("got %+v, %v", operations, err)
	}
	if _, err := client.Terminate(t.Context(), b.cluster, NodeRequest{RequestID: newRequestID(), IDs: []NodeID{n.ID}}); err != nil {
		t.Error(err)
	}
	b.untilGone(t, client, n.ID)
	// The request stays known when its nodes are gone, so they are not made anew.
	again, err := client.CreateEncoded(t.Context(), b.cluster, body)
	if err != nil || !again.AlreadyAccepted {
		t.Errorf("got %+v, %v", again, err)
	}
}

func contractLife(t *testing.T, b backend) {
	client := b.client(t)
	node := b.make1(t, client)
	up := b.until(t, client, node.ID, "up", Node.IsUp)
	if up.InstanceID == "" || up.PrivateIP == "" || up.Hostname == "" {
		t.Errorf("a node that is up lacks its VM: %+v", up)
	}
	end := NodeRequest{RequestID: newRequestID(), IDs: []NodeID{node.ID}}
	first, err := client.Terminate(t.Context(), b.cluster, end)
	want := []NodeOutcome{{ID: node.ID, Name: node.Name, Outcome: OutcomeAccepted}}
	if diff := cmp.Diff(want, first.Nodes); err != nil || diff != "" || first.AlreadyAccepted {
		t.Fatalf("got %v %s", err, diff)
	}
	again, err := client.Terminate(t.Context(), b.cluster, end)
	if diff := cmp.Diff(NodeResult{AlreadyAccepted: true}, again); err != nil || diff != "" {
		t.Errorf("the repeat: got %v %s", err, diff)
	}
	// A new request for a node that is going may be taken or refused, or find
	// it gone; it is never an error of the whole.
	later, err := client.Terminate(t.Context(), b.cluster, NodeRequest{RequestID: newRequestID(), IDs: []NodeID{node.ID}})
	if err != nil || len(later.Nodes) != 1 || later.Nodes[0].Outcome == OutcomeUnknown {
		t.Errorf("got %+v, %v", later, err)
	}
	b.untilGone(t, client, node.ID)
}

func contractDuplicateName(t *testing.T, b backend) {
	client := b.client(t)
	node := b.make1(t, client)
	result, err := client.Create(t.Context(), b.cluster, b.one(string(node.Name)))
	switch {
	case err != nil && !fault.Is(err, fault.Invalid):
		t.Errorf("got %v, want fault.Invalid", err)
	case err == nil && (result.Missing() != 1 || result.Sets[0].Message == ""):
		t.Errorf("got %+v, want one node missing and why", result)
	}
	nodes, err := client.Nodes(t.Context(), b.cluster)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Name == node.Name && n.ID != node.ID {
			t.Errorf("a second node %s with id %s", n.Name, n.ID)
		}
	}
}

func contractSets(t *testing.T, b backend) {
	client := b.client(t)
	names := []string{newName(), newName()}
	req := b.one(names[0])
	req.Sets = append(req.Sets, CreateSet{NodeArray: b.array, Count: 1, NameFormat: names[1]})
	result, err := client.Create(t.Context(), b.cluster, req)
	if err != nil || result.Missing() != 0 || len(result.Sets) != 2 {
		t.Fatalf("got %+v, %v", result, err)
	}
	nodes, _, err := client.NodesByRequest(t.Context(), b.cluster, req.RequestID)
	if err != nil || len(nodes) != 2 {
		t.Fatalf("got %+v, %v", nodes, err)
	}
	ids := []NodeID{nodes[0].ID, nodes[1].ID}
	end, err := client.Remove(t.Context(), b.cluster, NodeRequest{RequestID: newRequestID(), IDs: ids})
	if err != nil || len(end.Nodes) != 2 {
		t.Fatalf("got %+v, %v", end, err)
	}
	for i, outcome := range end.Nodes {
		if outcome.Outcome != OutcomeAccepted || outcome.ID != ids[i] || outcome.Name != nodes[i].Name {
			t.Errorf("got %+v for %s", outcome, ids[i])
		}
		b.untilGone(t, client, ids[i])
	}
}

func contractRoomShrinks(t *testing.T, b backend) {
	client := b.client(t)
	room := func(ctx context.Context) int {
		status, err := client.Status(ctx, b.cluster, true)
		if err != nil {
			t.Fatal(err)
		}
		room, ok := status.Available(b.array, b.size)
		if !ok {
			t.Fatalf("no bucket for %s in %s", b.size, b.array)
		}
		return room.Count
	}
	eventually(t, b, "the nodes of other scenarios are gone", func(ctx context.Context) bool {
		nodes, err := client.Nodes(ctx, b.cluster)
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(nodes, func(n Node) bool { return strings.HasPrefix(string(n.Name), namePrefix) })
	})
	before := room(t.Context())
	b.make1(t, client)
	b.make1(t, client)
	// availableCount lags behind a create.
	eventually(t, b, "two nodes are counted", func(ctx context.Context) bool { return room(ctx) <= before-2 })
}

func contractUnknownRequest(t *testing.T, b backend) {
	client := b.client(t)
	nodes, known, err := client.NodesByRequest(t.Context(), b.cluster, newRequestID())
	if err != nil || known || len(nodes) != 0 {
		t.Errorf("got %+v, known %v, %v", nodes, known, err)
	}
	operations, err := client.Operations(t.Context(), newRequestID())
	if err != nil || len(operations) != 0 {
		t.Errorf("got %+v, %v", operations, err)
	}
}

func contractBadRequest(t *testing.T, b backend) {
	client := b.client(t)
	for name, set := range map[string]CreateSet{
		"an unknown nodearray":    {NodeArray: "no-such-nodearray", Count: 1},
		"an unknown machine type": {NodeArray: b.array, Count: 1, MachineType: "Standard_NoSuchSize"},
	} {
		t.Run(name, func(t *testing.T) {
			req := CreateRequest{RequestID: newRequestID(), Sets: []CreateSet{set}}
			result, err := client.Create(t.Context(), b.cluster, req)
			if !fault.Is(err, fault.Invalid) || !strings.HasPrefix(err.Error(), fmt.Sprintf("create nodes in %s of cluster %s: answered ", set.NodeArray, b.cluster)) {
				t.Errorf("got %+v, %v, want fault.Invalid", result, err)
			}
			if _, known, err := client.NodesByRequest(t.Context(), b.cluster, req.RequestID); err != nil || known {
				t.Errorf("the refused request is known: %v, %v", known, err)
			}
		})
	}
}

func contractUnknownNode(t *testing.T, b backend) {
	id := NodeID(uuid.NewString())
	result, err := b.client(t).Terminate(t.Context(), b.cluster, NodeRequest{RequestID: newRequestID(), IDs: []NodeID{id}})
	if diff := cmp.Diff([]NodeOutcome{{ID: id, Outcome: OutcomeNotFound}}, result.Nodes); err != nil || diff != "" {
		t.Errorf("got %v %s", err, diff)
	}
}

func contractWrongPassword(t *testing.T, b backend) {
	b.cred.Password = "wrong-on-purpose"
	client := b.client(t)
	_, errStatus := client.Status(t.Context(), b.cluster, true)
	_, errCreate := client.Create(t.Context(), b.cluster, b.one(newName()))
	_, _, errByRequest := client.NodesByRequest(t.Context(), b.cluster, newRequestID())
	for _, err := range []error{errStatus, errCreate, errByRequest} {
		if !fault.Is(err, fault.Denied) || strings.Contains(err.Error(), "wrong-on-purpose") {
			t.Errorf("got %v, want fault.Denied", err)
		}
	}
}

func contractUnknownCluster(t *testing.T, b backend) {
	client := b.client(t)
	b.cluster = ClusterName("no such cluster " + uuid.NewString())
	_, errStatus := client.Status(t.Context(), b.cluster, true)
	_, errNodes := client.Nodes(t.Context(), b.cluster)
	_, errCreate := client.Create(t.Context(), b.cluster, b.one(newName()))
	for _, err := range []error{errStatus, errNodes, errCreate} {
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), string(b.cluster)) {
			t.Errorf("got %v, want fault.Invalid naming the cluster", err)
		}
	}
}
