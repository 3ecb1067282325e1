package slurm

import (
	"io"
	"strconv"
	"strings"
	"testing"
)

func TestALongAnswerArrivesWhole(t *testing.T) {
	const numbers = 300_000 // 2 MB: more than the widest pipe holds
	var want strings.Builder
	for i := range numbers {
		want.WriteString(strconv.Itoa(i+1) + "\n")
	}
	var got []byte
	exit, err := execRunner{}.Run(t.Context(), Command{Path: "seq", Args: []string{"1", strconv.Itoa(numbers)}, Env: []string{"LC_ALL=C"}}, func(stdout io.Reader) (err error) {
		got, err = io.ReadAll(stdout)
		return err
	})
	if err != nil || exit.Code != 0 {
		t.Fatalf("ended with %d, %q: %v", exit.Code, exit.Stderr, err)
	}
	if string(got) != want.String() {
		t.Errorf("%d bytes arrived, want %d", len(got), want.Len())
	}
}

func TestAPipeIsWidened(t *testing.T) {
	r, w := io.Pipe()
	defer r.Close()
	defer w.Close()
	if p := newPacedReader(r); p.pause != 0 {
		t.Errorf("what is no pipe of the system is waited for: %s", p.pause)
	}
	_, err := execRunner{}.Run(t.Context(), Command{Path: "true"}, func(stdout io.Reader) error {
		if p := stdout.(*boundedReader).r.(*pacedReader); p.pause == 0 {
			t.Error("the pipe has its default size")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
