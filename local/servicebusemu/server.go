package servicebusemu

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// Server is a Service Bus namespace. Its methods may be called from
// many goroutines.
type Server struct {
	entities map[string]*entity // by lower-case name; not changed after New
	log      *slog.Logger
	auth     *Auth       // nil: everybody
	tls      *tls.Config // nil: plain TCP
	clock    Clock
	seed     uint64
	backlog  atomic.Int64 // bytes that wait in the journals
	journals []*journal   // not changed after New; empty: in memory only
	dataLock *os.File

	mu          sync.Mutex
	closed      bool
	failure     error // of a journal
	listeners   map[net.Listener]struct{}
	connections map[*connection]struct{}
	running     sync.WaitGroup
}

// New makes a server with the configured queues: empty, or with what Config.Data
// holds. The error names every queue and field that is wrong.
func New(cfg Config) (*Server, error) {
	entities, err := cfg.entities()
	if err != nil {
		return nil, fmt.Errorf("configure service bus emulator: %w", err)
	}
	s := &Server{
		entities: entities, log: cfg.Logger, auth: cfg.Auth, tls: cfg.TLS, clock: cfg.Clock, seed: cfg.Seed,
		listeners: make(map[net.Listener]struct{}), connections: make(map[*connection]struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.clock == nil {
		s.clock = machineClock{}
	}
	for name, f := range cfg.Faults {
		if err := s.SetFaults(name, f); err != nil {
			return nil, fmt.Errorf("configure service bus emulator: %w", err)
		}
	}
	if cfg.Data != "" {
		if err := s.openData(cfg); err != nil {
			return nil, fmt.Errorf("open service bus emulator's data: %w", err)
		}
	}
	return s, nil
}

// Serve accepts clients on l until Close, and then returns nil, or until what it
// must keep cannot be written, and then returns why. It owns l. It may
// be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if !s.add(l) {
		return errors.New("serve: server is closed")
	}
	for {
		nc, err := l.Accept()
		if err != nil {
			if closed, failure := s.state(); closed || failure != nil {
				return failure
			}
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		if s.tls != nil {
			nc = tls.Server(nc, s.tls)
		}
		s.serveConn(nc)
	}
}

func (s *Server) add(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) state() (closed bool, failure error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed, s.failure
}

// persist has everything that anybody may be told of in the journals. On an error
// nobody may be told anything any more, and the server stops.
func (s *Server) persist() error {
	for _, j := range s.journals {
		if err := j.flush(); err != nil {
			s.fail(err)
			return err
		}
	}
	return nil
}

// relieve writes records that have piled up because no connection had anything to
// say, as with senders who want no answer.
func (s *Server) relieve() error {
	if s.backlog.Load() < maxBacklog {
		return nil
	}
	return s.persist()
}

func (s *Server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return
	}
	s.failure = err
	s.log.Error("stopped: a change could not be written", "error", err)
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.connections {
		_ = c.nc.Close()
	}
}

func (s *Server) serveConn(nc net.Conn) {
	c := newConnection(s, nc)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.failure != nil {
		_ = nc.Close()
		return
	}
	s.connections[c] = struct{}{}
	s.running.Go(func() {
		c.serve()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.connections, c)
	})
}

// Close ends every connection and waits until all goroutines have ended. Without
// Config.Data the messages are gone with the server. Closing twice does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.connections {
		_ = c.nc.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
	for _, e := range s.entities {
		e.close()
	}
	if again {
		return nil
	}
	return s.closeData()
}

// Stats returns what every queue holds and has seen, by configured name.
func (s *Server) Stats() map[string]QueueStats {
	stats := make(map[string]QueueStats, len(s.entities))
	for _, e := range s.entities {
		stats[e.cfg.Name] = e.stats()
	}
	return stats
}

// find is the queue that an address names, and whether it names its $management.
func (s *Server) find(address string) (q *queue, management bool, r *refusal) {
	name, deadLetter, management := entityName(address)
	e := s.entities[name]
	switch {
	case e == nil:
		return nil, false, refuse(condNotFound, fmt.Sprintf("The messaging entity '%s' could not be found.", address))
	case deadLetter:
		return e.dead, management, nil
	}
	return e.main, management, nil
}
