// Package azurite answers one question: where is a Table Storage to test
// against? It runs Azurite's table service on a free loopback port. It must
// never be used as proof of Azure's limits: Azurite is laxer than Azure, and it
// loses up to five seconds of acknowledged writes when it is stopped, so a test
// pauses it or cuts it off and never stops it half-way.
package azurite

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/slurmburst/slurmburst/local/ca"
	"github.com/slurmburst/slurmburst/local/child"
	"github.com/slurmburst/slurmburst/local/setup"
)

// Account and accountKey are the storage emulator's published credentials
// (Microsoft Learn, "Use the Azurite emulator", Well-known storage account and
// key); they open nothing else.
const (
	Account    = "devstoreaccount1"
	accountKey = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// stopGrace is how long Azurite may take to write its file and end.
const stopGrace = 3 * time.Second

// Server is one running table service.
type Server struct {
	process *child.Process
	scheme  string
	port    int
	log     *os.File
}

// Start starts the table service with its data in dir, which is created, and
// returns once it listens. The tools are looked for in the build directory of
// the repository around the current directory. It fails with
// setup.ErrNotInstalled when Azurite is missing, and when ctx ends first.
func Start(ctx context.Context, dir string) (*Server, error) {
	build, err := setup.BuildDir(".")
	if err != nil {
		return nil, fmt.Errorf("start Azurite: %w", err)
	}
	return StartFrom(ctx, build, dir)
}

// StartFrom is Start with the build directory named by the caller.
func StartFrom(ctx context.Context, buildDir, dir string) (*Server, error) {
	return start(ctx, buildDir, dir, "http", "--location", dir)
}

// StartInMemory is StartFrom without a file: only the log is in dir. Otherwise
// Azurite 3.37.0 writes all that it holds every five seconds and answers nobody
// meanwhile, with 70 MB for half a second (2026-11-23), as no service does that
// is to be measured.
func StartInMemory(ctx context.Context, buildDir, dir string) (*Server, error) {
	return start(ctx, buildDir, dir, "http", "--inMemoryPersistence")
}

// StartTLS is StartFrom with https and the given certificate, and with tokens
// accepted besides the account's key. Of a token Azurite 3.37.0 (--oauth basic,
// TableTokenAuthenticator) checks issuer, audience and lifetime, but neither the
// signature nor a role; and it takes tokens over https only.
func StartTLS(ctx context.Context, buildDir, dir string, leaf tls.Certificate) (*Server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start Azurite: %w", err)
	}
	certificate, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if err := ca.WriteLeaf(leaf, certificate, key); err != nil {
		return nil, fmt.Errorf("start Azurite: %w", err)
	}
	return start(ctx, buildDir, dir, "https", "--location", dir, "--oauth", "basic", "--cert", certificate, "--key", key)
}

func start(ctx context.Context, buildDir, dir, scheme string, options ...string) (*Server, error) {
	argv, err := setup.Azurite(buildDir)
	if err != nil {
		return nil, fmt.Errorf("start Azurite: %w", err)
	}
	argv = append(argv, options...)
	if err = os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start Azurite: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "azurite.log"))
	if err != nil {
		return nil, fmt.Errorf("start Azurite: %w", err)
	}
	// Not CommandContext: ctx bounds the start, not the life of the server.
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	process, err := child.Start(cmd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start Azurite: %w", err), log.Close())
	}
	s := &Server{process: process, scheme: scheme, log: log}
	if s.port, err = awaitPort(ctx, process); err != nil {
		process.Kill()
		text, _ := os.ReadFile(log.Name())
		return nil, errors.Join(fmt.Errorf("start Azurite in %s: %w: %s", dir, err, text), log.Close())
	}
	return s, nil
}

// Endpoint is the URL of the table service, account included.
func (s *Server) Endpoint() string {
	return fmt.Sprintf("%s://127.0.0.1:%d/%s", s.scheme, s.port, Account)
}

// ConnectionString is what aztables.NewServiceClientFromConnectionString takes.
func (s *Server) ConnectionString() string {
	return fmt.Sprintf("DefaultEndpointsProtocol=%s;AccountName=%s;AccountKey=%s;TableEndpoint=%s;", s.scheme, Account, accountKey, s.Endpoint())
}

// Done is closed when the server has ended, for whatever cause.
func (s *Server) Done() <-chan struct{} { return s.process.Done() }

// Pause freezes the server: connections are still accepted by the kernel, but
// nothing is answered until Resume.
func (s *Server) Pause() error { return s.process.Signal(syscall.SIGSTOP) }

// Resume ends Pause; requests that waited are then answered.
func (s *Server) Resume() error { return s.process.Signal(syscall.SIGCONT) }

// Stop ends the server and returns once it is gone. It may be called twice.
func (s *Server) Stop(ctx context.Context) error {
	err := s.process.Stop(ctx, syscall.SIGINT, stopGrace)
	if closeErr := s.log.Close(); closeErr != nil && !errors.Is(closeErr, os.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	if err != nil {
		return fmt.Errorf("stop Azurite: %w", err)
	}
	return nil
}
