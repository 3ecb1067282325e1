package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// maxPurged is how many rows of one kind one call of Purge deletes, at most.
const maxPurged = 1000

// Purge deletes up to 1,000 rows of each kind that ended before a moment:
// failures, commands that are not open, jobs that neither wait nor run, and
// decisions, by whole days (UTC). It returns how many; call again until it is
// none. Groups, spend and policies stay.
//
// Failures and decisions are found by their keys, so that a call that finds
// nothing reads next to nothing. Commands and jobs have to be searched for: that
// is done only where there are decisions of that time, without which there are
// neither. So the decisions go last, and only when nothing else is left.
func (s *Store) Purge(ctx context.Context, cluster string, before time.Time) (int, error) {
	here := condition{partitionKey, equal, escape(cluster)}
	decisions := []condition{{partitionKey, atLeast, escape(cluster) + "|"}, {partitionKey, below, dayKey(cluster, before)}}
	// A jobs row is kept while the job may still be written about.
	jobs := []condition{here, {"UpdatedAt", below, before}}
	for _, open := range []string{"waiting", "released", "running", "held"} {
		jobs = append(jobs, condition{"State", unequal, open})
	}
	total := 0
	for _, old := range []struct {
		table table
		where []condition
	}{
		{tableFailures, []condition{here, {rowKey, atLeast, newestFirst(before.Add(-time.Microsecond), "")}}},
		{tableCommands, []condition{here, {"State", unequal, string(CommandSent)}, {"SentAt", below, before}}},
		{tableJobs, jobs},
		{tableDecisions, decisions},
	} {
		if old.table == tableCommands {
			if some, err := s.exists(ctx, tableDecisions, decisions); err != nil || !some {
				return total, classify(err, fmt.Sprintf("purge %s/%s", s.name(tableDecisions), cluster))
			}
		}
		removed, all, err := s.purge(ctx, old.table, old.where)
		total += removed
		if err != nil {
			return total, classify(err, fmt.Sprintf("purge %s/%s", s.name(old.table), cluster))
		}
		if !all && old.table != tableFailures {
			return total, nil
		}
	}
	return total, nil
}

// errEnough ends a query whose other rows are not wanted.
var errEnough = errors.New("enough")

// exists reports whether a row meets the conditions.
func (s *Store) exists(ctx context.Context, t table, where []condition) (found bool, err error) {
	_, err = s.rows(ctx, t, query{where: where, columns: []string{"Cluster"}, top: 1}, func(entity) error {
		found = true
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return found, err
}

// purge deletes rows that meet the conditions. all says that these were not
// more than it may.
func (s *Store) purge(ctx context.Context, t table, where []condition) (removed int, all bool, err error) {
	byPartition := map[string][]op{}
	found := 0
	_, err = s.rows(ctx, t, query{where: where, columns: []string{"Cluster"}}, func(e entity) error {
		if found == maxPurged {
			return errEnough
		}
		found++
		byPartition[e.pk] = append(byPartition[e.pk], op{verb: remove, row: entity{pk: e.pk, rk: e.rk, etag: e.etag}})
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return 0, false, err
	}
	all = err == nil
	for _, ops := range byPartition {
		for i := range ops {
			if ops[i].body, err = encode(ops[i].row); err != nil {
				return removed, false, err
			}
		}
		_, moved, err := s.submitEach(ctx, t, ops)
		removed += len(ops) - len(moved)
		if err != nil {
			return removed, false, err
		}
	}
	return removed, all, nil
}
