package cyclecloud

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/tracing"

	"github.com/slurmburst/slurmburst/internal/fault"
)

const (
	moduleName    = "cyclecloud"
	moduleVersion = "v1.0.0"
	// defaultTimeout is what Microsoft's Python client waits for one answer.
	defaultTimeout = 60 * time.Second
)

// ClientOptions are a Client's settings; the zero value verifies the server
// against the system's certificate authorities and repeats three times.
//
// Of the embedded options, Retry, TracingProvider, Telemetry, the policies and
// the lists of loggable headers and query parameters mean what they mean in
// every Azure client. Refused are Logging.IncludeBody (node records can hold
// credentials), logging the Authorization header, and
// InsecureAllowCredentialWithHTTP (plain http is for loopback only).
type ClientOptions struct {
	policy.ClientOptions

	// Timeout bounds one try; default 60 s. Retry.TryTimeout, where set, wins.
	Timeout time.Duration
	// RootCAs, where set, replaces the system's certificate authorities.
	RootCAs *x509.CertPool
	// CACertFile names a PEM file of authorities that replace the system's;
	// where RootCAs is set too, they are added to it.
	CACertFile string
	// PinSHA256 is the SHA-256 of the server's own certificate (the leaf, DER)
	// as 64 hex digits, colons and either case allowed. With authorities
	// given, the certificate must satisfy both. Alone it replaces authorities,
	// host name and expiry: CycleCloud's certificate out of the box is
	// self-signed and short-lived, and when it is made anew the pin changes.
	PinSHA256 string
}

// Client talks to one CycleCloud server. It is safe for use by many goroutines
// and holds no state about clusters.
type Client struct {
	base     string // scheme, host and path prefix, without a slash at the end
	pipeline runtime.Pipeline
	tracer   tracing.Tracer
	once     policy.RetryOptions // the options of a request that must not be repeated
}

// NewClient makes a client for the web server's root, such as
// https://cc.example.com:8443 (8443 is the product's default port), with the
// server's webServerContextPath behind it where it has one. Plain http is
// allowed for a loopback address only. Errors are fault.Invalid.
func NewClient(endpoint string, cred Credential, options *ClientOptions) (*Client, error) {
	const op = "set up the CycleCloud client"
	if options == nil {
		options = &ClientOptions{}
	}
	base, err := parseEndpoint(endpoint)
	if err != nil {
		return nil, fault.New(fault.Invalid, op, err)
	}
	if cred.User == "" || cred.Password == "" || strings.Contains(cred.User, ":") {
		return nil, fault.New(fault.Invalid, op,
			errors.New("user and password are needed, and the user may hold no colon (HTTP Basic authentication)"))
	}
	settings, err := pipelineOptions(base, options)
	if err != nil {
		return nil, fault.New(fault.Invalid, op, err)
	}
	once := settings.Retry
	once.MaxRetries = -1 // azcore reads 0 as its default of 3
	return &Client{
		base: strings.TrimSuffix(base.Scheme+"://"+base.Host+base.EscapedPath(), "/"),
		pipeline: runtime.NewPipeline(moduleName, moduleVersion, runtime.PipelineOptions{
			AllowedQueryParameters: []string{"nodes", "request_id"},
			PerRetry:               []policy.Policy{basicAuth{cred}},
			Tracing:                runtime.TracingOptions{Namespace: "CycleCloud"},
		}, &settings),
		tracer: settings.TracingProvider.NewTracer(moduleName, moduleVersion),
		once:   once,
	}, nil
}

// parseEndpoint never repeats the text in its errors: it may hold a password.
func parseEndpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return nil, errors.New("the URL can't be parsed")
	case u.User != nil:
		return nil, errors.New("the URL holds a user or password; they belong in the credential")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("the URL must begin with https://")
	case u.Hostname() == "":
		return nil, errors.New("the URL names no host")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("the URL may hold a path but neither query nor fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("plain http is allowed for a loopback address only (got host %s): use https with a CA file or a pin", u.Hostname())
	}
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// pipelineOptions checks the caller's options and completes them.
func pipelineOptions(base *url.URL, o *ClientOptions) (policy.ClientOptions, error) {
	settings := o.ClientOptions
	trust := trustOptions{roots: o.RootCAs, file: o.CACertFile, pin: o.PinSHA256}
	switch {
	case settings.Logging.IncludeBody:
		return settings, errors.New("Logging.IncludeBody is refused: node records can hold credentials")
	case slices.ContainsFunc(settings.Logging.AllowedHeaders, func(h string) bool { return strings.EqualFold(h, "Authorization") }):
		return settings, errors.New("logging the Authorization header is refused: it holds the password")
	case settings.InsecureAllowCredentialWithHTTP:
		return settings, errors.New("InsecureAllowCredentialWithHTTP is refused: plain http is allowed for loopback addresses, without this option")
	case trust.isSet() && base.Scheme == "http":
		return settings, errors.New("a CA file or a pin can't be checked over plain http: use https")
	case trust.isSet() && settings.Transport != nil:
		return settings, errors.New("a CA file or a pin can't be applied to a Transport of the caller's")
	}
	if settings.Transport == nil {
		tlsConfig, err := trust.tlsConfig()
		if err != nil {
			return settings, err
		}
		settings.Transport = newHTTPClient(tlsConfig)
	}
	settings.Transport = boundedTransport{settings.Transport}
	if settings.Retry.TryTimeout == 0 {
		settings.Retry.TryTimeout = o.Timeout
	}
	if settings.Retry.TryTimeout <= 0 {
		settings.Retry.TryTimeout = defaultTimeout
	}
	if settings.Retry.RetryDelay < 0 {
		// "No delay": azcore 1.24.0 takes it for an overflow and waits
		// MaxRetryDelay, a minute by default.
		settings.Retry.RetryDelay = 1
	}
	if settings.Telemetry.ApplicationID == "" {
		settings.Telemetry.ApplicationID = "slurmburst"
	}
	return settings, nil
}

// basicAuth is a per-retry policy, so that no header survives a change of the
// request by a policy before it.
type basicAuth struct{ cred Credential }

// Do adds the credential. NewClient has made sure that the connection is
// encrypted or does not leave the machine.
func (p basicAuth) Do(req *policy.Request) (*http.Response, error) {
	req.Raw().SetBasicAuth(p.cred.User, string(p.cred.Password))
	return req.Next()
}
