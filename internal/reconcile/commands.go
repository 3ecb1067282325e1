package reconcile

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/ledger"
)

// The table of commands keeps those of a month, and a pass wants the few that
// count. It does not have the table searched where no commit has announced a row
// since it last did, and else only from the oldest command that may count:
// docs/decisions/0019.

// expiredFor is how long after its end a command without an answer is still
// found and marked as expired.
const expiredFor = time.Hour

// How the commits announce rows of commands, by the ids of their intents: those
// that are about to be made, and those that are about to show an answer.
const (
	commandPut    = "command|"
	commandAnswer = "answer|"
)

// commandRows is what this process knows of the rows of commands.
type commandRows struct {
	ledgerID string
	revision int64 // 0 where nothing is known
	rows     map[string]ledger.Command
	// open are the commands whose intents the ledger had: their rows may come
	// without another commit. An intent goes when its row is there.
	open map[string]bool
	// unsure says that an answer which was announced has not come, or that it is
	// not known whether one was.
	unsure bool
}

// loadCommands finds the commands that wait for an answer, and those that Slurm
// did not take: the same command is not sent again before their time is over. A
// sweep believes neither what is remembered nor what bounds the search.
func (p *pass) loadCommands(ctx context.Context) error {
	revision := p.part.Cluster.Revision
	k := p.commandsOf(p.name)
	if k.ledgerID != p.part.Cluster.LedgerID || k.revision > revision || p.trigger.sweep {
		k = commandRows{}
	}
	told := k.revision != 0
	var named map[string]int64
	if told && (k.revision != revision || k.unsure) {
		named, told = p.part.Changes.AfterWithCommands(k.revision-overlap, revision)
	}
	now := p.Now()
	open := p.openCommands()
	if !told || k.lacks(named, open, p.commandID) || k.unanswered(named, p.commandID) {
		read, err := p.Ledger.CommandsInForce(ctx, p.name, now.Add(-expiredFor), p.firstCommand())
		if err != nil {
			return fmt.Errorf("load commands: %w", err)
		}
		k.rows = make(map[string]ledger.Command, len(read))
		for _, c := range read {
			k.rows[c.ID] = c
		}
	}
	k.ledgerID, k.revision, k.open = p.part.Cluster.LedgerID, revision, open
	k.unsure = !told || k.unanswered(named, p.commandID)
	p.keepCommands(p.name, k)
	p.knownCommands = k
	p.sortCommands(now)
	return nil
}

// sortCommands sorts what is known by what it means now, and finds the oldest
// command that counts.
func (p *pass) sortCommands(now time.Time) {
	p.commands, p.untaken, p.oldest = nil, nil, math.MaxInt64
	for _, id := range slices.Sorted(maps.Keys(p.knownCommands.rows)) {
		c := p.knownCommands.rows[id]
		switch {
		case c.ExpiresAt.Before(now.Add(-expiredFor)):
			continue
		case c.State == ledger.CommandSent:
			p.commands = append(p.commands, c)
		case isUntaken(c, now):
			p.untaken = append(p.untaken, c)
		default:
			continue
		}
		p.oldest = min(p.oldest, p.revisionOf(id))
	}
	for id := range p.knownCommands.open {
		p.oldest = min(p.oldest, p.revisionOf(id))
	}
}

func isUntaken(c ledger.Command, now time.Time) bool {
	return (c.State == ledger.CommandRefused || c.State == ledger.CommandFailed) && now.Before(c.ExpiresAt)
}

// lacks reports whether a row may be there that is not known: one that a later
// commit announced, or one whose intent is gone.
func (k commandRows) lacks(named map[string]int64, open map[string]bool, idOf func(string) string) bool {
	for name, at := range named {
		if intent, ok := strings.CutPrefix(name, commandPut); ok && at > k.revision && !k.has(idOf(intent)) {
			return true
		}
	}
	for id := range k.open {
		if !open[id] && !k.has(id) {
			return true
		}
	}
	return false
}

// unanswered reports whether an answer was announced that is in no row known. It
// may come later than its commit, or never.
func (k commandRows) unanswered(named map[string]int64, idOf func(string) string) bool {
	for name := range named {
		if intent, ok := strings.CutPrefix(name, commandAnswer); ok && (intent == many || k.rows[idOf(intent)].State == ledger.CommandSent) {
			return true
		}
	}
	return false
}

func (k commandRows) has(id string) bool {
	_, ok := k.rows[id]
	return ok
}

// commandID is the id of the command that an intent sends.
func (p *pass) commandID(intent string) string { return p.name + "/" + intent }

// intentID is the id of the intent that a command comes from.
func (p *pass) intentID(command string) string { return strings.TrimPrefix(command, p.name+"/") }

// revisionOf is the revision in the id of a command; 0 where there is none, so
// that nothing is left out for it.
func (p *pass) revisionOf(id string) int64 {
	digits, _, _ := strings.Cut(p.intentID(id), "/")
	revision, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || revision < 0 {
		return 0
	}
	return revision
}

// openCommands are the commands of the intents that the ledger has.
func (p *pass) openCommands() map[string]bool {
	open := map[string]bool{}
	for _, i := range p.part.Intents {
		if i.Kind == kindCommand {
			open[p.commandID(i.ID)] = true
		}
	}
	return open
}

// firstCommand is the id before which no command counts; empty where that is not
// known. Ids sort as text, revisions as numbers: the two agree among numbers of
// as many digits, which the milliseconds since 1970 are from 2001 to 2286.
func (p *pass) firstCommand() string {
	since, revision := p.part.Cluster.CommandsSince, p.part.Cluster.Revision
	digits := strconv.FormatInt(since, 10)
	if since <= 0 || since > revision || len(digits) != len(strconv.FormatInt(revision, 10)) || p.trigger.sweep {
		return ""
	}
	return p.commandID(digits)
}

// many stands for more names than one commit gives.
const many = "*"

// commandNames is how a commit announces the rows of commands that follow it.
// A sweep names all that count, so that a process which lacks one reads it.
func (p *pass) commandNames(intents []ledger.Intent) []string {
	var names []string
	if p.trigger.sweep {
		names = p.foundNames()
	}
	for _, i := range p.settled {
		if _, sent := sentBy(i); sent {
			names = append(names, commandPut+i.ID)
		}
	}
	for _, i := range intents {
		if i.Kind == kindCommand {
			names = append(names, commandPut+i.ID)
		}
	}
	if len(p.answered) > maxAnnounced {
		return append(names, commandAnswer+many)
	}
	for _, c := range p.answered {
		names = append(names, commandAnswer+p.intentID(c.ID))
	}
	return names
}

func (p *pass) foundNames() []string {
	found := slices.Concat(p.commands, p.untaken)
	if len(found) > maxAnnounced {
		return []string{commandPut + many}
	}
	names := make([]string, len(found))
	for i, c := range found {
		names[i] = commandPut + p.intentID(c.ID)
	}
	return names
}

// sentBy gives the row of the command that a settled intent sent, if it did.
func sentBy(i ledger.Intent) (row ledger.Command, sent bool) {
	command, err := commandOf(i)
	if i.Kind != kindCommand || err != nil || len(i.Outcome) == 0 || i.Outcome[0].Code != outcomeSent {
		return ledger.Command{}, false
	}
	return commandRow(command, i), true
}

// projectCommands writes the rows of commands that were sent or answered. It
// comes after a commit that announced them: see worthCommitting.
func (p *pass) projectCommands(ctx context.Context) error {
	rows := p.answered
	p.answered = nil
	for _, i := range p.settled {
		row, sent := sentBy(i)
		// One that a crash kept from being projected may be answered already.
		if sent && !slices.ContainsFunc(rows, func(c ledger.Command) bool { return c.ID == row.ID }) {
			rows = append(rows, row)
		}
	}
	var written []ledger.Command
	if len(rows) > 0 {
		// A conflict means that the row is there already, or that somebody else
		// took the answer in: both leave the table right.
		var lost []string
		var err error
		if written, lost, err = p.Ledger.PutCommands(ctx, p.name, rows); err != nil {
			return fmt.Errorf("project commands: %w", err)
		}
		if len(lost) > 0 { // what is remembered stays that of an earlier revision
			p.knownCommands.revision = 0
		}
	}
	if p.knownCommands.revision == 0 || !p.committed {
		return nil
	}
	p.knownCommands.revision, p.knownCommands.rows = p.part.Cluster.Revision, maps.Clone(p.knownCommands.rows)
	over := p.Now().Add(-expiredFor)
	maps.DeleteFunc(p.knownCommands.rows, func(_ string, c ledger.Command) bool { return c.ExpiresAt.Before(over) })
	for _, row := range written {
		p.knownCommands.rows[row.ID] = row
	}
	p.keepCommands(p.name, p.knownCommands)
	return nil
}

func (r *Reconciler) commandsOf(cluster string) commandRows {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.commands[cluster]
}

func (r *Reconciler) keepCommands(cluster string, k commandRows) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commands[cluster] = k
}
