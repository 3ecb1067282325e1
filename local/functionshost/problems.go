package functionshost

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// problems collects everything that is wrong with an app, so that one run shows
// all of it. A warning is something the real host ignores without a word.
type problems struct {
	errs     []error
	warnings []string
}

func (p *problems) errorf(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

func (p *problems) warnf(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

func (p *problems) err() error { return errors.Join(p.errs...) }

// section is one JSON object of host.json or function.json on its way through
// validation. Keys are compared without case, as .NET configuration does.
type section struct {
	p    *problems
	path string
	raw  map[string]json.RawMessage
	seen []string
}

// object reads a JSON object; anything else is a problem and reads as empty.
func (p *problems) object(path string, raw []byte) *section {
	s := &section{p: p, path: path}
	if err := json.Unmarshal(raw, &s.raw); err != nil || s.raw == nil {
		p.errorf("%s: want a JSON object: %w", path, orMissing(err))
	}
	return s
}

func orMissing(err error) error {
	if err == nil {
		return errors.New("got null")
	}
	return err
}

func (s *section) value(key string) (json.RawMessage, bool) {
	s.seen = append(s.seen, key)
	for k, v := range s.raw {
		if strings.EqualFold(k, key) {
			return v, true
		}
	}
	return nil, false
}

func (s *section) has(key string) bool {
	_, ok := s.value(key)
	return ok
}

// read stores the value of key in target and reports whether it was there and
// had the right type.
func (s *section) read(key string, target any) bool {
	v, ok := s.value(key)
	if !ok {
		return false
	}
	if err := json.Unmarshal(v, target); err != nil {
		s.p.errorf("%s.%s: %w", s.path, key, err)
		return false
	}
	return true
}

func (s *section) text(key, fallback string) string {
	v := fallback
	s.read(key, &v)
	return v
}

func (s *section) truth(key string, fallback bool) bool {
	v := fallback
	s.read(key, &v)
	return v
}

func (s *section) span(key string, fallback time.Duration) time.Duration {
	var text string
	if !s.read(key, &text) {
		return fallback
	}
	d, err := parseTimeSpan(text)
	if err != nil {
		s.p.errorf("%s.%s: %w", s.path, key, err)
		return fallback
	}
	return d
}

func (s *section) count(key string, fallback int) int {
	v := fallback
	if s.read(key, &v) && v < 1 {
		s.p.errorf("%s.%s: %d is below 1", s.path, key, v)
		return fallback
	}
	return v
}

func (s *section) child(key string) *section {
	if v, ok := s.value(key); ok {
		return s.p.object(s.path+"."+key, v)
	}
	return &section{p: s.p, path: s.path + "." + key}
}

// known names keys that exist in the real host and need no emulation.
func (s *section) known(keys ...string) { s.seen = append(s.seen, keys...) }

// finish warns about keys that nobody asked for: a typing error is otherwise
// silent, here as in Azure.
func (s *section) finish() {
	var unknown []string
	for k := range s.raw {
		if !slices.ContainsFunc(s.seen, func(seen string) bool { return strings.EqualFold(seen, k) }) {
			unknown = append(unknown, k)
		}
	}
	slices.Sort(unknown)
	for _, k := range unknown {
		s.p.warnf("%s.%s: unknown field, ignored", s.path, k)
	}
}
