package slurmlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Env is the environment for a client of this lab, such as squeue, sbatch or an
// agent: that of this process without any variable that steers Slurm, with
// SLURM_CONF, and with BinDir first in PATH.
func (l *Lab) Env() []string {
	steering := []string{"SLURM", "SBATCH_", "SQUEUE_", "SINFO_", "SALLOC_", "SCONTROL_", "SCANCEL_"}
	var env []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		drop := name == "PATH"
		for _, prefix := range steering {
			drop = drop || strings.HasPrefix(name, prefix)
		}
		if !drop {
			env = append(env, variable)
		}
	}
	return append(env, "SLURM_CONF="+l.layout.conf(), "PATH="+l.BinDir()+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// Command prepares a client of BinDir. It runs in the lab's directory for jobs,
// so that slurm-1.out and the like land there.
func (l *Lab) Command(ctx context.Context, client string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, l.layout.bin(client), args...)
	cmd.Env, cmd.Dir = l.Env(), l.layout.jobDir()
	return cmd
}

// Run runs a client to its end and gives its standard output. The error has
// what it said on standard error. Give ctx a deadline: a client that finds no
// slurmctld retries for 9 s.
func (l *Lab) Run(ctx context.Context, client string, args ...string) (string, error) {
	cmd := l.Command(ctx, client, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("run %s %s: %w: %s", client, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Submit runs sbatch with args and gives the job id. A simple job is
// Submit(ctx, "--partition=htc", "--wrap=sleep 1").
func (l *Lab) Submit(ctx context.Context, args ...string) (int, error) {
	out, err := l.Run(ctx, "sbatch", append([]string{"--parsable"}, args...)...)
	if err != nil {
		return 0, err
	}
	id, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		return 0, fmt.Errorf("read the job id from sbatch: %w", err)
	}
	return id, nil
}

// Srun prepares srun with args; the caller starts it and waits for it.
func (l *Lab) Srun(ctx context.Context, args ...string) *exec.Cmd {
	return l.Command(ctx, "srun", args...)
}

// Cancel cancels a job.
func (l *Lab) Cancel(ctx context.Context, jobID int) error {
	_, err := l.Run(ctx, "scancel", strconv.Itoa(jobID))
	return err
}

// Reconfigure makes slurmctld read slurm.conf again.
func (l *Lab) Reconfigure(ctx context.Context) error {
	_, err := l.Run(ctx, "scontrol", "reconfigure")
	return err
}

// Squeue gives the output of squeue.
func (l *Lab) Squeue(ctx context.Context, args ...string) (string, error) {
	return l.Run(ctx, "squeue", args...)
}

// Sinfo gives the output of sinfo.
func (l *Lab) Sinfo(ctx context.Context, args ...string) (string, error) {
	return l.Run(ctx, "sinfo", args...)
}

// ErrNoState says that Slurm's answer held no state.
var ErrNoState = errors.New("no state in the answer")

// NodeState gives the State of a node as scontrol prints it, flags included:
// "IDLE+CLOUD+POWERED_DOWN".
func (l *Lab) NodeState(ctx context.Context, name string) (string, error) {
	return l.show(ctx, "node", name, "State")
}

// JobState gives the JobState of a job as scontrol prints it: "PENDING".
func (l *Lab) JobState(ctx context.Context, jobID int) (string, error) {
	return l.show(ctx, "job", strconv.Itoa(jobID), "JobState")
}

// show reads one Key=value of `scontrol show`.
func (l *Lab) show(ctx context.Context, kind, name, key string) (string, error) {
	out, err := l.Run(ctx, "scontrol", "--oneliner", "show", kind, name)
	if err != nil {
		return "", err
	}
	for _, field := range strings.Fields(out) {
		if value, ok := strings.CutPrefix(field, key+"="); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("show %s %s: %w: %q", kind, name, ErrNoState, out)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line)
}
