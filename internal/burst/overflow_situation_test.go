package burst

import (
	"cmp"
	"fmt"
	"slices"
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
//	              running ID NODEARRAY nodes=N … | ended ID | finished USER …
//	              local NAME nodes=N idle=N down=N | partition NAME key=value…
//	              sent KIND jobs=1,2 expires=D | partition=P
//	              memory job|step|noticed|notices|gated …

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

// readJobFact reads a line about jobs and partitions.
func (s *situation) readJobFact(t *testing.T, words []string) bool {
	t.Helper()
	f := &s.facts
	switch words[0] {
	case "group":
		f.Groups = append(f.Groups, s.readGroup(t, words))
	case "running":
		r := RunningJob{ID: words[1], Nodearray: NodearrayName(words[2]), Nodes: 1}
		for key, value := range pairs(t, words[3:]) {
			switch key {
			case "nodes":
				r.Nodes = number(t, value)
			case "user":
				r.User = value
			case "account":
				r.Account = value
			case "limit":
				r.TimeLimit = duration(t, value)
			case "started":
				r.StartedAt = s.at(t, value)
			case "configuring":
				r.Configuring = value == "yes"
			}
		}
		f.Running = append(f.Running, r)
	case "ended":
		f.Ended = append(f.Ended, EndedJob{ID: words[1], EndedAt: s.now.Add(-time.Second)})
	case "local":
		l := LocalPartition{Name: words[1]}
		for key, value := range pairs(t, words[2:]) {
			switch key {
			case "nodes":
				l.Nodes = number(t, value)
			case "idle":
				l.IdleNodes = number(t, value)
			case "down":
				l.DownNodes = number(t, value)
			}
		}
		f.Local = append(f.Local, l)
	case "partition":
		f.Partitions = append(f.Partitions, readPartition(t, words))
	case "sent":
		f.JobCommands = append(f.JobCommands, s.readSent(t, words))
	case "memory":
		s.readMemory(t, words)
	default:
		return false
	}
	return true
}

func (s *situation) readGroup(t *testing.T, words []string) Group {
	t.Helper()
	g := Group{
		Key: words[1], Partitions: strings.Split(words[2], ","), User: "eva", Account: "physics", StateReason: "Resources",
		Nodes: 1, CPUs: 1, TimeLimit: time.Hour, Batch: true, Requeue: true, OldestSubmit: s.now.Add(-10 * time.Minute),
	}
	for key, value := range pairs(t, words[3:]) {
		switch key {
		case "user":
			g.User = value
		case "account":
			g.Account = value
		case "qos":
			g.QOS = value
		case "reason":
			g.StateReason = value
		case "text":
			g.Description = strings.ReplaceAll(value, "_", " ")
		case "nodes":
			g.Nodes = number(t, value)
		case "cpus":
			g.CPUs = number(t, value)
		case "memory":
			g.MemoryMiB = int64(number(t, value))
		case "gpus":
			g.GPUs = number(t, value)
		case "limit":
			g.TimeLimit = duration(t, value)
		case "features":
			g.Features = value
		case "nodelist":
			g.NodeList = value == "yes"
		case "restarted":
			g.Restarted = value == "yes"
		case "begin":
			g.BeginTime = s.at(t, value)
		case "start":
			g.ExpectedStart = s.at(t, value)
		case "waited":
			g.OldestSubmit = s.now.Add(-duration(t, value))
		case "newest":
			g.NewestSubmit = s.now.Add(-duration(t, value))
		case "jobs":
			g.Jobs = strings.Split(value, ",")
		case "count":
			g.Count = number(t, value)
		default:
			t.Fatalf("unknown key %q of a group", key)
		}
	}
	g.Count = max(g.Count, len(g.Jobs))
	if g.NewestSubmit.IsZero() {
		g.NewestSubmit = g.OldestSubmit
	}
	return g
}

func readPartition(t *testing.T, words []string) Partition {
	t.Helper()
	p := Partition{Name: words[1], Up: words[2] == "up"}
	for key, value := range pairs(t, words[3:]) {
		switch key {
		case "maxtime":
			p.MaxTime = duration(t, value)
		case "maxnodes":
			p.MaxNodes = number(t, value)
		case "accounts":
			p.AllowAccounts = strings.Split(value, ",")
		case "qos":
			p.AllowQOS = strings.Split(value, ",")
		case "groups":
			p.AllowGroups = strings.Split(value, ",")
		default:
			t.Fatalf("unknown key %q of a partition", key)
		}
	}
	return p
}

func (s *situation) readSent(t *testing.T, words []string) JobCommand {
	t.Helper()
	c := JobCommand{Kind: CommandKind(words[1]), ExpiresAt: s.now.Add(time.Minute)}
	for key, value := range pairs(t, words[2:]) {
		switch key {
		case "jobs":
			c.Jobs = strings.Split(value, ",")
		case "partition":
			c.Partition = value
		case "expires":
			c.ExpiresAt = s.at(t, value)
		default:
			t.Fatalf("unknown key %q of a command", key)
		}
	}
	return c
}

// readMemory reads: job ID NODEARRAY key=value…, step NODEARRAY …, noticed JOB
// CODE, notices N from=D, gated PARTITION.
func (s *situation) readMemory(t *testing.T, words []string) {
	t.Helper()
	m := &s.facts.Memory
	switch words[1] {
	case "job":
		m.Jobs = append(m.Jobs, s.readRecord(t, words[2:]))
	case "step":
		st := StepMemory{Nodearray: NodearrayName(words[2])}
		for key, value := range pairs(t, words[3:]) {
			switch key {
			case "up":
				st.Up = number(t, value)
			case "upfrom":
				st.UpFrom = s.at(t, value)
			case "down":
				st.Down = number(t, value)
			case "downfrom":
				st.DownFrom = s.at(t, value)
			case "created":
				st.CreatedAt = s.at(t, value)
			case "idled":
				st.IdledAt = s.at(t, value)
			}
		}
		m.Steps = append(m.Steps, st)
	case "noticed":
		m.Noticed = append(m.Noticed, Noticed{words[2], Code(words[3])})
	case "notices":
		m.Notices, m.NoticesFrom = number(t, words[2]), s.at(t, strings.TrimPrefix(words[3], "from="))
	case "gated":
		m.Gated = append(m.Gated, words[2])
	default:
		t.Fatalf("unknown memory %q", words)
	}
}

func (s *situation) readRecord(t *testing.T, words []string) CloudJob {
	t.Helper()
	j := CloudJob{ID: words[0], Nodearray: NodearrayName(words[1]), User: "eva", Account: "physics", Nodes: 1, TimeLimit: time.Hour, CommittedAt: s.now.Add(-time.Minute)}
	for key, value := range pairs(t, words[2:]) {
		switch key {
		case "home":
			j.Home = strings.Split(value, ",")
		case "user":
			j.User = value
		case "account":
			j.Account = value
		case "nodes":
			j.Nodes = number(t, value)
		case "rate":
			j.Rate = money(t, value)
		case "committed":
			j.Committed = money(t, value)
		case "since":
			j.CommittedAt = s.at(t, value)
		case "started":
			j.StartedAt = s.at(t, value)
		case "revoked":
			j.RevokedAt = s.at(t, value)
		case "shadow":
			j.Shadow = value == "yes"
		default:
			t.Fatalf("unknown key %q of a record", key)
		}
	}
	return j
}

// renderOverflow writes what a plan says about waiting jobs, and what of the
// memory it changes.
func renderOverflow(now time.Time, before Memory, p Plan) string {
	var b strings.Builder
	for _, v := range p.Verdicts {
		fmt.Fprintf(&b, "group %s", v.Group)
		if len(v.Released) > 0 {
			fmt.Fprintf(&b, " releases %s to %s", strings.Join(v.Released, ","), v.Nodearray)
		}
		fmt.Fprintf(&b, " holds %d cost %s\n\t%s\n", v.Held, v.Cost, v.Reason)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "warning\n\t%s\n", w.Reason)
	}
	for _, r := range p.Withheld {
		fmt.Fprintf(&b, "withheld\n\t%s\n", r)
	}
	after := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return fmt.Sprintf("%+gs", t.Sub(now).Seconds())
	}
	for _, j := range p.Memory.Jobs {
		if slices.ContainsFunc(before.Jobs, func(o CloudJob) bool { return fmt.Sprint(o) == fmt.Sprint(j) }) {
			continue
		}
		fmt.Fprintf(&b, "remember job %s %s nodes=%d committed=%s at=%s started=%s revoked=%s tried=%v\n",
			j.ID, j.Nodearray, j.Nodes, j.Committed, after(j.CommittedAt), after(j.StartedAt), after(j.RevokedAt), j.Tried)
	}
	for _, j := range before.Jobs {
		if !slices.ContainsFunc(p.Memory.Jobs, func(n CloudJob) bool { return n.ID == j.ID }) {
			fmt.Fprintf(&b, "forget job %s\n", j.ID)
		}
	}
	for _, x := range p.Memory.Breakers {
		if !slices.Contains(before.Breakers, x) {
			fmt.Fprintf(&b, "remember breaker %s failures=%d until=%s\n", x.Nodearray, x.Failures, after(x.OpenUntil))
		}
	}
	for _, x := range p.Memory.Steps {
		if !slices.Contains(before.Steps, x) {
			fmt.Fprintf(&b, "remember step %s up=%d down=%d\n", x.Nodearray, x.Up, x.Down)
		}
	}
	if !slices.Equal(before.Gated, p.Memory.Gated) {
		fmt.Fprintf(&b, "remember gated %s\n", cmp.Or(strings.Join(p.Memory.Gated, ","), "-"))
	}
	return b.String()
}
