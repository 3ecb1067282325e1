package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

func TestTheServiceBusCommandServesUntilItIsStopped(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queues.json")
	if err := os.WriteFile(file, []byte(`{"queues":[{"name":"of-{cluster}"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	r, w := io.Pipe()
	cmd := newRootCommand()
	cmd.SetOut(w)
	cmd.SetErr(io.Discard)
	cmd.SetArgs([]string{"servicebus", "--addr", "127.0.0.1:0", "--queues", "a,b", "--session-queues", "s", "--queues-file", file, "--cluster", "c1"})
	done := make(chan error, 1)
	go func() {
		err := cmd.ExecuteContext(ctx)
		w.CloseWithError(io.EOF)
		done <- err
	}()
	var connection string
	for lines := bufio.NewScanner(r); connection == "" && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "Endpoint=") {
			connection = lines.Text()
		}
	}
	if connection == "" {
		t.Fatalf("no connection string was printed: %v", <-done)
	}
	client, err := azservicebus.NewClientFromConnectionString(connection, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, queue := range []string{"a", "b", "of-c1"} {
		s, err := client.NewSender(queue, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SendMessage(ctx, &azservicebus.Message{Body: []byte("x")}, nil); err != nil {
			t.Errorf("send to %s: %v", queue, err)
		}
	}
	if _, err := client.AcceptSessionForQueue(ctx, "s", "x", nil); err != nil {
		t.Errorf("accept: %v", err)
	}
	_ = client.Close(ctx)
	stop()
	if err := <-done; err != nil {
		t.Errorf("stopped with %v", err)
	}
}

func TestTheServiceBusCommandRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		args string
		want string
	}{
		"no queues":              {"--addr 127.0.0.1:0", "no queues"},
		"a name that is illegal": {"--addr 127.0.0.1:0 --queues a*", `queue "a*": Name`},
		"a lock too long":        {"--addr 127.0.0.1:0 --queues a --lock-duration 1h", "LockDuration"},
		"an open address":        {"--addr 0.0.0.0:0 --queues a", "not a loopback address"},
		"an address of no kind":  {"--addr nothing --queues a", `"nothing"`},
		"a file that is absent":  {"--queues-file /nonexistent/queues.json", "/nonexistent/queues.json"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := newRootCommand()
			cmd.SetOut(io.Discard)
			cmd.SetErr(io.Discard)
			cmd.SetArgs(append([]string{"servicebus"}, strings.Fields(c.args)...))
			if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want something about %q", err, c.want)
			}
		})
	}
}
