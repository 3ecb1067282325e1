package cyclecloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"github.com/slurmburst/slurmburst/internal/fault"
)

const (
	// refusalExcerpt bounds the body kept of a refusal: it is opaque text, and
	// the only explanation there is (the documentation says "No Content").
	refusalExcerpt = 2 << 10
	// shortExcerpt bounds the body kept of an answer that is not JSON.
	shortExcerpt = 256
)

// call is one request. op says what it does, for errors: "list nodes of
// cluster hpc10"; span says it for traces, without names.
type call struct {
	op     string
	span   string
	method string
	path   string // escaped, below the server's root
	query  url.Values
	body   []byte
	// repeatable requests may be sent again when the outcome is unknown: reads,
	// and writes that carry a request id.
	repeatable bool
}

// answer is a response whose body was read to its end.
type answer struct {
	op          string
	status      int
	statusText  string
	contentType string
	location    string
	body        []byte
}

// clusterPath gives the escaped path of a part of a cluster.
func clusterPath(cluster ClusterName, part string) string {
	return "/clusters/" + url.PathEscape(string(cluster)) + part
}

// send carries out one call through the pipeline. Its errors mean that no
// answer was had; what an answer means is up to the caller.
func (c *Client) send(ctx context.Context, call call) (answer, error) {
	ctx, end := runtime.StartSpan(ctx, "CycleCloud."+call.span, c.tracer, nil)
	a, err := c.roundTrip(ctx, call)
	end(err)
	if err != nil {
		return answer{}, fault.New(kindOfTransport(err), call.op, err)
	}
	return a, nil
}

func (c *Client) roundTrip(ctx context.Context, call call) (answer, error) {
	if !call.repeatable {
		ctx = policy.WithRetryOptions(ctx, c.once)
	}
	target := c.base + call.path
	if len(call.query) > 0 {
		target += "?" + call.query.Encode()
	}
	req, err := runtime.NewRequest(ctx, call.method, target)
	if err != nil {
		return answer{}, err
	}
	req.Raw().Header.Set("Accept", "application/json")
	if call.body != nil {
		// The documentation's examples say text/plain, Microsoft's Symphony
		// integration says application/json; both are accepted.
		err = req.SetBody(streaming.NopCloser(bytes.NewReader(call.body)), "application/json")
		if err != nil {
			return answer{}, err
		}
	}
	resp, err := c.pipeline.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }() // read already, and bounded: see boundedTransport
	body, err := runtime.Payload(resp)
	if err != nil {
		return answer{}, err
	}
	return answer{
		op: call.op, status: resp.StatusCode, statusText: resp.Status,
		contentType: contentType(resp.Header), location: resp.Header.Get("Location"), body: body,
	}, nil
}

func kindOfTransport(err error) fault.Kind {
	if isUntrusted(err) {
		return fault.Denied
	}
	return fault.Transient
}

// ok says that the server carried out the request or accepted it: reads answer
// 200, everything else is documented to answer 202.
func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// refusal explains an answer that is not ok.
func (a answer) refusal() error {
	var cause error
	switch body := excerpt(string(a.body), refusalExcerpt); {
	case a.location != "" && a.status < 400:
		cause = fmt.Errorf("answered %s to %q: is the server's URL complete, with its context path?", a.statusText, excerpt(a.location, shortExcerpt))
	case body == "":
		cause = fmt.Errorf("answered %s without a text", a.statusText)
	default:
		cause = fmt.Errorf("answered %s: %s", a.statusText, body)
	}
	return fault.New(kindOfStatus(a.status), a.op, cause)
}

// kindOfStatus classifies what is not a success. 401 and 403 are not in
// CycleCloud's documentation; a redirect (a login page, or a wrong context
// path) says nothing about the request itself, so it is tried again later.
func kindOfStatus(status int) fault.Kind {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return fault.Denied
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status < 400, status >= 500:
		return fault.Transient
	}
	return fault.Invalid
}

// decode reads the body as JSON into the wire struct. Content types are not
// looked at, because the server's own are not reliable; what is not JSON is
// not CycleCloud speaking (a proxy, a login page, a server starting up), so it
// is transient.
func (a answer) decode(wire any) error {
	if len(bytes.TrimSpace(a.body)) == 0 {
		return a.malformed(errors.New("the body is empty"))
	}
	if err := json.Unmarshal(a.body, wire); err != nil {
		return a.malformed(err)
	}
	return nil
}

// malformed is an answer that can't be believed.
func (a answer) malformed(err error) error {
	return fault.New(fault.Transient, a.op, fmt.Errorf("answered %s, %s, which is not the JSON expected: %w; it begins with %q",
		a.statusText, a.contentType, err, excerpt(string(a.body), shortExcerpt)))
}

func contentType(header http.Header) string {
	if ct := excerpt(header.Get("Content-Type"), 100); ct != "" {
		return "content type " + ct
	}
	return "no content type"
}

// saysUnknownRequest recognises the server's words for a request id that it
// does not know. The documentation promises a 404 without a body; the text was
// seen by cyclecloud-symphony, which does not look at the status.
func (a answer) saysUnknownRequest() bool {
	if a.ok() || kindOfStatus(a.status) == fault.Denied {
		return false
	}
	return a.status == http.StatusNotFound ||
		strings.Contains(strings.ToLower(string(a.body)), "no operation found for request id")
}
