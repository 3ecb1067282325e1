// Command floor is the least that a program of the product must do, as a static
// Go program: `floor write DIR BYTES` keeps a file safely, `floor listen PORT`
// accepts connections. It is what burst-hook and the handler are measured
// against, and must never do anything more.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor: error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "write":
		size, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return write(args[1], size)
	case len(args) == 2 && args[0] == "listen":
		return listen(args[1])
	}
	return errors.New("usage: floor write DIR BYTES | floor listen PORT")
}

// write writes a file, makes it durable, gives it its name, and makes that
// durable.
func write(dir string, size int) error {
	name := filepath.Join(dir, "floor")
	f, err := os.OpenFile(name+".tmp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, size))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// listen accepts connections until the process is killed.
func listen(port string) error {
	var config net.ListenConfig
	l, err := config.Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if err := conn.Close(); err != nil {
			return err
		}
	}
}
