package handlers_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slurmburst/slurmburst/handlers"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
)

func zipped(t *testing.T, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for range size / 1024 {
		if _, err := z.Write(bytes.Repeat([]byte{' '}, 1024)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What can never succeed is kept for a person and completed, so that it does not
// come back; whatever it is, the app does not fall over it.
func TestWhatCannotSucceedIsRejected(t *testing.T) {
	good := snapshot(t, 1)
	changed := func(from, to string) delivery {
		d := snapshot(t, 1)
		d.body = bytes.ReplaceAll(d.body, []byte(from), []byte(to))
		return d
	}
	gzipped := map[string]any{event.EncodingProperty: "gzip"}
	other := good
	other.body = bytes.ReplaceAll(other.body, []byte("onprem"), []byte("nobody"))
	for name, d := range map[string]delivery{
		"an empty body":                 {body: nil},
		"no JSON":                       {body: []byte("<html>")},
		"half a message":                {body: good.body[:len(good.body)/2]},
		"JSON that is no event":         {body: []byte(`[1,2]`)},
		"null":                          {body: []byte(`null`)},
		"a newer version":               changed("queue_pressure.v1", "queue_pressure.v9"),
		"another event":                 timer(t, ""),
		"a source that does not fit":    changed("/slurm/onprem", "/slurm/other"),
		"an epoch of zero":              changed(`"epoch":1`, `"epoch":0`),
		"a negative age":                changed(`"ageAtSendMs":0`, `"ageAtSendMs":-5`),
		"a hostlist that is none":       changed(`"poweredDown":2`, `"undefined":"htc-[1-","poweredDown":2`),
		"a cluster without a policy":    other,
		"1 MB of noise":                 {body: bytes.Repeat([]byte("x"), 1<<20)},
		"5 MB of noise":                 {body: bytes.Repeat([]byte("x"), 5<<20)},
		"a gzip bomb":                   {body: zipped(t, 64<<20), properties: gzipped},
		"gzip that is none":             {body: []byte("plain"), properties: gzipped},
		"an encoding that nobody knows": {body: good.body, properties: map[string]any{event.EncodingProperty: "br"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			if code := w.post("queue_pressure", d.invocation()); code != 200 {
				t.Errorf("status %d, which brings it back; log %s", code, w.log)
			}
			if len(w.outbox.rejected) != 1 {
				t.Fatalf("%d messages rejected, want 1; log %.500s", len(w.outbox.rejected), w.log)
			}
			r := w.outbox.rejected[0]
			if r.Queue != "queue-pressure" || r.MessageID != "m-1" || r.Reason == "" || r.BodySize != len(d.body) || len(r.Body) > event.MaxRejectedBody {
				t.Errorf("the record is %.300v", r)
			}
			if _, err := r.Encode(time.Now()); err != nil {
				t.Errorf("the record cannot be sent: %v", err)
			}
			if len(w.outbox.commands) > 0 {
				t.Error("it was acted on")
			}
			if len(w.log.String()) > 8<<10 {
				t.Errorf("the log has %d bytes of it", w.log.Len())
			}
		})
	}
}

// Agents are upgraded after the cloud. Should one be upgraded first, what it
// sends is kept whole, and the reason says which versions meet.
func TestAMessageOfTheVersionToComeIsKept(t *testing.T) {
	for function, d := range map[string]delivery{"queue_pressure": snapshot(t, 1), "scale_down": timer(t, "htc")} {
		w := newWorld(t, nil)
		d.body = bytes.Replace(d.body, []byte(".v1"), []byte(".v2"), 1)
		if code := w.post(function, d.invocation()); code != 200 {
			t.Errorf("%s: status %d", function, code)
		}
		if len(w.outbox.rejected) != 1 {
			t.Fatalf("%s: %d rejected; log %s", function, len(w.outbox.rejected), w.log)
		}
		r := w.outbox.rejected[0]
		if !strings.Contains(r.Reason, ".v2 is of version 2") || !strings.Contains(r.Reason, "only version 1 can be read") || !bytes.Equal(r.Body, d.body) {
			t.Errorf("%s: reason %q, body %.80q", function, r.Reason, r.Body)
		}
	}
}

func TestTheLastDeliveryIsNotEvenRead(t *testing.T) {
	for function, last := range map[string]int{"queue_pressure": 4, "scale_down": 9} {
		s := &stub{panic: "it kills every process that reads it"}
		w := newWorld(t, func(o *handlers.Options) { o.Reconciler = s })
		d := snapshot(t, 1)
		if function == "scale_down" {
			d = timer(t, "")
		}
		d.count = last
		if code := w.post(function, d.invocation()); code != 200 || s.asked != 0 || len(w.outbox.rejected) != 1 {
			t.Errorf("%s: status %d, asked %d times, %d rejected", function, code, s.asked, len(w.outbox.rejected))
		}
	}
}

// If even the rejecting fails, the message goes back to the broker: nothing is
// lost.
func TestAMessageThatCannotBeRejectedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.outbox.err = fault.New(fault.Transient, "send", errors.New("the bus is down"))
		for _, function := range []string{"queue_pressure", "scale_down"} {
			if code := w.post(function, delivery{body: []byte("noise")}.invocation()); code != 500 {
				t.Errorf("%s: status %d", function, code)
			}
			if code := w.post(function, delivery{body: []byte("noise"), count: 9}.invocation()); code != 500 {
				t.Errorf("%s at the limit: status %d", function, code)
			}
		}
	})
}
