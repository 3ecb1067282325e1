// Package ca answers one question: who vouches for the TLS servers of a local
// world? It makes a certificate authority that lives for a day and certificates
// signed by it. It must never vouch for a name that exists outside of the
// machine: the authority's own certificate allows only loopback addresses,
// localhost and names under .test, and its key never leaves the process.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

const (
	// lifetime of every certificate; the clock may be off by skew.
	lifetime = 24 * time.Hour
	skew     = time.Hour
	// testDomain is reserved for tests (RFC 2606 section 2): no DNS knows it.
	testDomain = "test"
)

// ErrOutside says that a certificate was asked for a name outside of the machine.
var ErrOutside = errors.New("is neither a loopback address nor localhost nor a name under .test")

// Authority is a certificate authority. It is safe for use by many goroutines.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// New makes an authority with a new key.
func New() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "slurmburst local authority"},
		NotBefore: time.Now().Add(-skew), NotAfter: time.Now().Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{"localhost", testDomain},
		PermittedIPRanges: []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
			{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	return &Authority{certificate: certificate, key: key}, nil
}

// Pool trusts this authority and nobody else.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// WriteFile writes the authority's certificate, not its key, as PEM. The
// environment variable SSL_CERT_FILE makes a Go program trust it (crypto/x509,
// SystemCertPool); NODE_EXTRA_CA_CERTS does so for Node.js.
func (a *Authority) WriteFile(file string) error {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("write the authority: %w", err)
	}
	return nil
}

// Leaf makes a server's certificate for localhost, 127.0.0.1, ::1 and the given
// names. The error is ErrOutside for a name that the authority may not vouch for.
func (a *Authority) Leaf(names ...string) (tls.Certificate, error) {
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-skew), NotAfter: a.certificate.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, name := range names {
		ip := net.ParseIP(name)
		switch {
		case ip != nil && ip.IsLoopback():
			template.IPAddresses = append(template.IPAddresses, ip)
		case ip == nil && (name == "localhost" || strings.HasSuffix(name, "."+testDomain)):
			template.DNSNames = append(template.DNSNames, name)
		default:
			return tls.Certificate{}, fmt.Errorf("make a certificate for %q: %w", name, ErrOutside)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// WriteLeaf writes a certificate and its key as PEM files that only the owner
// may read, for servers that are not written in Go.
func WriteLeaf(leaf tls.Certificate, certificateFile, keyFile string) error {
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		return fmt.Errorf("write a certificate's key: %w", err)
	}
	var chain []byte
	for _, der := range leaf.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := os.WriteFile(certificateFile, chain, 0o600); err != nil {
		return fmt.Errorf("write a certificate: %w", err)
	}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600); err != nil {
		return fmt.Errorf("write a certificate's key: %w", err)
	}
	return nil
}
