package ledger

import (
	"context"
	"fmt"
)

// inGroups selects the rows of groups in the table of jobs: '}' follows '|'.
var inGroups = []condition{{rowKey, atLeast, kindGroup}, {rowKey, below, "group}"}}

// Groups gives the groups of waiting jobs of a cluster whose rows show a commit
// of the given revision or a later one, or all of them where it is 0.
func (s *Store) Groups(ctx context.Context, cluster string, since int64) ([]Job, error) {
	where := inGroups
	if since > 0 {
		where = append(where[:len(where):len(where)], condition{"Revision", atLeast, since})
	}
	return all[Job](ctx, s, tableJobs, cluster, where...)
}

// DeleteGroups deletes groups that were loaded or written. One that is gone
// already is no error; one that somebody changed stays, and its ID is among the
// conflicted.
func (s *Store) DeleteGroups(ctx context.Context, cluster string, groups []Job) (conflicted []string, err error) {
	operation := fmt.Sprintf("delete from %s/%s", s.name(tableJobs), cluster)
	var w write
	for i := range groups {
		pk, rk := groups[i].place(cluster)
		w.pk = pk
		if err := w.add(remove, rk, &groups[i]); err != nil {
			return nil, classify(err, operation)
		}
	}
	_, moved, err := s.submitEach(ctx, tableJobs, w.ops)
	for i := range groups {
		if why := moved[i]; why != nil && why.status != 404 {
			conflicted = append(conflicted, groups[i].ID)
		}
	}
	return conflicted, classify(err, operation)
}

// NoteJobs writes what is known of jobs over what is stored of them: a time or
// a text that is not given stays as it is.
func (s *Store) NoteJobs(ctx context.Context, cluster string, jobs []Job) error {
	operation := fmt.Sprintf("write %s/%s", s.name(tableJobs), cluster)
	var w write
	for _, job := range jobs {
		job.version = version{}
		pk, rk := job.place(cluster)
		w.pk = pk
		if err := w.add(upsert, rk, &job); err != nil {
			return classify(err, operation)
		}
	}
	_, _, err := s.submitEach(ctx, tableJobs, w.ops)
	return classify(err, operation)
}
