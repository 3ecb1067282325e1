package slurm

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"time"
)

// NodeBase is the first word of a node's state, in Slurm's own words and upper
// case. A word that is not listed here stays as it is.
type NodeBase string

// The base states of Slurm 21.08 to 26.05.
const (
	NodeUnknown   NodeBase = "UNKNOWN"
	NodeDown      NodeBase = "DOWN"
	NodeIdle      NodeBase = "IDLE"
	NodeAllocated NodeBase = "ALLOCATED"
	NodeMixed     NodeBase = "MIXED"
	NodeError     NodeBase = "ERROR"
	NodeFuture    NodeBase = "FUTURE"
	NodeInvalid   NodeBase = "INVALID"
)

// NodeFlag is one of the words that follow the base state.
type NodeFlag string

// The flags that matter for bursting, as sinfo's StateComplete writes them in
// 22.05 and 26.05 but in upper case. Others are kept as text and harm nobody.
const (
	FlagCloud         NodeFlag = "CLOUD"
	FlagDrain         NodeFlag = "DRAIN"
	FlagCompleting    NodeFlag = "COMPLETING"
	FlagPoweredDown   NodeFlag = "POWERED_DOWN"
	FlagPoweringUp    NodeFlag = "POWERING_UP"
	FlagPoweringDown  NodeFlag = "POWERING_DOWN"
	FlagPowerUp       NodeFlag = "POWER_UP"
	FlagPowerDown     NodeFlag = "POWER_DOWN"
	FlagNotResponding NodeFlag = "NOT_RESPONDING"
	FlagPlanned       NodeFlag = "PLANNED"
	FlagReserved      NodeFlag = "RESERVED"
	FlagMaintenance   NodeFlag = "MAINTENANCE"
	FlagFail          NodeFlag = "FAIL"
	FlagInvalidReg    NodeFlag = "INVALID_REG"
	FlagDynamicNorm   NodeFlag = "DYNAMIC_NORM"
)

// NodeState is a node's whole state. The zero value is no state at all. It is
// shared between nodes: do not change its slice.
type NodeState struct {
	Base NodeBase
	// Flags are in Slurm's order, known and unknown ones alike.
	Flags []NodeFlag
}

// Has tells whether the flag is set.
func (s NodeState) Has(flag NodeFlag) bool { return slices.Contains(s.Flags, flag) }

// String gives the state as Slurm's StateComplete, in upper case:
// "IDLE+CLOUD+POWERED_DOWN".
func (s NodeState) String() string {
	var out strings.Builder
	out.WriteString(string(s.Base))
	for _, flag := range s.Flags {
		out.WriteString("+" + string(flag))
	}
	return out.String()
}

// parseNodeState reads "idle+cloud+powered_down". Letters, digits and
// underscores make words; anything else is no state.
func parseNodeState(text string) (NodeState, bool) {
	var state NodeState
	for i, word := range strings.Split(strings.ToUpper(text), "+") {
		if word == "" || strings.ContainsFunc(word, func(r rune) bool {
			return r != '_' && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
		}) {
			return NodeState{}, false
		}
		if i == 0 {
			state.Base = NodeBase(word)
		} else {
			state.Flags = append(state.Flags, NodeFlag(word))
		}
	}
	return state, true
}

// CPUs are counts of logical CPUs of one node.
type CPUs struct {
	Allocated, Idle, Other, Total int
}

// Node is one row of Slurm's node table.
type Node struct {
	Name NodeName
	// Address is NodeAddr; after a power-down Slurm resets it to the name.
	Address string
	// Partitions are all partitions that hold the node.
	Partitions []PartitionName
	State      NodeState
	CPUs       CPUs
	// MemoryMB is RealMemory, AllocatedMemoryMB what jobs hold of it.
	MemoryMB, AllocatedMemoryMB int64
	// Features are the available features, separated by commas.
	Features string
	// Gres are the generic resources in Slurm's words; GPUs counts those
	// among them that are GPUs.
	Gres string
	GPUs int
	// Reason is what an administrator, a program or Slurm itself wrote, at
	// most 256 bytes, printable; empty where there is none. It stays on a
	// node after a power-down.
	Reason string
	// ReasonTime is when it was written; zero where unknown.
	ReasonTime time.Time
}

const (
	maxReasonBytes   = 256
	maxFeaturesBytes = 1024
	maxAddressBytes  = 255
)

// nodeColumns are sinfo -O fields that 22.05.8 and 26.05.3 both accept. Reason
// is text that people write, so it comes last and may hold anything.
var nodeColumns = []column[Node]{
	{"NodeList", func(_ *tableParser[Node], n *Node, text []byte) bool {
		n.Name = NodeName(text)
		return n.Name.Validate() == nil
	}},
	{"Partition", func(p *tableParser[Node], n *Node, text []byte) (ok bool) {
		if isAbsent(text) {
			n.Partitions = nil
			return true // a node outside of every partition
		}
		// sinfo marks the default partition with a star.
		n.Partitions, ok = p.partitionList(bytes.TrimSuffix(text, []byte("*")))
		return ok
	}},
	{"StateComplete", func(p *tableParser[Node], n *Node, text []byte) (ok bool) {
		if n.State, ok = p.states[string(text)]; ok {
			return true
		}
		if n.State, ok = parseNodeState(string(text)); ok {
			p.states[string(text)] = n.State
		}
		return ok
	}},
	{"CPUsState", func(_ *tableParser[Node], n *Node, text []byte) bool { return n.CPUs.parse(text) }},
	{"Memory", func(_ *tableParser[Node], n *Node, text []byte) (ok bool) {
		n.MemoryMB, ok = parseMegabytes(text)
		return ok
	}},
	{"AllocMem", func(_ *tableParser[Node], n *Node, text []byte) (ok bool) {
		n.AllocatedMemoryMB, ok = parseMegabytes(text)
		return ok
	}},
	{"Features", func(p *tableParser[Node], n *Node, text []byte) bool {
		n.Features = p.intern(text, maxFeaturesBytes)
		return true
	}},
	{"Gres", func(p *tableParser[Node], n *Node, text []byte) bool {
		n.Gres = p.intern(text, maxFeaturesBytes)
		n.GPUs = parseGPUs(n.Gres)
		return true
	}},
	{"NodeAddr", func(p *tableParser[Node], n *Node, text []byte) bool {
		n.Address = p.intern(text, maxAddressBytes)
		return true
	}},
	{"Timestamp", func(_ *tableParser[Node], n *Node, text []byte) (ok bool) {
		n.ReasonTime, ok = parseTime(text)
		return ok
	}},
	{"Reason", func(p *tableParser[Node], n *Node, text []byte) bool {
		if n.Reason = p.intern(text, maxReasonBytes); n.Reason == "none" {
			n.Reason = "" // sinfo's word for no reason
		}
		return true
	}},
}

// parse reads sinfo's "allocated/idle/other/total".
func (c *CPUs) parse(text []byte) bool {
	for i, into := range []*int{&c.Allocated, &c.Idle, &c.Other, &c.Total} {
		head, rest, found := bytes.Cut(text, []byte("/"))
		if found != (i < 3) {
			return false
		}
		n, ok := parseSize(head)
		if !ok {
			return false
		}
		*into, text = int(n), rest
	}
	return true
}

// Nodes gives every node that Slurm knows, in sinfo's order, with all of its
// partitions, and how many records were dropped because they made no sense.
// Slurm before 23.02 leaves powered-down cloud nodes out unless slurm.conf has
// PrivateData=cloud.
func (c *Client) Nodes(ctx context.Context) (nodes []Node, dropped int, err error) {
	parser := newTableParser(nodeColumns)
	parser.openEnd = true
	end := newRecordEnd()
	args := []string{"-a", "-h", "-N", "-O", outputFormat(parser.names(), end)}
	err = c.query(ctx, "sinfo", args, func(stdout io.Reader) (err error) {
		nodes, dropped, err = parseNodes(stdout, parser, end+"\n")
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return nodes, dropped, nil
}

// parseNodes merges the rows of sinfo -N, one per node and partition.
func parseNodes(stream io.Reader, parser *tableParser[Node], recordEnd string) (nodes []Node, dropped int, err error) {
	var (
		index = map[NodeName]int{}
		bad   int
	)
	dropped, err = readRecords(stream, recordEnd, func(record []byte) {
		row, ok := parser.parse(record)
		if !ok || row.Name == "" {
			bad++
			return
		}
		node := *row
		at, known := index[node.Name]
		if !known {
			index[node.Name] = len(nodes)
			node.Partitions = slices.Clone(node.Partitions)
			nodes = append(nodes, node)
			return
		}
		for _, partition := range node.Partitions {
			if !slices.Contains(nodes[at].Partitions, partition) {
				nodes[at].Partitions = append(nodes[at].Partitions, partition)
			}
		}
	})
	return nodes, dropped + bad, err
}
