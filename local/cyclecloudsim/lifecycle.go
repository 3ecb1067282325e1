package cyclecloudsim

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"time"
)

// FailKind is a way in which the next node of a nodearray goes wrong.
type FailKind string

// The kinds, by the moment at which they strike.
const (
	// FailRefuse makes the next set add nothing, FailPartial half of it.
	FailRefuse  FailKind = "refuse"
	FailPartial FailKind = "partial"
	// FailCapacity makes the next allocation fail for lack of capacity: the
	// node is terminated by the server and vanishes. FailSKU is the same for
	// SKUNotAvailable, whose outcome is a quirk.
	FailCapacity FailKind = "capacity"
	FailSKU      FailKind = "sku"
	// FailInit makes the next node Failed before its software starts,
	// FailJoined after it; both leave the VM running and billing. FailNever
	// leaves the node in Preparing for ever.
	FailInit   FailKind = "init"
	FailJoined FailKind = "joined"
	FailNever  FailKind = "never"
	// FailTerminate makes the next terminate end in Failed with TargetState
	// Terminated and the VM alive; FailOrphan removes the node and leaves the
	// VM.
	FailTerminate FailKind = "terminate"
	FailOrphan    FailKind = "orphan"
)

var failKinds = []FailKind{
	FailRefuse, FailPartial, FailCapacity, FailSKU, FailInit, FailJoined, FailNever, FailTerminate, FailOrphan,
}

// after makes f the node's next step, d from now, in place of whatever was to
// come. f runs with mu held.
func (s *Sim) after(n *node, d time.Duration, f func(*node)) {
	n.cancelTimer()
	generation := n.generation
	n.stopTimer = s.clock.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed || n.generation != generation {
			return
		}
		f(n)
	})
}

// take removes and returns the first queued failure of the nodearray that is
// one of kinds, or "".
func (s *Sim) take(a *array, kinds ...FailKind) FailKind {
	queue := s.fails[a.Name]
	for i, k := range queue {
		if slices.Contains(kinds, k) {
			s.fails[a.Name] = slices.Delete(queue, i, i+1)
			return k
		}
	}
	return ""
}

func (s *Sim) set(n *node, status, state, message string) {
	n.status, n.state, n.message = status, state, message
}

// begin puts the node at the start of its life: the VM is asked for.
func (s *Sim) begin(n *node) {
	n.target = targetStarted
	s.set(n, statusAcquiring, "Acquiring", "Requesting virtual machine")
	s.after(n, s.draw(s.cfg.AcquireDelay), s.acquire)
}

// acquire is Azure's answer to the request for a VM.
func (s *Sim) acquire(n *node) {
	switch k := s.take(n.array, FailCapacity, FailSKU); {
	case k == FailCapacity:
		s.allocationFailed(n, "AllocationFailed: no capacity for "+n.bucket.MachineType)
	case k == FailSKU && s.cfg.Quirks.SKUNotAvailable == Stays:
		s.fail(n, "SKUNotAvailable: "+n.bucket.MachineType+" is not available in "+s.cfg.Region)
	case k == FailSKU:
		s.allocationFailed(n, "SKUNotAvailable: "+n.bucket.MachineType)
	case !s.quotaAllows(n):
		s.allocationFailed(n, "QuotaExceeded: VMs that are still being deleted hold the quota")
	default:
		s.startVM(n)
	}
}

func (s *Sim) allocationFailed(n *node, why string) {
	n.bucket.lastFailure = s.clock.Now()
	if s.cfg.ThrottleCapacity > 0 {
		n.bucket.throttled = n.bucket.lastFailure.Add(s.cfg.ThrottleCapacity)
	}
	s.journal.add(n.entry(CapacityFailed, why))
	n.target, n.reason = targetTerminated, "AllocationFailed"
	s.set(n, statusTerminating, targetStarted, why)
	s.after(n, s.draw(s.cfg.TerminateDelay), func(n *node) { s.remove(n, Vanished) })
}

// startVM creates the node's VM, or creates it again after a deallocation.
func (s *Sim) startVM(n *node) {
	if n.instanceID == "" {
		addr, err := s.newAddress()
		if err != nil {
			s.allocationFailed(n, "SubnetIsFull: "+err.Error())
			return
		}
		n.instanceID, n.address = s.newInstanceID(n.array), addr
	}
	spec := VMSpec{
		Name: n.name, NodeID: n.id, InstanceID: n.instanceID, NodeArray: n.array.Name,
		MachineType: n.bucket.MachineType, PrivateIP: n.address.String(),
	}
	generation := n.generation
	var vm VM
	var err error
	s.unlocked(func() { vm, err = s.cfg.Launcher.Start(s.ctx, spec) })
	if err != nil {
		s.cfg.Logger.Error("VM did not start", "node", n.name, "error", err)
		s.releaseAddress(n)
		if n.generation == generation {
			s.fail(n, fmt.Sprintf("Creating virtual machine: %v", err))
		}
		return
	}
	s.addMachine(n, vm, spec)
	switch ending := n.status == statusTerminating || n.status == statusStopping; {
	case s.closed: // Close waits for this call and then stops every VM
	case n.generation == generation:
		s.set(n, statusPreparing, targetStarted, "Awaiting node software installation")
		s.after(n, s.draw(s.cfg.BootDelay), s.boot)
	case n.gone || !ending:
		// The node's end came and went while its VM was being made. A VM that
		// resists stays on the books, without a node; stopMachine has logged why.
		if s.stopMachine(n) != nil {
			n.machine.node = nil
		}
	}
}

func (s *Sim) addMachine(n *node, vm VM, spec VMSpec) {
	b := &bill{array: n.array, size: n.bucket.Size, from: s.clock.Now()}
	s.bills = append(s.bills, b)
	n.machine = &machine{
		vm: vm, spec: spec, since: b.from, node: n,
		family: n.bucket.Family, cores: n.bucket.Cores, bill: b,
	}
	s.machines[spec.InstanceID] = n.machine
	s.journal.add(n.entry(VMStarted, spec.InstanceID))
}

// boot starts the software, unless this node is one that never gets there.
func (s *Sim) boot(n *node) {
	if slices.ContainsFunc(s.neverReady, func(p string) bool { ok, _ := path.Match(p, n.name); return ok }) {
		return
	}
	kind := s.take(n.array, FailInit, FailJoined, FailNever)
	switch kind {
	case FailNever:
		return
	case FailInit:
		s.fail(n, "Executing cluster-init: script 00_configure.sh exited with code 1")
		return
	}
	generation := n.generation
	vm := n.machine.vm
	var err error
	s.unlocked(func() { err = vm.Boot() })
	if err == nil {
		s.journal.add(n.entry(SoftwareOn, n.instanceID))
	}
	if n.generation != generation || s.closed {
		return
	}
	if err != nil {
		s.fail(n, fmt.Sprintf("Installing software: %v", err))
		return
	}
	s.after(n, s.draw(s.cfg.ReadyLag), func(n *node) {
		if kind == FailJoined {
			s.fail(n, "Executing cluster-init: health check exited with code 3")
			return
		}
		n.ready = s.clock.Now()
		s.set(n, statusReady, targetStarted, "")
		s.journal.add(n.entry(Ready, n.instanceID))
	})
}

func (s *Sim) fail(n *node, why string) {
	n.cancelTimer()
	s.set(n, statusFailed, n.state, why)
	s.journal.add(n.entry(Failed, why))
}

// terminate begins the end of a node. The VM lives until TerminateDelay is
// over, as a real one does until Azure has deleted it.
func (s *Sim) terminate(n *node, reason string) {
	n.target, n.reason = targetTerminated, reason
	s.set(n, statusTerminating, n.state, "Deleting virtual machine")
	s.journal.add(n.entry(Terminating, reason))
	s.after(n, s.draw(s.cfg.TerminateDelay), s.terminated)
}

func (s *Sim) terminated(n *node) {
	if n.machine != nil {
		switch s.take(n.array, FailTerminate, FailOrphan) {
		case FailTerminate:
			s.fail(n, "Deleting virtual machine: OperationNotAllowed: the resource is locked")
			return
		case FailOrphan:
			n.machine.node = nil
			s.journal.add(n.entry(Orphaned, n.instanceID))
			s.drop(n)
			s.journal.add(n.entry(Terminated, n.reason))
			return
		}
		generation := n.generation
		if err := s.stopMachine(n); err != nil {
			s.fail(n, fmt.Sprintf("Deleting virtual machine: %v", err))
			return
		}
		if n.generation != generation || s.closed {
			return
		}
	}
	s.releaseAddress(n)
	if n.fixed {
		s.set(n, statusTerminated, targetTerminated, "")
		s.journal.add(n.entry(Terminated, n.reason))
		return
	}
	s.remove(n, Terminated)
}

// deallocate stops the VM and keeps the node.
func (s *Sim) deallocate(n *node, reason string) {
	n.target, n.reason = targetDeallocated, reason
	s.set(n, statusStopping, n.state, "Deallocating virtual machine")
	s.journal.add(n.entry(Deallocating, reason))
	s.after(n, s.draw(s.cfg.TerminateDelay), func(n *node) {
		generation := n.generation
		if n.machine != nil {
			if err := s.stopMachine(n); err != nil {
				s.fail(n, fmt.Sprintf("Deallocating virtual machine: %v", err))
				return
			}
		}
		if n.generation == generation && !s.closed {
			s.set(n, statusDeallocated, targetDeallocated, "")
			s.journal.add(n.entry(Deallocated, n.instanceID))
		}
	})
}

// restart stops the VM and starts it again under the same identity.
func (s *Sim) restart(n *node, message string) {
	s.set(n, statusPreparing, targetStarted, message)
	s.after(n, 0, func(n *node) {
		generation := n.generation
		if n.machine != nil {
			if err := s.stopMachine(n); err != nil {
				s.fail(n, fmt.Sprintf("%s: %v", message, err))
				return
			}
		}
		if n.generation == generation && !s.closed {
			s.startVM(n)
		}
	})
}

// stopMachine kills the node's VM. On an error the VM is kept on the books.
func (s *Sim) stopMachine(n *node) error {
	m := n.machine
	var err error
	s.unlocked(func() { err = m.vm.Stop() })
	if err != nil {
		s.cfg.Logger.Error("VM did not stop", "node", n.name, "error", err)
		return err
	}
	s.forget(m)
	return nil
}

// forget takes a stopped VM off the books, once.
func (s *Sim) forget(m *machine) {
	if s.machines[m.spec.InstanceID] != m {
		return
	}
	delete(s.machines, m.spec.InstanceID)
	m.bill.to = s.clock.Now()
	e := Entry{Event: VMStopped, NodeID: m.spec.NodeID, Name: m.spec.Name, NodeArray: m.spec.NodeArray, Detail: m.spec.InstanceID}
	if m.node != nil {
		e.RequestID = m.node.requestID
		if m.node.machine == m {
			m.node.machine = nil
		}
	} else if addr, err := netip.ParseAddr(m.spec.PrivateIP); err == nil {
		delete(s.addresses, addr)
	}
	s.journal.add(e)
}

// releaseAddress ends the node's tie to its former VM.
func (s *Sim) releaseAddress(n *node) {
	delete(s.addresses, n.address)
	n.address, n.instanceID = netip.Addr{}, ""
}

// remove takes the node off the list and writes how it left.
func (s *Sim) remove(n *node, how EventName) {
	s.releaseAddress(n)
	s.drop(n)
	s.journal.add(n.entry(how, n.reason))
}

func (s *Sim) drop(n *node) {
	n.cancelTimer()
	n.gone = true
	s.nodes = slices.DeleteFunc(s.nodes, func(o *node) bool { return o == n })
}
