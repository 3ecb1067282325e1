package cyclecloud

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// answered is an answer of the server with this body.
func answered(body []byte) answer {
	return answer{op: "fuzz", status: http.StatusOK, statusText: "200 OK", contentType: "no content type", body: body}
}

// checkDecoded holds every decoder to the same contract: an error is
// transient, bounded and printable, and equal bytes give equal results.
func checkDecoded[T any](t *testing.T, body []byte, decode func(answer) (T, error)) (T, bool) {
	t.Helper()
	got, err := decode(answered(body))
	again, _ := decode(answered(body))
	if diff := cmp.Diff(got, again); diff != "" {
		t.Errorf("two results of the same bytes: %s", diff)
	}
	if err == nil {
		return got, true
	}
	if !fault.Is(err, fault.Transient) {
		t.Errorf("not transient: %v", err)
	}
	if text := err.Error(); len(text) > 2000 || !utf8.ValidString(text) {
		t.Errorf("an error of %d bytes: %.200q", len(text), text)
	}
	return got, false
}

// checkText holds every text of foreign origin to its bound.
func checkText(t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if len(s) > refusalExcerpt+len("…") || !isPrintable(s) {
			t.Errorf("text of %d bytes: %.200q", len(s), s)
		}
	}
}

func checkNodes(t *testing.T, nodes []Node) {
	t.Helper()
	for _, n := range nodes {
		if n.ID == "" && n.Name == "" {
			t.Error("a node without identity")
		}
		checkText(t, string(n.ID), string(n.Name), string(n.NodeArray), string(n.MachineType), n.StatusText, n.State,
			n.StatusMessage, n.PlacementGroupID, n.Hostname, n.PrivateIP, n.InstanceID, string(n.RequestID), n.Region)
		if n.Status != StatusUnknown && !strings.EqualFold(strings.TrimSpace(n.StatusText), n.Status.String()) && n.Status != StatusAcquiring {
			t.Errorf("%s is not %q", n.Status, n.StatusText)
		}
	}
}

func seeds(f *testing.F, bodies ...string) {
	f.Helper()
	for _, body := range append(bodies, "", "null", "{}", "[]", "<html>", `{"nodes":null}`) {
		f.Add([]byte(body))
	}
}

func FuzzStatus(f *testing.F) {
	seeds(f, testdata(f, "status.json"), `{"nodearrays":[{"buckets":[{"lastCapacityFailure":"1e400","availableCount":-9e99}]}],"nodes":[{"Name":1}]}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		status, ok := checkDecoded(t, body, func(a answer) (ClusterStatus, error) { return a.clusterStatus(true) })
		if !ok {
			return
		}
		checkNodes(t, status.Nodes)
		for _, array := range status.NodeArrays {
			for _, bucket := range array.Buckets {
				checkText(t, string(array.Name), string(bucket.MachineType), bucket.InvalidReason)
				if ago, happened := bucket.LastCapacityFailure(); ago < 0 || !happened && ago != 0 {
					t.Errorf("a capacity failure %s ago", ago)
				}
				if got, _ := status.Available(array.Name, bucket.MachineType); got.Count < 0 {
					t.Errorf("available: %d", got.Count)
				}
			}
		}
	})
}

func FuzzNodes(f *testing.F) {
	seeds(f, testdata(f, "nodes.json"), `{"nodes":[{"Name":"a\ud800","Status":" READY "}]}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		nodes, _ := checkDecoded(t, body, answer.nodes)
		checkNodes(t, nodes)
	})
}

func FuzzCreateResult(f *testing.F) {
	seeds(f, oneAdded, `{"operationId":7,"sets":[{"added":"1","message":["x"]}]}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		asked := wireCreate{Sets: []wireCreateSet{{NodeArray: "htc", Count: 3}}}
		got, ok := checkDecoded(t, body, func(a answer) (CreateResult, error) { return a.createResult(asked) })
		if !ok {
			return
		}
		if len(got.Sets) != 1 || got.Sets[0].Added < 0 || got.Missing() < 0 || got.Missing() > 3 {
			t.Errorf("got %+v", got)
		}
		checkText(t, string(got.OperationID), got.Sets[0].Message)
	})
}

func FuzzNodeResult(f *testing.F) {
	seeds(f, `{"operationId":"op","nodes":[{"name":"n1","id":"a","status":"OK"},{"id":"b","status":"Error","error":"x"}]}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		got, ok := checkDecoded(t, body, func(a answer) (NodeResult, error) { return a.nodeResult([]NodeID{"a", "b"}) })
		if !ok {
			return
		}
		if len(got.Nodes) != 2 || got.Nodes[0].ID != "a" || got.Nodes[1].ID != "b" {
			t.Errorf("got %+v", got)
		}
		for _, node := range got.Nodes {
			checkText(t, string(node.Name), node.Text)
		}
	})
}

func FuzzOperations(f *testing.F) {
	seeds(f, operation, `{"action":"create"}`, `[{"startTime":1}]`)
	f.Fuzz(func(t *testing.T, body []byte) {
		operations, _ := checkDecoded(t, body, answer.operations)
		for _, op := range operations {
			checkText(t, op.Action)
		}
	})
}

func FuzzExcerptIsOnePrintableLineWithinItsLimit(f *testing.F) {
	f.Add("a\nb", 2)
	f.Add("ééé", 3)
	f.Add("\xff\xfe", 1)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 0 || limit > 1<<16 {
			return
		}
		if got := excerpt(s, limit); len(got) > limit+len("…") || !isPrintable(got) {
			t.Errorf("got %q", got)
		}
	})
}
