package fault_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/slurmburst/slurmburst/internal/fault"
)

func TestOf(t *testing.T) {
	_, noFile := os.Open("no such file")
	for _, tc := range []struct {
		name string
		err  error
		want fault.Kind
	}{
		{"a classified error keeps its kind through wrapping", fmt.Errorf("sweep: %w", fault.New(fault.Denied, "list nodes", nil)), fault.Denied},
		{"the outermost classification wins", fault.New(fault.Invalid, "read policy", fault.New(fault.Transient, "open", nil)), fault.Invalid},
		{"a network error is transient", &net.OpError{Op: "dial", Err: errors.New("refused")}, fault.Transient},
		{"a deadline is transient", fmt.Errorf("call: %w", context.DeadlineExceeded), fault.Transient},
		{"a file error is transient", noFile, fault.Transient},
		{"an unclassified error is a bug", errors.New("surprise"), fault.Bug},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := fault.Of(tc.err); got != tc.want {
				t.Errorf("Of(%v) = %v, want %v", tc.err, got, tc.want)
			}
		})
	}
}

func TestErrorReadsVerbObjectCause(t *testing.T) {
	err := fault.New(fault.Transient, "create nodes in htc", errors.New("503"))
	if got, want := err.Error(), "create nodes in htc: 503"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
