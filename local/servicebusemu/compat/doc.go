// Package compat answers the question "does the emulator also serve the client
// before the current one?": its tests run azservicebus v1.10.0 with go-amqp v1.4.0
// against the emulator as a process. It must never require a newer client: that is
// what the emulator's own tests are for.
package compat
