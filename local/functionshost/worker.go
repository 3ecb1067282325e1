package functionshost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/slurmburst/slurmburst/local/child"
)

// ErrHostStopped ends Run: the handler crashed for the third time within 30
// minutes, or could not be started.
var ErrHostStopped = errors.New("functions host stopped")

// errFunctionTimeout fails a call that reached functionTimeout.
var errFunctionTimeout = errors.New("the call reached functionTimeout: the handler was killed, with every other call in it")

const readinessPause = 25 * time.Millisecond

// WorkerState is where a handler process stands.
type WorkerState string

// The states of a handler. WorkerDead is the trap of exit code 0: nothing is
// restarted, the app looks healthy and each call fails.
const (
	WorkerStarting WorkerState = "starting"
	WorkerReady    WorkerState = "ready"
	WorkerDead     WorkerState = "dead"
	WorkerStopped  WorkerState = "stopped"
)

// worker keeps the handler process of one host alive, by the rules of
// HttpFunctionInvocationDispatcher. Its port stays the same over restarts.
type worker struct {
	cfg    Config
	file   hostFile
	dir    string
	name   string
	port   int
	client *http.Client

	mu       sync.Mutex
	state    WorkerState
	changed  chan struct{} // closed at the next change of state
	process  *child.Process
	timedOut *child.Process // killed for functionTimeout, which is no crash
	crashes  crashes
	starts   int
	fatal    chan error // buffered; a reason to stop from outside run
}

func newWorker(cfg Config, file hostFile, name string) (*worker, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	w := &worker{cfg: cfg, file: file, dir: cfg.AppDir, name: name, port: port, state: WorkerStarting, changed: make(chan struct{}), fatal: make(chan error, 1)}
	w.client = &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		// The host waits a minute longer than the call may take, in case it
		// should fail to kill the handler.
		Timeout: 0,
	}
	if file.functionTimeout > 0 {
		w.client.Timeout = file.functionTimeout + time.Minute
	}
	w.client.CheckRedirect = w.redirect
	return w, nil
}

// redirect does what HttpClient's AllowAutoRedirect does, which is the negation
// of enableForwardingHttpRequest.
func (w *worker) redirect(req *http.Request, via []*http.Request) error {
	if w.file.forwarding {
		return http.ErrUseLastResponse
	}
	w.cfg.Logger.Warn("the handler answered a call with a redirect, and the host follows it, as a GET without body for 301 and 302: register the exact path in the handler's mux",
		"instance", w.name, "from", via[len(via)-1].URL.Path, "to", req.URL.Path, "method", req.Method)
	if len(via) > 50 {
		return errors.New("more than 50 redirects")
	}
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (w *worker) base() string { return "http://127.0.0.1:" + strconv.Itoa(w.port) }

func (w *worker) setState(s WorkerState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state = s
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *worker) current() (WorkerState, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state, w.changed
}

// await blocks a call while the handler starts or restarts, at most four times
// the readiness budget (WorkerFunctionInvoker); after that the host gives up.
func (w *worker) await(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, 4*w.file.initTimeout)
	defer cancel()
	err := w.awaitStart(limited)
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return err
	}
	err = fmt.Errorf("%w: %s: initialization timed out", ErrHostStopped, w.name)
	select {
	case w.fatal <- err:
	default:
	}
	return err
}

// awaitStart blocks until the handler can be called, or has exited with code 0
// and refuses calls by itself.
func (w *worker) awaitStart(ctx context.Context) error {
	for {
		state, changed := w.current()
		switch state {
		case WorkerReady, WorkerDead:
			return nil
		case WorkerStopped:
			return ErrHostStopped
		case WorkerStarting:
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run keeps the handler alive until ctx ends or the host must stop. It leaves no
// process behind.
func (w *worker) run(ctx context.Context) error {
	defer w.setState(WorkerStopped)
	for {
		w.setState(WorkerStarting)
		again, err := w.runOnce(ctx)
		w.client.CloseIdleConnections()
		if err != nil || !again {
			return err
		}
	}
}

// runOnce runs one process to its end and reports whether another must follow.
func (w *worker) runOnce(ctx context.Context) (again bool, err error) {
	out := &console{w: w}
	p, err := w.start(out)
	if err != nil {
		// The real host says so only after 120 s, when the first call gives up.
		return false, fmt.Errorf("%w: %w", ErrHostStopped, err)
	}
	defer p.Kill()
	ready := make(chan error, 1)
	go func() { ready <- w.awaitReady(ctx, p) }()
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case err := <-w.fatal:
			return false, err
		case <-p.Done():
			return w.ended(ctx, p, out)
		case err := <-ready:
			ready = nil
			if err != nil && ctx.Err() == nil {
				select {
				case <-p.Done():
					return w.ended(ctx, p, out)
				default:
					return w.crashed(err.Error(), out)
				}
			}
			w.setState(WorkerReady)
		}
	}
}

func (w *worker) start(out *console) (*child.Process, error) {
	id := uuid.NewString()
	port := strconv.Itoa(w.port)
	cmd := exec.Command(w.file.executable, w.file.arguments...)
	cmd.Dir = w.file.workingDir
	cmd.Env = append(settings(w.cfg.Settings).environment(),
		"FUNCTIONS_CUSTOMHANDLER_PORT="+port,
		"FUNCTIONS_CUSTOMHANDLER_WORKER_ID="+id,
		"FUNCTIONS_HTTPWORKER_PORT="+port,
		"FUNCTIONS_HTTPWORKER_ID="+id,
		"FUNCTIONS_APP_ROOT_PATH="+w.dir)
	stdout, stderr := out.writer("stdout", stdoutLevel), out.writer("stderr", w.file.stderrLevel)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = time.Second // a grandchild may hold the pipes
	p, err := out.start(cmd)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.process = p
	w.starts++
	w.mu.Unlock()
	w.cfg.Logger.Info("handler started", "instance", w.name, "pid", p.PID(), "port", w.port)
	return p, nil
}

// awaitReady asks for / every 25 ms; any HTTP answer is readiness. The budget
// counts the pauses, so a slow answer stretches it, as in the real host.
func (w *worker) awaitReady(ctx context.Context, p *child.Process) error {
	for range int(w.file.initTimeout / readinessPause) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base()+"/", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := w.client.Transport.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.Done():
			return errors.New("the handler ended before it was ready")
		case <-time.After(readinessPause):
		}
	}
	return fmt.Errorf("the handler did not answer GET / on its port within %v", w.file.initTimeout)
}

// ended applies the exit rules to a process that is gone.
func (w *worker) ended(ctx context.Context, p *child.Process, out *console) (again bool, err error) {
	w.mu.Lock()
	timedOut := w.timedOut == p
	w.mu.Unlock()
	code := exitCode(p.Err())
	switch {
	case ctx.Err() != nil:
		return false, nil
	case timedOut:
		return true, nil
	case code == 0:
		w.cfg.Logger.Error("the handler exited with code 0: the host takes this for graceful, never restarts it, and every call fails from now on", "instance", w.name)
		w.setState(WorkerDead)
		select {
		case <-ctx.Done():
			return false, nil
		case err := <-w.fatal:
			return false, err
		}
	case code == 200:
		w.cfg.Logger.Info("the handler asked for a restart with exit code 200", "instance", w.name)
		return true, nil
	default:
		return w.crashed(p.Err().Error(), out)
	}
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0 // exec.ErrWaitDelay comes with code 0
}

// crashed counts an error and decides between restart and stop.
func (w *worker) crashed(reason string, out *console) (again bool, err error) {
	w.mu.Lock()
	stop := w.crashes.add(w.cfg.now())
	count := w.crashes.count
	w.mu.Unlock()
	w.cfg.Logger.Error("the handler crashed", "instance", w.name, "how", reason, "count", count, "last_errors", out.errors())
	if stop {
		return false, fmt.Errorf("%w: %s: exceeded http worker restart retry count: crash %d within %v (%s)", ErrHostStopped, w.name, count, crashWindow, reason)
	}
	return true, nil
}

// running is the process that calls go to at the moment.
func (w *worker) running() *child.Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.process
}

// noticed waits, after a connection to process p broke, until its end has been
// noticed, or a moment if it did not end. In the real host abandoning a message
// takes longer than noticing the exit; here the message would come back so fast
// that a dying process used up all its deliveries.
func (w *worker) noticed(p *child.Process) {
	if p == nil {
		return // the far end of the connection is no process of ours
	}
	select {
	case <-p.Done():
	case <-time.After(100 * time.Millisecond):
		return
	}
	for {
		state, changed := w.current()
		if state != WorkerReady || w.running() != p {
			return
		}
		<-changed
	}
}

// expire kills the process that a call is stuck in.
func (w *worker) expire(p *child.Process) {
	w.mu.Lock()
	w.timedOut = p
	w.mu.Unlock()
	p.Kill()
}
