package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// series holds one number per run.
type series []float64

// median is the middle of the sorted numbers, or of the two in the middle.
func (s series) median() float64 { return percentile(s, 50) }

// spread gives the least and the greatest.
func (s series) spread() (least, most float64) { return slices.Min(s), slices.Max(s) }

// percentile interpolates between the closest ranks. Of no numbers it is NaN.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := p / 100 * float64(len(sorted)-1)
	low := int(at)
	if low+1 == len(sorted) {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// milliseconds is the unit of most figures.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// bound is what a figure must reach.
type bound struct {
	// text says it in words; empty where nothing is promised.
	text string
	met  bool
}

func promise(met bool, format string, args ...any) bound {
	return bound{text: fmt.Sprintf(format, args...), met: met}
}

func atMost(value, limit float64, unit string) bound {
	return promise(value <= limit, "at most %s", show(limit, unit))
}

func below(value, limit float64, unit string) bound {
	return promise(value < limit, "under %s", show(limit, unit))
}

func atLeast(value, limit float64, unit string) bound {
	return promise(value >= limit, "at least %s", show(limit, unit))
}

// measure is one number that was measured, with its floor of the same run.
type measure struct {
	// key names the ratio in the baseline; empty for one that is not kept there,
	// because it changes with what else the machine does. Kept are ratios of
	// CPU, of counts, and of programs that run in turns.
	key    string
	what   string
	value  series
	unit   string
	target bound
	// floor is what was measured side by side, floorIs what it is.
	floor   series
	floorIs string
	// ratio grows as things get worse; 0 for none.
	ratio float64
}

// over completes m with its floor: ratio is value over floor.
func (m measure) over(floor series, what string) measure {
	m.floor, m.floorIs, m.ratio = floor, what, m.value.median()/floor.median()
	return m
}

// rateUnder completes m, a rate, with a floor that is a higher rate.
func (m measure) rateUnder(floor series, what string) measure {
	m.floor, m.floorIs, m.ratio = floor, what, floor.median()/m.value.median()
	return m
}

// line is the measure in one line of progress.
func (m measure) line() string {
	text := m.what + ": " + m.shown(m.value)
	if len(m.floor) > 0 {
		text += fmt.Sprintf("; floor %s; ratio %.2f", m.shown(m.floor), m.ratio)
	}
	if m.target.text != "" {
		text += fmt.Sprintf("; %s: %s", m.target.text, m.verdict())
	}
	return text
}

func (m measure) verdict() string {
	switch {
	case m.target.text == "":
		return ""
	case m.target.met:
		return "met"
	}
	return "**missed**"
}

// shown is the median with the spread of the runs.
func (m measure) shown(s series) string {
	if len(s) < 2 {
		return show(s.median(), m.unit)
	}
	least, most := s.spread()
	return fmt.Sprintf("%s (%s–%s)", show(s.median(), m.unit), number(least), number(most))
}

func show(value float64, unit string) string {
	if unit == "" {
		return number(value)
	}
	return number(value) + " " + unit
}

// number writes three significant digits, and whole numbers in full.
func number(v float64) string {
	switch {
	case v == math.Trunc(v) && math.Abs(v) < 1e9, math.Abs(v) >= 1000:
		return thousands(int64(math.Round(v)))
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func thousands(n int64) string {
	if n < 0 {
		return "-" + thousands(-n)
	}
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// table writes measures as a page's table.
func table(measures []measure) string {
	var t strings.Builder
	t.WriteString("| figure | promise | measured | floor in the same run | ratio | |\n|---|---|---|---|---|---|\n")
	for _, m := range measures {
		floor, ratio := "", ""
		if len(m.floor) > 0 {
			floor = m.shown(m.floor) + ": " + m.floorIs
		}
		if m.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", m.ratio)
		}
		fmt.Fprintf(&t, "| %s | %s | %s | %s | %s | %s |\n", m.what, m.target.text, m.shown(m.value), floor, ratio, m.verdict())
	}
	return t.String()
}
