package functionshost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// running is a host under test with its message source.
type running struct {
	*Host
	bus    *fakeBus
	seen   *events
	stop   context.CancelFunc
	result chan error
}

// run starts a host on the fake bus and stops it at the end of the test.
func (a *app) run(change func(*Config)) *running {
	a.t.Helper()
	r := &running{bus: newFakeBus(), seen: &events{}, result: make(chan error, 1)}
	cfg := a.config()
	r.seen.attach(&cfg)
	cfg.connect = r.bus.connect
	if change != nil {
		change(&cfg)
	}
	h, err := New(cfg)
	if err != nil {
		a.t.Fatal(err)
	}
	r.Host = h
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.result <- h.Run(ctx) }()
	a.t.Cleanup(func() {
		cancel()
		select {
		case r.result <- <-r.result:
		case <-time.After(30 * time.Second):
			a.t.Error("the host did not stop")
		}
	})
	return r
}

func (r *running) awaitReady(t *testing.T) {
	t.Helper()
	select {
	case <-r.Ready():
	case <-time.After(30 * time.Second):
		t.Fatalf("the host is not ready: %v", r.seen.records)
	}
}

// calls waits until n calls have ended.
func (r *running) calls(t *testing.T, n int) []Invocation {
	t.Helper()
	poll(t, fmt.Sprintf("call number %d", n), func() bool { return len(r.seen.calls()) >= n })
	return r.seen.calls()
}

func oneFunction(t *testing.T) *app {
	return newApp(t, goodHost, map[string]string{"work": workFunction})
}

func TestHandlerEnvironment(t *testing.T) {
	t.Setenv("LEAKED_FROM_THE_SHELL", "1")
	a := oneFunction(t)
	a.settings["MY_SETTING"] = "mine"
	r := a.run(nil)
	r.awaitReady(t)
	poll(t, "the environment line", func() bool { return r.seen.logged("environment PATH=") })
	i := slices.IndexFunc(r.seen.lines, func(l LogLine) bool { return strings.HasPrefix(l.Text, "environment ") })
	env := strings.Fields(strings.TrimPrefix(r.seen.lines[i].Text, "environment "))
	value := func(name string) string {
		for _, kv := range env {
			if v, ok := strings.CutPrefix(kv, name+"="); ok {
				return v
			}
		}
		return ""
	}
	if value("FUNCTIONS_CUSTOMHANDLER_PORT") == "" || value("FUNCTIONS_CUSTOMHANDLER_PORT") != value("FUNCTIONS_HTTPWORKER_PORT") {
		t.Errorf("ports in %q", env)
	}
	if value("FUNCTIONS_CUSTOMHANDLER_WORKER_ID") == "" || value("FUNCTIONS_CUSTOMHANDLER_WORKER_ID") != value("FUNCTIONS_HTTPWORKER_ID") {
		t.Errorf("worker ids in %q", env)
	}
	if value("FUNCTIONS_APP_ROOT_PATH") != a.dir || value("MY_SETTING") != "mine" || value("LEAKED_FROM_THE_SHELL") != "" {
		t.Errorf("environment %q", env)
	}
	if l := r.seen.lines[i]; l.Level != slog.LevelInfo || l.Stream != "stdout" || l.PID == 0 || l.Instance != "app" {
		t.Errorf("line %+v", l)
	}
}

func TestLogLevels(t *testing.T) {
	for _, c := range []struct {
		name, order string
		separate    bool // useStdErrorStreamForErrorsOnly
		want        slog.Level
	}{
		{"stdout is information even when it says error", "stdout error: no", true, slog.LevelInfo},
		{"stderr is an error", "stderr all is well", true, slog.LevelError},
		{"stderr with warn anywhere is a warning", "stderr forewarned", true, slog.LevelWarn},
		{"stderr is information when it is no error stream", "stderr all is well", false, slog.LevelInfo},
		{"stderr with fail is an error when it is no error stream", "stderr it failed", false, slog.LevelError},
		{"lines for tooling are hidden", "stdout azfuncjsonlog:{}", true, slog.LevelDebug},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream, text, _ := strings.Cut(c.order, " ")
			var got slog.Level
			if stream == "stdout" {
				got = stdoutLevel(text)
			} else {
				got = hostFile{stderrIsErrors: c.separate}.stderrLevel(text)
			}
			if got != c.want {
				t.Errorf("level %v, want %v", got, c.want)
			}
		})
	}
	t.Run("both streams of a process arrive", func(t *testing.T) {
		r := oneFunction(t).run(nil)
		r.bus.send("s", "m-1", "stdout out loud")
		r.bus.send("s", "m-2", "stderr WARN beware")
		r.calls(t, 2)
		poll(t, "both lines", func() bool {
			return r.seen.logged("level=INFO", "out loud") && r.seen.logged("level=WARN", "beware")
		})
	})
}

func TestLineWriterCutsLongLines(t *testing.T) {
	var lines []string
	w := &lineWriter{deliver: func(l string) { lines = append(lines, l) }}
	for _, part := range []string{"a", "b\r\n\nc\n", strings.Repeat("x", 2*maxLine), "\nd"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if len(lines) != 3 || lines[0] != "ab" || lines[1] != "c" || len(lines[2]) > maxLine+16 {
		t.Errorf("%d lines, the first %q", len(lines), lines[0])
	}
}

func TestCrashCounter(t *testing.T) {
	type step struct {
		after time.Duration
		stop  bool
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"the third crash within 30 minutes stops the host", []step{{0, false}, {time.Minute, false}, {time.Minute, true}}},
		{"the third crash 31 minutes after the second does not", []step{{0, false}, {time.Minute, false}, {31 * time.Minute, false}, {time.Minute, false}, {time.Minute, true}}},
		{"crashes 29 minutes apart add up", []step{{0, false}, {29 * time.Minute, false}, {29 * time.Minute, true}}},
		{"exactly 30 minutes still count", []step{{0, false}, {30 * time.Minute, false}, {30 * time.Minute, true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var counter crashes
			now := testNow
			for i, s := range c.steps {
				now = now.Add(s.after)
				if got := counter.add(now); got != s.stop {
					t.Fatalf("crash %d: stop is %v, want %v", i+1, got, s.stop)
				}
			}
		})
	}
}

// clock is a clock that moves only when told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) advance(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

// starts waits until the handler of the only instance was started n times and
// answers again, and returns its process id.
func (r *running) starts(t *testing.T, n int) int {
	t.Helper()
	var s InstanceStats
	poll(t, fmt.Sprintf("start %d of the handler", n), func() bool {
		s = r.Stats().Instances[0]
		return s.Starts == n && s.State == WorkerReady
	})
	return s.PID
}

func TestCrashesOfARealHandler(t *testing.T) {
	t.Parallel()
	now := &clock{now: testNow}
	r := oneFunction(t).run(func(c *Config) { c.now = now.read })
	first := r.starts(t, 1)
	if err := r.KillHandler("work"); err != nil {
		t.Fatal(err)
	}
	if second := r.starts(t, 2); second == first {
		t.Error("the handler was not replaced")
	}
	now.advance(time.Minute)
	_ = r.KillHandler("work")
	r.starts(t, 3)
	now.advance(31 * time.Minute)
	_ = r.KillHandler("work")
	r.starts(t, 4)
	select {
	case err := <-r.result:
		t.Fatalf("the host stopped with %v, but the third crash came 31 minutes later", err)
	default:
	}
	_ = r.KillHandler("work")
	r.starts(t, 5)
	_ = r.KillHandler("work")
	select {
	case err := <-r.result:
		r.result <- err
		if !errors.Is(err, ErrHostStopped) || !strings.Contains(err.Error(), "signal: killed") {
			t.Errorf("Run returned %v, want ErrHostStopped with the way it died", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the third crash within 30 minutes did not stop the host")
	}
	if err := syscall.Kill(first, 0); err == nil {
		t.Error("a killed handler still exists")
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	t.Run("0 leaves the handler dead and fails every later call", func(t *testing.T) {
		r := oneFunction(t).run(nil)
		r.bus.send("s", "m-1", "exit 0")
		calls := r.calls(t, 3) // delivered again and again until it is dead-lettered
		for _, c := range calls {
			if c.OK() {
				t.Errorf("call %+v succeeded", c)
			}
		}
		if calls[2].Status != 0 || !strings.Contains(calls[2].Err.Error(), "refused") {
			t.Errorf("call after the exit: status %d, %v; want connection refused", calls[2].Status, calls[2].Err)
		}
		if s := r.Stats().Instances[0]; s.State != WorkerDead || s.Starts != 1 {
			t.Errorf("instance %+v, want it dead after one start", s)
		}
		if !r.seen.logged("level=ERROR", "exited with code 0") {
			t.Error("the trap was not reported")
		}
	})
	t.Run("200 restarts and is not counted", func(t *testing.T) {
		r := oneFunction(t).run(nil)
		r.bus.send("s", "m-1", "exit 200") // delivered three times
		r.calls(t, 3)
		r.starts(t, 4)
		if s := r.Stats().Instances[0]; s.Crashes != 0 {
			t.Errorf("%d crashes counted", s.Crashes)
		}
	})
	t.Run("any other code is a crash and names the last errors", func(t *testing.T) {
		a := oneFunction(t)
		a.settings["EXIT_AT_START"] = "7"
		r := a.run(nil)
		select {
		case err := <-r.result:
			r.result <- err
			if !errors.Is(err, ErrHostStopped) || !strings.Contains(err.Error(), "exit status 7") {
				t.Errorf("Run returned %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("the host did not stop")
		}
		if got := r.Stats().Instances[0].Starts; got != 3 {
			t.Errorf("%d starts, want 3", got)
		}
		if !r.seen.logged("the handler crashed", "giving up at the start") {
			t.Error("the last lines of stderr are missing")
		}
	})
	t.Run("the platform starts another host if told to", func(t *testing.T) {
		a := oneFunction(t)
		a.settings["EXIT_AT_START"] = "7"
		r := a.run(func(c *Config) { c.HostRestartDelay = 10 * time.Millisecond })
		poll(t, "the third host", func() bool { return r.Stats().Instances[0].HostStarts >= 3 })
	})
}
