package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/slurmburst/slurmburst/internal/burst"
)

// form is what a value may look like: how it is read, and how the JSON Schema
// and docs/policy.md tell it. One table of fields makes all three.
type form struct {
	read   func(path string, n ast.Node)
	schema schema
	// want says for people what is accepted.
	want string
	// keys are those of a mapping, or of each mapping in a list.
	keys []field
}

// schema is a JSON Schema (draft 2020-12), or a part of one.
type schema map[string]any

// field is one key of a mapping. It is read at most once.
type field struct {
	key      string
	optional bool
	// def is what an absent key means, as it would be written or in words.
	def string
	// about says what the value means, in a sentence.
	about string
	form  form
}

// keyed is a mapping of known keys.
func (r *reader) keyed(fields []field) form {
	properties, required := schema{}, []string{}
	for _, f := range fields {
		property := schema{"description": f.about}
		if f.def != "" {
			property["description"] = f.about + " Default: " + f.def + "."
		}
		for keyword, value := range f.form.schema {
			property[keyword] = value
		}
		properties[f.key] = property
		if !f.optional {
			required = append(required, f.key)
		}
	}
	s := schema{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return form{
		read:   func(path string, n ast.Node) { r.mapping(path, n, fields) },
		schema: s, want: "keys", keys: fields,
	}
}

// listed is a list of 1 to most elements, each read into a new T.
func listed[T any](r *reader, into *[]T, most int, element func(*T) form) form {
	sample := element(new(T))
	return form{
		read: func(path string, n ast.Node) {
			r.sequence(path, n, most, func(path string, n ast.Node) {
				var value T
				element(&value).read(path, n)
				*into = append(*into, value)
			})
		},
		schema: schema{"type": "array", "minItems": 1, "maxItems": most, "items": sample.schema},
		want:   fmt.Sprintf("list of at most %d: %s", most, sample.want),
		keys:   sample.keys,
	}
}

// plain is a plain value; take gives what is wrong with its text, or nothing.
func (r *reader) plain(s schema, want string, take func(text string) (complaint string)) form {
	return form{
		read: func(path string, n ast.Node) {
			value, ok := r.scalar(path, n)
			if !ok {
				return
			}
			if complaint := take(value); complaint != "" {
				r.add(line(n), path, "%s (got %s, want %s)", complaint, show(value), want)
			}
		},
		schema: s, want: want,
	}
}

// pattern is a form that a text must have, and its description for people.
type pattern struct {
	re   *regexp.Regexp
	want string
}

// text is a value that matches p. YAML reads some unquoted texts as numbers or
// booleans: a name may be 007.
func (r *reader) text(into *string, p pattern) form {
	s := schema{"type": "string", "pattern": p.re.String()}
	if p.re.MatchString("7") || p.re.MatchString("true") {
		s["type"] = []string{"string", "number", "boolean"}
	}
	return r.plain(s, p.want, func(text string) string {
		if !p.re.MatchString(text) {
			return "is not well-formed"
		}
		*into = text
		return ""
	})
}

// choice is one of a few words.
func choice[T ~string](r *reader, into *T, words ...T) form {
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = string(w)
	}
	want := strings.Join(names, ", ")
	return r.plain(schema{"enum": names}, "one of "+want, func(text string) string {
		if !slices.Contains(names, text) {
			return "is not a known word"
		}
		*into = T(text)
		return ""
	})
}

const durationPattern = `^([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*$`

// duration is a Go duration such as 90s or 15m.
func (r *reader) duration(into *time.Duration, least, most time.Duration) form {
	s := schema{"type": "string", "pattern": durationPattern}
	want := burst.Spell(least) + " to " + burst.Spell(most)
	return r.plain(s, want, func(text string) string {
		d, err := time.ParseDuration(text)
		if err != nil || d < least || d > most {
			return "is not a duration in range"
		}
		*into = d
		return ""
	})
}

// count is a whole number of 1 to most; most 0 is no bound of its own.
func (r *reader) count(into *int, most int) form {
	s := schema{"type": []string{"integer", "string"}, "minimum": 1, "pattern": "^[+]?[0-9]+$"}
	want := "a whole number, at least 1"
	if most > 0 {
		s["maximum"] = most
		want = fmt.Sprintf("a whole number, 1 to %d", most)
	}
	return r.plain(s, want, func(text string) string {
		i, err := strconv.Atoi(text)
		if err != nil || i < 1 || most > 0 && i > most {
			return "is not a count"
		}
		*into = i
		return ""
	})
}

// amount is money: more than nothing, at most most.
func (r *reader) amount(into *burst.Money, most burst.Money) form {
	s := schema{"type": []string{"number", "string"}, "exclusiveMinimum": 0, "maximum": int64(most / unit), "pattern": moneyPattern}
	want := "an amount such as 0.384, above 0, at most " + formatMoney(most) + ", at most six decimal places"
	return r.plain(s, want, func(text string) string {
		m, err := parseMoney(text)
		if err != nil || m <= 0 || m > most {
			return "is not money in range"
		}
		*into = m
		return ""
	})
}

var factorForm = regexp.MustCompile(`^[0-9]{1,3}(\.[0-9]{1,6})?$`)

// factor is a decimal number of least to most.
func (r *reader) factor(into *float64, least, most float64) form {
	s := schema{"type": []string{"number", "string"}, "minimum": least, "maximum": most, "pattern": factorForm.String()}
	return r.plain(s, fmt.Sprintf("a number, %v to %v", least, most), func(text string) string {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || !factorForm.MatchString(text) || f < least || f > most {
			return "is not a number in range"
		}
		*into = f
		return ""
	})
}

// boolean is true or false.
func (r *reader) boolean(into *bool) form {
	return r.plain(schema{"type": "boolean"}, "true or false", func(text string) string {
		if text != "true" && text != "false" {
			return "is not a boolean"
		}
		*into = text == "true"
		return ""
	})
}

// memory is a size such as 16GiB, told in MiB.
func (r *reader) memory(into *int64) form {
	const most = 64 << 20 // MiB: 64 TiB, above any Azure VM
	s := schema{"type": "string", "pattern": "^[1-9][0-9]{0,8}(MiB|GiB|TiB)$"}
	return r.plain(s, "a whole number with MiB, GiB or TiB, at most 64TiB", func(text string) string {
		shift := map[string]int{"MiB": 0, "GiB": 10, "TiB": 20}
		if len(text) < 4 {
			return "is not a size"
		}
		number, suffix := text[:len(text)-3], text[len(text)-3:]
		by, known := shift[suffix]
		size, err := strconv.ParseUint(number, 10, 31)
		if err != nil || !known || size == 0 || number[0] == '0' || int64(size)<<by > most {
			return "is not a size"
		}
		*into = int64(size) << by
		return ""
	})
}

// expression is the text of a rule; compilePredicate judges what it says.
func (r *reader) expression(into *string) form {
	s := schema{"type": []string{"string", "boolean"}, "minLength": 1, "maxLength": maxExpression}
	return r.plain(s, fmt.Sprintf("an expression of 1 to %d bytes", maxExpression), func(text string) string {
		text = strings.TrimSpace(text)
		if text == "" || len(text) > maxExpression {
			return "has a wrong length"
		}
		*into = text
		return ""
	})
}
