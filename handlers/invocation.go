package handlers

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/logging"
)

// maxInvocation bounds the body that the host may send, in bytes. A message of
// 11 MB fits, in base64 and with its metadata: what is too large for a snapshot
// has to be read to be moved to the rejected. What does not fit fails until the
// broker dead-letters it, whole.
const maxInvocation = 16 << 20

// invocation is a call of the host for a trigger other than HTTP.
type invocation struct {
	Data     map[string]json.RawMessage `json:"Data"`
	Metadata map[string]json.RawMessage `json:"Metadata"`
}

// message is the Service Bus message that triggered an invocation. The binding
// asks for dataType binary, so that no property of the body can overwrite the
// broker's own, and nothing is encoded twice.
type message struct {
	body          []byte
	id, sessionID string
	deliveryCount int
	enqueued      time.Time
	properties    map[string]any
}

func (m message) encoding() string {
	text, _ := m.properties[event.EncodingProperty].(string)
	return text
}

// message reads the trigger's data and the broker's metadata.
func (i invocation) message() (message, error) {
	var m message
	var encoded string
	raw, ok := i.Data["message"]
	if !ok {
		return m, fault.Newf(fault.Bug, "read invocation: no data named message, which functions/*/function.json binds")
	}
	if err := json.Unmarshal(raw, &encoded); err != nil {
		return m, fault.New(fault.Bug, "read invocation: data is not a string of base64", err)
	}
	body, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return m, fault.New(fault.Bug, "read invocation: data is not base64: is dataType binary?", err)
	}
	m.body = body
	m.id, m.sessionID = i.text("MessageId"), i.text("SessionId")
	if m.deliveryCount, err = strconv.Atoi(i.text("DeliveryCount")); err != nil {
		return m, fault.New(fault.Bug, "read invocation: DeliveryCount", err)
	}
	if m.enqueued, err = i.moment("EnqueuedTimeUtc"); err != nil {
		return m, fault.New(fault.Bug, "read invocation: EnqueuedTimeUtc", err)
	}
	if raw, ok := i.Metadata["ApplicationProperties"]; ok {
		if err := json.Unmarshal(raw, &m.properties); err != nil {
			return m, fault.New(fault.Bug, "read invocation: ApplicationProperties", err)
		}
	}
	return m, nil
}

// text reads a scalar of the metadata. The host encodes most of them twice,
// and some documents show them encoded once: a string that holds a JSON
// string is unwrapped, anything else is taken as it stands.
func (i invocation) text(key string) string {
	raw, ok := i.Metadata[key]
	if !ok {
		return ""
	}
	var text string
	for range 3 {
		var inner string
		if json.Unmarshal(raw, &inner) != nil {
			break
		}
		text, raw = inner, json.RawMessage(inner)
	}
	if text == "" {
		return string(raw)
	}
	return text
}

// moment reads a time of the metadata, which the host writes in whole seconds
// and without a zone, meaning UTC.
func (i invocation) moment(key string) (time.Time, error) {
	text := i.text(key)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%.60q is no time", text)
}

// invocationFunc carries out one call; its error decides the answer.
type invocationFunc func(ctx context.Context, i invocation, log *logRecord) error

// logRecord collects what the one log line of an invocation says.
type logRecord struct {
	attrs []any
	// deliveries is the message's delivery count, once it was read.
	deliveries int
}

func (l *logRecord) add(attrs ...any) { l.attrs = append(l.attrs, attrs...) }

// invocation answers the host: always a JSON object, for an empty reply makes
// the real host wait until functionTimeout and then kill the process.
func (a *app) invocation(name string, invoke invocationFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := a.Now()
		ctx, cancel := context.WithTimeout(r.Context(), a.Deadline)
		defer cancel()
		record := &logRecord{attrs: []any{logging.Function, name, logging.InvocationID, r.Header.Get("X-Azure-Functions-InvocationId")}}
		err := a.call(ctx, r, invoke, record)
		record.add(logging.Duration, a.Now().Sub(began))
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			record.add(logging.Fault, fault.Of(err).String(), logging.Error, err.Error())
			a.Logger.Error("invocation failed", record.attrs...)
			backOff(ctx, record.deliveries, err)
			w.WriteHeader(http.StatusInternalServerError)
		} else {
			a.Logger.Info("invocation done", record.attrs...)
		}
		_, _ = io.WriteString(w, `{"Outputs":{},"Logs":[],"ReturnValue":null}`) // the host is gone: nobody to tell
	})
}

// call reads the invocation and carries it out; a panic is a bug, not the end
// of the other calls.
func (a *app) call(ctx context.Context, r *http.Request, invoke invocationFunc, record *logRecord) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Newf(fault.Bug, "panic: %v\n%s", p, debug.Stack())
		}
	}()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxInvocation+1))
	switch {
	case err != nil:
		return fault.New(fault.Transient, "read invocation", err)
	case len(body) > maxInvocation:
		return fault.Newf(fault.Invalid, "read invocation: more than %d bytes", maxInvocation)
	}
	var i invocation
	if err := json.Unmarshal(body, &i); err != nil {
		return fault.New(fault.Invalid, "read invocation: not the host's JSON", err)
	}
	return invoke(ctx, i, record)
}
