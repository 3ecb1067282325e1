package ledger

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"strings"
	"testing"
)

// What is stored may be anything. Each bound is met here from both sides, for
// one that is missing lets a few bytes ask for all the memory that there is.
func TestRunsThatAreTooManyOrTooLongAreRefused(t *testing.T) {
	runs := func(numbers ...uint64) []byte {
		b := []byte{1, 'x'}
		for _, n := range numbers {
			b = binary.AppendUvarint(b, n)
		}
		return b
	}
	for name, tc := range map[string]struct {
		stored []byte
		names  int // -1 for refused
	}{
		"a number of 18 digits":     {runs(18, 1, 7, 0), 1},
		"a number of 19 digits":     {runs(19, 1, 7, 0), -1},
		"200,000 names in one run":  {runs(1, 1, 1, 199_999), 200_000},
		"200,001 names in one run":  {runs(1, 1, 1, 200_000), -1},
		"200,000 names in two runs": {runs(1, 2, 1, 99_999, 5, 99_999), 200_000},
		"200,001 names in two runs": {runs(1, 2, 1, 99_999, 5, 100_000), -1},
		"a run without an end":      {runs(1, 1, 1, 1<<63), -1},
		"more runs than there are":  {runs(1, 2, 1, 0), -1},
		"too many runs announced":   {runs(1, 1<<40, 1, 0), -1},
		"a prefix beyond the end":   {[]byte{3, 'x', 'y'}, -1},
	} {
		names, err := readRuns(tc.stored)
		if tc.names < 0 && err == nil || tc.names >= 0 && (err != nil || len(names) != tc.names) {
			t.Errorf("%s: %d names, %v; want %d", name, len(names), err, tc.names)
		}
	}
}

// Some thousand bytes may unpack to any number. A frame that unpacks to more than a
// commit can hold is refused before it is read as names, and so is its history.
func TestAFrameThatUnpacksToTooMuchIsRefused(t *testing.T) {
	for unpacked, refused := range map[int]bool{maxInflated: false, maxInflated + 1: true, 16 * maxInflated: true} {
		// One name: its length in four bytes or five, no number, one run.
		length := unpacked - len(binary.AppendUvarint(nil, uint64(unpacked))) - 4
		runs := binary.AppendUvarint(nil, uint64(length))
		runs = append(runs, strings.Repeat("x", length)...)
		runs = append(runs, 0, 1, 0, 0)
		if len(runs) != unpacked {
			t.Fatalf("made %d bytes, want %d", len(runs), unpacked)
		}
		var packed bytes.Buffer
		w, err := flate.NewWriter(&packed, flate.BestCompression)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(runs); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		frames := binary.AppendUvarint(binary.AppendVarint(nil, 10), uint64(packed.Len()))
		c := Changes{Since: 9, Until: 10, frames: append(frames, packed.Bytes()...)}
		if nodes, known := c.After(9, 10); known == refused || !refused && len(nodes) != 1 {
			t.Errorf("%d bytes in %d: %d names, known %t", unpacked, packed.Len(), len(nodes), known)
		}
	}
}
