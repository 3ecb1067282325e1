package reconcile

import (
	"cmp"
	"slices"
	"strings"
	"unicode"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// familyOf tells which commands about jobs and partitions are about the same
// thing, so that a newer one replaces an older; it is empty for those about
// nodes.
func familyOf(kind string) string {
	switch burst.CommandKind(kind) {
	case burst.ReleaseJobs, burst.RevokeJobs:
		return "partitions"
	case burst.BeginNow:
		return "begin"
	case burst.NoticeJobs:
		return "notice"
	case burst.GatePartition:
		return "gate"
	case burst.FenceNodes, burst.UnfenceNodes, burst.PowerDownASAP, burst.AbortBoot, burst.PowerDown, burst.PowerDownDone:
	}
	return ""
}

// jobCommands gives the commands about jobs and partitions that are not
// answered, or that Slurm did not take and whose time is not over, oldest
// first. Of several about one target the newest counts.
func (p *pass) jobCommands() []burst.JobCommand {
	rows := slices.DeleteFunc(slices.Concat(p.assumed, p.commands, p.untaken), func(c ledger.Command) bool { return familyOf(c.Kind) == "" })
	slices.SortStableFunc(rows, func(a, b ledger.Command) int {
		return cmp.Or(cmp.Compare(b.Generation, a.Generation), strings.Compare(b.ID, a.ID))
	})
	type target struct{ family, name string }
	taken := map[target]bool{}
	var commands []burst.JobCommand
	for _, row := range rows {
		var left []string
		for _, name := range row.Targets {
			if t := (target{familyOf(row.Kind), name}); !taken[t] {
				taken[t] = true
				left = append(left, name)
			}
		}
		c := burst.JobCommand{Kind: burst.CommandKind(row.Kind), ExpiresAt: row.ExpiresAt}
		switch {
		case len(left) == 0:
			continue
		case c.Kind == burst.GatePartition:
			c.Partition = left[0]
		default:
			c.Jobs = left
		}
		commands = append(commands, c)
	}
	slices.Reverse(commands)
	return commands
}

// replaced reports whether newer commands about all targets of an old one were
// sent or committed. Then it is not sent again: the agent would only answer
// that it was superseded.
func (p *pass) replaced(old ledger.Command) bool {
	family := familyOf(old.Kind)
	if family == "" || len(old.Targets) == 0 {
		return false
	}
	newer := map[string]bool{}
	note := func(c ledger.Command) {
		if familyOf(c.Kind) == family && c.Generation > old.Generation {
			for _, name := range c.Targets {
				newer[name] = true
			}
		}
	}
	for _, c := range slices.Concat(p.commands, p.untaken) {
		note(c)
	}
	for _, i := range p.part.Intents {
		if command, err := commandOf(i); i.Kind == kindCommand && err == nil {
			note(commandRow(command, i))
		}
	}
	return !slices.ContainsFunc(old.Targets, func(name string) bool { return !newer[name] })
}

// maxNotice is how long the text in a job's AdminComment may be, in bytes.
const maxNotice = 200

// notice is what a held job is told.
func notice(why burst.Reason) string {
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, "slurmburst: "+why.String())
	if len(text) <= maxNotice {
		return text
	}
	return strings.ToValidUTF8(text[:maxNotice-len("…")], "") + "…"
}
