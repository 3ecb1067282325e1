package reconcile_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/reconcile"
	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
)

// hands is a clock for the simulator that the model moves.
type hands struct {
	now   func() time.Time
	mu    sync.Mutex
	alarm []alarm
}

type alarm struct {
	at time.Time
	f  func()
}

func (h *hands) Now() time.Time { return h.now() }

func (h *hands) AfterFunc(d time.Duration, f func()) func() bool {
	a := alarm{h.now().Add(d), f}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alarm = append(h.alarm, a)
	return func() bool { return true } // the simulator ignores one that was overtaken
}

// ring lets everything happen that is due.
func (h *hands) ring() {
	for f := h.next(); f != nil; f = h.next() {
		f()
	}
}

func (h *hands) next() func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.alarm, func(a alarm) bool { return !a.at.After(h.now()) })
	if i < 0 {
		return nil
	}
	f := h.alarm[i].f
	h.alarm = slices.Delete(h.alarm, i, i+1)
	return f
}

// onSimulator puts the simulator, over HTTP and through the real client, in the
// place of the model's own CycleCloud.
func (m *model) onSimulator(seed int64) *cyclecloudsim.Sim {
	m.t.Helper()
	clock := &hands{now: func() time.Time { return m.now }}
	size := m.policy.Nodearrays[0].MachineType
	sim, err := cyclecloudsim.New(cyclecloudsim.Config{
		Cluster: "Burst", User: "slurmburst", Password: "not-a-password", Seed: seed, Clock: clock,
		NodeArrays:   []cyclecloudsim.NodeArray{{Name: "htc", MachineType: size, MaxCount: 8, Cores: 4, MemoryGB: 8}},
		AcquireDelay: cyclecloudsim.Range{Max: 10 * time.Second}, BootDelay: cyclecloudsim.Range{Max: 30 * time.Second},
		TerminateDelay: cyclecloudsim.Range{Min: time.Second, Max: 40 * time.Second}, VanishLag: cyclecloudsim.Range{Max: 20 * time.Second},
		AvailableLag: 15 * time.Second, ThrottleCapacity: 5 * time.Minute,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	server := httptest.NewServer(sim.Handler())
	m.t.Cleanup(func() {
		server.Close()
		if err := sim.Close(); err != nil {
			m.t.Error(err)
		}
	})
	client, err := cyclecloud.NewClient(server.URL, cyclecloud.Credential{User: "slurmburst", Password: "not-a-password"}, &cyclecloud.ClientOptions{
		ClientOptions: azpolicy.ClientOptions{Retry: azpolicy.RetryOptions{MaxRetries: -1}, Transport: http.DefaultClient},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.rec = m.process(m.ledger, client, m.outbox)
	ids := map[string]string{}
	m.follow = func() {
		clock.ring()
		clear(m.cloud.nodes)
		listed := map[string]bool{}
		for _, n := range sim.Nodes() {
			listed[n.Name] = true
			status := cyclecloud.ParseStatus(n.Status)
			m.cloud.nodes[n.Name] = cyclecloud.Node{ID: cyclecloud.NodeID(n.NodeID), Name: cyclecloud.NodeName(n.Name), Status: status, StatusText: n.Status}
			if ids[n.Name] != n.NodeID {
				ids[n.Name] = n.NodeID
				m.cloud.ids++
				m.born[n.Name] = m.now
				delete(m.left, n.Name)
			}
			if s := m.states[n.Name]; status == cyclecloud.StatusTerminating && (s == "busy" || s == "idle") {
				m.breaks("the VM of %s is terminated while Slurm says %s", n.Name, s)
			}
		}
		for name := range m.born {
			if !listed[name] {
				delete(m.born, name)
				if m.states[name] == "busy" {
					m.breaks("the VM of %s is gone under its job", name)
				}
			}
		}
		if len(m.born) > m.policy.Nodearrays[0].MaxNodes {
			m.breaks("%d VMs where %d may be", len(m.born), m.policy.Nodearrays[0].MaxNodes)
		}
	}
	return sim
}

var _ reconcile.CycleCloud = (*cyclecloud.Client)(nil)

// The whole loop on the real client and the simulator, whichever way it answers
// what CycleCloud's documentation leaves open.
func TestTheLoopOnTheSimulator(t *testing.T) {
	for seed := range int64(8) {
		t.Run(fmt.Sprintf("seed %d", seed+1), func(t *testing.T) {
			m := newModel(t, 5)
			sim := m.onSimulator(seed + 1)
			m.finish(t.Context(), 5)
			if vms := sim.VMs(); len(vms) > 0 {
				t.Errorf("VMs are left: %+v", vms)
			}
			if m.cloud.ids < 3 || m.cloud.ids > 5 {
				t.Errorf("%d VMs were made for 5 jobs on at most 3 nodes", m.cloud.ids)
			}
			if t.Failed() {
				t.Log(sim.Quirks())
			}
		})
	}
}

// CycleCloud refuses, runs out of machines, fails to boot or loses a VM that
// boots: jobs wait, nothing is left over.
func TestTheLoopOnASimulatorThatFails(t *testing.T) {
	for i, kind := range []cyclecloudsim.FailKind{
		cyclecloudsim.FailRefuse, cyclecloudsim.FailPartial, cyclecloudsim.FailCapacity, cyclecloudsim.FailSKU, cyclecloudsim.FailInit,
	} {
		for seed := range int64(3) {
			t.Run(fmt.Sprintf("%s seed %d", kind, seed+1), func(t *testing.T) {
				m := newModel(t, 3)
				sim := m.onSimulator(seed*10 + int64(i) + 1)
				if err := sim.FailNext("htc", kind); err != nil {
					t.Fatal(err)
				}
				m.finish(t.Context(), 3)
				if vms := sim.VMs(); len(vms) > 0 {
					t.Errorf("VMs are left: %+v", vms)
				}
				if t.Failed() {
					t.Log(sim.Quirks())
				}
			})
		}
	}
}
