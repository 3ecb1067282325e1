package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every Linux
// that Go runs on.
const tick = 10 * time.Millisecond

// usage is what a process has spent, user and system together.
type usage struct {
	name   string
	parent int
	own    time.Duration
	// children is what those have spent that ended and were waited for.
	children time.Duration
}

// usageOf reads /proc/PID/stat.
func usageOf(pid int) (usage, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return usage{}, err
	}
	// The name is in parentheses and may hold anything.
	open, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
	fields := strings.Fields(string(text[end+1:]))
	if open < 0 || end < open || len(fields) < 15 {
		return usage{}, fmt.Errorf("read /proc/%d/stat: %q", pid, text)
	}
	var numbers [5]int
	for i, at := range []int{1, 11, 12, 13, 14} { // ppid, utime, stime, cutime, cstime
		if numbers[i], err = strconv.Atoi(fields[at]); err != nil {
			return usage{}, fmt.Errorf("read /proc/%d/stat: %w", pid, err)
		}
	}
	return usage{
		name: string(text[open+1 : end]), parent: numbers[0],
		own: time.Duration(numbers[1]+numbers[2]) * tick, children: time.Duration(numbers[3]+numbers[4]) * tick,
	}, nil
}

// familyCPU gives what this process and its children have spent, by name.
func familyCPU() (map[string]time.Duration, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	spent := map[string]time.Duration{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		u, err := usageOf(pid)
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrProcessDone):
			continue // it has just ended
		case err != nil:
			continue // ESRCH from reading, the same
		}
		if pid == os.Getpid() || u.parent == os.Getpid() {
			spent[u.name] += u.own
		}
	}
	return spent, nil
}
