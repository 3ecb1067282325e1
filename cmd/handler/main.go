// Command handler is the Azure Functions custom handler: it wires settings,
// policies, vendors and handlers together and listens where the host says. It
// must never log a secret, and it holds no state that a SIGKILL could lose.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/slurmburst/slurmburst/internal/config"
	"github.com/slurmburst/slurmburst/internal/logging"
)

func main() {
	if err := run(os.Getenv, os.Environ(), os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "handler: error: %v\n", err)
		// Not 0: the host takes that for a wish to stay dead.
		os.Exit(1)
	}
}

const (
	// garbage is how much of it may lie beside what is in use, in percent: an
	// event leaves much more behind than the process holds, and at Go's 100 a
	// seventh of the CPU went into collecting it (2026-11-23, 200 clusters).
	garbage = 400
	// enough is from where on memory counts for more than CPU, in bytes: half of
	// what an instance of Flex Consumption has (2,048 MB unless told otherwise).
	enough = 1 << 30
)

// frugal sets how the process uses memory, where its environment does not.
func frugal(getenv func(string) string) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	if getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(enough)
	}
}

// run serves until the host kills the process.
func run(getenv func(string) string, environ []string, stdout, stderr io.Writer) error {
	frugal(getenv)
	settings, err := config.LoadApp(getenv, environ)
	if err != nil {
		return err
	}
	logger := logging.New(stdout, stderr, settings.LogLevel)
	app, err := wire(settings, logger)
	if err != nil {
		return err
	}
	var listening net.ListenConfig
	listener, err := listening.Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(settings.Port)))
	if err != nil {
		return fmt.Errorf("listen where the host says: %w", err)
	}
	logger.Info("handler started", logging.Address, listener.Addr().String())
	server := &http.Server{Handler: app, ReadHeaderTimeout: 10 * time.Second}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
