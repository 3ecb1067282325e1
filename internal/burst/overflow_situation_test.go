package burst

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// The lines that a situation may hold about waiting jobs:
//
//	-- policy --  overflow PARTITION to=A,B rule=R kappa=F wait=D drain=D maxcost=M when=yes|no|overrun
//	              budget cluster|nodearray:NAME|account:NAME PERIOD soft=M medium=M upto=M hard=M
//	              account NAME max=N | user NAME max=N (* for all others)
//	              cluster max=N | shadow | breaker first=D most=D
//	              of a nodearray: price=M cpus=N memory=N gpus=N features=A,B pgroup=N up=N/D down=N/D
//	              coolup=D cooldown=D boottime=D window=open|closed|closes@D|opens@D gate=closed partition=P
//	-- facts --   group KEY PARTITIONS key=value… (jobs=1,2; waited=D; count=N)
//	              running ID NODEARRAY nodes=N … | ended ID at=D requeued=yes
//	              finished USER ACCOUNT jobs=N run=D limit=D
//	              local NAME nodes=N idle=N down=N | partition NAME key=value… | removed PARTITION
//	              sent KIND jobs=1,2 expires=D | partition=P
//	              memory job|unseen|step|noticed|notices|gated|breaker|warned …

// readPolicyLine reads a line that is no nodearray's.
func (s *situation) readPolicyLine(t *testing.T, words []string) bool {
	t.Helper()
	switch words[0] {
	case "overflow":
		s.readOverflow(t, words)
	case "budget":
		s.readBudget(t, words)
	case "account":
		s.policy.Accounts = append(s.policy.Accounts, share(t, words))
	case "user":
		s.policy.Users = append(s.policy.Users, share(t, words))
	case "cluster":
		s.policy.MaxNodes = number(t, strings.TrimPrefix(words[1], "max="))
	case "shadow":
		s.policy.Shadow = true
	case "breaker":
		for key, value := range pairs(t, words[1:]) {
			switch key {
			case "first":
				s.policy.Breaker.First = duration(t, value)
			case "most":
				s.policy.Breaker.Max = duration(t, value)
			default:
				t.Fatalf("unknown key %q of the breaker", key)
			}
		}
	default:
		return false
	}
	return true
}

func share(t *testing.T, words []string) Share {
	t.Helper()
	return Share{Name: strings.TrimPrefix(words[1], "*"), MaxNodes: number(t, strings.TrimPrefix(words[2], "max="))}
}

// fixedAnswer is a predicate that says the same of every job.
type fixedAnswer Answer

func (a fixedAnswer) Judge(*Group) Answer { return Answer(a) }

func (s *situation) readOverflow(t *testing.T, words []string) {
	t.Helper()
	o := Overflow{Partition: words[1], Waiting: Waiting{Rule: WaitingImmediate}}
	for key, value := range pairs(t, words[2:]) {
		switch key {
		case "to":
			for name := range strings.SplitSeq(value, ",") {
				o.Nodearrays = append(o.Nodearrays, NodearrayName(name))
			}
		case "rule":
			o.Waiting.Rule = WaitingRule(value)
		case "kappa":
			o.Waiting.Kappa, _ = strconv.ParseFloat(value, 64)
		case "wait":
			o.Waiting.Wait = duration(t, value)
		case "drain":
			o.Waiting.Drain = duration(t, value)
		case "maxcost":
			o.MaxJobCost = money(t, value)
		case "when":
			o.When = fixedAnswer(map[string]Answer{"yes": Yes, "no": No, "overrun": Overrun}[value])
		default:
			t.Fatalf("unknown key %q of an overflow rule", key)
		}
	}
	s.policy.Overflow = append(s.policy.Overflow, o)
}

func (s *situation) readBudget(t *testing.T, words []string) {
	t.Helper()
	scope, name, _ := strings.Cut(words[1], ":")
	b := Budget{Scope: Scope(scope), Name: name, Period: Period(words[2])}
	for key, value := range pairs(t, words[3:]) {
		switch key {
		case "soft":
			b.Soft = money(t, value)
		case "medium":
			b.Medium = money(t, value)
		case "upto":
			b.MediumJobCost = money(t, value)
		case "hard":
			b.Hard = money(t, value)
		default:
			t.Fatalf("unknown key %q of a budget", key)
		}
	}
	s.policy.Budgets = append(s.policy.Budgets, b)
}

// readNodearrayKey reads what overflow asks of a nodearray.
func (s *situation) readNodearrayKey(t *testing.T, a *Nodearray, key, value string) bool {
	t.Helper()
	switch key {
	case "partition":
		a.Partition = value
	case "price":
		a.Price = money(t, value)
	case "cpus":
		a.CPUs = number(t, value)
	case "memory":
		a.MemoryMiB = int64(number(t, value))
	case "gpus":
		a.GPUs = number(t, value)
	case "features":
		a.Features = strings.Split(value, ",")
	case "pgroup":
		a.MaxPlacementGroup = number(t, value)
	case "up":
		a.StepUp = step(t, value)
	case "down":
		a.StepDown = step(t, value)
	case "coolup":
		a.CooldownUp = duration(t, value)
	case "cooldown":
		a.CooldownDown = duration(t, value)
	case "boottime":
		a.BootTime = duration(t, value)
	case "window":
		a.Window = s.window(t, value)
	case "gate":
		a.Gated = value == "closed"
	default:
		return false
	}
	return true
}

func step(t *testing.T, text string) Step {
	t.Helper()
	n, every, _ := strings.Cut(text, "/")
	return Step{Nodes: number(t, n), Every: duration(t, every)}
}

func money(t *testing.T, text string) Money {
	t.Helper()
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return Money(f * 1e6)
}

// turning is a window that is open until a moment, or from it.
type turning struct {
	open bool
	at   time.Time
}

func (w turning) At(t time.Time) (bool, time.Time) {
	if w.at.IsZero() || t.Before(w.at) {
		return w.open, w.at
	}
	return !w.open, time.Time{}
}

func (s *situation) window(t *testing.T, text string) Window {
	t.Helper()
	word, at, timed := strings.Cut(text, "@")
	w := turning{open: word == "open" || word == "closes"}
	if timed {
		w.at = s.at(t, at)
	}
	return w
}
