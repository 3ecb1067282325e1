package ledger

import (
	"fmt"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A history is compared with a plain list of everything that was ever added:
// where it claims to know, it has to say the same, and it has to fit its row.
func TestChangesForgetTheOldestAndInventNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := map[int64][]string{}
		revision := int64(1_795_451_648_012)
		c := Cluster{Revision: revision}.Begin()
		for range rapid.IntRange(1, 400).Draw(t, "commits") {
			revision++
			count := rapid.SampledFrom([]int{0, 1, 2, 90, 2500}).Draw(t, "nodes")
			for n := range count {
				all[revision] = append(all[revision], fmt.Sprintf("cloud/%d", (n+int(revision))%10_000))
			}
			if rapid.IntRange(0, 100).Draw(t, "skip") == 0 {
				continue // a writer that keeps no history
			}
			c = c.With(revision, all[revision])
			if len(c.frames) > maxFrames {
				t.Fatalf("%d bytes", len(c.frames))
			}
		}
		after := revision - rapid.Int64Range(0, 420).Draw(t, "after")
		got, known := c.After(after, revision)
		if known != (c.Until == revision && c.Since <= after) {
			t.Fatalf("known is %v", known)
		}
		if !known {
			return
		}
		want := map[string]int64{}
		for r := after + 1; r <= revision; r++ {
			for _, name := range all[r] {
				want[name] = r
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("after %d (-want +got):\n%s", after, diff)
		}
	})
}

func TestChangesReachBackAsFarAsPromised(t *testing.T) {
	c := Cluster{Revision: 1000}.Begin()
	for r := int64(1001); r <= 1400; r++ {
		c = c.With(r, []string{fmt.Sprintf("htc-%d", r), "htc-1"})
	}
	if c.Since != 1400-maxCommits {
		t.Errorf("400 small commits: known since %d", c.Since)
	}
	// 2,500 nodes that come and go three times, and what follows.
	var wave []string
	for n := range 2500 {
		wave = append(wave, fmt.Sprintf("large-%d", n+1))
	}
	for r := int64(1401); r <= 1403; r++ {
		c = c.With(r, wave)
	}
	if got, known := c.After(1350, 1403); !known || len(got) != 2500+51 {
		t.Errorf("%d nodes, known %v since %d, %d bytes", len(got), known, c.Since, len(c.frames))
	}
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
