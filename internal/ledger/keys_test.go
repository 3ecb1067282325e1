package ledger

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var fitKey = regexp.MustCompile(`^[A-Za-z0-9._~-]*$`)

func TestEveryTextSurvivesAsAKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.Byte()).Draw(t, "text"))
		key := escape(text)
		if !fitKey.MatchString(key) {
			t.Fatalf("the key %q holds something else than plain characters", key)
		}
		back, err := unescape(key)
		if err != nil || back != text {
			t.Fatalf("%q became %q and came back as %q, %v", text, key, back, err)
		}
	})
}

func TestDifferentTextsHaveDifferentKeys(t *testing.T) {
	alphabet := rapid.SampledFrom([]byte("a~2F/|'%"))
	text := rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOfN(alphabet, 0, 6).Draw(t, "bytes")) })
	rapid.Check(t, func(t *rapid.T) {
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		if a != b && escape(a) == escape(b) {
			t.Fatalf("%q and %q have the same key %q", a, b, escape(a))
		}
	})
}

func TestUnescapeRefusesWhatEscapeCannotMake(t *testing.T) {
	for _, key := range []string{"~", "a~2", "~zz", "~-1"} {
		if got, err := unescape(key); err == nil {
			t.Errorf("%q was read as %q", key, got)
		}
	}
}

func TestNewestFirstOrdersLaterBeforeEarlier(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		moments := rapid.Int64Range(never.UnixMicro(), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).UnixMicro())
		a := time.UnixMicro(moments.Draw(t, "a"))
		b := time.UnixMicro(moments.Draw(t, "b"))
		order := strings.Compare(newestFirst(a, "x"), newestFirst(b, "x"))
		if want := b.Compare(a); order != want {
			t.Fatalf("%v and %v are in order %d, want %d", a, b, order, want)
		}
	})
}

func TestIntentIDsAreOrderedByNumber(t *testing.T) {
	want := []string{"", "9/01", "9/2", "9/010", "10/00", "9223372036854775807/1", "a/1", "b"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortStableFunc(got, compareIDs)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
