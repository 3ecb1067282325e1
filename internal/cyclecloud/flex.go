package cyclecloud

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// The types of this file read a JSON value whatever its type: node records are
// free-form (a ClassAd), so a number may come as a string, a flag as a number,
// and a template may put an object where a word was expected. What can't be
// read counts as absent; only broken JSON is an error.

// text reads a string; numbers and booleans give their literal.
type text string

// UnmarshalJSON reads data.
func (t *text) UnmarshalJSON(data []byte) error {
	*t = ""
	switch data[0] {
	case '"':
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		*t = text(s)
	case '{', '[', 'n':
	default:
		*t = text(data)
	}
	return nil
}

// number reads a number, also in quotes or with a fraction.
type number struct {
	value float64
	known bool
}

// UnmarshalJSON reads data.
func (n *number) UnmarshalJSON(data []byte) error {
	*n = number{}
	var t text
	if err := t.UnmarshalJSON(data); err != nil {
		return err
	}
	value, err := strconv.ParseFloat(strings.TrimSpace(string(t)), 64)
	if err == nil && !math.IsNaN(value) && !math.IsInf(value, 0) {
		*n = number{value: value, known: true}
	}
	return nil
}

// maxNumber is the largest count believed; everything beyond it is garbage.
const maxNumber = 1e12

// count gives a whole number, rounded towards less; nil where absent.
func (n number) count() *int {
	if !n.known || math.Abs(n.value) > maxNumber {
		return nil
	}
	count := int(math.Floor(n.value))
	return &count
}

// orZero gives a whole number, 0 where absent.
func (n number) orZero() int {
	if count := n.count(); count != nil {
		return *count
	}
	return 0
}

// maxSeconds keeps a duration within what time.Duration holds.
const maxSeconds = 100 * 365 * 24 * 3600

// sinceSeconds gives an age in seconds; nil where absent or negative.
func (n number) sinceSeconds() *time.Duration {
	if !n.known || n.value < 0 {
		return nil
	}
	age := time.Duration(math.Min(n.value, maxSeconds) * float64(time.Second))
	return &age
}

// flag reads a boolean: true, "true", 1 and their like.
type flag bool

// UnmarshalJSON reads data.
func (f *flag) UnmarshalJSON(data []byte) error {
	var t text
	if err := t.UnmarshalJSON(data); err != nil {
		return err
	}
	value, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(string(t))))
	*f = flag(value && err == nil)
	return nil
}

// lenient reads a T, or nothing where the value has another shape.
type lenient[T any] struct{ value T }

// UnmarshalJSON reads data.
func (l *lenient[T]) UnmarshalJSON(data []byte) error {
	var value T
	if json.Unmarshal(bytes.TrimSpace(data), &value) == nil {
		l.value = value
	}
	return nil
}
