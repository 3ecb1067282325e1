package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slurmburst/slurmburst/local/functionshost"
)

const (
	promisedClusters = 200

	loadNodes   = 200
	loadGroups  = 12
	changeEvery = 10
	// rampUp is not measured: every cluster is new, and its first snapshots
	// make rows and sessions.
	rampUp = 30 * time.Second
	// arriving is the part of it over which the clusters' first events spread.
	arriving = 10 * time.Second
	// submitting is the time over which the jobs of the clusters were submitted:
	// the limits of the groups differ by a minute, and so do the moments at which
	// they have waited for long enough. Clusters have nothing to do with each
	// other, so neither have these moments.
	submitting = time.Minute
)

// measureLoad has many clusters send an event a second each.
func measureLoad(ctx context.Context, b *bench) error {
	return b.load(ctx, b.loadFor, fmt.Sprintf("%d clusters", b.clusters), siteOptions{name: "load", clusters: clusters(b.clusters), reclaim: shippedReclaim})
}

// singleFor is how long starvation takes to show, several times over.
const singleFor = time.Minute

// measureSingle has 64 clusters share one instance: twice as many as it holds
// sessions, so each is served only if sessions are let go.
func measureSingle(ctx context.Context, b *bench) error {
	return b.load(ctx, min(b.loadFor, singleFor), "64 clusters on one instance", siteOptions{name: "single", clusters: clusters(64), reclaim: shippedReclaim, instances: 1})
}

// settingFor is how long each setting is tried.
const settingFor = time.Minute

// measureSessions repeats the load with other sessions per instance, held for
// longer: the figures of docs/decisions/0008.
func measureSessions(ctx context.Context, b *bench) error {
	for i, c := range []struct {
		idle, about string
		sessions    int
	}{
		{idle: "00:00:00.1", about: "0.1 s", sessions: 32},
		{idle: "00:00:05", about: "5 s", sessions: 32},
		{idle: "00:00:00.1", about: "0.1 s", sessions: 128},
		{idle: "00:00:00.5", about: "0.5 s", sessions: 128},
		{idle: "00:00:05", about: "5 s", sessions: 128},
	} {
		err := b.load(ctx, min(b.loadFor, settingFor), fmt.Sprintf("%d sessions held for %s, %d clusters", c.sessions, c.about, b.clusters), siteOptions{
			name: fmt.Sprintf("sessions%d", i+1), clusters: clusters(b.clusters), reclaim: never, // a sweep would meet one of them at random
			serviceBus: map[string]any{"sessionIdleTimeout": c.idle, "maxConcurrentSessions": c.sessions},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func clusters(count int) []string {
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("load%03d", i))
	}
	return names
}

// load has each cluster send an event a second. Nine of ten say nothing new;
// every tenth powers a node up or has it join, so that half of them need a
// create.
func (b *bench) load(ctx context.Context, lasts time.Duration, about string, o siteOptions) (err error) {
	o.nodes = loadNodes
	s, err := b.startSite(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	r := &loadRun{about: about, sent: map[string]time.Time{}, ages: map[string][]float64{}}
	s.calls.hear(r.ended)
	defer s.calls.hear(nil)

	sending, stop := context.WithTimeout(ctx, rampUp+lasts)
	defer stop()
	var agents sync.WaitGroup
	for i, name := range o.clusters {
		share := func(d time.Duration) time.Duration { return time.Duration(i) * d / time.Duration(len(o.clusters)) }
		a := s.standIn(name, loadNodes, loadGroups, share(submitting))
		first := share(arriving)
		agents.Go(func() { r.drive(sending, a, first, i) })
	}
	sleep(sending, rampUp)
	before, err := workNow()
	if err != nil {
		return err
	}
	r.startMeasuring()
	backlog := s.watchBacklog(sending)
	after, err := workNow()
	if err != nil {
		return err
	}
	agents.Wait()
	return r.report(b, backlog, before, after)
}

// loadRun collects what became of the events.
type loadRun struct {
	about     string
	mu        sync.Mutex
	measuring time.Time // events sent before it are not counted
	sent      map[string]time.Time
	ages      map[string][]float64 // by cluster, in seconds
	failed    int
	problem   error
}

// drive sends one cluster's events, at its own moment of each second. offset
// says which of its first ten brings a change.
func (r *loadRun) drive(ctx context.Context, a *standIn, first time.Duration, offset int) {
	sleep(ctx, first)
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for n := offset; ctx.Err() == nil; n++ {
		if n%changeEvery == 0 {
			if len(a.booting) > 0 {
				a.join()
			} else {
				a.powerUp(len(a.up)%loadNodes + 1)
			}
		}
		// What was begun is sent: a message that is half sent is no event.
		if err := r.send(context.WithoutCancel(ctx), a); err != nil {
			r.mu.Lock()
			r.problem = errors.Join(r.problem, err)
			r.mu.Unlock()
			return
		}
		select {
		case <-every.C:
		case <-ctx.Done():
		}
	}
}

func (r *loadRun) send(ctx context.Context, a *standIn) error {
	m, err := a.message()
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.sent[m.ID] = time.Now()
	r.mu.Unlock()
	return a.site.client.Send(ctx, "queue-pressure", m)
}

// ended takes the end of the call as the moment of decision, which is a little
// later.
func (r *loadRun) ended(i functionshost.Invocation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i.Err != nil {
		r.failed++
		return
	}
	sent, ours := r.sent[i.MessageID]
	if !ours {
		return
	}
	delete(r.sent, i.MessageID)
	if r.measuring.IsZero() || sent.Before(r.measuring) {
		return
	}
	r.ages[i.SessionID] = append(r.ages[i.SessionID], i.Start.Add(i.Duration).Sub(sent).Seconds())
}

func (r *loadRun) startMeasuring() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.measuring = time.Now()
}

// watchBacklog samples how many events wait or are worked on, until ctx ends.
func (s *site) watchBacklog(ctx context.Context) []float64 {
	var samples []float64
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			q := s.bus.Stats()["queue-pressure"]
			samples = append(samples, float64(q.Active+q.Locked))
			if len(samples)%15 == 0 {
				s.b.say("  backlog %d, %d of %d sessions waiting or held", q.Active+q.Locked, q.Sessions, len(s.clusters))
			}
		case <-ctx.Done():
			return samples
		}
	}
}

// growth is the slope of the least-squares line, per second.
func growth(samples []float64) float64 {
	n := float64(len(samples))
	var sumX, sumY, sumXY, sumXX float64
	for i, y := range samples {
		x := float64(i)
		sumX, sumY, sumXY, sumXX = sumX+x, sumY+y, sumXY+x*y, sumXX+x*x
	}
	return (n*sumXY - sumX*sumY) / (n*sumXX - sumX*sumX)
}

func (r *loadRun) report(b *bench, backlog []float64, before, after work) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.problem != nil {
		return r.problem
	}
	// What was never decided is as old as the run.
	undecided := 0
	for id, at := range r.sent {
		if !at.Before(r.measuring) {
			cluster, _, _ := strings.Cut(id, "/")
			r.ages[cluster] = append(r.ages[cluster], time.Since(at).Seconds())
			undecided++
		}
	}
	var medians, tails series
	decided := 0
	for _, ages := range r.ages {
		medians, tails = append(medians, percentile(ages, 50)), append(tails, percentile(ages, 99))
		decided += len(ages)
	}
	_, worst := tails.spread()
	slope := growth(backlog)
	took := after.at.Sub(before.at)
	about := fmt.Sprintf("%s of %d nodes and %d groups, 1 event/s each, %s", r.about, loadNodes, loadGroups, took.Round(time.Second))
	b.add(measure{
		what: about + ": growth of the backlog", value: series{slope}, unit: "events/s",
		target: promise(math.Abs(slope) < 1 || slope < 0, "none: under 1 event/s"),
	})
	b.add(measure{what: "the same: backlog", value: series(backlog), unit: "events"})
	b.add(measure{what: "the same: worst cluster's p99 age at decision", value: series{worst}, unit: "s", target: below(worst, 5, "s")})
	b.add(measure{what: "the same: median age at decision, by cluster", value: medians, unit: "s"})
	b.add(measure{what: "the same: events counted", value: series{float64(decided)}})
	b.add(measure{what: "the same: events not decided at the end", value: series{float64(undecided)}})
	b.add(measure{what: "the same: calls that failed", value: series{float64(r.failed)}, target: promise(r.failed == 0, "none")})
	ours := time.Duration(0)
	for _, name := range slices.Sorted(maps.Keys(after.ours)) {
		spent := after.ours[name] - before.ours[name]
		ours += spent
		if spent > took/100 {
			b.add(measure{what: "the same: cores busy with " + name, value: series{spent.Seconds() / took.Seconds()}, unit: "cores"})
		}
	}
	others := after.machine - before.machine - ours
	b.add(measure{what: "the same: cores busy with anything else on the machine", value: series{max(0, others.Seconds()/took.Seconds())}, unit: "cores"})
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
