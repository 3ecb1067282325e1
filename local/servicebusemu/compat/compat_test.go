package compat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
)

const patience = 30 * time.Second

// startEmulator builds the emulator of this repository, runs it as a process and
// returns its connection string.
func startEmulator(t *testing.T, args ...string) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "burstlocal")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./local/cmd/burstlocal")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the emulator: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"servicebus", "--addr", "127.0.0.1:0"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "Endpoint=") {
			return lines.Text()
		}
	}
	t.Fatal("the emulator printed no connection string")
	return ""
}

// harness is a client of the emulator.
type harness struct {
	t      *testing.T
	client *azservicebus.Client
}

func (h harness) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h harness) ctx() context.Context {
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	h.t.Cleanup(cancel)
	return ctx
}

func (h harness) send(queue string, messages ...*azservicebus.Message) {
	h.t.Helper()
	s, err := h.client.NewSender(queue, nil)
	h.must(err)
	for _, m := range messages {
		h.must(s.SendMessage(h.ctx(), m, nil))
	}
	h.must(s.Close(h.ctx()))
}

type source interface {
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
}

func (h harness) receiveOne(from source, body string) *azservicebus.ReceivedMessage {
	h.t.Helper()
	ms, err := from.ReceiveMessages(h.ctx(), 1, nil)
	h.must(err)
	if len(ms) != 1 || string(ms[0].Body) != body {
		h.t.Fatalf("received %v, want %q", ms, body)
	}
	return ms[0]
}

func code(err error) azservicebus.Code {
	var e *azservicebus.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func text(body string) *azservicebus.Message { return &azservicebus.Message{Body: []byte(body)} }

func TestTheFormerClient(t *testing.T) {
	connection := startEmulator(t, "--queues", "settling,batches,schedules", "--session-queues", "sessions", "--lock-duration", "5s")
	client, err := azservicebus.NewClientFromConnectionString(connection, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(context.Background()) })
	for name, test := range map[string]func(harness){
		"settling": harness.settling, "batches": harness.batches, "schedules": harness.schedules,
		"sessions": harness.sessions, "what is not there": harness.missing,
	} {
		t.Run(name, func(t *testing.T) { test(harness{t, client}) })
	}
}

func (h harness) settling() {
	h.send("settling", text("a"), text("b"))
	r, err := h.client.NewReceiverForQueue("settling", nil)
	h.must(err)
	m := h.receiveOne(r, "a")
	h.must(r.RenewMessageLock(h.ctx(), m, nil))
	h.must(r.AbandonMessage(h.ctx(), m, &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"k": "v"}}))
	m = h.receiveOne(r, "a")
	if m.DeliveryCount != 2 || m.ApplicationProperties["k"] != "v" {
		h.t.Errorf("after abandon: %d, %v", m.DeliveryCount, m.ApplicationProperties)
	}
	h.must(r.DeferMessage(h.ctx(), m, nil))
	deferred, err := r.ReceiveDeferredMessages(h.ctx(), []int64{*m.SequenceNumber}, nil)
	h.must(err)
	h.must(r.CompleteMessage(h.ctx(), deferred[0], nil))
	reason := "why"
	h.must(r.DeadLetterMessage(h.ctx(), h.receiveOne(r, "b"), &azservicebus.DeadLetterOptions{Reason: &reason}))
	dlq, err := h.client.NewReceiverForQueue("settling", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	h.must(err)
	dead := h.receiveOne(dlq, "b")
	if *dead.DeadLetterReason != reason {
		h.t.Errorf("reason %q", *dead.DeadLetterReason)
	}
	h.must(dlq.CompleteMessage(h.ctx(), dead, nil))
	if err := r.CompleteMessage(h.ctx(), m, nil); err != nil && code(err) != azservicebus.CodeLockLost {
		h.t.Errorf("a lock that is spent: %v", err)
	}
}

func (h harness) batches() {
	s, err := h.client.NewSender("batches", nil)
	h.must(err)
	b, err := s.NewMessageBatch(h.ctx(), nil)
	h.must(err)
	for i := range 100 {
		h.must(b.AddMessage(text(fmt.Sprint(i)), nil))
	}
	h.must(s.SendMessageBatch(h.ctx(), b, nil))
	r, err := h.client.NewReceiverForQueue("batches", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	h.must(err)
	var got []int64
	for len(got) < 100 {
		ms, err := r.ReceiveMessages(h.ctx(), 100, nil)
		h.must(err)
		for _, m := range ms {
			got = append(got, *m.SequenceNumber)
		}
	}
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != 100 || got[0] != 1 || got[99] != 100 {
		h.t.Errorf("sequence numbers %v", got)
	}
}

func (h harness) schedules() {
	s, err := h.client.NewSender("schedules", nil)
	h.must(err)
	numbers, err := s.ScheduleMessages(h.ctx(), []*azservicebus.Message{text("cancelled"), text("kept")}, time.Now().Add(time.Second), nil)
	h.must(err)
	h.must(s.CancelScheduledMessages(h.ctx(), numbers[:1], nil))
	if err := s.CancelScheduledMessages(h.ctx(), numbers[:1], nil); code(err) != azservicebus.CodeNotFound {
		h.t.Errorf("second cancel: %v", err)
	}
	r, err := h.client.NewReceiverForQueue("schedules", nil)
	h.must(err)
	ms, err := r.PeekMessages(h.ctx(), 10, nil)
	h.must(err)
	if len(ms) != 1 || ms[0].State != azservicebus.MessageStateScheduled {
		h.t.Errorf("peeked %v", ms)
	}
	h.must(r.CompleteMessage(h.ctx(), h.receiveOne(r, "kept"), nil))
}

func (h harness) sessions() {
	id := "x"
	h.send("sessions", &azservicebus.Message{Body: []byte("1"), SessionID: &id}, &azservicebus.Message{Body: []byte("2"), SessionID: &id})
	r, err := h.client.AcceptNextSessionForQueue(h.ctx(), "sessions", nil)
	h.must(err)
	var e *amqp.Error
	if _, err := h.client.AcceptSessionForQueue(h.ctx(), "sessions", id, nil); !errors.As(err, &e) || e.Condition != "com.microsoft:session-cannot-be-locked" {
		h.t.Errorf("accept of a held session: %v", err)
	}
	h.must(r.SetSessionState(h.ctx(), []byte("state"), nil))
	h.must(r.CompleteMessage(h.ctx(), h.receiveOne(r, "1"), nil))
	h.must(r.RenewSessionLock(h.ctx(), nil))
	h.must(r.Close(h.ctx()))
	// An abandoned wait must not spoil the channel it was made on.
	ctx, cancel := context.WithTimeout(h.ctx(), 200*time.Millisecond)
	defer cancel()
	held, err := h.client.AcceptSessionForQueue(h.ctx(), "sessions", id, nil)
	h.must(err)
	if _, err := h.client.AcceptNextSessionForQueue(ctx, "sessions", nil); err == nil {
		h.t.Error("a session was accepted twice")
	}
	state, err := held.GetSessionState(h.ctx(), nil)
	h.must(err)
	if string(state) != "state" {
		h.t.Errorf("state %q", state)
	}
	h.must(held.CompleteMessage(h.ctx(), h.receiveOne(held, "2"), nil))
	h.must(held.Close(h.ctx()))
}

func (h harness) missing() {
	s, err := h.client.NewSender("nothere", nil)
	h.must(err)
	if err := s.SendMessage(h.ctx(), text("x"), nil); code(err) != azservicebus.CodeNotFound {
		h.t.Errorf("send: %v", err)
	}
}
