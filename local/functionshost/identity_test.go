package functionshost

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/uuid"

	"github.com/slurmburst/slurmburst/local/ca"
	"github.com/slurmburst/slurmburst/local/identity"
)

const testNamespace = "ns.servicebus.test"

// serviceBusScope is what azservicebus v1.11.0 asks for.
var serviceBusScope = policy.TokenRequestOptions{Scopes: []string{"https://servicebus.azure.net//.default"}}

// identitySite is an emulator that is also reached over TLS, an identity
// endpoint, and an app with the settings of a user-assigned identity.
type identitySite struct {
	broker   *broker
	endpoint *identity.Server
	clientID string
	address  string // of the emulator over TLS
}

func newIdentitySite(t *testing.T) *identitySite {
	t.Helper()
	s := &identitySite{broker: newBroker(t), clientID: uuid.NewString()}
	var err error
	if s.endpoint, err = identity.New(identity.Config{ClientIDs: []string{s.clientID}, SystemAssigned: uuid.NewString()}); err != nil {
		t.Fatal(err)
	}
	return s
}

// serving gives a listener on a free port and serves it until the test is over.
func serving(t *testing.T, serve func(net.Listener) error, stop func() error) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := serve(l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		running.Wait()
	})
	return l.Addr()
}

// settings start both servers and give what the app has to know.
func (s *identitySite) settings(t *testing.T, name string) map[string]string {
	t.Helper()
	authority, err := ca.New()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := authority.Leaf(name)
	if err != nil {
		t.Fatal(err)
	}
	roots := filepath.Join(t.TempDir(), "ca.pem")
	if err := authority.WriteFile(roots); err != nil {
		t.Fatal(err)
	}
	s.address = serving(t, func(l net.Listener) error {
		return s.broker.srv.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{leaf}}))
	}, s.broker.srv.Close).String()
	settings := s.endpoint.Environment(serving(t, s.endpoint.Serve, s.endpoint.Close).String())
	settings["SB__fullyQualifiedNamespace"] = testNamespace
	settings["SB__credential"] = "managedidentity"
	settings["SB__clientId"] = s.clientID
	settings["SSL_CERT_FILE"] = roots
	return settings
}

// run starts a host with the settings.
func (s *identitySite) run(t *testing.T, settings map[string]string) *running {
	t.Helper()
	a := newApp(t, busHost, map[string]string{"work": workFunction})
	delete(a.settings, "SB")
	for name, value := range settings {
		a.settings[name] = value
	}
	return a.run(func(c *Config) {
		c.connect = nil
		c.ServiceBusAddress = s.address
	})
}

func TestMessagesOverTLSWithAUserAssignedIdentity(t *testing.T) {
	t.Parallel()
	s := newIdentitySite(t)
	r := s.run(t, s.settings(t, testNamespace))
	r.awaitReady(t)
	s.broker.post("q", "s-1", "m-1=ok")
	if c := r.calls(t, 1)[0]; !c.OK() || c.MessageID != "m-1" {
		t.Errorf("call %+v", c)
	}
	grants := s.endpoint.Grants()
	if len(grants) == 0 {
		t.Fatal("nobody asked for a token")
	}
	for _, g := range grants {
		if g.ClientID != s.clientID || g.Resource != identity.ServiceBus {
			t.Errorf("a token was given for %+v", g)
		}
	}
}

func TestWithoutClientIDTheSystemAssignedIdentityIsUsed(t *testing.T) {
	t.Parallel()
	s := newIdentitySite(t)
	settings := s.settings(t, testNamespace)
	delete(settings, "SB__clientId")
	delete(settings, "SB__credential")
	r := s.run(t, settings)
	r.awaitReady(t)
	s.broker.post("q", "s-1", "m-1=ok")
	r.calls(t, 1)
	if g := s.endpoint.Grants()[0]; g.ClientID == s.clientID {
		t.Errorf("a token was given for the user-assigned identity: %+v", g)
	}
}

func TestACertificateOfAnotherNameIsRefused(t *testing.T) {
	t.Parallel()
	s := newIdentitySite(t)
	r := s.run(t, s.settings(t, "other.servicebus.test"))
	r.awaitReady(t)
	s.broker.post("q", "s-1", "m-1=ok")
	poll(t, "the outage in the log", func() bool { return r.seen.logged("certificate is valid for") })
	if n := len(r.seen.calls()); n != 0 {
		t.Errorf("%d calls came through", n)
	}
	if n := len(s.endpoint.Grants()); n != 0 {
		t.Errorf("%d tokens were asked for before the certificate was checked", n)
	}
}

func TestATokenIsUsedAgainUntilItsEndIsNear(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		lifetime time.Duration
		grants   int
	}{
		{"with an hour left", time.Hour, 1},
		{"with a minute left", time.Minute, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			endpoint, err := identity.New(identity.Config{SystemAssigned: uuid.NewString(), Lifetime: tt.lifetime})
			if err != nil {
				t.Fatal(err)
			}
			env := endpoint.Environment(serving(t, endpoint.Serve, endpoint.Close).String())
			i := newManagedIdentity(env["IDENTITY_ENDPOINT"], env["IDENTITY_HEADER"], "")
			for range 2 {
				if _, err := i.GetToken(t.Context(), serviceBusScope); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(endpoint.Grants()); n != tt.grants {
				t.Errorf("%d tokens were asked for, want %d", n, tt.grants)
			}
			wrong := newManagedIdentity(env["IDENTITY_ENDPOINT"], "guess", "")
			if _, err := wrong.GetToken(t.Context(), serviceBusScope); err == nil || !strings.Contains(err.Error(), "401") {
				t.Errorf("with a wrong header: %v, want 401", err)
			}
		})
	}
}
