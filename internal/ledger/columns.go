package ledger

// The columns of every row. docs/tables.md says what each one means; the order
// in a walk may change, the names and meanings may not.

// How many columns a spread value may take. A list of 30,000 characters holds
// more than 400 targets.
const (
	listChunks = 8
	textChunks = 20
)

func (c *Cluster) columns(f *fields) {
	f.text("Cluster", &c.Cluster)
	f.text("LedgerID", &c.LedgerID)
	f.whole("Revision", &c.Revision)
	f.whole("Epoch", &c.Epoch)
	f.whole("Sequence", &c.Sequence)
	f.flag("Paused", &c.Paused)
	f.text("PausedBy", &c.PausedBy)
	f.text("PausedReason", &c.PausedReason)
	f.moment("PausedAt", &c.PausedAt)
	f.moment("NextDue", &c.NextDue)
	f.count("MinWriter", &c.MinWriter)
	f.text("PolicyVersion", &c.PolicyVersion)
	f.text("PolicyInForce", &c.PolicyInForce)
	f.whole("CommandsSince", &c.CommandsSince)
	f.moment("SweptAt", &c.SweptAt)
	f.moment("SweepDue", &c.SweepDue)
	f.text("CommitID", &c.commitID)
	f.whole("SnapshotSize", &c.snapshotSize)
}

func (h *Heartbeat) columns(f *fields) {
	f.whole("Epoch", &h.Epoch)
	f.whole("Sequence", &h.Sequence)
	f.moment("ReceivedAt", &h.ReceivedAt)
	f.moment("AsOf", &h.AsOf)
	f.text("Digest", &h.Digest)
	f.text("AgentHost", &h.AgentHost)
}

func (b *Budget) columns(f *fields) { f.bytes("Body", &b.Body, maxChunks) }

func (i *Intent) columns(f *fields) {
	f.text("ID", &i.ID)
	f.text("Kind", &i.Kind)
	f.text("Nodearray", &i.Nodearray)
	f.list("Targets", &i.Targets, len(i.Targets), listChunks)
	f.text("RequestID", &i.RequestID)
	f.count("Attempt", &i.Attempt)
	f.bytes("Body", &i.Body, maxChunks)
	f.whole("Reserved", &i.Reserved)
	f.moment("NotAfter", &i.NotAfter)
	f.whole("Epoch", &i.Epoch)
	f.whole("Sequence", &i.Sequence)
	f.whole("Generation", &i.Generation)
	f.text("Owner", &i.Owner)
	f.moment("ClaimUntil", &i.ClaimUntil)
	f.text("State", (*string)(&i.State))
	f.text("OperationID", &i.OperationID)
	f.list("TimerSequences", &i.TimerSequences, len(i.TimerSequences), 1)
	f.list("Outcome", &i.Outcome, len(i.Outcome), listChunks)
	f.text("Reason", &i.Reason)
	f.text("Detail", &i.Detail)
	f.moment("CreatedAt", &i.CreatedAt)
	f.moment("SettledAt", &i.SettledAt)
}

func (x *Fact) columns(f *fields) {
	f.text("ID", &x.ID)
	f.text("Kind", &x.Kind)
	f.moment("At", &x.At)
	f.bytes("Body", &x.Body, MaxFact/maxBinary)
}

func (n *Node) columns(f *fields) {
	f.text("Cluster", &n.Cluster)
	f.text("Name", &n.Name)
	f.text("Nodearray", &n.Nodearray)
	f.text("SlurmState", &n.SlurmState)
	f.text("SlurmFlags", &n.SlurmFlags)
	f.text("NodeID", &n.NodeID)
	f.text("CycleCloudStatus", &n.CycleCloudStatus)
	f.text("VMID", &n.VMID)
	f.text("Supply", &n.Supply)
	f.text("State", &n.State)
	f.text("RequestID", &n.RequestID)
	f.text("ResumeID", &n.ResumeID)
	f.whole("CreatedEpoch", &n.CreatedEpoch)
	f.whole("CreatedSequence", &n.CreatedSequence)
	f.text("ReasonCode", &n.ReasonCode)
	f.text("Reason", &n.Reason)
	f.moment("CreatedAt", &n.CreatedAt)
	f.moment("JoinedAt", &n.JoinedAt)
	f.moment("IdleSince", &n.IdleSince)
	f.moment("PoweringUpSince", &n.PoweringUpSince)
	f.moment("BootDeadline", &n.BootDeadline)
	f.moment("IdleDeadline", &n.IdleDeadline)
	f.moment("LastAbortAt", &n.LastAbortAt)
	f.moment("SeenAt", &n.SeenAt)
	f.moment("UpdatedAt", &n.UpdatedAt)
	f.moment("TerminatedAt", &n.TerminatedAt)
	f.moment("RefusedAt", &n.RefusedAt)
	f.moment("FailedAt", &n.FailedAt)
	f.whole("DownEpoch", &n.DownEpoch)
	f.whole("DownSequence", &n.DownSequence)
	f.whole("Revision", &n.Revision)
}

func (t *Timer) columns(f *fields, purpose string) {
	f.moment(purpose+"At", &t.At)
	f.whole(purpose+"Generation", &t.Generation)
	f.whole(purpose+"SequenceNumber", &t.SequenceNumber)
}

func (a *Nodearray) columns(f *fields) {
	f.text("Cluster", &a.Cluster)
	f.text("Name", &a.Name)
	f.text("Partition", &a.Partition)
	f.count("Defined", &a.Counts.Defined)
	f.count("Usable", &a.Counts.Usable)
	f.count("PoweredDown", &a.Counts.PoweredDown)
	f.count("Fenced", &a.Counts.Fenced)
	f.count("PoweringUp", &a.Counts.PoweringUp)
	f.count("Idle", &a.Counts.Idle)
	f.count("Busy", &a.Counts.Busy)
	f.count("PoweringDown", &a.Counts.PoweringDown)
	f.count("Down", &a.Counts.Down)
	f.count("Unknown", &a.Counts.Unknown)
	f.count("VMs", &a.Counts.VMs)
	f.count("Desired", &a.Desired)
	f.count("Limit", &a.Limit)
	a.BootDeadline.columns(f, "BootDeadline")
	a.IdleDeadline.columns(f, "IdleDeadline")
	a.Retry.columns(f, "Retry")
	a.Recheck.columns(f, "Recheck")
	f.moment("ClosedUntil", &a.ClosedUntil)
	f.count("Failures", &a.Failures)
	f.text("BreakerReasonCode", &a.BreakerReasonCode)
	f.text("BreakerReason", &a.BreakerReason)
	f.whole("SpendToday", &a.SpendToday)
	f.whole("SpendMonth", &a.SpendMonth)
	f.text("ReasonCode", &a.ReasonCode)
	f.text("Reason", &a.Reason)
	f.moment("UpdatedAt", &a.UpdatedAt)
	f.whole("Revision", &a.Revision)
}

func (c *Command) columns(f *fields) {
	f.text("Cluster", &c.Cluster)
	f.text("ID", &c.ID)
	f.text("Kind", &c.Kind)
	f.text("Nodearray", &c.Nodearray)
	f.whole("Generation", &c.Generation)
	f.list("Targets", &c.Targets, len(c.Targets), listChunks)
	f.text("Expect", &c.Expect)
	f.moment("SentAt", &c.SentAt)
	f.moment("ExpiresAt", &c.ExpiresAt)
	f.moment("ResultAt", &c.ResultAt)
	f.text("State", (*string)(&c.State))
	f.text("Detail", &c.Detail)
	f.count("Attempt", &c.Attempt)
}

func (j *Job) columns(f *fields) {
	f.text("Cluster", &j.Cluster)
	f.text("ID", &j.ID)
	f.flag("Group", &j.Group)
	f.count("Count", &j.Count)
	f.text("State", &j.State)
	f.text("Partition", &j.Partition)
	f.text("Nodearray", &j.Nodearray)
	f.text("Nodes", &j.Nodes)
	f.text("User", &j.User)
	f.text("Account", &j.Account)
	f.text("QOS", &j.QOS)
	f.text("ReasonCode", &j.ReasonCode)
	f.text("Reason", &j.Reason)
	f.moment("SubmittedAt", &j.SubmittedAt)
	f.moment("ReleasedAt", &j.ReleasedAt)
	f.moment("RevokedAt", &j.RevokedAt)
	f.moment("StartedAt", &j.StartedAt)
	f.moment("EndedAt", &j.EndedAt)
	f.moment("NotedAt", &j.NotedAt)
	f.moment("UpdatedAt", &j.UpdatedAt)
	f.whole("Cost", &j.Cost)
	f.count("NodeCount", &j.NodeCount)
	f.whole("LimitSeconds", &j.LimitSeconds)
	f.whole("Revision", &j.Revision)
}

func (d *Decision) columns(f *fields) {
	f.text("Cluster", &d.Cluster)
	f.text("ID", &d.ID)
	f.moment("At", &d.At)
	f.text("Trigger", &d.Trigger)
	f.whole("Revision", &d.Revision)
	f.text("PolicyVersion", &d.PolicyVersion)
	f.data("Actions", &d.Actions, listChunks)
	f.data("Holds", &d.Holds, listChunks)
	f.data("Reasons", &d.Reasons, listChunks)
	f.list("RequestIDs", &d.RequestIDs, len(d.RequestIDs), listChunks)
	f.whole("FactsSize", &d.factsSize)
}

func (x *Failure) columns(f *fields) {
	f.text("Cluster", &x.Cluster)
	f.moment("At", &x.At)
	f.text("Node", &x.Node)
	f.text("Nodearray", &x.Nodearray)
	f.text("Source", &x.Source)
	f.text("What", &x.What)
	f.text("Code", &x.Code)
	f.text("Detail", &x.Detail)
	f.text("RequestID", &x.RequestID)
}

func (p *Policy) columns(f *fields) {
	f.text("Cluster", &p.Cluster)
	f.text("Version", &p.Version)
	f.data("Text", &p.Text, textChunks)
	f.text("Author", &p.Author)
	f.moment("AppliedAt", &p.AppliedAt)
	f.flag("Current", &p.Current)
}

// part is one row's share of a value too long for one row.
type part struct {
	body []byte
	version
}

func (p *part) columns(f *fields) { f.bytes("Body", &p.body, maxChunks) }

// snapshotHead is the first row of a snapshot: what is known of it, its length,
// and the first part of its body.
type snapshotHead struct {
	Snapshot
	size  int64
	first part
	version
}

func (s *snapshotHead) columns(f *fields) {
	f.whole("Epoch", &s.Epoch)
	f.whole("Sequence", &s.Sequence)
	f.moment("AsOf", &s.AsOf)
	f.text("Digest", &s.Digest)
	f.whole("Size", &s.size)
	s.first.columns(f)
}
