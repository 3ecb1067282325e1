package agent

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

const (
	// maxState bounds the session state: a queue of the Standard tier keeps at
	// most 256 KB.
	maxState = 200_000
	// maxInflatedState bounds what a stored state may inflate to.
	maxInflatedState = 16 << 20
	// resultsKept and resultsFor bound the results that are remembered.
	resultsKept = 500
	resultsFor  = time.Hour
	// maxRepeatedBytes bounds the texts of the results in one snapshot.
	maxRepeatedBytes = 150_000
	// jobGenerationsKept bounds the jobs whose generations are remembered.
	jobGenerationsKept = 5000
	stateVersion       = 1
)

// charge is what one agent in charge leaves to the next, in the state of the
// command session.
type charge struct {
	// Epoch counts the agents that have been in charge.
	Epoch int64
	// nodes, jobs and partitions hold the highest generation of a command per
	// target. Notices have their own: what is written on a job must not keep
	// an earlier release of it from being sent again.
	nodes      map[slurm.NodeName]int64
	jobs       map[event.JobID]int64
	notices    map[event.JobID]int64
	partitions map[slurm.PartitionName]int64
	results    []storedResult // oldest first
}

// storedResult is the outcome of a command. A result that the cloud has
// recorded is kept only to recognise a redelivery.
type storedResult struct {
	event.CommandResult
	At    time.Time `json:"at"`
	Known bool      `json:"known,omitempty"`
}

// chargeWire is a charge as it is stored: targets of equal generation are one
// hostlist or one list of ids.
type chargeWire struct {
	Version    int                           `json:"v"`
	Epoch      int64                         `json:"epoch"`
	Nodes      []nodeGeneration              `json:"nodes,omitempty"`
	Jobs       []jobGeneration               `json:"jobs,omitempty"`
	Notices    []jobGeneration               `json:"notices,omitempty"`
	Partitions map[slurm.PartitionName]int64 `json:"partitions,omitempty"`
	Results    []storedResult                `json:"results,omitempty"`
}

type nodeGeneration struct {
	Generation int64  `json:"g"`
	Nodes      string `json:"n"`
}

type jobGeneration struct {
	Generation int64        `json:"g"`
	Jobs       event.JobIDs `json:"j"`
}

// readCharge reads the session state; an empty one is that of a new queue. On
// an error the charge still holds what could be read, at least the epoch if at
// all possible.
func readCharge(state []byte) (*charge, error) {
	c := &charge{
		nodes: map[slurm.NodeName]int64{}, jobs: map[event.JobID]int64{}, notices: map[event.JobID]int64{}, partitions: map[slurm.PartitionName]int64{},
	}
	if len(state) == 0 {
		return c, nil
	}
	text, err := inflate(state)
	if err != nil {
		return c, err
	}
	var epoch struct {
		Epoch int64 `json:"epoch"`
	}
	if err := json.Unmarshal(text, &epoch); err != nil || epoch.Epoch < 0 {
		return c, fault.Newf(fault.Invalid, "read session state: no epoch: %v", err)
	}
	c.Epoch = epoch.Epoch
	var wire chargeWire
	if err := json.Unmarshal(text, &wire); err != nil {
		return c, fault.New(fault.Invalid, "read session state", err)
	}
	if wire.Version != stateVersion {
		return c, fault.Newf(fault.Invalid, "read session state: version %d is not known", wire.Version)
	}
	for _, g := range wire.Nodes {
		names, err := slurm.ParseHostlist(g.Nodes)
		if err != nil {
			return c, fmt.Errorf("read session state: %w", err)
		}
		for _, name := range names {
			c.nodes[name] = max(c.nodes[name], g.Generation)
		}
	}
	readJobGenerations(c.jobs, wire.Jobs)
	readJobGenerations(c.notices, wire.Notices)
	maps.Copy(c.partitions, wire.Partitions)
	c.results = wire.Results
	return c, nil
}

func readJobGenerations(into map[event.JobID]int64, wire []jobGeneration) {
	for _, g := range wire {
		rememberJobs(into, g.Jobs, g.Generation)
	}
}

// gzipMagic begins a compressed state; JSON begins with a brace.
var gzipMagic = []byte{0x1f, 0x8b}

func inflate(state []byte) ([]byte, error) {
	if !bytes.HasPrefix(state, gzipMagic) {
		return state, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(state))
	if err != nil {
		return nil, fault.New(fault.Invalid, "read session state", err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxInflatedState))
	if err != nil {
		return nil, fault.New(fault.Invalid, "read session state", err)
	}
	return text, nil
}

// encode gives the state to store, at most maxState bytes: what does not fit is
// forgotten, the oldest results first, then the lowest generations. A forgotten
// generation only means that a late command is judged by its Expect alone.
func (c *charge) encode(now time.Time) ([]byte, error) {
	c.expire(now)
	for {
		state, err := c.pack()
		if err != nil || len(state) <= maxState {
			return state, err
		}
		switch {
		case len(c.results) > 1:
			c.results = c.results[len(c.results)/2:]
		case len(c.notices) > 0:
			forgetLowest(c.notices, len(c.notices)/2)
		case len(c.jobs) > 0:
			forgetLowest(c.jobs, len(c.jobs)/2)
		case len(c.nodes) > 0:
			forgetLowest(c.nodes, len(c.nodes)/2)
		default:
			return nil, fault.Newf(fault.Bug, "store session state: %d bytes do not fit", len(state))
		}
	}
}

func (c *charge) expire(now time.Time) {
	c.results = slices.DeleteFunc(c.results, func(r storedResult) bool { return now.Sub(r.At) > resultsFor })
	if extra := len(c.results) - resultsKept; extra > 0 {
		c.results = slices.Delete(c.results, 0, extra)
	}
	forgetLowest(c.jobs, jobGenerationsKept)
	forgetLowest(c.notices, jobGenerationsKept)
}

// forgetLowest keeps the targets of the highest generations.
func forgetLowest[K cmp.Ordered](generations map[K]int64, keep int) {
	if len(generations) <= keep {
		return
	}
	keys := slices.SortedFunc(maps.Keys(generations), func(a, b K) int {
		return cmp.Or(cmp.Compare(generations[b], generations[a]), cmp.Compare(a, b))
	})
	for _, key := range keys[keep:] {
		delete(generations, key)
	}
}

func (c *charge) pack() ([]byte, error) {
	wire := chargeWire{
		Version: stateVersion, Epoch: c.Epoch, Jobs: packJobs(c.jobs), Notices: packJobs(c.notices), Partitions: c.partitions, Results: c.results,
	}
	for g, names := range byGeneration(c.nodes) {
		wire.Nodes = append(wire.Nodes, nodeGeneration{Generation: g, Nodes: slurm.FormatHostlist(names)})
	}
	slices.SortFunc(wire.Nodes, func(a, b nodeGeneration) int { return cmp.Compare(a.Generation, b.Generation) })
	text, err := json.Marshal(wire)
	if err != nil {
		return nil, fault.New(fault.Bug, "store session state", err)
	}
	if len(text) <= 4<<10 {
		return text, nil
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(text); err != nil {
		return nil, fault.New(fault.Bug, "store session state", err)
	}
	if err := z.Close(); err != nil {
		return nil, fault.New(fault.Bug, "store session state", err)
	}
	return packed.Bytes(), nil
}

func packJobs(generations map[event.JobID]int64) (wire []jobGeneration) {
	for g, ids := range byGeneration(generations) {
		slices.Sort(ids)
		wire = append(wire, jobGeneration{Generation: g, Jobs: ids})
	}
	slices.SortFunc(wire, func(a, b jobGeneration) int { return cmp.Compare(a.Generation, b.Generation) })
	return wire
}

func byGeneration[K comparable](generations map[K]int64) map[int64][]K {
	groups := map[int64][]K{}
	for key, g := range generations {
		groups[g] = append(groups[g], key)
	}
	return groups
}

// find gives the result of a command that was carried out already.
func (c *charge) find(id string) bool {
	return slices.ContainsFunc(c.results, func(r storedResult) bool { return r.ID == id })
}

// know notes which results the cloud has recorded.
func (c *charge) know(ids []string) {
	for i := range c.results {
		if slices.Contains(ids, c.results[i].ID) {
			c.results[i].Known = true
		}
	}
}

// toRepeat gives the results that the cloud may not know yet, as many as a
// snapshot can carry: the oldest come first, and make room once they are known.
func (c *charge) toRepeat(now time.Time) []event.CommandResult {
	var out []event.CommandResult
	bytes := 0
	for _, r := range c.results {
		if r.Known || now.Sub(r.At) > resultsFor {
			continue
		}
		bytes += len(r.Stale) + len(r.Failed) + len(r.Error)
		if len(out) > 0 && bytes > maxRepeatedBytes || len(out) == resultsKept {
			break
		}
		out = append(out, r.CommandResult)
	}
	return out
}
