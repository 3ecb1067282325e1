package handlers_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slurmburst/slurmburst/handlers"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
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

func TestTheScheduleAsksForSweeps(t *testing.T) {
	w := newWorld(t, func(o *handlers.Options) { o.Clusters = []string{"a", "b"} })
	body := `{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"IsPastDue":false}},"Metadata":{"sys":{"MethodName":"reclaim_idle"}}}`
	if code := w.post("reclaim_idle", body); code != 200 {
		t.Errorf("status %d", code)
	}
	if len(w.outbox.timers) != 2 || w.outbox.timers[0].Nodearray != "" || w.outbox.timers[1].Cluster != "b" {
		t.Errorf("timers %+v, want a sweep of a and one of b", w.outbox.timers)
	}
	w.outbox.err = fault.New(fault.Transient, "send", errors.New("down"))
	if code := w.post("reclaim_idle", body); code != 500 {
		t.Errorf("status %d although nothing was sent", code)
	}
}

// history deletes as many rows as it is told to, or refuses.
type history struct {
	each     int
	err      error
	clusters []string
}

func (h *history) Purge(_ context.Context, cluster string, _ time.Time) (int, error) {
	h.clusters = append(h.clusters, cluster)
	return h.each, h.err
}

// The sweeps of many clusters come one after the other, so that no event waits
// behind all of them, and all within a moment beside the five minutes to the next.
func TestSweepsOfManyClustersAreSpread(t *testing.T) {
	for count, last := range map[int]time.Duration{1: 0, 2: 1200 * time.Millisecond, 200: 199 * 1200 * time.Millisecond, 1000: 999 * 240 * time.Millisecond} {
		w := newWorld(t, func(o *handlers.Options) { o.Clusters, o.History = clusters(count), &history{} })
		if code := w.post("reclaim_idle", "{}"); code != 200 {
			t.Fatalf("%d clusters: status %d", count, code)
		}
		timers := w.outbox.timers
		if got := timers[count-1].Due.Sub(timers[0].Due); len(timers) != count || got != last {
			t.Errorf("%d clusters: %d sweeps, the last %v after the first, want %v", count, len(timers), got, last)
		}
	}
}

func clusters(count int) (names []string) {
	for i := range count {
		names = append(names, fmt.Sprintf("cluster%d", i))
	}
	return names
}

func TestMuchOldHistoryIsDeletedInSeveralRuns(t *testing.T) {
	for each, want := range map[int]int{0: 5, 4000: 2} { // of 60 clusters a twelfth, and not much at once
		old := &history{each: each}
		w := newWorld(t, func(o *handlers.Options) { o.Clusters, o.History = clusters(60), old })
		if code := w.post("reclaim_idle", "{}"); code != 200 {
			t.Errorf("status %d; log %s", code, w.log)
		}
		if len(w.outbox.timers) != 60 || len(old.clusters) != want {
			t.Errorf("%d rows each: %d sweeps asked for, want 60; deletions for %v, want %d", each, len(w.outbox.timers), old.clusters, want)
		}
	}
}

func TestEachClustersHistoryHasItsTurn(t *testing.T) {
	old := &history{}
	w := newWorld(t, func(o *handlers.Options) { o.Clusters, o.History = clusters(20), old })
	for range 600 { // chance would leave one out once in 10^25 times
		w.post("reclaim_idle", "{}")
	}
	slices.Sort(old.clusters)
	if got := slices.Compact(old.clusters); len(got) != 20 {
		t.Errorf("deletions for %v only", got)
	}
}

func TestTheScheduleDeletesWhatIsTooOld(t *testing.T) {
	w := newWorld(t, nil)
	now := time.Now()
	for days, id := range map[int]string{0: "new", 29: "kept", 32: "old"} {
		at := now.AddDate(0, 0, -days)
		if err := w.ledger.AppendDecision(t.Context(), "onprem", ledger.Decision{ID: id, At: at}); err != nil {
			t.Fatal(err)
		}
		if err := w.ledger.AppendFailures(t.Context(), "onprem", []ledger.Failure{{At: at, Detail: id}}); err != nil {
			t.Fatal(err)
		}
	}
	if code := w.post("reclaim_idle", "{}"); code != 200 {
		t.Errorf("status %d; log %s", code, w.log)
	}
	var left []string
	decisions, _, err := w.ledger.ListDecisions(t.Context(), ledger.DecisionFilter{Cluster: "onprem", Since: now.AddDate(0, 0, -40)}, ledger.Page{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range decisions {
		left = append(left, d.ID)
	}
	failures, _, err := w.ledger.ListFailures(t.Context(), ledger.FailureFilter{Cluster: "onprem"}, ledger.Page{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range failures {
		left = append(left, f.Detail)
	}
	if want := []string{"new", "kept", "new", "kept"}; !slices.Equal(left, want) {
		t.Errorf("decisions and failures left: %v, want %v", left, want)
	}
	if !strings.Contains(w.log.String(), `"purged":2`) {
		t.Errorf("the log does not tell how much was deleted: %s", w.log)
	}
}

func TestWhatCannotBeDeletedKeepsNoSweepBack(t *testing.T) {
	old := &history{err: fault.New(fault.Transient, "purge", errors.New("down"))}
	w := newWorld(t, func(o *handlers.Options) { o.Clusters, o.History = []string{"a", "b"}, old })
	if code := w.post("reclaim_idle", "{}"); code != 500 {
		t.Errorf("status %d although nothing could be deleted", code)
	}
	if len(w.outbox.timers) != 2 || len(old.clusters) != 1 {
		t.Errorf("sweeps asked for %+v, deletions for %v: want a and b, and one of them", w.outbox.timers, old.clusters)
	}
}

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

func TestWhatEachFailureComesTo(t *testing.T) {
	type outcome struct {
		code, rejected int
		waits          time.Duration
	}
	third := 8 * time.Second // 2 to the power of the delivery count
	for function, want := range map[string]map[string]outcome{
		"queue_pressure": {
			"transient": {200, 0, 0}, "conflict": {200, 0, 0}, "invalid": {200, 1, 0},
			"denied": {500, 0, third}, "bug": {500, 0, third}, "unclassified": {500, 0, third},
		},
		"scale_down": {
			"transient": {500, 0, third}, "conflict": {500, 0, third}, "invalid": {200, 1, 0},
			"denied": {500, 0, third}, "bug": {500, 0, third}, "unclassified": {500, 0, third},
		},
	} {
		for _, kind := range slices.Sorted(maps.Keys(want)) {
			t.Run(function+" "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, func(o *handlers.Options) { o.Reconciler = &stub{err: kinds()[kind]} })
					d := snapshot(t, 1)
					if function == "scale_down" {
						d = timer(t, "htc")
					}
					d.count = 3
					began := time.Now()
					got := outcome{w.post(function, d.invocation()), len(w.outbox.rejected), time.Since(began)}
					if got != want[kind] {
						t.Errorf("got %+v, want %+v", got, want[kind])
					}
				})
			})
		}
	}
}

func TestTheWaitGrowsAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *handlers.Options) { o.Reconciler = &stub{err: kinds()["transient"]} })
		for count, want := range []time.Duration{1: 2 * time.Second, 2: 4 * time.Second, 4: 16 * time.Second, 5: 20 * time.Second, 8: 20 * time.Second} {
			if want == 0 {
				continue
			}
			d := timer(t, "htc")
			d.count = count
			began := time.Now()
			w.post("scale_down", d.invocation())
			if got := time.Since(began); got != want {
				t.Errorf("delivery %d: waited %v, want %v", count, got, want)
			}
		}
	})
}

// An instance of the version before does not touch a cluster that a newer one
// has written to. It holds the event for a while and gives it back, for a newer
// process to take; and does not spin.
func TestAnInstanceThatIsTooOldGivesEventsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		p, err := w.ledger.Load(t.Context(), "onprem")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.ledger.Commit(t.Context(), ledger.Commit{Cluster: p.Cluster, Writer: 9, Requires: 9}); err != nil {
			t.Fatal(err)
		}
		before, err := w.ledger.Load(t.Context(), "onprem")
		if err != nil {
			t.Fatal(err)
		}
		for function, d := range map[string]delivery{"queue_pressure": snapshot(t, 1), "scale_down": timer(t, "htc")} {
			for d.count = 1; d.count < 4; d.count++ {
				began := time.Now()
				if code := w.post(function, d.invocation()); code != 500 {
					t.Errorf("%s: status %d, which loses the event", function, code)
				}
				if waited := time.Since(began); waited != 20*time.Second {
					t.Errorf("%s: delivery %d was given back after %v", function, d.count, waited)
				}
			}
		}
		if len(w.outbox.rejected)+len(w.outbox.commands)+len(w.outbox.timers) > 0 {
			t.Errorf("it sent something: %+v", w.outbox)
		}
		after, err := w.ledger.Load(t.Context(), "onprem")
		if err != nil || after.Cluster.Revision != before.Cluster.Revision || after.Heartbeat.Sequence != 0 {
			t.Errorf("it wrote something: %+v, %v", after, err)
		}
		for _, says := range []string{`"fault":"denied"`, "version 1", "may write is 9"} {
			if !strings.Contains(w.log.String(), says) {
				t.Errorf("the log does not say %q: %s", says, w.log)
			}
		}
	})
}

func TestAPanicIsAFailedCallAndNotTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{panic: "index out of range"}
		w := newWorld(t, func(o *handlers.Options) { o.Reconciler = s })
		if code := w.post("queue_pressure", snapshot(t, 1).invocation()); code != 500 {
			t.Errorf("status %d", code)
		}
		if !strings.Contains(w.log.String(), "index out of range") || !strings.Contains(w.log.String(), `"fault":"bug"`) {
			t.Errorf("log %s", w.log)
		}
		s.panic = nil
		if code := w.post("queue_pressure", snapshot(t, 2).invocation()); code != 200 {
			t.Errorf("status %d after the panic", code)
		}
	})
}

func TestTheDeadlineEndsACallThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *handlers.Options) { o.Reconciler = &stub{wait: true} })
		began := time.Now()
		if code := w.post("scale_down", timer(t, "htc").invocation()); code != 500 {
			t.Errorf("status %d", code)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("took %v, want the minute that the app gives itself", took)
		}
	})
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
