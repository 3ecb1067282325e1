package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

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
	p.crash(pointActed)
	return i, nil
}

// actCreate sends the very bytes that were committed. A repeat asks first what
// became of the one before.
func (p *pass) actCreate(ctx context.Context, i ledger.Intent) (ledger.Intent, error) {
	id := cyclecloud.RequestID(i.RequestID)
	if i.Attempt > 1 {
		settled, done, err := p.earlierCreate(ctx, i)
		if err != nil || done {
			return settled, err
		}
	}
	p.crash(pointCreating)
	result, err := p.config.CycleCloud.CreateEncoded(ctx, p.config.CycleCloudCluster, i.Body)
	if fault.Is(err, fault.Invalid) {
		return refused(i, outcomeRefused, err.Error()), nil
	}
	if err != nil {
		return i, err
	}
	p.crash(pointCreated)
	i.OperationID = string(result.OperationID)
	nodes, _, err := p.config.CycleCloud.NodesByRequest(ctx, p.config.CycleCloudCluster, id)
	if err != nil {
		// The nodes are made; their ids are found at the next look.
		p.Logger.Warn("created nodes could not be listed", "cluster", p.name, "request_id", i.RequestID, "error", err.Error())
	}
	return created(i, nodes, result.Sets), nil
}

// earlierCreate asks what became of an earlier attempt, by request id and by
// name, and settles the intent if there is an answer or the nodes are no longer
// wanted. Otherwise the same request has to be sent again.
func (p *pass) earlierCreate(ctx context.Context, i ledger.Intent) (settled ledger.Intent, done bool, err error) {
	nodes, known, err := p.config.CycleCloud.NodesByRequest(ctx, p.config.CycleCloudCluster, cyclecloud.RequestID(i.RequestID))
	if err != nil || known {
		return created(i, nodes, nil), err == nil, err
	}
	all, err := p.config.CycleCloud.Nodes(ctx, p.config.CycleCloudCluster)
	if err != nil {
		return i, false, err
	}
	if there := byName(all, i.Targets); len(there) > 0 {
		return adopted(i, there), true, nil
	}
	switch {
	case p.Now().After(i.NotAfter):
		return undone(i, outcomeExpired, "the request did not reach CycleCloud in time"), true, nil
	case p.overtaken(i):
		return undone(i, outcomeSuperseded, "Slurm no longer powers the nodes up"), true, nil
	}
	return i, false, nil
}

func byName(nodes []cyclecloud.Node, targets []ledger.Target) map[string]cyclecloud.Node {
	wanted := map[string]bool{}
	for _, t := range targets {
		wanted[t.Node] = true
	}
	found := map[string]cyclecloud.Node{}
	for _, n := range nodes {
		if wanted[string(n.Name)] {
			found[string(n.Name)] = n
		}
	}
	return found
}

// adopted settles a create whose request id CycleCloud does not know and whose
// names it has: the names were free when the create was decided.
func adopted(i ledger.Intent, there map[string]cyclecloud.Node) ledger.Intent {
	i.State, i.Outcome = ledger.IntentDone, nil
	for _, t := range i.Targets {
		o := ledger.Outcome{Node: t.Node, Code: outcomeSuperseded}
		if n, ok := there[t.Node]; ok {
			o.Code, o.NodeID = outcomeCreated, string(n.ID)
		}
		i.Outcome = append(i.Outcome, o)
	}
	return i
}

// overtaken reports whether Slurm has moved on since the intent was committed:
// a node that is no longer powering up needs no VM, and the VM of a node that
// may run jobs again must not be taken away.
func (p *pass) overtaken(i ledger.Intent) bool {
	for _, t := range i.Targets {
		at, ok := p.index[burst.NodeName(t.Node)]
		if !ok {
			return true // the policy no longer names it: its state is not known
		}
		switch n := p.facts.Nodes[at]; {
		case n.Slurm == burst.PoweringDown && i.Kind == kindTerminate:
		case n.Slurm != burst.PoweringUp, i.Kind == kindCreate && n.ResumeID != t.ResumeID:
			return true
		}
	}
	return false
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
			o.Code, o.Detail = outcomeRefused, brief(sets[k].Message)
		}
		i.Outcome = append(i.Outcome, o)
	}
	return i
}

func refused(i ledger.Intent, code, detail string) ledger.Intent {
	i.State, i.Detail, i.Outcome = ledger.IntentFailed, detail, nil
	for _, t := range i.Targets {
		i.Outcome = append(i.Outcome, ledger.Outcome{Node: t.Node, NodeID: t.NodeID, Code: code, Detail: brief(detail)})
	}
	return i
}

// undone settles an intent that is not carried out because its time is over.
func undone(i ledger.Intent, code, detail string) ledger.Intent {
	i = refused(i, code, detail)
	i.State = ledger.IntentSuperseded
	return i
}

// brief bounds what another system says about one target.
func brief(text string) string {
	if len(text) <= maxDetail {
		return text
	}
	return strings.ToValidUTF8(text[:maxDetail], "") + "…"
}

// actTerminate names VMs by ids that are never used again, so a repeat does no
// harm in itself. But Slurm may have come back to the node since: then it is
// decided anew.
func (p *pass) actTerminate(ctx context.Context, i ledger.Intent) (ledger.Intent, error) {
	if i.Attempt > 1 && (p.overtaken(i) || p.Now().After(i.NotAfter)) {
		return undone(i, outcomeSuperseded, "Slurm has moved on since the nodes were to be terminated"), nil
	}
	p.crash(pointTerminating)
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
			o.Code, o.Detail = outcomeRefused, brief(answer.Text)
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
	if i.Attempt > 1 && p.replaced(commandRow(command, i)) {
		return undone(i, outcomeSuperseded, "a newer command about the same targets was sent"), nil
	}
	command.Known = p.known()
	p.crash(pointCommanding)
	if err := p.Outbox.SendCommand(ctx, command); err != nil {
		return i, err
	}
	i.State, i.Outcome = ledger.IntentDone, []ledger.Outcome{{Code: outcomeSent}}
	return i, nil
}

// known lists the results that need no repeating: those of commands that the
// tables no longer show as open.
func (p *pass) known() []string {
	open := map[string]bool{}
	for _, c := range p.commands {
		open[c.ID] = true
	}
	for _, c := range p.answered {
		open[c.ID] = true
	}
	var ids []string
	for _, r := range p.view.pressure.CommandResults {
		if !open[r.ID] {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// settle writes what became of an intent, and lays it over the facts.
func (p *pass) settle(ctx context.Context, i ledger.Intent) error {
	i, err := p.Ledger.UpdateIntent(ctx, p.name, i)
	if err != nil {
		return fmt.Errorf("settle intent %s: %w", i.ID, err)
	}
	p.crash(pointSettled)
	p.settled = append(p.settled, i)
	p.applyOutcome(i)
	return nil
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
		case outcomeSuperseded, outcomeExpired:
			p.surprised = true
			p.undo(n, i, o)
		default:
			p.surprised = true
			p.applyRefusal(n, i, o)
		}
	}
}

// undo lays an intent over the facts that was not carried out, at least not by
// whoever settled it.
func (p *pass) undo(n *burst.Node, i ledger.Intent, o ledger.Outcome) {
	if i.Kind == kindCreate {
		n.Forget()
	} else {
		// An earlier attempt may have reached CycleCloud: it has to be asked.
		n.Terminate(i.CreatedAt)
		n.Supply = burst.SupplyUnknown
	}
	if o.Code != outcomeExpired {
		return
	}
	p.failures = append(p.failures, ledger.Failure{
		At: i.SettledAt, Node: o.Node, Nodearray: i.Nodearray, Source: "cyclecloud", What: i.Kind, Code: o.Code,
		Detail: o.Detail, RequestID: i.RequestID,
	})
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
	if slices.ContainsFunc(p.commands, func(c ledger.Command) bool { return c.ID == row.ID }) {
		return // its row was written before the intent could be dropped
	}
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
	if command.Partition != "" {
		row.Targets = append(row.Targets, command.Partition)
	}
	return row
}

// overlay lays an unanswered command over the nodes that it names. Those about
// jobs are facts of their own: see jobCommands.
func (p *pass) overlay(c ledger.Command) {
	if familyOf(c.Kind) != "" {
		return
	}
	for _, name := range c.Targets {
		if at, ok := p.index[burst.NodeName(name)]; ok {
			p.facts.Nodes[at].Send(burst.CommandKind(c.Kind), c.SentAt, c.ExpiresAt)
		}
	}
}
