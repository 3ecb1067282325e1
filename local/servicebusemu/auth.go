package servicebusemu

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// ServiceBusAudience is what a token for Service Bus is issued for.
const ServiceBusAudience = "https://servicebus.azure.net"

// Types of tokens in a put-token request.
const (
	tokenSAS = "servicebus.windows.net:sastoken"
	tokenJWT = "jwt"
)

// Auth says whose tokens open the queues. Every token that is good is good for
// everything that its audience covers: there are no separate claims for sending
// and listening.
type Auth struct {
	// Keys are the keys that may sign shared access signatures, by their name.
	Keys map[string]string
	// Tokens, if not nil, accepts JWTs as managed identities bring them.
	Tokens *TokenAuth
}

// TokenAuth says which JWTs are good.
type TokenAuth struct {
	// Key finds the public key that the token names in its header.
	Key func(keyID string) (crypto.PublicKey, error)
	// Issuer must be the token's. Empty: any.
	Issuer string
	// Audience must be the token's; a slash at the end does not count. Default
	// ServiceBusAudience.
	Audience string
}

// unauthorized is a refusal of a token, with the text of the service where one is
// known.
func unauthorized(format string, a ...any) *refusal {
	return refuse(condUnauthorized, fmt.Sprintf(format, a...))
}

func expired(at time.Time) *refusal {
	return unauthorized("ExpiredToken: The token is expired. Expiration time: '%s'.", at.UTC().Format(time.RFC1123))
}

// check says until when a token opens what is below audience.
func (a *Auth) check(kind, token, audience string, now time.Time) (until time.Time, r *refusal) {
	switch {
	case kind == tokenSAS && len(a.Keys) > 0:
		return a.checkSignature(token, audience, now)
	case kind == tokenJWT && a.Tokens != nil:
		return a.Tokens.check(token, now)
	}
	return time.Time{}, unauthorized("InvalidTokenType: Tokens of type '%s' are not accepted here.", kind)
}

// checkSignature checks a shared access signature
// (learn.microsoft.com/azure/service-bus-messaging/service-bus-sas).
func (a *Auth) checkSignature(token, audience string, now time.Time) (time.Time, *refusal) {
	parts := make(map[string]string)
	rest, ok := strings.CutPrefix(token, "SharedAccessSignature ")
	for _, part := range strings.Split(rest, "&") {
		name, value, _ := strings.Cut(part, "=")
		parts[name] = value
	}
	resource, errResource := url.QueryUnescape(parts["sr"])
	sig, errSig := url.QueryUnescape(parts["sig"])
	keyName, errName := url.QueryUnescape(parts["skn"])
	seconds, errExpiry := strconv.ParseInt(parts["se"], 10, 64)
	if err := errors.Join(errResource, errSig, errName, errExpiry); !ok || err != nil {
		return time.Time{}, unauthorized("MalformedToken: The shared access signature could not be read.")
	}
	mac := hmac.New(sha256.New, []byte(a.Keys[keyName]))
	mac.Write([]byte(parts["sr"] + "\n" + parts["se"]))
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if a.Keys[keyName] == "" || !hmac.Equal([]byte(want), []byte(sig)) {
		return time.Time{}, unauthorized("InvalidSignature: The token has an invalid signature.")
	}
	until := time.Unix(seconds, 0)
	switch {
	case !now.Before(until):
		return time.Time{}, expired(until)
	case !below(pathOf(audience), pathOf(resource)):
		return time.Time{}, unauthorized("InvalidAudience: The token is for '%s', not for '%s'.", resource, audience)
	}
	return until, nil
}

func (a *TokenAuth) check(token string, now time.Time) (time.Time, *refusal) {
	var claims jwt.RegisteredClaims
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{"RS256", "RS384", "RS512", "PS256"}),
		jwt.WithExpirationRequired(), jwt.WithTimeFunc(func() time.Time { return now }),
	}
	_, err := jwt.ParseWithClaims(token, &claims, func(t *jwt.Token) (any, error) {
		id, _ := t.Header["kid"].(string)
		return a.Key(id)
	}, options...)
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return time.Time{}, expired(claims.ExpiresAt.Time)
	case errors.Is(err, jwt.ErrTokenMalformed):
		return time.Time{}, unauthorized("MalformedToken: The token could not be read.")
	case err != nil:
		return time.Time{}, unauthorized("InvalidSignature: The token has an invalid signature.")
	case a.Issuer != "" && claims.Issuer != a.Issuer:
		return time.Time{}, unauthorized("InvalidIssuer: The token was issued by '%s'.", claims.Issuer)
	}
	want := a.Audience
	if want == "" {
		want = ServiceBusAudience
	}
	for _, audience := range claims.Audience {
		if strings.TrimSuffix(audience, "/") == strings.TrimSuffix(want, "/") {
			return claims.ExpiresAt.Time, nil
		}
	}
	return time.Time{}, unauthorized("InvalidAudience: The token is for '%s'.", strings.Join(claims.Audience, "', '"))
}

// pathOf is the path of an audience or of an address, for comparison: tokens and
// links name the same thing with and without the namespace.
func pathOf(address string) string {
	if _, after, ok := strings.Cut(address, "://"); ok {
		_, address, _ = strings.Cut(after, "/")
	}
	return strings.ToLower(strings.Trim(address, "/"))
}

// below says whether a path is base or lies under it. The empty base is the whole
// namespace.
func below(path, base string) bool {
	return base == "" || path == base || strings.HasPrefix(path, base+"/")
}

// grants are the good tokens that a client has brought on a connection.
type grants struct {
	until map[string]time.Time // by path
	timer Timer
}

// grant remembers a good token, and looks again when it runs out. The reader
// goroutine calls it.
func (c *connection) grant(path string, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.granted.until == nil {
		c.granted.until = make(map[string]time.Time)
	}
	c.granted.until[path] = until
	c.watchExpiry()
}

// watchExpiry sets the timer for the first token that runs out. The connection's
// mutex is held.
func (c *connection) watchExpiry() {
	var first time.Time
	for _, until := range c.granted.until {
		if first.IsZero() || until.Before(first) {
			first = until
		}
	}
	if first.IsZero() || c.closing {
		return
	}
	wait := max(0, first.Sub(c.srv.clock.Now()))
	if c.granted.timer == nil {
		c.granted.timer = c.srv.clock.AfterFunc(wait, c.tokensExpired)
		return
	}
	c.granted.timer.Reset(wait)
}

// tokensExpired detaches the links whose tokens have run out without a new one.
func (c *connection) tokensExpired() {
	now := c.srv.clock.Now()
	c.mu.Lock()
	var last time.Time
	for path, until := range c.granted.until {
		if !now.Before(until) {
			delete(c.granted.until, path)
			last = until
		}
	}
	c.watchExpiry()
	c.mu.Unlock()
	for _, l := range c.links(func(l link) bool { return !c.covered(l.path(), now) }) {
		l.detachFor(expired(last))
	}
}

// covered says whether a token opens a path. The connection's mutex is held.
func (c *connection) covered(path string, now time.Time) bool {
	for base, until := range c.granted.until {
		if now.Before(until) && below(path, base) {
			return true
		}
	}
	return false
}

// authorize refuses a link to an address that no token covers.
func (c *connection) authorize(address, claim string) *refusal {
	if c.srv.auth == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.covered(pathOf(address), c.srv.clock.Now()) {
		return nil
	}
	return unauthorized("Unauthorized access. '%s' claim(s) are required to perform this operation. Resource: 'sb://%s'.", claim, address)
}

// forgetTokens stops the timer of a connection that has ended.
func (c *connection) forgetTokens() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.granted.until)
	if c.granted.timer != nil {
		c.granted.timer.Stop()
	}
}

// errNoKey says that a token names a key that its issuer does not have.
var errNoKey = errors.New("no such key")

// maxKeySet bounds what is read of a key set.
const maxKeySet = 1 << 20

// keySetTimeout bounds one look at a key set: the client waits for it.
const keySetTimeout = 5 * time.Second

// KeySet is a TokenAuth.Key that asks the JSON Web Key Set at an address. It asks
// again whenever a token names a key it has not seen.
func KeySet(address string) func(keyID string) (crypto.PublicKey, error) {
	s := &keySet{address: address, client: &http.Client{Timeout: keySetTimeout}}
	return s.key
}
