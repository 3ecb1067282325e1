//go:build crashpoints

package agent_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slurmburst/slurmburst/internal/agent"
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

// blow is what can befall an agent, and how long it is gone.
type blow struct {
	how   harm
	lasts time.Duration
}

type harm string

const (
	// killed: the process ends; its connections end with it.
	killed harm = "killed"
	// lost: the host loses its power; the broker is not told.
	lost harm = "lost with its host"
	// cutOff: the line is dead; the broker is not told.
	cutOff harm = "cut off"
	// reset: the line is dead; the broker hears of it.
	reset harm = "cut off and dropped"
	// frozen: the process stands still.
	frozen harm = "frozen"
	// succeeded: it stands still while another agent is in charge and goes.
	succeeded harm = "frozen and succeeded"
)

// strike is what befalls the agent of the first host that comes by a point for
// the hit-th time.
type strike struct {
	point point
	hit   int
	blow
}

func (s strike) String() string {
	return fmt.Sprintf("%s for %v at hit %d of %s", s.how, s.lasts, s.hit, s.point.name)
}

func (s strike) befall(p *process) {
	broker := p.w.broker
	switch s.how {
	case killed:
		p.kill(s.lasts, func() { broker.disconnect(p) })
	case lost:
		p.kill(s.lasts, func() {})
	case cutOff, reset:
		p.cut(s.lasts)
		if s.how == reset {
			broker.disconnect(p)
		}
		time.AfterFunc(s.lasts, p.w.heal)
	case frozen:
		p.freeze(s.lasts, func() {})
		p.w.heal()
	case succeeded:
		p.freeze(s.lasts, func() { broker.succeed(&process{w: p.w, host: secondHost}) })
		p.w.heal()
	}
}

// playOnce plays with one strike and gives the hits of each point up to it.
// Agents race with each other and with what goes on around them, so a late hit
// may not come this time.
func playOnce(t *testing.T, r records, s strike, hosts ...string) (hits map[int]int, struck bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newCrashWorld(t, r, s)
		agent.OnCrashPoint = w.come
		broken := w.perform(hosts...)
		for _, what := range broken {
			t.Error(what)
		}
		if t.Failed() {
			t.Fatalf("%v\n%s", s, w.log.all())
		}
		hits, struck = w.hits, w.struck
	})
	return hits, struck
}

// picked gives the hits to strike at: each, or some from first to last.
func picked(hits, most int) (some []int) {
	for i := range min(hits, most) {
		some = append(some, 1+i*(hits-1)/max(min(hits, most)-1, 1))
	}
	return some
}

// One agent may be killed at any of its steps: what follows it does no command
// twice, forgets none, and tells of every hook call.
func TestCrashPoints(t *testing.T) {
	atEachPoint(t, 6, []blow{{killed, time.Second}}, firstHost)
}

// The agent in charge may be killed, cut off or stopped at any of its steps
// while another one stands by: the other takes over, and the first, back again,
// neither acts nor says anything in the epoch that is over.
func TestCrashPointsOfTheAgentInCharge(t *testing.T) {
	atEachPoint(t, 9, []blow{
		{killed, 10 * time.Second},
		{cutOff, 2 * time.Minute},
		{frozen, 2 * time.Minute},
		{lost, 2 * time.Minute},
		{reset, 2 * time.Minute},
		{reset, 10 * time.Second},
		{frozen, 50 * time.Second},
		{cutOff, 50 * time.Second},
		{frozen, 10 * time.Minute},
	}, firstHost, secondHost)
}

var hooking sync.Mutex

// hookExclusively lets a test set the hook of the crash points while others,
// which do not, run beside it.
func hookExclusively(t *testing.T) {
	t.Parallel()
	hooking.Lock()
	t.Cleanup(func() {
		agent.OnCrashPoint = nil
		hooking.Unlock()
	})
}

// atEachPoint strikes the first host's agent at several hits of each point, and
// with each of the blows.
func atEachPoint(t *testing.T, most int, blows []blow, hosts ...string) {
	hookExclusively(t)
	r := writeRecords(t)
	whole, _ := playOnce(t, r, strike{}, hosts...)
	for _, p := range crashPoints(t) {
		t.Run(fmt.Sprintf("%02d %s", p.number, p.name), func(t *testing.T) {
			hits := whole[p.number]
			t.Logf("crash point %d, %s: %d hits: %s", p.number, p.name, hits, p.says)
			if hits == 0 {
				t.Fatal("no agent comes by")
			}
			some, struck := picked(hits, most), 0
			for i := range max(len(some), len(blows)) { // each hit and each blow at least once
				_, was := playOnce(t, r, strike{p, some[i%len(some)], blows[i%len(blows)]}, hosts...)
				if was {
					struck++
				}
			}
			if struck == 0 {
				t.Error("nobody was struck")
			}
		})
	}
}
