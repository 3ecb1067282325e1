package credential_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/fault/credential"
)

// endpoint is a token endpoint that answers every request for a token alike.
type endpoint struct {
	status int
	body   string
	err    error
}

func (e endpoint) Do(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") && e.err == nil {
		return answer(r, 200, `{"issuer":"https://login.microsoftonline.com/t/v2.0","authorization_endpoint":"https://login.microsoftonline.com/t/authorize","token_endpoint":"https://login.microsoftonline.com/t/token"}`), nil
	}
	if e.err != nil {
		return nil, e.err
	}
	return answer(r, e.status, e.body), nil
}

func answer(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Request: r, Body: io.NopCloser(strings.NewReader(body)),
		Header: http.Header{"Content-Type": {"application/json"}},
	}
}

// tokenError asks a real credential of the SDK for a token.
func tokenError(t *testing.T, e endpoint) error {
	t.Helper()
	c, err := azidentity.NewClientSecretCredential("t", "client", "secret", &azidentity.ClientSecretCredentialOptions{
		ClientOptions: azcore.ClientOptions{Transport: e, Retry: policy.RetryOptions{MaxRetries: -1}}, DisableInstanceDiscovery: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://storage.azure.com/.default"}})
	if err == nil {
		t.Fatal("there is a token")
	}
	return fmt.Errorf("load: %w", err)
}

func TestWhatATokenEndpointAnswersIsClassifiedByWhetherTryingAgainHelps(t *testing.T) {
	for name, c := range map[string]struct {
		endpoint
		want fault.Kind
	}{
		"a secret that is wrong":          {endpoint{status: 401, body: `{"error":"invalid_client","error_description":"AADSTS7000215"}`}, fault.Denied},
		"an assertion that is bad":        {endpoint{status: 400, body: `{"error":"invalid_request","error_description":"AADSTS50027"}`}, fault.Denied},
		"a client that may not":           {endpoint{status: 403, body: `{"error":"unauthorized_client"}`}, fault.Denied},
		"throttling":                      {endpoint{status: 429, body: `{"error":"temporarily_unavailable"}`}, fault.Transient},
		"too slow":                        {endpoint{status: 408, body: `{}`}, fault.Transient},
		"a broken endpoint":               {endpoint{status: 500, body: `{"error":"server_error"}`}, fault.Transient},
		"a proxy's page":                  {endpoint{status: 502, body: `<html>`}, fault.Transient},
		"an endpoint nobody can reach":    {endpoint{err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}}, fault.Transient},
		"an endpoint that does not exist": {endpoint{err: &net.DNSError{Err: "no such host", Name: "login.microsoftonline.com"}}, fault.Transient},
	} {
		t.Run(name, func(t *testing.T) {
			err := tokenError(t, c.endpoint)
			if kind, found := credential.Kind(err); kind != c.want || !found {
				t.Errorf("got %v, found %v, want %v: %v", kind, found, c.want, err)
			}
		})
	}
}

// broken is what azcore returns for a body that broke off.
type broken struct{ error }

func (broken) NonRetriable()   {}
func (b broken) Unwrap() error { return b.error }

func TestOnlyErrorsOfCredentialsAreClassified(t *testing.T) {
	if kind, found := credential.Kind(fmt.Errorf("sign in: %w", azidentity.NewCredentialUnavailableError("no identity is assigned"))); kind != fault.Denied || !found {
		t.Errorf("a credential without an identity: %v, %v", kind, found)
	}
	for name, err := range map[string]error{
		"nothing": nil, "a network error": &net.OpError{Op: "read", Err: errors.New("reset")}, "any error": errors.New("surprise"),
		"an answer that broke off": broken{io.ErrUnexpectedEOF}, "an answer of another service": &azcore.ResponseError{StatusCode: 401},
	} {
		if kind, found := credential.Kind(err); found {
			t.Errorf("%s: %v", name, kind)
		}
	}
}
