package identity

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"strconv"
)

const (
	apiVersion = "2019-08-01"
	configPath = "/.well-known/openid-configuration"
)

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, s.token)
	mux.HandleFunc("GET "+KeysPath, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, s.keySet()) })
	mux.HandleFunc("GET "+configPath, func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, map[string]any{
			"issuer": s.Issuer(), "jwks_uri": "http://" + r.Host + KeysPath, "id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	return mux
}

// token answers a request for a token (learn.microsoft.com/azure/app-service/
// overview-managed-identity, "REST endpoint reference").
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	shown := r.Header.Get("X-IDENTITY-HEADER")
	query := r.URL.Query()
	resource := query.Get("resource")
	identity, found := s.find(query.Get("client_id"))
	switch {
	case subtle.ConstantTimeCompare([]byte(shown), []byte(s.secret)) != 1:
		refuse(w, http.StatusUnauthorized, "the header X-IDENTITY-HEADER is not the one of this app")
	case query.Get("api-version") != apiVersion:
		refuse(w, http.StatusBadRequest, "api-version is not "+apiVersion)
	case query.Has("mi_res_id") || query.Has("object_id") || query.Has("principal_id"):
		refuse(w, http.StatusBadRequest, "an identity is named by client_id here")
	case !found:
		refuse(w, http.StatusBadRequest, "the app has no such identity")
	case !known(resource):
		refuse(w, http.StatusBadRequest, "no tokens are given for this resource")
	default:
		token, expires, err := s.sign(identity, resource)
		if err != nil {
			refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		answer(w, http.StatusOK, map[string]string{
			"access_token": token, "expires_on": strconv.FormatInt(expires.Unix(), 10),
			"resource": resource, "token_type": "Bearer", "client_id": identity,
		})
	}
}

func refuse(w http.ResponseWriter, status int, message string) {
	answer(w, status, map[string]any{"statusCode": status, "message": message})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that is gone needs no answer
}
