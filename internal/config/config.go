// Package config answers one question: with which settings does this program
// run? It reads them through the functions it is given, fills in the defaults
// of one table per program, and reports every problem at once. It must never
// touch the process's environment itself, never echo a secret, and never hand
// on a value that is not checked and in its final type.
package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/slurmburst/slurmburst/internal/fault"
)

const (
	prefix           = "BURST_"
	credentialPrefix = "BURST_CREDENTIAL_"
	maxValue         = 4096 // bytes of one setting
)

// setting is one row of a program's table: what docs/settings.md says of a
// setting is what the loader does.
type setting[T any] struct {
	name     string
	def      string // the value of an unset or empty setting; "" for none
	defNote  string // what the default means, where def alone does not say it
	want     string // the form of a value, for people
	about    string // one sentence
	required bool
	secret   bool // its value never appears in an error
	parse    func(into *T, value string) error
}

// errForm says that a value does not have the form that its setting wants.
var errForm = errors.New("is not well-formed")

// load fills a T from its table. environ is only searched for names: for
// unknown ones, and for those of credentials.
func load[T any](table []setting[T], getenv func(string) string, environ []string) (T, []error) {
	var (
		result T
		errs   []error
	)
	for _, s := range table {
		value := getenv(s.name)
		given := value != ""
		if !given {
			value = s.def
		}
		if value == "" {
			if s.required {
				errs = append(errs, fmt.Errorf("%s: is missing (want %s)", s.name, s.want))
			}
			continue
		}
		if len(value) > maxValue {
			errs = append(errs, fmt.Errorf("%s: is too long (got %d bytes, want at most %d)", s.name, len(value), maxValue))
			continue
		}
		if err := s.parse(&result, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w (got %s, want %s)", s.name, err, s.show(value), s.want))
		}
	}
	return result, append(errs, unknown(environ)...)
}

// show quotes a value for an error message.
func (s setting[T]) show(value string) string {
	const most = 100
	switch {
	case s.secret:
		return redacted
	case len(value) > most:
		return strconv.Quote(value[:most]) + "…"
	}
	return strconv.Quote(value)
}

// result joins the problems of one program's settings.
func result[T any](value T, errs []error) (T, error) {
	if len(errs) == 0 {
		return value, nil
	}
	var none T
	return none, fault.New(fault.Invalid, "read settings", errors.Join(errs...))
}

// unknown reports every BURST_ name that no program of the product reads: a
// misspelt setting must not silently leave its default in force. A setting of
// another program is no error, because programs may share one file.
func unknown(environ []string) []error {
	names := Names()
	var errs []error
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix) || strings.HasPrefix(name, credentialPrefix) || slices.Contains(names, name) {
			continue
		}
		errs = append(errs, fmt.Errorf("%s: is not a setting (got a value, want the nearest known name, %s, or none)",
			shorten(name), nearest(name, names)))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

// Names lists every setting that the product's programs read, sorted, without
// the BURST_CREDENTIAL_ names, which the policies choose.
func Names() []string {
	var names []string
	for _, s := range appTable {
		names = append(names, s.name)
	}
	for _, s := range agentTable {
		names = append(names, s.name)
	}
	for _, s := range ctlTable {
		names = append(names, s.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// nearest gives the name with the smallest edit distance to name.
func nearest(name string, names []string) string {
	best, bestDistance := "", int(^uint(0)>>1)
	for _, candidate := range names {
		if d := distance(shorten(name), candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance counts the insertions, deletions and substitutions that turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func shorten(name string) string {
	const most = 64
	if len(name) > most {
		return name[:most]
	}
	return name
}
