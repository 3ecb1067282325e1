package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
)

// worse is the factor by which a ratio may exceed the baseline's. It is wide:
// CI's machines are busy, and this is for mistakes that matter.
const worse = 2.0

// ratios gives the numbers that a baseline keeps.
func ratios(measures []measure) map[string]float64 {
	kept := map[string]float64{}
	for _, m := range measures {
		if m.key != "" && m.ratio > 0 {
			kept[m.key] = math.Round(100*m.ratio) / 100
		}
	}
	return kept
}

// writeBaseline replaces the baseline by what was just measured.
func writeBaseline(path string, measures []measure) error {
	text, err := json.MarshalIndent(ratios(measures), "", "  ") // keys are sorted
	if err != nil {
		return fmt.Errorf("encode baseline: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write baseline: %w", err)
	}
	return nil
}

// judge holds what was measured against the baseline. What seems worse is
// measured once more and has to be worse again: a machine that was busy with
// something else for a while is no regression.
func (b *bench) judge(ctx context.Context, chosen []section) error {
	baseline, err := readBaseline(b.baselinePath())
	if err != nil {
		return err
	}
	now := ratios(b.results)
	if err = regressions(baseline, now); err != nil {
		b.say("once more, because of: %v", err)
		b.results = nil
		if err := b.measureAll(ctx, chosen); err != nil {
			return err
		}
		fmt.Fprintf(b.out, "\n%s\n", table(b.results))
		err = regressions(baseline, better(now, ratios(b.results)))
	}
	if err == nil {
		fmt.Fprintf(b.out, "no ratio is more than %.0f times the baseline's\n", worse)
	}
	return err
}

// better gives the smaller ratio of two runs. One that a run lacks is lacking.
func better(first, second map[string]float64) map[string]float64 {
	both := map[string]float64{}
	for key, ratio := range first {
		if again, measured := second[key]; measured {
			both[key] = min(ratio, again)
		}
	}
	return both
}

func readBaseline(path string) (map[string]float64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read baseline: %w", err)
	}
	var baseline map[string]float64
	if err := json.Unmarshal(text, &baseline); err != nil {
		return nil, fmt.Errorf("read baseline: %w", err)
	}
	return baseline, nil
}

// regressions names each ratio that got worse, and each that one side lacks: a
// figure that silently vanishes would never fail again.
func regressions(baseline, now map[string]float64) error {
	var problems []error
	for _, key := range slices.Sorted(maps.Keys(baseline)) {
		ratio, measured := now[key]
		switch {
		case !measured:
			problems = append(problems, fmt.Errorf("%s: in the baseline and not measured", key))
		case !(ratio <= worse*baseline[key]): // also what is no number
			problems = append(problems, fmt.Errorf("%s: the ratio is %.2f, more than %.0f times the baseline's %.2f", key, ratio, worse, baseline[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if _, known := baseline[key]; !known {
			problems = append(problems, fmt.Errorf("%s: not in the baseline: run with --update-baseline", key))
		}
	}
	return errors.Join(problems...)
}
