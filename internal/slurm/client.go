package slurm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// DefaultTimeout bounds every call that Client makes. A client program without
// a slurmctld gives up by itself after 9.0 s (measured on 22.05.8).
const DefaultTimeout = 10 * time.Second

// Client asks one Slurm controller. The zero value asks the controller of the
// host's own slurm.conf. A Client is safe for concurrent use when its Runner is.
type Client struct {
	// Dir is the directory of squeue, sinfo, scontrol and sdiag; empty
	// means that PATH is searched.
	Dir string
	// Conf becomes SLURM_CONF; empty leaves Slurm's default.
	Conf string
	// Timeout bounds each call; 0 means DefaultTimeout.
	Timeout time.Duration
	// Runner runs the programs; nil means real ones.
	Runner Runner
}

// environment is all that the programs get. SLURM_TIME_FORMAT=%s makes every
// time a count of seconds since 1970 (measured on 22.05.8); TZ serves a version
// that would ignore it. Leaving out the rest keeps SQUEUE_FORMAT and its like,
// which change the output, away.
func (c *Client) environment() []string {
	env := []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin",
		"LC_ALL=C",
		"TZ=UTC",
		"SLURM_TIME_FORMAT=%s",
	}
	if c.Conf != "" {
		env = append(env, "SLURM_CONF="+c.Conf)
	}
	return env
}

// run runs one Slurm program within the client's deadline. The error is
// classified; the exit status is for the caller to judge.
func (c *Client) run(ctx context.Context, program string, args []string, read func(io.Reader) error) (Exit, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var runner Runner = execRunner{}
	if c.Runner != nil {
		runner = c.Runner
	}
	path := program
	if c.Dir != "" {
		path = filepath.Join(c.Dir, program)
	}
	exit, err := runner.Run(ctx, Command{Path: path, Args: args, Env: c.environment()}, read)
	if err == nil {
		return exit, nil
	}
	kind := fault.Transient
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, errOutputTooLarge) {
		kind = fault.Invalid
	}
	op := "run " + program
	if stderr := oneLine(exit.Stderr); stderr != "" {
		op += " (" + stderr + ")"
	}
	return exit, fault.New(kind, op, err)
}

// query runs a program whose exit status and complaints do count.
func (c *Client) query(ctx context.Context, program string, args []string, read func(io.Reader) error) error {
	exit, err := c.run(ctx, program, args, read)
	if err != nil {
		return err
	}
	return exitError(program, exit)
}

// queryText collects the whole output of a program that prints little.
func (c *Client) queryText(ctx context.Context, program string, args ...string) (string, error) {
	var out []byte
	err := c.query(ctx, program, args, func(stdout io.Reader) error {
		var err error
		out, err = io.ReadAll(stdout)
		return err
	})
	return string(out), err
}

// exitError turns the end of a query into an error. squeue and sinfo of 22.05
// exit with 0 after refusing an output field and leave it out of every line, so
// that complaint is looked for first.
func exitError(program string, exit Exit) error {
	if strings.Contains(exit.Stderr, "format specification") {
		return fault.Newf(fault.Bug, "%s refused an output field: %s", program, oneLine(exit.Stderr))
	}
	if exit.Code == 0 {
		return nil
	}
	return fault.Newf(kindOfStderr(exit.Stderr), "%s ended with status %d: %s", program, exit.Code, oneLine(exit.Stderr))
}

// deniedTexts are what Slurm 22.05 and 26.05 print when the caller may not.
var deniedTexts = []string{
	"Access/permission denied",
	"Invalid user id",
	"Protocol authentication error",
	"Invalid authentication credential",
	"Permission denied",
}

func kindOfStderr(stderr string) fault.Kind {
	for _, text := range deniedTexts {
		if strings.Contains(stderr, text) {
			return fault.Denied
		}
	}
	return fault.Transient
}

// unreachableTexts are what Slurm's programs print when slurmctld or munge did
// not answer, so that nothing was carried out or nobody knows.
var unreachableTexts = []string{
	"Unable to contact slurm controller",
	"Socket timed out",
	"Connection refused",
	"Connection timed out",
	"Communication connection failure",
	"Communication shutdown failure",
	"Message receive failure",
	"Message send failure",
	"Zero Bytes were transmitted or received",
	"Slurm backup controller in standby mode",
	"Munge encode failed",
	"Could not establish a configuration source",
}

func isUnreachable(stderr string) bool {
	for _, text := range unreachableTexts {
		if strings.Contains(stderr, text) {
			return true
		}
	}
	return false
}

// maxComplaintBytes bounds what an error repeats of a program's complaint.
const maxComplaintBytes = 2 << 10

// oneLine makes a program's complaint fit into an error.
func oneLine(text string) string {
	return printable([]byte(strings.Join(strings.Fields(text), " ")), maxComplaintBytes)
}

// Ping tells which controllers answer (scontrol ping). It is an error when
// Slurm could not be asked; a controller that is down is an answer.
func (c *Client) Ping(ctx context.Context) ([]Controller, error) {
	var controllers []Controller
	exit, err := c.run(ctx, "scontrol", []string{"ping"}, func(stdout io.Reader) error {
		var err error
		controllers, err = parsePing(stdout)
		return err
	})
	if err != nil {
		return nil, err
	}
	// scontrol ping exits with 1 when a controller is down.
	if len(controllers) == 0 {
		return nil, fault.Newf(fault.Transient, "scontrol ping named no controller (status %d): %s", exit.Code, oneLine(exit.Stderr))
	}
	return controllers, nil
}

// Controller is one slurmctld as scontrol ping describes it.
type Controller struct {
	// Role is "primary", "backup" or "backup1" …
	Role string
	// Host is the SlurmctldHost's name.
	Host string
	// Up says that it answered.
	Up bool
}

func parsePing(stdout io.Reader) ([]Controller, error) {
	text, err := io.ReadAll(stdout)
	if err != nil {
		return nil, fmt.Errorf("read scontrol ping: %w", err)
	}
	var controllers []Controller
	for line := range strings.Lines(string(text)) {
		// Slurmctld(primary) at ctl1 is UP
		rest, found := strings.CutPrefix(strings.TrimSpace(line), "Slurmctld(")
		if !found {
			continue
		}
		role, rest, found := strings.Cut(rest, ") at ")
		if !found {
			continue
		}
		host, state, found := strings.Cut(rest, " is ")
		if !found {
			continue
		}
		controllers = append(controllers, Controller{
			Role: printable([]byte(role), maxNameBytes),
			Host: printable([]byte(host), maxNameBytes),
			Up:   strings.TrimSpace(state) == "UP",
		})
	}
	return controllers, nil
}
