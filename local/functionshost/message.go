package functionshost

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"
)

// message is one Service Bus message as it was received.
type message struct {
	*azservicebus.ReceivedMessage
	namespace string // host name of the namespace, for Metadata.Client
}

// body finds the payload (MessageToStringConverter): data sections, or an AMQP
// value that is a string or bytes; everything else the extension refuses.
func (m *message) body() ([]byte, error) {
	if m.Body != nil || m.RawAMQPMessage == nil {
		return m.Body, nil
	}
	b := m.RawAMQPMessage.Body
	switch v := b.Value.(type) {
	case string:
		return []byte(v), nil
	case []byte:
		return v, nil
	case nil:
		if b.Sequence != nil {
			return nil, errors.New("an AMQP sequence is no body that the extension supports")
		}
		return bytes.Join(b.Data, nil), nil
	default:
		return nil, fmt.Errorf("an AMQP value of type %T is no body that the extension supports", v)
	}
}

func (m *message) text() (string, error) {
	b, err := m.body()
	if err != nil {
		return "", err
	}
	if !utf8.Valid(b) {
		return "", errors.New("body is not UTF-8 (set dataType to binary)")
	}
	return string(b), nil
}

// expiresAt is .NET's DateTime.MaxValue without a time to live; azservicebus
// then says the enqueued time.
func (m *message) expiresAt() time.Time {
	if m.TimeToLive == nil || m.ExpiresAt == nil {
		return time.Date(9999, 12, 31, 23, 59, 59, 999999900, time.UTC)
	}
	return *m.ExpiresAt
}

func (m *message) enqueued() time.Time {
	if m.EnqueuedTime == nil {
		return time.Time{}
	}
	return *m.EnqueuedTime
}

func (m *message) sequence() int64 {
	if m.SequenceNumber == nil {
		return 0
	}
	return *m.SequenceNumber
}

func (m *message) lockToken() string { return uuid.UUID(m.LockToken).String() }

func nonEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// properties makes JSON of the application properties: native types inside.
func (m *message) properties() map[string]any {
	out := make(map[string]any, len(m.ApplicationProperties))
	for k, v := range m.ApplicationProperties {
		switch t := v.(type) {
		case time.Time:
			out[k] = ticks(t)
		case [16]byte:
			out[k] = uuid.UUID(t).String()
		case fmt.Stringer:
			out[k] = t.String()
		default:
			out[k] = v
		}
		if _, err := json.Marshal(out[k]); err != nil {
			out[k] = fmt.Sprint(v) // NaN and the like, which Json.NET writes as text too
		}
	}
	return out
}

// emptyObjects are the .NET actions and receivers: they serialise to {}.
var emptyObjects = []string{"MessageReceiver", "MessageSession", "MessageActions", "SessionActions", "ReceiveActions"}

func clientData(namespace string) json.RawMessage {
	return plain(struct {
		FullyQualifiedNamespace string
		IsClosed                bool
		TransportType           int
		Identifier              string
	}{namespace, false, 0, namespace + "-local"})
}

// single is the body of an invocation with cardinality one
// (ServiceBusTriggerBindingStrategy).
func (f *function) single(m *message, opts encoding, now time.Time) ([]byte, error) {
	b := newBindingData()
	for _, name := range emptyObjects {
		if name == "MessageSession" && !f.bus.sessions {
			continue
		}
		b.set(name, json.RawMessage("{}"))
	}
	b.set("Client", clientData(m.namespace))
	b.set("DeliveryCount", twice(m.DeliveryCount))
	b.setText("DeadLetterSource", m.DeadLetterSource)
	b.set("LockToken", twice(m.lockToken()))
	b.set("ExpiresAtUtc", dateTime(m.expiresAt()))
	b.set("ExpiresAt", dateTimeOffset(m.expiresAt()))
	b.set("EnqueuedTimeUtc", dateTime(m.enqueued()))
	b.set("EnqueuedTime", dateTimeOffset(m.enqueued()))
	b.setText("MessageId", nonEmpty(m.MessageID))
	b.setText("ContentType", m.ContentType)
	b.setText("ReplyTo", m.ReplyTo)
	b.set("SequenceNumber", twice(m.sequence()))
	b.setText("To", m.To)
	b.setText("Subject", m.Subject)
	b.setText("Label", m.Subject)
	b.setText("CorrelationId", m.CorrelationID)
	b.setText("SessionId", m.SessionID)
	b.setText("ReplyToSessionId", m.ReplyToSessionID)
	b.setText("PartitionKey", m.PartitionKey)
	b.set("ApplicationProperties", plain(m.properties()))
	b.set("UserProperties", plain(m.properties()))
	b.set("sys", systemData(f.name, opts.id, now))
	if f.bus.dataType == "binary" {
		raw, err := m.body()
		if err != nil {
			return nil, err
		}
		return envelope(f.binding, base64Once(raw), b), nil
	}
	text, err := m.text()
	if err != nil {
		return nil, err
	}
	b.leak(text)
	return envelope(f.binding, opts.text(text), b), nil
}

// encoding is what an invocation needs besides its trigger.
type encoding struct {
	id         string // RandGuid
	singleData bool   // Config.SingleEncodedData
}

// text encodes a string value of Data.
func (e encoding) text(s string) json.RawMessage {
	if e.singleData && json.Valid([]byte(s)) {
		return plain(s)
	}
	return twice(s)
}

// batch is the body of an invocation with cardinality many.
func (f *function) batch(ms []*message, opts encoding, now time.Time) ([]byte, error) {
	data, err := f.batchData(ms)
	if err != nil {
		return nil, err
	}
	b := newBindingData()
	for _, name := range emptyObjects {
		if name == "MessageSession" && !f.bus.sessions {
			continue
		}
		b.set(name, json.RawMessage("{}"))
	}
	b.set("Client", clientData(ms[0].namespace))
	column := func(name string, cell func(*message) any) {
		cells := make([]any, len(ms))
		for i, m := range ms {
			cells[i] = cell(m)
		}
		b.set(name, twice(cells))
	}
	column("MessageIdArray", func(m *message) any { return nonEmpty(m.MessageID) })
	column("DeliveryCountArray", func(m *message) any { return m.DeliveryCount })
	column("SequenceNumberArray", func(m *message) any { return m.sequence() })
	column("EnqueuedTimeUtcArray", func(m *message) any { return ticksUTC(m.enqueued()) })
	column("EnqueuedTimeArray", func(m *message) any { return ticks(m.enqueued()) })
	column("ExpiresAtUtcArray", func(m *message) any { return ticksUTC(m.expiresAt()) })
	column("ExpiresAtArray", func(m *message) any { return ticks(m.expiresAt()) })
	column("LockTokenArray", func(m *message) any { return m.lockToken() })
	column("SessionIdArray", func(m *message) any { return m.SessionID })
	column("ContentTypeArray", func(m *message) any { return m.ContentType })
	column("CorrelationIdArray", func(m *message) any { return m.CorrelationID })
	column("SubjectArray", func(m *message) any { return m.Subject })
	column("LabelArray", func(m *message) any { return m.Subject })
	column("ToArray", func(m *message) any { return m.To })
	column("ReplyToArray", func(m *message) any { return m.ReplyTo })
	column("ReplyToSessionIdArray", func(m *message) any { return m.ReplyToSessionID })
	column("PartitionKeyArray", func(m *message) any { return m.PartitionKey })
	// A bug of the extension that handlers can meet: partition keys again.
	column("TransactionPartitionKeyArray", func(m *message) any { return m.PartitionKey })
	column("DeadLetterSourceArray", func(m *message) any { return m.DeadLetterSource })
	column("ApplicationPropertiesArray", func(m *message) any { return m.properties() })
	column("UserPropertiesArray", func(m *message) any { return m.properties() })
	b.set("sys", systemData(f.name, opts.id, now))
	return envelope(f.binding, data, b), nil
}

// batchData encodes the bodies of a batch by dataType; without one each body is
// parsed as JSON, and one that is not fails the whole batch.
func (f *function) batchData(ms []*message) (json.RawMessage, error) {
	cells := make([]any, len(ms))
	for i, m := range ms {
		raw, err := m.body()
		if err != nil {
			return nil, err
		}
		if f.bus.dataType == "binary" {
			cells[i] = raw // encoding/json writes base64, as Json.NET does
			continue
		}
		text, err := m.text()
		if err != nil {
			return nil, err
		}
		cells[i] = text
		if f.bus.dataType == "" {
			if !json.Valid(raw) {
				return nil, fmt.Errorf("body of message %s is not JSON, which fails the whole batch (set dataType)", m.MessageID)
			}
			cells[i] = json.RawMessage(raw)
		}
	}
	return twice(cells), nil
}
