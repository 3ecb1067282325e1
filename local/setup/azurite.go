package setup

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// AzuriteVersion is the pinned version of the storage emulator; it is also in
// npm/package.json.
const AzuriteVersion = "3.37.0"

// ErrNotInstalled says that a tool is missing and `burstlocal setup` brings it.
var ErrNotInstalled = errors.New("not installed: run `go run ./local/cmd/burstlocal setup`")

// npmFiles are package.json and package-lock.json. The lock file pins every
// package by its hash and has no "resolved" addresses, so npm takes each from
// the registry that it is configured for.
//
//go:embed npm/package.json npm/package-lock.json
var npmFiles embed.FS

// toolsDir is where npm installs to.
func toolsDir(buildDir string) string { return filepath.Join(buildDir, "tools") }

// Azurite gives the argv that starts the table service of Azurite from the
// tools under buildDir, on 127.0.0.1 and a port that the kernel chooses. Where
// its data goes is the caller's to add. The error is ErrNotInstalled when the
// tool is missing.
//
// The API version check stays on: aztables v1.4.1 sends a version that Azurite
// 3.37.0 knows.
func Azurite(buildDir string) ([]string, error) {
	// The program is started through node and not through the link in .bin,
	// whose first line looks for node with env.
	script := filepath.Join(toolsDir(buildDir), "node_modules", "azurite", "dist", "src", "table", "main.js")
	if _, err := os.Stat(script); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("find Azurite in %s: %w", buildDir, ErrNotInstalled)
	} else if err != nil {
		return nil, fmt.Errorf("find Azurite in %s: %w", buildDir, err)
	}
	return []string{
		"node", script, "--disableTelemetry", "--silent",
		"--tableHost", "127.0.0.1", "--tablePort", "0",
	}, nil
}

// azuriteIsInstalled reports whether npm has finished installing the pinned
// version: it writes its hidden lock file last.
func azuriteIsInstalled(buildDir string) bool {
	text, err := os.ReadFile(filepath.Join(toolsDir(buildDir), "node_modules", ".package-lock.json"))
	if err != nil {
		return false
	}
	var lock struct {
		Packages map[string]struct {
			Version string `json:"version"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(text, &lock); err != nil || lock.Packages["node_modules/azurite"].Version != AzuriteVersion {
		return false
	}
	_, err = Azurite(buildDir)
	return err == nil
}

// installAzurite installs exactly what the lock file says. Install scripts stay
// off: nothing in the list needs one.
func (m machine) installAzurite(ctx context.Context, buildDir string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("install Azurite %s: %w: install Node.js 20 or later with npm", AzuriteVersion, err)
	}
	tools := toolsDir(buildDir)
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return fmt.Errorf("install Azurite %s: %w", AzuriteVersion, err)
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := npmFiles.ReadFile("npm/" + name)
		if err != nil {
			return fmt.Errorf("install Azurite %s: %w", AzuriteVersion, err)
		}
		if err := os.WriteFile(filepath.Join(tools, name), text, 0o644); err != nil {
			return fmt.Errorf("install Azurite %s: %w", AzuriteVersion, err)
		}
	}
	err = m.run(ctx, "installing Azurite "+AzuriteVersion+" and what it needs", tools,
		npm, "ci", "--loglevel=error", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
	if err != nil {
		return err
	}
	if !azuriteIsInstalled(buildDir) {
		return fmt.Errorf("install Azurite %s: npm said yes, but it is not in %s", AzuriteVersion, tools)
	}
	return nil
}

// BuildDir gives the build directory of the repository that holds dir: the
// directory build beside the nearest go.mod above it.
func BuildDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the repository of %s: %w", dir, err)
	}
	for at := abs; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return filepath.Join(at, "build"), nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("find the repository of %s: no go.mod in any directory above it", abs)
		}
	}
}
