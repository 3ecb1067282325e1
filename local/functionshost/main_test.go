package functionshost

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const handlerMark = "FUNCTIONSHOST_TEST_HANDLER"

// TestMain turns the test binary into a custom handler when a host under test
// starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv(handlerMark) != "" {
		os.Exit(runTestHandler())
	}
	os.Exit(m.Run())
}

// runTestHandler is a handler that does what its message says, right or wrong.
func runTestHandler() int {
	if mark := os.Getenv("TERM_MARK"); mark != "" {
		terms := make(chan os.Signal, 1)
		signal.Notify(terms, syscall.SIGTERM, syscall.SIGINT)
		go func() {
			<-terms
			_ = os.WriteFile(mark, []byte("asked to end"), 0o600)
		}()
	}
	if when := os.Getenv("EXIT_AT_START"); when != "" {
		code, _ := strconv.Atoi(when)
		fmt.Fprintln(os.Stderr, "giving up at the start")
		return code
	}
	exit := make(chan int, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/", http.NotFound) // readiness is any answer
	mux.HandleFunc("POST /work", func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var body struct{ Data map[string]json.RawMessage }
		_ = json.Unmarshal(raw, &body)
		obey(w, r, unwrap(body.Data["msg"]), exit)
	})
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen-Invocation", r.Header.Get("X-Azure-Functions-Invocationid"))
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusFound)
		fmt.Fprintf(w, "%s %s host=%s own=%s body=%s", r.Method, r.URL.RequestURI(), r.Host, r.Header.Get("X-Own"), raw)
	})
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("FUNCTIONS_CUSTOMHANDLER_PORT"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("environment", strings.Join(os.Environ(), " "))
	go func() { _ = http.Serve(l, mux) }()
	return <-exit
}

func obey(w http.ResponseWriter, r *http.Request, order string, exit chan<- int) {
	verb, rest, _ := strings.Cut(order, " ")
	switch verb {
	case "exit":
		code, _ := strconv.Atoi(rest)
		exit <- code
		<-r.Context().Done()
	case "hang":
		<-r.Context().Done()
	case "sleep":
		d, _ := time.ParseDuration(rest)
		time.Sleep(d)
	case "empty":
		return
	case "status":
		code, _ := strconv.Atoi(rest)
		http.Error(w, "as told", code)
		return
	case "stdout":
		fmt.Fprintln(os.Stdout, rest)
	case "stderr":
		fmt.Fprintln(os.Stderr, rest)
	}
	w.Header().Set("Content-Type", "application/json")
	done, _ := json.Marshal("did " + verb)
	fmt.Fprintf(w, `{"Outputs":{},"Logs":[%s],"ReturnValue":null}`, done)
}

// unwrap undoes any number of JSON string encodings.
func unwrap(raw json.RawMessage) string {
	text := string(raw)
	for {
		var s string
		if json.Unmarshal([]byte(text), &s) != nil {
			return text
		}
		text = s
	}
}

// app is a packaged app folder under test.
type app struct {
	t        *testing.T
	dir      string
	settings map[string]string
}

const (
	goodHost = `{"version":"2.0","functionTimeout":"00:00:30",
		"extensionBundle":{"id":"Microsoft.Azure.Functions.ExtensionBundle","version":"[4.*, 5.0.0)"},
		"customHandler":{"description":{"defaultExecutablePath":"handler"},"enableForwardingHttpRequest":true},
		"extensions":{"serviceBus":{"maxConcurrentSessions":4,"sessionIdleTimeout":"00:00:01"}}}`
	workFunction = `{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"msg","queueName":"%QUEUE%",
		"connection":"SB","isSessionsEnabled":true,"dataType":"string"}]}`
	testConnection = "Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=n;SharedAccessKey=a2V5;UseDevelopmentEmulator=true"
)

// newApp makes a folder with host.json, the test handler and the given
// function.json texts.
func newApp(t *testing.T, host string, functions map[string]string) *app {
	t.Helper()
	a := &app{t: t, dir: t.TempDir(), settings: map[string]string{handlerMark: "1", "QUEUE": "q", "SB": testConnection}}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(a.dir, "handler")); err != nil {
		t.Fatal(err)
	}
	a.write("host.json", host)
	for name, text := range functions {
		a.write(name+"/function.json", text)
	}
	return a
}

func (a *app) write(name, text string) {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		a.t.Fatal(err)
	}
}

func (a *app) config() Config {
	return Config{AppDir: a.dir, Settings: a.settings, DrainTimeout: 5 * time.Second, Keys: Keys{Function: "fkey", Master: "mkey"}}
}

// listen adds an HTTP front and returns its base address.
func listen(t *testing.T, cfg *Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener = l
	return "http://" + l.Addr().String()
}

// events collects what a host reports.
type events struct {
	mu          sync.Mutex
	lines       []LogLine
	invocations []Invocation
	records     []string // "LEVEL message key=value ..."
}

func (e *events) attach(cfg *Config) {
	cfg.OnLog = func(l LogLine) { e.mu.Lock(); defer e.mu.Unlock(); e.lines = append(e.lines, l) }
	cfg.OnInvocation = func(i Invocation) { e.mu.Lock(); defer e.mu.Unlock(); e.invocations = append(e.invocations, i) }
	cfg.Logger = slog.New(slog.NewTextHandler(e, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (e *events) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.records = append(e.records, strings.TrimSpace(string(p)))
	return len(p), nil
}

func (e *events) logged(parts ...string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.records {
		found := true
		for _, p := range parts {
			found = found && strings.Contains(r, p)
		}
		if found {
			return true
		}
	}
	return false
}

func (e *events) calls() []Invocation {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Invocation(nil), e.invocations...)
}

// poll waits for a condition with a deadline that a slow machine meets.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if ok() {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Fatalf("%s did not happen", what)
}
