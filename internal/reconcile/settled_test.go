package reconcile_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// untold is a process that has settled an intent and comes to stop before a row
// tells of it: that of a node, or that of a command.
type untold struct {
	reconcile.Ledger
	before  string // the kind of row
	settled bool
	stop    func()
}

func (l *untold) UpdateIntent(ctx context.Context, cluster string, i ledger.Intent) (ledger.Intent, error) {
	done, err := l.Ledger.UpdateIntent(ctx, cluster, i)
	l.settled = l.settled || err == nil && done.State != ledger.IntentOpen
	return done, err
}

func (l *untold) row(kind string) {
	if then := l.stop; then != nil && l.settled && kind == l.before {
		l.stop = nil
		then()
	}
}

func (l *untold) PutNodes(ctx context.Context, cluster string, rows []ledger.Node) ([]ledger.Node, []string, error) {
	l.row("node")
	return l.Ledger.PutNodes(ctx, cluster, rows)
}

func (l *untold) PutCommands(ctx context.Context, cluster string, rows []ledger.Command) ([]ledger.Command, []string, error) {
	l.row("command")
	return l.Ledger.PutCommands(ctx, cluster, rows)
}

// Between settling an intent and telling of it, only the intent knows what was
// done. Whoever looks at the cluster then must go by it, and not do it again.
func TestWhatWasSettledAndNotToldIsNotDoneAgain(t *testing.T) {
	for _, effect := range []struct {
		name   string
		before string
		begin  func(*site)
		count  func(*site) int
		told   func(*site) any
		want   string
	}{
		{
			name: "a create", before: "node",
			begin: func(s *site) { s.resume("htc-2", "r2", batch) },
			count: func(s *site) int { return s.called("create") },
			told:  func(s *site) any { return s.row("htc-2").Supply + " " + s.row("htc-2").NodeID },
			want:  "booting id-2",
		},
		{
			name: "a terminate", before: "node",
			begin: func(s *site) { s.in("htc-1", "IDLE", "POWERING_DOWN") },
			count: func(s *site) int { return s.called("terminate") },
			told:  func(s *site) any { return s.row("htc-1").Supply },
			want:  "leaving",
		},
		{
			name: "a command", before: "command",
			begin: func(s *site) { s.in("htc-1", "IDLE"); s.report(); s.after(s.policy.Nodearrays[0].IdleTimeout) },
			count: func(s *site) int { return len(s.outbox.commands) },
			told: func(s *site) any {
				rows, err := s.ledger.Commands(s.t.Context(), clusterName, ledger.CommandSent)
				if err != nil || len(rows) != 1 {
					return fmt.Sprint(rows, err)
				}
				return rows[0].Kind
			},
			want: "power_down_asap",
		},
	} {
		for _, dies := range []bool{true, false} {
			name := effect.name + " whose process stands still"
			if dies {
				name = effect.name + " whose process dies"
			}
			t.Run(name, func(t *testing.T) {
				s := running(t)
				s.after(time.Minute)
				effect.begin(s)
				before := effect.count(s)
				stops := &untold{Ledger: s.ledger, before: effect.before}
				app := s.process(stops, s.cloud, s.outbox)
				look := func() {
					s.after(2 * time.Second)
					s.report()
					s.want("times that it was done", effect.count(s)-before, 1)
				}
				stops.stop = func() {
					s.want("times that it was done at first", effect.count(s)-before, 1)
					if dies {
						panic(crash{"front of the row"})
					}
					look()
				}
				q := s.pressure()
				err := surviving(func() error { _, err := app.Pressure(t.Context(), q, s.now); return err }, func() {})
				if stops.stop != nil || dies != (err != nil) {
					t.Fatalf("the process did not stop as it was to: %v", err)
				}
				look()
				s.want("what is told", effect.told(s), effect.want)
				s.want("open intents", len(s.intents()), 0)
			})
		}
	}
}

// called is how often something was asked of CycleCloud.
func (s *site) called(what string) int {
	return len(slices.DeleteFunc(slices.Clone(s.cloud.calls), func(c string) bool { return c != what }))
}
