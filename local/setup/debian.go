package setup

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// debianPackage is one package and the programs that it is wanted for.
type debianPackage struct {
	name     string
	programs []string
}

// debianPackages are Slurm's real daemons. slurm-wlm-emulator must not be among
// them: it takes over the names slurmctld, slurmd and slurmstepd.
var debianPackages = []debianPackage{
	{"slurmctld", []string{"slurmctld"}},
	{"slurmd", []string{"slurmd", "slurmstepd"}},
	{"slurm-client", []string{"sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun"}},
	{"munge", []string{"munged"}},
}

// missingPackages lists the packages of which a program cannot be found. Slurm
// that came by another way than Debian's packages is good enough.
func (m machine) missingPackages() []string {
	var missing []string
	for _, p := range debianPackages {
		for _, program := range p.programs {
			if !m.has(program) {
				missing = append(missing, p.name)
				break
			}
		}
	}
	return missing
}

func (m machine) has(program string) bool {
	for _, directory := range m.programDirs {
		info, err := os.Stat(filepath.Join(directory, program))
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

//go:embed install-debian.sh
var installScript string

// errNoRoot says that packages are missing and this account cannot install them.
var errNoRoot = errors.New("neither root nor sudo")

// installPackages installs Debian packages, with sudo when we are not root.
func (m machine) installPackages(ctx context.Context, packages []string) error {
	byHand := "apt-get update && apt-get install --no-install-recommends " + strings.Join(packages, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("install %s: %w: this machine is no Debian; install Slurm 21.08 to 26.05 and munge in another way", strings.Join(packages, ", "), err)
	}
	argv := append([]string{"/bin/sh", "-c", installScript, "install-debian", m.policyFile}, packages...)
	if !m.isRoot {
		sudo, err := exec.LookPath("sudo")
		if err != nil {
			return fmt.Errorf("install %s: %w: run as root: %s", strings.Join(packages, ", "), errNoRoot, byHand)
		}
		argv = append([]string{sudo}, argv...)
	}
	if err := m.run(ctx, "installing the Debian packages "+strings.Join(packages, ", "), "", argv...); err != nil {
		return fmt.Errorf("%w\nby hand, as root: %s", err, byHand)
	}
	if left := m.missingPackages(); len(left) > 0 {
		return fmt.Errorf("install %s: apt-get said yes, but programs of %s are still missing", strings.Join(packages, ", "), strings.Join(left, ", "))
	}
	return nil
}
