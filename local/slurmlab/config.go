// Package slurmlab answers one question: how does a real Slurm cluster run in
// one directory? It starts munged, slurmctld and slurmd on free loopback ports,
// from the Debian packages (measured on 22.05.8), with cloud partitions whose
// nodes others bring up. It must never touch the machine's own Slurm, and never
// signal a process that does not belong to the lab.
package slurmlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// maxSocketPath is the longest path of a Unix socket that Linux accepts
// (unix(7): sun_path has 108 bytes, the last one NUL).
const maxSocketPath = 107

// Config describes one lab. The zero value of a field means its default.
type Config struct {
	// Dir holds everything; it is created, and must not hold a lab already.
	// munged's socket is in it, so the path must be at most about 90 bytes.
	Dir string
	// ClusterName is Slurm's ClusterName. Default: onprem.
	ClusterName string
	// LocalNodes is the number of on-prem nodes local-1, local-2, … whose
	// slurmd runs from Start on. With 0 there is no on-prem partition.
	LocalNodes int
	// CPUsPerNode is the number of CPUs of an on-prem node, whatever the
	// machine has. Default: 4.
	CPUsPerNode int
	// LocalPartition is the name of the on-prem partition, which has
	// PriorityTier 2. Default: local.
	LocalPartition string
	// Partitions are the cloud partitions.
	Partitions []CloudPartition
	// ResumeProgram, SuspendProgram and ResumeFailProgram are absolute paths
	// of what slurmctld calls. Default: /bin/true, so that Slurm believes in
	// power saving and no node ever boots.
	ResumeProgram, SuspendProgram, ResumeFailProgram string
	// ResumeTimeout is how long a node may take from the call of
	// ResumeProgram to its registration, SuspendTimeout how long it stays
	// POWERING_DOWN; whole seconds. Defaults: 120 s, 10 s.
	ResumeTimeout, SuspendTimeout time.Duration
	// Spool, when set, is written into the one-line file burst-spool beside
	// slurm.conf.
	Spool string
	// Extra lines are added to slurm.conf before the nodes. A key that is
	// there already is overridden, with a note in Slurm's log.
	Extra []string
	// Progress, when set, hears what Start has just done, in a few words.
	Progress func(step string)
}

// CloudPartition is one partition of State=CLOUD nodes. Its nodes are NodeNames
// or, without it, NodePrefix-1 to NodePrefix-Count.
type CloudPartition struct {
	// Name of the partition.
	Name string
	// NodeNames is a hostlist: "htc-[1-100]".
	NodeNames string
	// NodePrefix and Count make up names. Default of NodePrefix: Name.
	NodePrefix string
	Count      int
	// CPUs and MemoryMB of one node. Defaults: 4, 1000.
	CPUs, MemoryMB int
	// PriorityTier of the partition. Default: 1.
	PriorityTier int
	// SuspendTime is Slurm's own idle timer for these nodes, whole seconds.
	// Default: 900 s.
	SuspendTime time.Duration
}

// withDefaults gives the configuration with every default filled in.
func (c Config) withDefaults() Config {
	c.ClusterName = or(c.ClusterName, "onprem")
	c.CPUsPerNode = or(c.CPUsPerNode, 4)
	c.LocalPartition = or(c.LocalPartition, "local")
	c.ResumeProgram = or(c.ResumeProgram, "/bin/true")
	c.SuspendProgram = or(c.SuspendProgram, "/bin/true")
	c.ResumeFailProgram = or(c.ResumeFailProgram, "/bin/true")
	c.ResumeTimeout = or(c.ResumeTimeout, 120*time.Second)
	c.SuspendTimeout = or(c.SuspendTimeout, 10*time.Second)
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	partitions := make([]CloudPartition, len(c.Partitions))
	for i, p := range c.Partitions {
		p.NodePrefix = or(p.NodePrefix, p.Name)
		p.CPUs = or(p.CPUs, 4)
		p.MemoryMB = or(p.MemoryMB, 1000)
		p.PriorityTier = or(p.PriorityTier, 1)
		p.SuspendTime = or(p.SuspendTime, 900*time.Second)
		partitions[i] = p
	}
	c.Partitions = partitions
	return c
}

func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// names gives the partition's node names in order.
func (p CloudPartition) names() ([]string, error) {
	if p.NodeNames != "" {
		return ExpandHostlist(p.NodeNames)
	}
	if p.Count <= 0 {
		return nil, errors.New("it has no nodes: want NodeNames or Count")
	}
	names := make([]string, p.Count)
	for i := range names {
		names[i] = p.NodePrefix + "-" + strconv.Itoa(i+1)
	}
	return names, nil
}

// node is one line of the node table.
type node struct {
	name           string
	port           int
	cpus, memoryMB int
	cloud          bool
	partition      string
}

// nodes lists every node of the lab, on-prem nodes first, without ports.
func (c Config) nodes() ([]node, error) {
	var all []node
	for i := range c.LocalNodes {
		all = append(all, node{name: "local-" + strconv.Itoa(i+1), cpus: c.CPUsPerNode, memoryMB: 1000, partition: c.LocalPartition})
	}
	for _, p := range c.Partitions {
		names, err := p.names()
		if err != nil {
			return nil, fmt.Errorf("list the nodes of partition %s: %w", p.Name, err)
		}
		for _, name := range names {
			all = append(all, node{name: name, cpus: p.CPUs, memoryMB: p.MemoryMB, cloud: true, partition: p.Name})
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the lab has no nodes")
	}
	seen := make(map[string]bool, len(all))
	for _, n := range all {
		if seen[n.name] {
			return nil, fmt.Errorf("node %s is defined twice", n.name)
		}
		seen[n.name] = true
	}
	return all, nil
}

// layout names the files of a lab.
type layout struct{ dir string }

// newLayout makes the directory.
func newLayout(dir string) (layout, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return layout{}, fmt.Errorf("find the directory %s: %w", dir, err)
	}
	if err = os.MkdirAll(abs, 0o755); err != nil {
		return layout{}, fmt.Errorf("make the directory: %w", err)
	}
	// /proc shows files by their real path, and the sweep looks there.
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return layout{}, fmt.Errorf("find the directory %s: %w", dir, err)
	}
	l := layout{dir: abs}
	if got := len(l.mungeSocket()); got > maxSocketPath {
		return layout{}, fmt.Errorf("the directory %s is too long: munge's socket path would have %d bytes, at most %d are possible", abs, got, maxSocketPath)
	}
	return l, nil
}

func (l layout) conf() string              { return filepath.Join(l.dir, "slurm.conf") }
func (l layout) bin(program string) string { return filepath.Join(l.dir, "bin", program) }
func (l layout) log(name string) string    { return filepath.Join(l.dir, "log", name) }
func (l layout) munge(name string) string  { return filepath.Join(l.dir, "munge", name) }
func (l layout) mungeSocket() string       { return l.munge("sock") }
func (l layout) controllerLog() string     { return l.log("slurmctld.log") }
func (l layout) jobCompletions() string    { return l.log("jobcomp.txt") }
func (l layout) jobDir() string            { return filepath.Join(l.dir, "jobs") }
func (l layout) directories() []string {
	return []string{"bin", "jobs", "log", "munge", "pid", "spool", "state"}
}
