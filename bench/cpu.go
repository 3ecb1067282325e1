package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
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

// ownCPU is what this process has spent, all threads and the garbage collector
// with it.
func ownCPU() (time.Duration, error) { return rusage(syscall.RUSAGE_SELF) }

// spending gives the CPU that do needs, in milliseconds, when nothing else is
// done meanwhile.
func spending(do func()) (float64, error) {
	before, err := ownCPU()
	if err != nil {
		return 0, err
	}
	do()
	after, err := ownCPU()
	return milliseconds(after - before), err
}

// threadSpending is spending without what other threads do meanwhile.
func threadSpending(do func()) (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const thread = 1 // RUSAGE_THREAD, which package syscall does not name
	before, err := rusage(thread)
	if err != nil {
		return 0, err
	}
	do()
	after, err := rusage(thread)
	return milliseconds(after - before), err
}

// reaped is what all children have spent that were waited for.
func reaped() (time.Duration, error) { return rusage(syscall.RUSAGE_CHILDREN) }

func rusage(who int) (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(who, &r); err != nil {
		return 0, fmt.Errorf("ask for the CPU that was spent: %w", err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
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

// work is what was spent up to a moment.
type work struct {
	at   time.Time
	ours map[string]time.Duration // by this process and its children, by name
	// machine is everybody's. What is not ours tells how quiet it was.
	machine time.Duration
}

func workNow() (work, error) {
	ours, err := familyCPU()
	if err != nil {
		return work{}, err
	}
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return work{}, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return work{}, fmt.Errorf("read /proc/stat: %q", line)
	}
	var machine time.Duration
	for _, at := range []int{1, 2, 3, 6, 7} { // user, nice, system, irq, softirq
		ticks, err := strconv.Atoi(fields[at])
		if err != nil {
			return work{}, fmt.Errorf("read /proc/stat: %w", err)
		}
		machine += time.Duration(ticks) * tick
	}
	return work{at: time.Now(), ours: ours, machine: machine}, nil
}
