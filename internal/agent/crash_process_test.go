//go:build crashpoints

package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/spool"
	"github.com/slurmburst/slurmburst/local/slurmlab"
)

// notInAShortLife are the points that take more than a hook call, a command that
// comes twice and an orderly end: a quarter of the lock's duration, a job that
// leaves its nodes, a broken line, a node between two states.
var notInAShortLife = []string{"renewed", "postponed", "certain", "unchanged"}

// The built program is killed with SIGKILL at the crash points, with real Slurm
// and over real connections: the next one finds what it left, tells of the hook
// call, and does nothing twice.
func TestCrashPointsOfTheProgram(t *testing.T) {
	t.Parallel()
	h := startHead(t, slurmlab.Config{Partitions: []slurmlab.CloudPartition{{Name: "htc", Count: 5}}})
	c := newCloud(t)
	p := buildAgent(t, h, c.addr, "crashpoints")
	updates := p.countUpdates(h)
	struck, whole := 0, t
	for _, at := range crashPoints(t) {
		if slices.Contains(notInAShortLife, at.name) {
			continue
		}
		struck++
		t.Run(fmt.Sprintf("%02d %s", at.number, at.name), func(t *testing.T) {
			h.t, c.t, p.t = t, t, t
			defer func() { h.t, c.t, p.t = whole, whole, whole }()
			before, from := len(updates()), len(c.taken())
			if _, err := spool.Write(h.spool, spool.Record{Kind: spool.ResumeFail, Time: time.Now(), Hostlist: "htc-2"}); err != nil {
				t.Fatal(err)
			}
			// Every other one undoes what the one before did.
			command := event.SlurmCommand{Kind: event.FenceNodes, Nodes: "htc-1", Expect: event.Expect{NotFlags: []string{"DRAIN"}}}
			if struck%2 == 0 {
				command = event.SlurmCommand{Kind: event.UnfenceNodes, Nodes: "htc-1", Expect: event.Expect{Flags: []string{"DRAIN"}}}
			}
			command = c.send(command)
			again := command
			again.Attempt = 2
			c.send(again)
			p.dieAt(t, at, func() { c.awaitResult(command, from) })
			next := p.start()
			c.awaitResult(command, from)
			c.await("the hook call is told", from, func(q event.QueuePressure) bool { return q.Cause == event.CauseResumeFail })
			eventually(t, "the spool is empty", func() (bool, string) { return h.spoolFiles() == 0, "" })
			if err := next.Stop(t.Context(), syscall.SIGTERM, patience); err != nil {
				t.Errorf("SIGTERM: %v", err)
			}
			if got := updates()[before:]; len(got) != 1 {
				t.Errorf("the command changed Slurm %d times: %q", len(got), got)
			}
		})
	}
	c.rising()
	if left := c.server.Stats()[commandQueue]; left.Active != 0 {
		t.Errorf("commands are left in the queue: %+v", left)
	}
}

// dieAt runs the program until it has killed itself. At a point of its end it is
// told to end, once it was awaited.
func (p *program) dieAt(t *testing.T, at point, awaited func()) {
	t.Helper()
	env := p.env
	p.env = append(slices.Clone(env), fmt.Sprintf("SLURMBURST_KILL_AT=%d", at.number))
	victim := p.start()
	p.env = env
	if at.name == "ended" || at.name == "givenBack" {
		awaited()
		if err := victim.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-victim.Done():
	case <-time.After(patience):
		t.Fatalf("the program never came by %s", at.name)
	}
	if err := victim.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the program ended at %s with %v, want to be killed", at.name, err)
	}
}

// countUpdates puts a scontrol before Slurm's that keeps a list of the changes.
func (p *program) countUpdates(h *head) func() []string {
	p.t.Helper()
	dir := p.t.TempDir()
	list := filepath.Join(dir, "updates")
	for _, name := range []string{"squeue", "sinfo", "sdiag"} {
		if err := os.Symlink(filepath.Join(h.lab.BinDir(), name), filepath.Join(dir, name)); err != nil {
			p.t.Fatal(err)
		}
	}
	script := fmt.Sprintf("#!/bin/sh\ncase \"$1\" in update) echo \"$*\" >>'%s' ;; esac\nexec '%s' \"$@\"\n", list, filepath.Join(h.lab.BinDir(), "scontrol"))
	if err := os.WriteFile(filepath.Join(dir, "scontrol"), []byte(script), 0o700); err != nil {
		p.t.Fatal(err)
	}
	p.env = append(p.env, "BURST_SLURM_BIN="+dir)
	return func() []string {
		text, err := os.ReadFile(list)
		if err != nil && !os.IsNotExist(err) {
			p.t.Fatal(err)
		}
		return strings.Split(string(text), "\n")[:strings.Count(string(text), "\n")]
	}
}

func (c *cloud) awaitResult(command event.SlurmCommand, from int) {
	c.t.Helper()
	c.await("the result of "+command.ID, from, func(q event.QueuePressure) bool {
		return slices.ContainsFunc(q.CommandResults, func(r event.CommandResult) bool {
			return r.ID == command.ID && (r.State == event.ResultOK || r.State == event.ResultStale)
		})
	})
}

// rising complains of an epoch or a number that goes back.
func (c *cloud) rising() {
	c.t.Helper()
	var epoch, sequence int64
	for _, q := range c.taken() {
		if q.Epoch < epoch || q.Epoch == epoch && q.Sequence <= sequence {
			c.t.Errorf("%d/%d came after %d/%d", q.Epoch, q.Sequence, epoch, sequence)
		}
		epoch, sequence = q.Epoch, q.Sequence
	}
}
