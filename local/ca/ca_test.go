package ca_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/slurmburst/slurmburst/local/ca"
)

func authority(t *testing.T) *ca.Authority {
	t.Helper()
	a, err := ca.New()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// handshake connects a client that trusts pool and asks for name to a server
// with the leaf.
func handshake(t *testing.T, leaf tls.Certificate, pool *x509.CertPool, name string) error {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{leaf}}).HandshakeContext(t.Context()) // the client's verdict counts
	}()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: name}}
	conn, err := dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
	<-served
	if err == nil {
		err = conn.Close()
	}
	return err
}

func TestClientsTrustTheNamesOfALeafAndNoOther(t *testing.T) {
	t.Parallel()
	a, other := authority(t), authority(t)
	leaf, err := a.Leaf("ns.servicebus.test", "127.0.0.7")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		pool *x509.CertPool
		host string
		good bool
	}{
		{"localhost", a.Pool(), "localhost", true},
		{"the loopback address", a.Pool(), "127.0.0.1", true},
		{"the loopback address of IPv6", a.Pool(), "::1", true},
		{"a given name", a.Pool(), "ns.servicebus.test", true},
		{"a given address", a.Pool(), "127.0.0.7", true},
		{"a name that was not given", a.Pool(), "other.servicebus.test", false},
		{"an address that was not given", a.Pool(), "127.0.0.8", false},
		{"a client that trusts somebody else", other.Pool(), "localhost", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := handshake(t, leaf, tt.pool, tt.host); (err == nil) != tt.good {
				t.Errorf("handshake: %v", err)
			}
		})
	}
}

func TestNamesOutsideOfTheMachineAreRefused(t *testing.T) {
	t.Parallel()
	a := authority(t)
	for _, name := range []string{"", "test", "example.com", "ns.servicebus.windows.net", "10.0.0.1", "localhost.example.com", "eviltest"} {
		if _, err := a.Leaf(name); !errors.Is(err, ca.ErrOutside) {
			t.Errorf("%q: error %v, want ErrOutside", name, err)
		}
	}
}

func TestFilesAreReadBackAsTheSameCertificates(t *testing.T) {
	t.Parallel()
	a, dir := authority(t), t.TempDir()
	leaf, err := a.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	root, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(a.WriteFile(root), ca.WriteLeaf(leaf, cert, key)); err != nil {
		t.Fatal(err)
	}
	read, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatalf("no certificate in %s", text)
	}
	if err := handshake(t, read, pool, "localhost"); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(key)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v", info.Mode())
	}
}

func TestAStolenAuthorityCannotVouchForAzure(t *testing.T) {
	t.Parallel()
	a := authority(t)
	leaf, err := a.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(leaf.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	chains, err := parsed.Verify(x509.VerifyOptions{Roots: a.Pool(), DNSName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	root := chains[0][1]
	if !root.PermittedDNSDomainsCritical || len(root.PermittedDNSDomains) == 0 || len(root.PermittedIPRanges) == 0 {
		t.Error("the authority's certificate has no critical name constraints")
	}
}
