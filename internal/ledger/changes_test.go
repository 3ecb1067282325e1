package ledger

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A history is compared with a plain list of everything that was ever added:
// where it claims to know, it has to say the same, and it has to fit its row.
// Chance is the same in every run, so that both limits are known to be met.
func TestChangesForgetTheOldestAndInventNothing(t *testing.T) {
	t.Parallel()
	full, long := 0, 0
	for seed := range uint64(9) {
		random := rand.New(rand.NewPCG(seed, 1))
		all := map[int64][]string{}
		revision := int64(1_795_451_648_012)
		c := Cluster{Revision: revision}.Begin()
		sizes := [][]int{{0, 1, 2}, {0, 1, 2, 90}, {0, 90, 900}}[seed%3]
		for range 400 {
			revision++
			all[revision] = drawNames(random, sizes[random.IntN(len(sizes))], int(revision))
			if random.IntN(1000) == 0 {
				continue // a writer that keeps no history
			}
			before := c.Since
			c = c.With(revision, all[revision])
			switch {
			case len(c.frames) > maxFrames:
				t.Fatalf("seed %d: %d bytes", seed, len(c.frames))
			case c.Since != before && c.Since < revision-maxCommits:
				long++
			case c.Since != before:
				full++
			}
		}
		for range 5 {
			after := revision - random.Int64N(420)
			got, known := c.After(after, revision)
			if known != (c.Until == revision && c.Since <= after) {
				t.Fatalf("seed %d: known is %v", seed, known)
			}
			if !known {
				continue
			}
			want := map[string]int64{}
			for r := after + 1; r <= revision; r++ {
				for _, name := range all[r] {
					want[name] = r
				}
			}
			if !maps.Equal(want, got) { // cmp sorts the keys first, which took most of the test's time
				t.Fatalf("seed %d after %d (-want +got):\n%s", seed, after, cmp.Diff(want, got))
			}
		}
	}
	if full < 50 || long < 50 {
		t.Errorf("the row was full %d times and the list too long %d times, want both often", full, long)
	}
}

// drawNames is a run of names, or as many far apart.
func drawNames(random *rand.Rand, count, first int) []string {
	scattered := random.IntN(2) == 0
	var names []string
	for n := range count {
		if scattered {
			n *= n * 7919
		}
		names = append(names, fmt.Sprintf("cloud/%d", (n+first)%100_000))
	}
	return names
}

func TestChangesReachBackAsFarAsPromised(t *testing.T) {
	t.Parallel()
	c := Cluster{Revision: 1000}.Begin()
	for r := int64(1001); r <= 1400; r++ {
		c = c.With(r, []string{fmt.Sprintf("htc-%d", r), "htc-1"})
	}
	if c.Since != 1400-maxCommits {
		t.Errorf("400 small commits: known since %d", c.Since)
	}
	// 10,000 nodes come and go sixty times, and what follows.
	var wave []string
	for n := range 10_000 {
		wave = append(wave, fmt.Sprintf("large-%d", n+1))
	}
	for r := int64(1401); r <= 1460; r++ {
		c = c.With(r, wave)
	}
	if got, known := c.After(1350, 1460); !known || len(got) != 10_000+51 {
		t.Errorf("%d nodes, known %v since %d, %d bytes", len(got), known, c.Since, len(c.frames))
	}
	// Every third of them, at random, is the worst that a history can meet.
	scattered := Cluster{Revision: 1000}.Begin()
	random := rand.New(rand.NewPCG(1, 2))
	for r := int64(1001); r <= 1012; r++ {
		scattered = scattered.With(r, slices.DeleteFunc(slices.Clone(wave), func(string) bool { return random.IntN(3) > 0 }))
	}
	if _, known := scattered.After(1000, 1012); !known {
		t.Errorf("12 commits of 3,333 scattered names: known since %d, %d bytes", scattered.Since, len(scattered.frames))
	}
}

// Names are Slurm's NodeName and what CycleCloud calls a node: digits anywhere,
// zeros before them, none at all.
func TestRunsGiveBackTheNamesTheyWereMadeOf(t *testing.T) {
	name := rapid.OneOf(
		rapid.StringMatching(`(htc|htc-|a7-|/|)[0-9]{0,25}`), rapid.StringMatching(`[a-c]{0,2}0{0,3}[0-9]{0,2}`), rapid.String(),
		rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("htc-%d", rapid.IntRange(0, 120).Draw(t, "n")) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOf(name).Draw(t, "names")
		got, err := readRuns(appendRuns(nil, runsOf(names)))
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		slices.Sort(names)
		if want := slices.Compact(names); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func FuzzReadRuns(f *testing.F) {
	f.Add(appendRuns(nil, runsOf([]string{"htc-1", "htc-2", "login", "gpu007"})))
	f.Add([]byte{1, 'x', 1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, stored []byte) {
		if names, err := readRuns(stored); err == nil && len(names) > maxRunNames {
			t.Errorf("%d names", len(names))
		}
	})
}

func TestABrokenHistoryIsNotBelieved(t *testing.T) {
	whole := Cluster{Revision: 9}.Begin().With(10, []string{"a", "b"})
	for cutAt := 1; cutAt < len(whole.frames); cutAt++ {
		c := whole
		c.frames = c.frames[:cutAt]
		if got, known := c.After(9, 10); known {
			t.Errorf("cut at %d: %v", cutAt, got)
		}
		next := c.With(11, []string{"c"})
		if got, known := next.After(9, 11); known {
			t.Errorf("cut at %d and carried on: %v", cutAt, got)
		}
	}
	// Nor does a history that was carried on change the one that it came from.
	one := whole.With(11, []string{"one"})
	two := whole.With(11, []string{"two"})
	a, _ := one.After(10, 11)
	b, _ := two.After(10, 11)
	if !maps.Equal(a, map[string]int64{"one": 11}) || !maps.Equal(b, map[string]int64{"two": 11}) {
		t.Errorf("%v and %v", a, b)
	}
}
