package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxBytes bounds one policy file.
const MaxBytes = 256 << 10

const (
	maxLine     = 20_000 // bytes; a long hostlist fits
	maxDepth    = 64     // of brackets; the schema needs 6
	maxProblems = 50     // reported at once
)

// reader walks a YAML tree against the schema and collects every problem with
// its line, instead of stopping at the first as decoding into a struct does.
type reader struct {
	problems []problem
	lines    map[string]int // by path: "nodearrays[1].maxNodes"
}

type problem struct {
	line int
	err  error
}

// parseYAML gives the root of the only document in data.
func parseYAML(data []byte) (ast.Node, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("file is too large (got %d bytes, want at most %d)", len(data), MaxBytes)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // YAML 1.2 allows a byte order mark (section 5.2)
	if line := notText(data); line > 0 {
		return nil, fmt.Errorf("line %d: holds a control character, or is not UTF-8", line)
	}
	if line := tooDeep(data); line > 0 {
		return nil, fmt.Errorf("line %d: is too long, or its brackets are nested too deep", line)
	}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, yamlError(err)
	}
	if len(file.Docs) > 1 {
		return nil, fmt.Errorf("line 1: the file holds %d YAML documents (want exactly one, without --- in between)", len(file.Docs))
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, errors.New("line 1: the file is empty, or holds only comments (want a policy)")
	}
	return file.Docs[0].Body, nil
}

// notText finds the line with bytes that YAML 1.2 does not allow (section 5.1):
// they would reach terminals, in a comment even unseen.
func notText(data []byte) int {
	for i, text := range bytes.Split(data, []byte("\n")) {
		if !utf8.Valid(text) || bytes.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\t' && r != '\r' }) {
			return i + 1
		}
	}
	return 0
}

// tooDeep finds the line where flow collections nest beyond maxDepth or that is
// too long to hold a sane number of "- " markers. The parser recurses for each
// level, so the bounds have to hold before it runs.
func tooDeep(data []byte) int {
	depth := 0
	for i, text := range bytes.Split(data, []byte("\n")) {
		if len(text) > maxLine {
			return i + 1
		}
		code, _, _ := bytes.Cut(append([]byte(" "), text...), []byte(" #"))
		for _, b := range code {
			switch b {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(depth-1, 0)
			}
			if depth > maxDepth {
				return i + 1
			}
		}
	}
	return 0
}

// yamlError turns the parser's "[line:column] text" plus drawing into one line.
func yamlError(err error) error {
	first, _, _ := strings.Cut(err.Error(), "\n")
	position, text, found := strings.Cut(strings.TrimPrefix(first, "["), "] ")
	line, _, _ := strings.Cut(position, ":")
	if !found || line == "" {
		return errors.New(first)
	}
	if strings.Contains(text, "'\t'") {
		text = "a tab stands where YAML wants spaces"
	}
	return fmt.Errorf("line %s: %s", line, text)
}

// add notes a problem of the value at path.
func (r *reader) add(line int, path, format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if path != "" {
		err = fmt.Errorf("%s: %w", path, err)
	}
	r.problems = append(r.problems, problem{line: line, err: err})
}

// at notes a problem of a path that was read before.
func (r *reader) at(path, format string, args ...any) {
	r.add(r.lines[path], path, format, args...)
}

// err joins the problems in the order of their lines.
func (r *reader) err() error {
	slices.SortStableFunc(r.problems, func(a, b problem) int { return a.line - b.line })
	var errs []error
	for i, p := range r.problems {
		if i == maxProblems {
			errs = append(errs, fmt.Errorf("and %d more problems", len(r.problems)-i))
			break
		}
		errs = append(errs, fmt.Errorf("line %d: %w", p.line, p.err))
	}
	return errors.Join(errs...)
}

// mapping reads a mapping strictly: every key known, none twice, none missing.
func (r *reader) mapping(path string, n ast.Node, fields []field) {
	var entries []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	default:
		r.add(line(n), path, "is not a mapping (got %s)", kind(n))
		return
	}
	seen := map[string]bool{}
	for _, entry := range entries {
		key := entry.Key.GetToken().Value
		child := strings.TrimPrefix(path+"."+key, ".")
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == key })
		switch {
		case i < 0:
			r.add(line(entry.Key), path, "unknown key %s (want one of %s)", show(key), keys(fields))
		case seen[key]:
			r.add(line(entry.Key), child, "is given twice (the first is on line %d)", r.lines[child])
		default:
			seen[key] = true
			r.lines[child] = line(entry.Key)
			fields[i].form.read(child, entry.Value)
		}
	}
	for _, f := range fields {
		if !seen[f.key] && !f.optional {
			r.add(line(n), strings.TrimPrefix(path+"."+f.key, "."), "is missing")
		}
	}
}

// sequence calls read for each element of a list of 1 to limit elements.
func (r *reader) sequence(path string, n ast.Node, limit int, read func(path string, n ast.Node)) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		r.add(line(n), path, "is not a list (got %s)", kind(n))
		return
	}
	if len(seq.Values) == 0 || len(seq.Values) > limit {
		r.add(line(n), path, "has a wrong number of elements (got %d, want 1 to %d)", len(seq.Values), limit)
		return
	}
	for i, element := range seq.Values {
		child := fmt.Sprintf("%s[%d]", path, i)
		r.lines[child] = line(element)
		read(child, element)
	}
}

// scalar gives a plain value's text as it is written.
func (r *reader) scalar(path string, n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value), true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	r.add(line(n), path, "is not a plain value (got %s)", kind(n))
	return "", false
}

func keys(fields []field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.key
	}
	return strings.Join(names, ", ")
}

// show quotes hostile text for an error message, at most 80 bytes of it.
func show(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.Quote(s)
}

func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

func kind(n ast.Node) string {
	if n == nil {
		return "nothing"
	}
	return strings.ToLower(n.Type().String())
}
