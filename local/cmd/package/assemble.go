package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// executable is the handler's name in the app, and of its directory in cmd.
const executable = "handler"

// functionName is what the host accepts as a function's folder, less capitals
// and hyphens, which Go file names and route keys do not need.
var functionName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,127}$`)

// assemble makes out/app anew and lists its files in order. A run that does
// not succeed leaves the previous app in place.
func (j job) assemble(ctx context.Context) ([]string, error) {
	if err := os.MkdirAll(j.out, 0o755); err != nil {
		return nil, err
	}
	stage, err := os.MkdirTemp(j.out, ".app-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(stage)
	if err := os.Chmod(stage, 0o755); err != nil {
		return nil, err
	}
	for _, step := range []func(string) error{
		j.copyHost,
		j.liftFunctions,
		j.copyPolicy,
		func(stage string) error { return j.buildHandler(ctx, stage) },
	} {
		if err := step(stage); err != nil {
			return nil, err
		}
	}
	app := filepath.Join(j.out, "app")
	if err := os.RemoveAll(app); err != nil {
		return nil, err
	}
	if err := os.Rename(stage, app); err != nil {
		return nil, err
	}
	return list(app)
}

// copyHost copies host.json after checking that it starts what we build.
func (j job) copyHost(stage string) error {
	data, err := os.ReadFile(filepath.Join(j.root, "host.json"))
	if err != nil {
		return err
	}
	var host struct {
		CustomHandler struct {
			Description struct {
				DefaultExecutablePath string `json:"defaultExecutablePath"`
			} `json:"description"`
		} `json:"customHandler"`
	}
	if err := json.Unmarshal(data, &host); err != nil {
		return fmt.Errorf("read host.json: %w", err)
	}
	if got := host.CustomHandler.Description.DefaultExecutablePath; got != executable {
		return fmt.Errorf("host.json starts %q, but this program builds %q", got, executable)
	}
	return os.WriteFile(filepath.Join(stage, "host.json"), data, 0o644)
}

// liftFunctions copies functions/NAME/function.json to NAME/function.json,
// because the host looks for it one level below host.json and no deeper.
func (j job) liftFunctions(stage string) error {
	source := filepath.Join(j.root, "functions")
	entries, err := os.ReadDir(source)
	if err != nil {
		return err
	}
	lifted := 0
	for _, folder := range entries {
		name := folder.Name()
		if !folder.IsDir() {
			if name == "README.md" {
				continue
			}
			return fmt.Errorf("functions/%s is not a function's folder", name)
		}
		if !functionName.MatchString(name) || name == "host" {
			return fmt.Errorf("functions/%s: the host would not load this name", name)
		}
		files, err := os.ReadDir(filepath.Join(source, name))
		if err != nil {
			return err
		}
		if len(files) != 1 || files[0].Name() != "function.json" {
			return fmt.Errorf("functions/%s holds something besides function.json, or lacks it", name)
		}
		data, err := os.ReadFile(filepath.Join(source, name, "function.json"))
		if err != nil {
			return err
		}
		if !json.Valid(data) {
			return fmt.Errorf("functions/%s/function.json is not JSON", name)
		}
		if err := write(stage, filepath.Join(name, "function.json"), data); err != nil {
			return err
		}
		lifted++
	}
	if lifted == 0 {
		return errors.New("functions holds no function")
	}
	return nil
}

// copyPolicy ships a policy file as policy.yaml, the default of BURST_POLICY,
// or a directory's policies, with the CA files they name, as policy/.
func (j job) copyPolicy(stage string) error {
	if j.policy == "" {
		return nil
	}
	data, err := os.ReadFile(j.policy)
	if err == nil {
		return write(stage, "policy.yaml", data)
	}
	entries, dirErr := os.ReadDir(j.policy)
	if dirErr != nil {
		return err // why it is no readable file
	}
	copied := 0
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); e.IsDir() || strings.HasPrefix(e.Name(), ".") || ext != ".yaml" && ext != ".pem" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(j.policy, e.Name()))
		if err != nil {
			return err
		}
		if err := write(stage, filepath.Join("policy", e.Name()), data); err != nil {
			return err
		}
		copied++
	}
	if copied == 0 {
		return fmt.Errorf("%s holds no *.yaml", j.policy)
	}
	return nil
}

// buildHandler compiles a static executable: the host's image is not ours to
// choose, so it must not need a C library.
func (j job) buildHandler(ctx context.Context, stage string) error {
	target, err := filepath.Abs(filepath.Join(stage, executable))
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", target, "./cmd/"+executable)
	build.Dir = j.root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+j.goarch)
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build cmd/%s: %w\n%s", executable, err, output)
	}
	return os.Chmod(target, 0o755)
}

func write(stage, name string, data []byte) error {
	file := filepath.Join(stage, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// list gives the files below dir, sorted, with slashes.
func list(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files = append(files, filepath.ToSlash(name))
		return err
	})
	slices.Sort(files)
	return files, err
}
