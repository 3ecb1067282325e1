package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// item is a pointer to a row of a public table.
type item[T any] interface {
	*T
	row
	// place gives the row's keys and notes the cluster it belongs to.
	place(cluster string) (pk, rk string)
	// title is what a person calls the row.
	title() string
}

func (n *Node) place(cluster string) (pk, rk string) {
	n.Cluster = cluster
	return escape(cluster), escape(n.Name)
}
func (n *Node) title() string { return n.Name }

func (a *Nodearray) place(cluster string) (pk, rk string) {
	a.Cluster = cluster
	return escape(cluster), escape(a.Name)
}
func (a *Nodearray) title() string { return a.Name }

func (c *Command) place(cluster string) (pk, rk string) {
	c.Cluster = cluster
	return escape(cluster), escape(c.ID)
}
func (c *Command) title() string { return c.ID }

func (j *Job) place(cluster string) (pk, rk string) {
	j.Cluster = cluster
	if j.Group {
		return escape(cluster), kindGroup + escape(j.ID)
	}
	return escape(cluster), escape(j.ID)
}
func (j *Job) title() string { return j.ID }

// Nodes gives all nodes of a cluster, ordered by their escaped names.
func (s *Store) Nodes(ctx context.Context, cluster string) ([]Node, error) {
	return all[Node](ctx, s, tableNodes, cluster)
}

// NodesSince gives the nodes of a cluster whose rows show a commit of the given
// revision or a later one, ordered as Nodes orders them.
func (s *Store) NodesSince(ctx context.Context, cluster string, revision int64) ([]Node, error) {
	return all[Node](ctx, s, tableNodes, cluster, condition{"Revision", atLeast, revision})
}

// PutNodes writes nodes, each on the condition that nobody else did since it
// was loaded; one that was never loaded must not exist yet. A row in the way of
// that does not keep the others from being written. It returns the rows written,
// with their new versions, and the names of those in conflict: load them again.
func (s *Store) PutNodes(ctx context.Context, cluster string, nodes []Node) (written []Node, conflicted []string, err error) {
	return put(ctx, s, tableNodes, cluster, nodes)
}

// Nodearrays gives all nodearrays of a cluster, ordered by their escaped names.
func (s *Store) Nodearrays(ctx context.Context, cluster string) ([]Nodearray, error) {
	return all[Nodearray](ctx, s, tableNodearrays, cluster)
}

// PutNodearrays writes nodearrays as PutNodes writes nodes.
func (s *Store) PutNodearrays(ctx context.Context, cluster string, arrays []Nodearray) (written []Nodearray, conflicted []string, err error) {
	return put(ctx, s, tableNodearrays, cluster, arrays)
}

// Commands gives the commands of a cluster that are in the given state, or all
// of them where it is empty, ordered by their escaped IDs. CommandSent means
// those still open.
func (s *Store) Commands(ctx context.Context, cluster string, state CommandState) ([]Command, error) {
	var where []condition
	if state != "" {
		where = append(where, condition{"State", equal, string(state)})
	}
	return all[Command](ctx, s, tableCommands, cluster, where...)
}

// CommandsInForce gives the commands of a cluster that have not expired at the
// given moment, whatever became of them, ordered by their escaped IDs. Where
// from is not empty, those whose escaped IDs sort before it are left out, and
// the service does not even look at them: the moment alone has it search all
// commands that the table keeps.
func (s *Store) CommandsInForce(ctx context.Context, cluster string, now time.Time, from string) ([]Command, error) {
	var where []condition
	if from != "" {
		where = append(where, condition{rowKey, atLeast, escape(from)})
	}
	return all[Command](ctx, s, tableCommands, cluster, append(where, condition{"ExpiresAt", atLeast, now.UTC()})...)
}

// PutCommands writes commands as PutNodes writes nodes.
func (s *Store) PutCommands(ctx context.Context, cluster string, commands []Command) (written []Command, conflicted []string, err error) {
	return put(ctx, s, tableCommands, cluster, commands)
}

// Jobs gives all jobs and groups of a cluster.
func (s *Store) Jobs(ctx context.Context, cluster string) ([]Job, error) {
	return all[Job](ctx, s, tableJobs, cluster)
}

// PutJobs writes jobs as PutNodes writes nodes. It names a conflict by ID.
func (s *Store) PutJobs(ctx context.Context, cluster string, jobs []Job) (written []Job, conflicted []string, err error) {
	return put(ctx, s, tableJobs, cluster, jobs)
}

// all reads the rows of one cluster that meet the conditions.
func all[T any, R item[T]](ctx context.Context, s *Store, t table, cluster string, where ...condition) ([]T, error) {
	where = append([]condition{{partitionKey, equal, escape(cluster)}}, where...)
	var rows []T
	_, err := s.rows(ctx, t, query{where: where}, func(e entity) error {
		var value T
		if err := fill(R(&value), e); err != nil {
			return err
		}
		rows = append(rows, value)
		return nil
	})
	if err != nil {
		return nil, classify(err, fmt.Sprintf("read %s/%s", s.name(t), cluster))
	}
	return rows, nil
}

// put writes rows of one cluster, each under its own condition.
func put[T any, R item[T]](ctx context.Context, s *Store, t table, cluster string, rows []T) (written []T, conflicted []string, err error) {
	operation := fmt.Sprintf("write %s/%s", s.name(t), cluster)
	w := write{pk: escape(cluster)}
	copies := make([]T, len(rows))
	copy(copies, rows)
	for i := range copies {
		r := R(&copies[i])
		how := merge
		if r.ver().etag == "" {
			how = insert
		}
		_, rk := r.place(cluster)
		if err := w.add(how, rk, r); err != nil {
			return nil, nil, classify(err, operation)
		}
	}
	etags, moved, err := s.submitEach(ctx, t, w.ops)
	for i := range copies {
		switch {
		case moved[i] != nil:
			conflicted = append(conflicted, R(&copies[i]).title())
		case etags[i] != "":
			R(&copies[i]).ver().etag = etags[i]
			written = append(written, copies[i])
		}
	}
	return written, conflicted, classify(err, operation)
}

// submitEach carries out ops of which each stands alone. It sends them in as
// few transactions as the limits allow; where one row is in the way, the others
// of its transaction are sent again without it. It returns the new ETags, and
// for each op that was refused because its row moved, why.
func (s *Store) submitEach(ctx context.Context, t table, ops []op) (etags []string, moved map[int]*refusal, err error) {
	etags = make([]string, len(ops))
	moved = map[int]*refusal{}
	for start := 0; start < len(ops); {
		end, wire := start, 0
		for end < len(ops) && end-start < MaxRows {
			more := size(ops[end : end+1])
			if end > start && wire+more > maxRequest {
				break
			}
			wire += more
			end++
		}
		batch := make([]int, end-start)
		for i := range batch {
			batch[i] = start + i
		}
		if err := s.submitAround(ctx, t, ops, batch, etags, moved); err != nil {
			return etags, moved, err
		}
		start = end
	}
	return etags, moved, nil
}

// manyConflicts is how many rows of one transaction may be refused one by one
// before it is cheaper to read which versions are stored.
const manyConflicts = 3

// submitAround sends the ops that batch lists, around those that are refused.
func (s *Store) submitAround(ctx context.Context, t table, ops []op, batch []int, etags []string, moved map[int]*refusal) error {
	silent, read := false, false
	for refusals := 0; len(batch) > 0; refusals++ {
		if !read && (silent || refusals == manyConflicts) {
			var err error
			if batch, err = s.dropMoved(ctx, t, ops, batch, moved); err != nil || len(batch) == 0 {
				return err
			}
			read = true
		}
		group := make([]op, len(batch))
		for i, n := range batch {
			group[i] = ops[n]
		}
		got, err := s.submit(ctx, t, group)
		var refused *refusal
		switch {
		case err == nil:
			for i, n := range batch {
				etags[n] = got[i]
			}
			return nil
		case !errors.As(err, &refused) || !refused.rowMoved():
			return err
		case len(batch) == 1:
			moved[batch[0]] = refused
			return nil
		case refused.index >= 0 && refused.index < len(batch):
			moved[batch[refused.index]] = refused
			batch = slices.Delete(batch, refused.index, refused.index+1)
		case !read:
			silent = true // the service did not say which
		default:
			// Nor do the versions: halve until it is alone.
			half := len(batch) / 2
			if err := s.submitAround(ctx, t, ops, batch[:half], etags, moved); err != nil {
				return err
			}
			batch = batch[half:]
		}
	}
	return nil
}

// dropMoved reads the versions of the rows that batch is about and gives what
// is left of it without those whose condition cannot hold.
func (s *Store) dropMoved(ctx context.Context, t table, ops []op, batch []int, moved map[int]*refusal) ([]int, error) {
	first, last := ops[batch[0]].row.rk, ops[batch[0]].row.rk
	for _, n := range batch {
		first, last = min(first, ops[n].row.rk), max(last, ops[n].row.rk)
	}
	where := []condition{
		{partitionKey, equal, ops[batch[0]].row.pk},
		{rowKey, atLeast, first},
		{rowKey, atMost, last},
	}
	stored := map[string]string{}
	q := query{where: where, columns: []string{"Cluster"}}
	if _, err := s.rows(ctx, t, q, func(e entity) error { stored[e.rk] = e.etag; return nil }); err != nil {
		return nil, err
	}
	left := batch[:0]
	for _, n := range batch {
		etag, exists := stored[ops[n].row.rk]
		switch v := ops[n].verb; {
		case v == insert && exists:
			moved[n] = &refusal{status: 409, code: codeEntityExists, index: -1}
		case (v == merge || v == remove) && !exists:
			moved[n] = &refusal{status: 404, code: codeResourceNotFound, index: -1}
		case (v == merge || v == remove) && etag != ops[n].row.etag:
			moved[n] = &refusal{status: 412, code: codeChanged, index: -1}
		default:
			left = append(left, n)
		}
	}
	return left, nil
}
