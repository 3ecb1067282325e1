package functionshost

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestStopKillsWithoutNotice(t *testing.T) {
	t.Parallel()
	a := oneFunction(t)
	mark := filepath.Join(t.TempDir(), "term")
	a.settings["TERM_MARK"] = mark
	r := a.run(func(c *Config) { c.DrainTimeout = 300 * time.Millisecond })
	pid := r.starts(t, 1)
	r.bus.send("s", "m-1", "hang")
	poll(t, "the call", func() bool { return r.Stats().Instances[0].InFlight == 1 })
	r.stop()
	err := <-r.result
	r.result <- err
	if err != nil {
		t.Errorf("Run returned %v", err)
	}
	if syscall.Kill(pid, 0) == nil {
		t.Error("the handler outlived its host")
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the handler was asked to end; the real host kills without a word")
	}
	if calls := r.seen.calls(); len(calls) != 1 || calls[0].OK() {
		t.Errorf("calls %+v, want the one in flight failed", calls)
	} else if errors.Is(calls[0].Err, errFunctionTimeout) {
		t.Error("the host waited for functionTimeout, long after DrainTimeout")
	}
	if _, abandoned := r.bus.settled(); len(abandoned) != 1 {
		t.Errorf("abandoned %v", abandoned)
	}
}

func TestKillWaitsForNothingAndSettlesNothing(t *testing.T) {
	t.Parallel()
	r := oneFunction(t).run(func(c *Config) { c.DrainTimeout = time.Hour })
	pid := r.starts(t, 1)
	r.bus.send("s", "m-1", "hang")
	poll(t, "the call", func() bool { return r.Stats().Instances[0].InFlight == 1 })
	r.Kill()
	err := <-r.result
	r.result <- err
	if err != nil {
		t.Errorf("Run returned %v", err)
	}
	if syscall.Kill(pid, 0) == nil {
		t.Error("the handler outlived its host")
	}
	if completed, abandoned := r.bus.settled(); len(completed)+len(abandoned) != 0 {
		t.Errorf("completed %v, abandoned %v: a killed host says nothing", completed, abandoned)
	}
	if calls := r.seen.calls(); len(calls) != 1 || errors.Is(calls[0].Err, errFunctionTimeout) {
		t.Errorf("calls %+v, want the one in flight ended by the kill, not by functionTimeout", calls)
	}
}

func TestStopWaitsForRunningCalls(t *testing.T) {
	t.Parallel()
	r := oneFunction(t).run(nil)
	r.bus.send("s", "m-1", "sleep 3s") // long enough to be seen at work
	poll(t, "the call", func() bool { return r.Stats().Instances[0].InFlight == 1 })
	r.stop()
	r.result <- <-r.result
	if completed, _ := r.bus.settled(); len(completed) != 1 {
		t.Errorf("completed %v, want the call in flight to end well", completed)
	}
}

func TestFunctionTimeoutKillsEveryCall(t *testing.T) {
	t.Parallel()
	a := newApp(t, strings.Replace(goodHost, "00:00:30", "00:00:06", 1), map[string]string{"work": workFunction})
	mark := filepath.Join(t.TempDir(), "term")
	a.settings["TERM_MARK"] = mark // a handler that would live on if it were only asked to end
	r := a.run(nil)
	first := r.starts(t, 1)
	r.bus.send("slow", "m-slow", "hang")
	poll(t, "the slow call", func() bool { return r.Stats().Instances[0].InFlight == 1 })
	<-time.After(time.Second) // so that only one call reaches the limit, and the other has begun by then
	r.bus.send("other", "m-other", "hang")
	calls := r.calls(t, 2)
	byID := map[string]Invocation{}
	for _, c := range calls[:2] {
		byID[c.MessageID] = c
	}
	if err := byID["m-slow"].Err; !errors.Is(err, errFunctionTimeout) {
		t.Errorf("slow call: %v, want functionTimeout", err)
	}
	if err := byID["m-other"].Err; err == nil || errors.Is(err, errFunctionTimeout) {
		t.Errorf("other call: %v, want it to die with the process", err)
	}
	r.bus.mu.Lock()
	r.bus.queue = nil
	r.bus.mu.Unlock()
	poll(t, "the restart", func() bool { s := r.Stats().Instances[0]; return s.Starts >= 2 && s.PID != first })
	if s := r.Stats().Instances[0]; s.Crashes != 0 {
		t.Errorf("%d crashes counted for a timeout", s.Crashes)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the handler was asked to end; the real host kills without a word")
	}
}

func TestEmptyReplyKillsTheHandlerWhenEmulated(t *testing.T) {
	t.Parallel()
	a := newApp(t, strings.Replace(goodHost, "00:00:30", "00:00:01", 1), map[string]string{"work": workFunction})
	r := a.run(func(c *Config) { c.HangOnEmptyReply = true })
	r.starts(t, 1)
	r.bus.send("s", "m-1", "empty")
	call := r.calls(t, 1)[0]
	if !errors.Is(call.Err, errFunctionTimeout) || call.Duration < time.Second {
		t.Errorf("call %+v, want it to hang until functionTimeout", call)
	}
	poll(t, "the restart", func() bool { return r.Stats().Instances[0].Starts >= 2 })
}

// A call that comes before the handler is ready waits for four times the readiness
// budget, and then the host gives up.
func TestACallWaitsFourTimesTheReadinessBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worker{name: "app", file: hostFile{initTimeout: 30 * time.Second}, state: WorkerStarting, changed: make(chan struct{}), fatal: make(chan error, 1)}
		began := time.Now()
		err := w.await(t.Context())
		if waited := time.Since(began); !errors.Is(err, ErrHostStopped) || waited != 2*time.Minute {
			t.Errorf("after %v: %v", waited, err)
		}
		if fatal := <-w.fatal; !errors.Is(fatal, ErrHostStopped) {
			t.Errorf("the host goes on: %v", fatal)
		}
		go func() {
			time.Sleep(time.Minute)
			w.setState(WorkerReady)
		}()
		if err := w.await(t.Context()); err != nil {
			t.Errorf("a handler that is ready after a minute: %v", err)
		}
	})
}

func TestHandlerThatNeverAnswers(t *testing.T) {
	t.Parallel()
	host := strings.Replace(goodHost, `"enableForwardingHttpRequest"`, `"initializationTimeout":"00:00:00.2500000","enableForwardingHttpRequest"`, 1)
	a := newApp(t, host, map[string]string{"work": workFunction})
	if err := os.Remove(filepath.Join(a.dir, "handler")); err != nil {
		t.Fatal(err)
	}
	a.write("handler", "#!/bin/sh\nexec sleep 60\n")
	if err := os.Chmod(filepath.Join(a.dir, "handler"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := a.run(nil)
	err := <-r.result
	r.result <- err
	if !errors.Is(err, ErrHostStopped) || !strings.Contains(err.Error(), "did not answer") {
		t.Errorf("Run returned %v", err)
	}
}

func TestKillMidInvocation(t *testing.T) {
	t.Parallel()
	r := oneFunction(t).run(nil)
	r.starts(t, 1)
	r.bus.send("s", "m-1", "sleep 20s")
	poll(t, "the call", func() bool { return r.Stats().Instances[0].InFlight == 1 })
	if err := r.KillHandler("work"); err != nil {
		t.Fatal(err)
	}
	calls := r.calls(t, 1)
	if calls[0].OK() || calls[0].SessionID != "s" || calls[0].DeliveryCount != 1 {
		t.Errorf("call %+v, want it failed", calls[0])
	}
	r.starts(t, 2)
	poll(t, "the second delivery", func() bool { return r.Stats().Instances[0].InFlight == 1 })
	if err := r.KillHandler("nobody"); err == nil {
		t.Error("killed the handler of a function that does not exist")
	}
}
