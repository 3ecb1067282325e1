//go:build crashpoints

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// point is one line of the table in crash.go.
type point struct {
	number     int
	name, says string
}

// crashPoints reads the table.
func crashPoints(t *testing.T) (table []point) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "crash.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for i, s := range group.Specs { // iota + 1
			constant := s.(*ast.ValueSpec)
			name, says, ok := strings.Cut(strings.TrimSpace(constant.Doc.Text()), ": ")
			if !ok || len(constant.Names) != 1 || name != constant.Names[0].Name {
				t.Fatalf("crash point %d has no sentence: %q", i+1, constant.Doc.Text())
			}
			name = strings.TrimPrefix(name, "point")
			table = append(table, point{i + 1, strings.ToLower(name[:1]) + name[1:], says})
		}
	}
	return table
}

// strike is what befalls the pass that comes by a point for the hit-th time:
// its process is killed, or it stands still for a while.
type strike struct {
	point  point
	hit    int
	freeze time.Duration
}

func (s strike) String() string {
	if s.freeze == 0 {
		return fmt.Sprintf("killed at hit %d of %s", s.hit, s.point.name)
	}
	return fmt.Sprintf("frozen for %v at hit %d of %s", s.freeze, s.hit, s.point.name)
}

// jobsStruck are as many as it takes to come by every point.
const jobsStruck = 2

// roughWorld is a model in which one effect of each kind fails or loses its
// answer, so that passes come by every point. One pass is struck.
type roughWorld struct {
	*model
	app    *reconcile.Reconciler
	cloud  reconcile.CycleCloud
	outbox reconcile.Outbox
	strike strike
	struck bool
	hits   map[int]int // by number, up to the strike
}

func newRoughWorld(t *testing.T, s strike) *roughWorld {
	w := &roughWorld{model: newModel(t, jobsStruck), strike: s, hits: map[int]int{}}
	w.cloud = faultyCloud{faultyCloud{w.model.cloud, &faults{at: 1, how: failBefore, onlyFor: "C.Create"}}, &faults{at: 1, how: failAfter, onlyFor: "C.Act"}}
	w.outbox = faultyOutbox{w.model.outbox, &faults{at: 1, how: failAfter, onlyFor: "B.SendCommand"}}
	w.restart()
	w.pressureTo = func(ctx context.Context, q event.QueuePressure) error {
		return surviving(func() error { _, err := w.app.Pressure(ctx, q, w.now); return err }, w.restart)
	}
	w.timerTo = func(ctx context.Context, timer event.ScaleDownTimer) error {
		fired := w.fired
		err := surviving(func() error { _, err := w.app.Timer(ctx, timer); return err }, w.restart)
		if w.fired != fired {
			return errors.New("the lock is lost: the broker gave the message to another process meanwhile")
		}
		return err
	}
	w.nothingTwice()
	reconcile.OnCrashPoint = w.come
	t.Cleanup(func() { reconcile.OnCrashPoint = nil })
	return w
}

func (w *roughWorld) restart() {
	table := watched(w.site, w.breaks)
	table.app = w.process(table, w.cloud, w.outbox)
	w.app = table.app
}

// nothingTwice complains of a second VM for the same resumption of a node.
func (w *roughWorld) nothingTwice() {
	made, onCreate := map[string]time.Time{}, w.model.cloud.onCreate
	w.model.cloud.onCreate = func(name string) {
		if at, ok := made[name]; ok && at.Equal(w.resumed[name]) {
			w.breaks("a second VM for %s, which Slurm resumed once", name)
		}
		made[name] = w.resumed[name]
		onCreate(name)
	}
}

// come is called when a pass comes by a point.
func (w *roughWorld) come(number int) {
	if w.struck {
		return
	}
	w.hits[number]++
	if number != w.strike.point.number || w.hits[number] != w.strike.hit {
		return
	}
	w.struck = true
	if w.strike.freeze == 0 {
		panic(crash{w.strike.point.name})
	}
	// Another process works on; then the frozen one wakes and gets all messages
	// again, with what it remembers.
	frozen := w.app
	w.restart()
	for wake := w.now.Add(w.strike.freeze); w.now.Before(wake); {
		w.tick(w.t.Context())
	}
	w.app = frozen
}

func (w *roughWorld) run() {
	w.t.Helper()
	w.finish(w.t.Context(), jobsStruck)
	if w.strike.hit > 0 && !w.struck {
		w.t.Error("the point was not hit")
	}
	if w.t.Failed() {
		w.t.Fatal(w.strike)
	}
}

// freezes are shorter than a claim, longer than one, as long as a create or
// terminate makes sense, and longer.
var freezes = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute}

// aroundEffects are the points between commit and effect and between effect and
// settle: a pass that stands still there does not know what others did
// meanwhile.
var aroundEffects = []string{"claimed", "committed", "creating", "created", "terminating", "commanding", "acted"}

// A pass may end at any of its steps, or stand still around an effect while
// another process works on: every job still runs, nothing is created twice or
// left over. Each hit of each point is struck: by a kill, and around effects by
// each of the freezes.
func TestCrashPoints(t *testing.T) {
	whole := newRoughWorld(t, strike{})
	whole.run()
	table := crashPoints(t)
	for _, name := range aroundEffects {
		if !slices.ContainsFunc(table, func(p point) bool { return p.name == name }) {
			t.Errorf("there is no crash point %q", name)
		}
	}
	for _, p := range table {
		t.Run(fmt.Sprintf("%02d %s", p.number, p.name), func(t *testing.T) {
			hits := whole.hits[p.number]
			t.Logf("crash point %d, %s: %d hits: %s", p.number, p.name, hits, p.says)
			if hits == 0 {
				t.Fatal("no pass comes by")
			}
			for hit := range hits {
				newRoughWorld(t, strike{point: p, hit: hit + 1}).run()
			}
			if !slices.Contains(aroundEffects, p.name) {
				return
			}
			for hit := range hits {
				for _, freeze := range freezes {
					newRoughWorld(t, strike{point: p, hit: hit + 1, freeze: freeze}).run()
				}
			}
		})
	}
}
