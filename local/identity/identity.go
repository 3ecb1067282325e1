// Package identity answers one question: where does a program on this machine
// get the tokens that a managed identity gives it in Azure? It is the identity
// endpoint of App Service (REST protocol 2019-08-01: GET with resource and
// client_id, guarded by X-IDENTITY-HEADER), as azidentity v1.14.1 asks it, and
// it signs tokens of Microsoft Entra's form with a key of its own. It must never
// give a token to somebody without the header, for an identity that the app does
// not have, or for a resource that is not listed; and nothing outside of the
// machine trusts its key.
package identity

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Resources for which tokens are given: what azservicebus v1.11.0 and aztables
// v1.4.1 ask for, without the slash at the end that azservicebus adds.
const (
	ServiceBus = "https://servicebus.azure.net"
	Storage    = "https://storage.azure.com"
)

const (
	// DefaultLifetime of a token. Real ones live for up to a day; these are short
	// so that every program has to ask again. It may not be much shorter:
	// azservicebus v1.11.0 brings a new token after 2 minutes at the earliest.
	DefaultLifetime = 5 * time.Minute
	// Path of the token endpoint, as on App Service.
	Path = "/msi/token"
	// KeysPath is where the public key is found as a JSON Web Key Set (RFC 7517).
	KeysPath = "/discovery/keys"

	keyBits = 2048
	// issuerPrefix is what Azurite 3.37.0 and Entra's v1 tokens have in common.
	issuerPrefix = "https://sts.windows.net/"
)

// Config says which identities the app has. At least one of the two is needed.
type Config struct {
	// ClientIDs are the client ids of the user-assigned identities.
	ClientIDs []string
	// SystemAssigned is the client id of the system-assigned identity, which a
	// request without client_id gets; empty if there is none.
	SystemAssigned string
	// Lifetime of a token. Default: DefaultLifetime.
	Lifetime time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Server is an identity endpoint. It is safe for use by many goroutines.
type Server struct {
	config Config
	secret string
	tenant string
	keyID  string
	key    *rsa.PrivateKey
	http   *http.Server

	mu     sync.Mutex
	grants []Grant
}

// Grant is one token that was given out.
type Grant struct {
	// ClientID is the identity, Resource what it may be shown to.
	ClientID, Resource string
	// Expires is when it stops being valid.
	Expires time.Time
}

// New makes an endpoint with a new key and a new secret header.
func New(config Config) (*Server, error) {
	if config.Lifetime == 0 {
		config.Lifetime = DefaultLifetime
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	all := config.ClientIDs
	if config.SystemAssigned != "" {
		all = append(slices.Clone(all), config.SystemAssigned)
	}
	if len(all) == 0 {
		return nil, errors.New("make an identity endpoint: no identity is given")
	}
	for _, id := range all {
		if _, err := uuid.Parse(id); err != nil {
			return nil, fmt.Errorf("make an identity endpoint: client id %q: %w", id, err)
		}
	}
	if config.Lifetime < time.Second {
		return nil, fmt.Errorf("make an identity endpoint: a lifetime of %s is below one second", config.Lifetime)
	}
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, fmt.Errorf("make an identity endpoint: %w", err)
	}
	s := &Server{config: config, secret: rand.Text(), tenant: uuid.NewString(), keyID: rand.Text(), key: key}
	s.http = &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	return s, nil
}

// Serve answers on a loopback listener until Close, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve identities: %w", err)
	}
	return nil
}

// Close ends Serve.
func (s *Server) Close() error { return s.http.Close() }

// Issuer is the claim iss of every token.
func (s *Server) Issuer() string { return issuerPrefix + s.tenant + "/" }

// Environment is what the platform gives a process that may use the identities
// of a server that listens on addr (host:port).
func (s *Server) Environment(addr string) map[string]string {
	return map[string]string{"IDENTITY_ENDPOINT": "http://" + addr + Path, "IDENTITY_HEADER": s.secret}
}

// Grants lists the tokens given out so far, the oldest first.
func (s *Server) Grants() []Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.grants)
}

// find gives the identity that a request means.
func (s *Server) find(clientID string) (string, bool) {
	if clientID == "" {
		return s.config.SystemAssigned, s.config.SystemAssigned != ""
	}
	for _, id := range s.config.ClientIDs {
		if strings.EqualFold(id, clientID) {
			return id, true
		}
	}
	return "", false
}

// known reports whether tokens for a resource are given. A slash at the end does
// not count, for Entra neither.
func known(resource string) bool {
	plain := strings.TrimSuffix(resource, "/")
	return plain == ServiceBus || plain == Storage
}
