package functionshost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/local/servicebusemu"
)

// These tests drive the real azservicebus client, on both sides, through the
// emulator.

const (
	plainFunction = `{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"msg","queueName":"plain","connection":"SB","dataType":"string"}]}`
	manyFunction  = `{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"msg","queueName":"many","connection":"SB","dataType":"binary","cardinality":"many"}]}`
	busHost       = `{"version":"2.0","functionTimeout":"00:00:30",
		"extensionBundle":{"id":"Microsoft.Azure.Functions.ExtensionBundle","version":"[4.*, 5.0.0)"},
		"customHandler":{"description":{"defaultExecutablePath":"handler"},"enableForwardingHttpRequest":true},
		"extensions":{"serviceBus":{"maxConcurrentSessions":4,"sessionIdleTimeout":"00:00:01","maxAutoLockRenewalDuration":"00:00:20"}}}`
)

// broker is a running emulator that can be stopped and started again on the same
// address, empty.
type broker struct {
	t    *testing.T
	addr string
	srv  *servicebusemu.Server
	done chan error
}

func newBroker(t *testing.T) *broker {
	b := &broker{t: t, addr: "127.0.0.1:0"}
	b.start()
	t.Cleanup(func() { b.stop() })
	return b
}

func (b *broker) start() {
	b.t.Helper()
	srv, err := servicebusemu.New(servicebusemu.Config{Queues: []servicebusemu.QueueConfig{
		{Name: "q", RequiresSession: true, LockDuration: 2 * time.Second, MaxDeliveryCount: 3},
		{Name: "plain", LockDuration: 2 * time.Second, MaxDeliveryCount: 3},
		{Name: "many", LockDuration: 5 * time.Second, MaxDeliveryCount: 3},
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	var l net.Listener
	poll(b.t, "listening on "+b.addr, func() bool {
		l, err = net.Listen("tcp", b.addr)
		return err == nil
	})
	b.addr, b.srv, b.done = l.Addr().String(), srv, make(chan error, 1)
	go func() { b.done <- srv.Serve(l) }()
}

func (b *broker) stop() {
	if b.srv == nil {
		return
	}
	_ = b.srv.Close()
	<-b.done
	b.srv = nil
}

// post sends messages "id=body" to a queue; session "" is none.
func (b *broker) post(queue, session string, messages ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	client, err := azservicebus.NewClientFromConnectionString(servicebusemu.ConnectionString(b.addr), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close(ctx)
	sender, err := client.NewSender(queue, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, text := range messages {
		id, body, _ := strings.Cut(text, "=")
		m := &azservicebus.Message{MessageID: &id, Body: []byte(body)}
		if session != "" {
			m.SessionID = &session
		}
		if err := sender.SendMessage(ctx, m, nil); err != nil {
			b.t.Fatal(err)
		}
	}
}

// deadLetters receives what lies in the dead-letter sub-queue and returns the
// message ids.
func (b *broker) deadLetters(queue string, n int) []string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	client, err := azservicebus.NewClientFromConnectionString(servicebusemu.ConnectionString(b.addr), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close(ctx)
	r, err := client.NewReceiverForQueue(queue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
	if err != nil {
		b.t.Fatal(err)
	}
	var ids []string
	for len(ids) < n {
		ms, err := r.ReceiveMessages(ctx, n, nil)
		if err != nil {
			b.t.Fatalf("%d dead letters of %s, want %d: %v", len(ids), queue, n, err)
		}
		for _, m := range ms {
			ids = append(ids, m.MessageID)
			if err := r.CompleteMessage(ctx, m, nil); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	return ids
}

// runOn starts a host whose Service Bus is the emulator.
func (a *app) runOn(b *broker, change func(*Config)) *running {
	a.settings["SB"] = servicebusemu.ConnectionString(b.addr)
	return a.run(func(c *Config) {
		c.connect = nil
		if change != nil {
			change(c)
		}
	})
}

func messageIDs(calls []Invocation) []string {
	var ids []string
	for _, c := range calls {
		ids = append(ids, c.MessageID)
	}
	return ids
}

func TestMessagesThroughTheRealClient(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	a := newApp(t, busHost, map[string]string{"work": workFunction})
	r := a.runOn(b, nil)
	r.awaitReady(t)
	b.post("q", "s-1", "m-1=ok", "m-2=ok", "m-3=ok")
	calls := r.calls(t, 3)
	if diff := cmp.Diff([]string{"m-1", "m-2", "m-3"}, messageIDs(calls)); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	for _, c := range calls {
		if !c.OK() || c.SessionID != "s-1" || c.DeliveryCount != 1 {
			t.Errorf("call %+v", c)
		}
	}
	b.post("q", "s-2", "bad=status 500")
	if diff := cmp.Diff([]string{"bad"}, b.deadLetters("q", 1)); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	var counts []uint32
	for _, c := range r.calls(t, 6)[3:] {
		counts = append(counts, c.DeliveryCount)
	}
	if diff := cmp.Diff([]uint32{1, 2, 3}, counts); diff != "" {
		t.Errorf("delivery counts (-want +got):\n%s", diff)
	}
	if n := r.Stats().Functions["work"]; n.Invocations != 6 || n.Failures != 3 {
		t.Errorf("stats %+v", n)
	}
}

func TestIdleQueueIsWaitedForAtTheBroker(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	r := newApp(t, busHost, map[string]string{"work": workFunction}).runOn(b, nil)
	r.awaitReady(t)
	b.post("q", "warm-up", "m=ok")
	r.calls(t, 1)
	best := time.Hour
	for i := range 5 { // a busy machine may delay some of them
		began := time.Now()
		b.post("q", fmt.Sprint("s-", i), fmt.Sprint("m-", i, "=ok"))
		took := r.calls(t, i+2)[i+1].Start.Sub(began)
		best = min(best, took)
	}
	t.Logf("best time from before dialling the sender to the call: %v", best)
	if best > 2*time.Second {
		t.Errorf("a message waited %v: the listener polls", best)
	}
}

func TestSessionsRunAtOnceUpToTheLimit(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	r := newApp(t, busHost, map[string]string{"work": workFunction}).runOn(b, nil)
	r.awaitReady(t)
	for i := range 6 {
		b.post("q", fmt.Sprint("s-", i), fmt.Sprint("m-", i, "=sleep 1s"))
	}
	most := 0
	poll(t, "all six calls", func() bool {
		s := r.Stats().Instances[0]
		most = max(most, s.InFlight)
		return len(r.seen.calls()) == 6
	})
	if most < 2 || most > 4 {
		t.Errorf("%d calls at once, want several and at most maxConcurrentSessions", most)
	}
}

func TestLongCallKeepsItsSession(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	r := newApp(t, busHost, map[string]string{"work": workFunction}).runOn(b, nil)
	b.post("q", "s-1", "m-1=sleep 6s") // three times the lock
	calls := r.calls(t, 1)
	if !calls[0].OK() {
		t.Fatalf("call %+v", calls[0])
	}
	b.post("q", "s-1", "m-2=ok")
	if diff := cmp.Diff([]string{"m-1", "m-2"}, messageIDs(r.calls(t, 2))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSessionLockThatRunsOut(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	host := strings.Replace(busHost, `"maxAutoLockRenewalDuration":"00:00:20"`, `"maxAutoLockRenewalDuration":"00:00:01"`, 1)
	r := newApp(t, host, map[string]string{"work": workFunction}).runOn(b, nil)
	b.post("q", "s-1", "m-1=sleep 5s") // the lock lasts 2 s
	poll(t, "the dead letter", func() bool { return b.srv.Stats()["q"].DeadLettered == 1 })
	calls := r.calls(t, 3)
	for i, c := range calls {
		if c.MessageID != "m-1" || !c.OK() {
			t.Errorf("call %d: %+v", i+1, c)
		}
	}
	if second := calls[1].Start; !second.Before(calls[0].Start.Add(calls[0].Duration)) {
		t.Error("the second delivery waited for the first call, want both at the same time")
	}
	if s := b.srv.Stats()["q"]; s.Completed != 0 {
		t.Errorf("%d messages completed without a lock", s.Completed)
	}
}

func TestPlainQueue(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	r := newApp(t, busHost, map[string]string{"work": plainFunction}).runOn(b, nil)
	b.post("plain", "", "long=sleep 5s", "bad=status 500", "good=ok") // the lock lasts 2 s
	if diff := cmp.Diff([]string{"bad"}, b.deadLetters("plain", 1)); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	times := map[string]int{}
	for _, c := range r.calls(t, 5) {
		times[c.MessageID]++
		if c.OK() != (c.MessageID != "bad") {
			t.Errorf("call %+v", c)
		}
	}
	if diff := cmp.Diff(map[string]int{"long": 1, "bad": 3, "good": 1}, times); diff != "" {
		t.Errorf("calls by message (-want +got):\n%s", diff)
	}
}

func TestBatchQueue(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	r := newApp(t, busHost, map[string]string{"work": manyFunction}).runOn(b, nil)
	b.post("many", "", "m-1=ok", "m-2=ok", "m-3=ok")
	poll(t, "three completed messages", func() bool { return b.srv.Stats()["many"].Completed == 3 })
	for _, c := range r.calls(t, 1) {
		if !c.OK() {
			t.Errorf("call %+v", c)
		}
	}
}

func TestServiceBusRestarts(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	a := newApp(t, busHost, map[string]string{"work": workFunction, "plain": plainFunction})
	r := a.runOn(b, nil)
	r.awaitReady(t)
	b.post("q", "s-1", "m-1=ok")
	r.calls(t, 1)
	b.stop()
	poll(t, "the outage", func() bool { return r.seen.logged("cut off") })
	b.start()
	b.post("q", "s-1", "m-2=ok")
	b.post("q", "s-2", "m-3=ok")
	got := messageIDs(r.calls(t, 3))
	slices.Sort(got)
	if diff := cmp.Diff([]string{"m-1", "m-2", "m-3"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestKilledHandlerAbandonsItsMessage(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	r := newApp(t, busHost, map[string]string{"work": workFunction}).runOn(b, nil)
	r.starts(t, 1)
	b.post("q", "s-1", "m-1=sleep 2s")
	poll(t, "the call", func() bool { return r.Stats().Instances[0].InFlight == 1 })
	if err := r.KillHandler("work"); err != nil {
		t.Fatal(err)
	}
	calls := r.calls(t, 2)
	if calls[0].OK() || !calls[1].OK() || calls[1].DeliveryCount != 2 {
		t.Errorf("calls %+v, want a failure and then the second delivery", calls)
	}
}

func TestQueueThatDoesNotExist(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	a := newApp(t, busHost, map[string]string{"work": workFunction})
	a.settings["QUEUE"] = "nowhere"
	r := a.runOn(b, nil)
	poll(t, "the report", func() bool { return r.seen.logged("cut off", "work") })
	select {
	case err := <-r.result:
		t.Errorf("the host stopped: %v", err)
		r.result <- err
	default:
	}
}

func TestFlexHostsThroughTheRealClient(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	a := newApp(t, busHost, map[string]string{"work": workFunction, "web": webFunction, "sweep": timerFunction})
	r := a.runOn(b, func(c *Config) { c.Flex, c.Instances = true, map[string]int{"work": 2} })
	r.awaitReady(t)
	pids := map[int]bool{}
	for _, in := range r.Stats().Instances {
		pids[in.PID] = true
	}
	if len(pids) != 4 {
		t.Errorf("%d handler processes, want one per instance: %+v", len(pids), r.Stats().Instances)
	}
	for i := range 8 {
		b.post("q", fmt.Sprint("s-", i), fmt.Sprint("m-", i, "=sleep 500ms"))
	}
	used := map[string]bool{}
	for _, c := range r.calls(t, 8) {
		used[c.Instance] = true
		if !c.OK() {
			t.Errorf("call %+v", c)
		}
	}
	if !used["work-1"] || !used["work-2"] {
		t.Errorf("instances used: %v, want both to compete for the queue", used)
	}
	if err := r.KillHandler("sweep"); err != nil && !errors.Is(err, ErrHostStopped) {
		t.Error(err)
	}
}
