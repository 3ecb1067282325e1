package cyclecloudsim

import (
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// EventName names a kind of journal line.
type EventName string

// The events of the journal. Created counts nodes, VMStarted and VMStopped
// count VMs, Terminated and Vanished are the two ways in which a node leaves
// the list; each happens at most once per node, but for VMStarted and
// VMStopped, which a restart or a deallocation repeats.
const (
	Started        EventName = "started"         // the simulator; detail holds seed and quirks
	Created        EventName = "created"         // a node entered the list
	VMStarted      EventName = "vm_started"      // its VM exists and bills
	SoftwareOn     EventName = "software_on"     // the VM's program was started
	Ready          EventName = "ready"           // Status became Ready
	Failed         EventName = "failed"          // Status became Failed; detail is the StatusMessage
	Terminating    EventName = "terminating"     // a terminate was accepted; detail is the reason
	Deallocating   EventName = "deallocating"    // a deallocate was accepted
	Deallocated    EventName = "deallocated"     // the VM is stopped, the node stays
	VMStopped      EventName = "vm_stopped"      // the VM and all its processes are gone
	Terminated     EventName = "terminated"      // the node left the list, or stays as Terminated when Fixed
	Vanished       EventName = "vanished"        // the node left the list without a request; detail is the reason
	CapacityFailed EventName = "capacity_failed" // an allocation failed
	Refused        EventName = "refused"         // nodes asked for and not added; detail is the message
	Orphaned       EventName = "orphaned"        // the node is gone and its VM is not
	Chaos          EventName = "chaos"           // the control surface was used
	HTTP           EventName = "http"            // a request was answered
)

// Entry is one line of the journal.
type Entry struct {
	Seq       int       `json:"seq"`
	Time      time.Time `json:"time"`
	Event     EventName `json:"event"`
	NodeID    string    `json:"node_id,omitempty"`
	Name      string    `json:"name,omitempty"`
	NodeArray string    `json:"nodearray,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	Method    string    `json:"method,omitempty"`
	Path      string    `json:"path,omitempty"`
	Status    int       `json:"status,omitempty"`
}

// journal keeps every entry in memory and writes each as one JSON line. It has
// a lock of its own, so that requests are recorded without the simulation's.
type journal struct {
	mu      sync.Mutex
	clock   Clock
	out     io.Writer
	log     *slog.Logger
	entries []Entry
	broken  bool
}

func (j *journal) add(e Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Seq, e.Time = len(j.entries)+1, j.clock.Now().UTC()
	j.entries = append(j.entries, e)
	if j.out == nil || j.broken {
		return
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = j.out.Write(append(line, '\n'))
	}
	if err != nil {
		j.broken = true
		j.log.Error("journal stopped being written", "error", err)
	}
}

func (j *journal) all() []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.entries)
}
