package agent_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/slurmburst/slurmburst/internal/agent"
	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/local/servicebusemu"
)

// patience is how long one step may take on a slow machine. A batch job on a
// cloud node alone may need 30 s (PERIODIC_TIMEOUT of slurmctld).
const patience = 2 * time.Minute

const (
	cluster       = "onprem"
	pressureQueue = "queue-pressure"
	commandQueue  = "slurm-commands-" + cluster
)

// cloud is the other end of the conversation: a broker, whoever takes the
// snapshots, and a sender of commands.
type cloud struct {
	t      *testing.T
	addr   string
	server *servicebusemu.Server
	client *bus.Client

	mu        sync.Mutex
	snapshots []event.QueuePressure
	failure   error
	commands  int64
}

// startBroker serves the queues of infra/queues.json, with another lock
// duration for the command queue, at the address; port 0 picks one.
func startBroker(t *testing.T, addr string, lock time.Duration) (*servicebusemu.Server, string) {
	t.Helper()
	queues, err := servicebusemu.LoadQueues("../../infra/queues.json", cluster)
	if err != nil {
		t.Fatal(err)
	}
	for i := range queues {
		if queues[i].Name == commandQueue {
			queues[i].LockDuration = lock
		}
	}
	server, err := servicebusemu.New(servicebusemu.Config{Queues: queues})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	stop := sync.OnceFunc(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done // its error only says that the server was closed
	})
	t.Cleanup(stop)
	return server, listener.Addr().String()
}

func connect(t *testing.T, addr string) *bus.Client {
	t.Helper()
	client, err := bus.New(bus.Options{
		ConnectionString: servicebusemu.ConnectionString(addr),
		Client:           azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{MaxRetries: 2, RetryDelay: 20 * time.Millisecond}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// newCloud starts a broker and takes every snapshot that comes.
func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{t: t}
	c.server, c.addr = startBroker(t, "127.0.0.1:0", agent.DefaultLock)
	c.client = connect(t, c.addr)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.take(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if c.failure != nil {
			t.Errorf("taking snapshots: %v", c.failure)
		}
	})
	return c
}

func (c *cloud) take(ctx context.Context) {
	session, err := c.client.AcceptSession(ctx, pressureQueue, cluster)
	for err == nil && ctx.Err() == nil {
		var messages []bus.Received
		messages, err = session.Receive(ctx, 10)
		for _, m := range messages {
			encoding, _ := m.Properties[event.EncodingProperty].(string)
			q, decodeErr := event.DecodeQueuePressure(m.Body, encoding)
			c.mu.Lock()
			c.snapshots = append(c.snapshots, q)
			c.mu.Unlock()
			err = errors.Join(err, decodeErr, session.Complete(ctx, m))
		}
	}
	if ctx.Err() == nil {
		c.mu.Lock()
		c.failure = err
		c.mu.Unlock()
	}
}

// taken gives the snapshots so far.
func (c *cloud) taken() []event.QueuePressure {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.snapshots)
}

// await waits for a snapshot from number from on of which the claim holds.
func (c *cloud) await(what string, from int, claim func(event.QueuePressure) bool) event.QueuePressure {
	c.t.Helper()
	var found event.QueuePressure
	eventually(c.t, what, func() (bool, string) {
		all := c.taken()
		for _, q := range all[min(from, len(all)):] {
			if claim(q) {
				found = q
				return true, ""
			}
		}
		if len(all) == 0 {
			return false, "no snapshot"
		}
		return false, fmt.Sprintf("%d snapshots, the last: %+v", len(all), all[len(all)-1])
	})
	return found
}

// send gives the agent a command.
func (c *cloud) send(command event.SlurmCommand) event.SlurmCommand {
	c.t.Helper()
	c.commands++
	if command.ID == "" {
		command.ID = fmt.Sprintf("%s/%d/01", cluster, c.commands)
	}
	if command.Generation == 0 {
		command.Generation = c.commands
	}
	command.Cluster, command.ExpiresAt = cluster, time.Now().Add(patience)
	command.Attempt = max(command.Attempt, 1)
	m, err := command.Encode(time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	out := bus.Message{ID: m.ID, SessionID: m.SessionID, ContentType: event.ContentType, Body: m.Body, TTL: m.TTL}
	if m.Encoding != "" {
		out.Properties = map[string]any{event.EncodingProperty: m.Encoding}
	}
	if err := c.client.Send(c.t.Context(), commandQueue, out); err != nil {
		c.t.Fatal(err)
	}
	return command
}

// order sends a command and gives its result and the snapshot that told it.
func (c *cloud) order(command event.SlurmCommand) (event.CommandResult, event.QueuePressure) {
	c.t.Helper()
	from := len(c.taken())
	command = c.send(command)
	var result event.CommandResult
	q := c.await("the result of "+string(command.Kind)+" "+command.ID, from, func(q event.QueuePressure) bool {
		for _, r := range q.CommandResults {
			if r.ID == command.ID {
				result = r
				return true
			}
		}
		return false
	})
	return result, q
}

func (c *cloud) orderOK(command event.SlurmCommand) event.QueuePressure {
	c.t.Helper()
	result, q := c.order(command)
	if result.State != event.ResultOK || result.Stale != "" || result.Failed != "" {
		c.t.Fatalf("%s of %s %s: %+v", command.Kind, command.Nodes, command.Jobs, result)
	}
	return q
}

// stateOf gives a node's base state and flags in a snapshot, "IDLE+DRAIN", and
// the group that it is in.
func stateOf(q event.QueuePressure, node string) (string, event.NodeGroup) {
	for _, array := range q.CloudNodes {
		for _, group := range array.Groups {
			names, err := slurm.ParseHostlist(group.Nodes)
			if err == nil && slices.Contains(names, slurm.NodeName(node)) {
				return strings.Join(append([]string{group.State}, group.Flags...), "+"), group
			}
		}
	}
	return "off", event.NodeGroup{}
}

// eventually polls until claim holds; claim also says what it saw.
func eventually(t *testing.T, what string, claim func() (bool, string)) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		holds, seen := claim()
		if holds {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("not so after %v: %s; last seen: %s", patience, what, seen)
		}
	}
}

// runAgent runs an agent until the returned function is called or the test ends.
func runAgent(t *testing.T, options agent.Options) (stop func()) {
	t.Helper()
	a, err := agent.New(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// testLogger writes the agent's log into the test's, until the test ends.
func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func decimal(n int) string { return strconv.Itoa(n) }
