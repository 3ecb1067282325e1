package functionshost

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// route is an ASP.NET Core route template without its prefix.
type route struct {
	text  string
	parts []routePart
}

// routePart is one segment: a literal, {name}, {name:constraint}, {name?} or, at
// the end, {*name}.
type routePart struct {
	literal    string
	name       string
	constraint string
	optional   bool
	catchAll   bool
}

var (
	parameterForm = regexp.MustCompile(`^\{(\*{0,2})([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?(\?)?\}$`)
	literalForm   = regexp.MustCompile(`^[A-Za-z0-9_.~\-]+$`)
	constraints   = map[string]*regexp.Regexp{
		"":      regexp.MustCompile(`(?s)^.*$`),
		"int":   regexp.MustCompile(`^-?\d{1,10}$`),
		"long":  regexp.MustCompile(`^-?\d{1,19}$`),
		"bool":  regexp.MustCompile(`(?i)^(true|false)$`),
		"alpha": regexp.MustCompile(`(?i)^[a-z]*$`),
		"guid":  regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
	}
)

func parseRoute(text string) (route, error) {
	r := route{text: text}
	if text == "" {
		return r, errors.New("empty")
	}
	segments := strings.Split(strings.Trim(text, "/"), "/")
	for i, segment := range segments {
		last := i == len(segments)-1
		if literalForm.MatchString(segment) {
			r.parts = append(r.parts, routePart{literal: segment})
			continue
		}
		m := parameterForm.FindStringSubmatch(segment)
		if m == nil {
			return r, fmt.Errorf("%q: segment %q is not emulated", text, segment)
		}
		part := routePart{name: m[2], constraint: m[3], optional: m[4] != "", catchAll: m[1] != ""}
		if _, ok := constraints[part.constraint]; !ok {
			return r, fmt.Errorf("%q: constraint %q is not emulated", text, part.constraint)
		}
		if (part.catchAll || part.optional) && !last {
			return r, fmt.Errorf("%q: %s must be the last segment", text, segment)
		}
		r.parts = append(r.parts, part)
	}
	if first := r.parts[0].literal; strings.EqualFold(first, "admin") || strings.EqualFold(first, "runtime") {
		return r, fmt.Errorf("%q: routes under admin and runtime are reserved", text)
	}
	return r, nil
}

// match fits the escaped path segments to the route. Literals are compared
// without case, as ASP.NET Core does.
func (r route) match(segments []string) (params map[string]string, ok bool) {
	params = map[string]string{}
	for i, part := range r.parts {
		if part.catchAll {
			rest, ok := unescape(strings.Join(segments[min(i, len(segments)):], "/"))
			if rest != "" {
				params[part.name] = rest
			}
			return params, ok && part.accepts(rest)
		}
		if i >= len(segments) {
			return params, part.optional && i == len(r.parts)-1
		}
		value, ok := unescape(segments[i])
		switch {
		case !ok:
			return nil, false
		case part.literal != "":
			if !strings.EqualFold(part.literal, value) {
				return nil, false
			}
		case value == "" || !part.accepts(value):
			return nil, false
		default:
			params[part.name] = value
		}
	}
	return params, len(segments) == len(r.parts)
}

func (p routePart) accepts(value string) bool { return constraints[p.constraint].MatchString(value) }

func unescape(s string) (string, bool) {
	v, err := url.PathUnescape(s)
	return v, err == nil
}

// rank orders segments as ASP.NET Core's RoutePrecedence does.
func (p routePart) rank() int {
	rank := 3
	switch {
	case p.literal != "":
		return 1
	case p.catchAll:
		rank = 5
	}
	if p.constraint != "" {
		rank--
	}
	return rank
}

// byPrecedence puts the more specific route first.
func byPrecedence(a, b *function) int {
	ranks := func(r route) []int {
		var out []int
		for _, p := range r.parts {
			out = append(out, p.rank())
		}
		return out
	}
	return cmp.Or(slices.Compare(ranks(a.web.route), ranks(b.web.route)), strings.Compare(a.name, b.name))
}
