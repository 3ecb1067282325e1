package servicebusemu

import "fmt"

// cbsAddress is where clients bring their tokens (AMQP claims-based security).
const cbsAddress = "$cbs"

// putToken answers a client that shows a token for an entity, which it does
// before it opens a link. Any token is accepted; an entity that does not exist is
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
	if _, _, r := s.c.srv.find(audience); r != nil {
		return failed(r)
	}
	return response{code: 202, description: "Accepted"}
}
