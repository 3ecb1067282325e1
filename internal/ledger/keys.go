package ledger

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// escape makes any text fit for a key: letters, digits, '.', '_' and '-' stay,
// every other byte becomes '~' and two hexadecimal digits. The service forbids
// / \ # ? and control characters in keys, '%' breaks some of its clients,
// aztables 1.4.1 doubles ' when it inserts, and '|' separates the parts of our
// own keys. unescape undoes it.
func escape(text string) string {
	plain := 0
	for plain < len(text) && isPlain(text[plain]) {
		plain++
	}
	if plain == len(text) {
		return text
	}
	var b strings.Builder
	b.Grow(len(text) + 8)
	b.WriteString(text[:plain])
	for i := plain; i < len(text); i++ {
		if c := text[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "~%02X", c)
		}
	}
	return b.String()
}

func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '.' || c == '_' || c == '-'
}

// unescape is the inverse of escape. It refuses what escape cannot have made.
func unescape(key string) (string, error) {
	if !strings.Contains(key, "~") {
		return key, nil
	}
	var b strings.Builder
	for i := 0; i < len(key); i++ {
		if key[i] != '~' {
			b.WriteByte(key[i])
			continue
		}
		if i+2 >= len(key) {
			return "", fault.Newf(fault.Invalid, "read key %q: it ends within an escape", key)
		}
		c, err := strconv.ParseUint(key[i+1:i+3], 16, 8)
		if err != nil {
			return "", fault.Newf(fault.Invalid, "read key %q: %q is not an escape", key, key[i:i+3])
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), nil
}

// checkKey refuses keys that the service would refuse.
func checkKey(what, key string) error {
	if key == "" {
		return fault.Newf(fault.Invalid, "write %s: the key is empty", what)
	}
	if len(key) > maxKey {
		return fault.Newf(fault.Invalid, "write %s: its key has %d characters, at most %d fit", what, len(key), maxKey)
	}
	return nil
}

// Row keys of the commit partition.
const (
	rowCluster   = "cluster"
	rowHeartbeat = "heartbeat"
	rowSnapshot  = "snapshot"
	rowBudget    = "budget"
	rowChanges   = "changes"
	kindIntent   = "intent|"
	kindFact     = "fact|"
	kindGroup    = "group|"
	kindFacts    = "facts|"
)

// snapshotKey names the part'th row of a snapshot, counted from zero.
func snapshotKey(part int) string {
	if part == 0 {
		return rowSnapshot
	}
	return fmt.Sprintf("%s|%02d", rowSnapshot, part+1)
}

// newestFirst makes a key that sorts later times before earlier ones, since the
// service can only list in ascending order of keys. It counts microseconds, as
// columns do, so that a row that was read gives the same key again.
func newestFirst(at time.Time, id string) string {
	const end = 1_000_000_000_000_000_000 // beyond every time that can be stored
	return fmt.Sprintf("%019d|%s", end-at.UnixMicro(), escape(id))
}

// dayKey is the partition of the decisions of one day (UTC).
func dayKey(cluster string, at time.Time) string {
	return escape(cluster) + "|" + at.UTC().Format(time.DateOnly)
}

// compareIDs is the order of intent IDs: "<revision>/<nn>" by number, anything else
// by text.
func compareIDs(a, b string) int {
	ra, na, oka := splitID(a)
	rb, nb, okb := splitID(b)
	switch {
	case !oka || !okb:
		return strings.Compare(a, b)
	case ra != rb:
		return int(max(-1, min(1, ra-rb)))
	case na != nb:
		return int(max(-1, min(1, na-nb)))
	}
	return strings.Compare(a, b)
}

func splitID(id string) (revision, number int64, ok bool) {
	left, right, found := strings.Cut(id, "/")
	if !found {
		return 0, 0, false
	}
	revision, err := strconv.ParseInt(left, 10, 64)
	if err != nil || revision < 0 {
		return 0, 0, false
	}
	number, err = strconv.ParseInt(right, 10, 64)
	return revision, number, err == nil && number >= 0
}
