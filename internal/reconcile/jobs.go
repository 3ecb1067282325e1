package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// The states of a row in the table of jobs.
const (
	jobWaiting  = "waiting"
	jobReleased = "released"
	jobRunning  = "running"
	jobRevoked  = "revoked"
	jobEnded    = "ended"
	jobShadow   = "shadow"
	groupHeld   = "held"
)

// maxGroupWrites bounds the rows of groups that one pass writes: where all are
// held for a new reason at once, the rest follows with the next pass.
const maxGroupWrites = 500

// groupRows is what this process knows of the rows of held groups.
type groupRows struct {
	ledgerID string
	revision int64
	rows     map[string]ledger.Job
}

// loadGroups reads the rows of held groups: those written since this process
// last did, or all of them where it has none or a sweep mistrusts them. Where the
// commits in between announced none, nothing is read.
func (p *pass) loadGroups(ctx context.Context) error {
	if p.groups != nil {
		return nil
	}
	known := p.groupsOf(p.name)
	if known.ledgerID != p.part.Cluster.LedgerID || p.trigger.sweep || known.revision > p.part.Cluster.Revision {
		known = groupRows{}
	}
	p.groups = make(map[string]ledger.Job, len(known.rows))
	maps.Copy(p.groups, known.rows)
	if known.revision != 0 && known.revision == p.part.Cluster.Revision {
		return nil
	}
	since := int64(0)
	if known.revision > 0 {
		since = max(1, known.revision-overlap)
	}
	if since == 0 || p.groupsMoved(since) {
		read, err := p.Ledger.Groups(ctx, p.name, since)
		if err != nil {
			return fmt.Errorf("load groups: %w", err)
		}
		for _, row := range read {
			p.groups[row.ID] = row
		}
	}
	p.keepGroups(p.name, groupRows{ledgerID: p.part.Cluster.LedgerID, revision: p.part.Cluster.Revision, rows: maps.Clone(p.groups)})
	return nil
}

// How the commits announce rows of groups, beside names of nodes: Slurm's names
// have no '|'. See commandPut, too.
const (
	groupPut  = "group|"
	groupDrop = "gone|"
)

// isNode tells a node's name among those that a commit announces.
func isNode(name string) bool { return !strings.Contains(name, "|") }

// groupsMoved reports whether the rows of groups have to be read to know what
// the commits after a revision made of them. What they deleted is forgotten
// here: no query would tell.
func (p *pass) groupsMoved(since int64) bool {
	named, known := p.part.Changes.After(since, p.part.Cluster.Revision)
	if !known {
		return true
	}
	moved := false
	for name, at := range named {
		if id, ok := strings.CutPrefix(name, groupDrop); ok {
			if row, there := p.groups[id]; there && row.Revision < at {
				delete(p.groups, id)
			}
		}
		if id, ok := strings.CutPrefix(name, groupPut); ok {
			row, there := p.groups[id]
			// A row that was dropped since is not missed.
			moved = moved || (!there || row.Revision < at) && at > named[groupDrop+id]
		}
	}
	return moved
}

// groupChanges are the rows of groups to write and to delete.
type groupChanges struct {
	put, drop []ledger.Job
	// more says that there are more than one pass writes.
	more bool
}

func (c groupChanges) any() bool { return len(c.put)+len(c.drop) > 0 }

// maxAnnounced bounds the groups that one commit names. The history of 50
// commits has to fit one row, and names of groups are as good as random.
const maxAnnounced = 50

// names is how a commit announces the changes: by name, or that there are many.
func (c groupChanges) names() []string {
	if len(c.put)+len(c.drop) > maxAnnounced {
		return []string{groupPut + "*"} // which no group is called: it is missed until it is long ago
	}
	names := make([]string, 0, len(c.put)+len(c.drop))
	for _, row := range c.put {
		names = append(names, groupPut+row.ID)
	}
	for _, row := range c.drop {
		names = append(names, groupDrop+row.ID)
	}
	return names
}

// groupChanges compares what the plan holds with the rows. Facts that are too
// old say nothing about groups.
func (p *pass) groupChanges(plan burst.Plan) groupChanges {
	var c groupChanges
	if onlyStored(plan) {
		return c
	}
	groups := make(map[string]*burst.Group, len(p.facts.Groups))
	for i := range p.facts.Groups {
		groups[p.facts.Groups[i].Key] = &p.facts.Groups[i]
	}
	held := make(map[string]bool, len(plan.Verdicts))
	for i := range plan.Verdicts {
		v := &plan.Verdicts[i]
		g, known := groups[v.Group]
		if v.Held == 0 || !known {
			continue
		}
		held[v.Group] = true
		if old, stored := p.groups[v.Group]; !stored || old.ReasonCode != string(v.Reason.Code) {
			c.put = append(c.put, groupRow(old, v, g))
		}
	}
	for id, row := range p.groups {
		if !held[id] {
			c.drop = append(c.drop, row)
		}
	}
	slices.SortFunc(c.drop, func(a, b ledger.Job) int { return strings.Compare(a.ID, b.ID) })
	c.more = len(c.put)+len(c.drop) > maxGroupWrites
	c.put = c.put[:min(len(c.put), maxGroupWrites)]
	c.drop = c.drop[:min(len(c.drop), maxGroupWrites-len(c.put))]
	return c
}

func groupRow(old ledger.Job, v *burst.Verdict, g *burst.Group) ledger.Job {
	row := old
	row.ID, row.Group, row.Count, row.State = v.Group, true, v.Held, groupState(v.Reason.Code)
	row.Partition, row.Nodearray = strings.Join(g.Partitions, ","), string(v.Nodearray)
	row.User, row.Account, row.QOS = g.User, g.Account, g.QOS
	row.ReasonCode, row.Reason = string(v.Reason.Code), v.Reason.Text
	row.SubmittedAt, row.Cost = g.OldestSubmit, int64(v.Cost)
	return row
}

// groupState tells groups that are held from those whose jobs are on their way.
func groupState(code burst.Code) string {
	if code == burst.ReasonReleased {
		return jobReleased
	}
	if code == burst.ReasonShadow {
		return jobShadow
	}
	return groupHeld
}

// projectGroups writes the rows of held groups and keeps what it knows of them.
func (p *pass) projectGroups(ctx context.Context, now time.Time, c groupChanges) error {
	lost := false
	for i := range c.put {
		c.put[i].UpdatedAt, c.put[i].Revision = now, p.part.Cluster.Revision
	}
	if len(c.put) > 0 {
		written, conflicted, err := p.Ledger.PutJobs(ctx, p.name, c.put)
		if err != nil {
			return fmt.Errorf("project groups: %w", err)
		}
		for _, row := range written {
			p.groups[row.ID] = row
		}
		lost = len(conflicted) > 0
	}
	if len(c.drop) > 0 {
		conflicted, err := p.Ledger.DeleteGroups(ctx, p.name, c.drop)
		if err != nil {
			return fmt.Errorf("project groups: %w", err)
		}
		for _, row := range c.drop {
			delete(p.groups, row.ID)
		}
		lost = lost || len(conflicted) > 0
	}
	known := groupRows{ledgerID: p.part.Cluster.LedgerID, revision: p.part.Cluster.Revision, rows: p.groups}
	if lost { // somebody else's rows are read anew by the next pass
		known = groupRows{}
	}
	p.keepGroups(p.name, known)
	return nil
}

// jobRows gives the rows of the jobs whose place in the memory changed.
func (p *pass) jobRows(now time.Time, before, after burst.Memory, plan burst.Plan) []ledger.Job {
	known := make(map[string]burst.CloudJob, len(before.Jobs))
	for _, j := range before.Jobs {
		known[j.ID] = j
	}
	reasons, told := jobReasons(plan)
	var rows []ledger.Job
	for _, j := range after.Jobs {
		old, was := known[j.ID]
		row := p.jobRow(j)
		if was && row == p.jobRow(old) {
			continue
		}
		if j.RevokedAt.IsZero() && len(j.Home) > 0 && (!was || !old.RevokedAt.IsZero()) {
			row.ReleasedAt = now
		}
		why, commanded := reasons[j.ID]
		if !commanded {
			why = j.WhyRevoked()
		}
		row.ReasonCode, row.Reason = string(why.Code), why.Text
		if told[j.ID] {
			row.NotedAt = now
		}
		row.UpdatedAt, row.Revision = now, p.part.Cluster.Revision
		rows = append(rows, row)
	}
	return rows
}

// noteEnded writes the rows of the jobs that a decision forgets because they
// ended. It comes before the commit: that is Slurm's word whatever becomes of
// the decision, and afterwards nobody would know what to write. One that was
// revoked, or would only have been released, ended elsewhere.
func (p *pass) noteEnded(ctx context.Context, now time.Time, after burst.Memory) error {
	still := make(map[string]bool, len(after.Jobs))
	for i := range after.Jobs {
		still[after.Jobs[i].ID] = true
	}
	ends := make(map[string]time.Time, len(p.facts.Ended))
	for _, e := range p.facts.Ended {
		ends[e.ID] = e.EndedAt
	}
	var rows []ledger.Job
	for _, j := range p.stored.Jobs {
		if still[j.ID] || j.Shadow || !j.RevokedAt.IsZero() {
			continue
		}
		row := p.jobRow(j)
		row.State, row.EndedAt = jobEnded, ends[j.ID]
		if row.EndedAt.IsZero() {
			row.EndedAt = p.view.asOf
		}
		row.Cost = int64(j.Ran(row.EndedAt))
		row.UpdatedAt, row.Revision = now, p.part.Cluster.Revision+1
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil
	}
	if err := p.Ledger.NoteJobs(ctx, p.name, rows); err != nil {
		return fmt.Errorf("note ended jobs: %w", err)
	}
	return nil
}

// jobReasons are those of the jobs that the plan acts on, and which jobs it
// tells theirs.
func jobReasons(plan burst.Plan) (reasons map[string]burst.Reason, told map[string]bool) {
	reasons, told = map[string]burst.Reason{}, map[string]bool{}
	for _, c := range plan.Commands {
		for _, job := range c.Jobs {
			switch c.Kind {
			case burst.ReleaseJobs, burst.RevokeJobs:
				reasons[job] = c.Reason
			case burst.NoticeJobs:
				told[job] = true
			case burst.FenceNodes, burst.UnfenceNodes, burst.PowerDownASAP, burst.AbortBoot, burst.BeginNow, burst.PowerDown,
				burst.PowerDownDone, burst.GatePartition:
			}
		}
	}
	return reasons, told
}

func (p *pass) jobRow(j burst.CloudJob) ledger.Job {
	row := ledger.Job{
		ID: j.ID, Count: 1, State: jobWaiting, Partition: strings.Join(j.Home, ","), Nodearray: string(j.Nodearray), User: j.User, Account: j.Account,
		SubmittedAt: j.SubmittedAt, RevokedAt: j.RevokedAt, StartedAt: j.StartedAt, Cost: int64(j.Committed),
		NodeCount: min(j.Nodes, maxNodes), LimitSeconds: int64(j.TimeLimit / time.Second),
	}
	switch {
	case j.Shadow:
		row.State = jobShadow
	case !j.RevokedAt.IsZero():
		row.State = jobRevoked
	case !j.StartedAt.IsZero():
		row.State = jobRunning
		row.Nodes = p.hostsOf(j.ID)
	case len(j.Home) > 0:
		row.State = jobReleased
	}
	return row
}

// hostsOf gives the nodes of a running job, as the snapshot does.
func (p *pass) hostsOf(id string) string {
	if p.hosts == nil {
		p.hosts = make(map[string]string, len(p.view.pressure.Running))
		for _, j := range p.view.pressure.Running {
			p.hosts[string(j.ID)] = j.Nodes
		}
	}
	nodes := p.hosts[id]
	if len(nodes) > slurm.MaxHostlistBytes {
		return ""
	}
	return nodes
}

// projectJobs writes the rows of jobs. They hold all that the memory knows, so
// they are written whatever is stored.
func (p *pass) projectJobs(ctx context.Context, now time.Time, plan burst.Plan) error {
	rows := p.jobRows(now, p.shown, p.stored, plan)
	if len(rows) > 0 {
		if err := p.Ledger.NoteJobs(ctx, p.name, rows); err != nil {
			return fmt.Errorf("project jobs: %w", err)
		}
	}
	p.shown = p.stored
	return nil
}

func (r *Reconciler) groupsOf(cluster string) groupRows {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.groups[cluster]
}

func (r *Reconciler) keepGroups(cluster string, g groupRows) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.groups[cluster] = g
}
