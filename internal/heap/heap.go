// Package heap answers one question: how much memory may a process take to save
// CPU? It sets Go's two bounds, and must never overrule an admin who set them in
// the environment.
package heap

import "runtime/debug"

// Trade lets garbage grow to a percentage of what is in use before it is
// collected, as long as the process holds less than enough bytes; from there on
// memory counts for more than CPU. At Go's 100 percent, a process that lives on a
// few megabytes and unpacks a few more for every event collects all the time.
// GOGC and GOMEMLIMIT (Go's runtime package) prevail where getenv knows them.
func Trade(getenv func(string) string, percent int, enough int64) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(enough)
	}
}
