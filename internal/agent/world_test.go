package agent_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/agent"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/internal/spool"
)

// world is an agent among fakes.
type world struct {
	t     *testing.T
	slurm *fakeSlurm
	bus   *fakeBus
	spool string
	log   *logText
	pokes chan struct{}
	calls int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, slurm: newFakeSlurm(), bus: &fakeBus{}, spool: t.TempDir(), log: &logText{}, pokes: make(chan struct{}, 1)}
}

const (
	poll      = 5 * time.Second
	heartbeat = 30 * time.Second
)

func (w *world) options() agent.Options {
	return agent.Options{
		Cluster: cluster, Nodearrays: []agent.Nodearray{{Name: "htc", Partition: "htc", Nodes: []slurm.NodeName{"htc-1", "htc-2", "htc-3", "htc-4"}}},
		Slurm: w.slurm, Bus: w.bus, Spool: w.spool, Pokes: w.pokes, PressureQueue: pressureQueue, CommandQueue: commandQueue,
		Host: "head1", Version: "test", Poll: poll, Heartbeat: heartbeat, Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	}
}

// hook is a call of burst-hook.
func (w *world) hook(kind spool.Kind, hostlist string) string {
	w.t.Helper()
	w.calls++
	name, err := spool.Write(w.spool, spool.Record{Kind: kind, Time: time.Now().Add(time.Duration(w.calls)), Hostlist: hostlist, Traceparent: "00-trace-" + hostlist})
	if err != nil {
		w.t.Fatal(err)
	}
	select {
	case w.pokes <- struct{}{}:
	default:
	}
	return strings.TrimSuffix(name, ".call")
}

func (w *world) spooled() int {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.spool, "*.call"))
	if err != nil {
		w.t.Fatal(err)
	}
	return len(files)
}

func (w *world) corrupt(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.spool, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// logText is a log that can be read while it is written.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}
