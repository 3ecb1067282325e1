//go:build crashpoints

package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/agent"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/internal/spool"
)

// crashWorld is a cluster with one or two head nodes, whose agents may be struck,
// in virtual time. What goes on in it goes on whoever is alive.
type crashWorld struct {
	t      *testing.T
	slurm  *fakeSlurm
	broker *broker
	spool  string
	log    *logText
	strike strike
	records

	mu       sync.Mutex
	living   map[string]*process // by host
	births   int
	hits     map[int]int // of the first host, up to the strike
	struck   bool
	healed   bool // the struck one is back
	over     bool
	calls    []*hookCall
	excluded map[slurm.NodeName]bool
	acted    map[string]int // changes of Slurm, by what and where
	broken   []string
	play     play // the test's goroutine alone uses it
}

// hookCall is a call of burst-hook.
type hookCall struct {
	record
	file, id string
	at       time.Time
	told     bool
}

const firstHost, secondHost = "head1", "head2"

func newCrashWorld(t *testing.T, r records, s strike) *crashWorld {
	w := &crashWorld{
		t: t, slurm: newFakeSlurm(), spool: t.TempDir(), log: &logText{}, strike: s, records: r, healed: true,
		living: map[string]*process{}, hits: map[int]int{}, excluded: map[slurm.NodeName]bool{}, acted: map[string]int{},
	}
	w.broker = &broker{w: w, writers: map[int64]*process{}}
	return w
}

func (w *crashWorld) breaks(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// supervise runs the agent of a host, again and again.
func (w *crashWorld) supervise(host string) {
	for {
		w.mu.Lock()
		if w.over {
			w.mu.Unlock()
			return
		}
		w.births++
		ctx, cancel := context.WithCancel(context.Background())
		p := &process{w: w, host: host, number: w.births, cancel: cancel, pokes: make(chan struct{}, 1), back: time.Second}
		w.living[host] = p
		w.mu.Unlock()
		p.run(ctx)
		cancel()
		time.Sleep(p.back)
		if p.alive() != nil {
			w.heal()
		}
	}
}

// heal notes that what was struck is back.
func (w *crashWorld) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.healed = true
}

// come is called when an agent comes by a point.
func (w *crashWorld) come(host string, number int) {
	w.mu.Lock()
	p := w.living[host]
	w.mu.Unlock()
	if p == nil {
		return // an agent of another test's, beside this world
	}
	if p.awake() != nil {
		runtime.Goexit()
	}
	w.mu.Lock()
	count := host == firstHost && !w.struck && !w.over
	if count {
		w.hits[number]++
		w.struck = number == w.strike.point.number && w.hits[number] == w.strike.hit
	}
	strikes := count && w.struck
	w.healed = w.healed && !strikes
	w.mu.Unlock()
	if strikes {
		w.strike.befall(p)
	}
}

// process is one agent from its start to its end.
type process struct {
	w        *crashWorld
	host     string
	number   int
	cancel   context.CancelFunc
	pokes    chan struct{}
	back     time.Duration // from its end to its successor
	sequence int64         // of the last snapshot; the broker's lock guards it

	mu     sync.Mutex
	dead   bool
	wakes  time.Time // frozen until then
	online time.Time // cut off until then
}

func (p *process) String() string { return fmt.Sprintf("%s's agent %d", p.host, p.number) }

// run works until the agent ends or is killed.
func (p *process) run(ctx context.Context) {
	options := agent.Options{
		Cluster: cluster, Slurm: struckSlurm{p.w.slurm, p}, Bus: link{p.w.broker, p}, Spool: p.w.spool, Pokes: p.pokes,
		PressureQueue: pressureQueue, CommandQueue: commandQueue, Host: p.host, Version: "test", Poll: poll, Heartbeat: heartbeat,
		Logger: slog.New(slog.NewTextHandler(p.w.log, nil)).With("process", p), Clock: clock{p}, Random: func() float64 { return 0.5 },
	}
	array := agent.Nodearray{Name: "htc", Partition: "htc"}
	for i := range 9 {
		array.Nodes = append(array.Nodes, slurm.NodeName(fmt.Sprintf("htc-%d", i+1)))
	}
	options.Nodearrays = []agent.Nodearray{array}
	a, err := agent.New(options)
	if err != nil {
		p.w.breaks("%v: %v", p, err)
		return
	}
	done := make(chan struct{})
	go func() { // which may be killed
		defer close(done)
		if err := a.Run(ctx); err != nil {
			p.w.breaks("%v: %v", p, err)
		}
	}()
	<-done
}

var errKilled = fault.Newf(fault.Transient, "the process is dead")

// awake waits while the process is frozen, and tells whether it still lives.
func (p *process) awake() error {
	for {
		p.mu.Lock()
		dead, left := p.dead, time.Until(p.wakes)
		p.mu.Unlock()
		switch {
		case dead:
			return errKilled
		case left <= 0:
			return nil
		}
		time.Sleep(left)
	}
}

// alive tells whether the process lives. What it does while another of its
// goroutines is stopped counts as done before: it goes no further than to its
// next crash point.
func (p *process) alive() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return errKilled
	}
	return nil
}

// reach is alive, with a line to the broker.
func (p *process) reach() error {
	if err := p.alive(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.online) {
		return errOutage
	}
	return nil
}

// kill ends the process and the goroutine that calls it; the others can touch
// nothing any more. What follows from it happens once they have come to rest.
func (p *process) kill(back time.Duration, then func()) {
	p.mu.Lock()
	p.dead, p.back = true, back
	p.mu.Unlock()
	time.Sleep(settles)
	then()
	p.cancel()
	runtime.Goexit()
}

// freeze stops the process; meanwhile happens once all of it has come to rest.
func (p *process) freeze(d time.Duration, meanwhile func()) {
	p.mu.Lock()
	p.wakes = time.Now().Add(d)
	p.mu.Unlock()
	time.Sleep(settles)
	meanwhile()
	_ = p.awake() // it lives: it is just here
}

// settles is a moment of virtual time: it passes once nothing moves any more.
const settles = time.Nanosecond

func (p *process) cut(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.online = time.Now().Add(d)
}

// clock stands still for a frozen process.
type clock struct{ p *process }

func (c clock) Now() time.Time { return time.Now() }

func (c clock) After(d time.Duration) <-chan time.Time {
	fires := make(chan time.Time, 1)
	time.AfterFunc(d, func() {
		due := time.Now()
		if c.p.awake() == nil {
			if time.Now().After(due) { // after a sleep, whatever was stopped in the middle comes first
				time.Sleep(time.Millisecond)
			}
			fires <- time.Now()
		}
	})
	return fires
}

// record is what a call of burst-hook leaves in the spool.
type record struct {
	kind event.Cause
	node string
}

// records are spool files that were written once, because a write is synced to
// the disk, which costs more than all else. Their names are in this order.
type records struct {
	dir   string
	names map[record]string
}

func writeRecords(t *testing.T) records {
	t.Helper()
	r := records{t.TempDir(), map[record]string{}}
	for i, of := range []record{
		{event.CauseResume, "htc-4"},
		{event.CauseResume, "htc-6"},
		{event.CauseResumeFail, "htc-8"},
		{event.CauseSuspend, "htc-5"},
		{event.CauseSuspend, "htc-6"},
		{event.CauseSuspend, "htc-7"},
		{event.CauseSuspend, "htc-8"},
	} {
		kind := map[event.Cause]spool.Kind{event.CauseResume: spool.Resume, event.CauseSuspend: spool.Suspend, event.CauseResumeFail: spool.ResumeFail}[of.kind]
		name, err := spool.Write(r.dir, spool.Record{Kind: kind, Time: time.Unix(int64(i+1), 0), Hostlist: of.node})
		if err != nil {
			t.Fatal(err)
		}
		r.names[of] = name
	}
	return r
}

// hook is a call of burst-hook.
func (w *crashWorld) hook(kind event.Cause, node string) {
	name := w.records.names[record{kind, node}]
	w.broker.mu.Lock() // which guards the calls while a snapshot is taken
	w.calls = append(w.calls, &hookCall{record: record{kind, node}, at: time.Now(), file: name, id: spool.Entry{Name: name}.ID()})
	err := os.Link(filepath.Join(w.records.dir, name), filepath.Join(w.spool, name))
	w.broker.mu.Unlock()
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.living {
		select {
		case p.pokes <- struct{}{}:
		default:
		}
	}
}

func (l *logText) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
