package ledger

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits. The service's own are those of
// https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model
// and .../performing-entity-group-transactions; ours stay below them.
const (
	// MaxRows is how many rows one transaction may touch.
	MaxRows = 100
	// MaxIntents is how many intents one commit may add, which leaves room for
	// the cluster, the heartbeat, the budget and the snapshot.
	MaxIntents = 90
	// MaxSnapshot is the longest compressed snapshot, in bytes.
	MaxSnapshot = 2_900_000
	// MaxBudget is the longest compressed memory of a cluster, in bytes.
	MaxBudget = partBytes
	// MaxFacts is the longest body of facts of a decision, in bytes.
	MaxFacts = 2_900_000
	// MaxFact is the longest body of one fact that was heard, in bytes.
	MaxFact = 240_000

	maxCommit  = 3_000_000      // bytes of values in one commit
	maxRequest = 4<<20 - 64<<10 // bytes of one transaction on the wire; the service takes 4 MiB
	maxRow     = 1_000_000      // bytes of one row as JSON; the service takes 1 MiB
	maxColumns = 252            // columns besides the keys and the timestamp
	maxBinary  = 60_000         // bytes of one binary column; the service takes 64 KiB
	maxText    = 30_000         // UTF-16 units of one text column; the service takes 32 Ki
	maxKey     = 512            // characters of a key, which are ASCII
	maxChunks  = 12             // binary columns that one value may be spread over in one row

	// partBytes is how much of a long value one row holds: base64 makes it
	// 960,000, below maxRow with its other columns.
	partBytes = maxChunks * maxBinary
	// requestOverhead is what one operation adds to a transaction besides its
	// row: the part's headers, the request line with the keys, the host.
	requestOverhead = 900
)

// ErrTooLarge is in the error of a write that was refused, before anything was
// sent, because the service would not take it.
var ErrTooLarge = errors.New("more than the table service takes at once")

// ErrConflict is in the error of a write whose condition no longer holds:
// somebody moved first. Its kind is fault.Conflict.
var ErrConflict = errors.New("somebody moved first")

// clean replaces what a table service may refuse in text: broken UTF-8 and
// control characters other than tab and line ends.
func clean(text string) string {
	if strings.IndexFunc(text, isUnfit) < 0 && utf8.ValidString(text) {
		return text
	}
	return strings.Map(func(r rune) rune {
		if isUnfit(r) {
			return utf8.RuneError
		}
		return r
	}, text)
}

// isUnfit holds for characters that no XML document may hold: the service keeps
// that rule from the days of its Atom format.
func isUnfit(r rune) bool {
	return unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r' || r == '\uFFFE' || r == '\uFFFF'
}

// cut splits text before the character that would make it longer than limit
// UTF-16 units, which is how the service counts.
func cut(text string, limit int) (head, tail string) {
	if len(text) <= limit {
		return text, ""
	}
	units := 0
	for i, r := range text {
		width := 1
		if r > 0xFFFF {
			width = 2
		}
		if units += width; units > limit {
			return text[:i], text[i:]
		}
	}
	return text, ""
}
