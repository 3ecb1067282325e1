package cyclecloudsim

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one line of the process table.
type process struct {
	pid, parent int
}

// processes reads the process table. A process that ends meanwhile is left
// out; so are zombies, which hold nothing and may stay long under a lazy init.
func processes() []process {
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	var out []process
	for _, dir := range dirs {
		text, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue
		}
		// The command in parentheses may hold anything, also parentheses.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
			continue
		}
		pid, errPID := strconv.Atoi(filepath.Base(dir))
		parent, errParent := strconv.Atoi(fields[1])
		if errPID == nil && errParent == nil {
			out = append(out, process{pid: pid, parent: parent})
		}
	}
	return out
}

// members finds the VM's processes: the first one and what descends from it,
// and every process that carries the VM's mark or all of its job marks or
// writes to one of its files, with what descends from that. Real slurmd leaves
// slurmstepd and job scripts to init, so descent alone is not enough.
func (v *execVM) members() []process {
	table := processes()
	in := map[int]bool{}
	for _, p := range table {
		in[p.pid] = p.pid == v.process.Pid && !v.reaped() || v.marked(p.pid) || v.writes(p.pid)
	}
	for grown := true; grown; {
		grown = false
		for _, p := range table {
			if !in[p.pid] && in[p.parent] {
				in[p.pid], grown = true, true
			}
		}
	}
	var out []process
	for _, p := range table {
		if in[p.pid] && p.pid != os.Getpid() {
			out = append(out, p)
		}
	}
	return out
}

func (v *execVM) marked(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	env := "\x00" + string(text)
	has := func(mark string) bool { return strings.Contains(env, "\x00"+mark+"\x00") }
	if has(v.mark) {
		return true
	}
	for _, m := range v.jobMarks {
		if !has(m) {
			return false
		}
	}
	return len(v.jobMarks) > 0
}

func (v *execVM) writes(pid int) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the pattern is well-formed
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err != nil || !slices.Contains(v.jobFiles, to) {
			continue
		}
		// The link's own mode says how the file was opened; somebody who only
		// reads a log is no part of the VM.
		if info, err := os.Lstat(fd); err == nil && info.Mode()&0o200 != 0 {
			return true
		}
	}
	return false
}

// stopTree freezes the VM until it no longer grows, so that nothing can fork
// away, then kills all of it and waits.
func (v *execVM) stopTree() error {
	deadline := time.Now().Add(stopDeadline)
	seen := map[int]bool{}
	for {
		fresh := false
		for _, p := range v.members() {
			if !seen[p.pid] {
				seen[p.pid], fresh = true, true
				_ = syscall.Kill(p.pid, syscall.SIGSTOP) // it may be gone
			}
		}
		if !fresh {
			break
		}
	}
	for {
		left := v.members()
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("VM of node %s: %d processes are left %s after the kill", v.name, len(left), stopDeadline)
		}
		for _, p := range left {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
		time.Sleep(5 * time.Millisecond)
	}
	select {
	case <-v.ended:
		return nil
	case <-time.After(time.Until(deadline)):
		return fmt.Errorf("VM of node %s: its first process cannot be reaped", v.name)
	}
}
