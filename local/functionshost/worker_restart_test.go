package functionshost

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// lateEnds dials connections that do not notice that their far end is gone, as one
// does not for a moment after a process was killed.
type lateEnds struct {
	mu   sync.Mutex
	open map[*lateEnd]struct{}
}

type lateEnd struct {
	net.Conn
	ends   *lateEnds
	closed chan struct{}
	once   sync.Once
}

func (e *lateEnds) dial(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &lateEnd{Conn: nc, ends: e, closed: make(chan struct{})}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open[c] = struct{}{}
	return c, nil
}

func (e *lateEnds) all() (open []*lateEnd) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.open {
		open = append(open, c)
	}
	return open
}

func (c *lateEnd) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n == 0 && err != nil {
		<-c.closed
	}
	return n, err
}

func (c *lateEnd) Close() error {
	c.once.Do(func() {
		c.ends.mu.Lock()
		defer c.ends.mu.Unlock()
		delete(c.ends.open, c)
		close(c.closed)
	})
	return c.Conn.Close()
}

// No call goes out on a connection to a process that has ended, even if the host
// has not noticed its end.
func TestNoConnectionOutlivesItsHandler(t *testing.T) {
	t.Parallel()
	a := oneFunction(t)
	h, err := New(a.config())
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWorker(h.cfg, h.file, "app")
	if err != nil {
		t.Fatal(err)
	}
	ends := &lateEnds{open: make(map[*lateEnd]struct{})}
	w.client.Transport.(*http.Transport).DialContext = ends.dial
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	call := func(order string) error {
		_, err := newCaller(ctx, h.cfg, w, &counters{}).post(h.functions[0], []byte(`{"Data":{"msg":"`+order+`"}}`), &Invocation{})
		return err
	}
	var together sync.WaitGroup
	for range 3 { // calls at the same time have connections of their own
		together.Go(func() {
			if err := call("sleep 1s"); err != nil {
				t.Error(err)
			}
		})
	}
	together.Wait()
	old, first := ends.all(), w.running()
	if len(old) < 3 {
		t.Fatalf("%d connections after three calls at once", len(old))
	}
	first.Kill()
	w.noticed(first)
	poll(t, "the restart", func() bool { state, _ := w.current(); return state == WorkerReady && w.running() != first })
	for _, c := range old {
		select {
		case <-c.closed:
		case <-time.After(30 * time.Second):
			t.Fatal("a connection to the handler that was killed is kept for calls")
		}
	}
	for range 3 {
		if err := call("stdout still here"); err != nil {
			t.Errorf("a call after the restart: %v", err)
		}
	}
}

// When the platform replaces a host that stopped, HTTP calls and messages go to the
// handler of the new one, on its port, and the old one's is asked nothing more.
func TestCallsGoToTheHandlerOfTheHostThatIsThere(t *testing.T) {
	t.Parallel()
	a := newApp(t, goodHost, map[string]string{
		"orders": `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","route":"orders","authLevel":"anonymous"},{"type":"http","direction":"out","name":"res"}]}`,
		"work":   workFunction,
	})
	var base string
	r := a.run(func(c *Config) { base, c.HostRestartDelay = listen(t, c), 10*time.Millisecond })
	for start := 1; start <= 3; start++ {
		r.starts(t, start)
		if err := r.KillHandler("work"); err != nil {
			t.Fatal(err)
		}
	}
	poll(t, "the second host", func() bool {
		s := r.Stats().Instances[0]
		return s.HostStarts == 2 && s.Starts == 1 && s.State == WorkerReady
	})
	if status, body, _ := ask(t, http.MethodGet, base+"/api/orders", "", nil); status != http.StatusFound {
		t.Errorf("a request to the second host: %d %q", status, body)
	}
	r.bus.send("s", "m-1", "stdout here")
	poll(t, "the message's call", func() bool { completed, _ := r.bus.settled(); return len(completed) == 1 })
	for _, c := range r.seen.calls() {
		if !c.OK() {
			t.Errorf("call %+v", c)
		}
	}
}
