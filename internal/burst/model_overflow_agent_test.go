package burst

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// agent carries out what arrived, and sends a snapshot on change and as a
// heartbeat. It reads nodes first, and sometimes its jobs a moment later.
func (s *overflowShell) agent() {
	s.orders = slices.DeleteFunc(s.orders, func(o order) bool {
		if s.now.Before(o.at) {
			return false
		}
		if !s.now.After(o.expires) {
			s.obeyOrder(o)
			if !o.silent {
				s.heard = append(s.heard, o.id)
			}
		}
		return true
	})
	if s.mishap(1500) {
		s.epoch, s.sequence = s.epoch+1, 0
	}
	switch {
	case s.reading != nil:
	case s.told == s.turns && s.now.Before(s.nextBeat):
		return
	default:
		s.sequence++
		s.reading = &flowMail{snapshot: Snapshot{Position{s.epoch, s.sequence}, s.now}, nodes: s.reports(), turns: s.turns}
		if s.mishap(6) {
			return
		}
	}
	m := s.reading
	m.groups, m.running, m.local, m.partitions = s.groups(s.names), s.running(), s.onprem(), s.partitions()
	m.ended, m.finished, s.ended, s.ran = s.ended, s.ran, nil, nil
	slices.SortFunc(m.ended, func(a, b EndedJob) int { return strings.Compare(a.ID, b.ID) })
	m.answers = slices.Clone(s.heard)
	s.reading, s.told, s.nextBeat = nil, m.turns, s.now.Add(s.span(24, 36))
	for !s.mishap(8) {
		m.at = s.now
		if s.mishap(3) {
			m.at = s.now.Add(s.span(0, 80))
		}
		s.mail = append(s.mail, *m)
		if !s.mishap(8) {
			break
		}
	}
}

// obeyOrder carries out a command, unless a later one about the same was
// obeyed.
func (s *overflowShell) obeyOrder(o order) {
	c := o.command
	family := map[CommandKind]string{ReleaseJobs: "move", RevokeJobs: "move", GatePartition: "gate", BeginNow: "begin", NoticeJobs: "notice"}[c.Kind]
	if family == "" {
		s.obey(c)
		return
	}
	fresh := func(target string) bool {
		key := family + " " + target
		if s.newest[key] > o.generation {
			return false
		}
		s.newest[key] = o.generation
		return true
	}
	if c.Kind == GatePartition {
		if fresh(c.Partition) {
			s.sends(c)
		}
		return
	}
	var jobs []string
	for _, id := range c.Jobs {
		if fresh(id) {
			jobs = append(jobs, id)
		}
	}
	c.Jobs = jobs
	s.sends(c)
}

// reports is what a snapshot says about every node.
func (s *overflowShell) reports() []Node {
	nodes := make([]Node, 0, len(s.array.Nodes))
	for _, name := range s.array.Nodes {
		n := s.nodes[name]
		r := Node{Slurm: n.state, Since: n.since}
		if n.state == Idle && n.job != nil {
			r.Slurm = Busy
		}
		if n.state == PoweringUp {
			if !s.blind {
				r.ResumeID = fmt.Sprintf("%s/%d", name, n.resume)
			}
			if n.job != nil {
				r.Jobs = []BootJob{{n.job.id, n.job.batch}}
			}
		}
		nodes = append(nodes, r)
	}
	return nodes
}

// cloud starts passes for what arrived, and lets those under way go on.
func (s *overflowShell) cloud() {
	var newest *flowMail
	s.mail = slices.DeleteFunc(s.mail, func(m flowMail) bool {
		if s.now.Before(m.at) {
			return false
		}
		if newest == nil || m.snapshot.After(newest.snapshot.Position) || s.IntN(4) == 0 {
			newest = &m
		}
		return true
	})
	if newest != nil {
		s.arrives(newest)
	}
	for i := range s.ledger.facts.Nodearrays {
		for _, t := range s.ledger.facts.Nodearrays[i].Armed {
			if !t.At.After(s.now) && t.At.After(s.now.Add(-modelTick)) && !s.mishap(6) {
				s.again = true
			}
		}
	}
	if !s.now.Before(s.nextSweep) {
		s.again, s.sweeps = true, true
		s.nextSweep = s.now.Add(5 * time.Minute)
	}
	if s.again && len(s.passes) < 2 {
		s.begin(&modelPass{sweep: s.sweeps})
		s.again, s.sweeps = false, false
	}
	for _, p := range slices.Clone(s.passes) {
		for !p.over && !s.now.Before(p.at) && s.broken == nil {
			p.stage(p)
		}
	}
	s.passes = slices.DeleteFunc(s.passes, func(p *modelPass) bool { return p.over })
}

// arrives looks at a snapshot: one that says nothing new is only noted.
func (s *overflowShell) arrives(m *flowMail) {
	l := &s.ledger
	if !m.snapshot.After(l.facts.Snapshot.Position) {
		return
	}
	open := slices.ContainsFunc(m.answers, func(id int) bool {
		return slices.ContainsFunc(l.sent, func(c sentCommand) bool { return c.id == id })
	})
	if m.turns == l.decided && !open && len(l.intents) == 0 && (l.due.IsZero() || s.now.Before(l.due)) {
		l.facts.Snapshot = m.snapshot
		return
	}
	if len(s.passes) >= 2 {
		m.at = s.now.Add(modelTick) // delivered again
		s.mail = append(s.mail, *m)
		return
	}
	s.begin(&modelPass{arrived: m})
}
