//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/functionshost"
	"github.com/slurmburst/slurmburst/local/slurmlab"
	"github.com/slurmburst/slurmburst/local/world"
)

// soon is how long anything may take that should happen in seconds, on a slow
// machine with several worlds. A batch job may wait 30 s for Slurm's periodic
// look at configuring jobs, which nothing shortens.
const soon = 100 * time.Second

// root is the repository, seen from this package.
const root = "../.."

// site is a world under test.
type site struct {
	*world.World
	testing.TB
	ctx   context.Context
	calls *calls
}

// calls collects what the Functions host invoked.
type calls struct {
	mu    sync.Mutex
	all   []functionshost.Invocation
	heard func(functionshost.Invocation)
}

func (c *calls) add(i functionshost.Invocation) {
	c.mu.Lock()
	heard := c.heard
	c.all = append(c.all, i)
	c.mu.Unlock()
	if heard != nil {
		heard(i)
	}
}

// hear sets who hears of every call from now on.
func (c *calls) hear(heard func(functionshost.Invocation)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = heard
}

// list gives the calls so far.
func (c *calls) list() []functionshost.Invocation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]functionshost.Invocation(nil), c.all...)
}

// start brings a world with a Slurm up and waits for the fence.
func start(t *testing.T, config world.Config) *site {
	t.Helper()
	began := time.Now()
	s := launch(t, config)
	t.Logf("the simulator's seed is %d", s.Sim.Seed())
	s.awaitFence()
	t.Logf("the world was up after %s", time.Since(began).Round(100*time.Millisecond))
	return s
}

// launch brings a world up and takes everything down when the test is over.
// What a failed test leaves behind is kept in build/e2e.
func launch(t *testing.T, config world.Config) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "burst-e2e-") // short: Unix sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	if config.Root, err = filepath.Abs(root); err != nil {
		t.Fatal(err)
	}
	config.Dir = dir
	collected := &calls{}
	config.OnInvocation = collected.add
	s := &site{TB: t, ctx: t.Context(), calls: collected}
	began := time.Now()
	if s.World, err = world.Start(t.Context(), config); err != nil {
		kept := filepath.Join(config.Root, "build", "e2e", t.Name())
		if keepErr := keep(dir, kept); keepErr != nil {
			t.Errorf("keep the records: %v", keepErr)
		}
		t.Fatalf("start the world: %v; its records are in %s", err, kept)
	}
	t.Cleanup(func() { s.takeDown(began) })
	return s
}

// sub gives the same site for a subtest.
func (s *site) sub(t *testing.T) *site {
	return &site{World: s.World, TB: t, ctx: t.Context(), calls: s.calls}
}

// takeDown stops the world, checks that nothing of it still runs, and keeps the
// records of a failed test.
func (s *site) takeDown(began time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.Failed() {
		s.keepTables(ctx)
	}
	if err := s.Stop(ctx); err != nil {
		s.Errorf("stop the world: %v", err)
	}
	if left := processesOf(s.Dir); len(left) > 0 {
		s.Errorf("processes were left behind: %s", strings.Join(left, "; "))
	}
	if !s.Failed() {
		if err := os.RemoveAll(s.Dir); err != nil {
			s.Errorf("clean up: %v", err)
		}
		s.Logf("took %s", time.Since(began).Round(time.Second))
		return
	}
	kept := filepath.Join(s.Root, "build", "e2e", s.Name())
	if err := keep(s.Dir, kept); err != nil {
		s.Errorf("keep the records: %v", err)
	}
	s.Logf("the records of the failed test are in %s", kept)
}

// keep moves the records of a world to where they can be looked at.
func keep(dir, kept string) error {
	if err := os.RemoveAll(kept); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, "azurite")); err != nil { // the tables are in tables.jsonl
		return err
	}
	if err := os.CopyFS(kept, regular{os.DirFS(dir)}); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// processesOf names the processes that were started with a file of the world.
func processesOf(dir string) []string {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(raw), dir) {
			found = append(found, strings.ReplaceAll(strings.TrimRight(string(raw), "\x00"), "\x00", " "))
		}
	}
	return found
}

// eventually waits until claim holds. Otherwise the test ends, with what claim
// saw last.
func (s *site) eventually(within time.Duration, what string, claim func() (holds bool, seen string)) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, within)
	defer cancel()
	ticker := time.NewTicker(150 * time.Millisecond)
	defer ticker.Stop()
	for {
		holds, seen := claim()
		if holds {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			s.Fatalf("not within %s: %s; last seen: %s", within, what, seen)
		}
	}
}

// awaitFence waits until Slurm may allocate no more nodes than the policy allows.
func (s *site) awaitFence() {
	s.Helper()
	s.eventually(soon, "the fence stands", func() (bool, string) {
		fenced, err := s.fenced()
		if err != nil {
			return false, err.Error()
		}
		for _, a := range s.Nodearrays {
			if fenced[a.Name] != a.Nodes-a.MaxNodes {
				return false, fmt.Sprintf("fenced nodes: %v; agent running: %v", fenced, s.AgentRunning())
			}
		}
		return true, ""
	})
}

// fenced counts the powered-down nodes of each nodearray that are drained with
// our reason.
func (s *site) fenced() (map[string]int, error) {
	nodes, err := s.nodes()
	counts := map[string]int{}
	for _, n := range nodes {
		if n.has("DRAIN") && n.has("POWERED_DOWN") && strings.HasPrefix(n.reason, "slurmburst") {
			counts[n.partition]++
		}
	}
	return counts, err
}

// node is one line of sinfo.
type node struct {
	name, partition, state, reason string
}

func (n node) has(flag string) bool {
	for _, word := range strings.Split(n.state, "+") {
		if strings.EqualFold(word, flag) {
			return true
		}
	}
	return false
}

// nodes gives the cloud nodes as Slurm shows them.
func (s *site) nodes() (map[string]node, error) {
	out, err := s.Lab.Sinfo(s.ctx, "--noheader", "--Node", "--Format=NodeList:40,Partition:40,StateComplete:100,Reason:200")
	if err != nil {
		return nil, err
	}
	found := map[string]node{}
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		f := strings.Fields(line)
		if len(f) < 4 || strings.HasPrefix(f[0], "local-") {
			continue
		}
		found[f[0]] = node{name: f[0], partition: strings.TrimSuffix(f[1], "*"), state: f[2], reason: strings.Join(f[3:], " ")}
	}
	return found, nil
}

// awaitNode waits until a node's flags are as wanted.
func (s *site) awaitNode(within time.Duration, name, what string, claim func(node) bool) {
	s.Helper()
	s.eventually(within, name+" is "+what, func() (bool, string) {
		nodes, err := s.nodes()
		if err != nil {
			return false, err.Error()
		}
		return claim(nodes[name]), nodes[name].state
	})
}

// awaitZero waits until every job has ended and nothing is left in the cloud:
// no node and no VM in CycleCloud, every cloud node powered down in Slurm, and
// no intent open.
func (s *site) awaitZero() {
	s.Helper()
	s.eventually(soon, "everything is back to zero", func() (bool, string) {
		left, err := s.left()
		if err != nil {
			return false, err.Error()
		}
		return left == "", left
	})
}

func (s *site) left() (string, error) {
	jobs, err := s.Lab.Squeue(s.ctx, "--noheader", "--array", "--states=PENDING,CONFIGURING,RUNNING,COMPLETING", "--format=%i_%T_%r")
	if err != nil {
		return "", err
	}
	if jobs := strings.Fields(jobs); len(jobs) > 0 {
		return "jobs " + strings.Join(jobs, " "), nil
	}
	if truth := s.Sim.Snapshot(); len(truth.Nodes)+len(truth.VMs) > 0 {
		return fmt.Sprintf("%d nodes and %d VMs in CycleCloud", len(truth.Nodes), len(truth.VMs)), nil
	}
	nodes, err := s.nodes()
	if err != nil {
		return "", err
	}
	for _, n := range nodes {
		if !n.has("POWERED_DOWN") || !n.has("IDLE") {
			return n.name + " is " + n.state + " in Slurm", nil
		}
	}
	intents := 0
	err = s.eachRow(s.ctx, "burstclusters", func(row map[string]any) {
		if key, _ := row["RowKey"].(string); strings.HasPrefix(key, "intent|") {
			intents++
		}
	})
	if intents > 0 {
		return fmt.Sprintf("%d intents are open", intents), err
	}
	return "", err
}

// log reads slurmctld's own log.
func (s *site) log() slurmlab.ControllerLog {
	s.Helper()
	f, err := os.Open(s.Lab.LogPath())
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	log, err := slurmlab.ParseControllerLog(f)
	if err != nil {
		s.Fatal(err)
	}
	return log
}

// journal gives the simulator's records of one kind.
func (s *site) journal(event cyclecloudsim.EventName) []cyclecloudsim.Entry {
	var found []cyclecloudsim.Entry
	for _, e := range s.Sim.Journal() {
		if e.Event == event {
			found = append(found, e)
		}
	}
	return found
}
