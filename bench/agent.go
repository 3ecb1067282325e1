package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
	"github.com/slurmburst/slurmburst/local/functionshost"
)

// standIn takes the place of one cluster's agent and Slurm: it tells a story
// about the cluster's nodes in snapshots.
type standIn struct {
	site     *site
	cluster  string
	nodes    int
	groups   []event.PendingGroup
	sequence int64
	began    time.Time
	// up are nodes that work, since when; booting are those that Slurm powers
	// up, by the id of the resume call.
	up      map[int]time.Time
	booting map[int]string
	resumes int
}

// standIn makes one whose newest jobs were submitted so long ago.
func (s *site) standIn(cluster string, nodes, groups int, ago time.Duration) *standIn {
	began := time.Now().UTC().Add(-ago).Truncate(time.Second)
	return &standIn{
		site: s, cluster: cluster, nodes: nodes, groups: pendingGroups(groups, began), began: began,
		up: map[int]time.Time{}, booting: map[int]string{},
	}
}

// pendingGroups are shapes of twenty waiting jobs each, their ids interleaved.
func pendingGroups(count int, now time.Time) []event.PendingGroup {
	groups := make([]event.PendingGroup, count)
	for i := range groups {
		g := event.PendingGroup{
			Partitions: []string{nodearray}, User: fmt.Sprintf("user%d", i%97), Account: fmt.Sprintf("project%d", i%23), QOS: "normal",
			StateReason: "Resources", Description: "(Resources)", Nodes: 1 + i%4, CPUs: 4 * (1 + i%4), MemoryMiB: int64(1000 * (1 + i%50)),
			TimeLimitSeconds: int64(60 * (1 + i)), Batch: true, Requeue: true, Count: 20, HighestPriority: int64(1000 + i),
			OldestSubmit: now.Add(-time.Duration(i) * time.Second), NewestSubmit: now,
		}
		for k := range g.Count {
			g.Jobs = append(g.Jobs, event.JobID(strconv.Itoa(100_000+k*count+(i*7919)%count)))
		}
		groups[i] = g
	}
	return groups
}

func nodeName(n int) slurm.NodeName { return slurm.NodeName(fmt.Sprintf("%s-%d", nodearray, n)) }

// powerUp has Slurm call ResumeProgram for nodes.
func (a *standIn) powerUp(nodes ...int) {
	a.resumes++
	for _, n := range nodes {
		a.booting[n] = "call-" + strconv.Itoa(a.resumes)
	}
}

// join has every node that boots register and take its job.
func (a *standIn) join() {
	for n := range a.booting {
		a.up[n] = a.began.Add(time.Duration(a.resumes) * time.Second)
	}
	clear(a.booting)
}

// snapshot says how things are.
func (a *standIn) snapshot() event.QueuePressure {
	a.sequence++
	q := event.QueuePressure{
		Cluster: a.cluster, Epoch: 1, Sequence: a.sequence, TakenAt: time.Now().UTC(), Cause: event.CausePoll, AgentHost: "bench",
		PendingJobs: 20 * len(a.groups), Pending: a.groups,
	}
	c := event.CloudNodes{Nodearray: nodearray, Defined: a.nodes, Usable: a.nodes, PoweredDown: a.nodes - len(a.up) - len(a.booting)}
	since := map[time.Time][]slurm.NodeName{}
	for n, at := range a.up {
		since[at] = append(since[at], nodeName(n))
	}
	for _, at := range slices.SortedFunc(maps.Keys(since), time.Time.Compare) {
		c.Groups = append(c.Groups, event.NodeGroup{State: "ALLOCATED", Nodes: slurm.FormatHostlist(since[at]), Since: at})
	}
	var booting []slurm.NodeName
	for _, n := range slices.Sorted(maps.Keys(a.booting)) {
		booting = append(booting, nodeName(n))
		c.PoweringUp = append(c.PoweringUp, event.PoweringUpNode{
			Node: string(nodeName(n)), ResumeID: a.booting[n],
			Jobs: []event.BootJob{{ID: event.JobID(strconv.Itoa(1 + n)), Batch: true, Requeue: true}},
		})
	}
	if len(booting) > 0 {
		c.Groups = append(c.Groups, event.NodeGroup{State: "ALLOCATED", Flags: []string{"POWERING_UP"}, Nodes: slurm.FormatHostlist(booting), Since: a.began})
	}
	q.CloudNodes = []event.CloudNodes{c}
	return q
}

// message is the snapshot as the agent sends it.
func (a *standIn) message() (bus.Message, error) { return sendable(a.snapshot().Encode()) }

// sendable is an encoded event as it is sent.
func sendable(m event.Message, err error) (bus.Message, error) {
	if err != nil {
		return bus.Message{}, err
	}
	out := bus.Message{ID: m.ID, SessionID: m.SessionID, ContentType: event.ContentType, Body: m.Body, TTL: m.TTL}
	if m.Encoding != "" {
		out.Properties = map[string]any{event.EncodingProperty: m.Encoding}
	}
	return out, nil
}

// publish sends a snapshot and waits until its call has ended. began is the
// moment before it was sent.
func (a *standIn) publish(ctx context.Context) (began time.Time, call functionshost.Invocation, err error) {
	m, err := a.message()
	if err != nil {
		return began, call, err
	}
	return a.send(ctx, "queue-pressure", m)
}

// sweep has scale_down look at everything, and waits until it has.
func (a *standIn) sweep(ctx context.Context) error {
	now := time.Now().UTC()
	m, err := sendable(event.ScaleDownTimer{Cluster: a.cluster, Purpose: event.Recheck, Generation: now.UnixMilli(), Due: now}.Encode(now))
	if err != nil {
		return err
	}
	_, _, err = a.send(ctx, "scale-down", m)
	return err
}

// send sends a message and waits until its call has ended. began is the moment
// before it was sent.
func (a *standIn) send(ctx context.Context, queue string, m bus.Message) (began time.Time, call functionshost.Invocation, err error) {
	ended := a.site.calls.expect(m.ID)
	began = time.Now()
	if err := a.site.client.Send(ctx, queue, m); err != nil {
		return began, call, err
	}
	select {
	case call = <-ended:
		if call.Err != nil {
			return began, call, fmt.Errorf("message %s of %s: %w", m.ID, queue, call.Err)
		}
		return began, call, nil
	case <-ctx.Done():
		return began, call, fmt.Errorf("wait for the call of message %s of %s: %w", m.ID, queue, ctx.Err())
	}
}

// grow powers up nodes first to last, and comes back when each has a VM and
// works.
func (a *standIn) grow(ctx context.Context, first, last int) error {
	var nodes []int
	var names []string
	for n := first; n <= last; n++ {
		nodes, names = append(nodes, n), append(names, string(nodeName(n)))
	}
	a.powerUp(nodes...)
	if _, _, err := a.publish(ctx); err != nil {
		return err
	}
	if _, err := a.site.clouds[a.cluster].await(ctx, names...); err != nil {
		return err
	}
	a.join()
	_, _, err := a.publish(ctx)
	return err
}
