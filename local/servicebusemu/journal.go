package servicebusemu

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

const (
	// minGrowth is how much a file must grow before a look at how much of it is
	// dead is worth the time.
	minGrowth = 1 << 20
	// maxBacklog is how many bytes of records may wait in memory for a connection
	// that has something to write.
	maxBacklog = 4 << 20
)

// journal is the append-only log of one entity. What changes while the entity is
// locked becomes one record when it is unlocked, so that a batch, a settlement of
// several messages or a move to the dead-letter sub-queue is in the file whole or
// not at all. Nobody is told of a change before its record is in the file: the
// writer of every connection flushes the journals before it writes.
//
// The order of locks is journal.writing, then entity, then connection.
type journal struct {
	e       *entity
	backlog *atomic.Int64 // bytes that wait, in all journals of the server
	path    string
	fsync   bool
	growth  int64 // see minGrowth

	// The entity's mutex covers these.
	touched []*message
	groups  []*group
	seen    []remembered
	marks   [2]int64 // high-water marks of sequence numbers, as recorded
	buf     []byte   // records to write

	// noted counts changes; it grows before anything that tells of a change is
	// given to a connection. written is noted as of the last flush.
	noted, written atomic.Uint64

	writing sync.Mutex // covers the rest
	file    *os.File
	size    int64
	checkAt int64
	failure error
}

// touch has the state of m recorded when the entity is unlocked.
func (q *queue) touch(m *message) {
	j := q.e.journal
	if j == nil || m.touched {
		return
	}
	m.touched = true
	j.touched = append(j.touched, m)
	j.noted.Add(1)
}

// touchGroup has the state of g recorded when the entity is unlocked.
func (q *queue) touchGroup(g *group) {
	if j := q.e.journal; j != nil {
		j.groups = append(j.groups, g)
	}
}

// seal makes one record of what changed since the entity was locked. The entity is
// locked.
func (j *journal) seal() {
	if j == nil {
		return
	}
	b, start := beginRecord(j.buf)
	for i, m := range j.touched {
		m.touched = false
		b = j.appendChange(b, m)
		j.touched[i] = nil
	}
	for i, g := range j.groups {
		b = appendGroup(b, g)
		j.groups[i] = nil
	}
	for _, r := range j.seen {
		b = appendSeen(b, r)
	}
	j.touched, j.groups, j.seen = j.touched[:0], j.groups[:0], j.seen[:0]
	for i, q := range j.e.queues() {
		if q.lastSequence > j.marks[i] {
			j.marks[i] = q.lastSequence
			b = appendMark(b, i, q.lastSequence)
		}
	}
	j.buf = endRecord(b, start)
	if n := len(j.buf) - start; n > 0 {
		j.noted.Add(1)
		j.backlog.Add(int64(n))
	}
}

// appendChange records how m differs from what the file says about it.
func (j *journal) appendChange(b []byte, m *message) []byte {
	was := m.logged
	if m.removed {
		m.logged = place{}
		if was.sequence == 0 {
			return b
		}
		return appendDelete(b, was)
	}
	m.logged = j.place(m)
	whole := was.sequence == 0 || m.amended
	m.amended = false
	j.marks[m.logged.queue] = max(j.marks[m.logged.queue], m.sequence)
	return appendMessage(b, was, m, whole)
}

func (j *journal) place(m *message) place {
	p := place{sequence: m.sequence}
	if m.q == j.e.dead {
		p.queue = 1
	}
	return p
}

// flush writes what has been sealed. When it returns nil, every change noted
// before it was called is in the file (and on the disk, if the journal is to).
func (j *journal) flush() error {
	if j.written.Load() >= j.noted.Load() {
		return nil
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	if j.failure != nil {
		return j.failure
	}
	if j.written.Load() >= j.noted.Load() {
		return nil
	}
	if err := j.write(); err != nil {
		j.failure = fmt.Errorf("write journal %s: %w", j.path, err)
		return j.failure
	}
	return nil
}

// write appends the sealed records to the file, and compacts it if it is time.
// The journal is being written by the caller alone.
func (j *journal) write() error {
	j.e.mu.Lock()
	noted := j.noted.Load()
	b := j.buf
	j.buf = nil
	j.e.mu.Unlock()
	j.backlog.Add(-int64(len(b)))
	n, err := j.file.Write(b)
	j.size += int64(n)
	if err == nil && j.fsync {
		err = j.file.Sync()
	}
	if err != nil {
		return err
	}
	j.written.Store(noted)
	if cap(b) <= maxBacklog {
		j.recycle(b[:0])
	}
	if j.size >= j.checkAt {
		return j.compact()
	}
	return nil
}

// recycle gives a buffer back, unless another has been begun.
func (j *journal) recycle(b []byte) {
	j.e.mu.Lock()
	defer j.e.mu.Unlock()
	if j.buf == nil {
		j.buf = b
	}
}

// compact replaces the file by a snapshot if more than half of it is dead.
func (j *journal) compact() error {
	j.e.mu.Lock()
	defer j.e.mu.Unlock()
	if j.size <= 2*j.e.liveBytes() {
		j.checkAt = j.size + j.growth
		return nil
	}
	return j.snapshot()
}

// liveBytes estimates the size of a snapshot.
func (e *entity) liveBytes() int64 {
	const perMessage, perID, perGroup = 64, 32, 32
	n := int64(e.bytes)
	for _, q := range e.queues() {
		n += perMessage * int64(len(q.index.entries)-q.index.gaps)
		n += perID * int64(q.history.order.len())
		for id, g := range q.groups {
			n += perGroup + int64(len(id)+len(g.state))
		}
	}
	return n
}

// close writes what is left.
func (j *journal) close() error {
	err := j.flush()
	j.writing.Lock()
	defer j.writing.Unlock()
	if closeErr := j.file.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("close journal: %w", closeErr)
	}
	return err
}
