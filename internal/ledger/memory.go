package ledger

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
)

// Memory is a ledger in memory. It is the same store on another table service,
// one that keeps to Azure's limits and answers as Azure does; its contents end
// with the process.
type Memory struct {
	*Store
	tables *memoryTables
}

// NewMemory makes an empty ledger in memory.
func NewMemory() *Memory {
	tables := &memoryTables{tables: map[string]map[string]*memoryPartition{}}
	store, err := newStore(tables, DefaultPrefix)
	if err != nil {
		panic(err) // the default prefix is valid
	}
	return &Memory{Store: store, tables: tables}
}

// DropTables deletes every table, as somebody may do under a running system.
func (m *Memory) DropTables() {
	m.tables.mu.Lock()
	defer m.tables.mu.Unlock()
	clear(m.tables.tables)
}

// memoryTables is a table service in memory.
type memoryTables struct {
	mu     sync.Mutex
	tables map[string]map[string]*memoryPartition
	etag   int
}

// memoryPartition keeps the rows of a partition by key and the keys in order.
type memoryPartition struct {
	rows map[string]entity
	keys []string
}

func (m *memoryTables) create(ctx context.Context, table string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.tables[table]; ok {
		return &refusal{status: 409, code: codeTableExists, index: -1}
	}
	m.tables[table] = map[string]*memoryPartition{}
	return nil
}

func (m *memoryTables) submit(ctx context.Context, table string, ops []op) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	partitions, ok := m.tables[table]
	if !ok {
		return nil, &refusal{status: 404, code: codeTableNotFound, index: -1}
	}
	p := partitions[ops[0].row.pk]
	if p == nil {
		p = &memoryPartition{rows: map[string]entity{}}
	}
	if err := admit(p, ops); err != nil {
		return nil, err
	}
	partitions[ops[0].row.pk] = p
	etags := make([]string, len(ops))
	for i, o := range ops {
		if o.verb == remove {
			p.drop(o.row.rk)
			continue
		}
		m.etag++
		etags[i] = fmt.Sprintf(`W/"%d"`, m.etag)
		p.put(o.row, etags[i])
	}
	return etags, nil
}

// put merges a row into the partition. Cells are copied: they belong to the
// caller.
func (p *memoryPartition) put(row entity, etag string) {
	stored, ok := p.rows[row.rk]
	if !ok {
		stored = entity{pk: row.pk, rk: row.rk, cells: map[string]any{}}
		i, _ := slices.BinarySearch(p.keys, row.rk)
		p.keys = slices.Insert(p.keys, i, row.rk)
	}
	cells := maps.Clone(stored.cells) // readers may hold the old ones
	for name, cell := range row.cells {
		if b, ok := cell.([]byte); ok {
			cell = slices.Clone(b)
		}
		cells[name] = cell
	}
	stored.cells, stored.etag = cells, etag
	p.rows[row.rk] = stored
}

func (p *memoryPartition) drop(rk string) {
	delete(p.rows, rk)
	if i, ok := slices.BinarySearch(p.keys, rk); ok {
		p.keys = slices.Delete(p.keys, i, i+1)
	}
}

// admit refuses what Azure refuses, before anything is changed.
func admit(p *memoryPartition, ops []op) error {
	seen := map[string]bool{}
	wire := 0
	for i, o := range ops {
		wire += len(o.body)
		stored, exists := p.rows[o.row.rk]
		bad := func(status int, code string) error { return &refusal{status: status, code: code, index: i} }
		switch {
		case i >= 100:
			return bad(400, "InvalidInput")
		case o.row.pk != ops[0].row.pk:
			return bad(400, "CommandsInBatchActOnDifferentPartitions")
		case seen[o.row.rk]:
			return bad(400, "InvalidDuplicateRow")
		case !isKey(o.row.pk) || !isKey(o.row.rk):
			return bad(400, "OutOfRangeInput")
		case o.verb == insert && exists:
			return bad(409, codeEntityExists)
		case (o.verb == merge || o.verb == remove) && !exists:
			return bad(404, codeResourceNotFound)
		case (o.verb == merge || o.verb == remove) && stored.etag != o.row.etag:
			return bad(412, codeChanged)
		}
		seen[o.row.rk] = true
		merged := maps.Clone(stored.cells)
		if merged == nil {
			merged = map[string]any{}
		}
		maps.Copy(merged, o.row.cells)
		if code := unfitCells(merged); code != "" {
			return bad(400, code)
		}
	}
	if wire > 4<<20 {
		return &refusal{status: 413, code: "RequestBodyTooLarge", index: -1}
	}
	return nil
}

func isKey(key string) bool {
	bad := func(r rune) bool {
		return strings.ContainsRune(`/\#?`, r) || r < 0x20 || r >= 0x7f && r <= 0x9f
	}
	return len(utf16.Encode([]rune(key))) <= 512 && strings.IndexFunc(key, bad) < 0
}

// unfitCells gives the service's code for cells that one row cannot hold.
func unfitCells(cells map[string]any) string {
	total := 0
	for name, cell := range cells {
		total += 8 + 2*len(name)
		switch v := cell.(type) {
		case string:
			units := len(utf16.Encode([]rune(v)))
			if units > 32<<10 {
				return "PropertyValueTooLarge"
			}
			total += 2 * units
		case []byte:
			if len(v) > 64<<10 {
				return "PropertyValueTooLarge"
			}
			total += len(v)
		case time.Time:
			if v.Year() < 1601 {
				return "OutOfRangeInput"
			}
		}
	}
	switch {
	case len(cells) > 252:
		return "TooManyProperties"
	case total > 1<<20:
		return "EntityTooLarge"
	}
	return ""
}

func (m *memoryTables) get(ctx context.Context, table, pk, rk string) (entity, error) {
	if err := ctx.Err(); err != nil {
		return entity{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	partitions, ok := m.tables[table]
	if !ok {
		return entity{}, &refusal{status: 404, code: codeTableNotFound, index: -1}
	}
	if p := partitions[pk]; p != nil {
		if e, ok := p.rows[rk]; ok {
			return e, nil
		}
	}
	return entity{}, &refusal{status: 404, code: codeResourceNotFound, index: -1}
}

func (m *memoryTables) query(ctx context.Context, table string, q query) (page, error) {
	if err := ctx.Err(); err != nil {
		return page{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	partitions, ok := m.tables[table]
	if !ok {
		return page{}, &refusal{status: 404, code: codeTableNotFound, index: -1}
	}
	top := 1000
	if q.top > 0 {
		top = min(top, q.top)
	}
	var answer page
	for _, pk := range partitionsFor(partitions, q) {
		p := partitions[pk]
		first := 0
		if pk == q.from.PK {
			first, _ = slices.BinarySearch(p.keys, q.from.RK)
		}
		for _, rk := range p.keys[first:] {
			e := p.rows[rk]
			if !matches(e, q.where) {
				continue
			}
			if len(answer.rows) == top {
				answer.next = cursor{PK: pk, RK: rk}
				return answer, nil
			}
			answer.rows = append(answer.rows, choose(e, q.columns))
		}
	}
	return answer, nil
}

// partitionsFor lists, in order, the partitions that a query may have to read.
func partitionsFor(partitions map[string]*memoryPartition, q query) []string {
	for _, c := range q.where {
		if pk, ok := c.value.(string); ok && c.column == partitionKey && c.is == equal {
			if partitions[pk] == nil || pk < q.from.PK {
				return nil
			}
			return []string{pk}
		}
	}
	keys := slices.Sorted(maps.Keys(partitions))
	first, _ := slices.BinarySearch(keys, q.from.PK)
	return keys[first:]
}

// choose gives the wanted columns of a row.
func choose(e entity, columns []string) entity {
	if len(columns) == 0 {
		return e
	}
	chosen := map[string]any{}
	for _, name := range columns {
		if cell, ok := e.cells[name]; ok {
			chosen[name] = cell
		}
	}
	e.cells = chosen
	return e
}

// matches holds if a row meets all conditions. A column that it lacks meets
// none.
func matches(e entity, where []condition) bool {
	for _, c := range where {
		var order int
		switch want := c.value.(type) {
		case string:
			got, ok := e.cells[c.column].(string)
			switch c.column {
			case partitionKey:
				got, ok = e.pk, true
			case rowKey:
				got, ok = e.rk, true
			}
			if !ok {
				return false
			}
			order = strings.Compare(got, want)
		case bool:
			got, ok := e.cells[c.column].(bool)
			if !ok {
				return false
			}
			if got != want {
				order = 1
			}
		case int64:
			got, ok := e.cells[c.column].(int64)
			if !ok {
				return false
			}
			order = cmp.Compare(got, want)
		case time.Time:
			got, ok := e.cells[c.column].(time.Time)
			if !ok {
				return false
			}
			order = got.Compare(want)
		default:
			return false
		}
		if !c.is.holds(order) {
			return false
		}
	}
	return true
}

// holds says whether a comparison holds for the order of two values.
func (is comparison) holds(order int) bool {
	switch is {
	case equal:
		return order == 0
	case unequal:
		return order != 0
	case atLeast:
		return order >= 0
	case below:
		return order < 0
	case atMost:
		return order <= 0
	}
	return false
}
