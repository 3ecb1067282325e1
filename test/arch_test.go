package test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/slurmburst/slurmburst/"

// mayImport lists, for each package, the packages of ours that it may import.
// A package without a line here fails the test: it needs a rule first.
// A pattern that ends in /... stands for everything below.
var mayImport = map[string]struct {
	allowed []string
	why     string
}{
	"internal/fault":            {nil, "everybody imports it"},
	"internal/fault/credential": {[]string{"internal/fault"}, "it knows Azure's credentials and nothing else"},
	"internal/logging":          {nil, "everybody may import it"},
	"internal/heap":             {nil, "commands call it before they do anything else"},
	"internal/burst":            {nil, "the core is pure"},
	"internal/spool":            {nil, "burst-hook has to start in milliseconds"},
	"internal/slurm":            {[]string{"internal/fault"}, "it speaks Slurm and nothing else"},
	"internal/cyclecloud":       {[]string{"internal/fault"}, "it speaks CycleCloud and nothing else"},
	"internal/azurevm":          {[]string{"internal/fault"}, "it speaks to Azure's compute API and nothing else"},
	"internal/ledger":           {[]string{"internal/fault", "internal/fault/credential"}, "it speaks Table Storage and nothing else"},
	"internal/bus":              {[]string{"internal/fault", "internal/fault/credential"}, "it speaks Service Bus and nothing else"},
	"internal/event":            {[]string{"internal/fault"}, "messages are read on both sides of the cloud"},
	"internal/config":           {[]string{"internal/fault"}, "settings come before everything else"},
	"internal/policy":           {[]string{"internal/fault", "internal/burst"}, "it compiles the file into burst.Policy"},
	"internal/reconcile": {
		[]string{
			"internal/fault", "internal/burst", "internal/policy", "internal/event", "internal/ledger", "internal/bus",
			"internal/cyclecloud", "internal/azurevm", "internal/slurm", "internal/logging",
		},
		"it alone translates between the vendors and the core",
	},
	"internal/agent": {
		[]string{"internal/fault", "internal/slurm", "internal/bus", "internal/event", "internal/spool", "internal/logging"},
		"the head node knows Slurm and messages; it decides nothing",
	},
	"handlers": {
		[]string{
			"internal/fault", "internal/reconcile", "internal/burst", "internal/event", "internal/ledger", "internal/bus",
			"internal/logging",
		},
		"handlers reach the vendors through reconcile",
	},
	"cmd/burst-hook": {[]string{"internal/spool"}, "slurmctld waits for it: nothing that opens the network"},
	"cmd/...":        {[]string{"handlers", "internal/...", "cmd/internal/..."}, "commands wire the product together, and never the laptop's world"},
	"local/...":      {[]string{"local/..."}, "a bug shared with the product would hide on both sides"},
	"bench/...":      {[]string{"handlers", "internal/...", "local/...", "bench/..."}, "what is measured and what it is measured with"},
	"test/...":       {[]string{"handlers", "internal/...", "local/...", "test/..."}, "tests see everything"},
}

// mustNotReach bans packages from everything that a package depends on,
// directly or not, each with its reason.
var mustNotReach = map[string]map[string]string{
	"internal/burst": {
		"net": "the core does no I/O", "net/http": "the core does no I/O", "os/exec": "the core does no I/O",
		"context": "the core only computes", "log": "the core returns reasons", "log/slog": "the core returns reasons",
		"math/rand": "equal arguments give equal plans", "math/rand/v2": "equal arguments give equal plans",
		"encoding/json": "text is parsed outside the core",
	},
	"cmd/burst-hook": {
		"github.com/Azure/...": "slurmctld waits for the hook", "go.opentelemetry.io/...": "slurmctld waits for the hook",
		"net/http": "the hook writes one file", "os/exec": "Slurm gives it no PATH and no shell",
	},
	"internal/policy": {"net/http": "it reads a file", "os/exec": "it reads a file"},
	"internal/config": {"net/http": "it reads the environment", "os/exec": "it reads the environment"},
	"handlers":        {"testing": "product code"},
	"cmd/...":         {"testing": "product code", "pgregory.net/rapid": "product code", "github.com/google/go-cmp/cmp": "product code"},
}

// mustNotImport bans direct imports: fmt needs os and syscall, so that a ban
// on what is merely reached could not hold.
var mustNotImport = map[string]map[string]string{
	"internal/burst":     {"os": "the core does no I/O", "syscall": "the core does no I/O", "unsafe": "nothing here is that fast"},
	"handlers":           {"os/exec": "the app runs no programs", "os": "settings come in Options"},
	"internal/reconcile": {"os/exec": "the app runs no programs", "os": "it reaches the world through its interfaces"},
}

type listed struct {
	ImportPath                               string
	Imports, TestImports, XTestImports, Deps []string
}

// packages lists the packages of the module with their dependencies.
func packages(t *testing.T) []listed {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-e", "-tags", "e2e", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", "./...")
	command.Dir = ".."
	output, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	decoder := json.NewDecoder(strings.NewReader(string(output)))
	for {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// covers reports whether a pattern, exact or ending in /..., means name.
func covers(pattern, name string) bool {
	base, tree := strings.CutSuffix(pattern, "/...")
	return name == base || tree && strings.HasPrefix(name, base+"/")
}

func TestPackagesImportOnlyWhatTheirLayerMay(t *testing.T) {
	for _, p := range packages(t) {
		rule, found := mayImport[p.ImportPath]
		for pattern, r := range mayImport {
			if !found && covers(pattern, p.ImportPath) {
				rule, found = r, true
			}
		}
		if !found {
			t.Errorf("%s has no line in mayImport: say which packages it may import, and why", p.ImportPath)
			continue
		}
		imports := p.Imports
		if covers("local/...", p.ImportPath) {
			// Tests that bring both sides together live elsewhere.
			imports = slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		}
		for _, i := range imports {
			name, ours := strings.CutPrefix(i, module)
			if !ours || name == p.ImportPath || slices.ContainsFunc(rule.allowed, func(pattern string) bool { return covers(pattern, name) }) {
				continue
			}
			t.Errorf("%s imports %s, but may import only %v: %s", p.ImportPath, name, rule.allowed, rule.why)
		}
	}
}

func TestPackagesReachNothingThatIsBanned(t *testing.T) {
	all := packages(t)
	for name, bans := range mustNotReach {
		for _, p := range all {
			if !covers(name, p.ImportPath) {
				continue
			}
			for _, dependency := range p.Deps {
				for ban, why := range bans {
					if covers(ban, dependency) {
						t.Errorf("%s reaches %s: %s", p.ImportPath, dependency, why)
					}
				}
			}
		}
	}
	for name, bans := range mustNotImport {
		for _, p := range all {
			for _, i := range p.Imports {
				if why, banned := bans[i]; banned && covers(name, p.ImportPath) {
					t.Errorf("%s imports %s: %s", p.ImportPath, i, why)
				}
			}
		}
	}
}

// sources calls visit for each Go file of ours, with its path from the root.
func sources(t *testing.T, visit func(name string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(file, "../"))
		if d.IsDir() && (name == "build" || name == ".git" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(name, ".go") {
			visit(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryPackageHasOnePackageComment(t *testing.T) {
	type comments struct {
		files int
		in    []string
	}
	found := map[string]*comments{}
	sources(t, func(name string) {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", name), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Error(err)
			return
		}
		key := path.Dir(name) + " package " + file.Name.Name
		if strings.HasSuffix(name, "_test.go") && (strings.HasSuffix(file.Name.Name, "_test") || file.Doc == nil) {
			return // tests explain themselves by their names
		}
		if found[key] == nil {
			found[key] = &comments{}
		}
		found[key].files++
		if file.Doc != nil {
			found[key].in = append(found[key].in, name)
		}
	})
	for key, c := range found {
		if len(c.in) != 1 {
			t.Errorf("%s has %d package comments in %d files, want exactly one: %v", key, len(c.in), c.files, c.in)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	// 400 is the aim; a file is not cut in two for its last few lines.
	const most = 420
	sources(t, func(name string) {
		data, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Error(err)
			return
		}
		if strings.HasSuffix(name, "_test.go") || isGenerated(t, name) {
			return
		}
		if lines := strings.Count(string(data), "\n"); lines > most {
			t.Errorf("%s has %d lines (want at most %d): split it by idea", name, lines, most)
		}
	})
}

func isGenerated(t *testing.T, name string) bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", name), nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	return ast.IsGenerated(file)
}

func TestPackagesAreNamedForWhatTheyAre(t *testing.T) {
	banned := []string{"util", "utils", "common", "helper", "helpers", "types", "manager", "service", "misc"}
	for _, p := range packages(t) {
		if name := path.Base(p.ImportPath); slices.Contains(banned, name) {
			t.Errorf("%s: %q says nothing about what is inside", p.ImportPath, name)
		}
	}
}
