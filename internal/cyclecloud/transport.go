package cyclecloud

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// maxBody bounds an answer. A node record is some 2 KB, so this is room for
// 16,000 nodes, well above the 1,000 per scale set that clusters are made of.
const maxBody = 32 << 20

// trustOptions say how a server is recognised.
type trustOptions struct {
	roots *x509.CertPool
	file  string
	pin   string
}

func (o trustOptions) isSet() bool { return o.roots != nil || o.file != "" || o.pin != "" }

// tlsConfig never gives a configuration that accepts any certificate: the
// standard verification is off only where a pin has taken its place.
func (o trustOptions) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.roots != nil {
		config.RootCAs = o.roots.Clone()
	}
	if o.file != "" {
		if config.RootCAs == nil {
			config.RootCAs = x509.NewCertPool()
		}
		pem, err := os.ReadFile(o.file)
		if err != nil {
			return nil, fmt.Errorf("read CA file: %w", err)
		}
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA file %s: no certificate in PEM form in it", o.file)
		}
	}
	if o.pin == "" {
		return config, nil
	}
	pin, err := parsePin(o.pin)
	if err != nil {
		return nil, err
	}
	config.InsecureSkipVerify = config.RootCAs == nil
	// VerifyConnection, unlike VerifyPeerCertificate, also runs on resumption.
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return &pinMismatch{want: pin}
		}
		got := sha256.Sum256(state.PeerCertificates[0].Raw)
		if subtle.ConstantTimeCompare(got[:], pin[:]) != 1 {
			return &pinMismatch{want: pin, got: got}
		}
		return nil
	}
	return config, nil
}

func parsePin(text string) (pin [sha256.Size]byte, err error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(raw) != sha256.Size {
		return pin, fmt.Errorf("the pin %q is not a SHA-256 of 64 hex digits", excerpt(text, 100))
	}
	return [sha256.Size]byte(raw), nil
}

// pinMismatch is somebody else's certificate, or a renewed one.
type pinMismatch struct{ want, got [sha256.Size]byte }

func (e *pinMismatch) Error() string {
	return fmt.Sprintf("the server's certificate has SHA-256 %x but the pin is %x: if the certificate was renewed, set the new pin", e.got, e.want)
}

func newHTTPClient(config *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:       config,
			TLSHandshakeTimeout:   15 * time.Second,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   8,
			IdleConnTimeout:       90 * time.Second,
			ExpectContinueTimeout: time.Second,
		},
		// A redirect is followed by nobody: net/http would turn a POST into a
		// GET, and the answer would be the HTML of a login page.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// final is an error that a repeat can't cure; azcore's retry policy looks for
// the method NonRetriable.
type final struct{ error }

func (final) NonRetriable() {}

func (e final) Unwrap() error { return e.error }

// brokenBody is an answer whose body could not be read to its end.
type brokenBody struct {
	status, contentType, start string
	err                        error
}

func (e *brokenBody) Error() string {
	return fmt.Sprintf("answered %s, %s, but the body broke off: %v; it began with %q", e.status, e.contentType, e.err, e.start)
}

func (e *brokenBody) Unwrap() error { return e.err }

var errTooLong = fmt.Errorf("more than %d MB", maxBody>>20)

// boundedTransport reads each body whole, and bounded, inside the try that it
// belongs to. So a body that breaks off is repeated like any other lost
// connection; azcore's own download would not repeat a POST.
type boundedTransport struct{ next policy.Transporter }

// Do sends req.
func (t boundedTransport) Do(req *http.Request) (*http.Response, error) {
	resp, err := t.next.Do(req)
	if err != nil {
		if isUntrusted(err) {
			return nil, final{err}
		}
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	_ = resp.Body.Close()
	if err == nil && len(body) > maxBody {
		err = errTooLong
	}
	if err != nil {
		broken := &brokenBody{
			status: resp.Status, contentType: contentType(resp.Header),
			start: excerpt(string(body), shortExcerpt), err: err,
		}
		if errors.Is(err, errTooLong) {
			return nil, final{broken}
		}
		return nil, broken
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// isUntrusted says that the server's certificate was refused.
func isUntrusted(err error) bool {
	var (
		mismatch *pinMismatch
		verify   *tls.CertificateVerificationError
	)
	return errors.As(err, &mismatch) || errors.As(err, &verify)
}
