package servicebusemu

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// fileMagic begins every file: a name, a version, and whether the queue requires
// sessions, since its messages cannot be read otherwise.
const fileMagic = "sbemu\x00\x01"

// snapshotRecord is about how large a record of a snapshot is.
const snapshotRecord = 256 << 10

// openData locks the directory, so that two servers cannot write to it, and loads
// every queue from its file.
func (s *Server) openData(cfg Config) (err error) {
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if s.dataLock, err = os.OpenFile(filepath.Join(cfg.Data, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(s.dataLock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("lock data directory %s, which another server may be using: %w", cfg.Data, err), s.dataLock.Close())
	}
	for _, name := range slices.Sorted(maps.Keys(s.entities)) {
		e := s.entities[name]
		j := &journal{e: e, backlog: &s.backlog, path: filepath.Join(cfg.Data, fileName(name)), fsync: cfg.Fsync, growth: minGrowth}
		if err := j.open(s); err != nil {
			return errors.Join(fmt.Errorf("load queue %q: %w", e.cfg.Name, err), s.closeData())
		}
		s.journals = append(s.journals, j)
	}
	return s.nameStrays(cfg.Data)
}

// nameStrays warns of files of queues that are not configured; they stay as they
// are.
func (s *Server) nameStrays(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list data directory: %w", err)
	}
	for _, file := range files {
		known := slices.ContainsFunc(s.journals, func(j *journal) bool { return filepath.Base(j.path) == file.Name() })
		if filepath.Ext(file.Name()) == ".log" && !known {
			s.log.Warn("data of a queue that is not configured", "file", file.Name())
		}
	}
	return nil
}

func (s *Server) closeData() error {
	var errs []error
	for _, j := range s.journals {
		errs = append(errs, j.close())
	}
	if s.dataLock != nil {
		errs = append(errs, s.dataLock.Close())
	}
	return errors.Join(errs...)
}

// fileName is a name for a queue's file; those too long for a file system are cut
// and told apart by a hash.
func fileName(queue string) string {
	const longest = 200
	name := url.PathEscape(queue)
	if len(name) > longest {
		sum := sha256.Sum256([]byte(queue))
		name = name[:longest] + "-" + hex.EncodeToString(sum[:8])
	}
	return name + ".log"
}

// open loads the entity from the file and begins a new file with a snapshot.
func (j *journal) open(s *Server) error {
	i, err := j.read(s)
	if err != nil {
		return err
	}
	e := j.e
	e.lock()
	defer e.unlock()
	if err := e.load(i, e.clock.Now()); err != nil {
		return err
	}
	e.journal = j
	return j.snapshot()
}

// read gives the image in the file, up to the first bad record.
func (j *journal) read(s *Server) (*image, error) {
	i := newImage()
	f, err := os.Open(j.path)
	if errors.Is(err, os.ErrNotExist) {
		return i, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(f, 1<<20)
	head := make([]byte, len(j.magic()))
	if _, err := io.ReadFull(r, head); err != nil || !bytes.Equal(head, j.magic()) {
		return nil, fmt.Errorf("%s is not the journal of a queue with these settings (version, sessions)", j.path)
	}
	good, err := i.replay(r, info.Size()-int64(len(head)))
	if err != nil {
		s.log.Warn("journal ends in a bad record", "file", j.path, "error", err, "bytes_dropped", info.Size()-int64(len(head))-good)
	}
	return i, nil
}

func (j *journal) magic() []byte {
	kind := byte('q')
	if j.e.cfg.RequiresSession {
		kind = 's'
	}
	return append([]byte(fileMagic), kind)
}

// replay applies records until the first that is bad or the end. It returns the
// bytes of the good ones, and why it stopped early.
func (i *image) replay(r io.Reader, size int64) (good int64, err error) {
	for good < size {
		var head [recordHeader]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return good, fmt.Errorf("record header: %w", err)
		}
		n := int64(binary.BigEndian.Uint32(head[:]))
		if n == 0 || n > size-good-recordHeader {
			return good, fmt.Errorf("record of %d bytes where %d are left: %w", n, size-good-recordHeader, errMalformedRecord)
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return good, fmt.Errorf("record: %w", err)
		}
		if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
			return good, fmt.Errorf("checksum: %w", errMalformedRecord)
		}
		if err := i.apply(body); err != nil {
			return good, err
		}
		good += recordHeader + n
	}
	return good, nil
}

// load fills an empty entity. Locks are not in the file: what was locked has had a
// delivery that failed, as if its lock had run out.
func (e *entity) load(i *image, now time.Time) error {
	var all []*message
	for n, q := range e.queues() {
		for _, sequence := range slices.Sorted(maps.Keys(i.messages[n])) {
			m, err := q.loadMessage(sequence, i.messages[n][sequence])
			if err != nil {
				return fmt.Errorf("message %d: %w", sequence, err)
			}
			all = append(all, m)
		}
		q.lastSequence = max(q.lastSequence, i.last[n])
	}
	for _, r := range i.seen {
		e.main.history.remember(r)
	}
	for id, stored := range i.groups {
		g := e.main.groupNamed(id)
		g.state, g.updated = []byte(stored.state), stored.updated
	}
	for _, m := range all {
		switch m.state {
		case stateScheduled:
			e.set(&m.due, m.scheduledFor)
		case stateLocked:
			m.q.deliveryFailed(m, now)
		default:
			m.q.restore(m, now)
		}
	}
	return nil
}

// loadMessage gives a message its place in q.
func (q *queue) loadMessage(sequence int64, s stored) (*message, error) {
	c, err := parseContent(s.content)
	if err != nil {
		return nil, err
	}
	m := &message{
		content: c, enqueuedSequence: s.enqueuedSequence, enqueued: s.enqueued, ttl: s.ttl,
		deliveryCount: s.deliveryCount, state: s.state, deferred: s.deferred,
	}
	m.due.owner, m.expiry.owner = m, m
	q.lastSequence = sequence - 1
	q.insert(m)
	if q.sessions && m.state != stateScheduled {
		q.joinGroup(m)
	}
	return m, nil
}

// snapshot writes the entity to a new file, which takes the place of the old one
// once it is on the disk. The entity is locked, and the journal is being written
// by the caller alone.
func (j *journal) snapshot() error {
	aside := j.path + ".new"
	f, err := os.OpenFile(aside, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make snapshot: %w", err)
	}
	w := &countingWriter{w: bufio.NewWriterSize(f, 1<<20)}
	err = errors.Join(j.writeSnapshot(w), w.w.Flush(), f.Sync())
	if err == nil {
		err = os.Rename(aside, j.path)
	}
	if err == nil {
		err = syncDirectory(filepath.Dir(j.path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write snapshot: %w", err), f.Close())
	}
	if j.file != nil {
		_ = j.file.Close()
	}
	// The snapshot has everything that waited to be written.
	j.backlog.Add(-int64(len(j.buf)))
	j.buf = j.buf[:0]
	j.written.Store(j.noted.Load())
	j.file, j.size, j.checkAt = f, w.n, w.n+j.growth
	return nil
}

type countingWriter struct {
	w *bufio.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

func (j *journal) writeSnapshot(w io.Writer) (err error) {
	b, start := beginRecord(j.magic())
	add := func(more []byte) {
		b = more
		if len(b)-start > snapshotRecord {
			_, writeErr := w.Write(endRecord(b, start))
			err = errors.Join(err, writeErr)
			b, start = beginRecord(b[:0])
		}
	}
	for i, q := range j.e.queues() {
		q.index.from(0, func(m *message) bool {
			m.logged = j.place(m)
			add(appendMessage(b, place{}, m, true))
			return err == nil
		})
		j.marks[i] = q.lastSequence
		if q.lastSequence > 0 {
			add(appendMark(b, i, q.lastSequence))
		}
		for _, id := range slices.Sorted(maps.Keys(q.groups)) {
			if g := q.groups[id]; g.state != nil {
				add(appendGroup(b, g))
			}
		}
		for _, r := range q.history.order.items[q.history.order.head:] {
			add(appendSeen(b, r))
		}
	}
	_, writeErr := w.Write(endRecord(b, start))
	return errors.Join(err, writeErr)
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
