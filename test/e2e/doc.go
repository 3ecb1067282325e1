// Package e2e answers one question: does slurmburst keep its promises with
// every part real that can be real on one machine? Each test starts a world
// (local/world) with a real Slurm, the built binaries and the packaged app,
// breaks something, and judges by records that the product cannot influence:
// slurmctld's log, Slurm's record of ended jobs, the simulator's journal. It
// must never reach into the product's processes, and needs `make build package`.
package e2e
