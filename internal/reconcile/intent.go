package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// The kinds of an intent.
const (
	kindCreate    = "create"
	kindTerminate = "terminate"
	kindCommand   = "command"
)

// The outcomes of a target.
const (
	outcomeCreated     = "created"
	outcomeRefused     = "refused"
	outcomeTerminating = "terminating"
	outcomeGone        = "gone"
	outcomeSent        = "sent"
	outcomeExpired     = "expired"
	outcomeSuperseded  = "superseded"
)

const (
	// claimFor is how long the owner of an intent may act on it alone.
	claimFor = 90 * time.Second
	// claimMargin is how long before the end of its claim the owner stops.
	claimMargin = 15 * time.Second
	// actWithin is how long a create or terminate still makes sense: after
	// that, its snapshot is history.
	actWithin = 5 * time.Minute
	// maxTargets bounds the nodes of one intent: their names must fit a row.
	maxTargets = 100
	// maxDraft bounds the intents of one commit, in bytes: beside them, the
	// snapshot has to fit the transaction.
	maxDraft = 2 << 20
	// maxDetail bounds what another system says about one target, in bytes.
	maxDetail = 300
)

// requestID derives the idempotency key of an intent: the same intent gives
// the same key, whoever carries it out and however often.
func requestID(ledgerID, intentID, kind string) string {
	sum := sha256.Sum256([]byte(ledgerID + "\x00" + intentID + "\x00" + kind))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // UUID version 8, variant 1
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// drafts turns a plan into intents, commands first: the fence has to stand
// before anything else happens.
type drafts struct {
	*pass
	now     time.Time
	intents []ledger.Intent
	size    int // bytes
	// full says that not all of the plan fitted, left are the commands of it
	// that did not.
	full bool
	left []burst.Command
	err  error
}

// draft gives the intents of a plan, and what of it did not fit.
func (p *pass) draft(now time.Time, plan burst.Plan) (*drafts, error) {
	d := &drafts{pass: p, now: now}
	for _, c := range plan.Commands {
		d.command(c)
	}
	for _, t := range plan.Terminates {
		d.terminate(t)
	}
	for _, c := range plan.Creates {
		d.create(c)
	}
	return d, d.err
}

// add completes an intent and its request, which body builds from the intent.
func (d *drafts) add(kind string, array burst.NodearrayName, targets []ledger.Target, why burst.Reason, body func(ledger.Intent) ([]byte, error)) {
	if len(d.intents) == ledger.MaxIntents || d.full {
		d.full = true // and nothing later may overtake it
		return
	}
	revision := d.part.Cluster.Revision + 1
	i := ledger.Intent{
		ID: fmt.Sprintf("%d/%02d", revision, len(d.intents)), Kind: kind, Nodearray: string(array), Targets: targets,
		Attempt: 1, NotAfter: d.now.Add(actWithin), Epoch: d.view.position.Epoch, Sequence: d.view.position.Sequence,
		Generation: revision, Owner: d.Owner, ClaimUntil: d.now.Add(claimFor), State: ledger.IntentOpen,
		Reason: string(why.Code), Detail: why.Text, CreatedAt: d.now,
	}
	i.RequestID = requestID(d.part.Cluster.LedgerID, i.ID, kind)
	encoded, err := body(i)
	if err != nil {
		d.err = fmt.Errorf("draft %s in %s: %w", kind, array, err)
		return
	}
	i.Body = encoded
	size := len(encoded) + len(i.Detail)
	for _, t := range targets {
		size += len(t.Node) + len(t.NodeID) + len(t.ResumeID) + 64 // the words around them
	}
	if d.size+size > maxDraft {
		d.full = true
		return
	}
	d.size += size
	d.intents = append(d.intents, i)
}

func (d *drafts) create(c burst.Create) {
	for names := range chunks(c.Nodes) {
		targets := make([]ledger.Target, len(names))
		req := cyclecloud.CreateRequest{}
		for i, name := range names {
			targets[i] = ledger.Target{Node: string(name), ResumeID: d.facts.Nodes[d.index[name]].ResumeID}
			req.Sets = append(req.Sets, cyclecloud.CreateSet{
				NodeArray: cyclecloud.NodeArrayName(c.Nodearray), Count: 1, MachineType: cyclecloud.MachineType(c.MachineType),
				NameFormat: string(name), PlacementGroupID: c.PlacementGroup,
			})
		}
		d.add(kindCreate, c.Nodearray, targets, c.Reason, func(i ledger.Intent) ([]byte, error) {
			req.RequestID = cyclecloud.RequestID(i.RequestID)
			return req.Encode()
		})
	}
}

func (d *drafts) terminate(t burst.Terminate) {
	for part := range chunks(t.Targets) {
		targets := make([]ledger.Target, len(part))
		req := cyclecloud.NodeRequest{}
		for i, target := range part {
			targets[i] = ledger.Target{Node: string(target.Node), NodeID: target.NodeID}
			req.IDs = append(req.IDs, cyclecloud.NodeID(target.NodeID))
		}
		d.add(kindTerminate, t.Nodearray, targets, t.Reason, func(i ledger.Intent) ([]byte, error) {
			req.RequestID = cyclecloud.RequestID(i.RequestID)
			return req.Encode()
		})
	}
}

func (d *drafts) command(c burst.Command) {
	if c.Kind == burst.GatePartition {
		d.addCommand(c, nil, nil)
		if d.full {
			d.left = append(d.left, c)
		}
		return
	}
	for jobs := range chunks(c.Jobs) {
		ids := make(event.JobIDs, len(jobs))
		for i, job := range jobs {
			ids[i] = event.JobID(job)
		}
		d.addCommand(c, nil, ids)
		if d.full {
			d.left = append(d.left, burst.Command{Kind: c.Kind, Jobs: jobs})
		}
	}
	for names := range chunks(c.Nodes) {
		targets := make([]ledger.Target, len(names))
		for i, name := range names {
			targets[i] = ledger.Target{Node: string(name)}
		}
		d.addCommand(c, targets, nil)
	}
}

func (d *drafts) addCommand(c burst.Command, targets []ledger.Target, jobs event.JobIDs) {
	d.add(kindCommand, c.Nodearray, targets, c.Reason, func(i ledger.Intent) ([]byte, error) {
		names := make([]slurm.NodeName, len(targets))
		for k, t := range targets {
			names[k] = slurm.NodeName(t.Node)
		}
		reason := c.Reason.String()
		if c.Kind == burst.FenceNodes {
			reason = event.FenceReason
		}
		command := event.SlurmCommand{
			ID: d.commandID(i.ID), Cluster: d.name, Kind: event.CommandKind(c.Kind), Generation: i.Generation, Attempt: 1,
			Nodes: slurm.FormatHostlist(names), Jobs: jobs, Partitions: c.Partitions, Reason: reason, Expect: expectations(c.Kind),
			ExpiresAt: d.now.Add(burst.CommandTTL),
		}
		switch c.Kind {
		case burst.NoticeJobs:
			command.Value = notice(c.Reason)
		case burst.GatePartition:
			command.Partition = c.Partition
			command.Value, command.Expect.States = "DOWN", []string{"UP"}
			if c.Up {
				command.Value, command.Expect.States = "UP", []string{"DOWN"}
			}
		case burst.ReleaseJobs, burst.RevokeJobs, burst.BeginNow, burst.FenceNodes, burst.UnfenceNodes, burst.PowerDownASAP,
			burst.AbortBoot, burst.PowerDown, burst.PowerDownDone:
		}
		return json.Marshal(command)
	})
}

// chunks yields at most maxTargets of s at a time.
func chunks[T any](s []T) func(func([]T) bool) {
	return func(yield func([]T) bool) {
		for len(s) > 0 {
			n := min(len(s), maxTargets)
			if !yield(s[:n]) {
				return
			}
			s = s[n:]
		}
	}
}

// commandOf reads the command that an intent sends.
func commandOf(i ledger.Intent) (event.SlurmCommand, error) {
	var c event.SlurmCommand
	if err := json.Unmarshal(i.Body, &c); err != nil {
		return c, fault.New(fault.Bug, "read command of intent "+i.ID, err)
	}
	c.Attempt = i.Attempt
	return c, nil
}

// availability reads what CycleCloud says about one nodearray.
func availability(status cyclecloud.ClusterStatus, policy burst.Policy, name burst.NodearrayName) burst.Availability {
	for _, array := range policy.Nodearrays {
		if array.Name != name {
			continue
		}
		room, known := status.Available(cyclecloud.NodeArrayName(name), cyclecloud.MachineType(array.MachineType))
		if !known || !status.IsStarted() {
			return burst.Availability{Known: true}
		}
		most := math.MaxInt32
		for _, a := range status.NodeArrays {
			if a.Name != cyclecloud.NodeArrayName(name) {
				continue
			}
			most = lower(most, a.MaxCount)
			for _, b := range a.Buckets {
				if strings.EqualFold(string(b.MachineType), array.MachineType) {
					most = lower(most, b.MaxCount)
				}
			}
		}
		return burst.Availability{Known: true, Count: room.Count, MaxCount: most}
	}
	return burst.Availability{}
}

func lower(n int, limit *int) int {
	if limit == nil {
		return n
	}
	return min(n, *limit)
}

// renew extends or takes the claim of an intent. Somebody else's live claim is
// a conflict.
func (p *pass) renew(ctx context.Context, i ledger.Intent, attempt int) (ledger.Intent, error) {
	i.Owner, i.ClaimUntil, i.Attempt = p.Owner, p.Now().Add(claimFor), attempt
	i, err := p.Ledger.UpdateIntent(ctx, p.name, i)
	if err != nil {
		return i, fmt.Errorf("claim intent %s: %w", i.ID, err)
	}
	return i, nil
}

// claimHolds reports whether the owner, who took its claims at began, may still
// begin an effect.
func (p *pass) claimHolds(began time.Time) bool {
	return p.Now().Sub(began) < claimFor-claimMargin
}

// releaseWithin is how long giving up a claim may take after the call's own
// time is over.
const releaseWithin = 5 * time.Second

// release gives up the claim of an intent whose effect could not be made to
// happen for a passing reason, so that the next function need not wait. Where
// the tables do not take one, the claims of the others run out by themselves: to
// wait for each answer would take minutes, and the host ends a process for that.
func (p *pass) release(ctx context.Context, i ledger.Intent) {
	if p.claimsStay {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer cancel()
	i.ClaimUntil = p.Now()
	if _, err := p.Ledger.UpdateIntent(ctx, p.name, i); err != nil {
		p.claimsStay = !errors.Is(err, ledger.ErrConflict)
		p.Logger.Warn("claim was not released", "cluster", p.name, "intent", i.ID, "error", err.Error())
	}
}
