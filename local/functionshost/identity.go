package functionshost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

const (
	identityTimeout = 10 * time.Second
	// tokenReserve is how long a token has to live to be used again, as in MSAL.
	tokenReserve     = 5 * time.Minute
	maxIdentityReply = 64 << 10
)

// managedIdentity gets tokens from the identity endpoint of the app settings
// (REST protocol 2019-08-01 of App Service). azidentity would read the
// environment of this process, which is not that of the app.
type managedIdentity struct {
	endpoint, header, clientID string
	client                     *http.Client

	mu     sync.Mutex
	tokens map[string]azcore.AccessToken // by resource
}

func newManagedIdentity(endpoint, header, clientID string) *managedIdentity {
	return &managedIdentity{
		endpoint: endpoint, header: header, clientID: clientID,
		client: &http.Client{Timeout: identityTimeout}, tokens: map[string]azcore.AccessToken{},
	}
}

// GetToken implements azcore.TokenCredential.
func (i *managedIdentity) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) != 1 {
		return azcore.AccessToken{}, fmt.Errorf("get a token: %d scopes, want one", len(o.Scopes))
	}
	resource := strings.TrimSuffix(o.Scopes[0], "/.default")
	i.mu.Lock()
	defer i.mu.Unlock()
	if t, ok := i.tokens[resource]; ok && time.Until(t.ExpiresOn) > tokenReserve {
		return t, nil
	}
	t, err := i.request(ctx, resource)
	if err != nil {
		return azcore.AccessToken{}, fmt.Errorf("get a token for %s: %w", resource, err)
	}
	i.tokens[resource] = t
	return t, nil
}

func (i *managedIdentity) request(ctx context.Context, resource string) (azcore.AccessToken, error) {
	query := url.Values{"api-version": {"2019-08-01"}, "resource": {resource}}
	if i.clientID != "" {
		query.Set("client_id", i.clientID)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, i.endpoint+"?"+query.Encode(), nil)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	r.Header.Set("X-IDENTITY-HEADER", i.header)
	response, err := i.client.Do(r)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxIdentityReply))
	if err != nil {
		return azcore.AccessToken{}, err
	}
	if response.StatusCode != http.StatusOK {
		return azcore.AccessToken{}, fmt.Errorf("the identity endpoint says %s: %s", response.Status, strings.TrimSpace(string(body)))
	}
	var given struct {
		AccessToken string `json:"access_token"`
		ExpiresOn   string `json:"expires_on"` // seconds since 1970
	}
	if err := json.Unmarshal(body, &given); err != nil {
		return azcore.AccessToken{}, err
	}
	seconds, err := strconv.ParseInt(given.ExpiresOn, 10, 64)
	if err != nil || given.AccessToken == "" {
		return azcore.AccessToken{}, errors.Join(errors.New("the identity endpoint gave no token"), err)
	}
	return azcore.AccessToken{Token: given.AccessToken, ExpiresOn: time.Unix(seconds, 0)}, nil
}
