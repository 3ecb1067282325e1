package ledger

import (
	"context"
	"fmt"
)

// backend is a table service: Azure's, or the one in memory. It does what it is
// told and reports refusals as *refusal; everything else is the store's.
type backend interface {
	// submit carries out ops on one partition of a table, all or none. It
	// returns the new ETag of each row, in order; that of a removed one is
	// empty. One op needs no transaction.
	submit(ctx context.Context, table string, ops []op) ([]string, error)
	// query gives one page of rows in the order of their keys. A page may be
	// short, or empty, and still not be the last.
	query(ctx context.Context, table string, q query) (page, error)
	// get gives one row. It is a refusal if there is none.
	get(ctx context.Context, table, pk, rk string) (entity, error)
	// create makes a table. It is a refusal if the table exists.
	create(ctx context.Context, table string) error
}

// verb is what to do with a row.
type verb int

const (
	// insert refuses a row that exists.
	insert verb = iota
	// merge changes the columns given, if the row's ETag is the one given.
	merge
	// upsert inserts or merges, whatever is there.
	upsert
	// remove deletes the row if its ETag is the one given.
	remove
)

func (v verb) String() string {
	switch v {
	case insert:
		return "insert"
	case merge:
		return "merge"
	case upsert:
		return "upsert"
	case remove:
		return "remove"
	}
	return fmt.Sprintf("verb(%d)", int(v))
}

// op is one row's part in a write. body is the row as the service's JSON.
type op struct {
	verb verb
	row  entity
	body []byte
}

// entity is a stored row: its keys, its version and its cells, each of which
// is a string, int32, int64, bool, time.Time or []byte.
type entity struct {
	pk, rk string
	etag   string
	cells  map[string]any
}

// query selects rows.
type query struct {
	where []condition
	// columns are those wanted besides the keys; all where empty.
	columns []string
	// top is how many rows to return at most; the service's 1,000 if zero.
	top  int
	from cursor
}

// condition compares a column (or a key) with a value. Conditions are joined
// by "and".
type condition struct {
	column string
	is     comparison
	value  any // string, bool, int32, int64 or time.Time
}

type comparison string

const (
	equal   comparison = "eq"
	unequal comparison = "ne"
	atLeast comparison = "ge"
	below   comparison = "lt"
	atMost  comparison = "le"
)

// The columns that hold the keys.
const (
	partitionKey = "PartitionKey"
	rowKey       = "RowKey"
)

// cursor is where a query goes on. Both parts are the service's words.
type cursor struct {
	PK string `json:"p,omitempty"`
	RK string `json:"r,omitempty"`
}

func (c cursor) isEnd() bool { return c == cursor{} }

// page is one answer to a query; next is empty at the end.
type page struct {
	rows []entity
	next cursor
}

// refusal is an answer of the service that is not a success.
type refusal struct {
	status int
	code   string
	// index is the operation of the transaction that was refused, or -1.
	index   int
	message string
}

// Codes of the service that we tell apart. See
// https://learn.microsoft.com/rest/api/storageservices/table-service-error-codes
const (
	codeTableNotFound     = "TableNotFound"
	codeTableExists       = "TableAlreadyExists"
	codeTableBeingDeleted = "TableBeingDeleted"
	codeEntityExists      = "EntityAlreadyExists"
	codeResourceNotFound  = "ResourceNotFound"
	codeChanged           = "UpdateConditionNotSatisfied"
)

func (r *refusal) Error() string {
	if r.message == "" {
		return fmt.Sprintf("%d %s", r.status, r.code)
	}
	return fmt.Sprintf("%d %s: %s", r.status, r.code, r.message)
}

// tableIsMissing holds for the one refusal that creating the table cures.
func (r *refusal) tableIsMissing() bool { return r.status == 404 && r.code == codeTableNotFound }

// rowMoved holds where a row is not as the writer believed: changed, gone or
// already there.
func (r *refusal) rowMoved() bool {
	switch r.status {
	case 412:
		return true
	case 404:
		return !r.tableIsMissing()
	case 409:
		return r.code == codeEntityExists
	}
	return false
}
