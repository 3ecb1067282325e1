package servicebusemu

import "sort"

// sequenceIndex holds messages by sequence number. Numbers only grow, so adding
// is appending; a removed message leaves a gap, and gaps are closed when they are
// the larger half.
type sequenceIndex struct {
	entries []indexEntry
	gaps    int
}

type indexEntry struct {
	sequence int64
	m        *message // nil once removed
}

// add appends m, whose number is above all others.
func (x *sequenceIndex) add(m *message) {
	x.entries = append(x.entries, indexEntry{m.sequence, m})
}

// at is the position of the first entry with this sequence number or a later one.
func (x *sequenceIndex) at(sequence int64) int {
	return sort.Search(len(x.entries), func(i int) bool { return x.entries[i].sequence >= sequence })
}

func (x *sequenceIndex) get(sequence int64) *message {
	i := x.at(sequence)
	if i < len(x.entries) && x.entries[i].sequence == sequence {
		return x.entries[i].m
	}
	return nil
}

func (x *sequenceIndex) remove(sequence int64) {
	i := x.at(sequence)
	if i == len(x.entries) || x.entries[i].sequence != sequence || x.entries[i].m == nil {
		return
	}
	x.entries[i].m = nil
	x.gaps++
	if x.gaps > 64 && x.gaps > len(x.entries)/2 {
		x.compact()
	}
}

func (x *sequenceIndex) compact() {
	kept := make([]indexEntry, 0, 2*(len(x.entries)-x.gaps))
	for _, e := range x.entries {
		if e.m != nil {
			kept = append(kept, e)
		}
	}
	x.entries, x.gaps = kept, 0
}

// from visits the messages with this sequence number or a later one, in order,
// until visit returns false.
func (x *sequenceIndex) from(sequence int64, visit func(*message) bool) {
	for i := x.at(sequence); i < len(x.entries); i++ {
		if m := x.entries[i].m; m != nil && !visit(m) {
			return
		}
	}
}

// fifo is a first-in first-out queue that reuses its space.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) push(x T) {
	if len(f.items) == cap(f.items) && 2*f.head > len(f.items) {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, x)
}

func (f *fifo[T]) len() int { return len(f.items) - f.head }

// first is the item that pop would return; the fifo must not be empty.
func (f *fifo[T]) first() T { return f.items[f.head] }

func (f *fifo[T]) pop() (x T, ok bool) {
	if f.len() == 0 {
		return x, false
	}
	var none T
	x, f.items[f.head] = f.items[f.head], none
	f.head++
	return x, true
}
