package functionshost

import (
	"maps"
	"sync"
)

// Stats is a snapshot of what a Host has done since New.
type Stats struct {
	// Functions holds counts by function name.
	Functions map[string]FunctionStats
	// Instances describes each host instance with its handler.
	Instances []InstanceStats
}

// FunctionStats counts the calls of one function over all instances.
type FunctionStats struct {
	Invocations, Failures int
}

// InstanceStats describes one host instance.
type InstanceStats struct {
	// Name is "app" without Flex, else the function and a number, or "http-1".
	Name string
	// Functions are the names this instance serves.
	Functions []string
	// State is the state of its handler, PID its process id (0: none yet).
	State WorkerState
	PID   int
	// Starts counts handler processes, HostStarts hosts; Crashes is the current
	// crash count of the 30-minute rule.
	Starts, HostStarts, Crashes int
	// InFlight are calls that have not ended, Sessions the sessions held.
	InFlight, Sessions int
}

// counters are the numbers of one instance.
type counters struct {
	mu        sync.Mutex
	functions map[string]FunctionStats
	inFlight  int
	sessions  int
}

func (c *counters) began() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight++
}

func (c *counters) ended(inv Invocation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight--
	if c.functions == nil {
		c.functions = map[string]FunctionStats{}
	}
	f := c.functions[inv.Function]
	f.Invocations++
	if !inv.OK() {
		f.Failures++
	}
	c.functions[inv.Function] = f
}

func (c *counters) held(delta int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions += delta
}

func (c *counters) read() (functions map[string]FunctionStats, inFlight, sessions int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.functions), c.inFlight, c.sessions
}
