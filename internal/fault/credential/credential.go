// Package credential answers one question for every client of Azure: is an
// error about this process's own identity, and would trying again help? It must
// never ask for a token itself.
package credential

import (
	"errors"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Kind classifies an error of a credential; found is false for any other error.
//
// A token endpoint that refuses the identity, as with invalid_client or a bad
// assertion, is fault.Denied: a person has to act. One that cannot be reached,
// answers too late, is throttling or broken is fault.Transient, although
// azidentity 1.14.1 marks every failure of it as one not to be retried. A
// credential that lacks what it needs to ask at all is fault.Denied.
func Kind(err error) (kind fault.Kind, found bool) {
	var failed *azidentity.AuthenticationFailedError
	if errors.As(err, &failed) {
		if failed.RawResponse == nil { // it was not answered
			return fault.Transient, true
		}
		return ofStatus(failed.RawResponse.StatusCode), true
	}
	var final interface {
		error
		NonRetriable()
	}
	// azcore marks an answer that broke off in the same way: that is no
	// credential's, and names its cause.
	if errors.As(err, &final) && !fault.Is(final, fault.Transient) {
		return fault.Denied, true
	}
	return fault.Bug, false
}

func ofStatus(status int) fault.Kind {
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		return fault.Transient
	case status >= 400 && status < 500:
		return fault.Denied
	}
	return fault.Transient
}
