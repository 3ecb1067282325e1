package main

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/slurm"
)

func TestPercentilesInterpolateAndTakeTheEnds(t *testing.T) {
	values := []float64{40, 10, 30, 20}
	for _, c := range []struct{ p, want float64 }{{0, 10}, {50, 25}, {100, 40}, {90, 37}} {
		if got := percentile(values, c.p); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("percentile %v: got %v, want %v", c.p, got, c.want)
		}
	}
	if !math.IsNaN(percentile(nil, 50)) {
		t.Error("no values have a percentile")
	}
	if diff := cmp.Diff([]float64{40, 10, 30, 20}, values); diff != "" {
		t.Errorf("the values were sorted in place:\n%s", diff)
	}
}

func TestARatioThatDoublesIsARegression(t *testing.T) {
	baseline := map[string]float64{"hook": 1.2, "start": 3}
	for _, c := range []struct {
		name string
		now  map[string]float64
		want []string // parts of the error; none for no error
	}{
		{"the same ratios pass", map[string]float64{"hook": 1.2, "start": 3}, nil},
		{"twice the ratio is just allowed", map[string]float64{"hook": 2.4, "start": 3}, nil},
		{"more than twice fails", map[string]float64{"hook": 2.5, "start": 3}, []string{"hook: the ratio is 2.50"}},
		{"both are named", map[string]float64{"hook": 9, "start": 9}, []string{"hook", "start"}},
		{"a ratio that is no number fails", map[string]float64{"hook": math.NaN(), "start": 3}, []string{"hook"}},
		{"a figure that vanished fails", map[string]float64{"hook": 1}, []string{"start: in the baseline and not measured"}},
		{"a figure without a baseline fails", map[string]float64{"hook": 1, "start": 1, "new": 1}, []string{"new: not in the baseline"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := regressions(baseline, c.now)
			if len(c.want) == 0 && err != nil {
				t.Error(err)
			}
			for _, part := range c.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("got %v, want %q in it", err, part)
				}
			}
		})
	}
}

func TestRatiosGrowAsThingsGetWorse(t *testing.T) {
	slow := measure{value: series{30}}.over(series{10}, "floor")
	rare := measure{value: series{10}}.rateUnder(series{30}, "floor")
	if slow.ratio != 3 || rare.ratio != 3 {
		t.Errorf("three times slower is %v, a third of the rate is %v: want 3 for both", slow.ratio, rare.ratio)
	}
}

func TestGrowthIsTheSlopePerSecond(t *testing.T) {
	var flat, rising []float64
	for i := range 60 {
		flat, rising = append(flat, float64(10+i%2)), append(rising, float64(5*i))
	}
	if got := growth(flat); math.Abs(got) > 0.02 {
		t.Errorf("a backlog that goes up and down grows by %v", got)
	}
	if got := growth(rising); math.Abs(got-5) > 1e-9 {
		t.Errorf("a backlog that grows by 5 each second grows by %v", got)
	}
}

func TestWhatPeopleWroteOnThePageIsKept(t *testing.T) {
	if got := notes("# Title\n\nold numbers\n\n" + notesHeading + "\n\nThe disk.\n"); got != notesHeading+"\n\nThe disk.\n" {
		t.Errorf("got %q", got)
	}
	if got := notes("# Title\n"); got != notesHeading+"\n" {
		t.Errorf("a page without notes gives %q", got)
	}
}

func TestScatteredNamesAreThatMany(t *testing.T) {
	names, err := slurm.ParseHostlist(scattered(10_000))
	if err != nil || len(names) != 10_000 || slurm.FormatHostlist(names) != scattered(10_000) {
		t.Errorf("%d names, or a shorter way to write them: %v", len(names), err)
	}
}

func TestTheSituationHasEveryNodeOnce(t *testing.T) {
	_, policy, facts := situation(1000)
	owned := 0
	for _, array := range policy.Nodearrays {
		owned += len(array.Nodes)
	}
	if len(facts.Nodes) != 1000 || owned != 1000 || len(index(facts.Nodes)) != 1000 {
		t.Errorf("%d facts, %d names in the policy", len(facts.Nodes), owned)
	}
}

func TestNumbersAreReadable(t *testing.T) {
	for value, want := range map[float64]string{0: "0", 3: "3", 1.234: "1.23", 12.345: "12.3", 123.4: "123", 1234.5: "1,235", 20000: "20,000", 1234567: "1,234,567", -2500: "-2,500"} {
		if got := number(value); got != want {
			t.Errorf("%v: got %s, want %s", value, got, want)
		}
	}
}

func TestAChangedHostJSONKeepsTheRest(t *testing.T) {
	shipped, err := os.ReadFile("../host.json")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := withServiceBus(shipped, map[string]any{"maxConcurrentSessions": 128})
	if err != nil {
		t.Fatal(err)
	}
	var before, after map[string]any
	if err := errors.Join(json.Unmarshal(shipped, &before), json.Unmarshal(changed, &after)); err != nil {
		t.Fatal(err)
	}
	before["extensions"].(map[string]any)["serviceBus"].(map[string]any)["maxConcurrentSessions"] = 128.0
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("host.json differs (-want +got):\n%s", diff)
	}
	if _, err := withServiceBus(shipped, map[string]any{"maxSessions": 1}); err == nil {
		t.Error("a setting that host.json does not have was set")
	}
}
