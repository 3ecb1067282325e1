package cyclecloudsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"time"
)

// certificateLife is short, as that of the certificate which a CycleCloud
// server makes for itself.
const certificateLife = 90 * 24 * time.Hour

func newCertificate(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate certificate key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("draw certificate serial: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "CycleCloud simulator"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// CertificatePEM is the server's self-signed certificate, usable as CA bundle.
func (s *Sim) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate().Certificate[0]})
}

// Pin is the SHA-256 of the certificate in DER form, in lower-case hex.
func (s *Sim) Pin() string {
	sum := sha256.Sum256(s.certificate().Certificate[0])
	return hex.EncodeToString(sum[:])
}

// RegenerateCertificate replaces the certificate, and with it the pin, as an
// administrator does; new connections see the new one.
func (s *Sim) RegenerateCertificate() error {
	cert, err := newCertificate(s.clock.Now())
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cert = cert
	s.journal.add(Entry{Event: Chaos, Detail: "certificate regenerated"})
	return nil
}

func (s *Sim) certificate() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cert
}

// Serve answers plain HTTP on a loopback listener until Close, which it
// reports as nil.
func (s *Sim) Serve(ln net.Listener) error {
	return s.serve(ln, &http.Server{Handler: s.Handler()}, (*http.Server).Serve)
}

// ServeTLS answers HTTPS on a loopback listener until Close, which it reports
// as nil. It speaks TLS 1.2 only, which is CycleCloud's default.
func (s *Sim) ServeTLS(ln net.Listener) error {
	srv := &http.Server{Handler: s.Handler(), TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate(), nil },
	}}
	return s.serve(ln, srv, func(srv *http.Server, ln net.Listener) error { return srv.ServeTLS(ln, "", "") })
}

// ServeControl answers the control surface, which has no authentication, on a
// loopback listener until Close, which it reports as nil.
func (s *Sim) ServeControl(ln net.Listener) error {
	return s.serve(ln, &http.Server{Handler: s.ControlHandler()}, (*http.Server).Serve)
}

func (s *Sim) serve(ln net.Listener, srv *http.Server, run func(*http.Server, net.Listener) error) error {
	if tcp, ok := ln.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return errors.Join(fmt.Errorf("serve on %s: not a loopback address", ln.Addr()), ln.Close())
	}
	srv.ReadHeaderTimeout = 10 * time.Second
	srv.ErrorLog = slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.Join(errors.New("serve: the simulator is closed"), ln.Close())
	}
	s.servers = append(s.servers, srv)
	s.mu.Unlock()
	if err := run(srv, ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	}
	return nil
}
