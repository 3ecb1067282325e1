// Command bench answers one question: how fast is slurmburst, measured side by
// side with what nothing can be faster than? It measures whole processes from
// outside, repeats, and writes RESULTS.md. The short form is for CI: it fails
// when a ratio to a floor of the same run is more than twice that of
// baseline.json.
//
// It must never judge an absolute time, which says more about the machine, and
// never measure code that it changed or a path that does not ship.
package main
