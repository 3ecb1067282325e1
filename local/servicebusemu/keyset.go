package servicebusemu

import (
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"sync"
)

// keySet is a JSON Web Key Set (RFC 7517) that is fetched when it is needed.
type keySet struct {
	address string
	client  *http.Client

	mu   sync.Mutex
	keys map[string]crypto.PublicKey
}

func (s *keySet) key(id string) (crypto.PublicKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.keys[id]; ok {
		return k, nil
	}
	keys, err := s.fetch()
	if err != nil {
		return nil, fmt.Errorf("fetch keys from %s: %w", s.address, err)
	}
	s.keys = keys
	if k, ok := keys[id]; ok {
		return k, nil
	}
	return nil, fmt.Errorf("key %q at %s: %w", id, s.address, errNoKey)
}

func (s *keySet) fetch() (map[string]crypto.PublicKey, error) {
	rsp, err := s.client.Get(s.address)
	if err != nil {
		return nil, err
	}
	defer rsp.Body.Close()
	if rsp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", rsp.Status)
	}
	var set struct {
		Keys []jsonWebKey `json:"keys"`
	}
	if err := json.NewDecoder(io.LimitReader(rsp.Body, maxKeySet)).Decode(&set); err != nil {
		return nil, err
	}
	keys := make(map[string]crypto.PublicKey, len(set.Keys))
	for _, k := range set.Keys {
		// Keys of kinds that nobody signs with here are not an error.
		if key := k.public(); key != nil {
			keys[k.ID] = key
		}
	}
	return keys, nil
}

// jsonWebKey is a public key (RFC 7518 section 6.3). Entra ID signs with RSA.
type jsonWebKey struct {
	ID   string `json:"kid"`
	Type string `json:"kty"`
	N    bigInt `json:"n"`
	E    bigInt `json:"e"`
}

func (k jsonWebKey) public() crypto.PublicKey {
	if k.Type == "RSA" && k.N.Int != nil && k.E.Int != nil && k.E.IsInt64() && k.E.Int64() < 1<<31 {
		return &rsa.PublicKey{N: k.N.Int, E: int(k.E.Int64())}
	}
	return nil
}

// bigInt is a number in base64url, as keys have them.
type bigInt struct{ *big.Int }

// UnmarshalJSON implements json.Unmarshaler.
func (i *bigInt) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return err
	}
	i.Int = new(big.Int).SetBytes(b)
	return nil
}
