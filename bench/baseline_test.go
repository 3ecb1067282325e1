package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// measured runs the two sections that need no services, with every subject
// doing its work so many times. It gives the ratios of CPU time: other tests run
// beside this one, and what waits for its turn says nothing of the work.
func measured(t *testing.T, b *bench, times int) map[string]float64 {
	t.Helper()
	b.effort, b.times, b.results = effort{runs: 3, samples: 15}, times, nil
	if err := b.decideCPU(t.Context(), 10_000); err != nil {
		t.Fatal(err)
	}
	if err := measureHook(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	found := ratios(b.results)
	maps.DeleteFunc(found, func(key string, _ float64) bool { return !strings.HasSuffix(key, "_cpu") })
	return found
}

func TestTheComparisonNoticesThreeTimesTheWorkAndNotTheSameWork(t *testing.T) {
	b, err := newBench(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(b.dir)
	if err := b.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	baseline := measured(t, b, 1)
	if err := regressions(baseline, measured(t, b, 1)); err != nil {
		t.Errorf("the same work is a regression: %v", err)
	}
	err = regressions(baseline, measured(t, b, 3))
	for _, key := range []string{"decide_cpu", "hook_cpu"} {
		if err == nil || !strings.Contains(err.Error(), key+": the ratio is") {
			t.Errorf("three times the work of %s was not noticed: %v", key, err)
		}
	}
}

// again is a section that measures the same ratios each time it runs.
func again(hook ...float64) []section {
	run := 0
	return []section{{name: "again", run: func(_ context.Context, b *bench) error {
		if hook[run] > 0 {
			b.add(measure{key: "hook", what: "hook", value: series{hook[run]}}.over(series{1}, "floor"))
		}
		run++
		return nil
	}}}
}

func TestWhatSeemsWorseHasToBeSoTwice(t *testing.T) {
	b := &bench{root: t.TempDir(), out: t.Output()}
	if err := os.Mkdir(filepath.Join(b.root, "bench"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.judge(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "read baseline") {
		t.Errorf("without a baseline: %v", err)
	}
	kept := []measure{
		measure{key: "hook", value: series{30}}.over(series{20}, "floor"),
		{what: "without a floor", value: series{1}},
		measure{what: "not kept", value: series{9}}.over(series{1}, "floor"),
	}
	if err := writeBaseline(b.baselinePath(), kept); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(b.baselinePath())
	if err != nil || string(text) != "{\n  \"hook\": 1.5\n}\n" {
		t.Errorf("%v: %s", err, text)
	}
	for _, c := range []struct {
		name string
		runs []float64
		want string // part of the error; empty for none
	}{
		{"good at once", []float64{3}, ""},
		{"worse, then good", []float64{3.1, 1.5}, ""},
		{"worse twice", []float64{3.2, 3.1}, "hook: the ratio is 3.10, more than 2 times the baseline's 1.50"},
		{"lacking, then good", []float64{0, 1.5}, "hook: in the baseline and not measured"},
		{"worse, then lacking", []float64{9, 0}, "hook: in the baseline and not measured"},
	} {
		t.Run(c.name, func(t *testing.T) {
			chosen := again(c.runs...)
			b.results = nil
			if err := b.measureAll(t.Context(), chosen); err != nil {
				t.Fatal(err)
			}
			err := b.judge(t.Context(), chosen)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}
