package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/logging"
)

// action is one line of a decision's record.
type action struct {
	Kind      string   `json:"kind"`
	Nodearray string   `json:"nodearray"`
	Targets   []string `json:"targets"`
	Code      string   `json:"code"`
	Reason    string   `json:"reason"`
	// Groups and Jobs count what a line about waiting jobs stands for.
	Groups int `json:"groups,omitempty"`
	Jobs   int `json:"jobs,omitempty"`
}

const (
	// maxRecorded bounds the targets in the record of one decision. The facts
	// tell them all.
	maxRecorded = 8000
	// maxNamedGroups is how many groups are named for each reason.
	maxNamedGroups = 20
	// maxWithheld is how many effects are told that shadow mode kept back.
	maxWithheld = 100
)

// record keeps a decision, with the facts that it rests on, when it acts or
// when its reasons changed.
func (p *pass) record(ctx context.Context, now time.Time, plan burst.Plan) error {
	actions, holds := actionsOf(plan), holdsOf(plan)
	memory := p.remembered(p.name)
	sum := sha256.Sum256([]byte(newsOf(plan)))
	digest := hex.EncodeToString(sum[:8])
	if !plan.Acts() && digest == memory.holds {
		return nil
	}
	facts, err := zip(p.basis)
	if err != nil {
		return err
	}
	text, err := json.Marshal(actions)
	if err != nil {
		return fault.New(fault.Bug, "encode actions", err)
	}
	d := ledger.Decision{
		ID: fmt.Sprintf("%d-%d", p.part.Cluster.Revision, now.UnixMilli()), At: now, Trigger: p.trigger.name, Revision: p.part.Cluster.Revision,
		PolicyVersion: p.config.Policy.Version, Actions: string(text), Holds: holds, Facts: facts, Reasons: reasonsOf(plan),
	}
	for _, i := range p.settled {
		d.RequestIDs = append(d.RequestIDs, i.RequestID)
	}
	err = p.Ledger.AppendDecision(ctx, p.name, d)
	if errors.Is(err, ledger.ErrTooLarge) {
		// A record must not stand in the way of what it records.
		p.Logger.Warn("decision recorded without its facts", logging.Cluster, p.name, logging.Decision, d.ID, logging.Count, len(facts))
		d.Facts = nil
		err = p.Ledger.AppendDecision(ctx, p.name, d)
	}
	if err != nil {
		return fmt.Errorf("record decision: %w", err)
	}
	memory.holds = digest
	p.remember(p.name, memory)
	return nil
}

func actionsOf(plan burst.Plan) []action {
	var actions []action
	for _, c := range plan.Commands {
		a := action{Kind: string(c.Kind), Nodearray: string(c.Nodearray), Targets: c.Jobs, Code: string(c.Reason.Code), Reason: c.Reason.Text}
		for _, n := range c.Nodes {
			a.Targets = append(a.Targets, string(n))
		}
		actions = append(actions, a)
	}
	for _, t := range plan.Terminates {
		a := action{Kind: kindTerminate, Nodearray: string(t.Nodearray), Code: string(t.Reason.Code), Reason: t.Reason.Text}
		for _, target := range t.Targets {
			a.Targets = append(a.Targets, string(target.Node))
		}
		actions = append(actions, a)
	}
	for _, c := range plan.Creates {
		a := action{Kind: kindCreate, Nodearray: string(c.Nodearray), Code: string(c.Reason.Code), Reason: c.Reason.Text}
		for _, n := range c.Nodes {
			a.Targets = append(a.Targets, string(n))
		}
		actions = append(actions, a)
	}
	left := maxRecorded
	for i := range actions {
		a := &actions[i]
		if n := len(a.Targets); n > left {
			a.Targets = append(a.Targets[:left:left], fmt.Sprintf("and %d more", n-left))
		}
		left = max(0, left-len(a.Targets))
	}
	return actions
}

// newsOf is what of a plan without effects is worth another record: the numbers
// in the sentences about waiting jobs change with every snapshot.
func newsOf(plan burst.Plan) string {
	codes := map[burst.Code]bool{}
	for i := range plan.Verdicts {
		codes[plan.Verdicts[i].Reason.Code] = true
	}
	news := struct {
		Holds    []burst.Hold
		Codes    []burst.Code
		Withheld []burst.Reason
		Warnings []burst.Warning
	}{plan.Holds, slices.Sorted(maps.Keys(codes)), plan.Withheld, plan.Warnings}
	text, _ := json.Marshal(news) // strings and numbers only: cannot fail
	return string(text)
}

// waitingLines tells how many jobs are held for each reason, with the sentence
// of the group that waits longest.
func waitingLines(plan burst.Plan) []action {
	var lines []action
	index := map[burst.Code]int{}
	for i := range plan.Verdicts {
		v := &plan.Verdicts[i]
		if v.Held == 0 {
			continue
		}
		at, known := index[v.Reason.Code]
		if !known {
			at = len(lines)
			index[v.Reason.Code] = at
			lines = append(lines, action{Kind: "waiting", Nodearray: string(v.Nodearray), Code: string(v.Reason.Code), Reason: v.Reason.Text})
		}
		line := &lines[at]
		line.Groups++
		line.Jobs += v.Held
		if len(line.Targets) < maxNamedGroups {
			line.Targets = append(line.Targets, v.Group)
		}
	}
	return lines
}

func holdsOf(plan burst.Plan) string {
	lines := waitingLines(plan)
	if lines == nil {
		lines = []action{}
	}
	for _, why := range plan.Withheld[:min(len(plan.Withheld), maxWithheld)] {
		lines = append(lines, action{Kind: "withheld", Code: string(why.Code), Reason: why.Text})
	}
	for _, w := range plan.Warnings {
		lines = append(lines, action{Kind: "budget", Code: string(w.Reason.Code), Reason: w.Reason.Text})
	}
	for _, h := range plan.Holds {
		a := action{Kind: "hold", Nodearray: string(h.Nodearray), Code: string(h.Reason.Code), Reason: h.Reason.Text}
		for _, n := range h.Nodes {
			a.Targets = append(a.Targets, string(n))
		}
		lines = append(lines, a)
	}
	text, _ := json.Marshal(lines) // strings only: cannot fail
	return string(text)
}

func reasonsOf(plan burst.Plan) string {
	seen := map[string]bool{}
	var codes []string
	for _, a := range actionsOf(plan) {
		seen[a.Code] = true
	}
	for _, h := range plan.Holds {
		seen[string(h.Reason.Code)] = true
	}
	for i := range plan.Verdicts {
		if plan.Verdicts[i].Held > 0 {
			seen[string(plan.Verdicts[i].Reason.Code)] = true
		}
	}
	for code := range seen {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	text, _ := json.Marshal(codes) // strings only: cannot fail
	return string(text)
}
