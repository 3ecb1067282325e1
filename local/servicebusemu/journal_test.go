package servicebusemu

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// compareImages ignores what has no meaning in a file.
var compareImages = cmp.Options{
	cmp.AllowUnexported(image{}, stored{}, storedGroup{}, remembered{}), cmpopts.EquateEmpty(),
}

// failer is what *testing.T and *rapid.T share here.
type failer interface {
	Helper()
	Fatal(...any)
}

// inMemory is the image of a live queue.
func inMemory(t failer, j *journal) *image {
	t.Helper()
	var b bytes.Buffer
	j.e.lock()
	err := j.writeSnapshot(&b)
	j.e.unlock()
	if err != nil {
		t.Fatal(err)
	}
	return replayed(t, b.Bytes()[len(j.magic()):])
}

func replayed(t failer, records []byte) *image {
	t.Helper()
	i := newImage()
	if _, err := i.replay(bytes.NewReader(records), int64(len(records))); err != nil {
		t.Fatal(err)
	}
	return i
}

// onDisk is the image in a queue's file.
func onDisk(t failer, j *journal) *image {
	t.Helper()
	b, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	return replayed(t, b[len(j.magic()):])
}

func TestTheFileAlwaysSaysWhatTheMemorySays(t *testing.T) {
	for name, sessions := range map[string]bool{"without sessions": false, "with sessions": true} {
		t.Run(name, func(t *testing.T) {
			root, runs := t.TempDir(), 0
			rapid.Check(t, func(t *rapid.T) {
				runs++
				m := newModel(t, sessions, filepath.Join(root, fmt.Sprint(runs)))
				j := m.srv.journals[0]
				j.growth, j.checkAt = 512, 512 // so that it is compacted now and then
				operations := m.operations()
				operations["write"] = func(t *rapid.T) {
					if err := m.srv.persist(); err != nil {
						t.Fatal(err)
					}
				}
				t.Repeat(operations)
				operations["write"](t)
				if diff := cmp.Diff(inMemory(t, j), onDisk(t, j), compareImages); diff != "" {
					t.Fatalf("memory (-) and file (+) differ:\n%s", diff)
				}
				if err := m.srv.Close(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// restart closes the namespace's server, as a crash between two frames would, and
// starts another one on the same data.
func (n *namespace) restart(cfg Config) {
	n.t.Helper()
	_ = n.client.Close(n.ctx())
	n.must(n.srv.Close())
	cfg.Clock = n.clock
	n.srv, n.addr = startServer(n.t, cfg)
	n.client = n.newClient()
}

func durable(t *testing.T, queues ...QueueConfig) (*namespace, Config) {
	t.Helper()
	cfg := Config{Queues: queues, Clock: newManualClock(), Data: t.TempDir()}
	n := &namespace{t: t, clock: cfg.Clock.(*manualClock)}
	n.srv, n.addr = startServer(t, cfg)
	n.client = n.newClient()
	return n, cfg
}

func TestEverythingButLocksSurvivesARestart(t *testing.T) {
	n, cfg := durable(t, QueueConfig{Name: "q", MaxDeliveryCount: 3, DuplicateDetection: time.Minute})
	n.send("q", "", "completed", "locked", "deferred", "abandoned", "dead", "untouched")
	n.must(n.sender("q").SendMessage(n.ctx(), &azservicebus.Message{
		Body: []byte("full"), MessageID: to.Ptr("id"), Subject: to.Ptr("s"), TimeToLive: to.Ptr(time.Hour), PartitionKey: to.Ptr("p"),
		ApplicationProperties: map[string]any{"k": int64(7)},
	}, nil))
	numbers, err := n.sender("q").ScheduleMessages(n.ctx(), []*azservicebus.Message{{Body: []byte("later")}, {Body: []byte("cancelled")}}, n.clock.Now().Add(time.Hour), nil)
	n.must(err)
	n.must(n.sender("q").CancelScheduledMessages(n.ctx(), numbers[1:], nil))
	r := n.receiver("q", nil)
	n.must(r.CompleteMessage(n.ctx(), n.receiveOne(r, "completed"), nil))
	locked, deferred := n.receiveOne(r, "locked"), n.receiveOne(r, "deferred")
	n.must(r.DeferMessage(n.ctx(), deferred, nil))
	abandoned, dead := n.receiveOne(r, "abandoned"), n.receiveOne(r, "dead")
	n.must(r.DeadLetterMessage(n.ctx(), dead, &azservicebus.DeadLetterOptions{Reason: to.Ptr("why"), ErrorDescription: to.Ptr("because")}))
	n.must(r.AbandonMessage(n.ctx(), abandoned, &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"try": int32(1)}}))

	for round := range 2 { // the second time from a snapshot alone
		n.restart(cfg)
		if s := n.srv.Stats()["q"]; s.Active != 4 || s.Locked != 0 || s.Deferred != 1 || s.Scheduled != 1 || s.DeadLettered != 1 {
			t.Fatalf("after restart %d: %+v", round, s)
		}
	}
	r = n.receiver("q", nil)
	if err := r.CompleteMessage(n.ctx(), locked, nil); code(err) != azservicebus.CodeLockLost {
		t.Errorf("a lock from before the restart: %v", err)
	}
	if m := n.receiveOne(r, "locked"); m.DeliveryCount != 2 || m.LockToken == locked.LockToken {
		t.Errorf("delivery count %d", m.DeliveryCount)
	}
	if m := n.receiveOne(r, "abandoned"); m.DeliveryCount != 2 || m.ApplicationProperties["try"] != int32(1) || *m.SequenceNumber != *abandoned.SequenceNumber {
		t.Errorf("abandoned: count %d, %v", m.DeliveryCount, m.ApplicationProperties)
	}
	n.receiveOne(r, "untouched")
	full := n.receiveOne(r, "full")
	if full.MessageID != "id" || *full.Subject != "s" || *full.TimeToLive != time.Hour || *full.PartitionKey != "p" || full.ApplicationProperties["k"] != int64(7) ||
		!full.EnqueuedTime.Equal(n.clock.Now().UTC().Truncate(time.Millisecond)) {
		t.Errorf("full: %+v", full)
	}
	if m := n.receiveOne(n.deadLetters("q"), "dead"); *m.DeadLetterReason != "why" || *m.DeadLetterErrorDescription != "because" || m.DeliveryCount != 1 {
		t.Errorf("dead: %+v", m)
	}
	ms, err := r.ReceiveDeferredMessages(n.ctx(), []int64{*deferred.SequenceNumber}, nil)
	n.must(err)
	n.must(r.CompleteMessage(n.ctx(), ms[0], nil))
	n.must(n.sender("q").SendMessage(n.ctx(), &azservicebus.Message{Body: []byte("again"), MessageID: to.Ptr("id")}, nil))
	n.nothing(r) // a duplicate of before the restart
	n.clock.advance(time.Hour)
	for range 3 { // the scheduled one, and those whose locks ended
		m := n.receive(r, 1)[0]
		if string(m.Body) == "later" && *m.SequenceNumber <= numbers[1] {
			t.Errorf("sequence number %d was given twice", *m.SequenceNumber)
		}
	}
}

// A number that went to a duplicate stands for nothing, after a restart too.
func TestNumbersOfDuplicatesAreNotUsedAgainAfterARestart(t *testing.T) {
	n, cfg := durable(t, QueueConfig{Name: "q", DuplicateDetection: time.Minute})
	id := "1"
	for range 2 {
		n.must(n.sender("q").SendMessage(n.ctx(), &azservicebus.Message{MessageID: &id, Body: []byte("a")}, nil))
	}
	n.restart(cfg)
	n.send("q", "", "b")
	ms := n.receive(n.receiver("q", nil), 2)
	if first, second := *ms[0].SequenceNumber, *ms[1].SequenceNumber; first != 1 || second != 3 {
		t.Errorf("sequence numbers %d and %d, want 1 and 3", first, second)
	}
}

func TestSessionsAndTheirStatesSurviveARestart(t *testing.T) {
	n, cfg := durable(t, QueueConfig{Name: "s", RequiresSession: true})
	n.send("s", "x", "x1", "x2", "x3")
	r := n.accept("x")
	n.must(r.CompleteMessage(n.ctx(), n.receiveOne(r, "x1"), nil))
	n.receiveOne(r, "x2")
	n.must(r.SetSessionState(n.ctx(), []byte("state"), nil))
	empty := n.accept("empty")
	n.must(empty.SetSessionState(n.ctx(), []byte("kept"), nil))
	other := n.accept("other")
	n.must(other.SetSessionState(n.ctx(), []byte("x"), nil))
	n.must(other.SetSessionState(n.ctx(), nil, nil))
	// The connection is cut with the holder still in charge: its session is free.
	n.must(n.srv.Close())
	n.restart(cfg)
	r = n.accept("x")
	state, err := r.GetSessionState(n.ctx(), nil)
	n.must(err)
	if string(state) != "state" {
		t.Errorf("state %q", state)
	}
	n.receiveOne(r, "x2")
	n.receiveOne(r, "x3")
	if s := n.srv.Stats()["s"]; s.Sessions != 2 {
		t.Errorf("stats: %+v", s)
	}
}

func TestTheFileIsReadUpToTheFirstBadRecord(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func([]byte) []byte
		left  int
	}{
		"nothing spoilt":    {func(b []byte) []byte { return b }, 3},
		"a torn tail":       {func(b []byte) []byte { return b[:len(b)-3] }, 2},
		"a tail of zeroes":  {func(b []byte) []byte { return append(b, make([]byte, 100)...) }, 3},
		"a header only":     {func(b []byte) []byte { return append(b, 0, 0, 0, 9, 1) }, 3},
		"a length too long": {func(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1) }, 3},
		"a bit in the last": {func(b []byte) []byte { b[len(b)-1] ^= 4; return b }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			n, cfg := durable(t, QueueConfig{Name: "q"})
			n.send("q", "", "a", "b", "c")
			n.must(n.client.Close(n.ctx()))
			n.must(n.srv.Close())
			path := filepath.Join(cfg.Data, "q.log")
			b, err := os.ReadFile(path)
			n.must(err)
			n.must(os.WriteFile(path, c.spoil(b), 0o600))
			for range 2 { // what is sent after the damage is read as well
				n.restart(cfg)
				if s := n.srv.Stats()["q"]; s.Active != c.left {
					t.Fatalf("%d left, want %d", s.Active, c.left)
				}
				n.send("q", "", "more")
				c.left++
			}
		})
	}
}

func TestABatchIsInTheFileWholeOrNotAtAll(t *testing.T) {
	n, cfg := durable(t, QueueConfig{Name: "q"})
	s := n.sender("q")
	batch, err := s.NewMessageBatch(n.ctx(), nil)
	n.must(err)
	for i := range 20 {
		n.must(batch.AddMessage(&azservicebus.Message{Body: fmt.Append(nil, i)}, nil))
	}
	n.must(s.SendMessageBatch(n.ctx(), batch, nil))
	n.must(n.client.Close(n.ctx()))
	n.must(n.srv.Close())
	path := filepath.Join(cfg.Data, "q.log")
	whole, err := os.ReadFile(path)
	n.must(err)
	for cut := len(fileMagic) + 1; cut <= len(whole); cut += 7 {
		i := newImage()
		_, _ = i.replay(bytes.NewReader(whole[len(fileMagic)+1:cut]), int64(cut-len(fileMagic)-1))
		if got := len(i.messages[0]); got != 0 && got != 20 {
			t.Fatalf("%d messages of a batch after %d of %d bytes", got, cut, len(whole))
		}
	}
}

func TestADeadFileIsCompacted(t *testing.T) {
	n, cfg := durable(t, QueueConfig{Name: "q"})
	r := n.receiver("q", nil)
	n.send("q", "", "kept")
	n.receiveOne(r, "kept")
	body := strings.Repeat("x", 100<<10)
	for range 60 {
		n.send("q", "", body)
		n.must(r.CompleteMessage(n.ctx(), n.receiveOne(r, body), nil))
	}
	info, err := os.Stat(filepath.Join(cfg.Data, "q.log"))
	n.must(err)
	if info.Size() > 3*minGrowth {
		t.Errorf("the file has %d bytes for one message", info.Size())
	}
	n.restart(cfg)
	n.receiveOne(n.receiver("q", nil), "kept")
}

func TestDataThatCannotBeUsedIsRefused(t *testing.T) {
	n, cfg := durable(t, QueueConfig{Name: "a/b"})
	n.send("a/b", "", "a")
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("a second server on the same data: %v", err)
	}
	n.must(n.client.Close(n.ctx()))
	n.must(n.srv.Close())
	changed := cfg
	changed.Queues = []QueueConfig{{Name: "a/b", RequiresSession: true}}
	if _, err := New(changed); err == nil || !strings.Contains(err.Error(), `queue "a/b"`) {
		t.Errorf("a queue that now requires sessions: %v", err)
	}
	cfg.Data = filepath.Join(cfg.Data, "lock", "x")
	if _, err := New(cfg); err == nil {
		t.Error("a directory under a file was opened")
	}
}

func TestAServerThatCannotWriteAnswersNothing(t *testing.T) {
	srv, err := New(Config{Queues: []QueueConfig{{Name: "q"}}, Data: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	l, done := serve(t, srv)
	client := dial(t, l)
	s, err := client.NewSender("q", nil)
	if err != nil {
		t.Fatal(err)
	}
	n := &namespace{t: t, srv: srv, addr: l, client: client}
	n.must(s.SendMessage(n.ctx(), &azservicebus.Message{}, nil))
	_ = srv.journals[0].file.Close()
	if err := s.SendMessage(n.ctx(), &azservicebus.Message{}, nil); err == nil {
		t.Error("a send was answered that is not in the file")
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("the server stopped with %v", err)
	}
	if err := srv.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed with %v", err)
	}
}

func FuzzReplay(f *testing.F) {
	m := &message{content: content{properties: emptyProperties, body: []byte{ctorDescribed, ctorSmallUlng, codeData, ctorBinary8, 0}}}
	m.logged = place{0, 7}
	b, start := beginRecord(nil)
	b = appendMark(appendDelete(appendMessage(b, place{}, m, true), place{1, 3}), 1, 9)
	b = appendGroup(appendSeen(b, remembered{"id", time.Unix(5, 0)}), &group{id: "x", state: []byte("s")})
	f.Add(endRecord(b, start))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > recordHeader { // so that more than the checksum is tested
			b = endRecord(bytes.Clone(b), 0)
			binary.BigEndian.PutUint32(b, uint32(len(b)-recordHeader))
		}
		good, err := newImage().replay(bufio.NewReader(bytes.NewReader(b)), int64(len(b)))
		if (err == nil) != (good == int64(len(b))) {
			t.Errorf("%d of %d bytes are good: %v", good, len(b), err)
		}
	})
}
