package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// rollForward finishes what was committed before anything new is decided: an
// intent whose claim is over is claimed and carried out, one that was settled
// and not projected is laid over the facts, and one that somebody else is
// working on counts as under way.
func (p *pass) rollForward(ctx context.Context) error {
	for _, i := range p.part.Intents {
		began := p.Now()
		switch {
		case i.State != ledger.IntentOpen:
			p.settled = append(p.settled, i)
			p.applyOutcome(i)
		case began.Before(i.ClaimUntil), p.stale(), p.blocked(ctx, i, began):
			p.assume(i)
		default:
			claimed, err := p.renew(ctx, i, i.Attempt+1)
			if err != nil {
				return err
			}
			p.crash(pointClaimed)
			if p.blocked(ctx, claimed, began) {
				p.leave(ctx, claimed)
				continue
			}
			if err := p.finish(ctx, claimed); err != nil {
				return err
			}
		}
	}
	return nil
}

// stale reports whether the facts are too old to act on, also on behalf of
// somebody who decided on them when they were fresh.
func (p *pass) stale() bool {
	return p.view.asOf.IsZero() || p.Now().Sub(p.view.asOf) >= p.config.Policy.MaxActAge
}

// blocked reports whether an intent that was claimed when the owner began had
// better be left open: the claim or the call nears its end, or the system that
// it speaks to has just failed and the tries to come would use up the time.
func (p *pass) blocked(ctx context.Context, i ledger.Intent, began time.Time) bool {
	if ctx.Err() != nil || !p.claimHolds(began) {
		return true
	}
	if i.Kind == kindCommand {
		return p.busFailed
	}
	return p.facts.CycleCloudFailed
}

// finish carries out one claimed intent. A passing failure leaves it open; an
// error is the ledger's.
func (p *pass) finish(ctx context.Context, i ledger.Intent) error {
	done, err := p.carryOut(ctx, i)
	if err == nil {
		if done.State == ledger.IntentFailed {
			p.Logger.Warn("intent failed", "cluster", p.name, "intent", i.ID, "kind", i.Kind, "detail", done.Detail)
		}
		return p.settle(ctx, done)
	}
	p.Logger.Warn("intent stays open", "cluster", p.name, "intent", i.ID, "kind", i.Kind, "error", err.Error(), "fault", fault.Of(err).String())
	source := "cyclecloud"
	if i.Kind == kindCommand {
		source, p.busFailed = "servicebus", true
	} else {
		p.facts.CycleCloudFailed = true
	}
	p.failures = append(p.failures, ledger.Failure{
		At: p.Now(), Nodearray: i.Nodearray, Source: source, What: i.Kind, Code: fault.Of(err).String(), Detail: err.Error(), RequestID: i.RequestID,
	})
	p.leave(ctx, i)
	return nil
}

// leave leaves a claimed intent open for the next function.
func (p *pass) leave(ctx context.Context, i ledger.Intent) {
	p.assume(i)
	p.crash(pointLeft)
	p.release(ctx, i)
}

// assume lays an intent of unknown outcome over the facts: nothing that
// contradicts it is decided until it is settled.
func (p *pass) assume(i ledger.Intent) {
	p.unsettled = true
	switch i.Kind {
	case kindCommand:
		if command, err := commandOf(i); err == nil {
			row := commandRow(command, i)
			row.SentAt = i.CreatedAt
			p.assumed = append(p.assumed, row)
			p.overlay(row)
		}
	case kindCreate, kindTerminate:
		for _, t := range i.Targets {
			at, ok := p.index[burst.NodeName(t.Node)]
			if !ok {
				continue
			}
			n := &p.facts.Nodes[at]
			p.opening[n.Name] = i.Kind
			if i.Kind == kindTerminate {
				n.Terminate(i.CreatedAt)
				continue
			}
			n.Create(i.CreatedAt, generationOf(i, t))
		}
	}
}

// answerCommands closes the commands that the snapshot answers and those whose
// time is over.
func (p *pass) answerCommands() {
	results := map[string]event.CommandResult{}
	for _, r := range p.view.pressure.CommandResults {
		results[r.ID] = r
	}
	open := p.commands[:0:0]
	for _, c := range p.commands {
		r, ok := results[c.ID]
		switch {
		case ok:
			c = p.answer(c, r)
			p.answered = append(p.answered, c)
			if isUntaken(c, p.Now()) {
				p.untaken = append(p.untaken, c)
			}
		case p.Now().After(c.ExpiresAt):
			c.State, c.ResultAt = ledger.CommandExpired, p.Now()
			p.answered = append(p.answered, c)
			p.failures = append(p.failures, ledger.Failure{
				At: p.Now(), Nodearray: c.Nodearray, Source: "agent", What: c.Kind, Code: string(c.State),
				Detail: "the agent did not answer in time", RequestID: c.ID,
			})
		default:
			open = append(open, c)
		}
	}
	p.commands = open
}

// resultStates translates the agent's words into the ledger's.
var resultStates = map[event.ResultState]ledger.CommandState{
	event.ResultOK: ledger.CommandOK, event.ResultStale: ledger.CommandStale, event.ResultRefused: ledger.CommandRefused,
	event.ResultSuperseded: ledger.CommandSuperseded, event.ResultFailed: ledger.CommandFailed,
}

func (p *pass) answer(c ledger.Command, r event.CommandResult) ledger.Command {
	c.ResultAt = p.Now()
	state, known := resultStates[r.State]
	if !known {
		state = ledger.CommandFailed
	}
	c.State = state
	if r.Error != "" {
		c.Detail = r.Error
	}
	if state == ledger.CommandRefused || state == ledger.CommandFailed {
		p.failures = append(p.failures, ledger.Failure{
			At: p.Now(), Nodearray: c.Nodearray, Source: "agent", What: c.Kind, Code: string(state), Detail: r.Error, RequestID: c.ID,
		})
	}
	return c
}

func (p *pass) overlayCommands() {
	for _, c := range slices.Concat(p.untaken, p.commands) {
		p.overlay(c)
	}
}

// commitAndAct commits the plan with one intent per effect, acts, settles, and
// arms the timers. What cannot be finished now stays open for the next pass.
func (p *pass) commitAndAct(ctx context.Context, now time.Time, plan burst.Plan) error {
	next := p.facts.After(now, withoutTimers(plan))
	next.Memory = plan.Memory
	again := burst.Decide(now, p.config.Policy, next)
	due := again.NextDue
	d, err := p.draft(now, plan)
	if err != nil {
		return err
	}
	plan.Memory = plan.Memory.Without(p.facts.Memory, d.left)
	if err := p.loadGroups(ctx); err != nil {
		return err
	}
	p.regroup = p.groupChanges(plan)
	if d.full || p.regroup.more || onlyStored(plan) {
		due = now
	}
	if !p.worthCommitting(due, plan, again, d.intents) {
		return nil
	}
	p.noteProblems()
	if err := p.seedPolicy(ctx); err != nil {
		return err
	}
	if err := p.noteEnded(ctx, now, plan.Memory); err != nil {
		return err
	}
	p.crash(pointDecided)
	committed, err := p.commit(ctx, due, plan, d.intents)
	if err != nil {
		return err
	}
	p.crash(pointCommitted)
	p.takeOver(now, plan)
	p.warn(now, plan)
	for _, i := range committed.Intents {
		if p.blocked(ctx, i, now) {
			p.leave(ctx, i)
			continue
		}
		if err := p.finish(ctx, i); err != nil {
			return err
		}
	}
	p.arm(ctx, again.Timers)
	if d.full {
		p.recheckSoon(ctx)
	}
	p.crash(pointArmed)
	return nil
}

// onlyStored reports whether the facts were too old to act on: then the next
// snapshot has to be decided on even if it says the same.
func onlyStored(plan burst.Plan) bool {
	return slices.ContainsFunc(plan.Holds, func(h burst.Hold) bool {
		return h.Reason.Code == burst.ReasonStale || h.Reason.Code == burst.ReasonNoSnapshot
	})
}

func withoutTimers(plan burst.Plan) burst.Plan {
	plan.Timers = nil
	return plan
}

func (p *pass) worthCommitting(due time.Time, plan, again burst.Plan, intents []ledger.Intent) bool {
	c := p.part.Cluster
	return p.fresh || p.swept || !p.part.Found || len(intents) > 0 || len(p.settled) > 0 || len(p.answered) > 0 || len(again.Timers) > 0 || len(plan.Closings) > 0 ||
		p.regroup.any() || len(plan.Warnings) > 0 ||
		len(plan.Failures) > 0 || !c.NextDue.Equal(due) || c.PolicyVersion != p.config.Policy.Version
}

// oldestWriter is the lowest version that may write beside this one. The
// version that stores what an older one must not touch raises it.
const oldestWriter = 1

// commit writes the revision: snapshot and intents together or not at all.
func (p *pass) commit(ctx context.Context, due time.Time, plan burst.Plan, intents []ledger.Intent) (ledger.Committed, error) {
	changes := p.part.Changes
	if !p.part.Found {
		changes = p.part.Cluster.Begin()
	}
	changes = changes.With(p.part.Cluster.Revision+1, p.announce(plan, intents))
	c := ledger.Commit{Cluster: p.part.Cluster, NewIntents: intents, Changes: &changes, Requires: oldestWriter}
	c.Cluster.NextDue, c.Cluster.PolicyVersion = due, p.config.Policy.Version
	c.Cluster.CommandsSince = min(p.oldest, c.Cluster.Revision+1)
	var err error
	if c.Budget, err = p.budget(plan.Memory); err != nil {
		return ledger.Committed{}, err
	}
	if p.fresh {
		body, err := p.view.pressure.Compressed()
		if err != nil {
			return ledger.Committed{}, err
		}
		c.Cluster.Epoch, c.Cluster.Sequence = p.view.position.Epoch, p.view.position.Sequence
		beat := p.heartbeat()
		c.Heartbeat = &beat
		c.Snapshot = &ledger.Snapshot{
			Epoch: p.view.position.Epoch, Sequence: p.view.position.Sequence, AsOf: p.view.takenAt,
			Digest: p.trigger.snapshot.digest, Body: body,
		}
	}
	committed, err := p.Ledger.Commit(ctx, c)
	if err != nil {
		return committed, fmt.Errorf("commit: %w", err)
	}
	p.part.Cluster, p.part.Changes, p.part.Found = committed.Cluster, changes, true
	p.stored = plan.Memory
	p.fresh, p.swept, p.committed = false, false, true
	p.oldest = committed.Cluster.CommandsSince
	return committed, nil
}

// takeOver makes what the plan says the facts. Its effects are laid over them
// one by one as their intents are settled or left open; those for which no
// intent was left are not there yet.
func (p *pass) takeOver(now time.Time, plan burst.Plan) {
	p.facts = p.facts.After(now, withoutEffects(plan))
	p.facts.Memory = plan.Memory
	for _, x := range plan.Failures {
		p.failures = append(p.failures, ledger.Failure{
			At: p.Now(), Node: string(x.Node), Nodearray: string(x.Nodearray), Source: "slurm", What: "follow",
			Code: string(x.Reason.Code), Detail: x.Reason.Text,
		})
	}
}

// maxProblems bounds what one snapshot may write into the table of failures.
const maxProblems = 100

// noteProblems records once what the agent complains of.
func (p *pass) noteProblems() {
	if !p.fresh {
		return
	}
	problems := p.view.pressure.Problems
	for _, problem := range problems[:min(len(problems), maxProblems)] {
		p.failures = append(p.failures, ledger.Failure{
			At: p.view.cloudTime(problem.At), Source: "agent", What: "read slurm", Code: problem.Code, Detail: problem.Detail,
		})
	}
}
