package burst

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// in gives so many nodes of a nodearray in one state.
func in(array NodearrayName, count int, slurm SlurmState, supply Supply) []Node {
	nodes := make([]Node, count)
	for i := range nodes {
		nodes[i] = Node{Name: NodeName(fmt.Sprintf("%s-%d-%d-%d", array, slurm, supply, i)), Nodearray: array, Slurm: slurm, Supply: supply}
	}
	return nodes
}

func TestAMeterCountsVMsWithoutAJob(t *testing.T) {
	for name, c := range map[string]struct {
		slurm         SlurmState
		supply        Supply
		booting, idle int
	}{
		"a node on its way boots":                             {PoweringUp, Booting, 1, 0},
		"a node that is being created boots":                  {PoweringUp, Creating, 1, 0},
		"a ready node that has not joined boots":              {PoweringUp, Ready, 1, 0},
		"a failed node may bill":                              {PoweringUp, Failed, 1, 0},
		"a node that was set down in its boot boots":          {DownPoweringUp, Ready, 1, 0},
		"a node that is only wanted costs nothing":            {PoweringUp, Absent, 0, 0},
		"a VM that is off costs nothing":                      {Idle, Off, 0, 0},
		"a VM of which nobody knows costs nothing":            {Idle, SupplyUnknown, 0, 0},
		"an idle node idles":                                  {Idle, Ready, 0, 1},
		"a node kept for somebody idles":                      {Reserved, Ready, 0, 1},
		"a drained node idles":                                {DrainedUp, Ready, 0, 1},
		"a node that goes idles until it is gone":             {PoweringDown, Leaving, 0, 1},
		"a VM under a powered-down name idles":                {PoweredDown, Ready, 0, 1},
		"jobs pay for a busy node":                            {Busy, Ready, 0, 0},
		"a silent node may have jobs, which pay":              {NotResponding, Ready, 0, 0},
		"a node that is to go after its jobs is paid by them": {PowerDownPending, Ready, 0, 0},
		"a node in a state that nobody knows is left out":     {SlurmUnknown, Ready, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := Facts{Nodes: append(in("htc", 1, c.slurm, c.supply), in("other", 3, Idle, Ready)...)}
			want := []Meter{{Nodearray: "htc", At: origin, Rate: 2 * unit, Booting: c.booting, Idle: c.idle}}
			if c.booting+c.idle == 0 {
				want = nil
			}
			if diff := cmp.Diff(want, slices.Concat(advance(origin, priced(), f).Meters)); diff != "" {
				t.Errorf("meters (-want +got):\n%s", diff)
			}
		})
	}
}

// A job on many nodes begins when the last of them has booted: the others are
// up, are allocated, and no job pays for them until then.
func TestAMeterCountsNodesThatWaitForTheOthersOfTheirJob(t *testing.T) {
	job := func(nodes int, configuring bool) RunningJob {
		return RunningJob{ID: "7", Nodearray: "htc", Nodes: nodes, Configuring: configuring}
	}
	for name, c := range map[string]struct {
		nodes   []Node
		running []RunningJob
		want    int
	}{
		"three are up and one boots":                {slices.Concat(in("htc", 3, Busy, Ready), in("htc", 1, PoweringUp, Booting)), []RunningJob{job(4, true)}, 4},
		"all are up and the job has not begun":      {in("htc", 4, Busy, Ready), []RunningJob{job(4, true)}, 4},
		"the job has begun":                         {in("htc", 4, Busy, Ready), []RunningJob{job(4, false)}, 0},
		"another job runs beside it":                {in("htc", 4, Busy, Ready), []RunningJob{job(2, true), job(2, false)}, 2},
		"jobs that share a node are paid by one":    {in("htc", 1, Busy, Ready), []RunningJob{job(1, true), job(1, false)}, 0},
		"nodes that are only wanted cost nothing":   {in("htc", 4, PoweringUp, Absent), []RunningJob{job(4, true)}, 0},
		"a job whose nodes are not counted":         {in("htc", 2, Busy, Ready), []RunningJob{job(-1, true)}, 0},
		"a job of another nodearray":                {in("htc", 2, Busy, Ready), []RunningJob{{ID: "7", Nodearray: "other", Nodes: 2, Configuring: true}}, 0},
		"a job of a nodearray that nobody knows":    {in("htc", 2, Busy, Ready), []RunningJob{{ID: "7", Nodearray: "gone", Nodes: 2, Configuring: true}}, 0},
		"more nodes in the queue than in the table": {in("htc", 2, Busy, Ready), []RunningJob{job(9, true)}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			got := 0
			for _, m := range advance(origin, priced(), Facts{Nodes: c.nodes, Running: c.running}).Meters {
				got += m.Booting + m.Idle
			}
			if got != c.want {
				t.Errorf("%d nodes waste money, want %d", got, c.want)
			}
		})
	}
}

func TestWasteIsBookedWhereItFell(t *testing.T) {
	waste := func(p Period, from time.Time, boot, idle Money, d time.Duration) Book {
		return Book{Period: p, From: from, Nodearray: "htc", BootWaste: boot, IdleWaste: idle, WastedTime: d}
	}
	midnight := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	february := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		since, until time.Time
		want         []Book
	}{
		"half an hour of one boot and two idle nodes": {midnight.Add(time.Hour), midnight.Add(90 * time.Minute), []Book{
			waste(Day, midnight, unit, 2*unit, 90*time.Minute), waste(Hour, midnight.Add(time.Hour), unit, 2*unit, 90*time.Minute),
			waste(Month, midnight, unit, 2*unit, 90*time.Minute),
		}},
		"a night across a month's end": {midnight.Add(-30 * time.Minute), midnight.Add(15 * time.Minute), []Book{
			waste(Day, midnight.Add(-24*time.Hour), unit, 2*unit, 90*time.Minute), waste(Day, midnight, unit/2, unit, 45*time.Minute),
			waste(Hour, midnight.Add(-time.Hour), unit, 2*unit, 90*time.Minute), waste(Hour, midnight, unit/2, unit, 45*time.Minute),
			waste(Month, february, unit, 2*unit, 90*time.Minute), waste(Month, midnight, unit/2, unit, 45*time.Minute),
		}},
		"a long silence counts a day of it": {midnight.Add(-100 * 24 * time.Hour), midnight.Add(time.Hour), []Book{
			waste(Month, february, 48*unit, 96*unit, 72*time.Hour),
		}},
		"a clock that went back wastes nothing": {midnight.Add(time.Hour), midnight.Add(time.Minute), nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := Facts{Memory: Memory{Meters: []Meter{{Nodearray: "htc", At: c.since, Rate: 2 * unit, Booting: 1, Idle: 2}}}, Nodes: in("htc", 1, Idle, Ready)}
			got := advance(c.until, priced(), f)
			if diff := cmp.Diff(c.want, slices.Concat(got.Books)); diff != "" {
				t.Errorf("books (-want +got):\n%s", diff)
			}
			if want := later(c.since, c.until); len(got.Meters) != 1 || got.Meters[0].At != want {
				t.Errorf("the meters %v were read, want at %s", got.Meters, want)
			}
		})
	}
	t.Run("a nodearray that left the policy is paid to the end", func(t *testing.T) {
		f := Facts{Memory: Memory{Meters: []Meter{{Nodearray: "old", At: origin.Add(-time.Minute), Rate: 60 * unit, Idle: 1}}}, Nodes: in("old", 1, Idle, Ready)}
		got := advance(origin, priced(), f)
		if used := got.used(priced(), Budget{Scope: ScopeNodearray, Name: "old", Period: Month}, origin); used != unit || len(got.Meters) != 0 {
			t.Errorf("%s was wasted, and the meters are %v", used, got.Meters)
		}
	})
}

// It makes no difference how often meters are read.
func TestWasteDoesNotDependOnHowOftenItIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := priced()
		p.Zone = zone(t, rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe"}).Draw(t, "zone"))
		p.Nodearrays[0].Price = Money(rapid.Int64Range(0, 100*int64(unit)).Draw(t, "price"))
		from := time.Unix(rapid.Int64Range(1_700_000_000, 1_900_000_000).Draw(t, "from"), 0).UTC()
		if _, change := from.In(p.Zone).ZoneBounds(); !change.IsZero() && rapid.Bool().Draw(t, "about a change") {
			from = change.Add(-time.Duration(rapid.Int64Range(0, int64(maxAccrual)).Draw(t, "away"))).UTC()
		}
		until := from.Add(time.Duration(rapid.Int64Range(0, int64(maxAccrual)).Draw(t, "span")))
		f := Facts{Nodes: slices.Concat(in("htc", rapid.IntRange(0, 5).Draw(t, "booting"), PoweringUp, Booting), in("htc", rapid.IntRange(0, 5).Draw(t, "idle"), Idle, Ready))}
		f.Memory = advance(from, p, f)
		once := advance(until, p, f)
		reads := rapid.SliceOfN(rapid.Int64Range(0, int64(until.Sub(from))), 0, 8).Draw(t, "reads")
		slices.Sort(reads)
		for _, at := range reads {
			f.Memory = advance(from.Add(time.Duration(at)), p, f)
		}
		often := advance(until, p, f)
		near := cmp.Comparer(func(a, b Money) bool { return max(a, b)-min(a, b) <= Money(len(reads)+1) })
		if diff := cmp.Diff(once, often, near); diff != "" {
			t.Errorf("read once (-) and %d times more (+):\n%s", len(reads), diff)
		}
	})
}
