package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// AzuriteVersion is the pinned version of the storage emulator.
const AzuriteVersion = "3.37.0"

// ErrNotInstalled says that a tool is missing and `burstlocal setup` brings it.
var ErrNotInstalled = errors.New("not installed: run `go run ./local/cmd/burstlocal setup`")

// Azurite gives the argv that starts the table service of Azurite from the
// tools under buildDir, with its data in dataDir, on 127.0.0.1 and a port that
// the kernel chooses. The error is ErrNotInstalled when the tool is missing.
//
// The API version check stays on: aztables v1.4.1 sends a version that Azurite
// 3.37.0 knows.
func Azurite(buildDir, dataDir string) ([]string, error) {
	// The program is started through node and not through the link in .bin,
	// whose first line looks for node with env.
	script := filepath.Join(buildDir, "tools", "node_modules", "azurite", "dist", "src", "table", "main.js")
	if _, err := os.Stat(script); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find Azurite in %s: %w", buildDir, ErrNotInstalled)
	} else if err != nil {
		return nil, fmt.Errorf("find Azurite in %s: %w", buildDir, err)
	}
	return []string{
		"node", script, "--disableTelemetry", "--silent",
		"--tableHost", "127.0.0.1", "--tablePort", "0", "--location", dataDir,
	}, nil
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
