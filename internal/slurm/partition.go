package slurm

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// PartitionState says whether a partition takes and starts jobs.
type PartitionState string

// The states of a partition. Down keeps taking jobs and starts none; it is
// lost at a reconfigure and at a restart of slurmctld.
const (
	PartitionUp       PartitionState = "UP"
	PartitionDown     PartitionState = "DOWN"
	PartitionDrain    PartitionState = "DRAIN"
	PartitionInactive PartitionState = "INACTIVE"
)

// Partition is what decides whether a partition admits a job.
type Partition struct {
	Name  PartitionName
	State PartitionState
	// MaxTime is the longest limit a job may have.
	MaxTime TimeLimit
	// MaxNodes bounds the nodes of one job; UnlimitedNodes where it does not.
	MaxNodes int
	// AllowAccounts, AllowQOS and AllowGroups are who may use the
	// partition; empty means all.
	AllowAccounts, AllowQOS, AllowGroups []string
	// DenyAccounts and DenyQOS are who may not. Slurm prints them instead
	// of the allowed ones.
	DenyAccounts, DenyQOS []string
	// QOS is the partition's own quality of service; empty where none.
	QOS QOSName
	// PriorityTier orders partitions: all jobs of a higher tier come first.
	PriorityTier int
	// Nodes is Slurm's hostlist, as written.
	Nodes []NodeName
	// TotalNodes and TotalCPUs are Slurm's own counts.
	TotalNodes, TotalCPUs int
	// SuspendTime is how long a node may idle before Slurm suspends it.
	// LimitNotSet means that the global value applies. 22.05 prints it
	// only for partitions that set one.
	SuspendTime TimeLimit
	// SuspendTimeout and ResumeTimeout are the partition's own, or
	// LimitNotSet.
	SuspendTimeout, ResumeTimeout TimeLimit
}

// UnlimitedNodes is the value of MaxNodes where there is no bound.
const UnlimitedNodes = math.MaxInt32

// Partitions gives every partition, hidden ones too. Keys that this version
// does not know are passed over.
func (c *Client) Partitions(ctx context.Context) ([]Partition, error) {
	text, err := c.queryText(ctx, "scontrol", "-a", "-o", "show", "partition")
	if err != nil {
		return nil, err
	}
	return parsePartitions(text)
}

func parsePartitions(text string) ([]Partition, error) {
	var partitions []Partition
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "PartitionName=") {
			continue // "No partitions in the system"
		}
		partition, err := parsePartition(line)
		if err != nil {
			return nil, fault.New(fault.Invalid, "read partition "+quoteBounded(line), err)
		}
		partitions = append(partitions, partition)
	}
	return partitions, nil
}

func parsePartition(line string) (Partition, error) {
	values := keyValues(line)
	p := Partition{
		Name:          PartitionName(values["PartitionName"]),
		State:         PartitionState(printable([]byte(values["State"]), maxWordBytes)),
		AllowAccounts: allowList(values["AllowAccounts"]),
		AllowQOS:      allowList(values["AllowQos"]),
		AllowGroups:   allowList(values["AllowGroups"]),
		DenyAccounts:  allowList(values["DenyAccounts"]),
		DenyQOS:       allowList(values["DenyQos"]),
	}
	if err := p.Name.Validate(); err != nil {
		return Partition{}, err
	}
	if qos := values["QoS"]; !isAbsent([]byte(qos)) {
		p.QOS = QOSName(printable([]byte(qos), maxWordBytes))
	}
	for _, limit := range []struct {
		key  string
		into *TimeLimit
	}{
		{"MaxTime", &p.MaxTime},
		{"SuspendTime", &p.SuspendTime},
		{"SuspendTimeout", &p.SuspendTimeout},
		{"ResumeTimeout", &p.ResumeTimeout},
	} {
		var err error
		if *limit.into, err = ParseTimeLimit(values[limit.key]); err != nil {
			return Partition{}, fmt.Errorf("%s: %w", limit.key, err)
		}
	}
	for _, count := range []struct {
		key  string
		into *int
	}{
		{"MaxNodes", &p.MaxNodes},
		{"PriorityTier", &p.PriorityTier},
		{"TotalNodes", &p.TotalNodes},
		{"TotalCPUs", &p.TotalCPUs},
	} {
		text := values[count.key]
		if text == "UNLIMITED" {
			*count.into = UnlimitedNodes
			continue
		}
		n, ok := parseSize([]byte(text))
		if !ok || n > math.MaxInt32 {
			return Partition{}, fmt.Errorf("%s: %s is no count", count.key, quoteBounded(text))
		}
		*count.into = int(n)
	}
	if nodes := values["Nodes"]; !isAbsent([]byte(nodes)) {
		var err error
		if p.Nodes, err = ParseHostlist(nodes); err != nil {
			return Partition{}, err
		}
	}
	return p, nil
}

// keyValues reads "Key=value Key=value". The first of two equal keys counts:
// Slurm's own come before any text that people write.
func keyValues(line string) map[string]string {
	values := map[string]string{}
	for word := range strings.FieldsSeq(line) {
		key, value, found := strings.Cut(word, "=")
		if _, seen := values[key]; found && !seen {
			values[key] = value
		}
	}
	return values
}

// allowList reads "a,b"; ALL and nothing are the empty list.
func allowList(text string) []string {
	if text == "ALL" || isAbsent([]byte(text)) {
		return nil
	}
	return commaList(text)
}

// commaList splits at commas and leaves empty entries out.
func commaList(text string) []string {
	var list []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" && !isAbsent([]byte(item)) {
			list = append(list, printable([]byte(item), maxFeaturesBytes))
		}
	}
	return list
}
