package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
)

// measureRequests counts what events of a small cluster ask of the tables.
// Counts do not depend on the machine.
func (s *site) measureRequests(ctx context.Context, a *standIn) error {
	c, err := s.countFrom(ctx, a)
	if err != nil {
		return err
	}
	quiet, err := c.publish(ctx, 10, func() {})
	if err != nil {
		return err
	}
	creates, err := c.publish(ctx, 10, func() {
		a.join()
		a.powerUp(len(a.up) + 1)
	})
	if err != nil {
		return err
	}
	s.b.add(measure{key: "heartbeat_tables", what: "unchanged heartbeat, 200 nodes, 200 groups: table operations", value: quiet.tables}.
		over(series{1}, "a read"))
	s.b.add(measure{key: "event_tables", what: "event that has a node created: table operations", value: creates.tables}.
		over(series{tableReads + 1}, "the reads and the commit of the event's floor"))
	return nil
}

// measureHeartbeats counts what the same snapshot asks of the world, again and
// again.
func (s *site) measureHeartbeats(ctx context.Context, a *standIn) error {
	a.join()
	if _, _, err := a.publish(ctx); err != nil {
		return err
	}
	c, err := s.countFrom(ctx, a)
	if err != nil {
		return err
	}
	got, err := c.publish(ctx, 20, func() {})
	if err != nil {
		return err
	}
	_, mostTables := got.tables.spread()
	_, mostAsked := got.cloud.spread()
	s.b.add(measure{
		what: fmt.Sprintf("unchanged heartbeat, %s node rows: table operations", number(float64(len(a.up)))), value: got.tables,
		target: atMost(mostTables, 3, ""),
	})
	s.b.add(measure{what: "unchanged heartbeat: requests to CycleCloud", value: got.cloud, target: promise(mostAsked == 0, "none")})
	s.b.add(measure{what: "unchanged heartbeat, 5,000 groups: sent to call ended", value: got.took, unit: "ms"})
	return nil
}

// counter counts one cluster's requests to Azurite and CycleCloud.
type counter struct {
	agent  *standIn
	tables *atomic.Int64
}

// countFrom starts the host anew behind a proxy that counts, so that no process
// remembers anything, and has it accept the cluster's session.
func (s *site) countFrom(ctx context.Context, a *standIn) (counter, error) {
	if err := s.stopHost(); err != nil {
		return counter{}, err
	}
	s.stopHost = nil
	tables, requests, err := s.countTables(ctx)
	if err != nil {
		return counter{}, err
	}
	if err := s.startHost(ctx, tables); err != nil {
		return counter{}, err
	}
	_, _, err = a.publish(ctx)
	return counter{agent: a, tables: requests}, err
}

// counts has a number for each snapshot.
type counts struct{ tables, cloud, took series }

// publish sends so many snapshots, each after change.
func (c counter) publish(ctx context.Context, count int, change func()) (counts, error) {
	s := c.agent.site
	var got counts
	for len(got.took) < count {
		time.Sleep(pauseBetween)
		change()
		others := s.otherCalls()
		tables, asked := c.tables.Load(), s.clouds[c.agent.cluster].answered()
		began, call, err := c.agent.publish(ctx)
		if err != nil {
			return got, err
		}
		if others.busy || s.otherCalls() != others {
			continue // a timer fired meanwhile: what was counted is not the event's alone
		}
		got.took = append(got.took, milliseconds(call.Start.Add(call.Duration).Sub(began)))
		got.tables = append(got.tables, float64(c.tables.Load()-tables))
		got.cloud = append(got.cloud, float64(s.clouds[c.agent.cluster].answered()-asked))
	}
	return got, nil
}

// snapshotCPU gives the CPU for reading and writing one snapshot's message.
func snapshotCPU(a *standIn) (float64, error) {
	m, err := a.message()
	if err != nil {
		return 0, err
	}
	encoding, _ := m.Properties[event.EncodingProperty].(string)
	var problem error
	spent, err := threadSpending(func() {
		q, err := event.DecodeQueuePressure(m.Body, encoding)
		if err == nil {
			_, err = q.Encode()
		}
		problem = err
	})
	return spent, errors.Join(problem, err)
}

// otherWork says what functions other than queue_pressure have done.
type otherWork struct {
	calls int
	busy  bool
}

func (s *site) otherCalls() otherWork {
	var w otherWork
	stats := s.host.Stats()
	for name, f := range stats.Functions {
		if name != "queue_pressure" {
			w.calls += f.Invocations
		}
	}
	for _, in := range stats.Instances {
		w.busy = w.busy || in.InFlight > 0 && !slices.Contains(in.Functions, "queue_pressure")
	}
	return w
}

// countTables puts a counting proxy in front of Azurite.
func (s *site) countTables(ctx context.Context) (connection string, requests *atomic.Int64, err error) {
	target, err := url.Parse(s.azurite.Endpoint())
	if err != nil {
		return "", nil, err
	}
	requests = new(atomic.Int64)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		requests.Add(1)
		r.SetURL(&url.URL{Scheme: target.Scheme, Host: target.Host})
	}}
	l, err := listen(ctx)
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: proxy, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }() // ends with Close
	s.onStop(server.Close)
	return strings.ReplaceAll(s.azurite.ConnectionString(), target.Host, l.Addr().String()), requests, nil
}
