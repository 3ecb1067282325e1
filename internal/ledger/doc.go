// Package ledger answers the question "what has been decided, and what became
// of it?". It keeps the commit partition of each cluster, in which everything
// that must change together changes in one transaction, and the public tables,
// which are projections of it for people and their tools.
//
// It speaks to Azure Table Storage through aztables. It knows rows, keys and
// the service's limits, and nothing of Slurm, CycleCloud or the bursting rules:
// its rows are plain strings, numbers, times and bytes. It must never decide
// anything, never write a row with Replace (a column written by a newer version
// has to survive), and never send the service what the service would refuse:
// the limits are checked here, because the emulator that tests run against is
// laxer than Azure.
//
// A column, once published in docs/tables.md, keeps its meaning.
package ledger
