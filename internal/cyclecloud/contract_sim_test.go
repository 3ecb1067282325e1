package cyclecloud

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
)

// seedsOfContract are as many as it takes for the simulator to give at least
// two answers to every point that the documentation leaves open;
// TestTheSeedsMeetBothAnswersOfEveryOpenPoint holds them to it.
var seedsOfContract = []int64{1, 2, 3, 4, 5, 6, 7, 8}

const simSize = "Standard_F2s_v2"

func simConfig(seed int64) cyclecloudsim.Config {
	return cyclecloudsim.Config{
		Cluster: "My HPC 10", User: testCredential.User, Password: string(testCredential.Password), ContextPath: "/cc",
		NodeArrays: []cyclecloudsim.NodeArray{
			{Name: "htc", MachineType: simSize, MaxCount: 20, Cores: 2, MemoryGB: 4},
			{Name: "spot", MachineType: simSize, MaxCount: 10, Cores: 2, MemoryGB: 4, Spot: true},
			{Name: "disk", MachineType: simSize, MaxCount: 10, Cores: 2, MemoryGB: 4, Deallocates: true},
		},
		AcquireDelay: cyclecloudsim.Range{Max: 10 * time.Millisecond}, BootDelay: cyclecloudsim.Range{Max: 10 * time.Millisecond},
		TerminateDelay: cyclecloudsim.Range{Min: 10 * time.Millisecond, Max: 30 * time.Millisecond},
		AvailableLag:   50 * time.Millisecond, ThrottleCapacity: time.Hour, Seed: seed,
	}
}

func newSim(t *testing.T, seed int64) (*cyclecloudsim.Sim, backend) {
	t.Helper()
	sim, err := cyclecloudsim.New(simConfig(seed))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	return sim, backend{
		endpoint: "http://" + listen(t, sim.Serve) + "/cc/", cred: testCredential, options: *fastRetries(),
		cluster: "My HPC 10", array: "htc", size: simSize, patience: time.Minute, pause: 5 * time.Millisecond,
	}
}

// listen serves on a free port until the simulator is closed.
func listen(t *testing.T, serve func(net.Listener) error) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serve(listener) }()
	// Registered after sim.Close, so it would run before it: close here.
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

func TestContractOnTheSimulator(t *testing.T) {
	for _, seed := range seedsOfContract {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			sim, b := newSim(t, seed)
			t.Log(sim.Quirks())
			runContract(t, b)
			for name, scenario := range chaos {
				t.Run(name, func(t *testing.T) {
					sim, b := newSim(t, seed)
					scenario(t, sim, b)
				})
			}
		})
	}
}

func TestTheSeedsMeetBothAnswersOfEveryOpenPoint(t *testing.T) {
	met := map[string]map[string]bool{}
	for _, seed := range seedsOfContract {
		sim, err := cyclecloudsim.New(simConfig(seed))
		if err != nil {
			t.Fatal(err)
		}
		for _, point := range strings.Fields(sim.Quirks().String()) {
			name, answer, _ := strings.Cut(point, "=")
			if met[name] == nil {
				met[name] = map[string]bool{}
			}
			met[name][answer] = true
		}
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(met) < 10 {
		t.Errorf("only %d open points", len(met))
	}
	for name, answers := range met {
		if len(answers) < 2 {
			t.Errorf("%s is always %v", name, answers)
		}
	}
}

// chaos holds what only a simulator can be made to do.
var chaos = map[string]func(*testing.T, *cyclecloudsim.Sim, backend){
	"an outage never makes two nodes of one request":     chaosOutages,
	"fewer nodes than asked for are counted":             chaosPartial,
	"limits are told before and obeyed after":            chaosLimits,
	"a lack of capacity is remembered":                   chaosCapacity,
	"a node that fails says why":                         chaosFailure,
	"a node kept alive is not ended":                     chaosKeepAlive,
	"a node that was deallocated starts again":           chaosDeallocate,
	"spot has room though its family quota is 0":         chaosSpot,
	"a cluster that is not started takes no nodes":       chaosNotStarted,
	"a renewed certificate is refused until it is known": chaosCertificate,
}

// created counts the nodes of this name that the simulator ever made, from its
// own journal.
func created(sim *cyclecloudsim.Sim, name string) int {
	count := 0
	for _, entry := range sim.Journal() {
		if entry.Event == cyclecloudsim.Created && entry.Name == name {
			count++
		}
	}
	return count
}

func chaosOutages(t *testing.T, sim *cyclecloudsim.Sim, b backend) {
	for kind, want := range map[cyclecloudsim.OutageKind]string{
		cyclecloudsim.Outage401:     "denied",
		cyclecloudsim.Outage403:     "denied",
		cyclecloudsim.Outage409:     "invalid",
		cyclecloudsim.Outage429:     "",
		cyclecloudsim.Outage500:     "",
		cyclecloudsim.Outage503:     "",
		cyclecloudsim.OutageCut:     "",
		cyclecloudsim.OutageLost:    "",
		cyclecloudsim.OutageHang:    "",
		cyclecloudsim.OutageHTML:    "transient",
		cyclecloudsim.OutageNothing: "transient",
	} {
		t.Run(string(kind), func(t *testing.T) {
			if kind == cyclecloudsim.OutageHang {
				b.options.Timeout = 200 * time.Millisecond
			}
			client, req := b.client(t), b.one(newName())
			if err := sim.Outage(cyclecloudsim.Outage{Kind: kind, Requests: 1, Method: "POST"}); err != nil {
				t.Fatal(err)
			}
			_, err := client.Create(t.Context(), b.cluster, req)
			if want == "" && err != nil || want != "" && (err == nil || fault.Of(err).String() != want) {
				t.Fatalf("got %v, want %q", err, want)
			}
			b.options.Timeout = 0
			if _, err := b.client(t).Create(t.Context(), b.cluster, req); err != nil {
				t.Errorf("the caller's repeat: %v", err)
			}
			if count := created(sim, req.Sets[0].NameFormat); count != 1 {
				t.Errorf("%d nodes were made", count)
			}
		})
	}
	t.Run("a server that stays down", func(t *testing.T) {
		if err := sim.Outage(cyclecloudsim.Outage{Kind: cyclecloudsim.Outage503}); err != nil {
			t.Fatal(err)
		}
		_, err := b.client(t).Status(t.Context(), b.cluster, true)
		if !fault.Is(err, fault.Transient) || !strings.HasPrefix(err.Error(), "read status of cluster My HPC 10: answered 503") {
			t.Errorf("got %v", err)
		}
	})
}

func chaosPartial(t *testing.T, sim *cyclecloudsim.Sim, b backend) {
	client := b.client(t)
	req := CreateRequest{RequestID: newRequestID(), Sets: []CreateSet{{NodeArray: b.array, Count: 4, NameFormat: "part-%d"}}}
	if err := sim.FailNext(string(b.array), cyclecloudsim.FailPartial); err != nil {
		t.Fatal(err)
	}
	result, err := client.Create(t.Context(), b.cluster, req)
	if err != nil || result.Missing() != 2 || result.Sets[0].Added != 2 || result.Sets[0].Message == "" {
		t.Errorf("got %+v, %v, want 2 of 4 and why", result, err)
	}
	if err := sim.FailNext(string(b.array), cyclecloudsim.FailRefuse); err != nil {
		t.Fatal(err)
	}
	result, err = client.Create(t.Context(), b.cluster, b.one(newName()))
	switch {
	case err == nil && (result.Missing() != 1 || result.Sets[0].Message == ""):
		t.Errorf("got %+v, want none of 1 and why", result)
	case err != nil && !fault.Is(err, fault.Invalid):
		t.Errorf("got %v, want fault.Invalid", err)
	}
	if wantErr := sim.Quirks().AddedZero == cyclecloudsim.Conflict; wantErr != (err != nil) {
		t.Errorf("got %v from a server that answers %s", err, sim.Quirks().AddedZero)
	}
}

func chaosLimits(t *testing.T, sim *cyclecloudsim.Sim, b backend) {
	client := b.client(t)
	if err := sim.SetLimit(string(b.array), 3); err != nil {
		t.Fatal(err)
	}
	status, err := client.Status(t.Context(), b.cluster, true)
	if err != nil {
		t.Fatal(err)
	}
	if room, ok := status.Available(b.array, b.size); !ok || room.Count != 3 {
		t.Errorf("got %+v, %v, want room for 3", room, ok)
	}
	req := CreateRequest{RequestID: newRequestID(), Sets: []CreateSet{{NodeArray: b.array, Count: 5, MachineType: b.size}}}
	result, err := client.Create(t.Context(), b.cluster, req)
	if err != nil || result.Missing() != 2 || result.Sets[0].Message == "" {
		t.Fatalf("got %+v, %v, want 3 of 5", result, err)
	}
	nodes, known, err := client.NodesByRequest(t.Context(), b.cluster, req.RequestID)
	if err != nil || !known || len(nodes) != 3 {
		t.Fatalf("got %d nodes, known %v, %v", len(nodes), known, err)
	}
	// A node that terminates still takes its room; the server denies it.
	var ids []NodeID
	for _, n := range nodes {
		ids = append(ids, n.ID)
	}
	if _, err := client.Terminate(t.Context(), b.cluster, NodeRequest{RequestID: newRequestID(), IDs: ids}); err != nil {
		t.Fatal(err)
	}
	eventually(t, b, "room for 3 again", func(ctx context.Context) bool {
		status, err := client.Status(ctx, b.cluster, true)
		if err != nil {
			t.Fatal(err)
		}
		room, _ := status.Available(b.array, b.size)
		if room.Count+len(status.Nodes) > 3 {
			t.Fatalf("%d nodes are listed and there is room for %d (%s), but the limit is 3", len(status.Nodes), room.Count, room.Because)
		}
		return room.Count == 3
	})
}

func chaosCapacity(t *testing.T, sim *cyclecloudsim.Sim, b backend) {
	client, req := b.client(t), b.one(newName())
	if err := sim.FailNext(string(b.array), cyclecloudsim.FailCapacity); err != nil {
		t.Fatal(err)
	}
	if result, err := client.Create(t.Context(), b.cluster, req); err != nil || result.Missing() != 0 {
		t.Fatalf("got %+v, %v", result, err)
	}
	eventually(t, b, "the node vanishes", func(ctx context.Context) bool {
		nodes, known, err := client.NodesByRequest(ctx, b.cluster, req.RequestID)
		if err != nil || !known {
			t.Fatalf("known %v, %v: the request was accepted", known, err)
		}
		return len(nodes) == 0
	})
	status, err := client.Status(t.Context(), b.cluster, false)
	if err != nil {
		t.Fatal(err)
	}
	ago, happened := status.NodeArrays[0].Buckets[0].LastCapacityFailure()
	if !happened || ago > b.patience {
		t.Errorf("got %s, %v", ago, happened)
	}
	if room, ok := status.Available(b.array, b.size); !ok || room.Count != 0 {
		t.Errorf("got %+v, %v, want none during the back-off", room, ok)
	}
	if _, happened := status.NodeArrays[1].Buckets[0].LastCapacityFailure(); happened {
		t.Error("the other nodearray had no failure")
	}
}

func chaosFailure(t *testing.T, sim *cyclecloudsim.Sim, b backend) {
	client := b.client(t)
	if err := sim.FailNext(string(b.array), cyclecloudsim.FailInit); err != nil {
		t.Fatal(err)
	}
	node := b.make1(t, client)
	failed := b.until(t, client, node.ID, "failed", func(n Node) bool { return n.Status == StatusFailed })
	if failed.IsUp() || failed.StatusMessage == "" || failed.InstanceID == "" {
		t.Errorf("got %+v, want a message and a VM that bills", failed)
	}
}

func chaosKeepAlive(t *testing.T, sim *cyclecloudsim.Sim, b backend) {
	client := b.client(t)
	node := b.make1(t, client)
	if err := sim.SetKeepAlive(string(node.Name), true); err != nil {
		t.Fatal(err)
	}
	if kept, _ := b.find(t.Context(), t, client, node.ID); !kept.KeepAlive {
		t.Errorf("got %+v", kept)
	}
	result, err := client.Shutdown(t.Context(), b.cluster, NodeRequest{RequestID: newRequestID(), IDs: []NodeID{node.ID}})
	if err != nil || result.Nodes[0].Outcome != OutcomeRefused || result.Nodes[0].Text == "" {
		t.Errorf("got %+v, %v, want a refusal and why", result, err)
	}
	if err := sim.SetKeepAlive(string(node.Name), false); err != nil {
		t.Fatal(err)
	}
}

func chaosDeallocate(t *testing.T, _ *cyclecloudsim.Sim, b backend) {
	b.array = "disk"
	client := b.client(t)
	node := b.make1(t, client)
	act := func(what string, method func(*Client, context.Context, ClusterName, NodeRequest) (NodeResult, error)) {
		result, err := method(client, t.Context(), b.cluster, NodeRequest{RequestID: newRequestID(), IDs: []NodeID{node.ID}})
		if diff := cmp.Diff([]NodeOutcome{{ID: node.ID, Name: node.Name, Outcome: OutcomeAccepted}}, result.Nodes); err != nil || diff != "" {
			t.Fatalf("%s: %v %s", what, err, diff)
		}
	}
	deallocated := func(n Node) bool { return n.Status == StatusDeallocated && !n.IsUp() }
	b.until(t, client, node.ID, "up", Node.IsUp)
	act("shut down", (*Client).Shutdown)
	b.until(t, client, node.ID, "deallocated", deallocated)
	act("start", (*Client).Start)
	b.until(t, client, node.ID, "up again", Node.IsUp)
	act("deallocate", (*Client).Deallocate)
	b.until(t, client, node.ID, "deallocated again", Node.IsSettledDown)
}

func chaosSpot(t *testing.T, _ *cyclecloudsim.Sim, b backend) {
	b.array = "spot"
	client := b.client(t)
	status, err := client.Status(t.Context(), b.cluster, false)
	if err != nil {
		t.Fatal(err)
	}
	array := status.NodeArrays[1]
	if !array.Spot || array.Buckets[0].FamilyQuotaCores == nil || *array.Buckets[0].FamilyQuotaCores != 0 {
		t.Fatalf("got %+v", array)
	}
	if room, ok := status.Available("spot", simSize); !ok || room.Count != 10 {
		t.Errorf("got %+v, %v, want room for 10", room, ok)
	}
	if node := b.make1(t, client); !node.Spot {
		t.Errorf("got %+v", node)
	}
}

func chaosNotStarted(t *testing.T, sim *cyclecloudsim.Sim, b backend) {
	sim.SetClusterState("Started", "Terminated")
	client := b.client(t)
	status, err := client.Status(t.Context(), b.cluster, false)
	if err != nil || status.IsStarted() {
		t.Errorf("got %+v, %v", status, err)
	}
	if _, err := client.Create(t.Context(), b.cluster, b.one(newName())); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v, want fault.Invalid", err)
	}
}

func chaosCertificate(t *testing.T, sim *cyclecloudsim.Sim, b backend) {
	b.endpoint = "https://" + listen(t, sim.ServeTLS) + "/cc"
	caFile := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, sim.CertificatePEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(options ClientOptions) error {
		options.Retry = b.options.Retry
		b.options = options
		_, err := b.client(t).Status(t.Context(), b.cluster, false)
		return err
	}
	old := sim.Pin()
	for name, options := range map[string]ClientOptions{"pin": {PinSHA256: old}, "CA file": {CACertFile: caFile}} {
		if err := ask(options); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := sim.RegenerateCertificate(); err != nil {
		t.Fatal(err)
	}
	if err := ask(ClientOptions{CACertFile: caFile}); !fault.Is(err, fault.Denied) {
		t.Errorf("CA file: got %v, want fault.Denied", err)
	}
	err := ask(ClientOptions{PinSHA256: old})
	if !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), old) || !strings.Contains(err.Error(), sim.Pin()) {
		t.Errorf("pin: got %v, want fault.Denied naming both", err)
	}
	if err := ask(ClientOptions{PinSHA256: sim.Pin()}); err != nil {
		t.Errorf("the new pin: %v", err)
	}
}
