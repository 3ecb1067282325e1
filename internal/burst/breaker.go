package burst

import (
	"slices"
	"strings"
	"time"
)

// backoff is how long a nodearray rests after so many failures in a row.
func (p BreakerPolicy) backoff(failures int) time.Duration {
	first, most := p.First, p.Max
	if first <= 0 {
		first = closeAfterRefusal
	}
	if most < first {
		most = first
	}
	rest := first
	for range min(failures-1, 30) {
		if rest >= most/2 {
			return most
		}
		rest *= 2
	}
	return rest
}

// trip notes a failure of the nodearray that happened at the given time. One
// that was noted, or is older than its rest, changes nothing; one during a rest
// prolongs it (not in shadow mode, where what ends the failure is withheld), one
// after it doubles it.
func (a *arrayDecision) trip(at time.Time, why Reason) {
	b := a.breaker
	if !at.After(b.FailedAt) || a.decision.policy.Shadow && a.now.Before(b.OpenUntil) {
		return
	}
	failures := b.Failures
	if failures == 0 || !at.Before(b.OpenUntil) {
		failures++
	}
	until := at.Add(a.decision.policy.Breaker.backoff(failures))
	if !a.now.Before(until) {
		return
	}
	b.Failures, b.FailedAt = failures, at
	a.rest(until, why)
}

// rest takes the nodearray out of use until the given time, if that is later
// than what is known already.
func (a *arrayDecision) rest(until time.Time, why Reason) {
	if !a.now.Before(until) || !until.After(a.breaker.OpenUntil) {
		return
	}
	a.breaker.OpenUntil, a.breaker.Reason = until, why
	a.closing = Closing{Nodearray: a.policy.Name, Until: until, Reason: why}
}

// closed reports whether the nodearray rests.
func (a *arrayDecision) closed() bool {
	return !a.breaker.OpenUntil.IsZero() && !a.reached(Retry, a.breaker.OpenUntil)
}

// probing reports whether the nodearray failed, has rested, and has to show
// that it works again: until a node joins, one job tries it.
func (a *arrayDecision) probing() bool { return a.breaker.Failures > 0 && !a.closed() }

// recall takes the nodearray's breaker from the memory. That of another machine
// type tells nothing about this one, and a node that joined closes it.
func (a *arrayDecision) recall() {
	b := &Breaker{Nodearray: a.policy.Name, MachineType: a.policy.MachineType}
	for i := range a.memory.Breakers {
		if kept := &a.memory.Breakers[i]; kept.Nodearray == a.policy.Name && kept.MachineType == a.policy.MachineType {
			*b = *kept
		}
	}
	if b.Failures > 0 {
		joined := func(n *Node) bool { return n.Slurm.joined() && n.Supply.present() && n.CreatedAt.After(b.FailedAt) }
		if slices.ContainsFunc(a.nodes, joined) {
			b.Failures = 0
		}
	}
	for _, n := range a.nodes {
		a.probe = a.probe || b.Failures > 0 && (n.Supply == Creating || n.Supply == Booting) && n.CreatedAt.After(b.FailedAt)
	}
	a.breaker = b
	a.recallStep()
}

// remember puts the breakers into the memory, but those that say nothing.
func (d *decision) remember() {
	d.memory.Breakers = nil
	for _, a := range d.ranked {
		if a.breaker.Failures > 0 || d.now.Before(a.breaker.OpenUntil) {
			d.memory.Breakers = append(d.memory.Breakers, *a.breaker)
		}
	}
	slices.SortFunc(d.memory.Breakers, func(a, b Breaker) int { return strings.Compare(string(a.Nodearray), string(b.Nodearray)) })
	d.rememberSteps()
}

// OpenUntil is when the nodearray's breaker lets nodes be created again; zero
// for one that did not fail.
func (m Memory) OpenUntil(name NodearrayName) time.Time {
	for _, b := range m.Breakers {
		if b.Nodearray == name {
			return b.OpenUntil
		}
	}
	return time.Time{}
}
