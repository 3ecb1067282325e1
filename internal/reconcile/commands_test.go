package reconcile_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// commandTable is a process's view of the table of commands. It counts the
// requests, and complains of a bound that leaves out a command which counts, of
// a pass that did not know of one, and of a row that no commit announced.
type commandTable struct {
	reconcile.Ledger
	app    *reconcile.Reconciler // where it is set, what it knows is looked at
	all    *ledger.Memory
	now    func() time.Time
	breaks func(format string, args ...any)

	reads, writes int
	from          string // of the last read
	checked       int    // commands that counted at a commit
	announced     map[string]int64
}

func watched(s *site, breaks func(string, ...any)) *commandTable {
	return &commandTable{Ledger: s.ledger, all: s.ledger, now: func() time.Time { return s.now }, breaks: breaks}
}

func (l *commandTable) CommandsInForce(ctx context.Context, cluster string, now time.Time, from string) ([]ledger.Command, error) {
	l.reads, l.from = l.reads+1, from
	return l.Ledger.CommandsInForce(ctx, cluster, now, from)
}

func (l *commandTable) PutCommands(ctx context.Context, cluster string, rows []ledger.Command) ([]ledger.Command, []string, error) {
	l.writes++
	for _, c := range rows {
		kind := "command|"
		if c.State != ledger.CommandSent {
			kind = "answer|"
		}
		if _, ok := l.announced[kind+strings.TrimPrefix(c.ID, cluster+"/")]; !ok {
			l.breaks("row of command %s, %s: the commit announced %v", c.ID, c.State, l.announced)
		}
	}
	return l.Ledger.PutCommands(ctx, cluster, rows)
}

func (l *commandTable) NodesNamed(ctx context.Context, cluster string, names []string) ([]ledger.Node, error) {
	for _, name := range names {
		if strings.Contains(name, "|") {
			l.breaks("%s is read as if it were a node", name)
		}
	}
	return l.Ledger.NodesNamed(ctx, cluster, names)
}

func (l *commandTable) Load(ctx context.Context, cluster string) (ledger.Partition, error) {
	l.announced = nil // a pass begins
	return l.Ledger.Load(ctx, cluster)
}

func (l *commandTable) Commit(ctx context.Context, c ledger.Commit) (ledger.Committed, error) {
	done, err := l.Ledger.Commit(ctx, c)
	if err == nil {
		l.announced, _ = c.Changes.After(done.Cluster.Revision-1, done.Cluster.Revision)
		l.checked += checkBound(ctx, l.all, l.now(), l.breaks)
		l.checkKnown(ctx, done.Cluster.Revision-1)
	}
	return done, err
}

// checkKnown complains of commands that a pass decided without: an intent that
// is still there tells of the command, too.
func (l *commandTable) checkKnown(ctx context.Context, at int64) {
	if l.app == nil {
		return
	}
	known, revision := l.app.RememberedCommands(clusterName)
	if revision != at {
		l.breaks("commit %d is decided on the commands of revision %d", at+1, revision)
	}
	part, err := l.all.Load(ctx, clusterName)
	if err != nil {
		l.breaks("load: %v", err)
	}
	rows, err := l.all.Commands(ctx, clusterName, ledger.CommandSent)
	if err != nil {
		l.breaks("read commands: %v", err)
	}
	for _, c := range rows {
		told := slices.ContainsFunc(part.Intents, func(i ledger.Intent) bool { return clusterName+"/"+i.ID == c.ID })
		if _, ok := known[c.ID]; !ok && !told && !c.ExpiresAt.Before(l.now().Add(-time.Hour)) {
			l.breaks("commit %d is decided without command %s", at+1, c.ID)
		}
	}
}

// checkBound complains of what the stored bound leaves out: commands that wait
// or that Slurm refused, and those whose rows may still be written.
func checkBound(ctx context.Context, all *ledger.Memory, now time.Time, breaks func(string, ...any)) int {
	part, err := all.Load(ctx, clusterName)
	if err != nil {
		breaks("load: %v", err)
	}
	rows, err := all.CommandsInForce(ctx, clusterName, now.Add(-time.Hour), "")
	if err != nil {
		breaks("read commands: %v", err)
	}
	since := part.Cluster.CommandsSince
	if since <= 0 || since > part.Cluster.Revision {
		breaks("the bound of revision %d is %d", part.Cluster.Revision, since)
	}
	var ids []string
	for _, c := range rows {
		untaken := c.State == ledger.CommandRefused || c.State == ledger.CommandFailed
		if c.State == ledger.CommandSent || untaken && now.Before(c.ExpiresAt) {
			ids = append(ids, strings.TrimPrefix(c.ID, clusterName+"/"))
		}
	}
	for _, i := range part.Intents {
		if i.Kind == "command" {
			ids = append(ids, i.ID)
		}
	}
	for _, id := range ids {
		text, _, _ := strings.Cut(id, "/")
		if revision, err := strconv.ParseInt(text, 10, 64); err != nil || revision < since {
			breaks("command %s counts, and the bound is %d: %v", id, since, err)
		}
	}
	return len(ids)
}

// looker has a process look at a snapshot with news, ten seconds later.
func looker(s *site) func(*reconcile.Reconciler) {
	return func(app *reconcile.Reconciler) {
		s.t.Helper()
		s.after(10 * time.Second)
		s.news()
		if _, err := app.Pressure(s.t.Context(), s.pressure(), s.now); err != nil {
			s.t.Fatal(err)
		}
	}
}

// news makes the next snapshot another one, which asks for nothing.
func (s *site) news() {
	s.local = []event.LocalPartition{{Name: "cpu", Nodes: int(s.sequence + 1)}}
}

// ask has a process send a command: htc-1 is powered down when it has been idle
// for long enough.
func (s *site) ask(app *reconcile.Reconciler) event.SlurmCommand {
	s.t.Helper()
	before := len(s.outbox.commands)
	s.in("htc-1", "IDLE")
	looker(s)(app)
	s.after(s.policy.Nodearrays[0].IdleTimeout)
	looker(s)(app)
	if len(s.outbox.commands) != before+1 {
		s.t.Fatalf("commands %v, want one more than %d", s.kinds(), before)
	}
	return s.outbox.commands[before]
}

func (s *site) command(id string) ledger.Command {
	s.t.Helper()
	rows, err := s.ledger.Commands(s.t.Context(), clusterName, "")
	if err != nil {
		s.t.Fatal(err)
	}
	i := slices.IndexFunc(rows, func(c ledger.Command) bool { return c.ID == id })
	if i < 0 {
		s.t.Fatalf("there is no row of command %s", id)
	}
	return rows[i]
}

// stands is a process that stands still before it writes rows of commands.
type stands struct {
	reconcile.Ledger
	meanwhile func()
}

func (l *stands) PutCommands(ctx context.Context, cluster string, rows []ledger.Command) ([]ledger.Command, []string, error) {
	if then := l.meanwhile; then != nil {
		l.meanwhile = nil
		then()
	}
	return l.Ledger.PutCommands(ctx, cluster, rows)
}

// A decided event makes no request about commands where there is none, whoever
// commits in between; it makes one after a command or an answer of another
// process, and none once that is known.
func TestCommandsAreSearchedForOnlyWhereACommitAnnouncedThem(t *testing.T) {
	s := running(t)
	table := watched(s, t.Errorf)
	first, second := s.process(table, s.cloud, s.outbox), s.process(s.ledger, s.cloud, s.outbox)
	look := looker(s)
	step := func(what string, reads, writes int) {
		t.Helper()
		r, w := table.reads, table.writes
		look(first)
		s.want("reads and writes of commands, "+what, fmt.Sprint(table.reads-r, table.writes-w), fmt.Sprint(reads, writes))
	}
	step("the first look", 1, 0)
	for range 3 {
		step("own commits about other things", 0, 0)
		look(second)
		step("others' commits about other things", 0, 0)
	}
	asked := s.ask(second)
	step("after a command of another process", 1, 0)
	step("and once it is known", 0, 0)
	s.answer()
	s.in("htc-1", "MIXED") // a job was quicker
	look(second)
	s.want("state", s.command(asked.ID).State, ledger.CommandOK)
	step("after another process took the answer in", 1, 0)
	step("and once that is known", 0, 0)
}

// What a process itself sent and took in it need not read.
func TestAProcessKnowsItsOwnCommands(t *testing.T) {
	s := running(t)
	table := watched(s, t.Errorf)
	app := s.process(table, s.cloud, s.outbox)
	looker(s)(app)
	asked := s.ask(app)
	s.answer()
	s.in("htc-1", "IDLE", "POWERING_DOWN")
	looker(s)(app)
	s.want("state", s.command(asked.ID).State, ledger.CommandOK)
	looker(s)(app)
	s.want("reads: that of the new process", table.reads, 1)
	s.want("commands", len(s.outbox.commands), 1)
	known, _ := app.RememberedCommands(clusterName)
	s.want("command that is remembered", known[asked.ID].State, ledger.CommandOK)
	s.after(2 * time.Hour)
	looker(s)(app)
	known, _ = app.RememberedCommands(clusterName)
	s.want("commands remembered when they are long over", len(known), 0)
}

// A pass looks no further back than the oldest command that waits.
func TestTheSearchBeginsAtTheOldestCommandThatCounts(t *testing.T) {
	s := running(t)
	s.want("commands answered before", len(s.results), 1)
	asked := s.ask(s.rec)
	for range 3 { // later commits do not move the bound past it
		looker(s)(s.rec)
	}
	table := watched(s, t.Errorf)
	looker(s)(s.process(table, s.cloud, s.outbox))
	s.want("first id", table.from, fmt.Sprintf("%s/%d", clusterName, asked.Generation))
	s.answer()
	s.in("htc-1", "MIXED") // a job was quicker
	looker(s)(s.rec)
	looker(s)(s.rec)
	before := s.revision()
	looker(s)(s.process(table, s.cloud, s.outbox))
	s.want("first id once it is answered", table.from, fmt.Sprintf("%s/%d", clusterName, before))
}

// A row may come long after its commit, when more commits have been made than
// the history is looked at again: it is waited for while its intent is there.
func TestARowOfACommandThatComesVeryLateIsRead(t *testing.T) {
	s := running(t)
	table := watched(s, t.Errorf)
	quick := s.process(table, s.cloud, s.outbox)
	news := func() {
		s.news()
		s.after(time.Second / 2)
		if _, err := quick.Pressure(t.Context(), s.pressure(), s.now); err != nil {
			t.Fatal(err)
		}
	}
	news()
	late := &slow{Ledger: s.ledger, Outbox: s.outbox, after: "command", stand: func() {
		before := s.revision()
		for range 60 {
			news()
		}
		s.want("commits meanwhile", s.revision()-before, 60)
	}}
	asked := s.ask(s.process(withoutNodes{late}, s.cloud, late))
	if late.stand != nil {
		t.Fatal("it did not stand still")
	}
	s.want("state", s.command(asked.ID).State, ledger.CommandSent)
	s.want("open intents", len(s.intents()), 0)
	before := table.reads
	news()
	s.want("reads", table.reads-before, 1)
	news()
	s.want("reads once it is known", table.reads-before, 1)
	s.want("commands", len(s.outbox.commands), 1)
	if now := s.part().Cluster.CommandsSince; now != asked.Generation {
		t.Errorf("the bound is %d, want %d", now, asked.Generation)
	}
}

// withoutNodes is a process whose rows of nodes meet no others'.
type withoutNodes struct{ reconcile.Ledger }

func (withoutNodes) PutNodes(_ context.Context, _ string, nodes []ledger.Node) ([]ledger.Node, []string, error) {
	return nodes, nil, nil
}

func (s *site) part() ledger.Partition {
	s.t.Helper()
	p, err := s.ledger.Load(s.t.Context(), clusterName)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// An answer may come into its row after another process has seen its commit. If
// that process went on with the old row, it would wait for an answer that the
// agent has given, and tell in the end that none came.
func TestAnAnswerThatComesLateIsRead(t *testing.T) {
	s := running(t)
	table := watched(s, t.Errorf)
	late := &stands{Ledger: s.ledger}
	quick, slow := s.process(table, s.cloud, s.outbox), s.process(late, s.cloud, s.outbox)
	asked := s.ask(quick)
	s.answer()
	s.in("htc-1", "IDLE", "POWERING_DOWN")
	late.meanwhile = func() {
		s.results = nil // the agent's next snapshot, of which quick has heard first
		looker(s)(quick)
		s.want("state while the answer is on its way", s.command(asked.ID).State, ledger.CommandSent)
	}
	looker(s)(slow)
	if late.meanwhile != nil {
		t.Fatal("no answer was written")
	}
	s.want("state", s.command(asked.ID).State, ledger.CommandOK)
	s.after(burst.CommandTTL)
	looker(s)(quick)
	s.want("failures that tell of a missing answer", s.failed("expired"), 0)
}

// A timer may find that a command was not answered, and nothing else. The row
// must not change behind the back of a process that remembers it.
func TestACommandExpiresWithACommit(t *testing.T) {
	s := running(t)
	table := watched(s, t.Errorf)
	first, second := s.process(table, s.cloud, s.outbox), s.process(watched(s, t.Errorf), s.cloud, s.outbox)
	asked := s.ask(first)
	s.after(80 * time.Second)
	looker(s)(first)
	for range 2 {
		s.after(11 * time.Second)
		timer := event.ScaleDownTimer{Cluster: clusterName, Nodearray: "htc", Purpose: event.Retry, Generation: s.revision() + 9, Due: s.now}
		if _, err := second.Timer(t.Context(), timer); err != nil {
			t.Fatal(err)
		}
	}
	s.want("state", s.command(asked.ID).State, ledger.CommandExpired)
	looker(s)(first)
	s.want("failures that tell", s.failed("expired"), 1)
}

// A process may die between the commit that takes an answer in and its row, and
// the next one find nothing else to do.
func TestAnAnswerThatIsWrittenLaterIsAnnouncedAgain(t *testing.T) {
	s := running(t)
	dies := &stands{Ledger: s.ledger, meanwhile: func() {}}
	app := s.process(dies, s.cloud, s.outbox)
	asked := s.ask(app)
	s.answer()
	s.in("htc-1", "MIXED") // a job was quicker
	s.after(10 * time.Second)
	dies.meanwhile = func() { panic(crash{"front of the row"}) }
	q := s.pressure()
	if err := surviving(func() error { _, err := app.Pressure(t.Context(), q, s.now); return err }, func() {}); err == nil {
		t.Fatal("the process lives on")
	}
	s.want("state", s.command(asked.ID).State, ledger.CommandSent)
	before := s.revision()
	timer := event.ScaleDownTimer{Cluster: clusterName, Nodearray: "htc", Purpose: event.Retry, Generation: before + 9, Due: s.now}
	if _, err := s.process(watched(s, t.Errorf), s.cloud, s.outbox).Timer(t.Context(), timer); err != nil {
		t.Fatal(err)
	}
	s.want("state in the end", s.command(asked.ID).State, ledger.CommandOK)
	s.want("commits", s.revision()-before, 1)
}

// A sweep believes neither the bound nor what is remembered. What it finds it
// announces, so that others find it, too.
func TestASweepFindsACommandThatTheBoundLeavesOut(t *testing.T) {
	s := running(t)
	asked := s.ask(s.rec)
	table, swept := watched(s, t.Errorf), watched(s, t.Errorf)
	first, second := s.process(table, s.cloud, s.outbox), s.process(swept, s.cloud, s.outbox)
	part := s.part() // somebody's mistake
	part.Cluster.CommandsSince = part.Cluster.Revision + 1
	changes := part.Changes.With(part.Cluster.Revision+1, nil)
	if _, err := s.ledger.Commit(t.Context(), ledger.Commit{Cluster: part.Cluster, Changes: &changes}); err != nil {
		t.Fatal(err)
	}
	table.breaks, swept.breaks = func(string, ...any) {}, func(string, ...any) {}
	looker(s)(first)
	looker(s)(second)
	table.breaks, swept.breaks = t.Errorf, t.Errorf
	if since := s.part().Cluster.CommandsSince; since <= asked.Generation {
		t.Fatalf("the bound is %d, not above %d: the test proves nothing", since, asked.Generation)
	}
	s.rec = second
	s.sweep()
	s.want("reads of the process that sweeps", swept.reads, 2)
	s.want("bound after the sweep", s.part().Cluster.CommandsSince, asked.Generation)
	before := table.reads
	looker(s)(first)
	s.want("reads", table.reads-before, 1)
	s.want("bound", s.part().Cluster.CommandsSince, asked.Generation)
	s.answer()
	s.in("htc-1", "IDLE", "POWERING_DOWN")
	looker(s)(first)
	s.want("state", s.command(asked.ID).State, ledger.CommandOK)
}

// A process of the version before announces no commands and does not know the
// bound, which its commits leave as it is.
type versionBefore struct{ reconcile.Ledger }

func (l versionBefore) Commit(ctx context.Context, c ledger.Commit) (ledger.Committed, error) {
	part, err := l.Ledger.Load(ctx, c.Cluster.Cluster)
	if err != nil {
		return ledger.Committed{}, err
	}
	named, _ := c.Changes.After(c.Cluster.Revision, c.Cluster.Revision+1)
	var names []string
	for name := range named {
		if !strings.HasPrefix(name, "command|") && !strings.HasPrefix(name, "answer|") {
			names = append(names, name)
		}
	}
	before := part.Changes
	if !part.Found {
		before = c.Cluster.Begin()
		before.CommandsUntil = 0
	}
	changes := before.With(c.Cluster.Revision+1, names)
	changes.CommandsAfter, changes.CommandsUntil = before.CommandsAfter, before.CommandsUntil
	c.Changes, c.Cluster.CommandsSince = &changes, part.Cluster.CommandsSince
	return l.Ledger.Commit(ctx, c)
}

func TestCommandsOfTheVersionBeforeAreSearchedFor(t *testing.T) {
	s := running(t)
	table := watched(s, t.Errorf)
	first, old := s.process(table, s.cloud, s.outbox), s.process(versionBefore{s.ledger}, s.cloud, s.outbox)
	looker(s)(first)
	asked := s.ask(old)
	before := table.reads
	looker(s)(first)
	s.want("reads after a commit of the version before", table.reads-before, 1)
	s.want("bound", s.part().Cluster.CommandsSince, asked.Generation)
	s.want("commands", len(s.outbox.commands), 1)
	looker(s)(first)
	s.want("reads while it may still write", table.reads-before, 2)
}

// Processes take turns through the whole life of a cluster, whose agent answers
// late or not at all: the bound never leaves out what counts.
func TestTheBoundLeavesOutNothingThatCounts(t *testing.T) {
	const forgets = "one that remembers nothing"
	two := func(m *model) reconcile.Ledger { return watched(m.site, m.breaks) }
	for name, other := range map[string]func(*model) reconcile.Ledger{
		"two of this version":       two,
		"one of the version before": func(m *model) reconcile.Ledger { return versionBefore{m.ledger} },
		"one that keeps no history": func(m *model) reconcile.Ledger { return silentWriter{m.ledger} },
		forgets:                     two,
	} {
		t.Run(name, func(t *testing.T) {
			const jobs = 12
			m := newModel(t, jobs)
			table := watched(m.site, m.breaks)
			mine, others := m.process(table, m.cloud, m.outbox), (*reconcile.Reconciler)(nil)
			table.app = mine
			turn := 0
			next := func() *reconcile.Reconciler {
				switch turn++; {
				case turn%2 == 1:
					return mine
				case others == nil || name == forgets:
					others = m.process(other(m), m.cloud, m.outbox)
				}
				return others
			}
			m.pressureTo = func(ctx context.Context, q event.QueuePressure) error {
				if turn%3 != 0 {
					q.CommandResults = nil // the agent tells them later
				}
				_, err := next().Pressure(ctx, q, m.now)
				return err
			}
			m.timerTo = func(ctx context.Context, timer event.ScaleDownTimer) error {
				_, err := next().Timer(ctx, timer)
				return err
			}
			m.finish(t.Context(), jobs)
			if table.checked < 5 || table.writes < 4 {
				t.Errorf("%d commands counted, %d writes: the test proves nothing", table.checked, table.writes)
			}
		})
	}
}

// A ledger that was lost leaves the commands that it sent. The one that begins
// anew has higher revisions and knows no bound: it finds them.
func TestCommandsOfALedgerThatWasLostAreFound(t *testing.T) {
	s := running(t)
	asked := s.ask(s.rec)
	left := s.command(asked.ID)
	s.ledger = ledger.NewMemory()
	row := ledger.Command{
		ID: left.ID, Kind: left.Kind, Nodearray: left.Nodearray, Generation: left.Generation, Targets: left.Targets, Expect: left.Expect,
		SentAt: left.SentAt, ExpiresAt: left.ExpiresAt, State: left.State, Attempt: left.Attempt,
	}
	if _, _, err := s.ledger.PutCommands(t.Context(), clusterName, []ledger.Command{row}); err != nil {
		t.Fatal(err)
	}
	table := watched(s, t.Errorf)
	app := s.process(table, s.cloud, s.outbox)
	looker(s)(app)
	s.want("bound of the new ledger", s.part().Cluster.CommandsSince, asked.Generation)
	s.answer()
	looker(s)(app)
	s.want("state", s.command(asked.ID).State, ledger.CommandOK)
}

// What a process remembers of a ledger that was lost, commands and all, is not
// what the new one holds, whatever the commits of the new one announced.
func TestCommandsOfALedgerThatWasLostAreNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := running(t)
		table := watched(s, t.Errorf)
		app := s.process(table, s.cloud, s.outbox)
		asked := s.ask(app)
		time.Sleep(time.Hour) // so that the new revisions are higher
		s.ledger = ledger.NewMemory()
		table.Ledger, table.all = s.ledger, s.ledger
		s.in("htc-1", "MIXED")
		looker(s)(s.process(s.ledger, s.cloud, s.outbox))
		if s.revision() <= asked.Generation {
			t.Fatal("the new revisions are not higher: the test proves nothing")
		}
		before := table.reads
		looker(s)(app)
		s.want("reads", table.reads-before, 1)
		if known, _ := app.RememberedCommands(clusterName); len(known[asked.ID].ID) > 0 {
			t.Errorf("%v is remembered", known)
		}
	})
}

// On 2001-09-09 the revisions of a new ledger got a thirteenth digit. Where the
// bound has fewer digits than the revision, the order of texts is not that of
// numbers: then there is none.
func TestABoundWithFewerDigitsIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.UnixMilli(1e12 - 40)))
		s := running(t)
		asked := s.ask(s.rec)
		for s.revision() < 1e12 {
			s.news()
			s.after(time.Second)
			s.report()
		}
		if asked.Generation >= 1e12 {
			t.Fatalf("the command is of revision %d: the test proves nothing", asked.Generation)
		}
		table := watched(s, t.Errorf)
		app := s.process(table, s.cloud, s.outbox)
		s.answer()
		looker(s)(app)
		s.want("first id", table.from, "")
		s.want("state", s.command(asked.ID).State, ledger.CommandOK)
		looker(s)(app)
		looker(s)(s.process(table, s.cloud, s.outbox))
		s.want("first id once all have as many", len(table.from), len(clusterName+"/1000000000000"))
	})
}
