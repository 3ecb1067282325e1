package burst

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTheOverflowModelKeepsEveryPromise lets the core run whole clusters with
// random policies, in which jobs overflow: nodes are lost, messages are lost,
// doubled, delayed and reordered, two functions decide at once, and functions
// are killed at any moment. An auditor with books of its own judges every
// commit and what really happens. SLURMBURST_OVERFLOW_SEED repeats one seed and
// prints its story, SLURMBURST_OVERFLOW_SEEDS runs so many.
func TestTheOverflowModelKeepsEveryPromise(t *testing.T) {
	if text := os.Getenv("SLURMBURST_OVERFLOW_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s := runOverflow(seed, true)
		t.Logf("%+v\n%s", s.policy, strings.Join(s.story, "\n"))
		if s.broken != nil {
			t.Fatal(s.broken)
		}
		return
	}
	seeds := uint64(100)
	if text := os.Getenv("SLURMBURST_OVERFLOW_SEEDS"); text != "" {
		more, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = more
	}
	const lanes = 4
	var sums [lanes]overflowSum
	t.Run("clusters", func(t *testing.T) {
		for lane := range lanes {
			t.Run("lane "+strconv.Itoa(lane), func(t *testing.T) {
				t.Parallel()
				wrong := 0
				sums[lane].met = map[Code]int{}
				for seed := uint64(lane); seed < seeds; seed += lanes {
					s := runOverflow(seed, false)
					if s.broken != nil {
						again := runOverflow(seed, true)
						t.Errorf("SLURMBURST_OVERFLOW_SEED=%d: %v\n%s", seed, s.broken, strings.Join(again.story[max(0, len(again.story)-15):], "\n"))
						if wrong++; wrong == 3 {
							return
						}
						continue
					}
					sums[lane].add(s)
				}
			})
		}
	})
	var sum overflowSum
	sum.met = map[Code]int{}
	for i := range sums {
		sum.plus(sums[i])
	}
	t.Logf("%d clusters: %+v", seeds, sum)
	if sum.cloud < int(seeds)/2 || sum.done < 4*int(seeds) || sum.lost > sum.done/5 || sum.conflicts == 0 || sum.crashes == 0 {
		t.Error("the clusters are not what they should be")
	}
	for _, e := range Explanations() {
		if sum.met[e.Code] == 0 && seeds >= 300 && !slices.Contains(elsewhere, e.Code) && !slices.Contains(rare, e.Code) {
			t.Errorf("no cluster ever met the reason %s", e.Code)
		}
	}
}

// rare are reasons that a few hundred clusters need not meet.
var rare = []Code{ReasonVanished, ReasonOldGeneration, ReasonVMMissing, ReasonDown, ReasonStale, ReasonRevoked, ReasonMoved, ReasonPartitionMissing}

// overflowSum is what happened in many clusters.
type overflowSum struct {
	plans, conflicts, crashes, vms, done, cloud, lost, given, jobs int
	served                                                         int // nodearrays that got room that others did not need
	virtual, slowest, slowRoom                                     time.Duration
	met                                                            map[Code]int
}

func (o *overflowSum) add(s *overflowShell) {
	cloud := 0
	for _, r := range s.audit.runs {
		if r.let {
			cloud++
		}
	}
	o.plus(overflowSum{s.plans, s.conflicts, s.crashes, s.made, s.done, cloud, s.lost, len(s.given), len(s.jobs), s.audit.rooms.served, s.now.Sub(s.start), s.audit.slowest, s.audit.rooms.slow, s.met})
}

func (o *overflowSum) plus(p overflowSum) {
	o.plans, o.conflicts, o.crashes = o.plans+p.plans, o.conflicts+p.conflicts, o.crashes+p.crashes
	o.vms, o.done, o.cloud, o.lost = o.vms+p.vms, o.done+p.done, o.cloud+p.cloud, o.lost+p.lost
	o.given, o.jobs = o.given+p.given, o.jobs+p.jobs
	o.virtual, o.slowest = o.virtual+p.virtual, max(o.slowest, p.slowest)
	o.served, o.slowRoom = o.served+p.served, max(o.slowRoom, p.slowRoom)
	for code, n := range p.met {
		o.met[code] += n
	}
}
