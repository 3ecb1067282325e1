package ledger

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/fault/credential"
)

// Store is the ledger. It is safe for concurrent use, and several processes may
// use the same tables.
type Store struct {
	tables backend
	prefix string
	now    func() time.Time
}

// table is the name of a table without the store's prefix.
type table string

const (
	tableClusters   table = "clusters"
	tableNodearrays table = "nodearrays"
	tableNodes      table = "nodes"
	tableJobs       table = "jobs"
	tableDecisions  table = "decisions"
	tableCommands   table = "commands"
	tableFailures   table = "failures"
	tablePolicies   table = "policies"
	tableSpend      table = "spend"
)

var everyTable = []table{
	tableClusters, tableNodearrays, tableNodes, tableJobs,
	tableDecisions, tableCommands, tableFailures, tablePolicies, tableSpend,
}

// DefaultPrefix begins the name of every table.
const DefaultPrefix = "burst"

var prefixPattern = regexp.MustCompile(`^[a-z][a-z0-9]{0,40}$`)

func newStore(tables backend, prefix string) (*Store, error) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	if !prefixPattern.MatchString(prefix) {
		return nil, fault.Newf(fault.Invalid,
			"open ledger: the table prefix %q must be a letter and up to 40 letters and digits, all lower case", prefix)
	}
	return &Store{tables: tables, prefix: prefix, now: time.Now}, nil
}

func (s *Store) name(t table) string { return s.prefix + string(t) }

// Tables lists the names of the store's tables.
func (s *Store) Tables() []string {
	names := make([]string, len(everyTable))
	for i, t := range everyTable {
		names[i] = s.name(t)
	}
	return names
}

// CreateTables makes the tables that are missing. It can be repeated. A table
// that vanishes later is made again by the next call that needs it.
func (s *Store) CreateTables(ctx context.Context) error {
	for _, t := range everyTable {
		if err := s.create(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) create(ctx context.Context, t table) error {
	err := s.tables.create(ctx, s.name(t))
	var refused *refusal
	if errors.As(err, &refused) && refused.code == codeTableExists {
		return nil
	}
	return classify(err, "create table "+s.name(t))
}

// write is a set of ops on one partition that happen together.
type write struct {
	pk   string
	ops  []op
	keys map[string]bool
}

// add appends an op with the cells of r. An upsert that may meet a row with
// other contents has to hold everyColumn.
func (w *write) add(v verb, rk string, r row) error {
	held := r.ver().held
	if v == insert {
		held = columnSet{}
	}
	if (v == merge || v == remove) && r.ver().etag == "" {
		return fault.Newf(fault.Bug, "%s row %s/%s: it was never loaded", v, w.pk, rk)
	}
	e := entity{pk: w.pk, rk: rk, etag: r.ver().etag}
	if v == remove {
		return w.append(v, e)
	}
	cells, holds, err := cellsOf(r, held)
	if err != nil {
		return fmt.Errorf("%s row %s/%s: %w", v, w.pk, rk, err)
	}
	e.cells, r.ver().held = cells, holds
	return w.append(v, e)
}

// append checks one row against the service's limits and adds it.
func (w *write) append(v verb, e entity) error {
	what := fmt.Sprintf("row %s/%s", e.pk, e.rk)
	if err := errors.Join(checkKey(what, e.pk), checkKey(what, e.rk)); err != nil {
		return err
	}
	if w.keys[e.rk] {
		return fault.Newf(fault.Bug, "%s %s: it is twice in one write", v, what)
	}
	if w.keys == nil {
		w.keys = map[string]bool{}
	}
	w.keys[e.rk] = true
	body, err := encode(e)
	if err != nil {
		return err
	}
	switch {
	case len(e.cells) > maxColumns:
		return tooLarge("%s %s with %d columns, at most %d fit", v, what, len(e.cells), maxColumns)
	case len(body) > maxRow:
		return tooLarge("%s %s of %d bytes, at most %d fit", v, what, len(body), maxRow)
	}
	w.ops = append(w.ops, op{verb: v, row: e, body: body})
	return nil
}

// size is how long the write will be on the wire, at most.
func size(ops []op) int {
	total := 0
	for _, o := range ops {
		total += len(o.body) + requestOverhead + 2*(len(o.row.pk)+len(o.row.rk)+len(o.row.etag))
	}
	return total
}

// submit carries out a write as one transaction and makes the table if it is
// missing. It returns the new ETags and an error that is not classified yet,
// since the caller knows what a moved row means.
func (s *Store) submit(ctx context.Context, t table, ops []op) ([]string, error) {
	var etags []string
	err := s.heal(ctx, t, func() (err error) {
		etags, err = s.tables.submit(ctx, s.name(t), ops)
		return err
	})
	return etags, err
}

// heal runs call, and once more after making the table if it was missing. So
// tables deleted under a running system come back with the next call.
func (s *Store) heal(ctx context.Context, t table, call func() error) error {
	err := call()
	var refused *refusal
	if !errors.As(err, &refused) || !refused.tableIsMissing() {
		return err
	}
	if err := s.create(ctx, t); err != nil {
		return err
	}
	return call()
}

// rows gives all rows that match, page by page.
func (s *Store) rows(ctx context.Context, t table, q query, each func(entity) error) (pages int, err error) {
	for {
		var got page
		err := s.heal(ctx, t, func() (err error) {
			got, err = s.tables.query(ctx, s.name(t), q)
			return err
		})
		if err != nil {
			return pages, err
		}
		pages++
		for _, e := range got.rows {
			if err := each(e); err != nil {
				return pages, err
			}
		}
		if got.next.isEnd() {
			return pages, nil
		}
		q.from = got.next
	}
}

// classify names the operation and gives the error its kind.
func classify(err error, operation string) error {
	if err == nil {
		return nil
	}
	var (
		refused    *refusal
		classified *fault.Error
	)
	switch {
	case errors.As(err, &refused):
		switch {
		case refused.rowMoved():
			return fault.New(fault.Conflict, operation, fmt.Errorf("%w: %w", ErrConflict, err))
		case refused.status == 413 || refused.code == "EntityTooLarge" || refused.code == "RequestBodyTooLarge":
			return fault.New(fault.Invalid, operation, fmt.Errorf("%w: %w", ErrTooLarge, err))
		}
		return fault.New(refused.kind(), operation, err)
	case errors.As(err, &classified):
		return fmt.Errorf("%s: %w", operation, err)
	}
	if kind, ours := credential.Kind(err); ours {
		return fault.New(kind, operation, err)
	}
	return fault.New(fault.Transient, operation, err)
}

// kind says what the caller should do about a refusal that is not about a row's
// version.
func (r *refusal) kind() fault.Kind {
	switch {
	case r.status == 401 || r.status == 403:
		return fault.Denied
	case r.code == codeTableBeingDeleted:
		return fault.Transient // it takes Azure up to 40 seconds
	case r.status == 409:
		return fault.Conflict
	case r.status == 400:
		return fault.Bug // the input was checked before it was sent
	}
	return fault.Transient
}
