package ledger

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// version is what a row carries from its reading to its next writing: the
// service's ETag, empty for a row that is not stored yet, and which columns
// hold something. Merge cannot remove a column, so one that became empty has to
// be overwritten; one that never held anything stays absent.
type version struct {
	etag string
	held columnSet
}

func (v *version) ver() *version { return v }

// columnSet holds one bit for each column of a row type, in the order in which
// the type lists its columns.
type columnSet [4]uint64

func (s *columnSet) add(i int)     { s[i/64] |= 1 << (i % 64) }
func (s columnSet) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

var everyColumn = columnSet{math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64}

// never stands in a time column that became empty: the earliest moment that the
// service can hold.
var never = time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC)

// row is implemented by a pointer to each type of row.
type row interface {
	// columns walks over the row's columns, always the same ones in the same
	// order.
	columns(*fields)
	ver() *version
}

// fields carries a row's columns between the row and its cells. One walk serves
// for writing and for reading, so that the two cannot disagree.
//
// Numbers and flags are always written. Text, times and bytes are written when
// they hold something, and once more, empty, when they no longer do. Writing
// sets the row to what reading will give: text that was cut, times in UTC.
type fields struct {
	reading bool
	cells   map[string]any // string, int32, int64, bool, time.Time or []byte
	next    int
	held    columnSet // what the stored row holds
	holds   columnSet // what the row will hold
	err     error
}

// cellsOf gives the cells to write for r over a stored row that holds held.
func cellsOf(r row, held columnSet) (map[string]any, columnSet, error) {
	f := fields{cells: map[string]any{}, held: held}
	r.columns(&f)
	return f.cells, f.holds, f.err
}

// fill sets r from a stored row.
func fill(r row, e entity) error {
	f := fields{reading: true, cells: e.cells}
	r.columns(&f)
	if f.err != nil {
		return fmt.Errorf("read row %s/%s: %w", e.pk, e.rk, f.err)
	}
	*r.ver() = version{etag: e.etag, held: f.holds}
	if k, ok := r.(keyed); ok {
		return k.identify(e.pk, e.rk)
	}
	return nil
}

// step begins the next column and gives its number.
func (f *fields) step() int {
	f.next++
	return f.next - 1
}

func (f *fields) fail(name string, err error) {
	if f.err == nil {
		f.err = fmt.Errorf("column %s: %w", name, err)
	}
}

func (f *fields) strange(name string, cell any) {
	f.fail(name, fault.Newf(fault.Invalid, "it holds a %T", cell))
}

// text is a column for people or for filters: too long a value is cut.
func (f *fields) text(name string, v *string) {
	if !f.reading {
		value := clean(*v)
		if head, tail := cut(value, maxText-1); tail != "" {
			value = head + "…"
		}
		*v = value
		f.putText(name, value)
		return
	}
	*v = f.takeText(name)
}

func (f *fields) putText(name, value string) {
	i := f.step()
	if value != "" {
		f.holds.add(i)
	}
	if value != "" || f.held.has(i) {
		f.cells[name] = value
	}
}

func (f *fields) takeText(name string) string {
	i := f.step()
	switch cell := f.cells[name].(type) {
	case nil:
	case string:
		if cell != "" {
			f.holds.add(i)
		}
		return cell
	default:
		f.strange(name, cell)
	}
	return ""
}

// data is text that must not be cut: it is spread over up to chunks columns
// Name, Name02, Name03…, and refused where they do not suffice.
func (f *fields) data(name string, v *string, chunks int) {
	if f.reading {
		*v = ""
		for n := range chunks {
			*v += f.takeText(chunkName(name, n))
		}
		return
	}
	rest := *v
	if clean(rest) != rest {
		f.fail(name, fault.Newf(fault.Invalid, "it holds control characters or broken UTF-8"))
	}
	for n := range chunks {
		var head string
		head, rest = cut(rest, maxText)
		f.putText(chunkName(name, n), head)
	}
	if rest != "" {
		f.fail(name, tooLarge("%d bytes, of which %d columns hold all but %d", len(*v), chunks, len(rest)))
	}
}

// list is a value kept as JSON text, spread like data. v points to a slice. The
// JSON is ASCII: Azurite 3.37.0 decodes a request piece by piece and breaks
// longer characters at the seams.
func (f *fields) list(name string, v any, length, chunks int) {
	var encoded string
	if !f.reading && length > 0 {
		b, err := json.Marshal(v)
		if err != nil {
			f.fail(name, fault.New(fault.Bug, "encode", err))
		}
		encoded = ascii(b)
	}
	f.data(name, &encoded, chunks)
	if f.reading && encoded != "" {
		if err := json.Unmarshal([]byte(encoded), v); err != nil {
			f.fail(name, fault.New(fault.Invalid, "decode", err))
		}
	}
}

// ascii rewrites JSON so that it has no character beyond ASCII, which JSON
// allows within strings and has nowhere else.
func ascii(encoded []byte) string {
	if !slices.ContainsFunc(encoded, func(c byte) bool { return c >= utf8.RuneSelf }) {
		return string(encoded)
	}
	var b strings.Builder
	for _, r := range string(encoded) {
		if r < utf8.RuneSelf {
			b.WriteByte(byte(r))
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// bytes is a binary value spread over up to chunks columns.
func (f *fields) bytes(name string, v *[]byte, chunks int) {
	rest := *v
	if f.reading {
		*v = nil
	}
	for n := range chunks {
		column := chunkName(name, n)
		i := f.step()
		if f.reading {
			switch cell := f.cells[column].(type) {
			case nil:
			case []byte:
				if len(cell) > 0 {
					f.holds.add(i)
				}
				*v = append(*v, cell...)
			default:
				f.strange(column, cell)
			}
			continue
		}
		head := rest[:min(len(rest), maxBinary)]
		rest = rest[len(head):]
		if len(head) > 0 {
			f.holds.add(i)
		}
		if len(head) > 0 || f.held.has(i) {
			f.cells[column] = head
		}
	}
	if !f.reading && len(rest) > 0 {
		f.fail(name, tooLarge("%d bytes, of which %d columns hold all but %d", len(*v), chunks, len(rest)))
	}
}

func chunkName(name string, n int) string {
	if n == 0 {
		return name
	}
	if n < 9 {
		return name + "0" + strconv.Itoa(n+1)
	}
	return name + strconv.Itoa(n+1)
}

// whole is a 64-bit number.
func (f *fields) whole(name string, v *int64) {
	f.step()
	if !f.reading {
		f.cells[name] = *v
		return
	}
	*v = f.number(name)
}

// count is a number that fits 32 bits: the service's filters take such a column
// without the suffix L.
func (f *fields) count(name string, v *int) {
	f.step()
	if !f.reading {
		if *v < math.MinInt32 || *v > math.MaxInt32 {
			f.fail(name, fault.Newf(fault.Invalid, "%d does not fit 32 bits", *v))
			return
		}
		f.cells[name] = int32(*v)
		return
	}
	*v = int(f.number(name))
}

func (f *fields) number(name string) int64 {
	switch cell := f.cells[name].(type) {
	case nil:
		return 0
	case int64:
		return cell
	case int32:
		return int64(cell)
	default:
		f.strange(name, cell)
		return 0
	}
}

// flag is a yes or no.
func (f *fields) flag(name string, v *bool) {
	f.step()
	if !f.reading {
		f.cells[name] = *v
		return
	}
	switch cell := f.cells[name].(type) {
	case nil:
		*v = false
	case bool:
		*v = cell
	default:
		f.strange(name, cell)
	}
}

// moment is a time, kept in UTC to the microsecond. No time is an absent
// column, or the year 1601 where one was stored before.
func (f *fields) moment(name string, v *time.Time) {
	i := f.step()
	if !f.reading {
		switch {
		case v.IsZero():
			if f.held.has(i) {
				f.cells[name] = never
			}
		case v.Year() <= never.Year() || v.Year() > 9999:
			f.fail(name, fault.Newf(fault.Invalid, "the year %d cannot be stored", v.Year()))
		default:
			f.holds.add(i)
			*v = v.UTC().Truncate(time.Microsecond)
			f.cells[name] = *v
		}
		return
	}
	switch cell := f.cells[name].(type) {
	case nil:
		*v = time.Time{}
	case time.Time:
		*v = time.Time{}
		if !cell.Equal(never) {
			f.holds.add(i)
			*v = cell.UTC()
		}
	default:
		f.strange(name, cell)
	}
}

func tooLarge(format string, args ...any) error {
	return fault.New(fault.Invalid, fmt.Sprintf(format, args...), ErrTooLarge)
}
