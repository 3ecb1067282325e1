//go:build e2e

package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// bad is a message that nobody of ours would send.
type bad struct {
	name, session, encoding string
	body                    []byte
}

// cloudEvent is a snapshot as somebody else might make it up.
func cloudEvent(kind, source, data string) []byte {
	return []byte(`{"specversion":"1.0","id":"x","source":"` + source + `","type":"` + kind + `","datacontenttype":"application/json","data":` + data + `}`)
}

func gzipped(plain []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // a level that exists
	_, _ = z.Write(plain)                           // a buffer
	_ = z.Close()                                   // a buffer
	return b.Bytes()
}

// badMessages are forged, malformed and oversized. epoch is the one of the
// agent in charge.
func badMessages(cluster string, epoch int64) []bad {
	const kind = "slurmburst.queue_pressure.v1"
	source := "/slurm/" + cluster
	newer := fmt.Sprintf(`{"cluster":%q,"epoch":%d,"sequence":1000000,"takenAt":"2026-01-01T00:00:00Z","cause":"poll",`, cluster, epoch)
	return []bad{
		{name: "empty", session: cluster},
		{name: "cut-json", session: cluster, body: []byte(`{"specversion":"1.0",`)},
		{name: "binary", session: cluster, body: bytes.Repeat([]byte{0, 255, 13, 10}, 100)},
		{name: "no-gzip", session: cluster, encoding: "gzip", body: []byte("plain")},
		{name: "gzip-bomb", session: cluster, encoding: "gzip", body: gzipped(make([]byte, 17<<20))},
		{name: "unknown-encoding", session: cluster, encoding: "br", body: cloudEvent(kind, source, "{}")},
		{name: "oversized", session: cluster, body: bytes.Repeat([]byte("A"), 255<<10)},
		{name: "deep", session: cluster, body: []byte(strings.Repeat("[", 200_000))},
		{name: "future-version", session: cluster, body: cloudEvent("slurmburst.queue_pressure.v9", source, `{}`)},
		{name: "other-kind", session: cluster, body: cloudEvent("slurmburst.slurm_command.v1", source, `{}`)},
		{name: "other-cluster", session: cluster, body: cloudEvent(kind, source, `{"cluster":"stranger"}`)},
		{name: "no-policy", session: "stranger", body: cloudEvent(kind, "/slurm/stranger", `{"cluster":"stranger","epoch":1,"sequence":1}`)},
		{name: "hostlist", session: cluster, body: cloudEvent(kind, source,
			newer+`"cloudNodes":[{"nodearray":"htc","groups":[{"state":"IDLE","flags":["POWERING_UP"],"nodes":"htc-[1-"}]}]}`)},
		{name: "huge-hostlist", session: cluster, body: cloudEvent(kind, source,
			newer+`"cloudNodes":[{"nodearray":"htc","groups":[{"state":"IDLE","flags":["POWERING_UP"],"nodes":"htc-[1-999999999]"}]}]}`)},
	}
}

// badMessagesAreSetAside: what cannot be a snapshot ends in the queue of the
// rejected, with its reason; nothing crashes, and the next snapshot works.
func badMessagesAreSetAside(s *site) {
	s.awaitZero()
	client, err := azservicebus.NewClientFromConnectionString(s.BusConnection(), nil)
	if err != nil {
		s.Fatal(err)
	}
	defer client.Close(context.WithoutCancel(s.ctx))
	sender, err := client.NewSender("queue-pressure", nil)
	if err != nil {
		s.Fatal(err)
	}
	var status struct{ Heartbeat struct{ Epoch int64 } }
	if err := json.Unmarshal([]byte(s.ctl("status", "--json")), &status); err != nil {
		s.Fatal(err)
	}
	starts, failed := s.handlerStarts()
	before := s.Bus.Stats()["rejected"].Sent
	messages := badMessages(s.Cluster, status.Heartbeat.Epoch)
	for _, m := range messages {
		id, contentType := "bad/"+m.name, "application/cloudevents+json"
		out := &azservicebus.Message{MessageID: &id, SessionID: &m.session, ContentType: &contentType, Body: m.body}
		if m.encoding != "" {
			out.ApplicationProperties = map[string]any{"content-encoding": m.encoding}
		}
		if err := sender.SendMessage(s.ctx, out, nil); err != nil {
			s.Fatalf("send %s: %v", m.name, err)
		}
	}
	s.eventually(soon, "every bad message is rejected", func() (bool, string) {
		queue := s.Bus.Stats()
		return queue["rejected"].Sent == before+uint64(len(messages)), fmt.Sprintf("%+v", queue["queue-pressure"])
	})
	reasons := s.rejected(client, len(messages))
	for _, m := range messages {
		if reason := reasons["bad/"+m.name]; reason == "" {
			s.Errorf("%s was rejected without a reason", m.name)
		} else {
			s.Logf("%s: %s", m.name, reason)
		}
	}
	s.wait(s.run("srun", "--partition=htc", "--nodes=1", "hostname"))
	s.awaitZero()
	if nowStarts, nowFailed := s.handlerStarts(); nowStarts != starts || nowFailed != failed {
		s.Errorf("%d handlers crashed and %d calls failed", nowStarts-starts, nowFailed-failed)
	}
	if dead := s.Bus.Stats()["queue-pressure"].EverDeadLettered; dead != 0 {
		s.Errorf("%d messages were dead-lettered", dead)
	}
}

// handlerStarts counts the handler processes so far, and failed calls.
func (s *site) handlerStarts() (starts, failed int) {
	stats := s.Host.Stats()
	for _, i := range stats.Instances {
		starts += i.Starts
	}
	for _, f := range stats.Functions {
		failed += f.Failures
	}
	return starts, failed
}

// rejected takes n records from the queue of the rejected and gives the reason
// for each MessageId.
func (s *site) rejected(client *azservicebus.Client, n int) map[string]string {
	s.Helper()
	receiver, err := client.NewReceiverForQueue("rejected", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	if err != nil {
		s.Fatal(err)
	}
	defer receiver.Close(context.WithoutCancel(s.ctx))
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	reasons := map[string]string{}
	for len(reasons) < n {
		messages, err := receiver.ReceiveMessages(ctx, n, nil)
		if err != nil {
			s.Fatalf("read the queue of the rejected: %v", err)
		}
		for _, m := range messages {
			body := m.Body
			if m.ApplicationProperties["content-encoding"] == "gzip" {
				body = s.inflate(body)
			}
			var record struct {
				Data struct{ MessageID, Reason string }
			}
			if err := json.Unmarshal(body, &record); err != nil {
				s.Fatalf("read a rejected message: %v: %.300q", err, body)
			}
			reasons[record.Data.MessageID] = record.Data.Reason
		}
	}
	return reasons
}

func (s *site) inflate(body []byte) []byte {
	s.Helper()
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	var plain bytes.Buffer
	if _, err := plain.ReadFrom(z); err != nil {
		s.Fatal(err)
	}
	return plain.Bytes()
}
