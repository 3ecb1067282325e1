package ledger

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Changes is the row `changes`: which rows of nodes, groups and commands each of
// the newest commits is about to write. Rows follow their commit; their names go
// with it, so that a process that knows the rows as of some earlier commit reads
// by key what it lacks, and need not have the service search a table for it.
//
// The zero value knows nothing.
type Changes struct {
	// Since and Until bound what is known: every commit after Since, and none
	// after Until.
	Since, Until int64
	// CommandsAfter and CommandsUntil bound the commits that announced commands
	// as well: a version that does not know them moves Until alone.
	CommandsAfter, CommandsUntil int64

	// frames are the commits, oldest first. A commit that writes no row has
	// none.
	frames []byte
	version
}

const (
	maxFrames   = maxBinary // bytes: what one column holds
	maxCommits  = 256       // commits with a frame: older ones are forgotten
	maxInflated = 4 << 20   // bytes that the names of one commit may unpack to
)

// Begin is the history of a cluster that nothing was committed for: it is known
// whole.
func (c Cluster) Begin() Changes {
	return Changes{Until: c.Revision, CommandsUntil: c.Revision}
}

// With adds a commit and the names of all rows that it may write. Where the one
// before is not the last that is known, because a process that keeps no history
// committed in between, the history begins anew.
func (c Changes) With(revision int64, nodes []string) Changes {
	if c.Until != revision-1 {
		c.Since, c.frames = revision-1, nil
	}
	c.Until = revision
	if c.CommandsUntil != revision-1 {
		c.CommandsAfter = revision - 1
	}
	c.CommandsUntil = revision
	if len(nodes) == 0 {
		return c
	}
	frame := pack(revision, nodes)
	if len(frame) > maxFrames {
		c.Since, c.frames = revision, nil
		return c
	}
	// Not in place: c may be used again after a conflict.
	c.frames = append(append(make([]byte, 0, len(c.frames)+len(frame)), c.frames...), frame...)
	return c.trimmed()
}

// trimmed forgets the oldest commits until the rest fits.
func (c Changes) trimmed() Changes {
	var starts []int
	var revisions []int64
	for at := 0; at < len(c.frames); {
		f, err := readFrame(c.frames[at:])
		if err != nil { // what is stored is broken: it is not carried on
			c.Since, c.frames = c.Until, nil
			return c
		}
		starts, revisions = append(starts, at), append(revisions, f.revision)
		at += f.size
	}
	first := 0
	for first < len(starts) && (len(starts)-first > maxCommits || len(c.frames)-starts[first] > maxFrames) {
		c.Since = revisions[first]
		first++
	}
	if first > 0 {
		if first == len(starts) {
			c.frames = nil
		} else {
			c.frames = c.frames[starts[first]:]
		}
	}
	return c
}

// After gives the nodes that commits after the given revision were about to
// write, each with the newest of those commits. known is false where the
// history does not reach from that revision to the commit upTo.
func (c Changes) After(revision, upTo int64) (nodes map[string]int64, known bool) {
	if c.Until != upTo || c.Since > revision {
		return nil, false
	}
	nodes = map[string]int64{}
	for rest := c.frames; len(rest) > 0; {
		f, err := readFrame(rest)
		if err != nil {
			return nil, false
		}
		rest = rest[f.size:]
		if f.revision <= revision {
			continue
		}
		names, err := f.names()
		if err != nil {
			return nil, false
		}
		for _, name := range names {
			nodes[name] = f.revision
		}
	}
	return nodes, true
}

// AfterWithCommands is After where each of those commits announced commands,
// too: known is false where one was of a version that does not.
func (c Changes) AfterWithCommands(revision, upTo int64) (names map[string]int64, known bool) {
	if c.CommandsUntil != upTo || c.CommandsAfter > revision {
		return nil, false
	}
	return c.After(revision, upTo)
}

// deflaters are used again, because a new one costs most of a megabyte.
var deflaters = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestSpeed) // the level is valid: it cannot fail
	return w
}}

// pack gives the frame of one commit: its revision and the length of what
// follows, as varints, and the names as runs, compressed. A nodearray that comes
// or goes as a whole takes some ten bytes, 10,000 scattered names some thousand:
// the history has to reach back over many such commits.
func pack(revision int64, nodes []string) []byte {
	var names bytes.Buffer
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(&names)
	_, _ = w.Write(appendRuns(nil, runsOf(nodes))) // a write to memory cannot fail
	_ = w.Close()
	frame := binary.AppendVarint(nil, revision)
	frame = binary.AppendUvarint(frame, uint64(names.Len()))
	return append(frame, names.Bytes()...)
}

// frame is one commit within Changes.
type frame struct {
	revision int64
	packed   []byte
	size     int // bytes of all of it
}

var errFrame = errors.New("the history of changed nodes is broken")

func readFrame(from []byte) (frame, error) {
	revision, n := binary.Varint(from)
	if n <= 0 {
		return frame{}, errFrame
	}
	length, m := binary.Uvarint(from[n:])
	if m <= 0 || length > uint64(len(from)-n-m) {
		return frame{}, errFrame
	}
	size := n + m + int(length)
	return frame{revision: revision, packed: from[n+m : size], size: size}, nil
}

func (f frame) names() ([]string, error) {
	packed, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(f.packed)), maxInflated+1))
	if err != nil || len(packed) > maxInflated {
		return nil, errFrame
	}
	return readRuns(packed)
}

func (c *Changes) columns(f *fields) {
	f.whole("Since", &c.Since)
	f.whole("Until", &c.Until)
	f.whole("CommandsAfter", &c.CommandsAfter)
	f.whole("CommandsUntil", &c.CommandsUntil)
	f.bytes("Nodes", &c.frames, 1)
}

// readsAtOnce is how many rows are read by key at the same time.
const readsAtOnce = 16

// NodesNamed gives the nodes of a cluster that have one of the names, in the
// order of the names. Each is read by its key: a few times faster than a query
// up to some hundred names. A name without a row is left out.
func (s *Store) NodesNamed(ctx context.Context, cluster string, names []string) ([]Node, error) {
	operation := fmt.Sprintf("read %s/%s by name", s.name(tableNodes), cluster)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	rows := make([]*Node, len(names))
	var all sync.WaitGroup
	next := make(chan int)
	for range min(readsAtOnce, len(names)) {
		all.Go(func() {
			for i := range next {
				var err error
				if rows[i], err = s.node(ctx, cluster, names[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range names {
		next <- i // after a failure the rest ends at once, as its context is over
	}
	close(next)
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, classify(err, operation)
	}
	found := make([]Node, 0, len(names))
	for _, row := range rows {
		if row != nil {
			found = append(found, *row)
		}
	}
	return found, nil
}

// node reads one row; it is nil if there is none.
func (s *Store) node(ctx context.Context, cluster, name string) (*Node, error) {
	pk, rk := escape(cluster), escape(name)
	if err := errors.Join(checkKey("row of node", pk), checkKey("row of node", rk)); err != nil {
		return nil, err
	}
	var e entity
	err := s.heal(ctx, tableNodes, func() (err error) {
		e, err = s.tables.get(ctx, s.name(tableNodes), pk, rk)
		return err
	})
	var refused *refusal
	switch {
	case errors.As(err, &refused) && refused.code == codeResourceNotFound:
		return nil, nil //nolint:nilnil // no row is an answer here
	case err != nil:
		return nil, err
	}
	n := &Node{}
	if err := fill(n, e); err != nil {
		return nil, fault.New(fault.Invalid, "read node "+name, err)
	}
	return n, nil
}
