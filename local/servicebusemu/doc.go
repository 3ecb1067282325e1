// Package servicebusemu answers the question "what would Azure Service Bus do?"
// for a program on the same machine: it speaks AMQP 1.0 to the unmodified
// azservicebus client (v1.11.0) and keeps queues, locks, sessions and schedules
// in memory, and in files if it is told to.
//
// It must never be laxer than the service: what the service refuses is refused
// here, with the same condition and code. It imports nothing of the product, so
// that a bug shared by both sides cannot hide, and it listens only where its
// caller tells it to (unless told otherwise it accepts any token: bind loopback).
//
// # What is assumed
//
// Where neither the documentation nor a recording of the service says what
// happens, this was chosen: a message that moves to the dead-letter sub-queue gets
// a new sequence number there and shows its old one as the enqueued one; nothing
// can be dead-lettered twice; the next session is the one that has been free
// longest; a receiver that names no timeout waits a minute for a session; a
// session's lock is needed to read its state; a peek sees the messages of every
// session.
//
// Left out: topics, forwarding, transactions, partitions, throttling by itself, and
// the administration API. README.md says where each behaviour is known from.
//
// # Words
//
// AMQP calls its multiplexed channel a session, and Service Bus calls a run of
// messages with one group-id a session too. Here a session is always the AMQP
// one; the other is a group, after the field that carries its name.
//
// # Locks
//
// Each entity (a queue and its dead-letter sub-queue) has one mutex; each
// connection has one mutex, over its write buffer and everything it sends from.
// The order is entity, then connection, never back; before both comes a journal's
// mutex over the writing of its file. A connection has one
// goroutine that reads and one that writes; whoever has something to say appends
// to the write buffer and never blocks on the network.
package servicebusemu
