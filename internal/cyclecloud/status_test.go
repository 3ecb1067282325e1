package cyclecloud

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/fault"
)

func TestStatusReadsTheRecordedAnswer(t *testing.T) {
	client, server := newScripted(t, reply{status: 200, body: testdata(t, "status.json")})
	got, err := client.Status(t.Context(), "hpc10", false)
	if err != nil {
		t.Fatal(err)
	}
	want := ClusterStatus{
		State: "Started", TargetState: "Started", MaxCount: ptr(100), MaxCores: ptr(10000),
		NodeArrays: []NodeArray{{
			Name: "hpc", MaxCount: ptr(16), MaxCores: ptr(1920), Region: "westeurope", Priority: ptr(1), MaxScaleSetSize: ptr(100),
			Buckets: []Bucket{{
				ID: "cd56af52-abcd-4321-98d6-431ee3ef8ed5", MachineType: "Standard_HB120rs_v3", Valid: true,
				ActiveCount: 2, ActiveCores: 240, ActiveNodes: []NodeName{"hpc10-hpc-1", "hpc10-hpc-2"},
				AvailableCount: ptr(14), AvailableCores: ptr(1680), MaxCount: ptr(16), MaxCores: ptr(1920),
				QuotaCount: ptr(20), QuotaCores: ptr(2400), ConsumedCores: ptr(240),
				FamilyQuotaCount: ptr(20), FamilyQuotaCores: ptr(2400), FamilyConsumedCores: ptr(240),
				RegionalQuotaCount: ptr(83), RegionalQuotaCores: ptr(10000), RegionalConsumedCores: ptr(512),
				MaxPlacementGroupSize: ptr(100), PlacementGroups: []PlacementGroup{{Name: "Standard_HB120rs_v3_pg0", ActiveCount: 2}},
				VM: VirtualMachine{VCPUs: 120, PCPUs: 120, VCPUQuota: 120, MemoryGB: 448, InfiniBand: true},
			}},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !got.IsStarted() {
		t.Error("the cluster is started")
	}
	if diff := cmp.Diff([]request{{Method: "GET", URI: "/clusters/hpc10/status?nodes=false"}}, server.asked()); diff != "" {
		t.Error(diff)
	}
}

func TestStatusIsReadWhateverItLeavesOut(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		withNodes  bool
		want       ClusterStatus
	}{
		{"a cluster that was never started has no state", `{"nodearrays":[]}`, false, ClusterStatus{}},
		{
			"nodes that were asked for are there", `{"nodearrays":[],"nodes":[{"Name":"n","NodeId":"i"}]}`, true,
			ClusterStatus{HasNodes: true, Nodes: []Node{{Name: "n", ID: "i"}}},
		},
		{
			"a nodearray may lack its record and its buckets", `{"nodearrays":[{"name":"htc"}]}`, false,
			ClusterStatus{NodeArrays: []NodeArray{{Name: "htc"}}},
		},
		{
			"numbers may be strings, objects may be words", `{"maxCount":"12","nodearrays":[{"name":"htc","nodearray":{"Interruptible":"True","Azure":"none"},"buckets":[{"definition":"x","valid":"true","availableCount":"3","maxCount":[],"activeNodes":"n1","virtualMachine":7}]}]}`, false,
			ClusterStatus{MaxCount: ptr(12), NodeArrays: []NodeArray{{Name: "htc", Spot: true, Buckets: []Bucket{{Valid: true, AvailableCount: ptr(3)}}}}},
		},
		{
			"quota that is not told is nil and not 0", `{"nodearrays":[{"name":"htc","buckets":[{"familyQuotaCoreCount":0,"regionalQuotaCoreCount":null}]}]}`, false,
			ClusterStatus{NodeArrays: []NodeArray{{Name: "htc", Buckets: []Bucket{{FamilyQuotaCores: ptr(0)}}}}},
		},
		{"numbers beyond belief are absent", `{"maxCount":1e300,"nodearrays":[]}`, false, ClusterStatus{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, _ := newScripted(t, reply{status: 200, body: tt.body})
			got, err := client.Status(t.Context(), "hpc10", tt.withNodes)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if got.IsStarted() {
				t.Error("a cluster without state is not started")
			}
		})
	}
}

func TestAClusterIsStartedOnlyIfItIsAndShallBe(t *testing.T) {
	for _, tt := range []struct {
		state, target string
		want          bool
	}{
		{"Started", "Started", true},
		{"started", "STARTED", true},
		{"Started", "Terminated", false},
		{"Starting", "Started", false},
		{"Started", "", false},
		{"", "", false},
	} {
		if got := (ClusterStatus{State: tt.state, TargetState: tt.target}).IsStarted(); got != tt.want {
			t.Errorf("%q to %q: got %v", tt.state, tt.target, got)
		}
	}
}

func TestAStatusThatLacksWhatWasAskedForIsAnError(t *testing.T) {
	for _, tt := range []struct {
		name, body, want string
		withNodes        bool
	}{
		{"nodearrays are missing", `{"state":"Started"}`, "no list of nodearrays", false},
		{"nodes are missing though asked for", `{"nodearrays":[]}`, "no list of nodes", true},
		{"a node has no identity", `{"nodearrays":[],"nodes":[{}]}`, "neither Name nor NodeId", true},
		{"buckets are no list", `{"nodearrays":[{"buckets":5}]}`, "cannot unmarshal", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, _ := newScripted(t, reply{status: 200, body: tt.body})
			_, err := client.Status(t.Context(), "hpc10", tt.withNodes)
			if !fault.Is(err, fault.Transient) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want fault.Transient saying %q", err, tt.want)
			}
		})
	}
}

func TestLastCapacityFailureIsAnAgeOrNever(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		want        time.Duration
		happened    bool
	}{
		{"negative is never", "-1.0", 0, false},
		{"null is never", "null", 0, false},
		{"nonsense is never", `"soon"`, 0, false},
		{"fractions of a second count", "12.5", 12500 * time.Millisecond, true},
		{"now is 0", "0", 0, true},
		{"a string is read", `"30"`, 30 * time.Second, true},
		{"an age beyond belief is a hundred years", "1e300", maxSeconds * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, _ := newScripted(t, reply{status: 200, body: `{"nodearrays":[{"name":"a","buckets":[{"lastCapacityFailure":` + tt.value + `}]}]}`})
			status, err := client.Status(t.Context(), "hpc10", false)
			if err != nil {
				t.Fatal(err)
			}
			ago, happened := status.NodeArrays[0].Buckets[0].LastCapacityFailure()
			if ago != tt.want || happened != tt.happened {
				t.Errorf("got %s, %v", ago, happened)
			}
		})
	}
}

// cluster is a status of two nodearrays: 4 of 10 nodes of htc are active.
func cluster(change func(*ClusterStatus, *NodeArray, *Bucket)) ClusterStatus {
	s := ClusterStatus{
		State: "Started", TargetState: "Started", MaxCount: ptr(100),
		NodeArrays: []NodeArray{
			{Name: "htc", MaxCount: ptr(10), Buckets: []Bucket{{
				MachineType: "Standard_D4s_v5", Valid: true, ActiveCount: 4, AvailableCount: ptr(6), MaxCount: ptr(10),
				FamilyQuotaCores: ptr(400), RegionalQuotaCores: ptr(100), RegionalConsumedCores: ptr(40),
				VM: VirtualMachine{VCPUs: 4, VCPUQuota: 4},
			}}},
			{Name: "hpc", MaxCount: ptr(50), Buckets: []Bucket{{MachineType: "Standard_HB120rs_v3", Valid: true, ActiveCount: 5, AvailableCount: ptr(45)}}},
		},
	}
	if change != nil {
		change(&s, &s.NodeArrays[0], &s.NodeArrays[0].Buckets[0])
	}
	return s
}

// spot makes the nodearray what the server reports for spot: no family quota,
// and hence nothing available.
func spot(a *NodeArray, b *Bucket) {
	a.Spot, b.FamilyQuotaCores, b.AvailableCount = true, ptr(0), ptr(0)
}

func nodesOf(array NodeArrayName, size MachineType, status, target Status, count int) []Node {
	nodes := make([]Node, count)
	for i := range nodes {
		nodes[i] = Node{NodeArray: array, MachineType: size, Status: status, TargetState: target}
	}
	return nodes
}

func TestAvailable(t *testing.T) {
	const size = "Standard_D4s_v5"
	for _, tt := range []struct {
		name    string
		change  func(*ClusterStatus, *NodeArray, *Bucket)
		want    int
		because string
	}{
		{"takes the server's number", nil, 6, "availableCount is 6"},
		{"is 0 in a bucket that is not valid", func(_ *ClusterStatus, _ *NodeArray, b *Bucket) { b.Valid, b.InvalidReason = false, "NotActivated" }, 0, "NotActivated"},
		{"is 0 where the server gives no number", func(_ *ClusterStatus, _ *NodeArray, b *Bucket) { b.AvailableCount = nil }, 0, "no availableCount"},
		{"is never negative", func(_ *ClusterStatus, _ *NodeArray, b *Bucket) { b.AvailableCount = ptr(-3) }, 0, "-3"},
		{"is the region's room for spot", func(_ *ClusterStatus, a *NodeArray, b *Bucket) { spot(a, b); b.MaxCount, a.MaxCount = ptr(40), ptr(40) }, 15, "40 of the region's 100 cores"},
		{"is the bucket's room for spot where that is less", func(_ *ClusterStatus, a *NodeArray, b *Bucket) { spot(a, b) }, 6, "the bucket holds 4 of 10"},
		{"is the nodearray's room for spot where that is less", func(_ *ClusterStatus, a *NodeArray, b *Bucket) { spot(a, b); a.MaxCount = ptr(7) }, 3, "the nodearray holds 4 of 7"},
		{"is the cluster's room for spot where that is less", func(s *ClusterStatus, a *NodeArray, b *Bucket) { spot(a, b); s.MaxCount = ptr(10) }, 1, "the cluster holds 9 of 10"},
		{"counts the cores that quota counts", func(_ *ClusterStatus, a *NodeArray, b *Bucket) { spot(a, b); b.VM.VCPUQuota = 30 }, 2, "a node takes 30"},
		{"counts virtual CPUs where quota's are unknown", func(_ *ClusterStatus, a *NodeArray, b *Bucket) { spot(a, b); b.VM = VirtualMachine{VCPUs: 20} }, 3, "a node takes 20"},
		{"is 0 for spot while Azure has no capacity", func(_ *ClusterStatus, a *NodeArray, b *Bucket) {
			spot(a, b)
			b.SinceCapacityFailure = ptr(4 * time.Minute)
		}, 0, "no capacity 4m0s ago"},
		{"is the region's room for spot once the back-off is over", func(_ *ClusterStatus, a *NodeArray, b *Bucket) {
			spot(a, b)
			b.SinceCapacityFailure = ptr(6 * time.Minute)
		}, 6, "the bucket"},
		{"is 0 for spot without the region's numbers", func(_ *ClusterStatus, a *NodeArray, b *Bucket) { spot(a, b); b.RegionalQuotaCores = nil }, 0, "no regional quota"},
		{"is 0 for spot when the region is over its quota", func(_ *ClusterStatus, a *NodeArray, b *Bucket) { spot(a, b); b.RegionalConsumedCores = ptr(140) }, 0, "140 of the region's 100"},
		{"takes the server's number for spot where it gives one", func(_ *ClusterStatus, a *NodeArray, b *Bucket) { spot(a, b); b.AvailableCount = ptr(2) }, 2, "availableCount is 2"},
		{"is 0 for a regular nodearray without family quota", func(_ *ClusterStatus, _ *NodeArray, b *Bucket) { b.FamilyQuotaCores, b.AvailableCount = ptr(0), ptr(0) }, 0, "availableCount is 0"},
		{"counts nodes that still terminate", func(s *ClusterStatus, _ *NodeArray, _ *Bucket) {
			s.HasNodes, s.Nodes = true, append(nodesOf("htc", size, StatusReady, StatusStarted, 4), nodesOf("htc", size, StatusTerminating, StatusTerminated, 3)...)
		}, 3, "the bucket holds 7 of 10"},
		{"does not count nodes that have settled", func(s *ClusterStatus, _ *NodeArray, _ *Bucket) {
			s.HasNodes, s.Nodes = true, nodesOf("htc", size, StatusDeallocated, StatusDeallocated, 9)
		}, 6, "availableCount"},
		{"counts nodes without a target state", func(s *ClusterStatus, _ *NodeArray, _ *Bucket) {
			s.HasNodes, s.Nodes = true, nodesOf("htc", size, StatusTerminated, StatusUnknown, 9)
		}, 1, "the bucket holds 9 of 10"},
		{"counts nodes of another size against the nodearray only", func(s *ClusterStatus, _ *NodeArray, _ *Bucket) {
			s.HasNodes, s.Nodes = true, nodesOf("htc", "Standard_D8s_v5", StatusReady, StatusStarted, 8)
		}, 2, "the nodearray holds 8 of 10"},
		{"does not count the scheduler", func(s *ClusterStatus, _ *NodeArray, _ *Bucket) {
			s.HasNodes, s.MaxCount = true, ptr(15)
			s.Nodes = nodesOf("", size, StatusReady, StatusStarted, 50)
		}, 6, "availableCount"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := cluster(tt.change).Available("htc", "standard_d4S_V5")
			if !ok || got.Count != tt.want || !strings.Contains(got.Because, tt.because) {
				t.Errorf("got %+v, %v; want %d because %q", got, ok, tt.want, tt.because)
			}
		})
	}
}

func TestAvailableSaysWhereThereIsNoBucket(t *testing.T) {
	s := cluster(func(_ *ClusterStatus, _ *NodeArray, b *Bucket) { b.MachineType = "" })
	for _, tt := range []struct {
		array NodeArrayName
		size  MachineType
	}{{"gpu", "Standard_HB120rs_v3"}, {"hpc", "Standard_D4s_v5"}, {"htc", ""}} {
		if got, ok := s.Available(tt.array, tt.size); ok || got.Count != 0 {
			t.Errorf("%s in %s: got %+v, %v", tt.size, tt.array, got, ok)
		}
	}
}
