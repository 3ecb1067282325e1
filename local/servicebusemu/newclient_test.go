//go:build !formerclient

// What the former client cannot do.

package servicebusemu

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
)

func TestSessionsAreListed(t *testing.T) {
	n := sessions(t)
	var want []string
	for i := range 150 { // more than a page
		id := fmt.Sprintf("%03d", i)
		n.send("s", id, "a")
		want = append(want, id)
	}
	var got []string
	for p := n.client.NewListSessionsForQueuePager("s", nil); p.More(); {
		page, err := p.NextPage(n.ctx())
		n.must(err)
		got = append(got, page.Sessions...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The former client does not tell the server how long it will wait.
func TestWaitingForASessionEndsInTime(t *testing.T) {
	n := newRealTimeNamespace(t, QueueConfig{Name: "s", RequiresSession: true})
	// The client asks the server to give up at most 1 % before its own deadline, and
	// either may be first.
	for deadline := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := n.client.AcceptNextSessionForQueue(ctx, "s", nil)
		cancel()
		if code(err) == azservicebus.CodeTimeout {
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) || time.Now().After(deadline) {
			t.Fatalf("accept: %v", err)
		}
	}
	n.stats("s", "nobody waiting", func(s QueueStats) bool { return s.Waiting == 0 })
	n.send("s", "x", "a")
	if id := n.acceptNext().SessionID(); id != "x" {
		t.Errorf("session %q", id)
	}
}
