package cyclecloudsim

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
)

// parseFilter reads the part of the ClassAd language that callers of the API
// use: comparisons of attributes with literals by ===, =!=, == and !=, joined
// by &&, || and !, with parentheses. Everything else is refused by name.
//
// Such an expression is Go syntax once the two ClassAd operators are spelled
// in Go's way, so Go's own parser reads it. The strict operators compare as
// they are, == and != ignore the case of strings and are false on a missing
// attribute, as ClassAd's are undefined there.
func parseFilter(text string) (func(map[string]any) bool, error) {
	if len(text) > 4096 {
		return nil, errors.New("longer than 4096 characters")
	}
	spelled, err := goSpelling(text)
	if err != nil {
		return nil, err
	}
	expr, err := parser.ParseExpr(spelled)
	if err != nil {
		return nil, fmt.Errorf("parse %q: %w", text, err)
	}
	return compile(expr)
}

// goSpelling replaces === by <= and =!= by >=, which the filter has no other
// use for, and refuses those signs in the original; strings are left alone.
func goSpelling(text string) (string, error) {
	parts := strings.Split(text, `"`)
	for i := 0; i < len(parts); i += 2 {
		if strings.ContainsAny(parts[i], "<>`'\\") {
			return "", fmt.Errorf("%q uses an operator that is not supported", text)
		}
		parts[i] = strings.NewReplacer("===", "<=", "=!=", ">=").Replace(parts[i])
	}
	for i := 1; i < len(parts); i += 2 {
		if strings.Contains(parts[i], `\`) {
			return "", fmt.Errorf("%q holds an escape in a string", text)
		}
	}
	return strings.Join(parts, `"`), nil
}

func compile(e ast.Expr) (func(map[string]any) bool, error) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return compile(e.X)
	case *ast.UnaryExpr:
		f, err := compile(e.X)
		if err != nil || e.Op != token.NOT {
			return nil, errors.Join(err, unsupported(e.Op, token.NOT))
		}
		return func(r map[string]any) bool { return !f(r) }, nil
	case *ast.Ident:
		return func(r map[string]any) bool { b, _ := r[e.Name].(bool); return b }, nil
	case *ast.BinaryExpr:
		if e.Op != token.LAND && e.Op != token.LOR {
			return compare(e)
		}
		x, errX := compile(e.X)
		y, errY := compile(e.Y)
		if err := errors.Join(errX, errY); err != nil {
			return nil, err
		}
		if e.Op == token.LAND {
			return func(r map[string]any) bool { return x(r) && y(r) }, nil
		}
		return func(r map[string]any) bool { return x(r) || y(r) }, nil
	}
	return nil, fmt.Errorf("%T is not supported", e)
}

func unsupported(got, want token.Token) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("operator %s is not supported", got)
}

func compare(e *ast.BinaryExpr) (func(map[string]any) bool, error) {
	name, ok := e.X.(*ast.Ident)
	if !ok {
		return nil, errors.New("the left side of a comparison must be an attribute")
	}
	want, err := literal(e.Y)
	if err != nil {
		return nil, err
	}
	strict := func(r map[string]any) bool { return plain(r[name.Name]) == want }
	loose := func(r map[string]any) bool { return strings.EqualFold(plain(r[name.Name]), want) }
	switch e.Op {
	case token.LEQ:
		return strict, nil
	case token.GEQ:
		return func(r map[string]any) bool { return !strict(r) }, nil
	case token.EQL:
		return func(r map[string]any) bool { return r[name.Name] != nil && loose(r) }, nil
	case token.NEQ:
		return func(r map[string]any) bool { return r[name.Name] != nil && !loose(r) }, nil
	}
	return nil, fmt.Errorf("operator %s is not supported", e.Op)
}

// plain writes a value with its kind, so that 1 and "1" differ.
func plain(v any) string { return fmt.Sprintf("%T:%v", scalar(v), scalar(v)) }

func scalar(v any) any {
	switch v := v.(type) {
	case int:
		return float64(v)
	default:
		return v
	}
}

func literal(e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			return plain(text), err
		}
		if e.Kind == token.INT || e.Kind == token.FLOAT {
			number, err := strconv.ParseFloat(e.Value, 64)
			return plain(number), err
		}
	case *ast.Ident:
		switch strings.ToLower(e.Name) {
		case "true", "false":
			return plain(strings.EqualFold(e.Name, "true")), nil
		case "undefined":
			return plain(nil), nil
		}
	}
	return "", errors.New("the right side of a comparison must be a string, a number, true, false or undefined")
}
