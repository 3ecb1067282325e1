package servicebusemu

import (
	"errors"
	"fmt"
)

// maxRequest bounds a request; scheduling carries whole messages.
const maxRequest = 4 << 20

// request is one request to $cbs or $management.
type request struct {
	operation  string
	properties orderedMap
	body       any
}

// response is its answer. The code is an HTTP status; the client decides by it.
type response struct {
	code        int32
	description string
	condition   symbol // of an error
	body        any
}

// failed turns a refusal into the code that the client knows it by.
func failed(r *refusal) response {
	codes := map[symbol]int32{
		condNotFound:        404,
		condMessageLockLost: 410,
		condSessionLockLost: 410,
		condUnauthorized:    401,
		condServerBusy:      503,
		condNotAllowed:      403,
		condResourceLimit:   403,
		condMessageTooLarge: 413,
	}
	code, ok := codes[r.condition]
	if !ok {
		code = 400
	}
	return response{code: code, description: r.text, condition: r.condition}
}

// rpc makes a function for an inbound link that answers each message with what
// handle returns, on the link of the same session that the message's reply-to
// names.
func (s *session) rpc(handle func(request) response) func(uint32, []byte) []byte {
	return func(_ uint32, message []byte) []byte {
		req, replyTo, id, err := parseRequest(message)
		if err != nil {
			return refuse(condDecode, fmt.Sprintf("The request could not be read: %v.", err)).outcome()
		}
		link := s.replyLink(replyTo)
		if link == nil {
			return refuse(condNotFound, fmt.Sprintf("No link receives replies for %s.", replyTo)).outcome()
		}
		if !link.reply(handle(req).encode(id)) {
			return refuse(condResourceLimit, "Too many replies wait for credit.").outcome()
		}
		return outcomeAccepted
	}
}

func (s *session) replyLink(address string) *outbound {
	for _, l := range s.outbound {
		if l.consumer == nil && l.address == address {
			return l
		}
	}
	return nil
}

func parseRequest(message []byte) (req request, replyTo string, id any, err error) {
	d := decoder{buf: message}
	for d.rest() > 0 {
		code, err := d.sectionCode()
		if err != nil {
			return request{}, "", nil, err
		}
		v, err := d.value()
		if err != nil {
			return request{}, "", nil, err
		}
		switch code {
		case codeProperties:
			l, _ := v.([]any)
			if len(l) > 0 {
				id = l[0]
			}
			replyTo, _ = field[string](l, 4)
		case codeAppProperties:
			req.properties, _ = v.(orderedMap)
			req.operation, _ = req.properties.get("operation").(string)
		case codeValue:
			req.body = v
		}
	}
	if req.operation == "" || replyTo == "" {
		return request{}, "", nil, errors.New("operation or reply-to is missing")
	}
	return req, replyTo, id, nil
}

// encode writes the response to the request with this message id.
func (r response) encode(id any) []byte {
	b := appendDescribedList(nil, codeProperties, nil, nil, nil, nil, nil, id)
	properties := orderedMap{{"statusCode", r.code}, {"statusDescription", r.description}}
	if r.condition != "" {
		properties = append(properties, pair{"errorCondition", r.condition})
	}
	b = appendValue(append(b, ctorDescribed, ctorSmallUlng, codeAppProperties), properties)
	return appendValue(append(b, ctorDescribed, ctorSmallUlng, codeValue), r.body)
}
