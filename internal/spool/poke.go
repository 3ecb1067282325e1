package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// socketName is where the agent listens, inside the spool.
const socketName = "agent.sock"

// The functions below use bare system calls: package net would cost the hook
// more start-up time than the rest of it, and a datagram needs little.

// Poke tells the agent that there is something in the spool. It never waits:
// nobody listening, or an agent with pokes enough, is no error, because the
// agent also looks by itself.
func Poke(dir string) error {
	fd, err := newSocket()
	if err != nil {
		return fmt.Errorf("poke agent: %w", err)
	}
	defer func() { _ = syscall.Close(fd) }()
	err = atSocket(dir, func(address syscall.Sockaddr) error {
		return syscall.Sendto(fd, []byte{1}, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, address)
	})
	if err == nil || isNobody(err) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOBUFS) {
		return nil
	}
	return fmt.Errorf("poke agent: %w", err)
}

// isNobody says that the socket is missing, or was left by a dead process.
func isNobody(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

func newSocket() (int, error) {
	return syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
}

// atSocket calls use with the socket's address. A socket's path has room for
// 107 bytes, so it is reached through a descriptor of its directory.
func atSocket(dir string, use func(syscall.Sockaddr) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	path := "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + socketName
	return use(&syscall.SockaddrUnix{Name: path})
}

// Listener receives pokes.
type Listener struct {
	dir    string
	socket *os.File
	self   os.FileInfo
	pokes  chan struct{}
	done   chan struct{}
}

// Listen makes the agent's end of the spool in dir. The socket of a dead agent
// is replaced; a living one is an error. The caller closes the listener.
func Listen(dir string) (*Listener, error) {
	fd, err := newSocket()
	if err != nil {
		return nil, fmt.Errorf("listen on spool %s: %w", dir, err)
	}
	path := filepath.Join(dir, socketName)
	if err := bind(fd, dir, path); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("listen on spool %s: %w", dir, err)
	}
	self, err := os.Lstat(path)
	if err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("listen on spool %s: %w", dir, err)
	}
	l := &Listener{
		dir:    dir,
		socket: os.NewFile(uintptr(fd), path), // non-blocking: Close ends a Read
		self:   self,
		pokes:  make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
	go l.receive()
	return l, nil
}

func bind(fd int, dir, path string) error {
	err := atSocket(dir, func(address syscall.Sockaddr) error {
		err := syscall.Connect(fd, address)
		switch {
		case err == nil:
			return errors.New("another agent listens there")
		case errors.Is(err, syscall.ECONNREFUSED):
			return os.Remove(path)
		case errors.Is(err, fs.ErrNotExist):
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return atSocket(dir, func(address syscall.Sockaddr) error { return syscall.Bind(fd, address) })
}

// receive turns datagrams into pokes until the socket is closed.
func (l *Listener) receive() {
	defer close(l.done)
	buffer := make([]byte, 16)
	for {
		// An empty datagram reads as the end of a file; it is a poke, too.
		if _, err := l.socket.Read(buffer); err != nil && !errors.Is(err, io.EOF) {
			return
		}
		select {
		case l.pokes <- struct{}{}:
		default: // one waits already
		}
	}
}

// Pokes gives a value after each poke; pokes that come before it is taken are
// one. It is never closed.
func (l *Listener) Pokes() <-chan struct{} { return l.pokes }

// Close stops listening and removes the socket, unless another agent has put
// its own there.
func (l *Listener) Close() error {
	err := l.socket.Close()
	<-l.done
	path := filepath.Join(l.dir, socketName)
	if now, statErr := os.Lstat(path); statErr == nil && os.SameFile(now, l.self) {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return fmt.Errorf("close spool listener %s: %w", l.dir, err)
	}
	return nil
}
