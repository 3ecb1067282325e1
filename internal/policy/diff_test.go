package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/policy"
)

func fold(nodes []burst.NodeName) string { return fmt.Sprintf("%s..%s", nodes[0], nodes[len(nodes)-1]) }

func TestDiffTellsWhatChangesInTheWordsOfTheFile(t *testing.T) {
	from, err := policy.Parse([]byte(whole), expand)
	if err != nil {
		t.Fatal(err)
	}
	to, err := policy.Parse([]byte(change(t,
		"mode: shadow\n", "# now for real\n",
		"maxNodes: 5\n", "",
		"htc-[1-3]", "htc-[1-4]",
		"onDemand: 0.384", "onDemand: 0.4",
		"memory: 16GiB", "memory: 1000MiB",
		"features: [avx512, \"007\"]", "features: [avx512]",
		"      - {cron: 0 0 * * SAT, for: 48h}\n", "",
		"nodearrays: [htc, hpc]", "nodearrays: [hpc, htc]",
		"maxJobCost: 50\n", "maxJobCost: 50\n    when: job.batch\n  - {partition: local, nodearrays: [htc]}\n",
		"hard: 2000", "hard: 2500.25",
		"- {name: cfd, maxNodes: 4}", "- {name: bio, maxNodes: 4}",
	)), expand)
	if err != nil {
		t.Fatal(err)
	}
	want := []policy.Change{
		{"mode", "shadow", "active"},
		{"nodearrays[htc].nodes", "htc-1..htc-3", "htc-1..htc-4"},
		{"nodearrays[htc].price.onDemand", "0.384", "0.4"},
		{"nodearrays[htc].memory", "16GiB", "1000MiB"},
		{"nodearrays[htc].features", "avx512, 007", "avx512"},
		{"overflow[local 1].nodearrays", "htc, hpc", "hpc, htc"},
		{"overflow[local 1].when", "", "job.batch"},
		{"overflow[local 2].partition", "", "local"},
		{"overflow[local 2].nodearrays", "", "htc"},
		{"overflow[local 2].waiting.rule", "", "weighted"},
		{"overflow[local 2].waiting.kappa", "", "0.1"},
		{"budgets[cluster per month].hard", "2000", "2500.25"},
		{"accounts[bio].name", "", "bio"},
		{"accounts[bio].maxNodes", "", "4"},
		{"maxNodes", "5", ""},
		{"nodearrays[htc].schedule[2].cron", "0 0 * * SAT", ""},
		{"nodearrays[htc].schedule[2].for", "48h", ""},
		{"accounts[cfd].name", "cfd", ""},
		{"accounts[cfd].maxNodes", "4", ""},
	}
	if diff := cmp.Diff(want, policy.Diff(from, to, fold)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if changes := policy.Diff(from, from, fold); len(changes) != 0 {
		t.Errorf("a policy differs from itself: %v", changes)
	}
}

func TestTheRankOfNodearraysIsAChange(t *testing.T) {
	d, err := policy.Parse([]byte(whole), expand)
	if err != nil {
		t.Fatal(err)
	}
	other := d
	other.Nodearrays = slices.Clone(d.Nodearrays)
	slices.Reverse(other.Nodearrays)
	want := []policy.Change{{"nodearrays", "htc, hpc", "hpc, htc"}}
	if diff := cmp.Diff(want, policy.Diff(d, other, fold)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// Whatever makes another version is told, and nothing else is.
func TestDiffIsEmptyExactlyWhereVersionsAreEqual(t *testing.T) {
	from, err := policy.Parse([]byte(whole), expand)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range [][2]string{
		{"cluster: lab", "cluster: alps"},
		{"cc.example.com", "cc.example.net"},
		{"HPC Burst", "HPC"},
		{"credential: main", "credential: other"},
		{"pin: AB", "pin: CD"},
		{"maxActAge: 2m", "maxActAge: 120s"},
		{"maxActAge: 2m", "maxActAge: 3m"},
		{"Europe/Berlin", "Europe/Paris"},
		{"EUR", "USD"},
		{"first: 1m", "first: 2m"},
		{"max: 1h", "max: 2h"},
		{"partition: cloud", "partition: sky"},
		{"Standard_D4s_v5", "Standard_D8s_v5"},
		{"spot: 0.1}", "spot: 0.10}"},
		{"spot: 0.1}", "spot: 0.2}"},
		{"cpus: 4", "cpus: 8"},
		{"gpus: 1", "gpus: 2"},
		{"every: 1m", "every: 2m"},
		{"stepDown: {nodes: 1", "stepDown: {nodes: 2"},
		{"cooldownUp: 3m", "cooldownUp: 4m"},
		{"cooldownDown: 4m", "cooldownDown: 3m"},
		{"idleTimeout: 5s", "idleTimeout: 6s"},
		{"bootDeadline: 8m", "bootDeadline: 9m"},
		{"bootTime: 90s", "bootTime: 1m30s"},
		{"bootTime: 90s", "bootTime: 91s"},
		{"for: 10h", "for: 11h"},
		{"gate: closed", "gate: open"},
		{"gate: closed", "# gone"},
		{"placementGroup: pg0", "placementGroup: pg1"},
		{"maxPlacementGroup: 2", "maxPlacementGroup: 3"},
		{"partition: local", "partition: onprem"},
		{"drain: 2h", "drain: 3h"},
		{"rule: pressure, drain: 2h", "rule: weighted, kappa: 0.2"},
		{"maxJobCost: 50", "maxJobCost: 51"},
		{"soft: 1000", "soft: 1000.000000"},
		{"soft: 1000", "soft: 1001"},
		{"mediumJobCost: 20", "mediumJobCost: 21"},
		{"period: hour", "period: day"},
		{"'LAB\\root-user@lab'", "x"},
	} {
		to, err := policy.Parse([]byte(change(t, tt[0], tt[1])), expand)
		if err != nil {
			t.Errorf("%s: %v", tt[1], err)
			continue
		}
		changes := policy.Diff(from, to, fold)
		sameMeaning := slices.Contains([]string{"maxActAge: 120s", "spot: 0.10}", "bootTime: 1m30s", "soft: 1000.000000"}, tt[1])
		if (len(changes) == 0) != sameMeaning || (from.Version() == to.Version()) != sameMeaning {
			t.Errorf("from %q to %q: versions %s and %s, changes %v", tt[0], tt[1], from.Version(), to.Version(), changes)
		}
		for _, c := range changes {
			if c.Old == c.New || strings.ContainsAny(c.Path, "\n\t") {
				t.Errorf("from %q to %q: change %+v", tt[0], tt[1], c)
			}
		}
	}
}
