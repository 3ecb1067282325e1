// Package burst is the functional core. It answers one question: given what
// is known and the time, what should change, and why? It does no input or
// output, reads no clock, keeps no state and returns no error: what cannot be
// done is a Hold with a Reason.
package burst
