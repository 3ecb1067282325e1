//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/local/child"
	"github.com/slurmburst/slurmburst/local/slurmlab"
)

// batch submits a batch job that has each of its nodes for itself.
func (s *site) batch(seconds int, args ...string) int {
	s.Helper()
	args = append([]string{"--exclusive", fmt.Sprintf("--wrap=hostname; sleep %d", seconds)}, args...)
	id, err := s.Lab.Submit(s.ctx, args...)
	if err != nil {
		s.Fatalf("submit: %v", err)
	}
	return id
}

// client is an srun or salloc that waits for its nodes.
type client struct {
	*child.Process
	name string
	out  *bytes.Buffer
}

// run starts srun or salloc with nodes for itself.
func (s *site) run(program string, args ...string) *client {
	s.Helper()
	c := &client{name: program + " " + strings.Join(args, " "), out: &bytes.Buffer{}}
	// It ends by Kill: the context of a test is over before its clean-up.
	cmd := s.Lab.Command(context.WithoutCancel(s.ctx), program, append([]string{"--exclusive"}, args...)...)
	cmd.Stdout, cmd.Stderr = c.out, c.out
	var err error
	if c.Process, err = child.Start(cmd); err != nil {
		s.Fatalf("%s: %v", c.name, err)
	}
	s.Cleanup(c.Kill)
	return c
}

// end waits for the client's end and gives its error.
func (s *site) end(c *client) error {
	s.Helper()
	select {
	case <-c.Done():
	case <-time.After(soon):
		s.Fatalf("%s did not end within %s; jobs: %s", c.name, soon, s.queue())
	}
	return c.Err()
}

// wait ends the test unless the client ends well.
func (s *site) wait(c *client) {
	s.Helper()
	if err := s.end(c); err != nil {
		s.Fatalf("%s: %v: %s; jobs: %s", c.name, err, c.out, s.queue())
	}
}

// cancel cancels the job of a client by its name, and sees the client off.
func (s *site) cancel(c *client, name string) {
	s.Helper()
	if _, err := s.Lab.Run(s.ctx, "scancel", "--name="+name); err != nil {
		s.Fatal(err)
	}
	if err := s.end(c); err == nil {
		s.Errorf("%s was cancelled and ended well: %s", c.name, c.out)
	}
}

// queue says what squeue shows, for messages.
func (s *site) queue() string {
	out, err := s.Lab.Squeue(s.ctx, "--noheader", "--array", "--states=all", "--format=%i %T %N %r;")
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(out, "\n", " ")
}

// waiting gives Slurm's reason why the job of that name waits.
func (s *site) waiting(name string) (reason string, found bool) {
	s.Helper()
	out, err := s.Lab.Squeue(s.ctx, "--noheader", "--states=PENDING", "--name="+name, "--format=%r")
	if err != nil {
		s.Fatal(err)
	}
	return strings.TrimSpace(out), strings.TrimSpace(out) != ""
}

// awaitCompleted waits until each of the jobs is COMPLETED.
func (s *site) awaitCompleted(ids ...int) {
	s.Helper()
	s.awaitCompletedWithin(soon, ids...)
}

func (s *site) awaitCompletedWithin(within time.Duration, ids ...int) {
	s.Helper()
	for _, id := range ids {
		s.eventually(within, fmt.Sprintf("job %d is COMPLETED", id), func() (bool, string) {
			out, err := s.Lab.Squeue(s.ctx, "--noheader", "--array", "--states=all", fmt.Sprintf("--jobs=%d", id), "--format=%T")
			if err != nil {
				return false, err.Error()
			}
			states := strings.Fields(out)
			for _, state := range states {
				if state == "FAILED" || state == "NODE_FAIL" || state == "CANCELLED" || state == "TIMEOUT" {
					s.Fatalf("job %d is %s", id, state)
				}
				if state != "COMPLETED" {
					return false, strings.Join(states, " ")
				}
			}
			return len(states) > 0, "no such job"
		})
	}
}

// ends reads Slurm's own record of ended jobs.
func (s *site) ends() []slurmlab.JobEnd {
	s.Helper()
	f, err := os.Open(s.Lab.JobCompletionsPath())
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	ends, err := slurmlab.ParseJobCompletions(f)
	if err != nil {
		s.Fatal(err)
	}
	return ends
}

// noneLostItsNode checks Slurm's two records of jobs that lost a node.
func (s *site) noneLostItsNode() {
	s.Helper()
	for _, end := range s.ends() {
		if end.State == "NODE_FAIL" {
			s.Errorf("job %d ended NODE_FAIL on %s", end.JobID, end.Nodes)
		}
	}
	log := s.log()
	if len(log.NodeFailed) > 0 || len(log.Requeued) > 0 {
		s.Errorf("slurmctld took nodes from jobs: killed %v, requeued %v", log.NodeFailed, log.Requeued)
	}
}
