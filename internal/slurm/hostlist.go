package slurm

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/slurmburst/slurmburst/internal/fault"
)

const (
	// MaxHostlistNames bounds what one hostlist may expand to.
	MaxHostlistNames = 100_000
	// MaxHostlistBytes bounds the text of one hostlist.
	MaxHostlistBytes = 1 << 20
	// maxIndexDigits keeps every index inside an uint64.
	maxIndexDigits = 18
)

// ParseHostlist expands Slurm's hostlist expression in the order written:
// "hpc-[1-2,05],login" gives hpc-1, hpc-2, hpc-05, login. Several brackets in
// one name multiply, the leftmost turning slowest; text may follow a bracket
// (scontrol 22.05 refuses that, other tools write it). An empty text gives no
// names. Anything else that is not a hostlist, or that is larger than
// MaxHostlistNames or MaxHostlistBytes, is a fault.Invalid error that names
// the position, counted in bytes from 1.
func ParseHostlist(text string) ([]NodeName, error) {
	if len(text) > MaxHostlistBytes {
		return nil, fault.Newf(fault.Invalid, "hostlist of %d bytes is longer than %d", len(text), MaxHostlistBytes)
	}
	if text == "" {
		return nil, nil
	}
	p := hostlistParser{text: text}
	for {
		if err := p.element(); err != nil {
			return nil, fault.New(fault.Invalid, "parse hostlist "+quoteBounded(text), err)
		}
		if p.pos == len(p.text) {
			return p.names, nil
		}
		p.pos++ // the comma that ended the element
	}
}

type hostlistParser struct {
	text  string
	pos   int
	names []NodeName
}

// part is a piece of one element: literal text, or a bracket's ranges.
type part struct {
	literal string
	ranges  []indexRange
}

// indexRange is lo to hi, both included, padded with zeros to width.
type indexRange struct {
	lo, hi uint64
	width  int
}

func (p *hostlistParser) errorAt(pos int, format string, args ...any) error {
	return fmt.Errorf("position %d: %s", pos+1, fmt.Sprintf(format, args...))
}

func (p *hostlistParser) element() error {
	start := p.pos
	var (
		parts []part
		count = uint64(1)
	)
	for p.pos < len(p.text) && p.text[p.pos] != ',' {
		if p.text[p.pos] != '[' {
			literal, err := p.literal()
			if err != nil {
				return err
			}
			parts = append(parts, part{literal: literal})
			continue
		}
		ranges, size, err := p.bracket()
		if err != nil {
			return err
		}
		count *= size // both at most 100,000: no overflow
		if count > MaxHostlistNames {
			return p.errorAt(start, "more than %d names", MaxHostlistNames)
		}
		parts = append(parts, part{ranges: ranges})
	}
	if len(parts) == 0 {
		return p.errorAt(start, "a name is missing")
	}
	if uint64(len(p.names))+count > MaxHostlistNames {
		return p.errorAt(start, "more than %d names", MaxHostlistNames)
	}
	return p.expand(start, parts)
}

func (p *hostlistParser) literal() (string, error) {
	start := p.pos
	for p.pos < len(p.text) && p.text[p.pos] != ',' && p.text[p.pos] != '[' {
		if !isNameByte(p.text[p.pos]) {
			return "", p.errorAt(p.pos, "byte %q is not allowed", p.text[p.pos])
		}
		p.pos++
	}
	return p.text[start:p.pos], nil
}

// bracket reads "[1-3,07]" and tells how many indexes it holds.
func (p *hostlistParser) bracket() ([]indexRange, uint64, error) {
	open := p.pos
	p.pos++
	var (
		ranges []indexRange
		total  uint64
	)
	for {
		r, err := p.indexRange()
		if err != nil {
			return nil, 0, err
		}
		ranges = append(ranges, r)
		// The first test keeps the sum below from wrapping.
		if r.hi-r.lo >= MaxHostlistNames || total+r.hi-r.lo+1 > MaxHostlistNames {
			return nil, 0, p.errorAt(open, "more than %d names", MaxHostlistNames)
		}
		total += r.hi - r.lo + 1
		if p.pos == len(p.text) {
			return nil, 0, p.errorAt(open, "the bracket is not closed")
		}
		closing := p.text[p.pos]
		p.pos++
		switch closing {
		case ']':
			return ranges, total, nil
		case ',':
		default:
			return nil, 0, p.errorAt(p.pos-1, "byte %q is not allowed in a bracket", closing)
		}
	}
}

func (p *hostlistParser) indexRange() (indexRange, error) {
	start := p.pos
	lo, width, err := p.index()
	if err != nil {
		return indexRange{}, err
	}
	if p.pos == len(p.text) || p.text[p.pos] != '-' {
		return indexRange{lo: lo, hi: lo, width: width}, nil
	}
	p.pos++
	hi, _, err := p.index()
	if err != nil {
		return indexRange{}, err
	}
	if hi < lo {
		return indexRange{}, p.errorAt(start, "the range %d-%d runs backwards", lo, hi)
	}
	return indexRange{lo: lo, hi: hi, width: width}, nil
}

func (p *hostlistParser) index() (value uint64, width int, err error) {
	start := p.pos
	for p.pos < len(p.text) && isDigit(p.text[p.pos]) {
		p.pos++
	}
	width = p.pos - start
	if width == 0 {
		return 0, 0, p.errorAt(start, "a number is missing")
	}
	if width > maxIndexDigits {
		return 0, 0, p.errorAt(start, "a number of %d digits is too long", width)
	}
	for _, c := range []byte(p.text[start:p.pos]) {
		value = value*10 + uint64(c-'0')
	}
	return value, width, nil
}

func (p *hostlistParser) expand(start int, parts []part) error {
	// Every name of an element has the same first byte and, but for growing
	// numbers, the same length: checking each name costs little and keeps
	// the promise that no invalid name ever leaves this function.
	var walk func(prefix string, rest []part) error
	walk = func(prefix string, rest []part) error {
		if len(rest) == 0 {
			name := NodeName(prefix)
			if err := name.Validate(); err != nil {
				return p.errorAt(start, "%s", err.Error())
			}
			p.names = append(p.names, name)
			return nil
		}
		if rest[0].ranges == nil {
			return walk(prefix+rest[0].literal, rest[1:])
		}
		for _, r := range rest[0].ranges {
			for i := r.lo; i <= r.hi; i++ {
				if err := walk(prefix+padded(i, r.width), rest[1:]); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return walk("", parts)
}

func padded(n uint64, width int) string {
	digits := strconv.FormatUint(n, 10)
	if len(digits) >= width {
		return digits
	}
	return strings.Repeat("0", width-len(digits)) + digits
}

// FormatHostlist writes names as one hostlist that Slurm of any version reads:
// sorted by prefix and number, each name once, only the trailing number folded
// into a bracket. Equal sets of names give equal text. The names must be valid
// (NodeName.Validate); no names give the empty text.
func FormatHostlist(names []NodeName) string {
	indexed := make([]indexedName, 0, len(names))
	for _, name := range names {
		indexed = append(indexed, splitName(string(name)))
	}
	slices.SortFunc(indexed, compareNames)
	indexed = slices.Compact(indexed)

	var out strings.Builder
	for len(indexed) > 0 {
		size := 1
		for size < len(indexed) && indexed[size].prefix == indexed[0].prefix && indexed[0].digits != "" {
			size++
		}
		if out.Len() > 0 {
			out.WriteByte(',')
		}
		writeGroup(&out, indexed[:size])
		indexed = indexed[size:]
	}
	return out.String()
}

// indexedName is a name split before its trailing number.
type indexedName struct {
	prefix string
	number uint64
	digits string // empty: the name ends in no usable number
}

func splitName(name string) indexedName {
	cut := len(name)
	for cut > 0 && isDigit(name[cut-1]) && len(name)-cut < maxIndexDigits {
		cut--
	}
	if cut == len(name) {
		return indexedName{prefix: name}
	}
	n, err := strconv.ParseUint(name[cut:], 10, 64)
	if err != nil {
		return indexedName{prefix: name}
	}
	return indexedName{prefix: name[:cut], number: n, digits: name[cut:]}
}

func compareNames(a, b indexedName) int {
	return cmp.Or(
		cmp.Compare(a.prefix, b.prefix),
		cmp.Compare(min(len(a.digits), 1), min(len(b.digits), 1)),
		cmp.Compare(a.number, b.number),
		cmp.Compare(len(a.digits), len(b.digits)),
	)
}

// writeGroup writes names that share a prefix: "htc-[1-3,007]".
func writeGroup(out *strings.Builder, group []indexedName) {
	out.WriteString(group[0].prefix)
	if len(group) == 1 {
		out.WriteString(group[0].digits)
		return
	}
	out.WriteByte('[')
	for first := 0; first < len(group); {
		last := first
		for last+1 < len(group) && group[last+1].digits == padded(group[last].number+1, len(group[first].digits)) {
			last++
		}
		if first > 0 {
			out.WriteByte(',')
		}
		out.WriteString(group[first].digits)
		if last > first {
			out.WriteByte('-')
			out.WriteString(group[last].digits)
		}
		first = last + 1
	}
	out.WriteByte(']')
}
