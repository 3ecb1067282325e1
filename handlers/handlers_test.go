package handlers_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/handlers"
	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/logging"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// world is the app with a real decoder, a real core and a ledger in memory.
// CycleCloud and Service Bus are what the tests say they are.
type world struct {
	t      *testing.T
	ledger *ledger.Memory
	cloud  *cloud
	outbox *outbox
	log    *bytes.Buffer
	app    http.Handler
}

func newWorld(t *testing.T, change func(*handlers.Options)) *world {
	t.Helper()
	w := &world{t: t, ledger: ledger.NewMemory(), cloud: &cloud{}, outbox: &outbox{}, log: &bytes.Buffer{}}
	logger := logging.New(w.log, w.log, slog.LevelInfo)
	policy := burst.Policy{Version: "v1", Cluster: "onprem", MaxActAge: 90 * time.Second, Nodearrays: []burst.Nodearray{{
		Name: "htc", Partition: "htc", Nodes: []burst.NodeName{"htc-1", "htc-2"}, MaxNodes: 1,
		IdleTimeout: time.Minute, BootDeadline: time.Minute,
	}}}
	o := handlers.Options{
		Reconciler: reconcile.New(reconcile.Options{
			Ledger: w.ledger, Outbox: w.outbox, Owner: "test", Now: time.Now, Logger: logger,
			Clusters: map[string]reconcile.Cluster{"onprem": {Policy: policy, CycleCloud: w.cloud, CycleCloudCluster: "Burst"}},
		}),
		Rejected: w.outbox, Rechecks: w.outbox, State: w.ledger, History: w.ledger, Clusters: []string{"onprem"},
		PressureQueue: "queue-pressure", ScaleDownQueue: "scale-down", Deadline: time.Minute, Now: time.Now, Logger: logger,
	}
	if change != nil {
		change(&o)
	}
	w.app = handlers.New(o)
	return w
}

// post sends a body to a function as the host does, and checks what the host
// wants of every answer.
func (w *world) post(function, body string) int {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, "/"+function, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("X-Azure-Functions-InvocationId", "c5a2b3a1-0000-4000-8000-000000000001")
	got := httptest.NewRecorder()
	w.app.ServeHTTP(got, r)
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(got.Body.Bytes(), &answer); err != nil || answer == nil {
		w.t.Errorf("the answer is no JSON object, which the host waits for in vain: %q", got.Body)
	}
	if ct := got.Header().Get("Content-Type"); ct != "application/json" {
		w.t.Errorf("content type %q is a failed invocation to the host", ct)
	}
	return got.Code
}

// delivery is a Service Bus message as the host hands it over.
type delivery struct {
	body       []byte
	count      int
	properties map[string]any
	enqueued   time.Time
	change     func(metadata map[string]any)
}

func twice(v any) string { b, _ := json.Marshal(v); return string(b) }

// invocation encodes a delivery in the host's form: scalars are JSON inside of
// strings, bytes are base64, objects are left alone.
func (d delivery) invocation() string {
	if d.count == 0 {
		d.count = 1
	}
	if d.enqueued.IsZero() {
		d.enqueued = time.Now()
	}
	metadata := map[string]any{
		"DeliveryCount": twice(d.count), "MessageId": twice("m-1"), "SessionId": twice("onprem"), "SequenceNumber": "42",
		"EnqueuedTimeUtc":       d.enqueued.UTC().Format("2006-01-02T15:04:05"),
		"ApplicationProperties": d.properties, "UserProperties": d.properties, "MessageReceiver": map[string]any{},
		"sys": map[string]any{"MethodName": "queue_pressure"},
	}
	if d.change != nil {
		d.change(metadata)
	}
	maps.DeleteFunc(metadata, func(_ string, v any) bool { return v == nil })
	body, _ := json.Marshal(map[string]any{
		"Data": map[string]any{"message": base64.StdEncoding.EncodeToString(d.body)}, "Metadata": metadata,
	})
	return string(body)
}

func of(t *testing.T, m event.Message, err error) delivery {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	d := delivery{body: m.Body, properties: map[string]any{}}
	if m.Encoding != "" {
		d.properties[event.EncodingProperty] = m.Encoding
	}
	return d
}

func snapshot(t *testing.T, sequence int64) delivery {
	t.Helper()
	q := event.QueuePressure{
		Cluster: "onprem", Epoch: 1, Sequence: sequence, TakenAt: time.Now(), Cause: event.CausePoll,
		CloudNodes: []event.CloudNodes{{Nodearray: "htc", Defined: 2, Usable: 2, PoweredDown: 2}},
	}
	m, err := q.Encode()
	return of(t, m, err)
}

func timer(t *testing.T, nodearray string) delivery {
	t.Helper()
	purpose := event.Recheck
	if nodearray != "" {
		purpose = event.Retry
	}
	m, err := event.ScaleDownTimer{Cluster: "onprem", Nodearray: nodearray, Purpose: purpose, Generation: 7, Due: time.Now()}.Encode(time.Now())
	return of(t, m, err)
}

// cloud is a CycleCloud without nodes.
type cloud struct {
	reconcile.CycleCloud
	err error
}

func (c *cloud) Nodes(context.Context, cyclecloud.ClusterName) ([]cyclecloud.Node, error) {
	return nil, c.err
}

type outbox struct {
	mu       sync.Mutex
	commands []event.SlurmCommand
	timers   []event.ScaleDownTimer
	rejected []event.Rejected
	err      error
}

func (o *outbox) SendCommand(_ context.Context, c event.SlurmCommand) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.commands = append(o.commands, c)
	}
	return o.err
}

func (o *outbox) ScheduleTimer(_ context.Context, t event.ScaleDownTimer) (int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.timers = append(o.timers, t)
	}
	return 1, o.err
}

func (o *outbox) Reject(_ context.Context, r event.Rejected) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.rejected = append(o.rejected, r)
	}
	return o.err
}

// stub is a reconciler that answers as it is told.
type stub struct {
	err   error
	panic any
	asked int
}

func (s *stub) answer() (reconcile.Result, error) {
	s.asked++
	if s.panic != nil {
		panic(s.panic)
	}
	return reconcile.Result{}, s.err
}

func (s *stub) Pressure(_ context.Context, _ event.QueuePressure, _ time.Time) (reconcile.Result, error) {
	return s.answer()
}

func (s *stub) Timer(_ context.Context, _ event.ScaleDownTimer) (reconcile.Result, error) {
	return s.answer()
}

func kinds() map[string]error {
	return map[string]error{
		"transient": fault.New(fault.Transient, "load", errors.New("503")), "conflict": fault.New(fault.Conflict, "commit", nil),
		"denied": fault.New(fault.Denied, "load", errors.New("403")), "bug": fault.New(fault.Bug, "load", errors.New("nil map")),
		"unclassified": errors.New("odd"), "invalid": fault.New(fault.Invalid, "read", errors.New("no such cluster")),
	}
}
