package slurmlab

import (
	"bytes"
	_ "embed"
	"fmt"
	"os/user"
	"strings"
	"text/template"
	"time"
)

//go:embed slurm.conf.tmpl
var slurmConfText string

var slurmConfTemplate = template.Must(template.New("slurm.conf").Funcs(template.FuncMap{
	"seconds": func(d time.Duration) int { return int(d.Round(time.Second) / time.Second) },
}).Parse(slurmConfText))

// confNode is one NodeName line.
type confNode struct {
	Name, Feature, State string
	Port, CPUs, MemoryMB int
	Weight               int
}

// confPartition is one PartitionName line; SuspendTime 0 means none.
type confPartition struct {
	Name, Nodes, Default string
	PriorityTier         int
	SuspendTime          time.Duration
}

// confData is what the template reads.
type confData struct {
	Config
	Dir, User, MungeSocket        string
	ControllerLog, JobCompletions string
	ControllerPort                int
	Nodes                         []confNode
	LabPartitions                 []confPartition
}

// renderSlurmConf gives the text of slurm.conf. nodes have their ports.
//
// Every node has a line of its own with its own port: Slurm's Port=[a-b] wants
// one unbroken range per line, and refuses a bracket that does not span the
// whole number (Port=16[821-822], measured on 22.05.8).
func renderSlurmConf(c Config, l layout, controllerPort int, nodes []node) ([]byte, error) {
	account, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("find the account that the daemons run as: %w", err)
	}
	data := confData{
		Config: c, Dir: l.dir, User: account.Username, MungeSocket: l.mungeSocket(),
		ControllerLog: l.controllerLog(), JobCompletions: l.jobCompletions(), ControllerPort: controllerPort,
	}
	members := make(map[string][]string)
	for _, n := range nodes {
		line := confNode{Name: n.name, Feature: "onprem", State: "UNKNOWN", Port: n.port, CPUs: n.cpus, MemoryMB: n.memoryMB, Weight: 1}
		if n.cloud {
			line.Feature, line.State, line.Weight = "cloud,"+n.partition, "CLOUD", 100
		}
		data.Nodes = append(data.Nodes, line)
		members[n.partition] = append(members[n.partition], n.name)
	}
	if c.LocalNodes > 0 {
		data.LabPartitions = append(data.LabPartitions, confPartition{Name: c.LocalPartition, PriorityTier: 2})
	}
	for _, p := range c.Partitions {
		data.LabPartitions = append(data.LabPartitions, confPartition{Name: p.Name, PriorityTier: p.PriorityTier, SuspendTime: p.SuspendTime})
	}
	for i := range data.LabPartitions {
		p := &data.LabPartitions[i]
		p.Nodes, p.Default = strings.Join(members[p.Name], ","), "NO"
		if i == 0 {
			p.Default = "YES"
		}
	}
	var text bytes.Buffer
	if err := slurmConfTemplate.Execute(&text, data); err != nil {
		return nil, fmt.Errorf("render slurm.conf: %w", err)
	}
	return text.Bytes(), nil
}
