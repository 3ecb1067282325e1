package servicebusemu

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// patience bounds every wait of a test; it is long because the machine may be slow.
const patience = 30 * time.Second

// namespace is an emulator on a free port with the unmodified client in front.
type namespace struct {
	t      *testing.T
	srv    *Server
	addr   string
	client *azservicebus.Client
	clock  *manualClock
}

// manualClock moves only when told to.
type manualClock struct {
	mu     sync.Mutex
	now    time.Time
	timers map[*manualTimer]struct{}
}

type manualTimer struct {
	c  *manualClock
	at time.Time
	f  func()
}

func newManualClock() *manualClock {
	return &manualClock{now: time.Now(), timers: make(map[*manualTimer]struct{})}
}

func (c *manualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *manualClock) AfterFunc(d time.Duration, f func()) Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &manualTimer{c, c.now.Add(d), f}
	c.timers[t] = struct{}{}
	return t
}

func (t *manualTimer) Stop() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	_, running := t.c.timers[t]
	delete(t.c.timers, t)
	return running
}

func (t *manualTimer) Reset(d time.Duration) bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	_, running := t.c.timers[t]
	t.at = t.c.now.Add(d)
	t.c.timers[t] = struct{}{}
	return running
}

// advance moves the clock and runs what has become due, before it returns.
func (c *manualClock) advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
	for {
		c.mu.Lock()
		var due *manualTimer
		for t := range c.timers {
			if !t.at.After(c.now) {
				due = t
			}
		}
		if due == nil {
			c.mu.Unlock()
			return
		}
		delete(c.timers, due)
		c.mu.Unlock()
		due.f()
	}
}

// leap moves the clock as advance does, and leaves the timers late.
func (c *manualClock) leap(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// newNamespace starts an emulator whose clock the test moves.
func newNamespace(t *testing.T, queues ...QueueConfig) *namespace {
	t.Helper()
	clock := newManualClock()
	n := &namespace{t: t, clock: clock}
	n.srv, n.addr = startServer(t, Config{Queues: queues, Clock: clock})
	n.client = n.newClient()
	return n
}

// newRealTimeNamespace starts an emulator on the machine's clock.
func newRealTimeNamespace(t *testing.T, queues ...QueueConfig) *namespace {
	t.Helper()
	n := &namespace{t: t}
	n.srv, n.addr = startServer(t, Config{Queues: queues})
	n.client = n.newClient()
	return n
}

func startServer(t testing.TB, cfg Config) (*Server, string) {
	t.Helper()
	srv, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	addr, done := serve(t, srv)
	t.Cleanup(func() {
		if err := errors.Join(srv.Close(), <-done); err != nil {
			t.Error(err)
		}
	})
	return srv, addr
}

// serve runs srv on a free port.
func serve(t testing.TB, srv *Server) (addr string, done chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), serveOn(srv, l)
}

// serveOn returns when l is being served.
func serveOn(srv *Server, l net.Listener) (done chan error) {
	serving, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- srv.Serve(&announced{Listener: l, accepting: serving}) }()
	<-serving
	return done
}

// announced is a listener that tells when it is first asked for a connection.
type announced struct {
	net.Listener
	accepting chan struct{}
	once      sync.Once
}

func (a *announced) Accept() (net.Conn, error) {
	a.once.Do(func() { close(a.accepting) })
	return a.Listener.Accept()
}

func dial(t testing.TB, addr string) *azservicebus.Client {
	t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(ConnectionString(addr), &azservicebus.ClientOptions{
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 2, RetryDelay: 10 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = client.Close(ctx)
	})
	return client
}

func (n *namespace) newClient() *azservicebus.Client { return dial(n.t, n.addr) }

func (n *namespace) ctx() context.Context {
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	n.t.Cleanup(cancel)
	return ctx
}

// must fails the test on an error.
func (n *namespace) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *namespace) sender(queue string) *azservicebus.Sender {
	n.t.Helper()
	s, err := n.client.NewSender(queue, nil)
	n.must(err)
	return s
}

func (n *namespace) receiver(queue string, options *azservicebus.ReceiverOptions) *azservicebus.Receiver {
	n.t.Helper()
	r, err := n.client.NewReceiverForQueue(queue, options)
	n.must(err)
	return r
}

func (n *namespace) deadLetters(queue string) *azservicebus.Receiver {
	return n.receiver(queue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
}

// send sends one message per body, in order, into a session if it is not empty.
func (n *namespace) send(queue, session string, bodies ...string) {
	n.t.Helper()
	s := n.sender(queue)
	for _, body := range bodies {
		m := &azservicebus.Message{Body: []byte(body)}
		if session != "" {
			m.SessionID = &session
		}
		n.must(s.SendMessage(n.ctx(), m, nil))
	}
	n.must(s.Close(n.ctx()))
}

// source is what both kinds of receivers do.
type source interface {
	ReceiveMessages(context.Context, int, *azservicebus.ReceiveMessagesOptions) ([]*azservicebus.ReceivedMessage, error)
}

// receive gets exactly count messages.
func (n *namespace) receive(from source, count int) []*azservicebus.ReceivedMessage {
	n.t.Helper()
	var got []*azservicebus.ReceivedMessage
	ctx := n.ctx()
	for len(got) < count {
		ms, err := from.ReceiveMessages(ctx, count-len(got), nil)
		if err != nil {
			n.t.Fatalf("after %d of %d messages: %v", len(got), count, err)
		}
		got = append(got, ms...)
	}
	return got
}

// receiveOne gets the next message and checks its body.
func (n *namespace) receiveOne(from source, body string) *azservicebus.ReceivedMessage {
	n.t.Helper()
	m := n.receive(from, 1)[0]
	if string(m.Body) != body {
		n.t.Fatalf("received %q, want %q", m.Body, body)
	}
	return m
}

// nothing checks that there is nothing to receive.
func (n *namespace) nothing(from source) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 100*time.Millisecond)
	defer cancel()
	ms, err := from.ReceiveMessages(ctx, 1, nil)
	if len(ms) != 0 || !errors.Is(err, context.DeadlineExceeded) {
		n.t.Fatalf("received %d messages and %v, want none", len(ms), err)
	}
}

// stats waits until the queue's stats satisfy the test: what a closed link gives
// back arrives a moment after the client thinks it is closed.
func (n *namespace) stats(queue, want string, satisfied func(QueueStats) bool) QueueStats {
	n.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		s := n.srv.Stats()[queue]
		if satisfied(s) {
			return s
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("stats of %s: %+v, want %s", queue, s, want)
		}
		waitABit()
	}
}

// waitABit is the pause between two looks at something.
func waitABit() { <-time.After(2 * time.Millisecond) }

// code is the code of an azservicebus error, or "".
func code(err error) azservicebus.Code {
	var e *azservicebus.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
