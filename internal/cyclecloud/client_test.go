package cyclecloud

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/fault"
)

func TestEndpointsAreCheckedBeforeUse(t *testing.T) {
	for _, tt := range []struct{ name, endpoint, want string }{
		{"https with a port is fine", "https://cc.example.com:8443", ""},
		{"a context path and a slash at the end are fine", "https://cc.example.com/cyclecloud/", ""},
		{"http to a loopback address is fine", "http://127.0.0.1:8080", ""},
		{"http to the IPv6 loopback is fine", "http://[::1]:8080", ""},
		{"http to localhost is fine", "http://localhost", ""},
		{"http to anything else is refused", "http://cc.example.com", "loopback"},
		{"a name that only begins like a loopback address is refused", "http://127.0.0.1.example.com", "loopback"},
		{"a password in the URL is refused", "https://u:sesame@cc.example.com", "credential"},
		{"a URL that can't be parsed is not repeated", "https://u:sesame@cc.example.com:%zz", "parsed"},
		{"no scheme", "cc.example.com", "https://"},
		{"another scheme", "ftp://cc.example.com", "https://"},
		{"no host", "https:///x", "host"},
		{"a query", "https://cc.example.com/?x=1", "query"},
		{"a fragment", "https://cc.example.com/#x", "fragment"},
		{"nothing", "", "https://"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewClient(tt.endpoint, testCredential, nil)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want fault.Invalid naming %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "sesame") {
				t.Errorf("the password is in the error: %v", err)
			}
		})
	}
}

func TestOptionsThatWouldWeakenTheClientAreRefused(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	azure := func(o policy.ClientOptions) ClientOptions { return ClientOptions{ClientOptions: o} }
	for _, tt := range []struct {
		name     string
		endpoint string
		cred     Credential
		options  ClientOptions
		want     string
	}{
		{"logging bodies", server.URL, testCredential, azure(policy.ClientOptions{Logging: policy.LogOptions{IncludeBody: true}}), "IncludeBody"},
		{"logging the password", server.URL, testCredential, azure(policy.ClientOptions{Logging: policy.LogOptions{AllowedHeaders: []string{"authorization"}}}), "Authorization"},
		{"credentials over http", server.URL, testCredential, azure(policy.ClientOptions{InsecureAllowCredentialWithHTTP: true}), "InsecureAllow"},
		{"a pin over http", "http://127.0.0.1", testCredential, ClientOptions{PinSHA256: strings.Repeat("ab", 32)}, "plain http"},
		{"a pin with a foreign transport", server.URL, testCredential, ClientOptions{PinSHA256: strings.Repeat("ab", 32), ClientOptions: policy.ClientOptions{Transport: http.DefaultClient}}, "Transport"},
		{"a pin that is too short", server.URL, testCredential, ClientOptions{PinSHA256: "ab:cd"}, "64 hex digits"},
		{"a pin that is not hex", server.URL, testCredential, ClientOptions{PinSHA256: strings.Repeat("zz", 32)}, "64 hex digits"},
		{"a CA file that is not there", server.URL, testCredential, ClientOptions{CACertFile: notPEM + "x"}, "ca.pemx"},
		{"a CA file without a certificate", server.URL, testCredential, ClientOptions{CACertFile: notPEM}, "no certificate"},
		{"no password", server.URL, Credential{User: "burst"}, ClientOptions{}, "password"},
		{"no user", server.URL, Credential{Password: "x"}, ClientOptions{}, "user"},
		{"a user with a colon", server.URL, Credential{User: "a:b", Password: "x"}, ClientOptions{}, "colon"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewClient(tt.endpoint, tt.cred, &tt.options)
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want fault.Invalid naming %q", err, tt.want)
			}
		})
	}
}

// newTLS starts a server of its own certificate, and counts its requests and connections.
func newTLS(t *testing.T) (server *httptest.Server, pin, caFile string, requests *int, connections *atomic.Int32) {
	t.Helper()
	requests, connections = new(int), new(atomic.Int32)
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		*requests++
		_, _ = io.WriteString(w, `{"nodes":[]}`)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	sum := sha256.Sum256(server.Certificate().Raw)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(caFile, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return server, hex.EncodeToString(sum[:]), caFile, requests, connections
}

func colons(pin string) string {
	var parts []string
	for i := 0; i < len(pin); i += 2 {
		parts = append(parts, strings.ToUpper(pin[i:i+2]))
	}
	return strings.Join(parts, ":")
}

func TestServersAreRecognisedByAuthorityOrPin(t *testing.T) {
	wrong := strings.Repeat("ab", 32)
	for _, tt := range []struct {
		name    string
		options func(pin, caFile string) ClientOptions
		want    string
	}{
		{"an unknown authority is refused", func(string, string) ClientOptions { return ClientOptions{} }, "certificate"},
		{"the CA file makes it known", func(_, ca string) ClientOptions { return ClientOptions{CACertFile: ca} }, ""},
		{"the pin alone is enough for a self-signed certificate", func(pin, _ string) ClientOptions { return ClientOptions{PinSHA256: pin} }, ""},
		{"the pin may have colons and capitals", func(pin, _ string) ClientOptions { return ClientOptions{PinSHA256: colons(pin)} }, ""},
		{"another pin is refused", func(string, string) ClientOptions { return ClientOptions{PinSHA256: wrong} }, wrong},
		{"the right authority does not excuse another pin", func(_, ca string) ClientOptions { return ClientOptions{CACertFile: ca, PinSHA256: wrong} }, wrong},
		{"the right pin does not excuse an unknown authority", func(pin, _ string) ClientOptions { return ClientOptions{RootCAs: x509.NewCertPool(), PinSHA256: pin} }, "unknown authority"},
		{"both may agree", func(pin, ca string) ClientOptions { return ClientOptions{CACertFile: ca, PinSHA256: pin} }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, pin, caFile, requests, connections := newTLS(t)
			options := tt.options(pin, caFile)
			options.Retry.RetryDelay = -1
			client, err := NewClient(server.URL, testCredential, &options)
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Nodes(t.Context(), "hpc10")
			if tt.want == "" {
				if err != nil || *requests != 1 {
					t.Fatalf("got %v after %d requests", err, *requests)
				}
				return
			}
			if !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want fault.Denied naming %q", err, tt.want)
			}
			if tt.want == wrong && !strings.Contains(err.Error(), pin) {
				t.Errorf("the error does not name the certificate's own pin %s: %v", pin, err)
			}
			if *requests != 0 {
				t.Errorf("%d requests, with the password, reached a server that is not trusted", *requests)
			}
			if tries := connections.Load(); tries != 1 {
				t.Errorf("%d tries, but a certificate does not change by asking again", tries)
			}
		})
	}
}

func TestARightAuthorityDoesNotExcuseAWrongHostName(t *testing.T) {
	server, _, caFile, _, _ := newTLS(t)
	client, err := NewClient(strings.Replace(server.URL, "127.0.0.1", "localhost", 1), testCredential, &ClientOptions{CACertFile: caFile})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Nodes(t.Context(), "hpc10")
	if !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), "localhost") {
		t.Errorf("got %v, want fault.Denied naming the host", err)
	}
}

func TestEachRequestCarriesTheCredentialAndTheEscapedName(t *testing.T) {
	s := &scripted{replies: []reply{{status: 200, body: `{"nodes":[]}`}}}
	server := httptest.NewServer(s)
	defer server.Close()
	client, err := NewClient(server.URL+"/cycle%20cloud/", testCredential, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Nodes(t.Context(), "My HPC/10?"); err != nil {
		t.Fatal(err)
	}
	want := []request{{Method: "GET", URI: "/cycle%20cloud/clusters/My%20HPC%2F10%3F/nodes"}}
	if diff := cmp.Diff(want, s.asked()); diff != "" {
		t.Error(diff)
	}
	r := http.Request{Header: s.headers[0]}
	if user, password, ok := r.BasicAuth(); !ok || user != "burst" || password != string(testCredential.Password) {
		t.Errorf("got user %q, ok %v", user, ok)
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	cred := Credential{User: "burst", Password: "sesame"}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb+verb, cred, cred.Password)
	}
	out.WriteString(cred.Password.String() + cred.Password.GoString())
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "cred", cred, "password", cred.Password)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "cred", cred, "password", cred.Password)
	if err := json.NewEncoder(&out).Encode(cred); err != nil {
		t.Fatal(err)
	}
	for _, leak := range []string{"sesame", hex.EncodeToString([]byte("sesame")), strings.ToUpper(hex.EncodeToString([]byte("sesame")))} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("the password shows as %q in %s", leak, out.String())
		}
	}
	if !strings.Contains(out.String(), redacted) {
		t.Error("nothing was redacted")
	}
}

func TestLogsHoldTheRequestButNeitherPasswordNorBody(t *testing.T) {
	var out strings.Builder
	azlog.SetListener(func(event azlog.Event, text string) { fmt.Fprintln(&out, event, text) })
	defer azlog.SetListener(nil)
	client, _ := newScripted(t,
		reply{status: 503, body: `{"secret":"body"}`},
		reply{status: 202, body: `{"operationId":"op","sets":[{"added":1,"message":"secret body"}]}`},
		reply{status: 200, body: `{"nodes":[]}`})
	request := CreateRequest{RequestID: "r-1", Sets: []CreateSet{{NodeArray: "htc", Count: 1, NameFormat: "secret-body"}}}
	if _, err := client.Create(t.Context(), "hpc10", request); err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.NodesByRequest(t.Context(), "hpc10", "r-1"); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"/clusters/hpc10/nodes/create", "503", "request_id=r-1", "Authorization: REDACTED"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not hold %q:\n%s", want, text)
		}
	}
	for _, leak := range []string{"secret", string(testCredential.Password), "Basic "} {
		if strings.Contains(text, leak) {
			t.Errorf("the log holds %q:\n%s", leak, text)
		}
	}
}
