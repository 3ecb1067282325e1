package azurite_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/google/uuid"

	"github.com/slurmburst/slurmburst/local/azurite"
	"github.com/slurmburst/slurmburst/local/ca"
	"github.com/slurmburst/slurmburst/local/identity"
	"github.com/slurmburst/slurmburst/local/setup"
)

// secure is a table service with https and the client that trusts it.
type secure struct {
	*azurite.Server
	client *http.Client
}

func startTLS(t *testing.T) secure {
	t.Helper()
	authority, err := ca.New()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := authority.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	build, err := setup.BuildDir(".")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	server, err := azurite.StartTLS(ctx, build, t.TempDir(), leaf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool()}}
	t.Cleanup(transport.CloseIdleConnections)
	return secure{Server: server, client: &http.Client{Transport: transport}}
}

// create makes a table with a credential.
func (s secure) create(t *testing.T, name string, credential azcore.TokenCredential, options policy.ClientOptions) error {
	t.Helper()
	options.Retry = policy.RetryOptions{MaxRetries: -1}
	service, err := aztables.NewServiceClient(s.Endpoint(), credential, &aztables.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	_, err = service.CreateTable(t.Context(), name, nil)
	return err
}

// serveIdentity starts an identity endpoint, and gives the credential that
// azidentity makes of it.
func serveIdentity(t *testing.T, config identity.Config) azcore.TokenCredential {
	t.Helper()
	clientID := uuid.NewString()
	config.ClientIDs = []string{clientID}
	endpoint, err := identity.New(config)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := endpoint.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if err := endpoint.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	for name, value := range endpoint.Environment(listener.Addr().String()) {
		t.Setenv(name, value)
	}
	credential, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(clientID)})
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

// forServiceBus asks for tokens of another service than it is told to.
type forServiceBus struct{ azcore.TokenCredential }

func (f forServiceBus) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return f.TokenCredential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{identity.ServiceBus + "/.default"}})
}

func TestATokenOpensTheTablesOverHTTPS(t *testing.T) {
	server := startTLS(t)
	trusting := policy.ClientOptions{Transport: server.client}
	if !strings.HasPrefix(server.Endpoint(), "https://127.0.0.1:") {
		t.Fatalf("the endpoint is %s", server.Endpoint())
	}
	if err := server.create(t, "good", serveIdentity(t, identity.Config{}), trusting); err != nil {
		t.Errorf("with a managed identity: %v", err)
	}

	status := func(err error) int {
		var refused *azcore.ResponseError
		if errors.As(err, &refused) {
			return refused.StatusCode
		}
		return 0
	}
	late := identity.Config{Now: func() time.Time { return time.Now().Add(-time.Hour) }}
	if err := server.create(t, "expired", serveIdentity(t, late), trusting); status(err) != http.StatusForbidden {
		t.Errorf("with an expired token: %v, want 403", err)
	}
	if err := server.create(t, "audience", forServiceBus{serveIdentity(t, identity.Config{})}, trusting); status(err) != http.StatusForbidden {
		t.Errorf("with a token for Service Bus: %v, want 403", err)
	}
	var unknown *tls.CertificateVerificationError
	if err := server.create(t, "untrusted", serveIdentity(t, identity.Config{}), policy.ClientOptions{}); !errors.As(err, &unknown) {
		t.Errorf("by a client that does not know the authority: %v, want an unknown certificate", err)
	}
}
