package servicebusemu

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// numbers and tokens are the arrays that requests carry.
func numbers(n ...any) array { return array{ctorLong, n} }
func tokens(u ...any) array  { return array{ctorUUID, u} }

func TestRequestsThatCannotBeServed(t *testing.T) {
	srv, err := New(Config{Queues: []QueueConfig{{Name: "q"}, {Name: "s", RequiresSession: true}}})
	if err != nil {
		t.Fatal(err)
	}
	const ms = "com.microsoft:"
	entry := func(b []byte) []any { return []any{orderedMap{{"message", b}}} }
	for _, c := range []struct {
		name, queue, operation string
		body                   any
		want                   int32
	}{
		{"an operation of no kind", "q", ms + "dance", orderedMap{}, 501},
		{"a body that is no map", "q", ms + "renew-lock", []any{}, 400},
		{"renew: no tokens", "q", ms + "renew-lock", orderedMap{}, 400},
		{"renew: tokens of another type", "q", ms + "renew-lock", orderedMap{{"lock-tokens", numbers(int64(1))}}, 400},
		{"renew: an empty array", "q", ms + "renew-lock", orderedMap{{"lock-tokens", tokens()}}, 400},
		{"renew: a token of nothing", "q", ms + "renew-lock", orderedMap{{"lock-tokens", tokens(uuid{1})}}, 410},
		{"renew: the zero token", "q", ms + "renew-lock", orderedMap{{"lock-tokens", tokens(uuid{})}}, 410},
		{"settle: a status of no kind", "q", ms + "update-disposition", orderedMap{{"lock-tokens", tokens(uuid{1})}, {"disposition-status", "lost"}}, 400},
		{"settle: a token of nothing", "q", ms + "update-disposition", orderedMap{{"lock-tokens", tokens(uuid{1})}, {"disposition-status", "completed"}}, 410},
		{"schedule: nothing", "q", ms + "schedule-message", orderedMap{{"messages", []any{}}}, 400},
		{"schedule: no message", "q", ms + "schedule-message", orderedMap{{"messages", []any{orderedMap{}}}}, 400},
		{"schedule: garbage", "q", ms + "schedule-message", orderedMap{{"messages", entry([]byte("x"))}}, 400},
		{"schedule: no time", "q", ms + "schedule-message", orderedMap{{"messages", entry(text("a"))}}, 400},
		{"schedule: no session", "s", ms + "schedule-message", orderedMap{{"messages", entry(scheduledText("a"))}}, 403},
		{"schedule: too large", "q", ms + "schedule-message", orderedMap{{"messages", entry(scheduledText(strings.Repeat("x", DefaultMaxMessageSize)))}}, 413},
		{"schedule: among dead letters", "q/$DeadLetterQueue", ms + "schedule-message", orderedMap{{"messages", entry(scheduledText("a"))}}, 403},
		{"cancel: nothing", "q", ms + "cancel-scheduled-message", orderedMap{}, 400},
		{"cancel: what is not there", "q", ms + "cancel-scheduled-message", orderedMap{{"sequence-numbers", numbers(int64(1))}}, 404},
		{"peek: no count", "q", ms + "peek-message", orderedMap{{"from-sequence-number", int64(0)}}, 400},
		{"peek: nothing there", "q", ms + "peek-message", orderedMap{{"from-sequence-number", int64(0)}, {"message-count", int32(1)}}, 204},
		{"deferred: no mode", "q", ms + "receive-by-sequence-number", orderedMap{{"sequence-numbers", numbers(int64(1))}}, 400},
		{"deferred: what is not there", "q", ms + "receive-by-sequence-number", orderedMap{{"sequence-numbers", numbers(int64(1))}, {"receiver-settle-mode", uint32(1)}}, 404},
		{"session: no id", "s", ms + "renew-session-lock", orderedMap{}, 400},
		{"session: renewed by nobody", "s", ms + "renew-session-lock", orderedMap{{"session-id", "x"}}, 410},
		{"session: state of nobody", "s", ms + "get-session-state", orderedMap{{"session-id", "x"}}, 410},
		{"session: state for nobody", "s", ms + "set-session-state", orderedMap{{"session-id", "x"}, {"session-state", []byte("s")}}, 410},
		{"sessions: no page", "s", ms + "get-message-sessions", orderedMap{}, 400},
		{"sessions: none", "s", ms + "get-message-sessions", orderedMap{{"last-updated-time", everySession}, {"skip", int32(0)}, {"top", int32(1)}}, 204},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, _, r := srv.find(c.queue)
			if r != nil {
				t.Fatal(r)
			}
			if got := managementOf(bareSession(srv), q)(request{operation: c.operation, body: c.body}); got.code != c.want {
				t.Errorf("got %+v, want code %d", got, c.want)
			}
		})
	}
}

// scheduledText is an encoded message that is to be enqueued in an hour.
func scheduledText(body string) []byte {
	b := appendValue([]byte{ctorDescribed, ctorSmallUlng, codeMessageAnnotations}, orderedMap{{annScheduled, timestampOf(time.Now().Add(time.Hour))}})
	return append(b, text(body)...)
}

func TestASessionIsItsHoldersAlone(t *testing.T) {
	n := sessions(t)
	n.send("s", "x", "a")
	r := n.accept("x")
	m := n.receiveOne(r, "a")
	q := n.srv.entities["s"].main
	stranger := managementOf(bareSession(n.srv), q)
	for _, operation := range []string{"renew-session-lock", "get-session-state", "set-session-state"} {
		got := stranger(request{operation: "com.microsoft:" + operation, body: orderedMap{{"session-id", "x"}}})
		if got.code != 410 {
			t.Errorf("%s from another connection: %+v", operation, got)
		}
	}
	got := stranger(request{operation: "com.microsoft:renew-lock", body: orderedMap{{"lock-tokens", tokens(uuid(m.LockToken))}}})
	if got.code != 403 {
		t.Errorf("renewal of one message of a session: %+v", got)
	}
	n.must(r.RenewSessionLock(n.ctx(), nil))
}

func TestSettlingByTokenIsAllOrNothing(t *testing.T) {
	n := newNamespace(t, QueueConfig{Name: "q"})
	n.send("q", "", "a", "b")
	r := n.receiver("q", nil)
	a, b := n.receiveOne(r, "a"), n.receiveOne(r, "b")
	settle := managementOf(bareSession(n.srv), n.srv.entities["q"].main)
	try := func(want int32, u ...any) {
		t.Helper()
		got := settle(request{operation: "com.microsoft:update-disposition", body: orderedMap{{"lock-tokens", tokens(u...)}, {"disposition-status", "completed"}}})
		if got.code != want {
			t.Errorf("got %+v, want %d", got, want)
		}
	}
	try(410, uuid(a.LockToken), uuid{9})
	try(410, uuid(a.LockToken), uuid(a.LockToken))
	if s := n.srv.Stats()["q"]; s.Completed != 0 || s.Locked != 2 {
		t.Errorf("stats after refusals: %+v", s)
	}
	try(200, uuid(a.LockToken), uuid(b.LockToken))
	if s := n.srv.Stats()["q"]; s.Completed != 2 || s.Locked != 0 {
		t.Errorf("stats: %+v", s)
	}
}

func TestOnlyChangedSessionsAreListed(t *testing.T) {
	n := sessions(t)
	n.send("s", "old", "a")
	since := n.clock.Now()
	n.clock.advance(time.Second)
	r := n.accept("new")
	n.must(r.SetSessionState(n.ctx(), []byte("x"), nil))
	got := managementOf(bareSession(n.srv), n.srv.entities["s"].main)(request{
		operation: "com.microsoft:get-message-sessions",
		body:      orderedMap{{"last-updated-time", timestampOf(since)}, {"skip", int32(0)}, {"top", int32(100)}},
	})
	want := orderedMap{{"skip", int32(1)}, {"sessions-ids", array{ctorString32, []any{"new"}}}}
	if diff := cmp.Diff(any(want), got.body, wireTypes); diff != "" {
		t.Error(diff)
	}
}
