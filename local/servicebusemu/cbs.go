package servicebusemu

import (
	"fmt"
	"time"
)

// cbsAddress is where clients bring their tokens (AMQP claims-based security).
const cbsAddress = "$cbs"

// putToken answers a client that shows a token for an entity, which it does
// before it opens a link. Without Config.Auth any token is accepted; an entity that does not exist is
// not, and this is where the client learns it: an RPC 404 is the only thing that
// azservicebus reports as CodeNotFound.
func (s *session) putToken(req request) response {
	if req.operation != "put-token" {
		return response{code: 400, description: fmt.Sprintf("%s knows no operation %q.", cbsAddress, req.operation)}
	}
	audience, ok := req.properties.get("name").(string)
	if !ok {
		return response{code: 400, description: "The request has no name."}
	}
	auth := s.c.srv.auth
	var until time.Time
	if auth != nil {
		kind, _ := req.properties.get("type").(string)
		token, _ := req.body.(string)
		var r *refusal
		until, r = auth.check(kind, token, audience, s.c.srv.clock.Now())
		if r != nil {
			return failed(r)
		}
	}
	if _, _, r := s.c.srv.find(audience); r != nil {
		return failed(r)
	}
	if auth != nil {
		s.c.grant(pathOf(audience), until)
	}
	return response{code: 202, description: "Accepted"}
}
