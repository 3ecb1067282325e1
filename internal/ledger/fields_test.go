package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// everyRow is one value of each type of row, by the title that docs/tables.md
// gives it.
func everyRow() map[string]row {
	return map[string]row{
		"burstclusters: row `cluster`":   &Cluster{},
		"burstclusters: row `heartbeat`": &Heartbeat{},
		"burstclusters: rows `snapshot`": &snapshotHead{},
		"burstclusters: row `budget`":    &Budget{},
		"burstclusters: row `changes`":   &Changes{},
		"burstclusters: rows `intent|…`": &Intent{},
		"burstclusters: rows `fact|…`":   &Fact{},
		"burstnodearrays":                &Nodearray{},
		"burstnodes":                     &Node{},
		"burstjobs":                      &Job{},
		"burstdecisions":                 &Decision{},
		"burstdecisions: rows `facts|…`": &part{},
		"burstcommands":                  &Command{},
		"burstfailures":                  &Failure{},
		"burstpolicies":                  &Policy{},
		"burstspend":                     &Spend{},
	}
}

var chunkSuffix = regexp.MustCompile(`\d\d$`)

func TestEveryColumnIsDocumented(t *testing.T) {
	raw, err := os.ReadFile("../../docs/tables.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, section := range strings.Split(string(raw), "\n## ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		sections[title] = body
	}
	for title, r := range everyRow() {
		body, ok := sections[title]
		if !ok {
			t.Errorf("docs/tables.md has no section %q", title)
			continue
		}
		cells, _, err := cellsOf(r, everyColumn)
		if err != nil {
			t.Fatal(err)
		}
		documented := map[string]bool{}
		for _, line := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(body, -1) {
			documented[line[1]] = true
		}
		written := map[string]bool{}
		for name := range cells {
			written[chunkSuffix.ReplaceAllString(name, "")] = true
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(written)), slices.Sorted(maps.Keys(documented))); diff != "" {
			t.Errorf("%s: columns written (-) and documented (+):\n%s", title, diff)
		}
		delete(sections, title)
	}
	for title := range sections {
		if strings.HasPrefix(title, DefaultPrefix) {
			t.Errorf("docs/tables.md has a section %q that no row answers to", title)
		}
	}
}

func TestEveryTypeOfRowFitsTheServicesColumns(t *testing.T) {
	for title, r := range everyRow() {
		cells, _, err := cellsOf(r, everyColumn)
		if err != nil {
			t.Fatal(err)
		}
		if len(cells) > maxColumns {
			t.Errorf("%s has %d columns", title, len(cells))
		}
		f := fields{cells: map[string]any{}}
		r.columns(&f)
		if f.next > len(everyColumn)*64 {
			t.Errorf("%s has %d columns, a columnSet holds %d", title, f.next, len(everyColumn)*64)
		}
		if f.next != len(cells) {
			t.Errorf("%s walks over %d columns and writes %d: a name is used twice", title, f.next, len(cells))
		}
	}
}

// TestRowsComeBackFromTheWire fills every exported field of every type of row
// with what rapid draws, and takes it to the service's JSON and back.
func TestRowsComeBackFromTheWire(t *testing.T) {
	t.Parallel()
	for title, sample := range everyRow() {
		t.Run(title, func(t *testing.T) {
			kind := reflect.TypeOf(sample).Elem()
			rapid.Check(t, func(t *rapid.T) {
				want, got := reflect.New(kind), reflect.New(kind)
				draw(t, want.Elem())
				r := want.Interface().(row)
				switch r := r.(type) { // what has rows of its own
				case *Decision:
					r.Facts = nil
				case *snapshotHead:
					r.Body = nil
				}
				cells, _, err := cellsOf(r, columnSet{})
				if err != nil {
					t.Fatal(err)
				}
				body, err := encode(entity{pk: "c", rk: "r", cells: cells})
				if err != nil {
					t.Fatal(err)
				}
				var answer map[string]any
				if err := json.Unmarshal(body, &answer); err != nil {
					t.Fatal(err)
				}
				answer["odata.etag"] = `W/"1"`
				if body, err = json.Marshal(answer); err != nil {
					t.Fatal(err)
				}
				e, err := decode(body, "")
				if err != nil {
					t.Fatal(err)
				}
				// The identity comes from the keys, which this test is not about.
				f := fields{reading: true, cells: e.cells}
				got.Interface().(row).columns(&f)
				if f.err != nil {
					t.Fatal(f.err)
				}
				everything := cmp.Exporter(func(reflect.Type) bool { return true })
				isBytes := func(p cmp.Path) bool { return p.Last().Type() == reflect.TypeFor[[]byte]() }
				noBytes := func(p cmp.Path) bool { return !isBytes(p) }
				empty := cmp.Options{cmp.FilterPath(noBytes, cmpopts.EquateEmpty()), cmp.FilterPath(isBytes, cmp.Comparer(bytes.Equal))}
				if diff := cmp.Diff(want.Interface(), got.Interface(), everything, empty); diff != "" {
					t.Fatal(diff)
				}
			})
		})
	}
}

// draw sets the exported fields of v.
func draw(t *rapid.T, v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		if rapid.Bool().Draw(t, "set") {
			micros := rapid.Int64Range(-11_000_000_000_000_000, 200_000_000_000_000_000).Draw(t, "time")
			v.Set(reflect.ValueOf(time.UnixMicro(micros).UTC()))
		}
		return
	case []byte:
		v.SetBytes(drawBytes(t))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				draw(t, v.Field(i))
			}
		}
	case reflect.Slice:
		n := rapid.IntRange(0, 4).Draw(t, "length")
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			draw(t, v.Index(i))
		}
	case reflect.String:
		v.SetString(clean(rapid.String().Draw(t, "text")))
	case reflect.Int:
		v.SetInt(int64(rapid.Int32().Draw(t, "count")))
	case reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "number"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "flag"))
	default:
		t.Fatalf("no values are drawn for %v", v.Type())
	}
}

// drawBytes draws a body around the lengths where it needs another column.
func drawBytes(t *rapid.T) []byte {
	length := rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5, 6, 60_000, 60_001, 120_001}).Draw(t, "bytes")
	body := make([]byte, length)
	seed := rapid.Byte().Draw(t, "seed")
	for i := range body {
		body[i] = seed + byte(i/251) + byte(i)
	}
	return body
}

func TestCutKeepsCharactersWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		limit := rapid.IntRange(1, 20).Draw(t, "limit")
		head, tail := cut(text, limit)
		units := len(utf16.Encode([]rune(head)))
		switch {
		case head+tail != text:
			t.Fatalf("%q was cut into %q and %q", text, head, tail)
		case units > limit || !utf8.ValidString(head) || !utf8.ValidString(tail):
			t.Fatalf("%q has %d units of %d, or is broken", head, units, limit)
		case tail != "" && units < limit-1:
			t.Fatalf("%q has only %d units of %d", head, units, limit)
		}
	})
}

func TestListsAreASCII(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.String()).Draw(t, "list")
		raw, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		text := ascii(raw)
		if strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
			t.Fatalf("%q is not ASCII", text)
		}
		var got []string
		if err := json.Unmarshal([]byte(text), &got); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q came back as %q, %v", want, got, err)
		}
	})
}

func TestCellsOfAnotherTypeAreRefusedAndNamed(t *testing.T) {
	for name, cell := range map[string]any{"Reason": int32(1), "Revision": "1", "CreatedAt": "yesterday"} {
		err := fill(&Node{}, entity{pk: "c", rk: "r", cells: map[string]any{name: cell}})
		if fault.Of(err) != fault.Invalid || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "c/r") {
			t.Errorf("%s = %T: got %v", name, cell, err)
		}
	}
	for name, cell := range map[string]any{"Body": "text", "Targets": []byte{1}, "Attempt": 1.5} {
		if err := fill(&Intent{}, entity{pk: "c", rk: "intent|r", cells: map[string]any{name: cell}}); fault.Of(err) != fault.Invalid {
			t.Errorf("%s = %T: got %v", name, cell, err)
		}
	}
	if err := fill(&Intent{}, entity{cells: map[string]any{"Targets": "[{"}}); fault.Of(err) != fault.Invalid {
		t.Errorf("broken JSON: got %v", err)
	}
	if err := fill(&Cluster{}, entity{cells: map[string]any{"Paused": "yes"}}); fault.Of(err) != fault.Invalid {
		t.Errorf("a flag that is text: got %v", err)
	}
}

func TestTimesThatCannotBeStoredAreRefused(t *testing.T) {
	for _, at := range []time.Time{
		time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if _, _, err := cellsOf(&Node{CreatedAt: at}, columnSet{}); fault.Of(err) != fault.Invalid {
			t.Errorf("%v: got %v", at, err)
		}
	}
}

func TestLimitsAreThoseOfOneTransaction(t *testing.T) {
	store := NewMemory()
	intents := func(n, body int) []Intent {
		made := make([]Intent, n)
		for i := range made {
			made[i] = Intent{ID: "1/" + strings.Repeat("0", i+1), Body: make([]byte, body)}
		}
		return made
	}
	loaded := func(n int) []Fact {
		facts := make([]Fact, n)
		for i := range facts {
			facts[i] = Fact{ID: strings.Repeat("f", i+1), version: version{etag: "x"}}
		}
		return facts
	}
	for name, tc := range map[string]struct {
		commit Commit
		fits   bool
	}{
		"100 rows":                         {Commit{DropFacts: loaded(99)}, true},
		"101 rows":                         {Commit{DropFacts: loaded(100)}, false},
		"90 intents":                       {Commit{NewIntents: intents(90, 0)}, true},
		"91 intents":                       {Commit{NewIntents: intents(91, 0)}, false},
		"90 intents beside all other rows": {Commit{NewIntents: intents(90, 100), Snapshot: &Snapshot{Body: make([]byte, 2_900_000)}, Heartbeat: &Heartbeat{}, Budget: &Budget{}}, true},
		"the longest snapshot":             {Commit{Snapshot: &Snapshot{Body: make([]byte, MaxSnapshot)}}, true},
		"a longer snapshot":                {Commit{Snapshot: &Snapshot{Body: make([]byte, MaxSnapshot+1)}}, false},
		"a snapshot and intents of 3.1 MB": {Commit{Snapshot: &Snapshot{Body: make([]byte, 2_000_000)}, NewIntents: intents(20, 55_000)}, false},
		"an intent of 720 KB":              {Commit{NewIntents: intents(1, 720_000)}, true},
		"an intent of 721 KB":              {Commit{NewIntents: intents(1, 720_001)}, false},
		"a budget of 720 KB":               {Commit{Budget: &Budget{Body: make([]byte, 720_000)}}, true},
		"a longer budget":                  {Commit{Budget: &Budget{Body: make([]byte, 720_001)}}, false},
	} {
		tc.commit.Cluster = Cluster{Cluster: "c"}
		w, err := store.prepare(&tc.commit)
		switch {
		case tc.fits && err != nil:
			t.Errorf("%s: %v", name, err)
		case !tc.fits && !errors.Is(err, ErrTooLarge):
			t.Errorf("%s: got %v, want ErrTooLarge", name, err)
		case !tc.fits && fault.Of(err) != fault.Invalid:
			t.Errorf("%s: it is %v", name, fault.Of(err))
		case tc.fits:
			if err := admitNew(w.ops); err != nil {
				t.Errorf("%s: the service would refuse it: %v", name, err)
			}
		}
	}
}

// admitNew asks the strict service in memory about the ops, as if every row
// they need were there.
func admitNew(ops []op) error {
	p := &memoryPartition{rows: map[string]entity{}}
	for _, o := range ops {
		if o.verb == merge || o.verb == remove {
			p.rows[o.row.rk] = entity{pk: o.row.pk, rk: o.row.rk, etag: o.row.etag}
		}
	}
	return admit(p, ops)
}
