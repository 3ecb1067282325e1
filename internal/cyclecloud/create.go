package cyclecloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// CreateRequest asks for nodes. With a RequestID it may be sent as often as
// wanted and is carried out once; without one it is sent once only.
type CreateRequest struct {
	RequestID RequestID
	Sets      []CreateSet // 1 to MaxSets
}

// MaxSets is how many sets one request may have. The server's own limit is
// not documented; azslurm sends one set per node, so a hundred are in use.
const MaxSets = 100

// CreateSet asks for nodes of one nodearray.
type CreateSet struct {
	NodeArray NodeArrayName
	Count     int // 1 or more
	// MachineType picks the bucket; empty leaves it to the server, which takes
	// the first that can satisfy the set.
	MachineType MachineType
	// NameFormat is a whole name, with Count 1, or a format with one %d;
	// empty means nodearray-%d.
	NameFormat string
	NameOffset int // added to the index in %d
	// PlacementGroupID, where set, puts the nodes on one switch (InfiniBand).
	PlacementGroupID string
}

// CreateResult is what a create did. The nodes themselves are found by
// NodesByRequest.
type CreateResult struct {
	OperationID OperationID
	// AlreadyAccepted says that an earlier request with this id had been
	// accepted. Then OperationID and Sets are empty, because the server does
	// not tell them twice.
	AlreadyAccepted bool
	Sets            []SetResult // in the order of the request
}

// SetResult is what became of one set. Fewer nodes than asked for, none
// included, is a success to the server; Message is the only reason it gives.
type SetResult struct {
	NodeArray    NodeArrayName
	Asked, Added int
	Message      string // at most 2 KB
}

// Missing is how many nodes were not added.
func (r SetResult) Missing() int { return max(0, r.Asked-r.Added) }

// Missing is how many nodes of all sets were not added.
func (r CreateResult) Missing() int {
	missing := 0
	for _, set := range r.Sets {
		missing += set.Missing()
	}
	return missing
}

// Encode gives the exact bytes of the request's body. Equal requests give
// equal bytes; whoever stores them repeats the request by CreateEncoded even
// after the encoding has changed. Errors are fault.Invalid.
func (r CreateRequest) Encode() ([]byte, error) {
	wire := wireCreate{RequestID: r.RequestID}
	for _, s := range r.Sets {
		set := wireCreateSet{
			NodeArray: s.NodeArray, Count: s.Count, NameFormat: s.NameFormat,
			NameOffset: s.NameOffset, PlacementGroupID: s.PlacementGroupID,
		}
		if s.MachineType != "" {
			set.Definition = &wireSetDefinition{MachineType: s.MachineType}
		}
		wire.Sets = append(wire.Sets, set)
	}
	if err := wire.check(); err != nil {
		return nil, fault.New(fault.Invalid, "encode create request", err)
	}
	body, err := json.Marshal(wire)
	if err != nil {
		return nil, fault.New(fault.Bug, "encode create request", err)
	}
	return body, nil
}

func (w wireCreate) check() error {
	var errs []error
	if w.RequestID != "" {
		errs = append(errs, checkName("the request id", string(w.RequestID)))
	}
	if len(w.Sets) == 0 {
		errs = append(errs, errors.New("there is no set"))
	}
	if len(w.Sets) > MaxSets {
		errs = append(errs, fmt.Errorf("there are %d sets, the limit is %d", len(w.Sets), MaxSets))
	}
	for i, set := range w.Sets {
		if err := set.check(); err != nil {
			errs = append(errs, fmt.Errorf("set %d: %w", i+1, err))
		}
	}
	return errors.Join(errs...)
}

func (w wireCreateSet) check() error {
	errs := []error{checkName("the nodearray", string(w.NodeArray))}
	if w.Count < 1 {
		errs = append(errs, fmt.Errorf("the count is %d", w.Count))
	}
	if w.Definition != nil {
		errs = append(errs, checkName("the machine type", string(w.Definition.MachineType)))
	}
	if w.PlacementGroupID != "" {
		errs = append(errs, checkName("the placement group", w.PlacementGroupID))
	}
	if w.NameFormat != "" {
		errs = append(errs, checkName("the name format", w.NameFormat), checkFormat(w.NameFormat, w.Count))
	}
	if w.NameOffset < 0 {
		errs = append(errs, fmt.Errorf("the name offset is %d", w.NameOffset))
	}
	return errors.Join(errs...)
}

func checkFormat(format string, count int) error {
	switch {
	case strings.Count(format, "%") > 1, strings.Contains(format, "%") && !strings.Contains(format, "%d"):
		return fmt.Errorf("the name format %q may hold one %%d and no other percent sign", format)
	case count > 1 && !strings.Contains(format, "%d"):
		return fmt.Errorf("the name %q can't be given to %d nodes", format, count)
	}
	return nil
}

// Create asks for nodes. A nil error means that the server accepted the
// request now or earlier; the result tells how many it added. A request that
// it refuses is fault.Invalid. After a fault.Transient the outcome is unknown:
// repeat it with the same RequestID, which is harmless.
func (c *Client) Create(ctx context.Context, cluster ClusterName, req CreateRequest) (CreateResult, error) {
	body, err := req.Encode()
	if err != nil {
		return CreateResult{}, fmt.Errorf("create nodes in cluster %s: %w", excerpt(string(cluster), maxName), err)
	}
	return c.CreateEncoded(ctx, cluster, body)
}

// CreateEncoded is Create with the bytes that Encode gave, sent as they are.
func (c *Client) CreateEncoded(ctx context.Context, cluster ClusterName, body []byte) (CreateResult, error) {
	op := "create nodes in cluster " + excerpt(string(cluster), maxName)
	var wire wireCreate
	if err := json.Unmarshal(body, &wire); err != nil {
		return CreateResult{}, fault.New(fault.Invalid, op, fmt.Errorf("decode the stored request: %w", err))
	}
	if err := errors.Join(checkName("the cluster name", string(cluster)), wire.check()); err != nil {
		return CreateResult{}, fault.New(fault.Invalid, op, err)
	}
	op = fmt.Sprintf("create nodes in %s of cluster %s", wire.arrays(), cluster)
	a, err := c.send(ctx, call{
		op: op, span: "Create", method: http.MethodPost, path: clusterPath(cluster, "/nodes/create"),
		body: body, repeatable: wire.RequestID != "",
	})
	if err != nil {
		return CreateResult{}, err
	}
	if a.status == http.StatusConflict {
		if err := c.explainConflict(ctx, a, wire.RequestID); err != nil {
			return CreateResult{}, err
		}
		return CreateResult{AlreadyAccepted: true}, nil
	}
	return a.createResult(wire)
}

// arrays names the nodearrays of the request once each.
func (w wireCreate) arrays() string {
	var names []string
	for _, set := range w.Sets {
		if name := string(set.NodeArray); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return excerpt(strings.Join(names, ", "), maxName)
}

func (a answer) createResult(asked wireCreate) (CreateResult, error) {
	if !a.ok() {
		return CreateResult{}, a.refusal()
	}
	var wire wireCreateResult
	if err := a.decode(&wire); err != nil {
		return CreateResult{}, err
	}
	if wire.Sets == nil || len(*wire.Sets) != len(asked.Sets) {
		return CreateResult{}, a.malformed(fmt.Errorf("it does not answer for each of %d sets", len(asked.Sets)))
	}
	result := CreateResult{OperationID: OperationID(excerpt(string(wire.OperationID), maxName))}
	for i, set := range *wire.Sets {
		added := set.Added.count()
		if added == nil || *added < 0 {
			return CreateResult{}, a.malformed(fmt.Errorf("set %d has no number of nodes added", i+1))
		}
		result.Sets = append(result.Sets, SetResult{
			NodeArray: asked.Sets[i].NodeArray, Asked: asked.Sets[i].Count, Added: *added,
			Message: excerpt(string(set.Message), refusalExcerpt),
		})
	}
	return result, nil
}
