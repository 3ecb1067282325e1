package slurmlab

import (
	"fmt"
	"strconv"
	"strings"
)

// maxHosts bounds what one hostlist may stand for.
const maxHosts = 100_000

// ExpandHostlist gives the names that a hostlist stands for, in its order. It
// knows one bracket per name, with zero padding: "htc-[01-10,12],hpc-1".
func ExpandHostlist(list string) ([]string, error) {
	var names []string
	for _, item := range splitOutsideBrackets(list) {
		expanded, err := expandItem(item)
		if err != nil {
			return nil, fmt.Errorf("expand hostlist %q: %w", list, err)
		}
		if names = append(names, expanded...); len(names) > maxHosts {
			return nil, fmt.Errorf("expand hostlist %q: more than %d names", list, maxHosts)
		}
	}
	return names, nil
}

// splitOutsideBrackets cuts at the commas that are not between brackets.
func splitOutsideBrackets(list string) []string {
	inside := false
	return strings.FieldsFunc(list, func(r rune) bool {
		switch r {
		case '[':
			inside = true
		case ']':
			inside = false
		}
		return r == ',' && !inside
	})
}

func expandItem(item string) ([]string, error) {
	prefix, rest, found := strings.Cut(item, "[")
	if !found {
		return []string{item}, nil
	}
	ranges, suffix, found := strings.Cut(rest, "]")
	if !found || strings.Contains(suffix, "[") {
		return nil, fmt.Errorf("%q needs exactly one closed bracket", item)
	}
	var names []string
	for _, r := range strings.Split(ranges, ",") {
		first, last, isRange := strings.Cut(r, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		if err != nil {
			return nil, fmt.Errorf("range %q in %q: %w", r, item, err)
		}
		to, err := strconv.Atoi(last)
		if err != nil {
			return nil, fmt.Errorf("range %q in %q: %w", r, item, err)
		}
		if from < 0 || to < from || to-from >= maxHosts {
			return nil, fmt.Errorf("range %q in %q is not ascending or too long", r, item)
		}
		if len(names)+to-from >= maxHosts {
			return nil, fmt.Errorf("%q stands for more than %d names", item, maxHosts)
		}
		for i := from; i <= to; i++ {
			names = append(names, fmt.Sprintf("%s%0*d%s", prefix, len(first), i, suffix))
		}
	}
	return names, nil
}
