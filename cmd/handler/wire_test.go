package main

import (
	"os"
	"strings"
	"testing"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/policy"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

func TestAnAppliedPolicyMustLeadToTheSameCycleCloud(t *testing.T) {
	const file = "../../examples/policy.yaml"
	docs, err := policy.LoadPath(file, slurm.ParseHostlist)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text, parse := string(raw), successor(docs[0])
	next := strings.Replace(text, "maxActAge:", "# a comment\nmaxActAge:", 1)
	got, err := parse(next)
	if err != nil || got.Version != docs[0].Version() {
		t.Errorf("the same policy with a comment: %v, version %q", err, got.Version)
	}
	for name, changed := range map[string]string{
		"another cluster": strings.Replace(text, "cluster: "+string(docs[0].Cluster), "cluster: elsewhere", 1),
		"another server":  strings.Replace(text, docs[0].CycleCloud.URL, "https://cyclecloud.elsewhere.example", 1),
		"no policy":       "nodearrays: 7\n",
	} {
		if changed == text {
			t.Fatalf("%s: the example does not hold what is to be replaced", name)
		}
		if _, err := parse(changed); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
