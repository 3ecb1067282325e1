package slurm

import (
	"slices"
	"testing"
)

// TestOnlyFieldsOfBothVersionsAreAskedFor guards against a field that one
// version refuses: it would be missing from every line.
func TestOnlyFieldsOfBothVersionsAreAskedFor(t *testing.T) {
	for _, version := range versions {
		squeue := longFields(capture(t, version, "squeue-O.format.txt"))
		for _, name := range (JobQuery{AdminComment: true}).columns().names() {
			// The captures have this one as %Q; Slurm keeps one table of
			// fields for both ways of asking, and 22.05.8 took it as
			// PriorityLong (squeue-product.txt).
			if name == "PriorityLong" {
				continue
			}
			if !slices.Contains(squeue, name) {
				t.Errorf("%s: squeue field %s is in no capture", version, name)
			}
		}
		sinfo := longFields(capture(t, version, "sinfo-N-O.format.txt"))
		for _, name := range newTableParser(nodeColumns).names() {
			if !slices.Contains(sinfo, name) {
				t.Errorf("%s: sinfo field %s is in no capture", version, name)
			}
		}
	}
}
