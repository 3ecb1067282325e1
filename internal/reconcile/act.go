package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// carryOut makes the effect of an intent happen, or finds out that it has, and
// gives the intent as it has to be settled. It may be repeated at any point.
// An error leaves the outcome unknown: the intent stays open.
func (p *pass) carryOut(ctx context.Context, i ledger.Intent) (ledger.Intent, error) {
	var err error
	switch i.Kind {
	case kindCreate:
		i, err = p.actCreate(ctx, i)
	case kindTerminate:
		i, err = p.actTerminate(ctx, i)
	case kindCommand:
		i, err = p.actCommand(ctx, i)
	default:
		i.State, i.Detail = ledger.IntentFailed, "unknown kind of intent"
	}
	if err != nil {
		return i, fmt.Errorf("%s in %s (intent %s): %w", i.Kind, i.Nodearray, i.ID, err)
	}
	i.SettledAt = p.Now()
	return i, nil
}

// actCreate sends the very bytes that were committed. A repeat asks first what
// became of the one before.
func (p *pass) actCreate(ctx context.Context, i ledger.Intent) (ledger.Intent, error) {
	id := cyclecloud.RequestID(i.RequestID)
	if i.Attempt > 1 {
		nodes, known, err := p.config.CycleCloud.NodesByRequest(ctx, p.config.CycleCloudCluster, id)
		switch {
		case err != nil:
			return i, err
		case known:
			return created(i, nodes, nil), nil
		case p.Now().After(i.NotAfter):
			return refused(i, outcomeExpired, "the request never reached CycleCloud in time"), nil
		}
	}
	result, err := p.config.CycleCloud.CreateEncoded(ctx, p.config.CycleCloudCluster, i.Body)
	if fault.Is(err, fault.Invalid) {
		return refused(i, outcomeRefused, err.Error()), nil
	}
	if err != nil {
		return i, err
	}
	i.OperationID = string(result.OperationID)
	nodes, _, err := p.config.CycleCloud.NodesByRequest(ctx, p.config.CycleCloudCluster, id)
	if err != nil {
		// The nodes are made; their ids are found at the next look.
		p.Logger.Warn("created nodes could not be listed", "cluster", p.name, "request_id", i.RequestID, "error", err.Error())
	}
	return created(i, nodes, result.Sets), nil
}

// created settles a create: sets say how many of each name were added, where
// the server told; nodes give the ids.
func created(i ledger.Intent, nodes []cyclecloud.Node, sets []cyclecloud.SetResult) ledger.Intent {
	ids := map[string]cyclecloud.Node{}
	for _, n := range nodes {
		ids[string(n.Name)] = n
	}
	i.State, i.Outcome = ledger.IntentDone, nil
	for k, t := range i.Targets {
		o := ledger.Outcome{Node: t.Node, Code: outcomeCreated, NodeID: string(ids[t.Node].ID)}
		if k < len(sets) && sets[k].Added == 0 {
			o.Code, o.Detail = outcomeRefused, sets[k].Message
		}
		i.Outcome = append(i.Outcome, o)
	}
	return i
}

func refused(i ledger.Intent, code, detail string) ledger.Intent {
	i.State, i.Detail, i.Outcome = ledger.IntentFailed, detail, nil
	for _, t := range i.Targets {
		i.Outcome = append(i.Outcome, ledger.Outcome{Node: t.Node, NodeID: t.NodeID, Code: code, Detail: detail})
	}
	return i
}

func (p *pass) actTerminate(ctx context.Context, i ledger.Intent) (ledger.Intent, error) {
	result, err := p.config.CycleCloud.ActEncoded(ctx, p.config.CycleCloudCluster, cyclecloud.ActionTerminate, i.Body)
	if fault.Is(err, fault.Invalid) {
		return refused(i, outcomeRefused, err.Error()), nil
	}
	if err != nil {
		return i, err
	}
	i.OperationID, i.State, i.Outcome = string(result.OperationID), ledger.IntentDone, nil
	answers := map[string]cyclecloud.NodeOutcome{}
	for _, n := range result.Nodes {
		answers[string(n.ID)] = n
	}
	for _, t := range i.Targets {
		o := ledger.Outcome{Node: t.Node, NodeID: t.NodeID, Code: outcomeTerminating}
		switch answer := answers[t.NodeID]; answer.Outcome {
		case cyclecloud.OutcomeNotFound:
			o.Code = outcomeGone
		case cyclecloud.OutcomeRefused:
			o.Code, o.Detail = outcomeRefused, answer.Text
		case cyclecloud.OutcomeUnknown, cyclecloud.OutcomeAccepted:
		}
		i.Outcome = append(i.Outcome, o)
	}
	return i, nil
}

func (p *pass) actCommand(ctx context.Context, i ledger.Intent) (ledger.Intent, error) {
	command, err := commandOf(i)
	if err != nil {
		return refused(i, outcomeRefused, err.Error()), nil
	}
	if p.Now().After(command.ExpiresAt) {
		return refused(i, outcomeExpired, "the command could not be sent in time"), nil
	}
	for _, r := range p.view.pressure.CommandResults {
		command.Known = append(command.Known, r.ID)
	}
	if err := p.Outbox.SendCommand(ctx, command); err != nil {
		return i, err
	}
	i.State, i.Outcome = ledger.IntentDone, []ledger.Outcome{{Code: outcomeSent}}
	return i, nil
}

// settle writes what became of an intent, and lays it over the facts.
func (p *pass) settle(ctx context.Context, i ledger.Intent) error {
	i, err := p.Ledger.UpdateIntent(ctx, p.name, i)
	if err != nil {
		return fmt.Errorf("settle intent %s: %w", i.ID, err)
	}
	p.settled = append(p.settled, i)
	p.applyOutcome(i)
	return nil
}

// release gives up the claim of an intent whose effect could not be made to
// happen for a passing reason, so that the next function need not wait.
func (p *pass) release(ctx context.Context, i ledger.Intent) {
	i.ClaimUntil = p.Now()
	if _, err := p.Ledger.UpdateIntent(ctx, p.name, i); err != nil {
		p.Logger.Warn("claim was not released", "cluster", p.name, "intent", i.ID, "error", err.Error())
	}
}

// applyOutcome lays a settled intent over the facts.
func (p *pass) applyOutcome(i ledger.Intent) {
	if i.Kind == kindCommand {
		p.applyCommand(i)
		return
	}
	for k, o := range i.Outcome {
		at, ok := p.index[burst.NodeName(o.Node)]
		if !ok {
			continue
		}
		n := &p.facts.Nodes[at]
		delete(p.opening, n.Name)
		switch o.Code {
		case outcomeCreated:
			n.Create(i.CreatedAt, generationOf(i, i.Targets[k]))
			n.Supply, n.NodeID, n.SeenAt = burst.Booting, o.NodeID, i.SettledAt
		case outcomeTerminating:
			n.Terminate(i.SettledAt)
		case outcomeGone:
			n.Forget()
			n.SeenAt = i.SettledAt
			p.surprised = true
		default:
			p.surprised = true
			p.applyRefusal(n, i, o)
		}
	}
}

func generationOf(i ledger.Intent, t ledger.Target) burst.Generation {
	return burst.Generation{Position: burst.Position{Epoch: i.Epoch, Sequence: i.Sequence}, ResumeID: t.ResumeID}
}

func (p *pass) applyRefusal(n *burst.Node, i ledger.Intent, o ledger.Outcome) {
	code := burst.ReasonRetryLater
	if i.Kind == kindCreate {
		code = burst.ReasonCreateRefused
	} else {
		n.Terminate(i.SettledAt) // asked and refused: it rests before it is asked again
	}
	n.Fail(i.SettledAt, code)
	p.failures = append(p.failures, ledger.Failure{
		At: i.SettledAt, Node: o.Node, Nodearray: i.Nodearray, Source: "cyclecloud", What: i.Kind, Code: o.Code,
		Detail: o.Detail, RequestID: i.RequestID,
	})
}

// applyCommand notes a command that is on its way to Slurm.
func (p *pass) applyCommand(i ledger.Intent) {
	command, err := commandOf(i)
	if err != nil || len(i.Outcome) == 0 || i.Outcome[0].Code != outcomeSent {
		return
	}
	row := commandRow(command, i)
	p.commands = append(p.commands, row)
	p.overlay(row)
}

func commandRow(command event.SlurmCommand, i ledger.Intent) ledger.Command {
	expect, _ := json.Marshal(command.Expect) // a struct of strings: cannot fail
	row := ledger.Command{
		ID: command.ID, Kind: string(command.Kind), Nodearray: i.Nodearray, Generation: command.Generation, Expect: string(expect),
		SentAt: i.SettledAt, ExpiresAt: command.ExpiresAt, State: ledger.CommandSent, Detail: i.Detail, Attempt: i.Attempt,
	}
	for _, t := range i.Targets {
		row.Targets = append(row.Targets, t.Node)
	}
	for _, job := range command.Jobs {
		row.Targets = append(row.Targets, string(job))
	}
	return row
}

// overlay lays an unanswered command over the nodes that it names.
func (p *pass) overlay(c ledger.Command) {
	if c.Kind == string(burst.BeginNow) {
		return
	}
	for _, name := range c.Targets {
		if at, ok := p.index[burst.NodeName(name)]; ok {
			p.facts.Nodes[at].Send(burst.CommandKind(c.Kind), c.SentAt, c.ExpiresAt)
		}
	}
}

// claimHolds reports whether the owner, who took its claims at began, may still
// begin an effect.
func (p *pass) claimHolds(began time.Time) bool {
	return p.Now().Sub(began) < claimFor-claimMargin
}
