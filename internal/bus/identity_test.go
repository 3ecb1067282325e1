package bus_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/fault"
)

// tokenEndpoint is a credential whose token endpoint answers with a status, or
// not at all where it is 0.
type tokenEndpoint int

func (status tokenEndpoint) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	failed := &azidentity.AuthenticationFailedError{}
	if status != 0 {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://login.example/token", http.NoBody)
		if err != nil {
			return azcore.AccessToken{}, err
		}
		failed.RawResponse = &http.Response{
			StatusCode: int(status), Status: http.StatusText(int(status)), Request: r, Body: io.NopCloser(strings.NewReader(`{"error":"invalid_client"}`)),
		}
	}
	return azcore.AccessToken{}, failed
}

// The rule is the ledger's too: what no retry can cure is told from what one may.
func TestARefusedIdentityIsDeniedAndABrokenEndpointIsNot(t *testing.T) {
	b := startBroker(t)
	for status, want := range map[tokenEndpoint]fault.Kind{
		400: fault.Denied, 401: fault.Denied, 429: fault.Transient, 500: fault.Transient, 503: fault.Transient, 0: fault.Transient,
	} {
		client, err := bus.New(bus.Options{
			Namespace: "ns.example", Credential: status,
			Client: azservicebus.ClientOptions{
				RetryOptions: azservicebus.RetryOptions{MaxRetries: -1},
				NewWebSocketConn: func(ctx context.Context, _ azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
					return (&net.Dialer{}).DialContext(ctx, "tcp", b.addr)
				},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		err = client.Send(t.Context(), plain, bus.Message{ID: "m"})
		if fault.Of(err) != want || !strings.Contains(err.Error(), "send message m to queue plain") {
			t.Errorf("token endpoint answers %d: got %v (%v), want %v", status, err, fault.Of(err), want)
		}
		if _, err := client.AcceptSession(t.Context(), sessions, "s"); fault.Of(err) != want {
			t.Errorf("token endpoint answers %d: got %v (%v), want %v", status, err, fault.Of(err), want)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}
