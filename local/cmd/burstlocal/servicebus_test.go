package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
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

// noToken is a credential that could not be valid.
type noToken struct{}

func (noToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "none", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// startServiceBus runs the command and returns what it prints as "name: value",
// until stop.
func startServiceBus(t *testing.T, args ...string) (printed map[string]string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	r, w := io.Pipe()
	cmd := newRootCommand()
	cmd.SetOut(w)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(append([]string{"servicebus", "--addr", "127.0.0.1:0"}, args...))
	done := make(chan error, 1)
	go func() {
		err := cmd.ExecuteContext(ctx)
		w.CloseWithError(io.EOF)
		done <- err
	}()
	printed = make(map[string]string)
	for lines := bufio.NewScanner(r); printed["custom endpoint"] == "" && lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ": "); ok {
			printed[name] = value
		}
	}
	return printed, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stopped with %v", err)
		}
	}
}

func TestTheServiceBusCommandServesAsInProduction(t *testing.T) {
	data := t.TempDir()
	for round := range 2 { // the second finds what the first has left
		printed, stop := startServiceBus(t, "--queues", "q", "--tls", "--data", data, "--control", "127.0.0.1:0")
		pem, err := os.ReadFile(printed["certificate authority"])
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		client, err := azservicebus.NewClient(printed["namespace"], noToken{}, &azservicebus.ClientOptions{
			CustomEndpoint: printed["custom endpoint"], TLSConfig: &tls.Config{RootCAs: pool},
			RetryOptions: azservicebus.RetryOptions{MaxRetries: -1},
		})
		if err != nil {
			t.Fatal(err)
		}
		s, err := client.NewSender("q", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SendMessage(t.Context(), &azservicebus.Message{}, nil); err != nil {
			t.Error(err)
		}
		control(t, http.MethodPut, printed["control"]+"/faults/q", `{"busy":1}`)
		if err := s.SendMessage(t.Context(), &azservicebus.Message{}, nil); err == nil || !strings.Contains(err.Error(), "server-busy") {
			t.Errorf("send to a busy queue: %v", err)
		}
		if got, want := control(t, http.MethodGet, printed["control"]+"/stats", ""), fmt.Sprintf(`"active":%d,`, round+1); !strings.Contains(got, want) {
			t.Errorf("stats %s, want %s", got, want)
		}
		_ = client.Close(t.Context())
		stop()
		if _, err := os.Stat(printed["certificate authority"]); !os.IsNotExist(err) {
			t.Errorf("the authority's file is still there: %v", err)
		}
	}
}

func control(t *testing.T, method, url, body string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	rsp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer rsp.Body.Close()
	b, err := io.ReadAll(rsp.Body)
	if err != nil || rsp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %s %v", method, url, rsp.Status, b, err)
	}
	return string(b)
}

func TestTheServiceBusCommandChecksTokens(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	printed, stop := startServiceBus(t, "--queues", "q", "--tls", "--ca", ca, "--jwks", "http://127.0.0.1:1/keys", "--key", "listen=k")
	defer stop()
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	options := &azservicebus.ClientOptions{CustomEndpoint: printed["custom endpoint"], TLSConfig: &tls.Config{RootCAs: pool}}
	send := func(client *azservicebus.Client, err error) error {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close(t.Context())
		s, err := client.NewSender("q", nil)
		if err != nil {
			t.Fatal(err)
		}
		return s.SendMessage(t.Context(), &azservicebus.Message{}, nil)
	}
	var e *azservicebus.Error
	if err := send(azservicebus.NewClient(printed["namespace"], noToken{}, options)); !errors.As(err, &e) || e.Code != azservicebus.CodeUnauthorizedAccess {
		t.Errorf("a token that is none: %v", err)
	}
	signed := "Endpoint=sb://" + printed["namespace"] + "/;SharedAccessKeyName=listen;SharedAccessKey=k"
	if err := send(azservicebus.NewClientFromConnectionString(signed, options)); err != nil {
		t.Errorf("a good key: %v", err)
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
		"a name that is real":    {"--addr 127.0.0.1:0 --queues a --tls --namespace x.servicebus.windows.net", "x.servicebus.windows.net"},
		"a missing certificate":  {"--addr 127.0.0.1:0 --queues a --tls --cert /nonexistent/c.pem", "load certificate"},
		"an open control":        {"--addr 127.0.0.1:0 --queues a --control 0.0.0.0:0", "not a loopback address"},
		"data under a file":      {"--addr 127.0.0.1:0 --queues a --data /dev/null/x", "/dev/null"},
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
