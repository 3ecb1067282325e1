package ledger

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// run is a row of names that differ only in a number which grows by one, as
// Slurm's nodes of one nodearray do: htc-1 to htc-2500. A name without a number
// is a run of its own.
type run struct {
	prefix string
	// width is how many digits the number has at least, 0 where there is none.
	width       int
	first, more uint64 // more names after the first
}

// maxDigits of a number fit an uint64 with room for adding to it.
const maxDigits = 18

// runOf gives the run that holds one name only.
func runOf(name string) run {
	digits := len(name) - len(strings.TrimRight(name, "0123456789"))
	digits = min(digits, maxDigits)
	r := run{prefix: name[:len(name)-digits]}
	if digits == 0 {
		return r
	}
	number := name[len(r.prefix):]
	r.width = 1 // 9 and 10 are of one run
	if number[0] == '0' {
		r.width = digits
	}
	r.first, _ = strconv.ParseUint(number, 10, 64) // at most maxDigits digits
	return r
}

// runsOf gives the runs of names, in an order of their own and each name once.
func runsOf(names []string) []run {
	runs := make([]run, 0, len(names))
	for _, name := range names {
		runs = append(runs, runOf(name))
	}
	slices.SortFunc(runs, func(a, b run) int {
		return cmp.Or(strings.Compare(a.prefix, b.prefix), cmp.Compare(a.width, b.width), cmp.Compare(a.first, b.first))
	})
	joined := runs[:0]
	for _, r := range runs {
		if len(joined) > 0 {
			last := &joined[len(joined)-1]
			if r.prefix == last.prefix && r.width == last.width {
				switch next := last.first + last.more + 1; {
				case r.first < next: // the same name again
					continue
				case r.first == next:
					last.more++
					continue
				}
			}
		}
		joined = append(joined, r)
	}
	return joined
}

// names gives the names of a run.
func (r run) names() []string {
	if r.width == 0 {
		return []string{r.prefix}
	}
	names := make([]string, 0, r.more+1)
	for n := range r.more + 1 {
		names = append(names, fmt.Sprintf("%s%0*d", r.prefix, r.width, r.first+n))
	}
	return names
}

// appendRuns writes runs: those of one prefix and width follow each other, each
// told by its distance from the one before.
func appendRuns(b []byte, runs []run) []byte {
	for len(runs) > 0 {
		head := runs[0]
		count := slices.IndexFunc(runs, func(r run) bool { return r.prefix != head.prefix || r.width != head.width })
		if count < 0 {
			count = len(runs)
		}
		b = binary.AppendUvarint(b, uint64(len(head.prefix)))
		b = append(b, head.prefix...)
		b = binary.AppendUvarint(b, uint64(head.width))
		b = binary.AppendUvarint(b, uint64(count))
		var last uint64
		for _, r := range runs[:count] {
			b = binary.AppendUvarint(b, r.first-last)
			b = binary.AppendUvarint(b, r.more)
			last = r.first + r.more
		}
		runs = runs[count:]
	}
	return b
}

// maxRunNames bounds the names of one commit when they are read. A policy names
// 20,000 at most; rows of names that left it come on top.
const maxRunNames = 200_000

// readRuns reads what appendRuns wrote. What is stored may be broken: nothing in
// it is believed before it is checked.
func readRuns(b []byte) (names []string, err error) {
	number := func() uint64 {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			b, err = nil, errFrame
			return 0
		}
		b = b[size:]
		return n
	}
	for len(b) > 0 {
		length := number()
		if length > uint64(len(b)) {
			return nil, errFrame
		}
		r := run{prefix: string(b[:length])}
		b = b[length:]
		width, count := number(), number()
		if width > maxDigits || count > maxRunNames {
			return nil, errFrame
		}
		r.width = int(width)
		for range count {
			gap := number()
			r.first += gap
			r.more = number()
			if err != nil || r.more > maxRunNames || len(names)+int(r.more) >= maxRunNames {
				return nil, errFrame
			}
			names = append(names, r.names()...)
			r.first += r.more
		}
	}
	return names, err
}
