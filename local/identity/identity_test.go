package identity_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/slurmburst/slurmburst/local/identity"
)

// serve starts an endpoint for new identities: azidentity caches tokens by
// client id for the whole process.
func serve(t *testing.T, config identity.Config) (server *identity.Server, address string) {
	t.Helper()
	server, err := identity.New(config)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return server, listener.Addr().String()
}

// setEnvironment is what the platform does before it starts a process.
func setEnvironment(t *testing.T, server *identity.Server, address string) {
	for name, value := range server.Environment(address) {
		t.Setenv(name, value)
	}
}

// Scopes as the clients of this project ask for them.
var scopes = map[string]string{
	"https://servicebus.azure.net//.default": identity.ServiceBus,
	"https://storage.azure.com/.default":     identity.Storage,
}

func TestAzidentityGetsATokenOfAUserAssignedIdentity(t *testing.T) {
	clientID := uuid.NewString()
	server, address := serve(t, identity.Config{ClientIDs: []string{uuid.NewString(), clientID}})
	setEnvironment(t, server, address)
	credential, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(clientID)})
	if err != nil {
		t.Fatal(err)
	}
	for scope, resource := range scopes {
		token, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
		if err != nil {
			t.Fatal(err)
		}
		who, expires, err := server.Verify(token.Token, resource)
		if err != nil {
			t.Fatal(err)
		}
		if who != clientID || !expires.Equal(token.ExpiresOn) {
			t.Errorf("%s: token of %s until %s, the credential says %s until %s", resource, who, expires, clientID, token.ExpiresOn)
		}
		if left := time.Until(expires); left <= 0 || left > identity.DefaultLifetime {
			t.Errorf("%s: the token lives for %s", resource, left)
		}
	}
	if got := len(server.Grants()); got != len(scopes) {
		t.Errorf("%d grants were noted, want %d", got, len(scopes))
	}
}

// The chain of DefaultAzureCredential probes the metadata service of virtual
// machines only where no endpoint is named, so this may not take its timeouts.
func TestTheDefaultChainFindsTheSystemAssignedIdentity(t *testing.T) {
	system := uuid.NewString()
	server, address := serve(t, identity.Config{SystemAssigned: system})
	setEnvironment(t, server, address)
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://storage.azure.com/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	if who, _, err := server.Verify(token.Token, identity.Storage); err != nil || who != system {
		t.Errorf("token of %q: %v", who, err)
	}
}

func TestAzidentityReportsAnIdentityThatTheAppDoesNotHave(t *testing.T) {
	server, address := serve(t, identity.Config{ClientIDs: []string{uuid.NewString()}})
	setEnvironment(t, server, address)
	credential, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(uuid.NewString())})
	if err != nil {
		t.Fatal(err)
	}
	_, err = credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://storage.azure.com/.default"}})
	if failed := (*azidentity.AuthenticationFailedError)(nil); !errors.As(err, &failed) || !strings.Contains(err.Error(), "no such identity") {
		t.Errorf("error %v, want that there is no such identity", err)
	}
}

// ask sends one request, changed by edit.
func ask(ctx context.Context, t *testing.T, server *identity.Server, address string, edit func(*http.Request, url.Values)) (status int, body map[string]any) {
	t.Helper()
	env := server.Environment(address)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, env["IDENTITY_ENDPOINT"], nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-IDENTITY-HEADER", env["IDENTITY_HEADER"])
	query := url.Values{"api-version": {"2019-08-01"}, "resource": {identity.Storage}}
	edit(r, query)
	r.URL.RawQuery = query.Encode()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &body); err != nil && response.StatusCode != http.StatusMethodNotAllowed {
		t.Fatalf("%s: %v", raw, err)
	}
	return response.StatusCode, body
}

func TestRequestsWithoutRightGetNoToken(t *testing.T) {
	t.Parallel()
	server, address := serve(t, identity.Config{SystemAssigned: uuid.NewString()})
	for _, tt := range []struct {
		name   string
		status int
		edit   func(*http.Request, url.Values)
	}{
		{"nothing changed", http.StatusOK, func(*http.Request, url.Values) {}},
		{"a slash at the end of the resource", http.StatusOK, func(_ *http.Request, q url.Values) { q.Set("resource", identity.ServiceBus+"/") }},
		{"no header", http.StatusUnauthorized, func(r *http.Request, _ url.Values) { r.Header.Del("X-IDENTITY-HEADER") }},
		{"a wrong header", http.StatusUnauthorized, func(r *http.Request, _ url.Values) { r.Header.Set("X-IDENTITY-HEADER", "guess") }},
		{"another version", http.StatusBadRequest, func(_ *http.Request, q url.Values) { q.Set("api-version", "2017-09-01") }},
		{"an unknown client id", http.StatusBadRequest, func(_ *http.Request, q url.Values) { q.Set("client_id", uuid.NewString()) }},
		{"an identity named otherwise", http.StatusBadRequest, func(_ *http.Request, q url.Values) { q.Set("mi_res_id", "/subscriptions/x") }},
		{"no resource", http.StatusBadRequest, func(_ *http.Request, q url.Values) { q.Del("resource") }},
		{"a resource that is not ours", http.StatusBadRequest, func(_ *http.Request, q url.Values) { q.Set("resource", "https://management.azure.com") }},
		{"a resource that begins like ours", http.StatusBadRequest, func(_ *http.Request, q url.Values) { q.Set("resource", identity.Storage+".example.com") }},
		{"another method", http.StatusMethodNotAllowed, func(r *http.Request, _ url.Values) { r.Method = http.MethodPost }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := ask(t.Context(), t, server, address, tt.edit)
			if status != tt.status {
				t.Errorf("status %d (%v), want %d", status, body, tt.status)
			}
			if _, given := body["access_token"]; given != (tt.status == http.StatusOK) {
				t.Errorf("a token was given: %v", given)
			}
		})
	}
}

func TestTokensAreVerifiedStrictly(t *testing.T) {
	t.Parallel()
	now := time.Now()
	config := identity.Config{SystemAssigned: uuid.NewString(), Lifetime: time.Minute, Now: func() time.Time { return now }}
	server, address := serve(t, config)
	other, otherAddress := serve(t, config)
	take := func(s *identity.Server, address string) string {
		_, body := ask(t.Context(), t, s, address, func(*http.Request, url.Values) {})
		token, _ := body["access_token"].(string)
		return token
	}
	good := take(server, address)
	parts := strings.Split(good, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no token", good)
	}
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	for name, token := range map[string]string{
		"no token": "", "text": "not-a-token", "no signature": parts[0] + "." + parts[1] + ".", "algorithm none": unsigned,
		"another signature": parts[0] + "." + parts[1] + "." + strings.Split(take(other, otherAddress), ".")[2],
		"another issuer":    take(other, otherAddress),
	} {
		if _, _, err := server.Verify(token, identity.Storage); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, _, err := server.Verify(good, identity.ServiceBus); !errors.Is(err, jwt.ErrTokenInvalidAudience) {
		t.Errorf("for another resource: %v", err)
	}
	if _, _, err := server.Verify(good, identity.Storage); err != nil {
		t.Errorf("the good token: %v", err)
	}
	now = now.Add(time.Minute + time.Second)
	if _, _, err := server.Verify(good, identity.Storage); !errors.Is(err, jwt.ErrTokenExpired) {
		t.Errorf("after its end: %v", err)
	}
}

// Whoever verifies tokens elsewhere finds the key as Entra publishes it.
func TestTheKeyIsPublished(t *testing.T) {
	t.Parallel()
	server, address := serve(t, identity.Config{SystemAssigned: uuid.NewString()})
	_, answer := ask(t.Context(), t, server, address, func(*http.Request, url.Values) {})
	get := func(url string, into any) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if err := json.NewDecoder(response.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	var about struct {
		Issuer string
		JWKS   string `json:"jwks_uri"`
	}
	get("http://"+address+"/.well-known/openid-configuration", &about)
	if about.Issuer != server.Issuer() {
		t.Errorf("issuer %q, want %q", about.Issuer, server.Issuer())
	}
	var set struct{ Keys []struct{ Kid, N, E string } }
	get(about.JWKS, &set)
	content := jwt.MapClaims{}
	token, _, err := jwt.NewParser().ParseUnverified(answer["access_token"].(string), content)
	if err != nil {
		t.Fatal(err)
	}
	if content["aud"] != identity.Storage {
		t.Errorf("the audience is %v, want the text that was asked for", content["aud"])
	}
	if len(set.Keys) != 1 || token.Header["kid"] != set.Keys[0].Kid {
		t.Fatalf("keys %v, the token was signed with %v", set.Keys, token.Header["kid"])
	}
	if err := verifyWith(set.Keys[0].N, set.Keys[0].E, token.Raw); err != nil {
		t.Errorf("the published key does not verify the token: %v", err)
	}
}

func TestConfigurationsWithoutSenseAreRefused(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]identity.Config{
		"no identity": {}, "no client id": {ClientIDs: []string{"me"}}, "no time": {SystemAssigned: uuid.NewString(), Lifetime: time.Millisecond},
	} {
		if _, err := identity.New(config); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
