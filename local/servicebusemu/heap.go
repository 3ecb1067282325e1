package servicebusemu

// heapItem is something a heapOf can hold and find again.
type heapItem[T any] interface {
	// before says whether the receiver must leave the heap first.
	before(T) bool
	// slot is where the heap keeps the item's position plus one; 0 when it is in
	// no heap.
	slot() *int
}

// heapOf is a binary heap whose items know their position, so that any of them
// can be removed in logarithmic time.
type heapOf[T heapItem[T]] []T

// push adds x, which must not be in the heap.
func (h *heapOf[T]) push(x T) {
	*h = append(*h, x)
	*x.slot() = len(*h)
	h.up(len(*h) - 1)
}

// remove takes x out, and does nothing if it is not in.
func (h *heapOf[T]) remove(x T) {
	i := *x.slot() - 1
	if i < 0 {
		return
	}
	*x.slot() = 0
	last := len(*h) - 1
	moved := (*h)[last]
	var none T
	(*h)[last] = none
	*h = (*h)[:last]
	if i == last {
		return
	}
	(*h)[i] = moved
	*moved.slot() = i + 1
	h.up(i)
	h.down(*moved.slot() - 1)
}

// pop takes out the first item; the heap must not be empty.
func (h *heapOf[T]) pop() T {
	x := (*h)[0]
	h.remove(x)
	return x
}

func (h heapOf[T]) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	*h[i].slot(), *h[j].slot() = i+1, j+1
}

func (h heapOf[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h[i].before(h[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h heapOf[T]) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if right := child + 1; right < len(h) && h[right].before(h[child]) {
			child = right
		}
		if !h[child].before(h[i]) {
			return
		}
		h.swap(i, child)
		i = child
	}
}
