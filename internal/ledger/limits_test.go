package ledger

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// The limits are promises about the service, which takes less than Azurite: each
// is told here by its number, and met exactly.
func TestARowIsRefusedFromTheFirstColumnByteOrCharacterTooMany(t *testing.T) {
	columns := func(n int) entity {
		cells := map[string]any{}
		for i := range n {
			cells[fmt.Sprintf("C%d", i)] = int64(1)
		}
		return entity{pk: "c1", rk: "r", cells: cells}
	}
	// Base64 makes four characters of three bytes.
	long := func(n int) entity { return entity{pk: "c1", rk: "r", cells: map[string]any{"B": make([]byte, n)}} }
	frame, err := encode(long(0))
	if err != nil {
		t.Fatal(err)
	}
	most := (1_000_000 - len(frame)) / 4 * 3
	for name, tc := range map[string]struct {
		row  entity
		fits bool
	}{
		"252 columns":          {columns(252), true},
		"253 columns":          {columns(253), false},
		"a row of 1 MB":        {long(most), true},
		"a row of 1 MB and 4":  {long(most + 4), false},
		"a key of 512":         {entity{pk: "c1", rk: strings.Repeat("k", 512)}, true},
		"a key of 513":         {entity{pk: "c1", rk: strings.Repeat("k", 513)}, false},
		"a partition key, 512": {entity{pk: strings.Repeat("k", 512), rk: "r"}, true},
		"a partition key, 513": {entity{pk: strings.Repeat("k", 513), rk: "r"}, false},
	} {
		w := write{pk: tc.row.pk}
		if err := w.append(insert, tc.row); tc.fits != (err == nil) || err != nil && fault.Of(err) != fault.Invalid {
			t.Errorf("%s: got %v, want it to fit: %v", name, err, tc.fits)
		}
	}
}

func TestATransactionIsRefusedFromTheFirstRowOrByteTooMany(t *testing.T) {
	row := func(cells ...any) op {
		o := op{row: entity{pk: "c1", rk: "r", cells: map[string]any{}}}
		for i, cell := range cells {
			o.row.cells[fmt.Sprintf("C%d", i)] = cell
		}
		return o
	}
	wire := func(bytes int) op { return op{body: make([]byte, bytes-size([]op{{}}))} }
	for name, tc := range map[string]struct {
		ops  []op
		fits bool
	}{
		"100 rows":                     {make([]op, 100), true},
		"101 rows":                     {make([]op, 101), false},
		"3 MB in one row":              {[]op{row(make([]byte, 3_000_000))}, true},
		"3 MB and a byte":              {[]op{row(make([]byte, 3_000_001))}, false},
		"3 MB of text and bytes":       {[]op{row(make([]byte, 1_500_000)), row(strings.Repeat("x", 1_500_000))}, true},
		"as much and a character":      {[]op{row(make([]byte, 1_500_000)), row(strings.Repeat("x", 1_500_001))}, false},
		"3 MB with a number":           {[]op{row(make([]byte, 2_999_992), int64(1))}, true},
		"3 MB with a time and a byte":  {[]op{row(make([]byte, 2_999_993), time.Time{})}, false},
		"4 MiB less 64 KiB on the way": {[]op{wire(4<<20 - 64<<10)}, true},
		"as much and a byte":           {[]op{wire(4<<20 - 64<<10 + 1)}, false},
	} {
		if err := checkTransaction(tc.ops); tc.fits != (err == nil) || err != nil && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: got %v, want it to fit: %v", name, err, tc.fits)
		}
	}
}

// No column holds more than the service takes of its type, however long the
// value is: it is spread or cut.
func TestNoColumnIsLongerThanTheServiceTakes(t *testing.T) {
	for name, r := range map[string]row{
		"bytes": &Budget{Body: make([]byte, MaxBudget)},
		"text":  &Node{Name: "n", Reason: strings.Repeat("\U0001F642", 100_000)},
		"lists": &Command{ID: "c", Targets: []string{strings.Repeat("t", 20_000), strings.Repeat("u", 20_000)}},
	} {
		cells, _, err := cellsOf(r, everyColumn)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		full := false
		for column, cell := range cells {
			switch v := cell.(type) {
			case []byte:
				if len(v) > 60_000 {
					t.Errorf("%s: %s has %d bytes", name, column, len(v))
				}
				full = full || len(v) == 60_000
			case string:
				units := 0
				for _, c := range v {
					units++
					if c > 0xFFFF {
						units++
					}
				}
				if units > 30_000 {
					t.Errorf("%s: %s has %d UTF-16 units", name, column, units)
				}
				full = full || units > 29_900
			}
		}
		if !full {
			t.Errorf("%s: no column is full, so nothing is proved", name)
		}
	}
}
