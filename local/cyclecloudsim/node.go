package cyclecloudsim

import (
	"maps"
	"net/netip"
	"time"
)

// The Status words. CycleCloud publishes no list; these are the ones that its
// documentation and Microsoft's clients name.
const (
	statusAcquiring   = "Acquiring"
	statusPreparing   = "Preparing"
	statusReady       = "Ready"
	statusTerminating = "Terminating"
	statusTerminated  = "Terminated"
	statusStopping    = "Stopping"
	statusDeallocated = "Deallocated"
	statusFailed      = "Failed"

	targetStarted     = "Started"
	targetTerminated  = "Terminated"
	targetDeallocated = "Deallocated"
)

// node is one node record. All fields are guarded by Sim.mu.
type node struct {
	id, name    string
	array       *array
	bucket      *bucket
	status      string
	state       string
	target      string
	message     string
	group       string
	requestID   string
	operationID string
	reason      string // why it is going away
	attributes  map[string]any
	keepAlive   bool
	fixed       bool
	deallocates bool
	instanceID  string
	address     netip.Addr
	machine     *machine
	created     time.Time
	ready       time.Time
	gone        bool

	// generation rises with every change of course; a timer or a launcher call
	// that comes back with an older one has been overtaken.
	generation int
	stopTimer  func() bool
}

func (n *node) cancelTimer() {
	n.generation++
	if n.stopTimer != nil {
		n.stopTimer()
		n.stopTimer = nil
	}
}

// active says whether the node counts against the limits: everything that is
// meant to be up, whether it is or not.
func (n *node) active() bool { return n.target == targetStarted }

func (n *node) entry(e EventName, detail string) Entry {
	return Entry{Event: e, NodeID: n.id, Name: n.name, NodeArray: n.array.Name, RequestID: n.requestID, Detail: detail}
}

// Node is a copy of one node record.
type Node struct {
	NodeID, Name, NodeArray, MachineType string
	Status, State, TargetState           string
	StatusMessage, PlacementGroup        string
	InstanceID, PrivateIP, RequestID     string
	KeepAlive                            bool
	Created, Ready                       time.Time
}

func (n *node) export() Node {
	out := Node{
		NodeID: n.id, Name: n.name, NodeArray: n.array.Name, MachineType: n.bucket.MachineType,
		Status: n.status, State: n.state, TargetState: n.target, StatusMessage: n.message,
		PlacementGroup: n.group, InstanceID: n.instanceID, RequestID: n.requestID,
		KeepAlive: n.keepAlive, Created: n.created, Ready: n.ready,
	}
	if n.address.IsValid() {
		out.PrivateIP = n.address.String()
	}
	return out
}

// record is the node as the API shows it: PascalCase, free-form, with the
// request's own attributes beneath what the server knows.
func (s *Sim) record(n *node) map[string]any {
	r := map[string]any{
		"PlacementGroupId": nil, "KeepAlive": false,
		"Memory": n.array.MemoryGB, "Configuration": n.array.Configuration,
	}
	if n.array.Configuration == nil {
		r["Configuration"] = map[string]any{}
	}
	maps.Copy(r, n.attributes)
	if n.group != "" {
		r["PlacementGroupId"] = n.group
	}
	r["Name"], r["NodeId"], r["Template"] = n.name, n.id, n.array.Name
	r["MachineType"], r["CoreCount"] = n.bucket.MachineType, n.bucket.Cores
	r["Status"], r["State"], r["StatusMessage"] = n.status, n.state, n.message
	r["Interruptible"], r["Region"] = n.array.Spot, s.cfg.Region
	r["KeepAlive"] = n.keepAlive
	r["LaunchTime"] = n.created.UTC().Format(time.RFC3339)
	if n.requestID != "" {
		r["RequestId"] = n.requestID
	}
	if s.cfg.Quirks.TargetState == Present || s.rng.IntN(4) > 0 {
		r["TargetState"] = n.target
	} else {
		delete(r, "TargetState")
	}
	host, address := "", ""
	if n.address.IsValid() {
		host, address = n.name, n.address.String()
	}
	s.setOrEmpty(r, "Hostname", host)
	s.setOrEmpty(r, "PrivateIp", address)
	s.setOrEmpty(r, "InstanceId", n.instanceID)
	return r
}

func (s *Sim) setOrEmpty(r map[string]any, key, value string) {
	switch {
	case value != "" || s.cfg.Quirks.EmptyFields == Empty:
		r[key] = value
	case s.cfg.Quirks.EmptyFields == Null:
		r[key] = nil
	default:
		delete(r, key)
	}
}
