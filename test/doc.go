// Package test holds the tests that no single package can: which package may
// import which (arch_test.go), whether the names in functions, handlers,
// settings and infra still agree (drift_test.go), and, in e2e, the built
// product on a real Slurm. It must never hold code that ships.
package test
