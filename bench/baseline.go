package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
			kept[m.key] = m.ratio
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

// compare holds what was measured against the baseline.
func (b *bench) compare() error {
	text, err := os.ReadFile(b.baselinePath())
	if err != nil {
		return fmt.Errorf("read baseline: %w", err)
	}
	var baseline map[string]float64
	if err := json.Unmarshal(text, &baseline); err != nil {
		return fmt.Errorf("read baseline: %w", err)
	}
	err = regressions(baseline, ratios(b.results))
	if err == nil {
		fmt.Fprintf(b.out, "no ratio is more than %.0f times the baseline's\n", worse)
	}
	return err
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
			problems = append(problems, fmt.Errorf("%s: not in the baseline: run with --short --update-baseline", key))
		}
	}
	return errors.Join(problems...)
}
