package functionshost

import (
	"context"
	"crypto/tls"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"

	"github.com/slurmburst/slurmburst/local/ca"
	"github.com/slurmburst/slurmburst/local/identity"
	"github.com/slurmburst/slurmburst/local/servicebusemu"
)

const testNamespace = "ns.servicebus.test"

// serviceBusScope is what azservicebus v1.11.0 asks for.
var serviceBusScope = policy.TokenRequestOptions{Scopes: []string{"https://servicebus.azure.net//.default"}}

// identitySite is an emulator that takes tokens over TLS and nothing else, an
// identity endpoint, and an app with the settings of a user-assigned identity.
type identitySite struct {
	t         *testing.T
	authority *ca.Authority
	endpoint  *identity.Server
	clientID  string
	identity  string // address of the identity endpoint
	bus       string // address of the emulator
}

// newIdentitySite starts both servers; the emulator's certificate is for name.
func newIdentitySite(t *testing.T, name string) *identitySite {
	t.Helper()
	s := &identitySite{t: t, clientID: uuid.NewString()}
	var err error
	if s.authority, err = ca.New(); err != nil {
		t.Fatal(err)
	}
	leaf, err := s.authority.Leaf(name)
	if err != nil {
		t.Fatal(err)
	}
	if s.endpoint, err = identity.New(identity.Config{ClientIDs: []string{s.clientID}, SystemAssigned: uuid.NewString()}); err != nil {
		t.Fatal(err)
	}
	s.identity = serving(t, s.endpoint.Serve, s.endpoint.Close).String()
	emulator, err := servicebusemu.New(servicebusemu.Config{
		Queues: []servicebusemu.QueueConfig{{Name: "q", RequiresSession: true}},
		TLS:    &tls.Config{Certificates: []tls.Certificate{leaf}},
		Auth: &servicebusemu.Auth{Tokens: &servicebusemu.TokenAuth{
			Key: servicebusemu.KeySet("http://" + s.identity + identity.KeysPath), Issuer: s.endpoint.Issuer(),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.bus = serving(t, emulator.Serve, emulator.Close).String()
	return s
}

// settings give what the app has to know.
func (s *identitySite) settings() map[string]string {
	s.t.Helper()
	roots := filepath.Join(s.t.TempDir(), "ca.pem")
	if err := s.authority.WriteFile(roots); err != nil {
		s.t.Fatal(err)
	}
	settings := s.endpoint.Environment(s.identity)
	settings["SB__fullyQualifiedNamespace"] = testNamespace
	settings["SB__credential"] = "managedidentity"
	settings["SB__clientId"] = s.clientID
	settings["SSL_CERT_FILE"] = roots
	return settings
}

// post sends one message with the user-assigned identity, so that the tokens of
// the system-assigned one are all the host's.
func (s *identitySite) post(session, id, body string) {
	s.t.Helper()
	env := s.endpoint.Environment(s.identity)
	c := busConnection{
		namespace: testNamespace, address: s.bus, roots: s.authority.Pool(),
		identity: newManagedIdentity(env["IDENTITY_ENDPOINT"], env["IDENTITY_HEADER"], s.clientID),
	}
	client, err := c.open(azservicebus.RetryOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	defer client.Close(ctx)
	sender, err := client.NewSender("q", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := sender.SendMessage(ctx, &azservicebus.Message{MessageID: &id, SessionID: &session, Body: []byte(body)}, nil); err != nil {
		s.t.Fatal(err)
	}
}

// granted counts the tokens for Service Bus by identity.
func (s *identitySite) granted() (userAssigned, systemAssigned int) {
	s.t.Helper()
	for _, g := range s.endpoint.Grants() {
		switch {
		case g.Resource != identity.ServiceBus:
			s.t.Errorf("a token was given for %s", g.Resource)
		case g.ClientID == s.clientID:
			userAssigned++
		default:
			systemAssigned++
		}
	}
	return userAssigned, systemAssigned
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

// run starts a host with the settings.
func (s *identitySite) run(settings map[string]string) *running {
	s.t.Helper()
	a := newApp(s.t, busHost, map[string]string{"work": workFunction})
	delete(a.settings, "SB")
	for name, value := range settings {
		a.settings[name] = value
	}
	r := a.run(func(c *Config) {
		c.connect = nil
		c.ServiceBusAddress = s.bus
	})
	r.awaitReady(s.t)
	return r
}

func TestMessagesOverTLSWithAUserAssignedIdentity(t *testing.T) {
	t.Parallel()
	s := newIdentitySite(t, testNamespace)
	r := s.run(s.settings())
	s.post("s-1", "m-1", "ok")
	if c := r.calls(t, 1)[0]; !c.OK() || c.MessageID != "m-1" || c.SessionID != "s-1" {
		t.Errorf("call %+v", c)
	}
	if _, system := s.granted(); system != 0 {
		t.Errorf("%d tokens were given for the system-assigned identity", system)
	}
}

func TestWithoutClientIDTheSystemAssignedIdentityIsUsed(t *testing.T) {
	t.Parallel()
	s := newIdentitySite(t, testNamespace)
	settings := s.settings()
	delete(settings, "SB__clientId")
	delete(settings, "SB__credential")
	r := s.run(settings)
	s.post("s-1", "m-1", "ok")
	r.calls(t, 1)
	if _, system := s.granted(); system == 0 {
		t.Error("no token was given for the system-assigned identity")
	}
}

func TestACertificateOfAnotherNameIsRefused(t *testing.T) {
	t.Parallel()
	s := newIdentitySite(t, "other.servicebus.test")
	r := s.run(s.settings())
	poll(t, "the outage in the log", func() bool { return r.seen.logged("certificate is valid for") })
	if user, system := s.granted(); user+system != 0 {
		t.Errorf("%d tokens were asked for before the certificate was checked", user+system)
	}
}

func TestATokenOfSomebodyElseIsRefused(t *testing.T) {
	t.Parallel()
	s, other := newIdentitySite(t, testNamespace), newIdentitySite(t, testNamespace)
	settings := s.settings()
	for name, value := range other.endpoint.Environment(other.identity) {
		settings[name] = value
	}
	settings["SB__clientId"] = other.clientID
	r := s.run(settings)
	s.post("s-1", "m-1", "ok")
	poll(t, "the refusal in the log", func() bool { return r.seen.logged("InvalidSignature") })
	if n := len(r.seen.calls()); n != 0 {
		t.Errorf("%d calls came through", n)
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
