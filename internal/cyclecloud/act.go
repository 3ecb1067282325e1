package cyclecloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Action is something done to nodes that exist.
type Action int

// The actions, with what they do to a node of a nodearray.
const (
	_                Action = iota
	ActionStart             // starts deallocated or terminated nodes; ignores the nodearray's limit
	ActionShutdown          // what the node's ShutdownPolicy says: terminate (default) or deallocate
	ActionTerminate         // deletes the VM; the node then leaves the cluster
	ActionDeallocate        // stops the VM and keeps its disk, which bills
	ActionRemove            // like terminate, and takes the record of a terminated node away
)

var actionWords = map[Action]string{
	ActionStart: "start", ActionShutdown: "shutdown", ActionTerminate: "terminate",
	ActionDeallocate: "deallocate", ActionRemove: "remove",
}

// String gives CycleCloud's word, which is also the last part of the path.
func (a Action) String() string {
	if word, ok := actionWords[a]; ok {
		return word
	}
	return fmt.Sprintf("Action(%d)", int(a))
}

// NodeRequest names nodes to act on. Other selectors of the API are not
// offered: names are used again, and a filter may match what nobody meant.
type NodeRequest struct {
	RequestID RequestID
	IDs       []NodeID // at least one
}

// NodeResult is what the server answered for each node.
type NodeResult struct {
	OperationID OperationID
	// AlreadyAccepted says that an earlier request with this id had been
	// accepted; then there are no outcomes.
	AlreadyAccepted bool
	Nodes           []NodeOutcome // one for each id asked for, in that order
}

// Outcome is the answer for one node.
type Outcome int

// The outcomes. Accepted means begun, not done: follow the node itself, since
// operations have no end. NotFound means that the id matched no node, so the
// node is gone.
const (
	OutcomeUnknown  Outcome = iota
	OutcomeAccepted         // the server says OK
	OutcomeRefused          // the server says Error, for example for KeepAlive nodes
	OutcomeNotFound         // the server does not list the node
)

// String gives the outcome's name for logs.
func (o Outcome) String() string {
	switch o {
	case OutcomeUnknown:
		return "unknown"
	case OutcomeAccepted:
		return "accepted"
	case OutcomeRefused:
		return "refused"
	case OutcomeNotFound:
		return "not_found"
	}
	return fmt.Sprintf("outcome(%d)", int(o))
}

// NodeOutcome is the answer for one node.
type NodeOutcome struct {
	ID      NodeID
	Name    NodeName // empty where the server did not say
	Outcome Outcome
	// Text is the server's status and error where the outcome is Refused or
	// Unknown; at most 2 KB.
	Text string
}

// Encode gives the exact bytes of the request's body, as CreateRequest.Encode
// does. Errors are fault.Invalid.
func (r NodeRequest) Encode() ([]byte, error) {
	wire := wireNodeRequest(r)
	if err := wire.check(); err != nil {
		return nil, fault.New(fault.Invalid, "encode node request", err)
	}
	body, err := json.Marshal(wire)
	if err != nil {
		return nil, fault.New(fault.Bug, "encode node request", err)
	}
	return body, nil
}

func (w wireNodeRequest) check() error {
	var errs []error
	if w.RequestID != "" {
		errs = append(errs, checkName("the request id", string(w.RequestID)))
	}
	if len(w.IDs) == 0 {
		errs = append(errs, errors.New("no node id is given, and an empty selection is never sent"))
	}
	for i, id := range w.IDs {
		if err := checkName("the node id", string(id)); err != nil {
			errs = append(errs, fmt.Errorf("id %d: %w", i+1, err))
		}
	}
	return errors.Join(errs...)
}

// Start starts deallocated or terminated nodes. This and the four methods
// below share their contract: a nil error means that the server accepted the
// request, now or earlier, and the result has the answer for each node. They
// are repeated, by the pipeline or the caller, only with a RequestID.
func (c *Client) Start(ctx context.Context, cluster ClusterName, req NodeRequest) (NodeResult, error) {
	return c.act(ctx, cluster, ActionStart, req)
}

// Shutdown terminates or deallocates nodes, as each one's ShutdownPolicy says.
func (c *Client) Shutdown(ctx context.Context, cluster ClusterName, req NodeRequest) (NodeResult, error) {
	return c.act(ctx, cluster, ActionShutdown, req)
}

// Terminate deletes the nodes' VMs.
func (c *Client) Terminate(ctx context.Context, cluster ClusterName, req NodeRequest) (NodeResult, error) {
	return c.act(ctx, cluster, ActionTerminate, req)
}

// Deallocate stops the nodes' VMs and keeps their disks.
func (c *Client) Deallocate(ctx context.Context, cluster ClusterName, req NodeRequest) (NodeResult, error) {
	return c.act(ctx, cluster, ActionDeallocate, req)
}

// Remove deletes the nodes' VMs and takes the nodes out of the cluster.
func (c *Client) Remove(ctx context.Context, cluster ClusterName, req NodeRequest) (NodeResult, error) {
	return c.act(ctx, cluster, ActionRemove, req)
}

func (c *Client) act(ctx context.Context, cluster ClusterName, action Action, req NodeRequest) (NodeResult, error) {
	body, err := req.Encode()
	if err != nil {
		return NodeResult{}, fmt.Errorf("%s nodes of cluster %s: %w", action, excerpt(string(cluster), maxName), err)
	}
	return c.ActEncoded(ctx, cluster, action, body)
}

// ActEncoded is one of the actions with the bytes that NodeRequest.Encode
// gave, sent as they are.
func (c *Client) ActEncoded(ctx context.Context, cluster ClusterName, action Action, body []byte) (NodeResult, error) {
	op := fmt.Sprintf("%s nodes of cluster %s", action, excerpt(string(cluster), maxName))
	var wire wireNodeRequest
	if err := json.Unmarshal(body, &wire); err != nil {
		return NodeResult{}, fault.New(fault.Invalid, op, fmt.Errorf("decode the stored request: %w", err))
	}
	if err := errors.Join(checkName("the cluster name", string(cluster)), wire.check()); err != nil {
		return NodeResult{}, fault.New(fault.Invalid, op, err)
	}
	if _, ok := actionWords[action]; !ok {
		return NodeResult{}, fault.Newf(fault.Bug, "%s: there is no such action", op)
	}
	op = fmt.Sprintf("%s %s of cluster %s", action, wire.nodes(), cluster)
	a, err := c.send(ctx, call{
		op: op, span: action.String(), method: http.MethodPost, path: clusterPath(cluster, "/nodes/"+action.String()),
		body: body, repeatable: wire.RequestID != "",
	})
	if err != nil {
		return NodeResult{}, err
	}
	if a.status == http.StatusConflict {
		if err := c.explainConflict(ctx, a, wire.RequestID); err != nil {
			return NodeResult{}, err
		}
		return NodeResult{AlreadyAccepted: true}, nil
	}
	return a.nodeResult(wire.IDs)
}

// nodes names the nodes of the request for errors.
func (w wireNodeRequest) nodes() string {
	if len(w.IDs) == 1 {
		return "node " + string(w.IDs[0])
	}
	return fmt.Sprintf("%d nodes (first %s)", len(w.IDs), w.IDs[0])
}

func (a answer) nodeResult(asked []NodeID) (NodeResult, error) {
	if !a.ok() {
		return NodeResult{}, a.refusal()
	}
	var wire wireNodeResult
	if err := a.decode(&wire); err != nil {
		return NodeResult{}, err
	}
	if wire.Nodes == nil {
		return NodeResult{}, a.malformed(errors.New("it has no list of nodes"))
	}
	said := make(map[string]wireNodeOutcome, len(*wire.Nodes))
	for _, node := range *wire.Nodes {
		said[strings.ToLower(string(node.ID))] = node
	}
	result := NodeResult{OperationID: OperationID(excerpt(string(wire.OperationID), maxName))}
	matched := make(map[string]bool, len(said))
	for _, id := range asked {
		key := strings.ToLower(string(id))
		outcome := NodeOutcome{ID: id, Outcome: OutcomeNotFound}
		if node, listed := said[key]; listed {
			matched[key] = true
			outcome = node.outcome(id)
		}
		result.Nodes = append(result.Nodes, outcome)
	}
	if len(matched) < len(said) {
		result.doubtNotFound()
	}
	return result, nil
}

// doubtNotFound takes back every NotFound: the server answered for a node that
// is none of those asked for, so an id may have come back in another form, and
// "gone" is too strong a word.
func (r NodeResult) doubtNotFound() {
	for i := range r.Nodes {
		if r.Nodes[i].Outcome == OutcomeNotFound {
			r.Nodes[i].Outcome = OutcomeUnknown
			r.Nodes[i].Text = "the server answered for another node instead"
		}
	}
}

func (w wireNodeOutcome) outcome(id NodeID) NodeOutcome {
	o := NodeOutcome{ID: id, Name: NodeName(excerpt(string(w.Name), maxName))}
	switch {
	case strings.EqualFold(string(w.Status), "OK") && w.Error == "":
		o.Outcome = OutcomeAccepted
		return o
	case strings.EqualFold(string(w.Status), "Error"):
		o.Outcome = OutcomeRefused
	}
	o.Text = excerpt(strings.TrimSpace(string(w.Status)+" "+string(w.Error)), refusalExcerpt)
	return o
}
