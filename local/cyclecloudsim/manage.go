package cyclecloudsim

import (
	"net/netip"
	"slices"
)

// action is one of the node management calls. It returns the text of the
// per-node error, or "" when the call was taken.
type action func(s *Sim, n *node) string

// actions maps the last part of the path to what it does to one node.
var actions = map[string]action{
	"start":      (*Sim).actStart,
	"shutdown":   (*Sim).actShutdown,
	"terminate":  (*Sim).actTerminate,
	"deallocate": (*Sim).actDeallocate,
	"remove":     (*Sim).actRemove,
	"reimage":    func(s *Sim, n *node) string { return s.actRestart(n, "Reimaging") },
	"restart":    func(s *Sim, n *node) string { return s.actRestart(n, "Restarting") },
}

// manage carries out a node management call on the union of its selectors; mu
// is held. Nodes that match nothing are simply not in the answer.
func (s *Sim) manage(name string, req managementRequest) (managementResult, error) {
	if err := s.checkRequestID(name, req.RequestID); err != nil {
		return managementResult{}, err
	}
	selected, err := s.selectNodes(req)
	if err != nil {
		return managementResult{}, err
	}
	op := s.newOperation(name, req.RequestID)
	out := managementResult{OperationID: op.id, Nodes: []nodeResult{}}
	for _, n := range selected {
		r := nodeResult{Name: n.name, ID: n.id, Status: "OK"}
		if why := actions[name](s, n); why != "" {
			r.Status, r.Error = "Error", why
		}
		op.nodeIDs = append(op.nodeIDs, n.id)
		out.Nodes = append(out.Nodes, r)
	}
	s.accept(op)
	return out, nil
}

func (s *Sim) selectNodes(req managementRequest) ([]*node, error) {
	match := func(map[string]any) bool { return false }
	if req.Filter != "" {
		f, err := parseFilter(req.Filter)
		if err != nil {
			return nil, refusal("filter: " + err.Error())
		}
		match = f
	}
	if req.Filter == "" && len(req.Names)+len(req.IDs)+len(req.Hostnames)+len(req.IPAddresses) == 0 {
		return nil, refusal("one of names, ids, hostnames, ip_addresses and filter is required")
	}
	var out []*node
	for _, n := range s.nodes {
		named := slices.Contains(req.Names, n.name) || slices.Contains(req.IDs, n.id)
		if n.address.IsValid() {
			named = named || slices.Contains(req.Hostnames, n.name) ||
				slices.ContainsFunc(req.IPAddresses, func(ip string) bool { a, err := netip.ParseAddr(ip); return err == nil && a == n.address })
		}
		if named || match(s.filterView(n)) {
			out = append(out, n)
		}
	}
	return out, nil
}

// filterView is the record that a filter sees: complete, whatever the quirks
// leave out of the answers.
func (s *Sim) filterView(n *node) map[string]any {
	r := s.record(n)
	r["TargetState"] = n.target
	return r
}

func (s *Sim) held(n *node, verb string) string {
	if n.keepAlive {
		return "Node " + n.name + " has KeepAlive set and cannot be " + verb
	}
	return ""
}

func (s *Sim) actTerminate(n *node) string {
	return s.terminateFor(n, "Autoscaled")
}

func (s *Sim) terminateFor(n *node, reason string) string {
	if n.target == targetTerminated && n.status != statusFailed {
		if s.cfg.Quirks.TerminateAgain == Error {
			return "Node " + n.name + " is already terminating"
		}
		return ""
	}
	if why := s.held(n, "terminated"); why != "" {
		return why
	}
	s.terminate(n, reason)
	return ""
}

func (s *Sim) actShutdown(n *node) string {
	if n.deallocates {
		return s.actDeallocate(n)
	}
	return s.actTerminate(n)
}

func (s *Sim) actDeallocate(n *node) string {
	if why := s.held(n, "deallocated"); why != "" {
		return why
	}
	switch n.target {
	case targetDeallocated:
		if n.status == statusFailed {
			s.deallocate(n, "Autoscaled")
		}
		return ""
	case targetTerminated:
		return "Node " + n.name + " is terminating and cannot be deallocated"
	}
	s.deallocate(n, "Autoscaled")
	return ""
}

// actRemove terminates a node that leaves the list by itself; a Fixed node has
// to be terminated first.
func (s *Sim) actRemove(n *node) string {
	switch {
	case n.fixed && n.status == statusTerminated:
		s.drop(n)
		return ""
	case n.fixed:
		return "This node must be terminated before it can be removed"
	}
	return s.actTerminate(n)
}

// actStart starts a node that is off. The nodearray's limit is not asked, as
// on the real server.
func (s *Sim) actStart(n *node) string {
	switch n.status {
	case statusDeallocated, statusTerminated:
		s.begin(n)
		return ""
	case statusTerminating, statusStopping:
		return "Node " + n.name + " is shutting down and cannot be started"
	}
	if s.cfg.Quirks.StartRunning == Error {
		return "Node " + n.name + " is already started"
	}
	return ""
}

func (s *Sim) actRestart(n *node, message string) string {
	if n.machine == nil || n.target != targetStarted {
		return "Node " + n.name + " has no running virtual machine"
	}
	s.restart(n, message)
	return ""
}
