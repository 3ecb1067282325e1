package burst

import (
	"strings"
	"testing"
	"time"
)

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
		e := EndedJob{ID: words[1], EndedAt: s.now.Add(-time.Second)}
		for key, value := range pairs(t, words[2:]) {
			switch key {
			case "at":
				e.EndedAt = s.at(t, value)
			case "requeued":
				e.Requeued = value == "yes"
			default:
				t.Fatalf("unknown key %q of an ended job", key)
			}
		}
		f.Ended = append(f.Ended, e)
	case "finished":
		r := FinishedRuns{User: words[1], Account: words[2]}
		for key, value := range pairs(t, words[3:]) {
			switch key {
			case "jobs":
				r.Jobs = number(t, value)
			case "run":
				r.Run = duration(t, value)
			case "limit":
				r.Limit = duration(t, value)
			default:
				t.Fatalf("unknown key %q of finished jobs", key)
			}
		}
		f.Finished = append(f.Finished, r)
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
	case "removed":
		if s.removed == nil {
			s.removed = map[string]bool{}
		}
		s.removed[words[1]] = true
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

// readMemory reads: job ID NODEARRAY key=value…, unseen ID NODEARRAY at=D, step NODEARRAY …, noticed JOB
// CODE, notices N from=D, gated PARTITION, breaker NODEARRAY key=value…, warned
// SCOPE PERIOD.
func (s *situation) readMemory(t *testing.T, words []string) {
	t.Helper()
	m := &s.facts.Memory
	switch words[1] {
	case "job":
		m.Jobs = append(m.Jobs, s.readRecord(t, words[2:]))
	case "unseen":
		m.Unseen = append(m.Unseen, UnseenJob{ID: words[2], Nodearray: NodearrayName(words[3]), ListedIn: words[3], At: s.at(t, strings.TrimPrefix(words[4], "at="))})
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
	case "breaker":
		m.Breakers = append(m.Breakers, s.readBreaker(t, words))
	case "warned":
		name := ""
		if len(words) > 4 {
			name = words[4]
		}
		m.Warned = append(m.Warned, Warned{Scope(words[2]), name, Period(words[3]), periodStart(Period(words[3]), s.now, s.policy.Zone)})
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
		case "listed":
			j.Listed, j.ListedIn = true, value
		case "back":
			j.RevokedAt, j.TakenBackAt, j.ArrayBack = s.at(t, value), s.at(t, value), strings.Contains(words[0], "_")
		case "shadow":
			j.Shadow = value == "yes"
		case "limit":
			j.TimeLimit = duration(t, value)
		case "submitted":
			j.SubmittedAt = s.at(t, value)
		default:
			t.Fatalf("unknown key %q of a record", key)
		}
	}
	return j
}

func (s *situation) readBreaker(t *testing.T, words []string) Breaker {
	t.Helper()
	b := Breaker{Nodearray: NodearrayName(words[2]), MachineType: "Standard_F4s_v2", Failures: 1}
	for key, value := range pairs(t, words[3:]) {
		switch key {
		case "failures":
			b.Failures = number(t, value)
		case "failed":
			b.FailedAt = s.at(t, value)
		case "until":
			b.OpenUntil = s.at(t, value)
		case "machine":
			b.MachineType = value
		default:
			t.Fatalf("unknown key %q of a breaker", key)
		}
	}
	return b
}
