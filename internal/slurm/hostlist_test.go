package slurm_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

func nodeNames(names ...string) []slurm.NodeName {
	var out []slurm.NodeName
	for _, name := range names {
		out = append(out, slurm.NodeName(name))
	}
	return out
}

func TestParseHostlist(t *testing.T) {
	tests := []struct {
		name string
		text string
		want []slurm.NodeName
	}{
		{"an empty text gives no names", "", nil},
		{"a plain name stays as it is", "login", nodeNames("login")},
		{"a bracket expands in the order written", "htc-[3,1-2]", nodeNames("htc-3", "htc-1", "htc-2")},
		{"the measured argument of ResumeProgram", "hpc-[1-2],htc-[31-33]", nodeNames("hpc-1", "hpc-2", "htc-31", "htc-32", "htc-33")},
		{"leading zeros keep their width", "n[08-11]", nodeNames("n08", "n09", "n10", "n11")},
		{"a width may grow", "n[99-101]", nodeNames("n99", "n100", "n101")},
		{"each range has a width of its own", "a[1-2,05,9-10]", nodeNames("a1", "a2", "a05", "a9", "a10")},
		{"two brackets multiply, the left one slowest", "r[1-2]n[3-4]", nodeNames("r1n3", "r1n4", "r2n3", "r2n4")},
		{"text may follow a bracket", "n[1-2]-ib.x", nodeNames("n1-ib.x", "n2-ib.x")},
		{"a comma inside a bracket ends no element", "a[1,2],b", nodeNames("a1", "a2", "b")},
		{"a name may begin with a number", "[1-2]x", nodeNames("1x", "2x")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := slurm.ParseHostlist(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("names differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseHostlistNamesThePositionOfGarbage(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"an open bracket", "htc-[1-3", "position 5: the bracket is not closed"},
		{"a bracket that closes nothing", "htc-1]", `position 6: byte ']' is not allowed`},
		{"a bracket in a bracket", "a[[1]]", "position 3: a number is missing"},
		{"an empty bracket", "a[]", "position 3: a number is missing"},
		{"a backward range", "a[5-3]", "position 3: the range 5-3 runs backwards"},
		{"a range without an end", "a[5-]", "position 5: a number is missing"},
		{"letters in a bracket", "a[x]", "position 3: a number is missing"},
		{"letters after a number", "a[1x]", `position 4: byte 'x' is not allowed in a bracket`},
		{"an empty element", "a,,b", "position 3: a name is missing"},
		{"a comma at the end", "a,", "position 3: a name is missing"},
		{"a blank", "a b", `position 2: byte ' ' is not allowed`},
		{"a newline", "a\nb", `position 2: byte '\n' is not allowed`},
		{"an option", "--json", `node name "--json": byte '-' at position 1 is not allowed`},
		{"Slurm's word for nothing", "(null)", `position 1: byte '(' is not allowed`},
		{"a number too long to count", "a[1-" + strings.Repeat("9", 19) + "]", "a number of 19 digits is too long"},
		{"too many names in one range", "a[0-999999999999999999]", "position 2: more than 100000 names"},
		{"too many names in two brackets", "a[1-1000]b[1-1000]", "position 1: more than 100000 names"},
		{"too many names in three brackets", "a[1-100000]b[1-100000]c[1-100000]", "position 1: more than 100000 names"},
		{"too many names in all", "a[1-60000],b[1-60000]", "position 12: more than 100000 names"},
		{"a name too long", strings.Repeat("x", 256), "is longer than 255"},
		{"too much text", strings.Repeat("a,", 1<<19) + "a", "is longer than 1048576"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := slurm.ParseHostlist(tt.text)
			if err == nil {
				t.Fatal("no error")
			}
			if fault.Of(err) != fault.Invalid {
				t.Errorf("kind %v, want invalid", fault.Of(err))
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
			if len(err.Error()) > 500 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestFormatHostlist(t *testing.T) {
	tests := []struct {
		name  string
		names []slurm.NodeName
		want  string
	}{
		{"no names give no text", nil, ""},
		{"one name needs no bracket", nodeNames("htc-7"), "htc-7"},
		{"neighbours fold into a range", nodeNames("htc-3", "htc-1", "htc-2"), "htc-[1-3]"},
		{"a name given twice is written once", nodeNames("htc-1", "htc-1"), "htc-1"},
		{"prefixes are sorted", nodeNames("htc-1", "hpc-2", "hpc-1"), "hpc-[1-2],htc-1"},
		{"numbers are sorted as numbers", nodeNames("n10", "n9", "n100"), "n[9-10,100]"},
		{"widths are kept apart", nodeNames("a09", "a10", "a9", "a010"), "a[9,09-10,010]"},
		{"only the last number folds, as Slurm itself does", nodeNames("r1n1", "r1n2", "r2n1"), "r1n[1-2],r2n1"},
		{"Slurm refuses text after a bracket, so none is written", nodeNames("n1-ib", "n2-ib"), "n1-ib,n2-ib"},
		{"a bare prefix stays outside the bracket", nodeNames("n", "n1", "n2"), "n,n[1-2]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := slurm.FormatHostlist(tt.names); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestHostlistRoundTrip(t *testing.T) {
	name := rapid.Custom(func(t *rapid.T) slurm.NodeName {
		prefix := rapid.SampledFrom([]string{"htc-", "hpc", "r1n", "9x", "a_b.", "n1-ib"}).Draw(t, "prefix")
		number := rapid.StringMatching(`[0-9]{0,4}|[0-9]{17,22}`).Draw(t, "number")
		return slurm.NodeName(prefix + number)
	})
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(name, 0, 60).Draw(t, "names")
		text := slurm.FormatHostlist(names)
		parsed, err := slurm.ParseHostlist(text)
		if err != nil {
			t.Fatalf("%v; text %q", err, text)
		}
		if diff := cmp.Diff(setOf(names), setOf(parsed)); diff != "" {
			t.Fatalf("text %q (-want +got):\n%s", text, diff)
		}
		if len(parsed) != len(setOf(names)) {
			t.Fatalf("%q names a node twice", text)
		}
		shuffled := rapid.Permutation(names).Draw(t, "shuffled")
		if again := slurm.FormatHostlist(shuffled); again != text {
			t.Fatalf("order changed the text: %q and %q", text, again)
		}
	})
}

func setOf(names []slurm.NodeName) map[slurm.NodeName]bool {
	set := map[slurm.NodeName]bool{}
	for _, name := range names {
		set[name] = true
	}
	return set
}

func TestHostlistHoldsTheLargestCluster(t *testing.T) {
	var names []slurm.NodeName
	for i := range slurm.MaxHostlistNames {
		names = append(names, slurm.NodeName(fmt.Sprintf("htc-%d", i)))
	}
	text := slurm.FormatHostlist(names)
	if want := "htc-[0-99999]"; text != want {
		t.Fatalf("got %q, want %q", text, want)
	}
	parsed, err := slurm.ParseHostlist(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names, parsed); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseHostlist(f *testing.F) {
	for _, seed := range []string{"", "a", "hpc-[1-2],htc-[31-34]", "r[1-2]n[08-11]x", "a[1-", "[", "a,,b", "a[5-3]", "a[0-99999999999999999]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		names, err := slurm.ParseHostlist(text)
		if err != nil {
			if fault.Of(err) != fault.Invalid {
				t.Fatalf("kind %v of %v", fault.Of(err), err)
			}
			return
		}
		if len(names) > slurm.MaxHostlistNames {
			t.Fatalf("%d names", len(names))
		}
		for _, name := range names {
			if err := name.Validate(); err != nil {
				t.Fatal(err)
			}
		}
		if len(names) > 2000 {
			return
		}
		again, err := slurm.ParseHostlist(slurm.FormatHostlist(names))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(setOf(names), setOf(again)); diff != "" {
			t.Fatal(diff)
		}
	})
}
