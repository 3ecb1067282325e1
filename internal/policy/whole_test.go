package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/policy"
)

// whole gives every key of the file.
const whole = `version: 1
cluster: lab
cyclecloud:
  url: https://cc.example.com:8443/
  cluster: HPC Burst
  credential: main
  pin: ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB
mode: shadow
maxActAge: 2m
maxNodes: 5
timeZone: Europe/Berlin
currency: EUR
breaker: {first: 1m, max: 1h}
nodearrays:
  - name: htc
    partition: cloud
    nodes: htc-[1-3]
    machineType: Standard_D4s_v5
    spot: true
    price: {onDemand: 0.384, spot: 0.1}
    cpus: 4
    memory: 16GiB
    gpus: 1
    features: [avx512, "007"]
    maxNodes: 2
    stepUp: {nodes: 2, every: 1m}
    stepDown: {nodes: 1, every: 2m}
    cooldownUp: 3m
    cooldownDown: 4m
    idleTimeout: 5s
    bootDeadline: 10m
    bootTime: 90s
    schedule:
      - {cron: 0 20 * * MON-FRI, for: 10h}
      - {cron: 0 0 * * SAT, for: 48h}
    gate: closed
  - name: hpc
    partition: mpi
    nodes: hpc-[1-2]
    machineType: Standard_HB120rs_v3
    price: {onDemand: "3.6"}
    placementGroup: pg0
    maxPlacementGroup: 2
    maxNodes: 2
    idleTimeout: 10m
    bootDeadline: 8m
overflow:
  - partition: local
    nodearrays: [htc, hpc]
    waiting: {rule: pressure, drain: 2h}
    maxJobCost: 50
budgets:
  - {scope: cluster, period: month, soft: 1000, medium: 1500.50, mediumJobCost: 20, hard: 2000}
  - {scope: nodearray, name: hpc, period: day, hard: 100}
  - {scope: account, name: cfd, period: hour, soft: 0.000001}
accounts:
  - {name: cfd, maxNodes: 4}
users:
  - {name: "*", maxNodes: 2}
  - {name: 'LAB\root-user@lab'}
`

func TestParseFillsEveryField(t *testing.T) {
	got, err := policy.Parse([]byte(whole), expand)
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Document{
		Cluster: "lab",
		CycleCloud: policy.CycleCloud{
			URL:        "https://cc.example.com:8443",
			Cluster:    "HPC Burst",
			Credential: "main",
			Pin:        strings.Repeat("ab", 32),
		},
		Mode:      policy.ModeShadow,
		MaxActAge: 2 * time.Minute,
		MaxNodes:  5,
		TimeZone:  "Europe/Berlin",
		Currency:  "EUR",
		Breaker:   policy.Breaker{First: time.Minute, Max: time.Hour},
		Nodearrays: []policy.Nodearray{{
			Name:         "htc",
			Partition:    "cloud",
			Nodes:        []burst.NodeName{"htc-1", "htc-2", "htc-3"},
			MachineType:  "Standard_D4s_v5",
			Spot:         true,
			Price:        policy.Price{OnDemand: 384_000, Spot: 100_000},
			CPUs:         4,
			MemoryMiB:    16 << 10,
			GPUs:         1,
			Features:     []string{"avx512", "007"},
			MaxNodes:     2,
			StepUp:       policy.Step{Nodes: 2, Every: time.Minute},
			StepDown:     policy.Step{Nodes: 1, Every: 2 * time.Minute},
			CooldownUp:   3 * time.Minute,
			CooldownDown: 4 * time.Minute,
			IdleTimeout:  5 * time.Second,
			BootDeadline: 10 * time.Minute,
			BootTime:     90 * time.Second,
			Schedule:     []policy.Opening{{Cron: "0 20 * * MON-FRI", For: 10 * time.Hour}, {Cron: "0 0 * * SAT", For: 48 * time.Hour}},
			Gate:         policy.GateClosed,
		}, {
			Name:              "hpc",
			Partition:         "mpi",
			Nodes:             []burst.NodeName{"hpc-1", "hpc-2"},
			MachineType:       "Standard_HB120rs_v3",
			Price:             policy.Price{OnDemand: 3_600_000},
			PlacementGroup:    "pg0",
			MaxPlacementGroup: 2,
			MaxNodes:          2,
			IdleTimeout:       10 * time.Minute,
			BootDeadline:      8 * time.Minute,
			BootTime:          4 * time.Minute,
			Gate:              policy.GateOpen,
		}},
		Overflow: []policy.Overflow{{
			Partition: "local", Nodearrays: []burst.NodearrayName{"htc", "hpc"},
			Waiting: policy.Waiting{Rule: burst.WaitingPressure, Drain: 2 * time.Hour}, MaxJobCost: 50_000_000,
		}},
		Budgets: []policy.Budget{
			{Scope: burst.ScopeCluster, Period: burst.Month, Soft: 1000_000_000, Medium: 1500_500_000, MediumJobCost: 20_000_000, Hard: 2000_000_000},
			{Scope: burst.ScopeNodearray, Name: "hpc", Period: burst.Day, Hard: 100_000_000},
			{Scope: burst.ScopeAccount, Name: "cfd", Period: burst.Hour, Soft: 1},
		},
		Accounts: []policy.Share{{Name: "cfd", MaxNodes: 4}},
		Users:    []policy.Share{{Name: "*", MaxNodes: 2}, {Name: `LAB\root-user@lab`}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(policy.Document{}, policy.Nodearray{}, policy.Overflow{})); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
}

func TestBurstIsTheDocumentInTheCoresTerms(t *testing.T) {
	d, err := policy.Parse([]byte(whole), expand)
	if err != nil {
		t.Fatal(err)
	}
	want := burst.Policy{
		Version: d.Version(), Cluster: "lab", Shadow: true, MaxActAge: 2 * time.Minute, MaxNodes: 5,
		Nodearrays: []burst.Nodearray{{
			Name: "htc", Partition: "cloud", Nodes: []burst.NodeName{"htc-1", "htc-2", "htc-3"}, MachineType: "Standard_D4s_v5",
			CPUs: 4, MemoryMiB: 16 << 10, GPUs: 1, Features: []string{"avx512", "007"}, Spot: true, Price: 100_000, MaxNodes: 2,
			StepUp: burst.Step{Nodes: 2, Every: time.Minute}, StepDown: burst.Step{Nodes: 1, Every: 2 * time.Minute},
			CooldownUp: 3 * time.Minute, CooldownDown: 4 * time.Minute,
			IdleTimeout: 5 * time.Second, BootDeadline: 10 * time.Minute, BootTime: 90 * time.Second, Gated: true,
		}, {
			Name: "hpc", Partition: "mpi", Nodes: []burst.NodeName{"hpc-1", "hpc-2"}, MachineType: "Standard_HB120rs_v3",
			PlacementGroup: "pg0", MaxPlacementGroup: 2, Price: 3_600_000, MaxNodes: 2,
			IdleTimeout: 10 * time.Minute, BootDeadline: 8 * time.Minute, BootTime: 4 * time.Minute,
		}},
		Overflow: []burst.Overflow{{
			Partition: "local", Nodearrays: []burst.NodearrayName{"htc", "hpc"},
			Waiting: burst.Waiting{Rule: burst.WaitingPressure, Drain: 2 * time.Hour}, MaxJobCost: 50_000_000,
		}},
		Budgets: []burst.Budget{
			{Scope: burst.ScopeCluster, Period: burst.Month, Soft: 1000_000_000, Medium: 1500_500_000, MediumJobCost: 20_000_000, Hard: 2000_000_000},
			{Scope: burst.ScopeNodearray, Name: "hpc", Period: burst.Day, Hard: 100_000_000},
			{Scope: burst.ScopeAccount, Name: "cfd", Period: burst.Hour, Soft: 1},
		},
		Accounts: []burst.Share{{Name: "cfd", MaxNodes: 4}},
		Users:    []burst.Share{{Name: "", MaxNodes: 2}, {Name: `LAB\root-user@lab`}},
		Breaker:  burst.BreakerPolicy{First: time.Minute, Max: time.Hour},
	}
	core := d.Burst()
	if core.Zone.String() != "Europe/Berlin" {
		t.Errorf("the zone is %v", core.Zone)
	}
	if core.Nodearrays[0].Window == nil || core.Nodearrays[1].Window != nil {
		t.Error("windows are not those of the nodearrays")
	}
	if diff := cmp.Diff(want, core, cmpopts.IgnoreTypes(&time.Location{}), cmpopts.IgnoreInterfaces(struct{ burst.Window }{})); diff != "" {
		t.Errorf("core policy (-want +got):\n%s", diff)
	}
	core.Nodearrays[0].Nodes[0], core.Overflow[0].Nodearrays[0], core.Nodearrays[0].Features[0] = "changed", "changed", "changed"
	if diff := cmp.Diff(want.Nodearrays[0].Nodes, d.Burst().Nodearrays[0].Nodes); diff != "" {
		t.Errorf("Burst shares its nodes with the document:\n%s", diff)
	}
	if d.Overflow[0].Nodearrays[0] != "htc" || d.Nodearrays[0].Features[0] != "avx512" {
		t.Error("Burst shares its lists with the document")
	}
}

func TestBurstOfAnOldFileBoundsNothingNew(t *testing.T) {
	d, err := policy.Parse([]byte(sound), expand)
	if err != nil {
		t.Fatal(err)
	}
	want := burst.Policy{
		Version: d.Version(), Cluster: "lab", MaxActAge: 90 * time.Second,
		Nodearrays: []burst.Nodearray{{
			Name: "htc", Partition: "cloud", Nodes: []burst.NodeName{"htc-1", "htc-2", "htc-3"}, MachineType: "Standard_D4s_v5",
			MaxNodes: 2, IdleTimeout: 5 * time.Second, BootDeadline: 10 * time.Minute, BootTime: 5 * time.Minute,
		}},
		Breaker: burst.BreakerPolicy{First: 5 * time.Minute, Max: 2 * time.Hour},
	}
	if diff := cmp.Diff(want, d.Burst()); diff != "" {
		t.Errorf("core policy (-want +got):\n%s", diff)
	}
}

// rule is a file with one overflow rule.
func rule(lines ...string) string {
	return sound + "overflow:\n  - partition: local\n    nodearrays: [htc]\n    " + strings.Join(lines, "\n    ") + "\n"
}

func TestWaitingRules(t *testing.T) {
	for text, want := range map[string]burst.Waiting{
		"maxJobCost: 5":                                   {Rule: burst.WaitingWeighted, Kappa: 0.1},
		"waiting: {}":                                     {Rule: burst.WaitingWeighted, Kappa: 0.1},
		"waiting: {kappa: 2.5}":                           {Rule: burst.WaitingWeighted, Kappa: 2.5},
		"waiting: {rule: weighted, kappa: 0.1}":           {Rule: burst.WaitingWeighted, Kappa: 0.1},
		"waiting: {rule: immediate}":                      {Rule: burst.WaitingImmediate},
		"waiting: {rule: wait, wait: 10m}":                {Rule: burst.WaitingWait, Wait: 10 * time.Minute},
		"waiting:\n      rule: pressure\n      drain: 1h": {Rule: burst.WaitingPressure, Drain: time.Hour},
	} {
		file := strings.Replace(rule(text), "    machineType", "    price: {onDemand: 1}\n    machineType", 1)
		d, err := policy.Parse([]byte(file), expand)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, d.Burst().Overflow[0].Waiting); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}
