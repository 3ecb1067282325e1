// Package reconcile is the shell around the core: it loads the facts of one
// cluster, asks burst.Decide, commits the answer, acts on it and settles what
// came of it. It is the only package that translates between the vendors'
// words and the core's. It must never decide anything itself, and never act
// before the commit that says so: the host may kill the process between any
// two lines, and whoever loads the cluster next completes what was committed.
package reconcile
