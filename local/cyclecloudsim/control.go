package cyclecloudsim

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// The reasons for which a node vanishes, in the words of CycleCloud's events.
const (
	ReasonSpotEvicted   = "SpotEvicted"
	ReasonVMDisappeared = "VMDisappeared"
)

// VMInfo is one VM that exists.
type VMInfo struct {
	InstanceID, NodeID, Name, NodeArray, MachineType, PrivateIP string
	// Since is when the VM began to bill.
	Since time.Time
	// Alive says whether a process of it still runs.
	Alive bool
	// Orphan says that no node record belongs to it any more.
	Orphan bool
}

// Snapshot is the truth about the cluster at one moment.
type Snapshot struct {
	Time               time.Time
	State, TargetState string
	Nodes              []Node
	VMs                []VMInfo
}

// Snapshot returns nodes and VMs of the same moment.
func (s *Sim) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Snapshot{Time: s.clock.Now().UTC(), State: s.state, TargetState: s.target, Nodes: []Node{}, VMs: []VMInfo{}}
	for _, n := range s.nodes {
		out.Nodes = append(out.Nodes, n.export())
	}
	for _, m := range s.machines {
		out.VMs = append(out.VMs, VMInfo{
			InstanceID: m.spec.InstanceID, NodeID: m.spec.NodeID, Name: m.spec.Name, NodeArray: m.spec.NodeArray,
			MachineType: m.spec.MachineType, PrivateIP: m.spec.PrivateIP,
			Since: m.since, Alive: m.vm.Alive(), Orphan: m.node == nil,
		})
	}
	slices.SortFunc(out.VMs, func(a, b VMInfo) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.InstanceID, b.InstanceID))
	})
	return out
}

// Nodes returns the node records, oldest first.
func (s *Sim) Nodes() []Node { return s.Snapshot().Nodes }

// VMs returns the VMs that exist, by name.
func (s *Sim) VMs() []VMInfo { return s.Snapshot().VMs }

// FailNext makes the next node (or set) of the nodearray that reaches the
// kind's moment go wrong in that way. Calls add up.
func (s *Sim) FailNext(nodearray string, kind FailKind) error {
	if !slices.Contains(failKinds, kind) {
		return fmt.Errorf("failure kind %q is not one of %v", kind, failKinds)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.array(nodearray) == nil {
		return fmt.Errorf("nodearray %q does not exist", nodearray)
	}
	s.fails[nodearray] = append(s.fails[nodearray], kind)
	s.journal.add(Entry{Event: Chaos, NodeArray: nodearray, Detail: "fail next: " + string(kind)})
	return nil
}

// Vanish deletes the VM of the named node behind the server's back, for one of
// the Reason constants. The node leaves the list after VanishLag.
func (s *Sim) Vanish(name, reason string) error {
	if reason != ReasonSpotEvicted && reason != ReasonVMDisappeared {
		return fmt.Errorf("reason %q is not %s or %s", reason, ReasonSpotEvicted, ReasonVMDisappeared)
	}
	s.mu.Lock()
	n := s.named(name)
	if n == nil || n.machine == nil {
		s.mu.Unlock()
		return fmt.Errorf("node %q has no VM", name)
	}
	instance := n.machine.spec.InstanceID
	s.mu.Unlock()
	return s.DeleteVM(instance, reason)
}

// DeleteVM deletes a VM behind the server's back, as the portal or an eviction
// does; also one that no node belongs to.
func (s *Sim) DeleteVM(instanceID, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.machines[instanceID]
	if m == nil || s.closed {
		return fmt.Errorf("VM %q does not exist", instanceID)
	}
	var err error
	s.unlocked(func() { err = m.vm.Stop() })
	if err != nil {
		return fmt.Errorf("stop VM of node %s: %w", m.spec.Name, err)
	}
	n := m.node
	s.journal.add(Entry{Event: Chaos, NodeID: m.spec.NodeID, Name: m.spec.Name, Detail: "VM deleted: " + reason})
	s.forget(m)
	// A node that is on its way out leaves by that way.
	if n == nil || n.gone || n.target != targetStarted || s.closed {
		return nil
	}
	n.reason = reason
	if reason == ReasonSpotEvicted {
		n.message = "Waiting for eviction"
	}
	s.after(n, s.draw(s.cfg.VanishLag), func(n *node) { s.remove(n, Vanished) })
	return nil
}

// NeverReady replaces the patterns (path.Match on node names) of nodes that
// stay in Preparing for ever; no pattern means none. It is asked when a node's
// boot delay ends.
func (s *Sim) NeverReady(patterns ...string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", p, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.neverReady = slices.Clone(patterns)
	s.journal.add(Entry{Event: Chaos, Detail: "never ready: " + strings.Join(patterns, " ")})
	return nil
}

// SetLimit changes the nodearray's maxCount, as an edit of the cluster does.
// Nodes above the new limit stay.
func (s *Sim) SetLimit(nodearray string, maxCount int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.array(nodearray)
	if a == nil || maxCount < 0 {
		return fmt.Errorf("nodearray %q with limit %d: no such nodearray or limit", nodearray, maxCount)
	}
	for _, b := range a.buckets {
		if b.MaxCount == a.MaxCount || b.MaxCount > maxCount {
			b.MaxCount = maxCount
		}
	}
	a.MaxCount = maxCount
	s.journal.add(Entry{Event: Chaos, NodeArray: nodearray, Detail: fmt.Sprintf("limit %d", maxCount)})
	return nil
}

// SetAvailableLag changes how long availableCount ignores a create.
func (s *Sim) SetAvailableLag(lag time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = lag
	s.journal.add(Entry{Event: Chaos, Detail: "available lag " + lag.String()})
}

// SetKeepAlive sets or clears KeepAlive, which no REST call can do.
func (s *Sim) SetKeepAlive(name string, keep bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.named(name)
	if n == nil {
		return fmt.Errorf("node %q does not exist", name)
	}
	n.keepAlive = keep
	s.journal.add(n.entry(Chaos, fmt.Sprintf("keep alive %t", keep)))
	return nil
}

// SetClusterState sets the state and target state of the whole cluster; both
// empty play a cluster that was never started. Nothing is created while they
// are not both Started.
func (s *Sim) SetClusterState(state, target string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.target = state, target
	s.journal.add(Entry{Event: Chaos, Detail: "cluster state " + state + " target " + target})
}

// TerminateByUser terminates a node as a person at the console does.
func (s *Sim) TerminateByUser(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.named(name)
	if n == nil {
		return fmt.Errorf("node %q does not exist", name)
	}
	if why := s.terminateFor(n, "UserInitiated"); why != "" {
		return errors.New(why)
	}
	return nil
}
