package azurite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/local/child"
)

// pollInterval is how often the process is looked at until it listens.
const pollInterval = 20 * time.Millisecond

var errEnded = errors.New("the process ended before it listened")

// awaitPort waits until the process listens on a TCP port and returns it.
//
// Azurite 3.37.0 accepts port 0 but then prints "127.0.0.1:0" instead of the
// port that the kernel chose, so the port is read from the process itself. That
// has no window in which another process could take a port found beforehand.
func awaitPort(ctx context.Context, process *child.Process) (int, error) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if port, ok := listenPort(process.PID()); ok {
			return port, nil
		}
		select {
		case <-ticker.C:
		case <-process.Done():
			return 0, fmt.Errorf("%w: %w", errEnded, process.Err())
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for its port: %w", ctx.Err())
		}
	}
}

// listenPort finds the IPv4 port that process pid listens on. Whatever cannot be
// read yet, because the process is just starting, means "not yet".
func listenPort(pid int) (int, bool) {
	sockets := socketInodes(pid)
	if len(sockets) == 0 {
		return 0, false
	}
	table, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "net", "tcp"))
	if err != nil {
		return 0, false
	}
	defer table.Close()
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode (proc(5), /proc/net/tcp)
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != "0A" || !sockets[fields[9]] {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
			return int(port), true
		}
	}
	return 0, false
}

// socketInodes lists the sockets that process pid holds open.
func socketInodes(pid int) map[string]bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	inodes := make(map[string]bool)
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return inodes
}
