package burst

import (
	"math"
	"math/bits"
	"strconv"
	"time"
)

// unlimitedHours is how long a job without a time limit is taken to run: what
// it commits is settled by what it really ran.
const unlimitedHours = 30 * 24

const unlimitedRun = unlimitedHours * time.Hour

// String gives the amount with two digits, halves rounded up: 12.50, -1.00.
func (m Money) String() string {
	var buffer [32]byte
	return string(m.append(buffer[:0]))
}

func (m Money) append(text []byte) []byte {
	const cent = 10_000
	cents, rest := m/cent, m%cent
	if rest < 0 {
		cents, rest = cents-1, rest+cent
	}
	if rest >= cent/2 {
		cents++
	}
	if cents < 0 {
		text, cents = append(text, '-'), -cents
	}
	text = strconv.AppendInt(text, int64(cents/100), 10)
	return append(text, '.', byte('0'+cents/10%10), byte('0'+cents%10))
}

// plus adds and stops at the largest amount.
func (m Money) plus(n Money) Money {
	switch {
	case n > 0 && m > math.MaxInt64-n:
		return math.MaxInt64
	case n < 0 && m < math.MinInt64-n:
		return math.MinInt64
	}
	return m + n
}

// minus takes away, down to nothing.
func (m Money) minus(n Money) Money {
	if n < 0 {
		return m
	}
	return max(0, m.plus(-n))
}

// cost is what so many nodes cost in d at a price per node-hour, rounded up to
// a millionth. It stops at the largest amount. What is negative costs nothing.
func cost(rate Money, nodes int, d time.Duration) Money {
	if rate <= 0 || nodes <= 0 || d <= 0 {
		return 0
	}
	// The product has up to 189 bits: top, mid, low.
	high, low := bits.Mul64(uint64(rate), uint64(nodes))
	carry, low := bits.Mul64(low, uint64(d))
	top, mid := bits.Mul64(high, uint64(d))
	mid, over := bits.Add64(mid, carry, 0)
	if top+over > 0 || mid >= uint64(time.Hour) {
		return math.MaxInt64
	}
	amount, rest := bits.Div64(mid, low, uint64(time.Hour))
	if amount >= math.MaxInt64 {
		return math.MaxInt64
	}
	if rest > 0 {
		amount++
	}
	return Money(amount)
}

// commitment is what a job commits when it is let go: the cost of its whole
// time limit. A limit of 0 is UNLIMITED.
func commitment(rate Money, nodes int, limit time.Duration) Money {
	if limit <= 0 {
		limit = unlimitedRun
	}
	return cost(rate, nodes, limit)
}

// nodeTime is the time of so many nodes together; it stops at the longest.
func nodeTime(nodes int, d time.Duration) time.Duration {
	if nodes <= 0 || d <= 0 {
		return 0
	}
	if d > math.MaxInt64/time.Duration(nodes) {
		return math.MaxInt64
	}
	return d * time.Duration(nodes)
}

// longer adds times that are not negative and stops at the longest.
func longer(a, b time.Duration) time.Duration { return time.Duration(Money(a).plus(Money(b))) }
