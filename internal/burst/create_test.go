package burst

import (
	"testing"
	"time"
)

// A job that was only counted in shadow mode is let in like any other once the
// policy is active, also by a pass that no new snapshot caused.
func TestAJobThatShadowModeCountedIsLetInAnew(t *testing.T) {
	p := Policy{
		MaxActAge: 90 * time.Second, Users: []Share{{"", 1}},
		Nodearrays: []Nodearray{{Name: "htc", Partition: "htc", Nodes: []NodeName{"htc-1"}, MaxNodes: 1, Price: 1e6, BootDeadline: time.Hour, IdleTimeout: time.Hour}},
	}
	f := Facts{
		Snapshot:   Snapshot{Position{1, 5}, origin},
		Nodearrays: []NodearrayFacts{{Name: "htc", Available: Availability{Known: true, Count: 1, MaxCount: 1}}},
		Nodes:      []Node{{Name: "htc-1", Nodearray: "htc", Slurm: PoweringUp, Since: origin, Supply: Absent, Jobs: []BootJob{{"9", true}}}},
		Running:    []RunningJob{{ID: "9", User: "ada", Nodearray: "htc", Nodes: 1, Configuring: true, TimeLimit: time.Hour}},
		Memory: Memory{
			Seen: Position{1, 5},
			Jobs: []CloudJob{{ID: "9", User: "ada", Nodearray: "htc", Nodes: 1, Rate: 1e6, Committed: 1e6, CommittedAt: origin, TimeLimit: time.Hour, Shadow: true}},
		},
	}
	plan := Decide(origin, p, f)
	if len(plan.Creates) != 1 || len(plan.Memory.Jobs) != 1 || plan.Memory.Jobs[0].Shadow || plan.Memory.Jobs[0].Committed != 1e6 {
		t.Errorf("creates %v, remembers %+v", plan.Creates, plan.Memory.Jobs)
	}
	p.Shadow = true
	if plan := Decide(origin, p, f); len(plan.Creates) != 0 || !plan.Memory.Jobs[0].Shadow {
		t.Errorf("in shadow mode creates %v, remembers %+v", plan.Creates, plan.Memory.Jobs)
	}
}
