package world

import (
	"net"
	"sync"
)

// gate is a listener whose network can be cut: while it is shut, connections
// end and new ones end at once. The port stays taken, so that nobody else gets
// it meanwhile.
type gate struct {
	net.Listener
	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]bool
}

func newGate(l net.Listener) *gate { return &gate{Listener: l, conns: map[net.Conn]bool{}} }

// Accept gives the next connection that the gate lets through.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if g.admit(conn) {
			return &gatedConn{Conn: conn, gate: g}, nil
		}
		conn.Close()
	}
}

func (g *gate) admit(conn net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut {
		g.conns[conn] = true
	}
	return !g.shut
}

// cut shuts the gate, and open opens it again.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for conn := range g.conns {
		conn.Close()
	}
	clear(g.conns)
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

// gatedConn is a connection that the gate forgets when it is closed.
type gatedConn struct {
	net.Conn
	gate *gate
}

// Close ends the connection.
func (c *gatedConn) Close() error {
	c.gate.mu.Lock()
	delete(c.gate.conns, c.Conn)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

// CutBus takes Service Bus off the network: agent and functions lose their
// connections and get no new ones, and the messages stay where they are.
func (w *World) CutBus() {
	w.busGate.cut()
	w.appBusGate.cut()
}

// RestoreBus ends CutBus.
func (w *World) RestoreBus() {
	w.busGate.open()
	w.appBusGate.open()
}
