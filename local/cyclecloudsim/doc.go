// Package cyclecloudsim answers one question: what would a CycleCloud 8.x
// server do with this REST call, at this moment, including the answers its
// documentation leaves open? It keeps node records, limits and operations as
// the server does, and its VMs are real processes (real slurmd in the demo),
// so that what the clients believe can be compared with what runs.
//
// It must never be easier to please than the real server, must never share
// code with the client it judges, must never listen beyond loopback, and must
// never leave a process behind: Close kills every VM, and the VMs die with the
// process that started them.
package cyclecloudsim
