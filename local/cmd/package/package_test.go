package main

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// repository makes a small one with a handler of its own.
func repository(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":                             "module example.com/small\n\ngo 1.26\n",
		"cmd/handler/main.go":                "package main\n\nimport \"net\"\n\nfunc main() { _, _ = net.Dial(\"tcp\", \"127.0.0.1:0\") }\n",
		"host.json":                          `{"customHandler":{"description":{"defaultExecutablePath":"handler"}}}`,
		"local.settings.json":                `{"Values":{"SERVICEBUS":"secret"}}`,
		"functions/README.md":                "a table",
		"functions/scale_down/function.json": `{"bindings":[]}`,
		"functions/state/function.json":      `{"bindings":[]}`,
		"policies/b.yaml":                    "b",
		"policies/a.yaml":                    "a",
		"policies/ca.pem":                    "pem",
		"policies/notes.txt":                 "not shipped",
	} {
		put(t, root, name, text)
	}
	return root
}

func put(t *testing.T, root, name, text string) {
	t.Helper()
	if err := write(root, name, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func packaged(t *testing.T, root string, args ...string) {
	t.Helper()
	var stdout strings.Builder
	if err := run(append([]string{"--root", root}, args...), &stdout); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout.String(), "packaged") {
		t.Errorf("stdout is %q", stdout.String())
	}
}

func TestPackageHoldsWhatTheHostLooksFor(t *testing.T) {
	root := repository(t)
	packaged(t, root, "--policy", filepath.Join(root, "policies"))

	z, err := zip.OpenReader(filepath.Join(root, "build/app.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	got := map[string]os.FileMode{}
	for _, f := range z.File {
		got[f.Name] = f.Mode()
		const unix = 3
		if f.CreatorVersion>>8 != unix || !f.Modified.Equal(stamp) {
			t.Errorf("%s: made on system %d at %v", f.Name, f.CreatorVersion>>8, f.Modified)
		}
	}
	want := map[string]os.FileMode{
		"handler": 0o755, "host.json": 0o644, "scale_down/function.json": 0o644, "state/function.json": 0o644,
		"policy/a.yaml": 0o644, "policy/b.yaml": 0o644, "policy/ca.pem": 0o644,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("zip (-want +got):\n%s", diff)
	}

	files, err := list(filepath.Join(root, "build/app"))
	if err != nil || len(files) != len(want) {
		t.Errorf("the folder holds %v, %v", files, err)
	}
	for _, name := range files {
		info, err := os.Stat(filepath.Join(root, "build/app", name))
		if err != nil || info.Mode() != want[name] {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	binary, err := elf.Open(filepath.Join(root, "build/app/handler"))
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	if libraries, err := binary.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("the handler needs %v, %v", libraries, err)
	}
}

func TestEqualSourcesGiveEqualBytes(t *testing.T) {
	var zips [2][]byte
	for i := range zips {
		root := repository(t)
		packaged(t, root)
		data, err := os.ReadFile(filepath.Join(root, "build/app.zip"))
		if err != nil {
			t.Fatal(err)
		}
		zips[i] = data
	}
	if !bytes.Equal(zips[0], zips[1]) {
		t.Error("two runs differ")
	}
}

func TestOnePolicyFileBecomesTheDefault(t *testing.T) {
	root := repository(t)
	packaged(t, root, "--policy", filepath.Join(root, "policies/a.yaml"))
	data, err := os.ReadFile(filepath.Join(root, "build/app/policy.yaml"))
	if err != nil || string(data) != "a" {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestPackageRefusesAndKeepsThePreviousApp(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, root string)
		args  []string
		want  string
	}{
		{name: "another executable", want: `host.json starts "app"`, spoil: func(t *testing.T, root string) {
			put(t, root, "host.json", `{"customHandler":{"description":{"defaultExecutablePath":"app"}}}`)
		}},
		{name: "host.json that is not JSON", want: "read host.json", spoil: func(t *testing.T, root string) { put(t, root, "host.json", "{") }},
		{name: "a name that the host would not load", want: "functions/9lives", spoil: func(t *testing.T, root string) {
			put(t, root, "functions/9lives/function.json", "{}")
		}},
		{name: "code in a function's folder", want: "functions/state holds something besides", spoil: func(t *testing.T, root string) {
			put(t, root, "functions/state/state.go", "package state")
		}},
		{name: "a stray file", want: "functions/notes.txt", spoil: func(t *testing.T, root string) { put(t, root, "functions/notes.txt", "") }},
		{name: "bindings that are not JSON", want: "functions/state/function.json is not JSON", spoil: func(t *testing.T, root string) {
			put(t, root, "functions/state/function.json", "bindings:")
		}},
		{name: "a handler that does not compile", want: "build cmd/handler", spoil: func(t *testing.T, root string) {
			put(t, root, "cmd/handler/main.go", "package main\n\nfunc main() { x }\n")
		}},
		{name: "a policy that is not there", args: []string{"--policy", "none.yaml"}, want: "none.yaml"},
		{name: "an architecture that Go does not know", args: []string{"--goarch", "vax"}, want: "vax"},
		{name: "a stray argument", args: []string{"now"}, want: `"now"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := repository(t)
			put(t, root, "build/app/marker", "previous")
			if tt.spoil != nil {
				tt.spoil(t, root)
			}
			err := run(append([]string{"--root", root}, tt.args...), &strings.Builder{})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if files, _ := list(filepath.Join(root, "build")); len(files) != 1 || files[0] != "app/marker" {
				t.Errorf("build holds %v", files)
			}
		})
	}
}
