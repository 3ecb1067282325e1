package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// notesHeading begins what people wrote on the page. It is kept when the page
// is written again.
const notesHeading = "## What dominates"

// writePage writes RESULTS.md. problem is what could not be measured.
func (b *bench) writePage(ctx context.Context, problem error) error {
	path := filepath.Join(b.root, "bench", "RESULTS.md")
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read page: %w", err)
	}
	machine, err := b.machine(ctx)
	if err != nil {
		return fmt.Errorf("describe the machine: %w", err)
	}
	page := "# How fast it is\n\nWritten by `go run ./bench`; do not edit above \"" + strings.TrimPrefix(notesHeading, "## ") + "\".\n\n" + machine + `
Each figure is the median of the runs, with the least and the greatest in
parentheses. The floor is measured in the same run, interleaved or right
beside it; the ratio is what to compare between machines. All parts share the
cores: simulators, emulator and Azurite run on the machine that is measured.

` + table(b.results) + "\n"
	if problem != nil {
		page += "Not measured: " + problem.Error() + "\n\n"
	}
	page += notes(string(old))
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	b.say("wrote %s", path)
	return nil
}

// notes gives the part of a page that people wrote.
func notes(page string) string {
	at := strings.Index(page, notesHeading+"\n")
	if at < 0 {
		return notesHeading + "\n"
	}
	return page[at:]
}

// machine says where the figures come from.
func (b *bench) machine(ctx context.Context) (string, error) {
	cpu, err := field("/proc/cpuinfo", "model name")
	if err != nil {
		return "", err
	}
	memory, err := field("/proc/meminfo", "MemTotal")
	if err != nil {
		return "", err
	}
	var name syscall.Utsname
	if err := syscall.Uname(&name); err != nil {
		return "", fmt.Errorf("ask for the kernel: %w", err)
	}
	disk, err := b.fileSystem()
	if err != nil {
		return "", err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	var t strings.Builder
	for _, line := range [][2]string{
		{"date", b.began.UTC().Format(time.DateTime) + " UTC"},
		{"CPU", fmt.Sprintf("%s, %d cores", cpu, runtime.NumCPU())},
		{"memory", memory},
		{"kernel", chars(name.Sysname[:]) + " " + chars(name.Release[:])},
		{"disk of the hook's figures", disk},
		{"Go", runtime.Version() + " " + runtime.GOARCH},
		{"Node (Azurite)", version(ctx, "node", "--version")},
		{"Slurm", version(ctx, "slurmctld", "-V")}, // a client wants a slurm.conf even for its version
		{"took", time.Since(b.began).Round(time.Second).String()},
		{"load average at the end", strings.TrimSpace(string(load))},
	} {
		fmt.Fprintf(&t, "- %s: %s\n", line[0], line[1])
	}
	return t.String(), nil
}

// version is what a program says of itself. Debian keeps daemons where a user's
// PATH does not look.
func version(ctx context.Context, program, flag string) string {
	path, err := exec.LookPath(program)
	if err != nil {
		path = filepath.Join("/usr/sbin", program)
	}
	out, err := exec.CommandContext(ctx, path, flag).Output()
	if err != nil {
		return "none"
	}
	return strings.TrimSpace(string(out))
}

// field reads one line of a file of "name : value" lines.
func field(path, name string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%s has no line %q", path, name)
}

// fileSystem names the file system and device that the scratch directory is on.
func (b *bench) fileSystem() (string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	best, found := "", ""
	for line := range strings.Lines(string(text)) {
		mount, source, ok := strings.Cut(line, " - ")
		fields, about := strings.Fields(mount), strings.Fields(source)
		if !ok || len(fields) < 5 || len(about) < 2 {
			continue
		}
		point := fields[4]
		inside := b.dir == point || strings.HasPrefix(b.dir, strings.TrimSuffix(point, "/")+"/")
		if inside && len(point) >= len(best) {
			best, found = point, about[0]+" on "+about[1]
		}
	}
	if found == "" {
		return "", errors.New("no mount holds the scratch directory")
	}
	return found, nil
}

// chars reads a C string.
func chars(text []int8) string {
	var out []byte
	for _, c := range text {
		if c == 0 {
			break
		}
		out = append(out, byte(c))
	}
	return string(out)
}
