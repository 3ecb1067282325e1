package connect_test

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/slurmburst/slurmburst/cmd/internal/connect"
	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/config"
	"github.com/slurmburst/slurmburst/local/azurite"
	"github.com/slurmburst/slurmburst/local/ca"
	"github.com/slurmburst/slurmburst/local/identity"
	"github.com/slurmburst/slurmburst/local/servicebusemu"
	"github.com/slurmburst/slurmburst/local/setup"
)

const namespace = "ns.servicebus.test"

// authority is trusted by this process, in the way that a site would do it: by
// SSL_CERT_FILE, which crypto/x509 reads once.
var authority *ca.Authority

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "connect-")
	if err == nil {
		authority, err = ca.New()
	}
	if err == nil {
		err = authority.WriteFile(filepath.Join(dir, "ca.pem"))
	}
	if err == nil {
		err = os.Setenv("SSL_CERT_FILE", filepath.Join(dir, "ca.pem"))
	}
	if err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(dir) // a directory in the system's own
	os.Exit(code)
}

// serve runs a server on a free port until the test is over.
func serve(t *testing.T, do func(net.Listener) error, stop func() error) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := do(listener); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		running.Wait()
	})
	return listener.Addr().String()
}

func leaf(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	l, err := authority.Leaf(names...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// identities serves identities and puts the endpoint into this process's
// environment, as the platform does. It gives the user-assigned one: a new one,
// because azidentity keeps tokens for the whole process.
func identities(t *testing.T) (server *identity.Server, address, clientID string) {
	t.Helper()
	clientID = uuid.NewString()
	server, err := identity.New(identity.Config{ClientIDs: []string{clientID}, SystemAssigned: uuid.NewString()})
	if err != nil {
		t.Fatal(err)
	}
	address = serve(t, server.Serve, server.Close)
	for name, value := range server.Environment(address) {
		t.Setenv(name, value)
	}
	return server, address, clientID
}

// broker serves the queue q by TLS under a name, to bearers of tokens.
func broker(t *testing.T, server *identity.Server, address, name string) (endpoint string) {
	t.Helper()
	emulator, err := servicebusemu.New(servicebusemu.Config{
		Queues: []servicebusemu.QueueConfig{{Name: "q"}},
		TLS:    &tls.Config{Certificates: []tls.Certificate{leaf(t, name)}},
		Auth: &servicebusemu.Auth{Tokens: &servicebusemu.TokenAuth{
			Key: servicebusemu.KeySet("http://" + address + identity.KeysPath), Issuer: server.Issuer(),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, emulator.Serve, emulator.Close)
}

// send sends one message with what the settings open.
func send(t *testing.T, settings config.ServiceBus) error {
	t.Helper()
	client, err := connect.Bus(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	began := time.Now()
	err = client.Send(ctx, "q", bus.Message{ID: "m-1", Body: []byte("{}")})
	t.Logf("%s: %v", time.Since(began), err)
	return err
}

func TestServiceBusIsReachedWithAManagedIdentity(t *testing.T) {
	server, address, clientID := identities(t)
	endpoint := broker(t, server, address, namespace)
	for name, id := range map[string]string{"user-assigned": clientID, "what the machine offers": ""} {
		if err := send(t, config.ServiceBus{Namespace: namespace, ClientID: id, CustomEndpoint: endpoint}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	grants := server.Grants()
	if len(grants) < 2 || grants[0].Resource != identity.ServiceBus {
		t.Errorf("tokens were given for %+v", grants)
	}
}

func TestTheAddressThatIsDialledProvesNothing(t *testing.T) {
	server, address, clientID := identities(t)
	endpoint := broker(t, server, address, "other.servicebus.test")
	err := send(t, config.ServiceBus{Namespace: namespace, ClientID: clientID, CustomEndpoint: endpoint})
	if err == nil || !strings.Contains(err.Error(), "certificate is valid for") {
		t.Errorf("sent to a server with another name: %v", err)
	}
	if n := len(server.Grants()); n != 0 {
		t.Errorf("%d tokens were asked for before the certificate was checked", n)
	}
}

func TestAnIdentityThatIsNotThereIsReportedInTime(t *testing.T) {
	server, address, _ := identities(t)
	endpoint := broker(t, server, address, namespace)
	err := send(t, config.ServiceBus{Namespace: namespace, ClientID: uuid.NewString(), CustomEndpoint: endpoint})
	if err == nil || !strings.Contains(err.Error(), "no such identity") {
		t.Errorf("error %v, want that there is no such identity", err)
	}
}

func TestTheTablesAreReachedWithAManagedIdentity(t *testing.T) {
	server, _, clientID := identities(t)
	build, err := setup.BuildDir(".")
	if err != nil {
		t.Fatal(err)
	}
	starting, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tables, err := azurite.StartTLS(starting, build, t.TempDir(), leaf(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tables.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for name, id := range map[string]string{"user-assigned": clientID, "what the machine offers": ""} {
		store, err := connect.Ledger(config.Tables{Endpoint: tables.Endpoint(), ClientID: id})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Load(t.Context(), "onprem"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if grants := server.Grants(); len(grants) != 2 || grants[0].Resource != identity.Storage {
		t.Errorf("tokens were given for %+v", grants)
	}
}
