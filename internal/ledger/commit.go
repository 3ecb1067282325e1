package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Load reads the commit partition of a cluster with one query. A cluster that
// nothing was committed for is not an error: see Partition.Found.
func (s *Store) Load(ctx context.Context, cluster string) (Partition, error) {
	operation := fmt.Sprintf("load %s/%s", s.name(tableClusters), cluster)
	if err := checkKey(operation, escape(cluster)); err != nil {
		return Partition{}, err
	}
	for range 3 {
		p, steady, err := s.loadOnce(ctx, cluster)
		if err != nil {
			return Partition{}, classify(err, operation)
		}
		if steady {
			return p, nil
		}
	}
	return Partition{}, fault.New(fault.Conflict, operation, ErrConflict)
}

// loadOnce reads the partition. An answer of one page is a consistent picture;
// one of several is steady only if no commit came between its pages.
func (s *Store) loadOnce(ctx context.Context, cluster string) (p Partition, steady bool, err error) {
	here := condition{partitionKey, equal, escape(cluster)}
	var stored []entity
	keep := func(e entity) error { stored = append(stored, e); return nil }
	pages, err := s.rows(ctx, tableClusters, query{where: []condition{here}}, keep)
	if err != nil {
		return Partition{}, false, err
	}
	if p, err = assemble(stored); err != nil {
		return Partition{}, false, err
	}
	if !p.Found {
		p.Cluster = s.newCluster(cluster)
	}
	p.Cluster.Cluster = cluster
	if pages == 1 {
		return p, true, nil
	}
	again, err := s.clusterRow(ctx, cluster)
	return p, again.etag == p.Cluster.etag, err
}

// newCluster is a cluster that was never committed.
func (s *Store) newCluster(cluster string) Cluster {
	began := s.now().UnixMilli()
	return Cluster{Cluster: cluster, Revision: began, LedgerID: strconv.FormatInt(began, 36)}
}

// clusterRow reads the row `cluster` alone; it is empty if there is none.
func (s *Store) clusterRow(ctx context.Context, cluster string) (Cluster, error) {
	where := []condition{{partitionKey, equal, escape(cluster)}, {rowKey, equal, rowCluster}}
	var c Cluster
	_, err := s.rows(ctx, tableClusters, query{where: where}, func(e entity) error { return fill(&c, e) })
	return c, err
}

// assemble sorts the rows of a commit partition by what they are.
func assemble(stored []entity) (Partition, error) {
	var (
		p     Partition
		head  snapshotHead
		parts = map[string]entity{}
		err   error
	)
	for _, e := range stored {
		switch {
		case e.rk == rowCluster:
			p.Found = true
			err = fill(&p.Cluster, e)
		case e.rk == rowHeartbeat:
			err = fill(&p.Heartbeat, e)
		case e.rk == rowBudget:
			err = fill(&p.Budget, e)
		case e.rk == rowChanges:
			err = fill(&p.Changes, e)
		case e.rk == rowSnapshot:
			err = fill(&head, e)
		case strings.HasPrefix(e.rk, rowSnapshot+"|"):
			parts[e.rk] = e
		case strings.HasPrefix(e.rk, kindIntent):
			var i Intent
			err = fill(&i, e)
			p.Intents = append(p.Intents, i)
		case strings.HasPrefix(e.rk, kindFact):
			var x Fact
			err = fill(&x, e)
			p.Facts = append(p.Facts, x)
		}
		if err != nil {
			return Partition{}, err
		}
	}
	slices.SortFunc(p.Intents, func(a, b Intent) int { return compareIDs(a.ID, b.ID) })
	slices.SortFunc(p.Facts, func(a, b Fact) int {
		if order := a.At.Compare(b.At); order != 0 {
			return order
		}
		return strings.Compare(a.ID, b.ID)
	})
	p.Snapshot, err = joinSnapshot(head, parts)
	return p, err
}

// joinSnapshot puts the parts of a snapshot together. One that is not whole,
// because somebody deleted a row, counts as none: the next one replaces it.
func joinSnapshot(head snapshotHead, parts map[string]entity) (Snapshot, error) {
	body := head.first.body
	for n := 1; int64(len(body)) < head.size; n++ {
		e, ok := parts[snapshotKey(n)]
		if !ok {
			return Snapshot{}, nil
		}
		var next part
		if err := fill(&next, e); err != nil {
			return Snapshot{}, err
		}
		if len(next.body) == 0 {
			return Snapshot{}, nil
		}
		body = append(body, next.body...)
	}
	head.Body = body[:head.size]
	return head.Snapshot, nil
}

// Commit writes one step of a cluster in one transaction, or nothing. It fails
// with ErrConflict when somebody else moved the cluster, or an intent or fact
// to drop, since it was loaded; and with ErrTooLarge, before anything is sent,
// when it does not fit: then the caller has to leave something out; and with
// ErrOldWriter where a newer version has the cluster. After any other error it is unknown whether it was written, and Load tells.
func (s *Store) Commit(ctx context.Context, c Commit) (Committed, error) {
	operation := fmt.Sprintf("commit %s/%s revision %d", s.name(tableClusters), c.Cluster.Cluster, c.Cluster.Revision+1)
	c.NewIntents = slices.Clone(c.NewIntents)
	if err := c.admit(); err != nil {
		return Committed{}, classify(err, operation)
	}
	w, err := s.prepare(&c)
	if err != nil {
		return Committed{}, classify(err, operation)
	}
	etags, err := s.submit(ctx, tableClusters, w.ops)
	if err := classify(err, operation); err != nil {
		if fault.Is(err, fault.Conflict) {
			return s.ownCommit(ctx, c, err)
		}
		return Committed{}, err
	}
	c.Cluster.etag = etags[0]
	for i := range c.NewIntents {
		c.NewIntents[i].etag = etags[1+i]
	}
	return Committed{Cluster: c.Cluster, Intents: c.NewIntents}, nil
}

// admit refuses a writer that is too old, and raises the bar where the commit
// asks for it.
func (c *Commit) admit() error {
	writer := c.Writer
	if writer == 0 {
		writer = Writer
	}
	c.Cluster.MinWriter = max(c.Cluster.MinWriter, c.Requires)
	return c.Cluster.Admit(writer)
}

// ownCommit looks whether the commit that was in the way is c itself: the first
// answer was lost on the way and the client sent the transaction again.
func (s *Store) ownCommit(ctx context.Context, c Commit, conflict error) (Committed, error) {
	p, err := s.Load(ctx, c.Cluster.Cluster)
	if err != nil || p.Cluster.commitID != c.Cluster.commitID {
		return Committed{}, conflict
	}
	done := Committed{Cluster: p.Cluster}
	for _, mine := range c.NewIntents {
		i := slices.IndexFunc(p.Intents, func(i Intent) bool { return i.ID == mine.ID })
		if i < 0 {
			return Committed{}, conflict
		}
		done.Intents = append(done.Intents, p.Intents[i])
	}
	return done, nil
}

// prepare makes the transaction of a commit and checks it against the limits.
// The row `cluster` comes first, the new intents follow it. It sets in c what
// the commit changes.
func (s *Store) prepare(c *Commit) (write, error) {
	w := write{pk: escape(c.Cluster.Cluster)}
	if len(c.NewIntents) > MaxIntents {
		return w, tooLarge("%d new intents, at most %d fit", len(c.NewIntents), MaxIntents)
	}
	before := c.Cluster.snapshotSize
	if c.Snapshot != nil {
		c.Cluster.snapshotSize = int64(len(c.Snapshot.Body))
	}
	c.Cluster.Revision++
	c.Cluster.commitID = rand.Text()
	lock := merge
	if c.Cluster.etag == "" {
		lock = insert
	}
	err := w.add(lock, rowCluster, &c.Cluster)
	for i := range c.NewIntents {
		c.NewIntents[i].version = version{}
		err = errors.Join(err, w.add(insert, kindIntent+escape(c.NewIntents[i].ID), &c.NewIntents[i]))
	}
	if c.Snapshot != nil {
		err = errors.Join(err, addSnapshot(&w, *c.Snapshot, before))
	}
	if c.Heartbeat != nil {
		beat := *c.Heartbeat
		beat.held = everyColumn
		err = errors.Join(err, w.add(upsert, rowHeartbeat, &beat))
	}
	if c.Budget != nil {
		budget := *c.Budget
		budget.held = everyColumn
		err = errors.Join(err, w.add(upsert, rowBudget, &budget))
	}
	if c.Changes != nil {
		changes := *c.Changes
		changes.held = everyColumn
		err = errors.Join(err, w.add(upsert, rowChanges, &changes))
	}
	for i := range c.DropIntents {
		err = errors.Join(err, w.add(remove, kindIntent+escape(c.DropIntents[i].ID), &c.DropIntents[i]))
	}
	for i := range c.DropFacts {
		err = errors.Join(err, w.add(remove, kindFact+escape(c.DropFacts[i].ID), &c.DropFacts[i]))
	}
	if err != nil {
		return w, err
	}
	return w, checkTransaction(w.ops)
}

// checkTransaction refuses what one transaction cannot hold.
func checkTransaction(ops []op) error {
	values := 0
	for _, o := range ops {
		for _, cell := range o.row.cells {
			switch v := cell.(type) {
			case string:
				values += len(v)
			case []byte:
				values += len(v)
			default:
				values += 8
			}
		}
	}
	switch wire := size(ops); {
	case len(ops) > MaxRows:
		return tooLarge("%d rows, at most %d fit", len(ops), MaxRows)
	case values > maxCommit:
		return tooLarge("%d bytes of values, at most %d fit", values, maxCommit)
	case wire > maxRequest:
		return tooLarge("%d bytes on the wire, at most %d fit", wire, maxRequest)
	}
	return nil
}

// addSnapshot spreads a snapshot over its rows. Columns that the one before
// filled and this one does not are emptied, and no row is ever deleted, so that
// a row that somebody else deleted cannot block a commit.
func addSnapshot(w *write, snapshot Snapshot, before int64) error {
	if len(snapshot.Body) > MaxSnapshot {
		return tooLarge("a snapshot of %d bytes, at most %d fit", len(snapshot.Body), MaxSnapshot)
	}
	head := snapshotHead{Snapshot: snapshot, size: int64(len(snapshot.Body))}
	rest := snapshot.Body
	for n := 0; n == 0 || len(rest) > 0 || before > 0; n++ {
		share := part{body: rest[:min(len(rest), partBytes)]}
		rest = rest[len(share.body):]
		var r row = &share
		if n == 0 {
			head.first = share
			r = &head
		}
		cells, _, err := cellsOf(r, columnSet{})
		if err != nil {
			return err
		}
		if n == 0 && snapshot.AsOf.IsZero() {
			cells["AsOf"] = never
		}
		if _, ok := cells["Digest"]; n == 0 && !ok {
			cells["Digest"] = ""
		}
		emptied := (min(before, partBytes) + maxBinary - 1) / maxBinary
		for chunk := range int(emptied) {
			if _, ok := cells[chunkName("Body", chunk)]; !ok {
				cells[chunkName("Body", chunk)] = []byte{}
			}
		}
		before = max(0, before-partBytes)
		if err := w.append(upsert, entity{pk: w.pk, rk: snapshotKey(n), cells: cells}); err != nil {
			return err
		}
	}
	return nil
}

// NoteHeartbeat overwrites the row `heartbeat` and nothing else: no revision,
// no condition.
func (s *Store) NoteHeartbeat(ctx context.Context, cluster string, beat Heartbeat) error {
	operation := fmt.Sprintf("note heartbeat %s/%s", s.name(tableClusters), cluster)
	w := write{pk: escape(cluster)}
	beat.held = everyColumn
	if err := w.add(upsert, rowHeartbeat, &beat); err != nil {
		return classify(err, operation)
	}
	_, err := s.submit(ctx, tableClusters, w.ops)
	return classify(err, operation)
}

// UpdateIntent writes an intent that was loaded or committed, on the condition
// that nobody else did since: to claim it, to extend the claim, to settle it.
// The result carries the new version. ErrConflict means that somebody else has
// moved it, or that an answer to this very call was lost: load it again.
func (s *Store) UpdateIntent(ctx context.Context, cluster string, intent Intent) (Intent, error) {
	operation := fmt.Sprintf("update %s/%s intent %s", s.name(tableClusters), cluster, intent.ID)
	w := write{pk: escape(cluster)}
	if err := w.add(merge, kindIntent+escape(intent.ID), &intent); err != nil {
		return Intent{}, classify(err, operation)
	}
	etags, err := s.submit(ctx, tableClusters, w.ops)
	if err != nil {
		return Intent{}, classify(err, operation)
	}
	intent.etag = etags[0]
	return intent, nil
}

// DeleteIntents deletes intents that were settled and projected. One that is
// gone already is no error; one that somebody changed is left and reported with
// ErrConflict, after the others are deleted.
func (s *Store) DeleteIntents(ctx context.Context, cluster string, intents []Intent) error {
	operation := fmt.Sprintf("delete intents of %s/%s", s.name(tableClusters), cluster)
	w := write{pk: escape(cluster)}
	for i := range intents {
		if err := w.add(remove, kindIntent+escape(intents[i].ID), &intents[i]); err != nil {
			return classify(err, operation)
		}
	}
	_, moved, err := s.submitEach(ctx, tableClusters, w.ops)
	if err != nil {
		return classify(err, operation)
	}
	for i := range intents {
		if why := moved[i]; why != nil && why.status != 404 {
			return classify(why, operation+": "+intents[i].ID)
		}
	}
	return nil
}

// AddFacts stores facts that no commit has used yet. A repeat of an ID is taken
// for the same fact and stored once.
func (s *Store) AddFacts(ctx context.Context, cluster string, facts []Fact) error {
	operation := fmt.Sprintf("add facts to %s/%s", s.name(tableClusters), cluster)
	w := write{pk: escape(cluster)}
	seen := make(map[string]bool, len(facts))
	for _, fact := range facts {
		if seen[fact.ID] {
			continue
		}
		seen[fact.ID] = true
		fact.version = version{}
		if err := w.add(upsert, kindFact+escape(fact.ID), &fact); err != nil {
			return classify(err, operation)
		}
	}
	_, _, err := s.submitEach(ctx, tableClusters, w.ops)
	return classify(err, operation)
}
