package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// build makes everything that is measured from the sources as they are: the
// programs of the head node, the packaged app, and the floor beside them.
func (b *bench) build(ctx context.Context) error {
	for _, args := range [][]string{
		{"build", "-buildvcs=false", "-trimpath", "-o", b.bin("") + "/", "./cmd/burst-hook", "./cmd/burst-agent", "./bench/floor"},
		{"run", "-buildvcs=false", "./local/cmd/package", "--root", b.root, "--out", b.dir},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = b.root
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w: %s", args[0], err, text)
		}
	}
	return nil
}

// bin is the path of a program that build made.
func (b *bench) bin(program string) string { return filepath.Join(b.dir, "bin", program) }

// app is the packaged Functions app.
func (b *bench) app() string { return filepath.Join(b.dir, "app") }
