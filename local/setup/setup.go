// Package setup answers one question: is everything there that the local world
// needs, and if not, how does it get there? It installs Debian packages and npm
// packages and nothing else. It must never start a service, never touch what is
// already there, and never name a registry: the machine's own configuration of
// apt and npm decides where packages come from.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Run installs into the machine and into buildDir what is missing, and tells on
// out what it does. With nothing to do it prints one line, within milliseconds.
// A second Run on the same buildDir waits for the first.
func Run(ctx context.Context, buildDir string, out io.Writer) error {
	return machine{
		out:         out,
		programDirs: append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/sbin", "/sbin"),
		policyFile:  "/usr/sbin/policy-rc.d",
		isRoot:      os.Geteuid() == 0,
		tick:        tickInterval,
	}.install(ctx, buildDir)
}

// tickInterval is how often a long step shows that it goes on.
const tickInterval = 5 * time.Second

// machine is what Run works on; a test gives another one.
type machine struct {
	out         io.Writer
	programDirs []string
	// policyFile is asked by Debian's packages whether a service may start
	// (invoke-rc.d(8), policy-rc.d).
	policyFile string
	isRoot     bool
	tick       time.Duration
}

// install brings what is missing, Slurm first.
func (m machine) install(ctx context.Context, buildDir string) error {
	packages := m.missingPackages()
	needAzurite := !azuriteIsInstalled(buildDir)
	if len(packages) == 0 && !needAzurite {
		m.say("Slurm, munge and Azurite %s are there", AzuriteVersion)
		return nil
	}
	unlock, err := lock(buildDir)
	if err != nil {
		return err
	}
	defer unlock()
	if packages = m.missingPackages(); len(packages) > 0 { // again: the wait may have changed it
		if err := m.installPackages(ctx, packages); err != nil {
			return err
		}
	}
	if !azuriteIsInstalled(buildDir) {
		if err := m.installAzurite(ctx, buildDir); err != nil {
			return err
		}
	}
	m.say("everything is there")
	return nil
}

// lock takes the lock of buildDir, which it makes.
func lock(buildDir string) (unlock func(), err error) {
	if err := os.MkdirAll(buildDir, 0o755); err != nil {
		return nil, fmt.Errorf("make the build directory: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(buildDir, ".setup.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", buildDir, err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", buildDir, err), file.Close())
	}
	return func() { file.Close() }, nil
}

func (m machine) say(format string, args ...any) {
	fmt.Fprintf(m.out, "setup: "+format+"\n", args...)
}
