package handlers_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/handlers"
	"github.com/slurmburst/slurmburst/internal/event"
)

func TestASnapshotIsDecidedOn(t *testing.T) {
	w := newWorld(t, nil)
	if code := w.post("queue_pressure", snapshot(t, 1).invocation()); code != 200 {
		t.Errorf("status %d; log %s", code, w.log)
	}
	if len(w.outbox.commands) != 1 || w.outbox.commands[0].Kind != event.FenceNodes || w.outbox.commands[0].Nodes != "htc-2" {
		t.Errorf("commands %+v, want one fence of htc-2", w.outbox.commands)
	}
	if !strings.Contains(w.log.String(), `"outcome":"decided"`) {
		t.Errorf("the log does not say what came of it: %s", w.log)
	}
}

func TestASweepLooksAtCycleCloud(t *testing.T) {
	w := newWorld(t, nil)
	w.post("queue_pressure", snapshot(t, 1).invocation())
	if code := w.post("scale_down", timer(t, "").invocation()); code != 200 {
		t.Errorf("status %d; log %s", code, w.log)
	}
	p, err := w.ledger.Load(t.Context(), "onprem")
	if err != nil || p.Cluster.SweptAt.IsZero() {
		t.Errorf("the cluster was not swept: %+v, %v", p.Cluster, err)
	}
}

// The body's author can write properties that look like the broker's own; with
// dataType binary they stay where they are.
func TestMetadataCannotBeForgedByTheBody(t *testing.T) {
	w := newWorld(t, nil)
	d := snapshot(t, 1)
	d.body = append([]byte(`{"DeliveryCount":"99","deliveryCount":99,"MessageId":"forged",`), d.body[1:]...)
	d.properties["DeliveryCount"] = 99
	if code := w.post("queue_pressure", d.invocation()); code != 200 || len(w.outbox.rejected) > 0 {
		t.Errorf("status %d, rejected %v", code, w.outbox.rejected)
	}
	if !strings.Contains(w.log.String(), `"message_id":"m-1"`) || !strings.Contains(w.log.String(), `"delivery_count":1`) {
		t.Errorf("log %s", w.log)
	}
}

// The host's own mistakes, or a function.json that does not fit: the call fails,
// says why, and the message stays with the broker.
func TestAnInvocationThatCannotBeReadFails(t *testing.T) {
	without := func(key string) string {
		d := snapshot(t, 1)
		d.change = func(m map[string]any) { m[key] = nil }
		return d.invocation()
	}
	with := func(key string, value any) string {
		d := snapshot(t, 1)
		d.change = func(m map[string]any) { m[key] = value }
		return d.invocation()
	}
	for name, body := range map[string]string{
		"nothing": "", "no JSON": "{", "null": "null", "a list": "[]", "no data": `{"Data":{},"Metadata":{}}`,
		"data that is no text":  `{"Data":{"message":{}},"Metadata":{}}`,
		"text instead of bytes": `{"Data":{"message":"\"{}\""},"Metadata":{}}`,
		"no delivery count":     without("DeliveryCount"), "no time": without("EnqueuedTimeUtc"),
		"an odd delivery count": with("DeliveryCount", "many"), "an odd time": with("EnqueuedTimeUtc", "yesterday"),
		"odd properties": with("ApplicationProperties", "none"), "20 MB": strings.Repeat(" ", 20<<20),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			if code := w.post("queue_pressure", body); code != 500 {
				t.Errorf("status %d", code)
			}
			if !strings.Contains(w.log.String(), "read invocation") {
				t.Errorf("the log does not say why: %s", w.log)
			}
			if len(w.outbox.rejected)+len(w.outbox.commands) > 0 {
				t.Error("something was sent")
			}
		})
	}
}

// The documents show scalars encoded once, the host's source encodes them twice;
// both are read.
func TestScalarsMayBeEncodedOnceOrTwice(t *testing.T) {
	w := newWorld(t, nil)
	d := snapshot(t, 1)
	d.change = func(m map[string]any) { m["DeliveryCount"], m["MessageId"] = 1, "m-1" }
	if code := w.post("queue_pressure", d.invocation()); code != 200 || !strings.Contains(w.log.String(), `"message_id":"m-1"`) {
		t.Errorf("status %d, log %s", code, w.log)
	}
}

func TestTheHostsPingIsAnswered(t *testing.T) {
	w := newWorld(t, nil)
	if got := w.get("/"); got.Code != 200 || got.Body.Len() != 0 {
		t.Errorf("status %d, body %q", got.Code, got.Body)
	}
}

func FuzzInvocation(f *testing.F) {
	f.Add([]byte(`{"Data":{"message":"e30="},"Metadata":{"DeliveryCount":"1","EnqueuedTimeUtc":"\"2026-11-23T11:47:13\""}}`))
	f.Add([]byte(`{"Data":{"message":null},"Metadata":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		w := newWorld(t, func(o *handlers.Options) { o.Deadline = time.Nanosecond })
		if code := w.post("queue_pressure", string(body)); code != 200 && code != 500 {
			t.Errorf("status %d", code)
		}
		if !json.Valid(bytes.TrimSpace(bytes.Split(w.log.Bytes(), []byte("\n"))[0])) {
			t.Errorf("log %s", w.log)
		}
	})
}
