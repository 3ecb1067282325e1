package reconcile_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// slow is a process that stands still for a while when its commit, its claim or
// its command has been taken.
type slow struct {
	reconcile.Ledger
	reconcile.Outbox
	after string
	stand func()
}

func (l *slow) taken(what string) {
	if then := l.stand; then != nil && l.after == what {
		l.stand = nil
		then()
	}
}

func (l *slow) Commit(ctx context.Context, c ledger.Commit) (ledger.Committed, error) {
	defer l.taken("commit")
	return l.Ledger.Commit(ctx, c)
}

func (l *slow) UpdateIntent(ctx context.Context, cluster string, i ledger.Intent) (ledger.Intent, error) {
	defer l.taken("claim")
	return l.Ledger.UpdateIntent(ctx, cluster, i)
}

func (l *slow) SendCommand(ctx context.Context, c event.SlurmCommand) error {
	defer l.taken("command")
	return l.Outbox.SendCommand(ctx, c)
}

// A claim lasts for 90 s from the moment that it was taken. In its last 15 s no
// effect is begun: its owner could not know that nobody else begins it too.
func TestNoEffectBeginsAtTheEndOfItsClaim(t *testing.T) {
	for _, begin := range []struct {
		after string // what the process stands still after
		site  func(t *testing.T) *site
	}{
		{"commit", func(t *testing.T) *site { s := quiet(t); s.resume("htc-1", "r1", batch); return s }},
		{"command", func(t *testing.T) *site { s := newSite(t); s.resume("htc-1", "r1", batch); return s }}, // the fence goes first
		{"claim", func(t *testing.T) *site {
			s := quiet(t)
			s.resume("htc-1", "r1", batch)
			s.only("create")
			s.report()
			s.cloud.failing = nil
			s.after(2 * time.Minute)
			return s
		}},
	} {
		for stands, made := range map[time.Duration]int{75*time.Second - 1: 1, 75 * time.Second: 0, 10 * time.Minute: 0} {
			t.Run(fmt.Sprintf("%v after the %s", stands, begin.after), func(t *testing.T) {
				s := begin.site(t)
				calls := s.called("create")
				l := &slow{Ledger: s.ledger, Outbox: s.outbox, after: begin.after, stand: func() { s.after(stands) }}
				if _, err := s.process(l, s.cloud, l).Pressure(t.Context(), s.pressure(), s.now); err != nil || l.stand != nil {
					t.Fatalf("it did not stand still: %v", err)
				}
				s.want("creates", s.called("create")-calls, made)
				s.want("open intents", len(s.intents()), 1-made)
				s.after(time.Second)
				s.report()
				s.want("VMs in the end", s.cloud.ids, 1)
				s.want("open intents in the end", len(s.intents()), 0)
			})
		}
	}
}

// An intent is its owner's alone while the claim lasts, whatever the owner does:
// it may be about to send what another process would send, too.
func TestAnIntentIsItsOwnersUntilTheClaimIsOver(t *testing.T) {
	s := quiet(t)
	s.resume("htc-1", "r1", batch)
	stop := &slow{Ledger: s.ledger, Outbox: s.outbox, after: "commit", stand: func() { panic(crash{"front of the effect"}) }}
	owner, q := s.process(stop, s.cloud, s.outbox), s.pressure()
	if err := surviving(func() error { _, err := owner.Pressure(t.Context(), q, s.now); return err }, func() {}); err == nil {
		t.Fatal("the owner lives on")
	}
	claimed := s.intents()[0]
	s.want("how long the claim lasts", claimed.ClaimUntil.Sub(s.now), 90*time.Second)
	for _, step := range []time.Duration{30 * time.Second, 59 * time.Second} {
		s.after(step)
		s.report()
		s.want("creates while it lasts", s.called("create"), 0)
		s.want("owner", s.intents()[0].Owner, claimed.Owner)
	}
	s.after(time.Second)
	s.report()
	s.want("creates when the claim is over", s.called("create"), 1)
	s.want("open intents", len(s.intents()), 0)
}

// meanwhile lets something happen within a pass, before its reading of the
// nodearrays or before its second reading of the intents.
type meanwhile struct {
	reconcile.Ledger
	before  string
	loads   int
	happens func()
}

func (l *meanwhile) come(where string) {
	if then := l.happens; then != nil && where == l.before {
		l.happens = nil
		then()
	}
}

func (l *meanwhile) Nodearrays(ctx context.Context, cluster string) ([]ledger.Nodearray, error) {
	l.come("the rows are read")
	return l.Ledger.Nodearrays(ctx, cluster)
}

func (l *meanwhile) Load(ctx context.Context, cluster string) (ledger.Partition, error) {
	if l.loads++; l.loads == 2 {
		l.come("the intents are read again")
	}
	return l.Ledger.Load(ctx, cluster)
}

// A pass reads the intents, the rows, and the intents again. In between, the
// owner of an intent may settle it, write its rows and drop it, all without a
// commit. Laid over newer rows the intent would hide what became of it, and
// older rows without it do not tell at all.
func TestAnIntentThatIsDroppedBetweenTwoReadsIsReadWithItsRows(t *testing.T) {
	for _, before := range []string{"the rows are read", "the intents are read again"} {
		t.Run(before, func(t *testing.T) {
			s := quiet(t)
			s.resume("htc-1", "r1", batch)
			committed, goOn := make(chan struct{}), make(chan struct{})
			owner := s.process(&slow{Ledger: s.ledger, Outbox: s.outbox, after: "commit", stand: func() { close(committed); <-goOn }}, s.cloud, s.outbox)
			ended := make(chan error)
			first, second := s.pressure(), s.pressure()
			go func() { _, err := owner.Pressure(t.Context(), first, s.now); ended <- err }()
			<-committed
			reader := &meanwhile{Ledger: s.ledger, before: before, happens: func() {
				s.want("open intents at first", len(s.intents()), 1)
				close(goOn)
				if err := <-ended; err != nil {
					t.Error(err)
				}
				s.want("open intents then", len(s.intents()), 0)
			}}
			if _, err := s.process(reader, s.cloud, s.outbox).Pressure(t.Context(), second, s.now); err != nil || reader.happens != nil {
				t.Fatalf("nothing happened between the two reads: %v", err)
			}
			row := s.row("htc-1")
			s.want("what the row tells", row.Supply+" "+row.NodeID, "booting id-1")
			s.want("creates", s.called("create"), 1)
			s.want("commands", s.kinds(), "[]")
		})
	}
}

// cutOff is an app that loses its network at its first create: from then on
// nothing answers before the caller's time is over.
type cutOff struct {
	reconcile.CycleCloud
	lost bool
}

func (c *cutOff) CreateEncoded(ctx context.Context, _ cyclecloud.ClusterName, _ []byte) (cyclecloud.CreateResult, error) {
	c.lost = true
	<-ctx.Done()
	return cyclecloud.CreateResult{}, unavailable
}

// cutOffLedger is the tables as such an app sees them.
type cutOffLedger struct {
	reconcile.Ledger
	app *cutOff
}

func (l cutOffLedger) UpdateIntent(ctx context.Context, cluster string, i ledger.Intent) (ledger.Intent, error) {
	if l.app.lost {
		<-ctx.Done()
		return i, unavailable
	}
	return l.Ledger.UpdateIntent(ctx, cluster, i)
}

// When its time is over, a call gives up its claims, so that nobody has to wait
// for their end. Where the tables do not answer either, that is not tried for
// one claim after the other: the host would kill every call of the process.
func TestGivingUpManyClaimsDoesNotOutlastTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const arrays, deadline = 40, time.Minute
		s := newSite(t)
		s.policy.Nodearrays = nil
		q := s.pressure()
		q.CloudNodes = nil
		for i := range arrays {
			name := fmt.Sprintf("a%02d", i)
			s.policy.Nodearrays = append(s.policy.Nodearrays, burst.Nodearray{
				Name: burst.NodearrayName(name), Partition: name, Nodes: []burst.NodeName{burst.NodeName(name + "-1")},
				MachineType: "Standard_F4s_v2", MaxNodes: 1, IdleTimeout: time.Minute, BootDeadline: 10 * time.Minute,
			})
			q.CloudNodes = append(q.CloudNodes, event.CloudNodes{Nodearray: name, Defined: 1, Groups: []event.NodeGroup{
				{State: "ALLOCATED", Flags: []string{"NOT_RESPONDING", "POWERING_UP"}, Nodes: name + "-1", Since: s.now},
			}})
		}
		net := &cutOff{CycleCloud: s.cloud}
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		began := time.Now()
		_, err := s.process(cutOffLedger{s.ledger, net}, net, s.outbox).Pressure(ctx, q, s.now)
		if took := time.Since(began); err == nil || took > deadline+10*time.Second {
			t.Errorf("the call took %v: %v", took, err)
		}
		s.want("open intents", len(s.intents()), arrays)
		s.restart()
		s.after(91 * time.Second) // the claims are over
		q.Sequence++
		s.send(q)
		s.want("VMs", s.cloud.ids, arrays)
		s.want("open intents in the end", len(s.intents()), 0)
	})
}

// An older epoch is taken in only when the agent in charge has been silent for
// two validities of a snapshot: then its session state was lost.
func TestAnOlderEpochIsTakenInAfterTwoValidities(t *testing.T) {
	for silence, outcome := range map[time.Duration]string{
		100 * time.Second: reconcile.OutcomeDuplicate, 180 * time.Second: reconcile.OutcomeDuplicate, 181 * time.Second: reconcile.OutcomeDecided,
	} {
		s := newSite(t)
		s.epoch = 5
		s.report()
		s.epoch = 2
		s.after(silence)
		s.want(fmt.Sprintf("outcome after %v", silence), s.report().Outcome, outcome)
	}
}

// A command whose time is over is not sent: its answer would be about a Slurm
// that has moved on.
func TestACommandWhoseTimeIsOverIsNotSent(t *testing.T) {
	s := newSite(t)
	s.outbox.down = unavailable
	s.report()
	late := s.intents()
	s.want("open intents", len(late), 1)
	s.outbox.down = nil
	s.after(burst.CommandTTL + time.Second)
	s.report()
	for _, c := range s.outbox.commands {
		if c.ID == clusterName+"/"+late[0].ID {
			t.Errorf("%s was sent after its end at %v", c.ID, c.ExpiresAt)
		}
	}
	s.want("commands decided anew", s.kinds(), "[fence_nodes htc-4]")
}
