package burst

import "testing"

// A pair without a rule is reported as a failure; only an unknown Slurm state
// may be without one.
func TestEveryPairHasARow(t *testing.T) {
	for s := SlurmState(0); s < slurmStates; s++ {
		for v := Supply(0); v < supplies; v++ {
			got := moves[s][v]
			if s == SlurmUnknown {
				if got != moveReport {
					t.Errorf("Slurm %s with CycleCloud %s: a state that nobody mapped must be reported", s, v)
				}
				continue
			}
			if got == moveReport {
				t.Errorf("Slurm %s with CycleCloud %s has no row", s, v)
			}
		}
	}
}

// Slurm's word is needed before a VM dies: only a node that Slurm is powering
// down is released, and a powered-down name is never terminated directly.
func TestOnlyPoweringDownIsReleased(t *testing.T) {
	for s := SlurmState(0); s < slurmStates; s++ {
		for v := Supply(0); v < supplies; v++ {
			if moves[s][v] == moveRelease && s != PoweringDown {
				t.Errorf("Slurm %s with CycleCloud %s is released", s, v)
			}
			if moves[s][v] == moveCreate && (s != PoweringUp || v != Absent) {
				t.Errorf("Slurm %s with CycleCloud %s is created", s, v)
			}
		}
	}
}
