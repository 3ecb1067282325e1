package burst

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// overflowShell does around the core what internal/reconcile does, in memory:
// one ledger, and two functions at once that decide on it.
type overflowShell struct {
	*burstCluster
	ledger modelLedger
	passes []*modelPass // under way, at most two
	audit  *auditor

	epoch, sequence int64
	mail            []flowMail
	orders          []order        // commands on their way
	heard           []int          // commands that the agent answers
	newest          map[string]int // by family and target, the highest generation that the agent obeyed
	reading         *flowMail      // a snapshot whose nodes are read and whose jobs are not
	told            int            // turns of the newest snapshot that was sent
	nextBeat        time.Time
	nextSweep       time.Time
	again           bool // a trigger waits until one of the passes is over
	sweeps          bool
	names           int // how many jobs of a group a snapshot names
	blind           bool

	plans, conflicts, crashes int
	met                       map[Code]int
	story                     []string
	tells                     bool
}

// modelLedger is what commits leave behind.
type modelLedger struct {
	revision int
	facts    Facts
	sent     []sentCommand
	intents  []*modelIntent
	due      time.Time
	decided  int // turns of the snapshot that was decided on
	ids      int
}

type sentCommand struct {
	id      int
	command Command
	expires time.Time
}

// modelIntent is an effect that was committed and is not settled.
type modelIntent struct {
	request    string
	create     *Create
	terminate  *Terminate
	command    *sentCommand
	generation int
	owner      *modelPass
	claimed    time.Time // until when
	notAfter   time.Time
	settled    bool
}

// flowMail is a snapshot on its way.
type flowMail struct {
	at         time.Time
	snapshot   Snapshot
	nodes      []Node
	groups     []Group
	running    []RunningJob
	ended      []EndedJob
	finished   []FinishedRuns
	local      []LocalPartition
	partitions []Partition
	answers    []int
	turns      int
}

// modelPass is one function that looks at the cluster.
type modelPass struct {
	stage    func(*modelPass)
	at       time.Time
	arrived  *flowMail
	sweep    bool
	rounds   int
	tries    int
	revision int
	facts    Facts
	decided  int
	answered []int
	intents  []*modelIntent
	over     bool
	// surprised says that an effect came out differently than planned.
	surprised bool
}

func newOverflowShell(seed uint64) *overflowShell {
	s := &overflowShell{burstCluster: newBurstCluster(seed), epoch: 1, newest: map[string]int{}, met: map[Code]int{}}
	s.blind = s.IntN(3) == 0
	s.names = oneOf(s.world, 64, 64, 2, 1)
	if s.crowd {
		s.names = 1000
	}
	f := &s.ledger.facts
	for _, a := range s.policy.Nodearrays {
		f.Nodearrays = append(f.Nodearrays, NodearrayFacts{Name: a.Name})
		for _, name := range a.Nodes {
			f.Nodes = append(f.Nodes, Node{Name: name, Nodearray: a.Name})
		}
	}
	s.nextSweep = s.now.Add(s.span(10, 300))
	s.audit = &auditor{overflowShell: s, let: map[string]*letJob{}, refused: map[string]Reason{}, arrived: map[string]bool{}, closed: map[string]time.Time{}, open: map[NodearrayName]time.Time{}}
	s.audit.rooms.hungry = map[NodearrayName]time.Time{}
	return s
}

// modelLimit is how long a cluster may take.
const modelLimit = 5 * time.Hour

func runOverflow(seed uint64, tells bool) *overflowShell {
	s := newOverflowShell(seed)
	s.tells = tells
	for s.broken == nil && !s.over() {
		s.tick()
		s.giveUp()
		s.agent()
		s.cloud()
		s.audit.watch()
		if s.now.Sub(s.start) > modelLimit {
			s.breaks("not over after %s: %s", modelLimit, s.picture())
		}
	}
	if s.broken == nil {
		s.audit.end()
	}
	return s
}

// over reports whether all is done and the ledger knows it.
func (s *overflowShell) over() bool {
	return s.rests() && len(s.ledger.facts.Memory.Jobs) == 0 && len(s.ledger.facts.Memory.Noticed) == 0
}

// giveUp lets users cancel jobs that only the cloud could take and that it did
// not take in an hour.
func (s *overflowShell) giveUp() {
	if s.now.Before(s.calm.Add(2 * time.Hour)) {
		return
	}
	for _, j := range s.jobs {
		if j.waits(s.now) && !slices.Contains(j.parts, "local") {
			s.given = append(s.given, j)
			s.audit.gaveUp(j)
			s.cancel(j)
		}
	}
}

// mishap is true in one of n cases, where things may go wrong.
func (s *overflowShell) mishap(n int) bool { return !s.gentle && s.chance(n) }

func (s *overflowShell) tell(format string, args ...any) {
	if s.tells {
		s.story = append(s.story, fmt.Sprintf("%8s ", s.now.Sub(s.start))+fmt.Sprintf(format, args...))
	}
}

func (s *overflowShell) picture() string {
	var b strings.Builder
	for _, name := range s.array.Nodes {
		n := s.nodes[name]
		fmt.Fprintf(&b, "%s=%s/%s", name, n.state, s.vms[name].supply(s.now))
		if n.job != nil {
			fmt.Fprintf(&b, "[%s]", n.job.id)
		}
		b.WriteByte(' ')
	}
	for _, j := range s.jobs {
		if j.waits(s.now) {
			fmt.Fprintf(&b, "%s(%d)%v:%s ", j.id, j.size, j.parts, j.reason)
		}
	}
	return b.String()
}
