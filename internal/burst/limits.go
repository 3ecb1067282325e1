package burst

import (
	"slices"
	"time"
)

// availableLag is how long a create may be missing from CycleCloud's
// availableCount.
const availableLag = 30 * time.Second

// usage counts the nodes of the jobs in the cloud, by account and user.
type usage struct {
	accounts, users         map[string]int
	maxAccounts, maxUsers   map[string]int
	otherAccount, otherUser int // what an account or user that no entry names may have
}

func newUsage(p Policy, m *Memory) *usage {
	u := &usage{accounts: map[string]int{}, users: map[string]int{}}
	u.maxAccounts, u.otherAccount = shares(p.Accounts)
	u.maxUsers, u.otherUser = shares(p.Users)
	for i := range m.Jobs {
		if job := &m.Jobs[i]; job.RevokedAt.IsZero() {
			u.add(job.User, job.Account, job.Nodes)
		}
	}
	return u
}

func shares(list []Share) (map[string]int, int) {
	named, other := make(map[string]int, len(list)), 0
	for _, s := range list {
		if s.Name == "" {
			other = s.MaxNodes
			continue
		}
		named[s.Name] = s.MaxNodes
	}
	return named, other
}

func (u *usage) add(user, account string, nodes int) {
	u.users[user] += nodes
	u.accounts[account] += nodes
}

// bounds are how many nodes the account and the user may have; 0 for any.
func (u *usage) bounds(user, account string) (ofAccount, ofUser int) {
	most, named := u.maxAccounts[account]
	if !named {
		most = u.otherAccount
	}
	ofAccount = most
	if most, named = u.maxUsers[user]; !named {
		most = u.otherUser
	}
	return ofAccount, most
}

// allows reports why account or user may not have the nodes beside their own.
func (u *usage) allows(user, account string, nodes int) blocker {
	most, ofUser := u.bounds(user, account)
	if have := u.accounts[account]; most > 0 && have+nodes > most {
		return blocker{code: ReasonAccountNodes, format: "account %.40s may have %s and has %d, the job needs %d", args: []any{account, count(most, "node"), have, nodes}}
	}
	most = ofUser
	if have := u.users[user]; most > 0 && have+nodes > most {
		return blocker{code: ReasonUserNodes, format: "user %.40s may have %s and has %d, the job needs %d", args: []any{user, count(most, "node"), have, nodes}}
	}
	return blocker{}
}

// left is how many nodes account and user may still have beside their own.
func (u *usage) left(user, account string) int {
	left := manyNodes
	ofAccount, ofUser := u.bounds(user, account)
	if ofAccount > 0 {
		left = ofAccount - u.accounts[account]
	}
	if ofUser > 0 {
		left = min(left, ofUser-u.users[user])
	}
	return max(left, 0)
}

// place finds the first nodearray in rank that can take one job of the group,
// but not the one that failed it. Otherwise it gives the reason that counts:
// of the first nodearray that the job would fit.
func (o *overflow) place(j *judgement, failed *CloudJob) (*arrayDecision, Reason) {
	if o.facts.Paused {
		return nil, because(ReasonPaused, "an admin paused bursting")
	}
	var best blocker
	for _, name := range j.rule.Nodearrays {
		a := o.arrays[name]
		if a == nil || failed != nil && name == failed.Nodearray {
			continue
		}
		b := o.obstacle(a, j)
		if !b.blocks() {
			return a, Reason{}
		}
		if !best.blocks() || structural(best.code) && !structural(b.code) {
			best = b
		}
	}
	switch {
	case best.blocks():
		return nil, best.reason()
	case failed != nil:
		return nil, because(ReasonClosed, "%s rests after a failure, and the rule names no other nodearray", failed.Nodearray)
	}
	return nil, because(ReasonRuleSaysNo, "no overflow rule of the policy lets the job go")
}

// structural reports whether a reason will last until somebody changes the job
// or the policy.
func structural(code Code) bool {
	return slices.Contains([]Code{ReasonPartitionRefuses, ReasonPartitionMissing, ReasonDoesNotFit, ReasonPlacementGroup, ReasonJobCost, ReasonShort}, code)
}

// obstacle gives the first thing that keeps one job of the group from the
// nodearray. What costs a call to CycleCloud comes last.
func (o *overflow) obstacle(a *arrayDecision, j *judgement) blocker {
	g, nodes := j.group, max(j.group.Nodes, 1)
	price := commitment(a.policy.Price, nodes, g.TimeLimit)
	if b := o.admits(a, g); b.blocks() {
		return b
	}
	if j.rule.MaxJobCost > 0 && price > j.rule.MaxJobCost {
		return blocker{code: ReasonJobCost, format: "the job would cost %s in %s, the rule allows %s", args: []any{price, a.policy.Name, j.rule.MaxJobCost}}
	}
	if b := o.worthBoot(a, j); b.blocks() {
		return b
	}
	if b := a.resting(); b.blocks() {
		return b
	}
	if b := o.usage.allows(g.User, g.Account, nodes); b.blocks() {
		return b
	}
	if b := o.hasRoom(a, nodes); b.blocks() {
		return b
	}
	if ok, why := o.till.afford(a.policy.Name, g.Account, price); !ok {
		o.untilPeriodsEnd()
		return blocker{code: why.Code, told: why}
	}
	return a.available(nodes - min(a.idleFree, nodes))
}

// resting reports why the nodearray takes no new job just now.
func (a *arrayDecision) resting() blocker {
	switch {
	case a.closed():
		return blocker{code: ReasonClosed, format: "%s rests after a failure", args: []any{a.policy.Name}}
	case a.probing() && (a.probe || a.promised > 0):
		return blocker{code: ReasonProbing, format: "%s failed before and one job tries it first", args: []any{a.policy.Name}}
	case !a.inWindow():
		return blocker{code: ReasonWindow, format: "%s is outside its schedule", args: []any{a.policy.Name}}
	case a.policy.CooldownUp > 0 && !a.step.IdledAt.IsZero() && !a.reached(Retry, a.step.IdledAt.Add(a.policy.CooldownUp)):
		return blocker{code: ReasonCooldown, format: "%s takes no new job for %s after it let an idle node go", args: []any{a.policy.Name, seconds(a.policy.CooldownUp)}}
	}
	return blocker{}
}

// hasRoom reports why the nodearray or the cluster has too few nodes left for
// a job of so many.
func (o *overflow) hasRoom(a *arrayDecision, nodes int) blocker {
	fresh := nodes - min(a.idleFree, nodes)
	if names := len(a.nodes) - a.barred - a.taken - a.promised; fresh > names && a.barred > 0 {
		return blocker{
			code: ReasonMaxNodes, format: "%s needed together, and of the names of %s an admin keeps %d back: %d left",
			args: []any{count(nodes, "node"), a.policy.Name, a.barred, max(names, 0)},
		}
	}
	if room := a.policy.MaxNodes - a.taken - a.promised; fresh > room {
		return blocker{
			code: ReasonMaxNodes, format: "%s needed together, %s may have %d and %d are up or promised",
			args: []any{count(nodes, "node"), a.policy.Name, a.policy.MaxNodes, a.taken + a.promised},
		}
	}
	if most := o.policy.MaxNodes; most > 0 {
		have := 0
		for _, other := range o.ranked {
			have += other.taken + other.promised
		}
		if have+fresh > most {
			return blocker{code: ReasonClusterNodes, format: "%s needed together, the cluster may have %d and %d are up or promised", args: []any{count(nodes, "node"), most, have}}
		}
	}
	if left := a.stepLeft(); fresh > left-a.promised && a.policy.StepUp.Nodes > 0 {
		if nodes > a.policy.StepUp.Nodes && a.promised == 0 && left == a.policy.StepUp.Nodes {
			return blocker{} // a job above the step goes alone
		}
		a.reached(Retry, a.step.UpFrom.Add(a.policy.StepUp.Every))
		return blocker{code: ReasonStep, format: "%s takes at most %s within %s", args: []any{a.policy.Name, count(a.policy.StepUp.Nodes, "new node"), seconds(a.policy.StepUp.Every)}}
	}
	return blocker{}
}

// available reports whether CycleCloud says that it can make so many nodes
// beside those that are promised or too new to be counted.
func (a *arrayDecision) available(nodes int) blocker {
	if nodes <= 0 {
		return blocker{}
	}
	if !a.facts.Available.Known {
		a.reached(Retry, a.now.Add(retryCycleCloud))
		if a.decision.facts.CycleCloudFailed {
			return blocker{code: ReasonCycleCloudFailed, format: "CycleCloud does not answer"}
		}
		a.plan.Status = true
		return blocker{code: ReasonAskCycleCloud, format: "CycleCloud has to be asked for its limits first"}
	}
	room := min(a.facts.Available.Count-a.newborn, a.facts.Available.MaxCount-a.existing) - a.owed - a.promised
	if nodes > room {
		a.reached(Retry, a.now.Add(closeAfterShortage))
		return blocker{code: ReasonAvailable, format: "%s needed together, CycleCloud leaves room for %d in %s", args: []any{count(nodes, "node"), max(room, 0), a.policy.Name}}
	}
	return blocker{}
}

// untilPeriodsEnd looks again when the hour ends, and with it perhaps the day
// or month: then budgets begin anew.
func (d *decision) untilPeriodsEnd() {
	for _, b := range d.policy.Budgets {
		d.soon(periodEnd(b.Period, d.now, d.policy.Zone))
	}
}

// periodEnd is when the period that holds t ends.
func periodEnd(p Period, t time.Time, zone *time.Location) time.Time {
	if zone == nil {
		zone = time.UTC
	}
	from := periodStart(p, t, zone).In(zone)
	end := from.Add(time.Hour)
	switch p {
	case Day:
		end = from.AddDate(0, 0, 1)
	case Month:
		end = from.AddDate(0, 1, 0)
	case Hour:
	}
	// Where a zone changes its clocks a period may begin before it would.
	if next := periodStart(p, end, zone); next.After(from) && next.Before(end) {
		return next
	}
	return end
}
