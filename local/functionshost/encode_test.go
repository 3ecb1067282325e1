package functionshost

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

var testNow = time.Date(2026, 11, 23, 11, 47, 13, 123456700, time.UTC)

func ptr[T any](v T) *T { return &v }

// exampleMessage is the message of the documented example, with a body of choice.
func exampleMessage(body string) *message {
	enqueued := testNow.Truncate(time.Second)
	return &message{
		namespace: "ns.servicebus.windows.net",
		ReceivedMessage: &azservicebus.ReceivedMessage{
			Body: []byte(body), MessageID: "m-1", DeliveryCount: 1,
			LockToken:    uuid.MustParse("6f0c2f1e-7f55-4d6c-9a5e-0f7a4f5f4d11"),
			EnqueuedTime: &enqueued, TimeToLive: ptr(14 * 24 * time.Hour), ExpiresAt: ptr(enqueued.Add(14 * 24 * time.Hour)),
			ContentType: ptr("application/json"), SequenceNumber: ptr(int64(42)), Subject: ptr("op"), CorrelationID: ptr("c-1"),
			SessionID: ptr("tenant-9"), PartitionKey: ptr("tenant-9"),
			ApplicationProperties: map[string]any{"attempt": int64(1)},
		},
	}
}

const exampleMetadata = `{
	"MessageReceiver": {}, "MessageSession": {}, "MessageActions": {}, "SessionActions": {}, "ReceiveActions": {},
	"Client": {"FullyQualifiedNamespace": "ns.servicebus.windows.net", "IsClosed": false, "TransportType": 0, "Identifier": "ns.servicebus.windows.net-local"},
	"DeliveryCount": "1",
	"LockToken": "\"6f0c2f1e-7f55-4d6c-9a5e-0f7a4f5f4d11\"",
	"ExpiresAtUtc": "2026-12-07T11:47:13", "ExpiresAt": "2026-12-07T11:47:13+00:00",
	"EnqueuedTimeUtc": "2026-11-23T11:47:13", "EnqueuedTime": "2026-11-23T11:47:13+00:00",
	"MessageId": "\"m-1\"", "ContentType": "\"application/json\"", "SequenceNumber": "42",
	"Subject": "\"op\"", "Label": "\"op\"", "CorrelationId": "\"c-1\"",
	"SessionId": "\"tenant-9\"", "PartitionKey": "\"tenant-9\"",
	"ApplicationProperties": {"attempt": 1}, "UserProperties": {"attempt": 1},
	"sys": {"MethodName": "Provision", "UtcNow": "2026-11-23T11:47:13.1234567Z", "RandGuid": "0b0c"}%LEAKED%
}`

func TestSingleMessageEncoding(t *testing.T) {
	const body = `{"id":7,"op":"provision"}`
	for _, c := range []struct {
		name, dataType, body string
		single               bool
		data, leaked         string
	}{
		{
			name: "a JSON body is encoded twice and its properties leak into the metadata", body: body,
			data: `"\"{\\\"id\\\":7,\\\"op\\\":\\\"provision\\\"}\""`, leaked: `, "id": "\"7\"", "op": "\"provision\""`,
		},
		{
			name: "a JSON body is encoded once on request", body: body, single: true,
			data: `"{\"id\":7,\"op\":\"provision\"}"`, leaked: `, "id": "\"7\"", "op": "\"provision\""`,
		},
		{name: "plain text is encoded twice and leaks nothing", dataType: "string", body: "test", data: `"\"test\""`},
		{name: "plain text is encoded twice even when JSON is encoded once", body: "test", single: true, data: `"\"test\""`},
		{name: "a binary body is base64 once and leaks nothing", dataType: "binary", body: body, data: `"eyJpZCI6Nywib3AiOiJwcm92aXNpb24ifQ=="`},
		{name: "a body that is a JSON array leaks nothing", body: `[{"id":7}]`, data: `"\"[{\\\"id\\\":7}]\""`},
		{name: "an empty body is an empty string", body: ``, data: `"\"\""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &function{name: "Provision", binding: "msg", bus: busBinding{dataType: c.dataType, sessions: true}}
			got, err := f.single(exampleMessage(c.body), encoding{id: "0b0c", singleData: c.single}, testNow)
			if err != nil {
				t.Fatal(err)
			}
			want := `{"Data":{"msg":` + c.data + `},"Metadata":` + strings.Replace(exampleMetadata, "%LEAKED%", c.leaked, 1) + `}`
			diffJSON(t, want, string(got))
		})
	}
}

func TestForgedMetadata(t *testing.T) {
	for _, c := range []struct{ name, dataType, body, key, want string }{
		{"a body property overwrites the message id", "", `{"MessageId":"forged"}`, "MessageId", `"\"forged\""`},
		{"names are compared without case and keep the system's spelling", "", `{"messageID":"forged"}`, "MessageId", `"\"forged\""`},
		{"a number becomes a string", "", `{"deliveryCount":0}`, "DeliveryCount", `"\"0\""`},
		{"null removes the entry", "", `{"SessionId":null}`, "SessionId", ``},
		{"an object stays an object", "", `{"Client":{"a":[1]}}`, "Client", `{"a":[1]}`},
		{"an array leaks nothing", "", `{"MessageId":["forged"]}`, "MessageId", `"\"m-1\""`},
		{"true is the .NET text", "", `{"flag":true}`, "flag", `"\"True\""`},
		{"an ISO date is reformatted", "", `{"at":"2026-11-23T12:47:13+01:00"}`, "at", `"\"11/23/2026 11:47:13\""`},
		{"a date without time is left alone", "", `{"at":"2026-11-23"}`, "at", `"\"2026-11-23\""`},
		{"a fraction keeps its value", "", `{"x":1.50}`, "x", `"\"1.5\""`},
		{"a great integer keeps its digits", "", `{"x":123456789012345678901}`, "x", `"\"123456789012345678901\""`},
		{"a name that ends in trigger never arrives", "", `{"myTrigger":"x"}`, "myTrigger", ``},
		{"broken JSON leaks nothing", "", `{"MessageId":"forged"`, "MessageId", `"\"m-1\""`},
		{"JSON with a tail leaks nothing", "", `{"MessageId":"forged"} {}`, "MessageId", `"\"m-1\""`},
		{"dataType string does not protect", "string", `{"MessageId":"forged"}`, "MessageId", `"\"forged\""`},
		{"dataType binary protects", "binary", `{"MessageId":"forged"}`, "MessageId", `"\"m-1\""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &function{name: "f", binding: "msg", bus: busBinding{dataType: c.dataType}}
			got, err := f.single(exampleMessage(c.body), encoding{}, testNow)
			if err != nil {
				t.Fatal(err)
			}
			var body struct{ Metadata map[string]json.RawMessage }
			if err := json.Unmarshal(got, &body); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(body.Metadata[c.key])); diff != "" {
				t.Errorf("Metadata.%s (-want +got):\n%s", c.key, diff)
			}
		})
	}
}

func TestBodiesThatTheExtensionRefuses(t *testing.T) {
	for _, c := range []struct {
		name, dataType string
		amqp           azservicebus.AMQPAnnotatedMessageBody
		body           []byte
		want           string // part of the error; "" is none
	}{
		{name: "a string value is a body", amqp: azservicebus.AMQPAnnotatedMessageBody{Value: "x"}},
		{name: "several data sections are one body", amqp: azservicebus.AMQPAnnotatedMessageBody{Data: [][]byte{[]byte("a"), []byte("b")}}},
		{name: "a number value is refused", amqp: azservicebus.AMQPAnnotatedMessageBody{Value: int64(1)}, want: "int64"},
		{name: "a sequence is refused", amqp: azservicebus.AMQPAnnotatedMessageBody{Sequence: [][]any{{1}}}, want: "sequence"},
		{name: "bytes that are not UTF-8 are refused as a string", body: []byte{0xff}, want: "UTF-8"},
		{name: "bytes that are not UTF-8 pass as binary", dataType: "binary", body: []byte{0xff}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := exampleMessage("")
			m.Body = c.body
			m.RawAMQPMessage = &azservicebus.AMQPAnnotatedMessage{Body: c.amqp}
			f := &function{name: "f", binding: "msg", bus: busBinding{dataType: c.dataType}}
			_, err := f.single(m, encoding{}, testNow)
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want one about %q", err, c.want)
			}
		})
	}
}

func TestMessageWithoutOptionalProperties(t *testing.T) {
	m := &message{ReceivedMessage: &azservicebus.ReceivedMessage{Body: []byte("x"), EnqueuedTime: &testNow, ExpiresAt: &testNow}}
	f := &function{name: "f", binding: "msg"}
	got, err := f.single(m, encoding{}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	var body struct{ Metadata map[string]any }
	if err := json.Unmarshal(got, &body); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"MessageId", "SessionId", "ContentType", "ReplyTo", "To", "DeadLetterSource", "MessageSession"} {
		if v, ok := body.Metadata[name]; ok {
			t.Errorf("%s is %v, want it missing", name, v)
		}
	}
	if got := body.Metadata["ExpiresAtUtc"]; got != "9999-12-31T23:59:59" {
		t.Errorf("ExpiresAtUtc %v without a time to live, want .NET's greatest date", got)
	}
}

func TestBatchEncoding(t *testing.T) {
	first, second := exampleMessage(`{"id":7}`), exampleMessage(`{"id":8}`)
	second.MessageID, second.ApplicationProperties, second.SessionID = "m-2", nil, nil
	for _, c := range []struct{ name, dataType, want string }{
		{"strings are an array of strings in a string", "string", `["{\"id\":7}","{\"id\":8}"]`},
		{"bytes are an array of base64 in a string", "binary", `["eyJpZCI6N30=","eyJpZCI6OH0="]`},
		{"without a type the bodies are JSON values in a string", "", `[{"id":7},{"id":8}]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &function{name: "Provision", binding: "msgs", bus: busBinding{dataType: c.dataType, many: true}}
			got, err := f.batch([]*message{first, second}, encoding{id: "0b0c"}, testNow)
			if err != nil {
				t.Fatal(err)
			}
			var body struct {
				Data     map[string]string
				Metadata map[string]json.RawMessage
			}
			if err := json.Unmarshal(got, &body); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]string{"msgs": c.want}, body.Data); diff != "" {
				t.Errorf("Data (-want +got):\n%s", diff)
			}
			for name, want := range map[string]string{
				"MessageIdArray": `["m-1","m-2"]`, "DeliveryCountArray": `[1,1]`, "SessionIdArray": `["tenant-9",null]`,
				"ApplicationPropertiesArray": `[{"attempt":1},{}]`, "TransactionPartitionKeyArray": `["tenant-9","tenant-9"]`,
				"EnqueuedTimeUtcArray": `["2026-11-23T11:47:13Z","2026-11-23T11:47:13Z"]`, "ToArray": `[null,null]`,
			} {
				var text string
				if err := json.Unmarshal(body.Metadata[name], &text); err != nil || text != want {
					t.Errorf("%s is %s (%v), want %s in a string", name, body.Metadata[name], err, want)
				}
			}
			if _, leaked := body.Metadata["id"]; leaked {
				t.Error("a batch leaked a body property")
			}
		})
	}
	t.Run("one body that is not JSON fails the whole batch", func(t *testing.T) {
		f := &function{name: "f", binding: "msgs", bus: busBinding{many: true}}
		if _, err := f.batch([]*message{first, exampleMessage("test")}, encoding{}, testNow); err == nil {
			t.Error("no error")
		}
	})
}

func diffJSON(t *testing.T, want, got string) {
	t.Helper()
	var w, g any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("bad test: %v in %s", err, want)
	}
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%v in %s", err, got)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzSingleMessage: whatever a body holds, the handler gets valid JSON, and
// with dataType binary exactly the bytes that were sent and no forged metadata.
func FuzzSingleMessage(f *testing.F) {
	for _, seed := range []string{`{"MessageId":"forged"}`, `test`, `{"id":7,"op":"provision"}`, `{"a":{"b":[]},"c":null,"d":1e99}`, "\xff", `{"":1,"sys":2,"x":"2026-11-23T11:47:13Z"}`, `{}`, ` {"a":1} `} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		fn := &function{name: "f", binding: "msg"}
		if out, err := fn.single(exampleMessage(body), encoding{}, testNow); err == nil && !json.Valid(out) {
			t.Errorf("invalid JSON for %q: %s", body, out)
		}
		fn.bus.dataType = "binary"
		out, err := fn.single(exampleMessage(body), encoding{}, testNow)
		if err != nil {
			t.Fatal(err)
		}
		var wire struct {
			Data     map[string][]byte
			Metadata struct{ MessageID string }
		}
		if err := json.Unmarshal(out, &wire); err != nil {
			t.Fatal(err)
		}
		if string(wire.Data["msg"]) != body || wire.Metadata.MessageID != `"m-1"` {
			t.Errorf("body %q arrived as %q with id %s", body, wire.Data["msg"], wire.Metadata.MessageID)
		}
	})
}
