//go:build crashpoints

package main

import (
	"os"
	"strconv"
	"syscall"

	"github.com/slurmburst/slurmburst/internal/agent"
)

// A build for the crash suite kills itself at the crash point with the number in
// SLURMBURST_KILL_AT, as the kernel would: nothing is given back or closed.
func init() {
	at, err := strconv.Atoi(os.Getenv("SLURMBURST_KILL_AT"))
	if err != nil {
		return
	}
	agent.OnCrashPoint = func(_ string, number int) {
		if number == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it has come
		}
	}
}
