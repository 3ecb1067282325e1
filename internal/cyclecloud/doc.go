// Package cyclecloud speaks CycleCloud's REST API: which nodes does a cluster
// have, how many more may it have, and make, start, stop or remove these ones.
// It is built on azcore's pipeline, so retries, logging and tracing behave as
// in any Azure SDK client.
//
// It must never decide anything (it reports what the server says, with the
// server's known lies taken out), never send a request twice that has no
// request id, never select nodes by anything but their ids, never reach a
// server whose certificate was not verified, and never write a password or a
// whole body to a log.
//
// Vendor facts are those of the CycleCloud 8 REST documentation (operations
// page of 2026-05-13) and of the clients that Microsoft publishes for it
// (cyclecloud-scalelib 1.0.11, cyclecloud-slurm 4.0.9, cyclecloud-symphony).
// Error bodies, the list of node statuses and most fields of a node record are
// not documented; the decoders are lenient about types and strict about
// absence, because "no such node" is a fact that others act on.
package cyclecloud
