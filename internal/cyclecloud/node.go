package cyclecloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Status is the state of a node as CycleCloud's web page shows it. The
// vocabulary is not published; a word that is not known yet is StatusUnknown
// and best read as "in progress, with a deadline".
type Status int

// The statuses met in documentation and in the clients that Microsoft
// publishes. "Bills" says whether a VM is paid for.
const (
	StatusUnknown     Status = iota
	StatusOff                // no VM
	StatusAcquiring          // VM requested, may wait for capacity for ever (also "Allocating")
	StatusPreparing          // VM up and being configured; bills
	StatusReady              // configured; bills
	StatusStarted            // up, in the words of State and TargetState; bills
	StatusStopping           // going down; bills until gone
	StatusTerminating        // going down; bills until gone
	StatusDeallocated        // stopped, the disk is kept and bills
	StatusTerminated         // VM deleted; nodes of a nodearray then leave the list
	StatusFailed             // a phase of starting or ending failed; a VM may exist and bill
	StatusUnavailable        // treated as a failure by cyclecloud-symphony
	StatusError              // named once in the documentation, probably the same as Failed
)

var statusWords = [...]string{
	StatusUnknown: "Unknown", StatusOff: "Off", StatusAcquiring: "Acquiring", StatusPreparing: "Preparing",
	StatusReady: "Ready", StatusStarted: "Started", StatusStopping: "Stopping", StatusTerminating: "Terminating",
	StatusDeallocated: "Deallocated", StatusTerminated: "Terminated", StatusFailed: "Failed",
	StatusUnavailable: "Unavailable", StatusError: "Error",
}

// String gives CycleCloud's word.
func (s Status) String() string {
	if s >= 0 && int(s) < len(statusWords) {
		return statusWords[s]
	}
	return fmt.Sprintf("Status(%d)", int(s))
}

// ParseStatus reads a status or target state, in any case.
func ParseStatus(word string) Status {
	word = strings.TrimSpace(word)
	if strings.EqualFold(word, "Allocating") { // what scalelib's simulation calls it
		return StatusAcquiring
	}
	for status, known := range statusWords {
		if strings.EqualFold(word, known) {
			return Status(status)
		}
	}
	return StatusUnknown
}

// Node is one node of a cluster, scheduler and login nodes included.
type Node struct {
	ID        NodeID        // may be empty on a record that CycleCloud has not finished
	Name      NodeName      // used again by later nodes
	NodeArray NodeArrayName // the record's Template; empty for a node outside nodearrays
	// MachineType is empty until it was chosen.
	MachineType MachineType

	Status     Status
	StatusText string // the server's word, also where Status is StatusUnknown
	// TargetState is one of StatusStarted, StatusTerminated, StatusDeallocated
	// and StatusOff; StatusUnknown where the record has none, which happens.
	TargetState Status
	// State is coarser than Status and lags behind it; kept for display.
	State string
	// StatusMessage is the only text about a failure that a record has; at
	// most 2 KB.
	StatusMessage string

	PlacementGroupID string
	Spot             bool // Interruptible: may be evicted, and then simply vanishes
	KeepAlive        bool // CycleCloud refuses to terminate or deallocate it
	// Hostname, PrivateIP and InstanceID are empty until there is a VM. The
	// format of InstanceID is not documented: compare it, never parse it.
	Hostname   string
	PrivateIP  string
	InstanceID string
	RequestID  RequestID // of the create that made it
	Region     string
	Cores      int // virtual CPUs as CycleCloud counts them; 0 where unknown
}

// IsUp says that the node has joined: Ready, or Started as some servers say.
func (n Node) IsUp() bool {
	return (n.TargetState == StatusStarted || n.TargetState == StatusUnknown) &&
		(n.Status == StatusReady || n.Status == StatusStarted)
}

// IsSettledDown says that the node has reached a target other than Started, so
// that it takes no room and its name is free. A node without a target state is
// never settled.
func (n Node) IsSettledDown() bool {
	return n.TargetState != StatusUnknown && n.TargetState != StatusStarted && n.Status == n.TargetState
}

// Nodes lists every node of the cluster. The answer is whole or an error:
// a record without identity or a missing list is no answer, so that a node
// which is absent from the result is absent in CycleCloud.
func (c *Client) Nodes(ctx context.Context, cluster ClusterName) ([]Node, error) {
	op := "list nodes of cluster " + excerpt(string(cluster), maxName)
	if err := checkName("the cluster name", string(cluster)); err != nil {
		return nil, fault.New(fault.Invalid, op, err)
	}
	a, err := c.send(ctx, call{
		op: op, span: "Nodes", method: http.MethodGet, path: clusterPath(cluster, "/nodes"), repeatable: true,
	})
	if err != nil {
		return nil, err
	}
	return a.nodes()
}

// NodesByRequest lists the nodes that a create with this request id made.
// known is false where the server knows no such request (it was never
// accepted, or is forgotten: how long ids are kept is not documented), and so
// a create may be sent again with the same id.
func (c *Client) NodesByRequest(ctx context.Context, cluster ClusterName, id RequestID) (nodes []Node, known bool, err error) {
	op := fmt.Sprintf("list nodes of request %s in cluster %s", excerpt(string(id), maxName), excerpt(string(cluster), maxName))
	// An empty id would list the whole cluster.
	if err := errors.Join(checkName("the cluster name", string(cluster)), checkName("the request id", string(id))); err != nil {
		return nil, false, fault.New(fault.Invalid, op, err)
	}
	a, err := c.send(ctx, call{
		op: op, span: "NodesByRequest", method: http.MethodGet, path: clusterPath(cluster, "/nodes"),
		query: url.Values{"request_id": {string(id)}}, repeatable: true,
	})
	if err != nil {
		return nil, false, err
	}
	if a.saysUnknownRequest() {
		return nil, false, nil
	}
	nodes, err = a.nodes()
	return nodes, err == nil, err
}

func (a answer) nodes() ([]Node, error) {
	if !a.ok() {
		return nil, a.refusal()
	}
	var wire wireNodeList
	if err := a.decode(&wire); err != nil {
		return nil, err
	}
	if wire.Nodes == nil {
		return nil, a.malformed(errors.New("it has no list of nodes"))
	}
	nodes, err := nodesFrom(*wire.Nodes)
	if err != nil {
		return nil, a.malformed(err)
	}
	return nodes, nil
}

func nodesFrom(wire []wireNode) ([]Node, error) {
	nodes := make([]Node, 0, len(wire))
	for i, w := range wire {
		node, err := nodeFrom(w)
		if err != nil {
			return nil, fmt.Errorf("node record %d of %d: %w", i+1, len(wire), err)
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

func nodeFrom(w wireNode) (Node, error) {
	if w.Name == "" && w.NodeID == "" {
		return Node{}, errors.New("it has neither Name nor NodeId")
	}
	for what, name := range map[string]text{"Name": w.Name, "NodeId": w.NodeID} {
		if len(name) > maxName || !isPrintable(string(name)) {
			return Node{}, fmt.Errorf("its %s %q is not a name", what, excerpt(string(name), 80))
		}
	}
	return Node{
		ID: NodeID(w.NodeID), Name: NodeName(w.Name),
		NodeArray:   NodeArrayName(excerpt(string(w.Template), maxName)),
		MachineType: MachineType(excerpt(string(w.MachineType), maxName)),
		Status:      ParseStatus(string(w.Status)), StatusText: excerpt(string(w.Status), maxName),
		TargetState: ParseStatus(string(w.TargetState)), State: excerpt(string(w.State), maxName),
		StatusMessage:    excerpt(string(w.StatusMessage), refusalExcerpt),
		PlacementGroupID: excerpt(string(w.PlacementGroupID), maxName),
		Spot:             bool(w.Interruptible), KeepAlive: bool(w.KeepAlive),
		Hostname: excerpt(string(w.Hostname), maxName), PrivateIP: excerpt(string(w.PrivateIP), maxName),
		InstanceID: excerpt(string(w.InstanceID), maxName*4), RequestID: RequestID(excerpt(string(w.RequestID), maxName)),
		Region: excerpt(string(w.Region), maxName), Cores: w.CoreCount.orZero(),
	}, nil
}
