package burst

import (
	"slices"
	"strings"
)

// recallStep takes the nodearray's steps from the memory; an interval that is
// over begins anew with the next step.
func (a *arrayDecision) recallStep() {
	a.step = StepMemory{Nodearray: a.policy.Name}
	for _, kept := range a.memory.Steps {
		if kept.Nodearray == a.policy.Name {
			a.step = kept
		}
	}
	if !a.now.Before(a.step.UpFrom.Add(a.policy.StepUp.Every)) {
		a.step.Up = 0
	}
	if !a.now.Before(a.step.DownFrom.Add(a.policy.StepDown.Every)) {
		a.step.Down = 0
	}
}

// stepLeft is how many nodes may be created in the running interval.
func (a *arrayDecision) stepLeft() int { return a.policy.StepUp.Nodes - a.step.Up }

// stepUp notes the create of nodes.
func (a *arrayDecision) stepUp(nodes int) {
	if a.step.Up == 0 {
		a.step.UpFrom = a.now
	}
	a.step.Up += nodes
	a.step.CreatedAt = a.now
}

// stepDown notes that an idle node is powered down, or reports why it has to
// stay a little longer.
func (a *arrayDecision) stepDown() blocker {
	if cool := a.policy.CooldownDown; cool > 0 && !a.step.CreatedAt.IsZero() && !a.reached(IdleDeadline, a.step.CreatedAt.Add(cool)) {
		return blocker{code: ReasonCooldown, format: "%s lets no idle node go for %s after it got a new one", args: []any{a.policy.Name, seconds(cool)}}
	}
	if step := a.policy.StepDown; step.Nodes > 0 && a.step.Down >= step.Nodes {
		a.reached(IdleDeadline, a.step.DownFrom.Add(step.Every))
		return blocker{code: ReasonStep, format: "%s lets at most %s go within %s", args: []any{a.policy.Name, count(step.Nodes, "idle node"), seconds(step.Every)}}
	}
	if a.step.Down == 0 {
		a.step.DownFrom = a.now
	}
	a.step.Down++
	a.step.IdledAt = a.now
	return blocker{}
}

// rememberSteps puts the steps into the memory, where there are any.
func (d *decision) rememberSteps() {
	d.memory.Steps = nil
	for _, a := range d.ranked {
		if a.step != (StepMemory{Nodearray: a.policy.Name}) {
			d.memory.Steps = append(d.memory.Steps, a.step)
		}
	}
	slices.SortFunc(d.memory.Steps, func(a, b StepMemory) int { return strings.Compare(string(a.Nodearray), string(b.Nodearray)) })
}
