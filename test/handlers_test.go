package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// literals gives the string literals of a Go file and the functions it declares.
func literals(t *testing.T, name string) (texts, declared []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", name), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
				texts = append(texts, text)
			}
		case *ast.FuncDecl:
			declared = append(declared, n.Name.Name)
		}
		return true
	})
	return texts, declared
}

func TestRoutesAreTheFunctions(t *testing.T) {
	name := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	texts, _ := literals(t, "handlers/routes.go")
	routes := slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return !name.MatchString(text) })
	slices.Sort(routes)
	folders := slices.Sorted(maps.Keys(functions(t)))
	if diff := cmp.Diff(folders, routes); diff != "" {
		t.Errorf("folders in functions/ and names in handlers/routes.go (-folders +routes):\n%s", diff)
	}
	for function, bindings := range functions(t) {
		for _, b := range bindings {
			if b.Type != "httpTrigger" {
				continue
			}
			fixed, _, _ := strings.Cut(b.Route, "{")
			for _, method := range b.Methods {
				// The host forwards an HTTP call under its own path, not the function's name.
				if want := strings.ToUpper(method) + " /api/" + fixed; !slices.Contains(texts, want) {
					t.Errorf("handlers/routes.go does not serve %q, the route of %s", want, function)
				}
			}
		}
	}
}

func TestEveryFunctionHasItsFileAndMethod(t *testing.T) {
	all := functions(t)
	for name := range all {
		words := strings.Split(name, "_")
		for i := 1; i < len(words); i++ {
			words[i] = strings.ToUpper(words[i][:1]) + words[i][1:]
		}
		_, declared := literals(t, "handlers/"+name+".go")
		if method := strings.Join(words, ""); !slices.Contains(declared, method) {
			t.Errorf("handlers/%s.go does not declare %s", name, method)
		}
	}
	files, err := filepath.Glob("../handlers/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".go")
		if _, ok := all[name]; !ok && !strings.HasSuffix(name, "_test") && !slices.Contains([]string{"doc", "routes", "invocation", "outcome"}, name) {
			t.Errorf("handlers/%s.go is no function's file, nor one of the shell's", name)
		}
	}
}

func TestBindingsHaveTheNamesThatTheShellReads(t *testing.T) {
	texts, _ := literals(t, "handlers/invocation.go")
	for name, bindings := range functions(t) {
		for _, b := range bindings {
			if b.Type == "serviceBusTrigger" && !slices.Contains(texts, b.Name) {
				t.Errorf("%s calls its message %q, which handlers/invocation.go does not read", name, b.Name)
			}
		}
	}
}
