package cyclecloudsim

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestSpotReportsFamilyQuotaZeroAndIsLimitedByTheRegion(t *testing.T) {
	s := newSim(t, func(c *Config) {
		c.Clock, c.RegionalQuota, c.FamilyQuota = newManual(), 28, map[string]int{"F8": 0, "F4": 16}
	})
	spot, plain := bucketOf(t, s, "cheap", "F8"), bucketOf(t, s, "htc", "F4")
	got := []int{*spot.FamilyQuotaCount, *spot.FamilyQuotaCoreCount, spot.QuotaCount, *spot.RegionalQuotaCoreCount, spot.AvailableCount}
	if diff := cmp.Diff([]int{0, 0, 0, 28, 3}, got); diff != "" {
		t.Errorf("spot: %s", diff)
	}
	if plain.QuotaCount != 4 || plain.AvailableCount != 4 || *plain.FamilyQuotaCoreCount != 16 {
		t.Errorf("the spot nodearray's zero leaked: %+v", plain)
	}
	if got := create(t, s, "cheap", 5, "").Sets[0].Added; got != 3 {
		t.Errorf("%d spot nodes fit into 28 cores", got)
	}
	if b := bucketOf(t, s, "htc", "F4"); b.AvailableCount != 1 {
		t.Errorf("%d nodes are available in the region's last 4 cores", b.AvailableCount)
	}
}

func TestACapacityFailureThrottlesItsBucket(t *testing.T) {
	clock := newManual()
	s := newSim(t, func(c *Config) { c.Clock, c.ThrottleCapacity = clock, 5*time.Minute })
	if b := bucketOf(t, s, "htc", "F4"); b.LastCapacityFailure != -1 {
		t.Errorf("before any failure: %v", b.LastCapacityFailure)
	}
	failNext(t, s, FailCapacity)
	create(t, s, "htc", 2, "")
	clock.advance(100 * time.Second)
	b := bucketOf(t, s, "htc", "F4")
	if b.AvailableCount != 0 || b.LastCapacityFailure != 90 || b.ActiveCount != 1 {
		t.Errorf("during: available %d, failure %v s ago, active %d", b.AvailableCount, b.LastCapacityFailure, b.ActiveCount)
	}
	if r := create(t, s, "htc", 1, "").Sets[0]; r.Added != 0 || r.Message != "0 of 1 nodes added: capacity for F4 is throttled after a failure" {
		t.Errorf("a create while throttled: %+v", r)
	}
	if b := bucketOf(t, s, "hpc", "HB120"); b.AvailableCount != 6 {
		t.Errorf("the other bucket has %d", b.AvailableCount)
	}
	clock.advance(210 * time.Second)
	if b := bucketOf(t, s, "htc", "F4"); b.AvailableCount != 9 {
		t.Errorf("after 5 minutes: available %d", b.AvailableCount)
	}
}

// TestTerminatingNodesAreNotCountedButTheirVMsHoldQuota is trap 2 of the
// reference: availableCount promises what Azure does not have yet.
func TestTerminatingNodesAreNotCountedButTheirVMsHoldQuota(t *testing.T) {
	clock := newManual()
	s := newSim(t, func(c *Config) { c.Clock, c.FamilyQuota = clock, map[string]int{"F4": 8} })
	create(t, s, "htc", 2, "")
	clock.advance(2 * time.Minute)
	manage(t, s, "terminate", `{"names":["htc-1","htc-2"]}`)
	b := bucketOf(t, s, "htc", "F4")
	if b.AvailableCount != 2 || b.ActiveCount != 0 || b.ConsumedCoreCount != 8 {
		t.Errorf("available %d active %d consumed %d", b.AvailableCount, b.ActiveCount, b.ConsumedCoreCount)
	}
	create(t, s, "htc", 1, "")
	clock.advance(11 * time.Second)
	if got := statuses(s); !cmp.Equal(got, []string{"htc-1=Terminating", "htc-2=Terminating", "htc-3=Terminating"}) {
		t.Errorf("the early create: %v", got)
	}
	clock.advance(time.Minute)
	create(t, s, "htc", 2, "")
	clock.advance(2 * time.Minute)
	if got := statuses(s); !cmp.Equal(got, []string{"htc-1=Ready", "htc-2=Ready"}) {
		t.Errorf("the late create: %v", got)
	}
}

func TestStartingDeallocatedNodesIgnoresTheNodearrayLimit(t *testing.T) {
	clock := newManual()
	s := newSim(t, func(c *Config) { c.Clock = clock })
	create(t, s, "htc", 10, "")
	clock.advance(2 * time.Minute)
	manage(t, s, "deallocate", `{"names":["htc-1","htc-2"]}`)
	clock.advance(time.Minute)
	if got := create(t, s, "htc", 5, "").Sets[0].Added; got != 2 {
		t.Errorf("%d nodes were added in the place of deallocated ones", got)
	}
	manage(t, s, "start", `{"names":["htc-1","htc-2"]}`)
	if b := bucketOf(t, s, "htc", "F4"); b.ActiveCount != 12 || b.AvailableCount != 0 {
		t.Errorf("active %d available %d", b.ActiveCount, b.AvailableCount)
	}
}

func TestARequestWithoutMachineTypeTakesTheFirstBucketThatSuffices(t *testing.T) {
	s := newSim(t, func(c *Config) { c.Clock, c.FamilyQuota = newManual(), map[string]int{"HB120": 240} })
	create(t, s, "hpc", 3, "")
	create(t, s, "hpc", 1, "")
	got := map[string]int{}
	for _, n := range s.Nodes() {
		got[n.MachineType]++
	}
	if diff := cmp.Diff(map[string]int{"HC44": 3, "HB120": 1}, got); diff != "" {
		t.Error(diff)
	}
}

func TestStatusHasTheWireShapeOfTheReference(t *testing.T) {
	s := newSim(t, func(c *Config) { c.Clock, c.ClusterMaxCount = newManual(), 12 })
	create(t, s, "hpc", 2, `,"placementGroupId":"pg0"`)
	raw := decode[map[string]any](t, want(t, s, 200, "GET", root+"/status?nodes=true", ""))
	if raw["state"] != "Started" || raw["targetState"] != "Started" || raw["maxCount"] != 12.0 || len(raw["nodes"].([]any)) != 2 {
		t.Errorf("cluster: %v", raw)
	}
	hpc := raw["nodearrays"].([]any)[1].(map[string]any)
	if hpc["nodearray"].(map[string]any)["Name"] != "hpc" {
		t.Errorf("nodearray record: %v", hpc["nodearray"])
	}
	b := hpc["buckets"].([]any)[0].(map[string]any)
	for _, key := range []string{
		"bucketId", "definition", "valid", "invalidReason", "activeCount", "activeCoreCount", "activeNodes", "availableCount",
		"availableCoreCount", "maxCount", "maxCoreCount", "quotaCount", "quotaCoreCount", "consumedCoreCount", "familyQuotaCount",
		"familyQuotaCoreCount", "familyConsumedCoreCount", "regionalQuotaCount", "regionalQuotaCoreCount", "regionalConsumedCoreCount",
		"maxPlacementGroupSize", "maxPlacementGroupCoreSize", "placementGroups", "lastCapacityFailure", "spotPlacementScore", "virtualMachine",
	} {
		if _, ok := b[key]; !ok {
			t.Errorf("the bucket lacks %s", key)
		}
	}
	groups := []any{map[string]any{"name": "pg0", "activeCount": 2.0, "activeCoreCount": 240.0}}
	if diff := cmp.Diff(groups, b["placementGroups"]); diff != "" {
		t.Error(diff)
	}
	without := decode[map[string]any](t, want(t, s, 200, "GET", root+"/status", ""))
	if _, ok := without["nodes"]; ok {
		t.Error("nodes are listed without nodes=true")
	}
}

func TestUsageCountsCoreHoursOfVMs(t *testing.T) {
	clock := newManual()
	s := newSim(t, func(c *Config) { c.Clock = clock })
	create(t, s, "htc", 2, "")
	create(t, s, "cheap", 1, "")
	clock.advance(10*time.Second + 2*time.Hour)
	path := root + "/usage?timeframe=custom&from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z&expand=details"
	u := decode[clusterUsage](t, want(t, s, 200, "GET", path, "")).Usage
	if len(u) != 1 || u[0].Total.Hours != 2*2*4+2*8 || u[0].Total.Cost == nil || *u[0].Total.Cost != 1 {
		t.Fatalf("total: %+v", u)
	}
	if spot := u[0].Breakdown[1]; spot.Node != "cheap" || spot.Cost != nil || spot.Details[0].Priority != "Spot" {
		t.Errorf("spot: %+v", spot)
	}
	hourly := decode[clusterUsage](t, want(t, s, 200, "GET", path+"&granularity=hourly", "")).Usage
	sum := 0.0
	for _, span := range hourly {
		sum += span.Total.Hours
	}
	if len(hourly) != 24 || sum < 31.9999 || sum > 32.0001 {
		t.Errorf("%d hours sum up to %v core-hours", len(hourly), sum)
	}
}

// world is the random walk over the API of the limit property.
type world struct {
	s     *Sim
	clock *manual
	cfg   Config
	seen  map[string]string // NodeId to name
}

// TestLimitsHoldWhateverIsAsked drives the simulator with random calls and
// failures, and checks after every step what must always hold.
func TestLimitsHoldWhateverIsAsked(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{clock: newManual(), cfg: lab(), seen: map[string]string{}}
		w.cfg.Clock, w.cfg.Quirks = w.clock, Quirks{}
		w.cfg.Seed = rapid.Int64Range(1, 1000).Draw(rt, "seed")
		w.cfg.ClusterMaxCount = rapid.IntRange(1, 20).Draw(rt, "cluster max")
		w.cfg.RegionalQuota = rapid.IntRange(1, 900).Draw(rt, "regional quota")
		w.cfg.FamilyQuota = map[string]int{"F4": rapid.IntRange(0, 60).Draw(rt, "family quota")}
		w.cfg.AvailableLag = time.Duration(rapid.IntRange(0, 60).Draw(rt, "lag")) * time.Second
		s, err := New(w.cfg)
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close()
		w.s = s
		rt.Repeat(map[string]func(*rapid.T){
			"create":    w.create,
			"scale":     w.scale,
			"terminate": w.terminate,
			"fail": func(rt *rapid.T) {
				if err := s.FailNext(w.array(rt), rapid.SampledFrom(failKinds).Draw(rt, "kind")); err != nil {
					rt.Fatal(err)
				}
			},
			"wait": func(rt *rapid.T) {
				w.clock.advance(time.Duration(rapid.IntRange(0, 120).Draw(rt, "seconds")) * time.Second)
			},
			"vanish": func(rt *rapid.T) {
				if vms := s.VMs(); len(vms) > 0 {
					vm := rapid.SampledFrom(vms).Draw(rt, "vm")
					if err := s.DeleteVM(vm.InstanceID, ReasonVMDisappeared); err != nil {
						rt.Fatal(err)
					}
				}
			},
			"": w.check,
		})
	})
}

func (w *world) array(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"htc", "hpc", "cheap"}).Draw(rt, "nodearray")
}

func (w *world) create(rt *rapid.T) {
	n, before := rapid.IntRange(1, 12).Draw(rt, "count"), len(w.s.Nodes())
	a := call(rt, w.s, "POST", root+"/nodes/create", set(w.array(rt), n, ""))
	after := len(w.s.Nodes())
	if a.code == 409 {
		if after != before || w.s.Quirks().AddedZero != Conflict {
			rt.Fatalf("409 %q with %d new nodes", a.body, after-before)
		}
		return
	}
	r := decode[creationResult](rt, a).Sets[0]
	if after-before != r.Added || r.Added > n || (r.Added < n) != (r.Message != "") {
		rt.Fatalf("asked for %d, %d new nodes, answer %+v", n, after-before, r)
	}
}

func (w *world) scale(rt *rapid.T) {
	call(rt, w.s, "POST", fmt.Sprintf("%s/scale/%s?totalNodeCount=%d", root, w.array(rt), rapid.IntRange(0, 12).Draw(rt, "total")), "")
}

func (w *world) terminate(rt *rapid.T) {
	nodes := w.s.Nodes()
	if len(nodes) == 0 {
		return
	}
	n := rapid.SampledFrom(nodes).Draw(rt, "node")
	want(rt, w.s, 202, "POST", root+"/nodes/terminate", `{"ids":["`+n.NodeID+`"]}`)
}

func (w *world) check(rt *rapid.T) {
	total, cores, f4 := 0, 0, 0
	for _, a := range status(rt, w.s).NodeArrays {
		inArray := 0
		for i, b := range a.Buckets {
			if b.ActiveCount > b.MaxCount || b.AvailableCount < 0 || b.AvailableCount > b.MaxCount {
				rt.Fatalf("%s bucket %d: active %d available %d max %d", a.Name, i, b.ActiveCount, b.AvailableCount, b.MaxCount)
			}
			inArray += b.ActiveCount
			cores += b.ActiveCoreCount
			if b.Definition["machineType"] == "F4" {
				f4 += b.ActiveCoreCount
			}
		}
		if inArray > a.MaxCount {
			rt.Fatalf("%s: active %d max %d", a.Name, inArray, a.MaxCount)
		}
		total += inArray
	}
	if total > w.cfg.ClusterMaxCount || cores > w.cfg.RegionalQuota || f4 > w.cfg.FamilyQuota["F4"] {
		rt.Fatalf("cluster: %d nodes %d cores, %d in family F4", total, cores, f4)
	}
	names := map[string]bool{}
	for _, n := range w.s.Nodes() {
		if names[n.Name] {
			rt.Fatalf("two nodes are called %s", n.Name)
		}
		names[n.Name] = true
		if was, ok := w.seen[n.NodeID]; ok && was != n.Name {
			rt.Fatalf("NodeId %s was %s and is %s", n.NodeID, was, n.Name)
		}
		w.seen[n.NodeID] = n.Name
	}
	w.balance(rt)
}

// balance compares the journal with what is there: every node that was created
// and has not left is listed, every VM that was started and not stopped exists.
func (w *world) balance(rt *rapid.T) {
	seen := map[EventName]int{}
	for _, e := range w.s.Journal() {
		seen[e.Event]++
	}
	nodes := seen[Created] - seen[Terminated] - seen[Vanished]
	vms := seen[VMStarted] - seen[VMStopped]
	if nodes != len(w.s.Nodes()) || vms != len(w.s.VMs()) {
		rt.Fatalf("the journal leaves %d nodes and %d VMs, there are %d and %d", nodes, vms, len(w.s.Nodes()), len(w.s.VMs()))
	}
}
