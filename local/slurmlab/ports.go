package slurmlab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// Ports for a daemon that starts later cannot be held open until then. So they
// are taken from below the kernel's range for outgoing and port-0 sockets, where
// nothing lands by accident, in blocks that labs reserve against each other.
const (
	firstPort    = 10240
	portsInBlock = 128
	usualLastOne = 32767 // ports from 32768 on are the kernel's, by default
)

// errNoPorts says that too many labs run at once, or that too much else listens.
var errNoPorts = errors.New("no free block of ports is left")

// reservation holds ports until it is released or the process ends, however it ends.
type reservation struct {
	ports []int
	locks []net.Listener
}

// release gives the ports back.
func (r *reservation) release() {
	for _, lock := range r.locks {
		_ = lock.Close()
	}
	r.locks = nil
}

// reservePorts reserves count TCP ports on which nothing listens now. A block is
// locked by an abstract Unix socket: the kernel refuses a second one of the same
// name on the machine, and removes it with the process.
func reservePorts(count int) (*reservation, error) {
	last := lastPort()
	r := &reservation{}
	blocks := (last - firstPort) / portsInBlock
	// Starting at a place of its own keeps a lab from taking over the ports of
	// one that has just ended, whose connections may linger.
	start := os.Getpid() % max(blocks, 1)
	for i := range blocks {
		base := firstPort + (start+i)%blocks*portsInBlock
		lock, err := net.Listen("unix", "@slurmlab-ports-"+strconv.Itoa(base))
		if err != nil {
			continue
		}
		r.locks = append(r.locks, lock)
		for port := base; port < base+portsInBlock; port++ {
			if isFree(port) {
				r.ports = append(r.ports, port)
			}
			if len(r.ports) == count {
				return r, nil
			}
		}
	}
	r.release()
	return nil, fmt.Errorf("reserve %d ports between %d and %d: %w", count, firstPort, last, errNoPorts)
}

// isFree reports whether a daemon could listen on port, on every address:
// slurmd 22.05 binds 0.0.0.0.
func isFree(port int) bool {
	listener, err := net.Listen("tcp4", ":"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

// lastPort is the last port below the kernel's own range (ip(7),
// ip_local_port_range), or the usual one when that leaves too few.
func lastPort() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return usualLastOne
	}
	fields := strings.Fields(string(text))
	if len(fields) != 2 {
		return usualLastOne
	}
	low, err := strconv.Atoi(fields[0])
	if err != nil || low < firstPort+10*portsInBlock {
		return usualLastOne
	}
	return low - 1
}
