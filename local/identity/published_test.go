package identity_test

import (
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math/big"

	"github.com/golang-jwt/jwt/v5"
)

// verifyWith checks a token with a key in the form of RFC 7518 section 6.3.1.
func verifyWith(n, e, token string) error {
	modulus, errN := base64.RawURLEncoding.DecodeString(n)
	exponent, errE := base64.RawURLEncoding.DecodeString(e)
	if err := errors.Join(errN, errE); err != nil {
		return err
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(new(big.Int).SetBytes(exponent).Int64())}
	_, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return key, nil })
	return err
}
