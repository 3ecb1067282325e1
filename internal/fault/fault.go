// Package fault classifies errors into the few kinds that change what the
// caller does next. Adapters classify once, at the edge, where the status code
// is known; everybody else wraps with %w and asks Of.
package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
)

// Kind says what the shell does with an error. A kind exists only where the
// shell behaves differently.
type Kind int

const (
	// Bug is a broken invariant in our own code; it is also the kind of an
	// error that nobody classified and that is not plainly input or output.
	Bug Kind = iota
	// Transient may succeed when tried again unchanged.
	Transient
	// Invalid can never succeed: the input has to change.
	Invalid
	// Conflict means that someone moved first: reload and decide again.
	Conflict
	// Denied means credentials or permission: a person has to act.
	Denied
)

// String gives the kind's name as it appears in logs and tables.
func (k Kind) String() string {
	switch k {
	case Bug:
		return "bug"
	case Transient:
		return "transient"
	case Invalid:
		return "invalid"
	case Conflict:
		return "conflict"
	case Denied:
		return "denied"
	}
	return fmt.Sprintf("kind(%d)", int(k))
}

// Error is a classified error. Op says what was attempted, verb first, with
// the object and its identity: "create nodes in htc".
type Error struct {
	Kind Kind
	Op   string
	Err  error
}

// Error gives the operation and the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Op
	}
	return e.Op + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// New classifies err, which may be nil where op says all there is to say.
func New(kind Kind, op string, err error) error {
	return &Error{Kind: kind, Op: op, Err: err}
}

// Newf makes a classified error from a message alone.
func Newf(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Op: fmt.Sprintf(format, args...)}
}

// Of reads the kind of err: the outermost classification wins. Unclassified
// input and output errors are Transient; anything else unclassified is a Bug.
func Of(err error) Kind {
	var classified *Error
	if errors.As(err, &classified) {
		return classified.Kind
	}
	var (
		netErr  net.Error
		pathErr *fs.PathError
		errno   syscall.Errno
	)
	switch {
	case errors.As(err, &netErr), errors.As(err, &pathErr), errors.As(err, &errno),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Transient
	}
	return Bug
}

// Is reports whether err is not nil and of the given kind.
func Is(err error, kind Kind) bool { return err != nil && Of(err) == kind }
