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
	"strconv"
	"time"

	"github.com/slurmburst/slurmburst/internal/config"
	"github.com/slurmburst/slurmburst/internal/heap"
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
	// garbage is how much may lie about, in percent of what is in use: with 200
	// clusters, a seventh of the CPU went into collecting it (2026-11-23).
	garbage = 400
	// enough is half of what an instance of Flex Consumption has, in bytes (2,048
	// MB unless it was told otherwise).
	enough = 1 << 30
)

// run serves until the host kills the process.
func run(getenv func(string) string, environ []string, stdout, stderr io.Writer) error {
	heap.Trade(getenv, garbage, enough)
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
