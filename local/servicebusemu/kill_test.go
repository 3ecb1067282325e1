package servicebusemu

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// childEnv makes the test binary an emulator with the configuration in it.
const childEnv = "SERVICEBUSEMU_TEST_CHILD"

func TestMain(m *testing.M) {
	if cfg := os.Getenv(childEnv); cfg != "" {
		fmt.Fprintln(os.Stderr, serveAsChild(cfg))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// childConfig is what a child is told.
type childConfig struct {
	Data   string
	Queues []QueueConfig
}

// serveAsChild serves until the process is killed. It ends by itself when the
// parent, which holds the other end of its standard input, is gone.
func serveAsChild(encoded string) error {
	var child childConfig
	if err := json.Unmarshal([]byte(encoded), &child); err != nil {
		return err
	}
	srv, err := New(Config{Data: child.Data, Queues: child.Queues})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(1)
	}()
	return srv.Serve(l)
}

// startChild runs an emulator as a process of its own and returns its address and
// a function that kills it.
func startChild(t *testing.T, cfg Config) (addr string, kill func()) {
	t.Helper()
	encoded, err := json.Marshal(childConfig{cfg.Data, cfg.Queues})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(encoded))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = in.Close()
	})
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the emulator did not start: %v", err)
	}
	return strings.TrimSpace(line), kill
}

// ledger is what the clients have been told.
type ledger struct {
	mu        sync.Mutex
	next      map[string]int  // by session: number to send next
	sent      map[string]bool // acknowledged
	completed map[string]bool // acknowledged
	asked     map[string]bool // completion asked for, answered or not
	seen      map[string]int  // by session: highest number received
	states    map[string]int  // by session: highest state acknowledged
	wrong     []string
}

const killSessions = 3

func newLedger() *ledger {
	return &ledger{
		next: make(map[string]int), sent: make(map[string]bool), completed: make(map[string]bool),
		asked: make(map[string]bool), seen: make(map[string]int), states: make(map[string]int),
	}
}

func (l *ledger) with(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// produce sends numbered messages to one session, or to the plain queue if it is
// empty, each until it is acknowledged.
func (l *ledger) produce(ctx context.Context, client *azservicebus.Client, queue, session string) {
	s, err := client.NewSender(queue, nil)
	if err != nil {
		return
	}
	key := queue + session
	for ctx.Err() == nil {
		var number int
		l.with(func() { number = l.next[key] + 1 })
		m := &azservicebus.Message{Body: fmt.Appendf(nil, "%s/%d", key, number)}
		if queue == "s" {
			m.SessionID = &session
		}
		if s.SendMessage(ctx, m, nil) == nil {
			l.with(func() { l.next[key], l.sent[string(m.Body)] = number, true })
		}
	}
}

// consume completes whatever it receives.
func (l *ledger) consume(ctx context.Context, r settler, each func(*azservicebus.ReceivedMessage)) {
	for ctx.Err() == nil {
		ms, err := r.ReceiveMessages(ctx, 5, nil)
		if err != nil {
			return
		}
		for _, m := range ms {
			body := string(m.Body)
			l.received(body, m.SessionID != nil)
			l.with(func() { l.asked[body] = true })
			if r.CompleteMessage(ctx, m, nil) == nil {
				l.with(func() { l.completed[body] = true })
				each(m)
			}
		}
	}
}

// received checks that a session skips nothing: what is new follows on what was
// highest. Repetitions are allowed.
func (l *ledger) received(body string, inSession bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.completed[body] && !inSession {
		// Sent twice, because the first answer was lost.
		return
	}
	key, text, _ := strings.Cut(body, "/")
	number, _ := strconv.Atoi(text)
	if inSession && number > l.seen[key]+1 {
		l.wrong = append(l.wrong, fmt.Sprintf("%s came after %d", body, l.seen[key]))
	}
	l.seen[key] = max(l.seen[key], number)
}

// work runs clients against the emulator until ctx ends.
func (l *ledger) work(ctx context.Context, t *testing.T, addr string) {
	var all sync.WaitGroup
	defer all.Wait()
	for i := range 4 {
		client := dial(t, addr)
		all.Go(func() { l.produce(ctx, client, "q", fmt.Sprint(i)) })
	}
	for i := range killSessions {
		client := dial(t, addr)
		id := fmt.Sprint(i)
		all.Go(func() { l.produce(ctx, client, "s", id) })
		all.Go(func() { l.holdSession(ctx, client, id) })
	}
	client := dial(t, addr)
	all.Go(func() {
		if r, err := client.NewReceiverForQueue("q", nil); err == nil {
			l.consume(ctx, r, func(*azservicebus.ReceivedMessage) {})
		}
	})
}

// holdSession consumes a session and keeps a count in its state.
func (l *ledger) holdSession(ctx context.Context, client *azservicebus.Client, id string) {
	r, err := client.AcceptSessionForQueue(ctx, "s", id, nil)
	if err != nil {
		return
	}
	b, err := r.GetSessionState(ctx, nil)
	if err != nil {
		return
	}
	state, _ := strconv.Atoi(string(b))
	l.with(func() {
		if state < l.states[id] {
			l.wrong = append(l.wrong, fmt.Sprintf("the state of session %s is %d, and %d was acknowledged", id, state, l.states[id]))
		}
	})
	l.consume(ctx, r, func(*azservicebus.ReceivedMessage) {
		state++
		if r.SetSessionState(ctx, fmt.Append(nil, state), nil) == nil {
			l.with(func() { l.states[id] = state })
		}
	})
}

// A process that is killed at any moment has lost nothing that it acknowledged.
func TestNothingAcknowledgedIsLostWhenTheProcessIsKilled(t *testing.T) {
	const rounds = 10
	cfg := Config{Data: t.TempDir(), Queues: []QueueConfig{
		{Name: "q", MaxDeliveryCount: 2000}, {Name: "s", RequiresSession: true, MaxDeliveryCount: 2000},
	}}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	l := newLedger()
	for range rounds {
		addr, kill := startChild(t, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		var working sync.WaitGroup
		working.Go(func() { l.work(ctx, t, addr) })
		<-time.After(100*time.Millisecond + time.Duration(random.Int64N(int64(400*time.Millisecond))))
		kill()
		cancel()
		working.Wait()
	}
	srv, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	left := make(map[string]bool)
	for _, name := range []string{"q", "s"} {
		for key, bodies := range leftIn(srv.entities[name].main) {
			if name == "s" && !slices.IsSorted(bodies) {
				t.Errorf("session %s is out of order: %v", key, bodies)
			}
			for _, number := range bodies {
				left[fmt.Sprintf("%s/%d", key, number)] = true
			}
		}
	}
	if len(l.sent) < rounds || len(l.completed) < rounds {
		t.Fatalf("too little load to show anything: %d sent, %d completed", len(l.sent), len(l.completed))
	}
	for body := range l.sent {
		if !l.asked[body] && !left[body] {
			t.Errorf("%s was acknowledged, and is lost", body)
		}
	}
	for _, wrong := range l.wrong {
		t.Error(wrong)
	}
	t.Logf("%d sends and %d completions acknowledged, %d messages left", len(l.sent), len(l.completed), len(left))
}

// leftIn lists the numbers of the messages in q, in order, by what precedes them.
func leftIn(q *queue) map[string][]int {
	q.e.lock()
	defer q.e.unlock()
	left := make(map[string][]int)
	q.index.from(0, func(m *message) bool {
		key, number, _ := strings.Cut(string(m.body[5:]), "/")
		n, _ := strconv.Atoi(number)
		left[key] = append(left[key], n)
		return true
	})
	return left
}

// witness is a listener whose connections look at a file before each write.
type witness struct {
	net.Listener
	path string

	mu   sync.Mutex
	file []byte // when the latest write began
}

type witnessed struct {
	net.Conn
	w *witness
}

func (w *witness) Accept() (net.Conn, error) {
	nc, err := w.Listener.Accept()
	return witnessed{nc, w}, err
}

func (c witnessed) Write(b []byte) (int, error) {
	file, err := os.ReadFile(c.w.path)
	if err != nil {
		return 0, err
	}
	c.w.mu.Lock()
	c.w.file = file
	c.w.mu.Unlock()
	return c.Conn.Write(b)
}

// What an answer tells of is in the file before the answer is written.
func TestTheFileIsWrittenBeforeTheAnswer(t *testing.T) {
	for name, fsync := range map[string]bool{"to the system": false, "to the disk": true} {
		t.Run(name, func(t *testing.T) {
			srv, err := New(Config{Queues: []QueueConfig{{Name: "q"}}, Data: t.TempDir(), Fsync: fsync})
			if err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			w := &witness{Listener: l, path: srv.journals[0].path}
			done := serveOn(srv, w)
			n := &namespace{t: t, srv: srv, addr: l.Addr().String()}
			n.client = n.newClient()
			s, r := n.sender("q"), n.receiver("q", nil)
			for range 3 {
				n.must(s.SendMessage(n.ctx(), &azservicebus.Message{Body: []byte("a")}, nil))
				w.said(t, stateActive, 0, 1)
				m := n.receiveOne(r, "a")
				w.said(t, stateLocked, 0, 1)
				n.must(r.AbandonMessage(n.ctx(), m, nil))
				m = n.receiveOne(r, "a")
				w.said(t, stateLocked, 1, 1)
				n.must(r.CompleteMessage(n.ctx(), m, nil))
				w.said(t, stateActive, 0, 0)
			}
			n.must(srv.Close())
			n.must(<-done)
		})
	}
}

// said checks that the file had so many messages, all alike, when the latest write
// began.
func (w *witness) said(t *testing.T, want messageState, deliveries uint32, count int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	messages := replayed(t, w.file[len(fileMagic)+1:]).messages[0]
	if len(messages) != count {
		t.Fatalf("%d messages in the file, want %d", len(messages), count)
	}
	for _, m := range messages {
		if m.state != want || m.deliveryCount != deliveries {
			t.Fatalf("the file has a message in state %d after %d deliveries, want %d and %d", m.state, m.deliveryCount, want, deliveries)
		}
	}
}
