package cyclecloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Operation is an accepted request. The server keeps no progress, state or end
// of it: follow the nodes.
type Operation struct {
	Action    string    // "create" is the only documented word
	StartTime time.Time // zero where the server's text is not a time
}

// Operations tells whether a request id was accepted: one operation if it was,
// none if the server does not know it.
func (c *Client) Operations(ctx context.Context, id RequestID) ([]Operation, error) {
	op := "look up operations of request " + excerpt(string(id), maxName)
	if err := checkName("the request id", string(id)); err != nil {
		return nil, fault.New(fault.Invalid, op, err)
	}
	a, err := c.send(ctx, call{
		op: op, span: "Operations", method: http.MethodGet, path: "/operations/",
		query: url.Values{"request_id": {string(id)}}, repeatable: true,
	})
	if err != nil {
		return nil, err
	}
	if a.saysUnknownRequest() {
		return nil, nil
	}
	return a.operations()
}

func (a answer) operations() ([]Operation, error) {
	if !a.ok() {
		return nil, a.refusal()
	}
	var wire *[]wireOperation
	if bytes.HasPrefix(bytes.TrimSpace(a.body), []byte("{")) {
		// Without request_id the same path gives one object; a server that
		// does so here too has still named one operation.
		var one wireOperation
		if err := a.decode(&one); err != nil {
			return nil, err
		}
		wire = &[]wireOperation{one}
	} else if err := a.decode(&wire); err != nil {
		return nil, err
	}
	if wire == nil {
		return nil, a.malformed(errors.New("it has no list of operations"))
	}
	operations := make([]Operation, 0, len(*wire))
	for _, w := range *wire {
		if w.Action == "" && w.StartTime == "" {
			return nil, a.malformed(errors.New("an operation has neither action nor startTime"))
		}
		start, err := time.Parse(time.RFC3339, string(w.StartTime))
		if err != nil {
			start = time.Time{}
		}
		operations = append(operations, Operation{Action: excerpt(string(w.Action), maxName), StartTime: start})
	}
	return operations, nil
}

// explainConflict finds out which of its two meanings a 409 has: nil where the
// request id was accepted earlier, fault.Invalid where the request is bad. The
// two can't be told apart by the answer itself.
func (c *Client) explainConflict(ctx context.Context, a answer, id RequestID) error {
	if id == "" {
		return a.refusal()
	}
	operations, err := c.Operations(ctx, id)
	switch {
	case err != nil:
		kind := fault.Transient
		if fault.Is(err, fault.Denied) {
			kind = fault.Denied
		}
		return fault.New(kind, a.op, fmt.Errorf("answered %s and its meaning is unknown: %w", a.statusText, err))
	case len(operations) == 0:
		return a.refusal()
	}
	return nil
}
