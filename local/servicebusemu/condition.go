package servicebusemu

// Error conditions, from the AMQP 1.0 specification and from Service Bus. The
// client decides by them what to rebuild and whether to try again.
const (
	condFraming         symbol = "amqp:connection:framing-error"
	condNotFound        symbol = "amqp:not-found"
	condNotAllowed      symbol = "amqp:not-allowed"
	condInvalidField    symbol = "amqp:invalid-field"
	condDecode          symbol = "amqp:decode-error"
	condResourceLimit   symbol = "amqp:resource-limit-exceeded"
	condHandleInUse     symbol = "amqp:session:handle-in-use"
	condUnattached      symbol = "amqp:session:unattached-handle"
	condMessageTooLarge symbol = "amqp:link:message-size-exceeded"
	condDetachForced    symbol = "amqp:link:detach-forced"
	condUnauthorized    symbol = "amqp:unauthorized-access"
	condTransferLimit   symbol = "amqp:link:transfer-limit-exceeded"

	condTimeout         symbol = "com.microsoft:timeout"
	condMessageLockLost symbol = "com.microsoft:message-lock-lost"
	condSessionLockLost symbol = "com.microsoft:session-lock-lost"
	condSessionLocked   symbol = "com.microsoft:session-cannot-be-locked"
	condDeadLetter      symbol = "com.microsoft:dead-letter"
	condArgument        symbol = "com.microsoft:argument-error"
	condServerBusy      symbol = "com.microsoft:server-busy"
)

// Texts observed on the service.
const (
	textMessageLockLost = "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue."
	textSessionLockLost = "The session lock has expired on the MessageSession. Accept a new MessageSession."
)

// Encoded outcomes that carry nothing.
var (
	outcomeAccepted = []byte{ctorDescribed, ctorSmallUlng, codeAccepted, ctorList0}
	outcomeRejected = []byte{ctorDescribed, ctorSmallUlng, codeRejected, ctorList0}
	outcomeReleased = []byte{ctorDescribed, ctorSmallUlng, codeReleased, ctorList0}
	outcomeModified = []byte{ctorDescribed, ctorSmallUlng, codeModified, ctorList0}
)

// refusal is a failure that goes to the peer as an AMQP error.
type refusal struct {
	condition symbol
	text      string
}

func (r *refusal) Error() string { return string(r.condition) + ": " + r.text }

func refuse(condition symbol, text string) *refusal { return &refusal{condition, text} }

// amqp is the refusal as an error value of the protocol.
func (r *refusal) amqp() any {
	return described{uint64(codeError), []any{r.condition, r.text}}
}

// outcome is the refusal as an encoded rejected outcome.
func (r *refusal) outcome() []byte {
	return appendDescribedList(nil, codeRejected, r.amqp())
}
