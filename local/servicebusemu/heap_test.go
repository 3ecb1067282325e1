package servicebusemu

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestTheHeapIsInOrderAndFindsItsItems(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h heapOf[*message]
		var in []*message
		next := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				next++
				m := &message{sequence: rapid.Int64Range(0, 5).Draw(t, "key")*1000 + next}
				h.push(m)
				in = append(in, m)
			},
			"remove": func(t *rapid.T) {
				if len(in) == 0 {
					return
				}
				i := rapid.IntRange(0, len(in)-1).Draw(t, "item")
				h.remove(in[i])
				h.remove(in[i]) // a second time does nothing
				in = slices.Delete(in, i, i+1)
			},
			"pop": func(t *rapid.T) {
				if len(in) == 0 {
					return
				}
				slices.SortFunc(in, func(a, b *message) int { return int(a.sequence - b.sequence) })
				if m := h.pop(); m != in[0] || m.position != 0 {
					t.Fatalf("popped %d at %d, want %d", m.sequence, m.position, in[0].sequence)
				}
				in = in[1:]
			},
			"": func(t *rapid.T) {
				for i, m := range h {
					if m.position != i+1 {
						t.Fatalf("item %d thinks it is at %d", i, m.position-1)
					}
				}
				if len(h) != len(in) {
					t.Fatalf("%d items, want %d", len(h), len(in))
				}
			},
		})
	})
}

func TestTheIndexFindsWhatWasNotRemoved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x sequenceIndex
		in := make(map[int64]*message)
		count := rapid.IntRange(0, 300).Draw(t, "count")
		for i := range count {
			m := &message{sequence: int64(i * 2)}
			x.add(m)
			in[m.sequence] = m
		}
		for range rapid.IntRange(0, count).Draw(t, "removals") {
			s := rapid.Int64Range(0, int64(2*count)).Draw(t, "sequence")
			x.remove(s)
			delete(in, s)
		}
		for s := int64(-1); s <= int64(2*count); s++ {
			if x.get(s) != in[s] {
				t.Fatalf("%d: found %v, want %v", s, x.get(s), in[s])
			}
		}
		seen := 0
		x.from(0, func(m *message) bool { seen++; return in[m.sequence] == m })
		if seen != len(in) {
			t.Fatalf("visited %d, want %d", seen, len(in))
		}
	})
}

func TestTheFifoIsFirstInFirstOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f fifo[int]
		var want []int
		next := 0
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "push") {
				next++
				f.push(next)
				want = append(want, next)
				continue
			}
			got, ok := f.pop()
			if ok != (len(want) > 0) || ok && got != want[0] {
				t.Fatalf("popped %d %t, want %v", got, ok, want)
			}
			if ok {
				want = want[1:]
			}
		}
		if f.len() != len(want) {
			t.Fatalf("%d items, want %d", f.len(), len(want))
		}
	})
}
