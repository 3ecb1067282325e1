package slurm

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// TimeLimit is a length of time that Slurm may leave open: a job's limit, a
// partition's MaxTime, a SuspendTime. Limits compare as numbers.
type TimeLimit time.Duration

const (
	// LimitNotSet means that Slurm named no value; another setting applies
	// (the partition's limit to a job, the global SuspendTime to a
	// partition). It is the zero value.
	LimitNotSet TimeLimit = 0
	// Unlimited is UNLIMITED or INFINITE; it is longer than every other.
	Unlimited TimeLimit = math.MaxInt64
)

// Duration gives the length; ok is false for LimitNotSet and Unlimited.
func (l TimeLimit) Duration() (d time.Duration, ok bool) {
	return time.Duration(l), l != LimitNotSet && l != Unlimited
}

// String gives the length as Go writes durations, or "unlimited", "not set".
func (l TimeLimit) String() string {
	switch l {
	case LimitNotSet:
		return "not set"
	case Unlimited:
		return "unlimited"
	}
	return time.Duration(l).String()
}

// maxLimitDays keeps a limit far below Unlimited.
const maxLimitDays = 100_000

// ParseTimeLimit reads what Slurm prints for a length of time: "5:00" (minutes
// and seconds), "1:00:00", "7-00:00:00", "900", "900 sec", "UNLIMITED",
// "INFINITE", and "NOT_SET", "NONE", "GLOBAL", "N/A" for LimitNotSet.
func ParseTimeLimit(text string) (TimeLimit, error) {
	limit, ok := parseTimeLimit([]byte(text))
	if !ok {
		return LimitNotSet, fmt.Errorf("%s is no time limit", quoteBounded(text))
	}
	return limit, nil
}

func parseTimeLimit(text []byte) (TimeLimit, bool) {
	switch string(text) {
	case "UNLIMITED", "INFINITE", "-1":
		return Unlimited, true
	case "", "NOT_SET", "NONE", "GLOBAL", "N/A", "n/a", "(null)", "Partition_Limit":
		return LimitNotSet, true
	}
	if seconds, found := bytes.CutSuffix(text, []byte(" sec")); found {
		text = seconds
	}
	var days int64
	clock := text
	if before, after, found := bytes.Cut(text, []byte("-")); found {
		n, ok := parseInt(before)
		if !ok || n > maxLimitDays {
			return LimitNotSet, false
		}
		days, clock = n, after
	}
	var total int64
	for parts := 1; ; parts++ {
		head, rest, more := bytes.Cut(clock, []byte(":"))
		n, ok := parseInt(head)
		if !ok || parts > 3 {
			return LimitNotSet, false
		}
		total = total*60 + n
		if !more {
			break
		}
		clock = rest
	}
	total += days * 86400
	if total > maxLimitDays*86400 {
		return LimitNotSet, false
	}
	return TimeLimit(total * int64(time.Second)), true
}

// parseInt reads up to 12 decimal digits and nothing else.
func parseInt(text []byte) (int64, bool) {
	if len(text) == 0 || len(text) > 12 {
		return 0, false
	}
	var n int64
	for _, c := range text {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// parseCount reads a number of nodes, CPUs or tasks. Slurm prints a range
// ("2-4") where a job asked for one: the smaller is what it needs.
func parseCount(text []byte) (int, bool) {
	if isAbsent(text) {
		return 0, true
	}
	if before, _, found := bytes.Cut(text, []byte("-")); found {
		text = before
	}
	n, ok := parseSize(text)
	return int(n), ok
}

// parseSize reads a number that may carry one of Slurm's unit letters, powers
// of 1024, with or without a fraction: "16", "1K", "62.50G".
func parseSize(text []byte) (int64, bool) {
	factor := 1.0
	if len(text) > 0 {
		switch text[len(text)-1] {
		case 'K', 'k':
			factor = 1 << 10
		case 'M', 'm':
			factor = 1 << 20
		case 'G', 'g':
			factor = 1 << 30
		case 'T', 't':
			factor = 1 << 40
		case 'P', 'p':
			factor = 1 << 50
		}
	}
	if factor == 1 {
		if n, ok := parseInt(text); ok {
			return n, true
		}
	} else {
		text = text[:len(text)-1]
	}
	if len(text) > 20 || bytes.IndexFunc(text, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }) >= 0 {
		return 0, false
	}
	value, err := strconv.ParseFloat(string(text), 64)
	if err != nil || value*factor > 1<<60 {
		return 0, false
	}
	return int64(value * factor), true
}

// parseMegabytes reads a size of memory: "500M", "2G", or a bare number of
// megabytes.
func parseMegabytes(text []byte) (int64, bool) {
	if isAbsent(text) {
		return 0, true
	}
	n, ok := parseSize(text)
	if !ok {
		return 0, false
	}
	if isDigit(text[len(text)-1]) {
		return n, true
	}
	return n >> 20, true
}

// parseTime reads seconds since 1970, or 2026-11-23T13:50:09 in UTC, or one of
// Slurm's words for no time, which gives the zero time.
func parseTime(text []byte) (time.Time, bool) {
	if n, ok := parseInt(text); ok {
		if n == 0 {
			return time.Time{}, true
		}
		return time.Unix(n, 0).UTC(), true
	}
	switch string(text) {
	case "", "N/A", "n/a", "Unknown", "NONE", "None", "(null)", "Never":
		return time.Time{}, true
	}
	at, err := time.Parse("2006-01-02T15:04:05", string(text))
	return at, err == nil
}

func isAbsent(text []byte) bool {
	switch string(text) {
	case "", "(null)", "N/A", "n/a":
		return true
	}
	return false
}

// printable gives the text with every unprintable or malformed character
// replaced by '?', cut to at most so many bytes at a character's border.
func printable(text []byte, most int) string {
	if len(text) > most {
		text = text[:most]
		for len(text) > 0 && !utf8.RuneStart(text[len(text)-1]) {
			text = text[:len(text)-1]
		}
		if r, _ := utf8.DecodeLastRune(text); r == utf8.RuneError && len(text) > 0 {
			text = text[:len(text)-1]
		}
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, string(text))
}

// parseGPUs counts the GPUs in a list of generic resources: "gpu:2",
// "gres:gpu:tesla:2" (22.05), "gres/gpu:tesla:2" (26.05), "gres/gpu=2",
// "gpu" (one), "gpu:tesla:2(S:0-1)". Other resources count nothing.
func parseGPUs(text string) int {
	total := int64(0)
	for len(text) > 0 {
		item, rest := cutResource(text)
		text = rest
		for _, prefix := range []string{"gres:", "gres/"} {
			item = strings.TrimPrefix(item, prefix)
		}
		if open := strings.IndexByte(item, '('); open >= 0 {
			item = item[:open]
		}
		detail, found := strings.CutPrefix(item, "gpu")
		if !found || (detail != "" && !strings.ContainsRune(":=", rune(detail[0]))) {
			continue
		}
		count := int64(1)
		if last := strings.LastIndexAny(detail, ":="); last >= 0 {
			if n, ok := parseSize([]byte(detail[last+1:])); ok && n <= math.MaxInt32 {
				count = n
			}
		}
		total += count
	}
	return int(min(total, math.MaxInt32))
}

// cutResource splits at the first comma outside of parentheses.
func cutResource(text string) (item, rest string) {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth <= 0 {
				return text[:i], text[i+1:]
			}
		}
	}
	return text, ""
}

// resourceValue finds one entry of a TRES list such as
// "cpu=4,mem=1000M,node=1,gres/gpu=2".
func resourceValue(list, name string) (string, bool) {
	for item := range strings.SplitSeq(list, ",") {
		if key, value, found := strings.Cut(item, "="); found && key == name {
			return value, true
		}
	}
	return "", false
}
