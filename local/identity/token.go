package identity

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// claims are those of a managed identity's v1 access token that somebody reads:
// Azurite 3.37.0 wants iss, aud, iat, nbf and exp and checks no signature.
type claims struct {
	jwt.RegisteredClaims
	// Audience is one text, as Entra writes it: Azurite 3.37.0 refuses a list.
	Audience string `json:"aud"`
	AppID    string `json:"appid"`
	ObjectID string `json:"oid"`
	TenantID string `json:"tid"`
	Version  string `json:"ver"`
}

// GetAudience implements jwt.Claims.
func (c claims) GetAudience() (jwt.ClaimStrings, error) { return jwt.ClaimStrings{c.Audience}, nil }

// sign makes a token and notes the grant.
func (s *Server) sign(clientID, resource string) (token string, expires time.Time, err error) {
	// A token counts whole seconds.
	now := s.config.Now().Truncate(time.Second)
	expires = now.Add(s.config.Lifetime)
	object := uuid.NewSHA1(uuid.NameSpaceURL, []byte(clientID)).String()
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: s.Issuer(), Subject: object, ID: uuid.NewString(),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires),
		},
		Audience: resource, AppID: clientID, ObjectID: object, TenantID: s.tenant, Version: "1.0",
	})
	t.Header["kid"] = s.keyID
	if token, err = t.SignedString(s.key); err != nil {
		return "", time.Time{}, fmt.Errorf("sign a token: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants = append(s.grants, Grant{ClientID: clientID, Resource: strings.TrimSuffix(resource, "/"), Expires: expires})
	return token, expires, nil
}

// Verify checks signature, issuer, audience and lifetime of a token, and gives
// the identity that it was given to and when it ends. The resource is one of the
// constants of this package.
func (s *Server) Verify(token, resource string) (clientID string, expires time.Time, err error) {
	var c claims
	_, err = jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return s.key.Public(), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}), jwt.WithIssuer(s.Issuer()), jwt.WithExpirationRequired(),
		jwt.WithAudience(resource, resource+"/"), jwt.WithTimeFunc(s.config.Now))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("verify a token: %w", err)
	}
	if c.AppID == "" {
		return "", time.Time{}, errors.New("verify a token: it names no identity")
	}
	return c.AppID, c.ExpiresAt.Time, nil
}

// keySet is the public key in the form that Entra publishes (RFC 7517).
func (s *Server) keySet() map[string]any {
	encode := base64.RawURLEncoding.EncodeToString
	return map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": s.keyID,
		"n": encode(s.key.N.Bytes()), "e": encode(big.NewInt(int64(s.key.E)).Bytes()),
	}}}
}
