package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// project writes what people and the next pass read, and then drops the
// intents that it shows. A crash before the end leaves settled intents, which
// the next pass projects again.
//
// Rows of nodes and nodearrays are written only by a pass that moved the
// cluster: its commit proves that nobody else did between its reading and its
// writing. A pass that commits nothing has found nothing to tell.
func (p *pass) project(ctx context.Context, now time.Time, plan burst.Plan) error {
	if p.committed {
		if err := p.projectNodes(ctx, now, reasonsByNode(plan)); err != nil {
			return err
		}
		p.crash(pointNodesWritten)
		if err := p.projectArrays(ctx, now, plan); err != nil {
			return err
		}
		p.crash(pointArraysWritten)
		if err := p.projectGroups(ctx, now, p.regroup); err != nil {
			return err
		}
		p.regroup = groupChanges{}
		p.crash(pointGroupsWritten)
		if err := p.projectJobs(ctx, now, plan); err != nil {
			return err
		}
		p.crash(pointJobsWritten)
		if err := p.projectSpend(ctx, now); err != nil {
			return err
		}
		p.crash(pointSpendWritten)
	}
	if err := p.projectCommands(ctx); err != nil {
		return err
	}
	p.crash(pointCommandsWritten)
	if err := p.record(ctx, now, plan); err != nil {
		return err
	}
	p.crash(pointRecorded)
	if len(p.failures) > 0 {
		if err := p.Ledger.AppendFailures(ctx, p.name, p.failures); err != nil {
			return fmt.Errorf("record failures: %w", err)
		}
		p.failures = nil
		p.crash(pointFailuresWritten)
	}
	if p.conflicted {
		p.forget(p.name) // somebody projects at this moment; the intents stay for the next pass
		return nil
	}
	if len(p.settled) > 0 {
		if err := p.Ledger.DeleteIntents(ctx, p.name, p.settled); err != nil {
			return fmt.Errorf("drop settled intents: %w", err)
		}
		p.settled = nil
		p.crash(pointDropped)
	}
	p.keep()
	return nil
}

// keep remembers the projections at this revision, if nobody can change them
// without another one: whoever settles an intent that is open now will. So rows
// that are remembered as exact were never read beside an open intent.
func (p *pass) keep() {
	if p.unsettled || !p.committed {
		return
	}
	at := p.part.Cluster.Revision
	c := cached{ledgerID: p.part.Cluster.LedgerID, revision: at, nodesOf: at, holds: p.remembered(p.name).holds}
	for _, row := range p.rows {
		c.nodes = append(c.nodes, row)
	}
	for _, row := range p.arrays {
		c.arrays = append(c.arrays, row)
	}
	p.remember(p.name, c)
}

func reasonsByNode(plan burst.Plan) map[burst.NodeName]burst.Reason {
	reasons := map[burst.NodeName]burst.Reason{}
	for _, h := range plan.Holds {
		for _, n := range h.Nodes {
			reasons[n] = h.Reason
		}
	}
	for _, c := range plan.Commands {
		for _, n := range c.Nodes {
			reasons[n] = c.Reason
		}
	}
	for _, c := range plan.Creates {
		for _, n := range c.Nodes {
			reasons[n] = c.Reason
		}
	}
	for _, t := range plan.Terminates {
		for _, target := range t.Targets {
			reasons[target.Node] = t.Reason
		}
	}
	return reasons
}

// sameNode compares rows but for the columns that say when they were written.
func sameNode(a, b ledger.Node) bool {
	a.UpdatedAt, a.Revision, a.SeenAt = b.UpdatedAt, b.Revision, b.SeenAt
	return a == b
}

// row is the node's row as the facts have it now.
func (p *pass) row(old ledger.Node, n *burst.Node, why burst.Reason) ledger.Node {
	row, s := old, p.slurm[n.Name]
	array := p.arrayPolicy(n.Nodearray)
	row.Name, row.Nodearray = string(n.Name), string(n.Nodearray)
	row.SlurmState, row.SlurmFlags, row.State = s.base, strings.Join(s.flags, "+"), n.Slurm.String()
	row.Supply, row.NodeID = n.Supply.String(), n.NodeID
	if status, asked := p.status[n.Name]; asked {
		row.CycleCloudStatus = status
	}
	row.ResumeID = n.Created.ResumeID
	row.CreatedEpoch, row.CreatedSequence = n.Created.Epoch, n.Created.Sequence
	row.DownEpoch, row.DownSequence = n.DownAt.Epoch, n.DownAt.Sequence
	row.CreatedAt, row.TerminatedAt = n.CreatedAt, n.TerminatedAt
	row.LastAbortAt, row.RefusedAt, row.FailedAt = n.AbortedAt, n.RefusedAt, n.FailedAt
	row.ReasonCode, row.Reason = string(why.Code), why.Text
	row.IdleSince, row.IdleDeadline, row.PoweringUpSince, row.BootDeadline = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	up := false
	switch n.Slurm {
	case burst.Idle:
		row.IdleSince, row.IdleDeadline, up = s.since, s.since.Add(array.IdleTimeout), true
	case burst.Busy, burst.Reserved, burst.DrainedUp:
		up = true
	case burst.PoweringUp:
		row.PoweringUpSince = s.since
		if !n.CreatedAt.IsZero() {
			row.BootDeadline = n.CreatedAt.Add(array.BootDeadline)
		}
	case burst.SlurmUnknown, burst.Undefined, burst.PoweredDown, burst.Fenced, burst.Drained, burst.Waking, burst.Down,
		burst.NotResponding, burst.PowerDownPending, burst.PoweringDown, burst.DownPoweredDown, burst.StuckPoweredDown,
		burst.DownPoweringUp:
	}
	switch {
	case n.CreatedAt.IsZero():
		row.JoinedAt = time.Time{}
	case up && row.JoinedAt.Before(n.CreatedAt):
		row.JoinedAt = p.view.asOf
	}
	asStored(&row.IdleSince, &row.IdleDeadline, &row.PoweringUpSince, &row.BootDeadline, &row.JoinedAt, &row.CreatedAt,
		&row.TerminatedAt, &row.LastAbortAt, &row.RefusedAt, &row.FailedAt)
	return row
}

// asStored gives times the form in which the ledger returns them, so that rows
// can be compared: UTC, whole microseconds, no monotonic reading.
func asStored(times ...*time.Time) {
	for _, t := range times {
		*t = t.UTC().Truncate(time.Microsecond)
	}
}

func (p *pass) arrayPolicy(name burst.NodearrayName) burst.Nodearray {
	i := slices.IndexFunc(p.config.Policy.Nodearrays, func(a burst.Nodearray) bool { return a.Name == name })
	return p.config.Policy.Nodearrays[i] // facts are built from the policy: it is there
}

// projectArrays writes the rows of the nodearrays. Where somebody else wrote
// one at this moment, the timers that were armed here are laid over theirs.
func (p *pass) projectArrays(ctx context.Context, now time.Time, plan burst.Plan) error {
	today, month := p.money(now)
	for range 3 {
		var changed []ledger.Nodearray
		for _, array := range p.config.Policy.Nodearrays {
			old := p.arrays[string(array.Name)]
			row := old
			if old.Revision <= p.part.Cluster.Revision { // else it tells of a later commit
				row = p.arrayRow(old, array, plan)
				row.SpendToday, row.SpendMonth = int64(today[array.Name]), int64(month[array.Name])
			}
			p.tellTimers(&row)
			same := old
			same.UpdatedAt, same.Revision = row.UpdatedAt, row.Revision
			if same == row {
				continue
			}
			row.UpdatedAt, row.Revision = now, max(old.Revision, p.part.Cluster.Revision)
			changed = append(changed, row)
		}
		written, lost, err := p.putArrays(ctx, changed)
		if err != nil {
			return fmt.Errorf("project nodearrays: %w", err)
		}
		for _, row := range written {
			p.arrays[row.Name] = row
		}
		if len(lost) == 0 {
			p.armed = nil
			return nil
		}
		rows, err := p.Ledger.Nodearrays(ctx, p.name)
		if err != nil {
			return fmt.Errorf("load nodearrays again: %w", err)
		}
		p.setArrays(rows)
	}
	p.conflicted = true
	return nil
}

func (p *pass) putArrays(ctx context.Context, rows []ledger.Nodearray) (written []ledger.Nodearray, lost []string, err error) {
	if len(rows) == 0 {
		return nil, nil, nil
	}
	return p.Ledger.PutNodearrays(ctx, p.name, rows)
}

func (p *pass) arrayRow(old ledger.Nodearray, array burst.Nodearray, plan burst.Plan) ledger.Nodearray {
	row := old
	row.Name, row.Partition, row.Limit = string(array.Name), array.Partition, array.MaxNodes
	row.Counts, row.Desired = p.counts(array)
	row.ReasonCode, row.Reason = "", ""
	row.ClosedUntil = p.facts.Memory.OpenUntil(array.Name)
	row.Failures, row.BreakerReasonCode, row.BreakerReason = 0, "", ""
	for _, b := range p.facts.Memory.Breakers {
		if b.Nodearray == array.Name && b.MachineType == array.MachineType {
			row.Failures, row.BreakerReasonCode, row.BreakerReason = b.Failures, string(b.Reason.Code), b.Reason.Text
		}
	}
	asStored(&row.ClosedUntil)
	for _, c := range plan.Closings {
		if c.Nodearray == array.Name {
			row.ReasonCode, row.Reason = string(c.Reason.Code), c.Reason.Text
		}
	}
	for _, h := range plan.Holds {
		if h.Nodearray == array.Name && len(h.Nodes) == 0 {
			row.ReasonCode, row.Reason = string(h.Reason.Code), h.Reason.Text
		}
	}
	return row
}

// tellTimers lays the timers that were armed here over a row, where nobody armed
// a newer one since.
func (p *pass) tellTimers(row *ledger.Nodearray) {
	for _, t := range p.armed {
		if t.array == row.Name && t.timer.Generation > armedTimer(*row, t.purpose).Generation {
			setTimer(row, t.purpose, t.timer)
		}
	}
	asStored(&row.BootDeadline.At, &row.IdleDeadline.At, &row.Retry.At, &row.Recheck.At)
}

func (p *pass) counts(array burst.Nodearray) (c ledger.NodeCounts, desired int) {
	for _, name := range array.Nodes {
		n := p.facts.Nodes[p.index[name]]
		if n.Slurm != burst.Undefined {
			c.Defined++
		}
		switch n.Supply {
		case burst.Creating, burst.Booting, burst.Ready, burst.Failed, burst.Leaving, burst.Off:
			c.VMs++
		case burst.SupplyUnknown, burst.Absent:
		}
		switch n.Slurm {
		case burst.PoweredDown:
			c.PoweredDown++
			c.Usable++
		case burst.Fenced, burst.Drained:
			c.Fenced++
		case burst.Waking, burst.PoweringUp, burst.DownPoweringUp:
			c.PoweringUp++
			desired++
		case burst.Idle:
			c.Idle++
			c.Usable++
			desired++
		case burst.Busy, burst.Reserved, burst.DrainedUp:
			c.Busy++
			desired++
		case burst.PoweringDown, burst.PowerDownPending:
			c.PoweringDown++
		case burst.Down, burst.DownPoweredDown, burst.StuckPoweredDown:
			c.Down++
		case burst.SlurmUnknown, burst.NotResponding:
			c.Unknown++
		case burst.Undefined:
		}
	}
	return c, desired
}
