package servicebusemu

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

func TestCloseEndsEverything(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "s", RequiresSession: true})
	failed := make(chan error, 1)
	go func() {
		_, err := n.client.AcceptNextSessionForQueue(n.ctx(), "s", nil)
		failed <- err
	}()
	n.stats("s", "one waiting", func(s QueueStats) bool { return s.Waiting == 1 })
	n.must(n.srv.Close())
	n.must(n.srv.Close())
	if err := <-failed; err == nil {
		t.Error("a session was accepted from a closed server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	n.must(err)
	if err := n.srv.Serve(l); err == nil {
		t.Error("a closed server serves")
	}
}

func TestALostConnectionFreesItsSession(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "s", RequiresSession: true})
	n.send("s", "x", "a")
	w := openWire(t, n.addr, 5000)
	from := described{uint64(codeSource), []any{"s", nil, nil, nil, nil, nil, nil, orderedMap{{filterSession, described{filterSessionCode, "x"}}}}}
	w.send(0, codeAttach, "r", uint32(0), true, nil, uint8(1), from, targetOf(""))
	w.expect(codeAttach)
	w.credit(0, firstOutgoing, 5000, 0, 1)
	w.expect(codeTransfer)
	n.must(w.nc.Close())
	if m := n.receiveOne(n.acceptNext(), "a"); m.DeliveryCount != 1 {
		t.Errorf("delivery count %d", m.DeliveryCount)
	}
}

// cuttable is a listener whose connections can be cut.
type cuttable struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (c *cuttable) Accept() (net.Conn, error) {
	nc, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.conns = append(c.conns, nc)
	}
	return nc, err
}

func (c *cuttable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, nc := range c.conns {
		_ = nc.Close()
	}
	c.conns = nil
}

func TestTheClientRecoversWhenItsConnectionIsCut(t *testing.T) {
	srv, err := New(Config{Queues: []QueueConfig{{Name: "q"}}})
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &cuttable{Listener: inner}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := srv.Serve(l); err != nil {
			t.Error(err)
		}
	})
	defer serving.Wait()
	defer srv.Close()
	n := &namespace{t: t, srv: srv, addr: inner.Addr().String()}
	n.client = n.newClient()
	s := n.sender("q")
	r := n.receiver("q", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
	for _, body := range []string{"a", "b", "c"} {
		n.must(s.SendMessage(n.ctx(), &azservicebus.Message{Body: []byte(body)}, nil))
		n.receiveOne(r, body)
		l.cut()
	}
	if s := srv.Stats()["q"]; s.Sent != 3 || s.Completed != 3 {
		t.Errorf("stats: %+v", s)
	}
}

func TestConfigurationErrorsNameQueueAndFieldAllAtOnce(t *testing.T) {
	_, err := New(Config{Queues: []QueueConfig{
		{Name: "a", LockDuration: time.Hour, MaxDeliveryCount: -1},
		{Name: "b c"},
		{Name: "d"},
		{Name: "D"},
	}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`queue "a": LockDuration`, `queue "a": MaxDeliveryCount`, `queue "b c": Name`, `queue "D": Name: listed twice`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not name %q", err, want)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a server without queues was made")
	}
}

// anyToken is a credential that could not be valid.
type anyToken struct{}

func (anyToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "not-a-token", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// With TLS around the listener a client is configured as in production: by name
// and credential, plus one address and one certificate.
func TestTheProductionSettingsWorkOverTLS(t *testing.T) {
	const name = "ns.servicebus.windows.net"
	certificate, pool := selfSigned(t, name)
	srv, err := New(Config{Queues: []QueueConfig{{Name: "q"}}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := srv.Serve(l); err != nil {
			t.Error(err)
		}
	})
	defer serving.Wait()
	defer srv.Close()
	client, err := azservicebus.NewClient(name, anyToken{}, &azservicebus.ClientOptions{
		CustomEndpoint: l.Addr().String(), TLSConfig: &tls.Config{RootCAs: pool},
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &namespace{t: t, srv: srv, client: client}
	n.send("q", "", "a")
	n.receiveOne(n.receiver("q", nil), "a")
	n.must(client.Close(n.ctx()))
}

func selfSigned(t testing.TB, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// pipes is a listener whose connections are in memory, so that the real client and
// the emulator can share a bubble of time.
type pipes struct {
	server chan net.Conn
	closed chan struct{}
	once   sync.Once
	dials  atomic.Int32
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.server:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (p *pipes) dial(context.Context, azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
	p.dials.Add(1)
	client, server := net.Pipe()
	p.server <- server
	return client, nil
}

func TestAnHourPassesInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, err := New(Config{Queues: []QueueConfig{{Name: "q"}}})
		if err != nil {
			t.Fatal(err)
		}
		l := &pipes{server: make(chan net.Conn), closed: make(chan struct{})}
		go func() { _ = srv.Serve(l) }()
		client, err := azservicebus.NewClientFromConnectionString(ConnectionString("bubble"), &azservicebus.ClientOptions{NewWebSocketConn: l.dial})
		if err != nil {
			t.Fatal(err)
		}
		n := &namespace{t: t, srv: srv, client: client}
		ctx := context.Background()
		_, err = n.sender("q").ScheduleMessages(ctx, []*azservicebus.Message{{Body: []byte("a")}}, time.Now().Add(time.Hour), nil)
		n.must(err)
		started := time.Now()
		r := n.receiver("q", nil)
		ms, err := r.ReceiveMessages(ctx, 1, nil)
		n.must(err)
		if len(ms) != 1 || time.Since(started) < time.Hour {
			t.Fatalf("received %d messages after %v", len(ms), time.Since(started))
		}
		n.must(r.CompleteMessage(ctx, ms[0], nil))
		// Empty frames kept the connection alive.
		if got := l.dials.Load(); got != 1 {
			t.Errorf("the client dialled %d times", got)
		}
		n.must(client.Close(ctx))
		n.must(srv.Close())
	})
}
