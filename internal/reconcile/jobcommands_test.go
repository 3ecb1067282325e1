package reconcile

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// drafting is a pass that has facts and may draft.
func drafting() *pass {
	policy := burst.Policy{Nodearrays: []burst.Nodearray{{Name: "htc", Partition: "cloud", Nodes: []burst.NodeName{"htc-1"}}}}
	return &pass{
		Reconciler: &Reconciler{Options: Options{Owner: "test", Now: func() time.Time { return cloudNow }}},
		name:       "onprem", config: Cluster{Policy: policy}, part: ledger.Partition{Cluster: ledger.Cluster{Revision: 6, LedgerID: "l"}},
	}
}

func drafted(t *testing.T, commands ...burst.Command) (*drafts, []event.SlurmCommand) {
	t.Helper()
	d, err := drafting().draft(cloudNow, burst.Plan{Commands: commands})
	if err != nil {
		t.Fatal(err)
	}
	var sent []event.SlurmCommand
	for _, i := range d.intents {
		c, err := commandOf(i)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, c)
	}
	return d, sent
}

func TestCommandsAboutJobsSayAllThatTheAgentNeeds(t *testing.T) {
	why := burst.Reason{Code: burst.ReasonPaused, Text: "an admin paused\nbursting"}
	_, got := drafted(
		t,
		burst.Command{Kind: burst.ReleaseJobs, Nodearray: "htc", Jobs: []string{"5", "7_1"}, Partitions: []string{"batch", "cloud"}, Reason: why},
		burst.Command{Kind: burst.RevokeJobs, Nodearray: "htc", Jobs: []string{"6"}, Partitions: []string{"batch"}, Reason: why},
		burst.Command{Kind: burst.NoticeJobs, Nodearray: "htc", Jobs: []string{"8"}, Reason: why},
		burst.Command{Kind: burst.GatePartition, Nodearray: "htc", Partition: "cloud", Reason: why},
		burst.Command{Kind: burst.GatePartition, Nodearray: "htc", Partition: "cloud", Up: true, Reason: why},
	)
	common := func(n int, c event.SlurmCommand) event.SlurmCommand {
		c.ID, c.Cluster, c.Generation, c.Attempt = fmt.Sprintf("onprem/7/%02d", n), "onprem", 7, 1
		c.Reason, c.ExpiresAt = "paused: an admin paused\nbursting", cloudNow.Add(burst.CommandTTL)
		return c
	}
	pending := event.Expect{Pending: true}
	want := []event.SlurmCommand{
		common(0, event.SlurmCommand{Kind: event.ReleaseJobs, Jobs: event.JobIDs{"5", "7_1"}, Partitions: []string{"batch", "cloud"}, Expect: pending}),
		common(1, event.SlurmCommand{Kind: event.RevokeJobs, Jobs: event.JobIDs{"6"}, Partitions: []string{"batch"}, Expect: pending}),
		common(2, event.SlurmCommand{Kind: event.NoticeJobs, Jobs: event.JobIDs{"8"}, Value: "slurmburst: paused: an admin paused bursting", Expect: pending}),
		common(3, event.SlurmCommand{Kind: event.GatePartition, Partition: "cloud", Value: "DOWN", Expect: event.Expect{States: []string{"UP"}}}),
		common(4, event.SlurmCommand{Kind: event.GatePartition, Partition: "cloud", Value: "UP", Expect: event.Expect{States: []string{"DOWN"}}}),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

func TestANoticeHasAtMost200Bytes(t *testing.T) {
	for _, word := range []string{"a", "é", "漢", "🙂"} {
		text := notice(burst.Reason{Code: "x", Text: strings.Repeat(word, 300)})
		if n := len(text); n > maxNotice || n < maxNotice-4 || !utf8.ValidString(text) || !strings.HasSuffix(text, "…") {
			t.Errorf("%d bytes: %q", n, text)
		}
	}
}

func TestReleasesThatDoNotFitOneCommitAreLeft(t *testing.T) {
	jobs := make([]string, 100*ledger.MaxIntents+150)
	for i := range jobs {
		jobs[i] = fmt.Sprint(i + 1)
	}
	d, sent := drafted(t, burst.Command{Kind: burst.ReleaseJobs, Nodearray: "htc", Jobs: jobs}, burst.Command{Kind: burst.NoticeJobs, Jobs: []string{"x1"}})
	if len(sent) != ledger.MaxIntents || len(sent[0].Jobs) != maxTargets || !d.full {
		t.Errorf("%d commands of %d jobs, full %t", len(sent), len(sent[0].Jobs), d.full)
	}
	want := []burst.Command{
		{Kind: burst.ReleaseJobs, Jobs: jobs[9000:9100]}, {Kind: burst.ReleaseJobs, Jobs: jobs[9100:]}, {Kind: burst.NoticeJobs, Jobs: []string{"x1"}},
	}
	if diff := cmp.Diff(want, d.left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

func command(id string, generation int64, kind burst.CommandKind, targets ...string) ledger.Command {
	return ledger.Command{ID: id, Generation: generation, Kind: string(kind), Targets: targets, ExpiresAt: cloudNow.Add(time.Minute), State: ledger.CommandSent}
}

func TestOfSeveralCommandsAboutAJobTheNewestIsAFact(t *testing.T) {
	p := drafting()
	p.commands = []ledger.Command{
		command("1/00", 1, burst.ReleaseJobs, "5", "6"),
		command("3/00", 3, burst.FenceNodes, "htc-1"),
		command("3/01", 3, burst.NoticeJobs, "5"),
		command("4/00", 4, burst.GatePartition, "cloud"),
	}
	p.untaken = []ledger.Command{command("2/00", 2, burst.ReleaseJobs, "7")}
	p.assumed = []ledger.Command{command("5/00", 5, burst.RevokeJobs, "5")}
	expires := cloudNow.Add(time.Minute)
	want := []burst.JobCommand{
		{Kind: burst.ReleaseJobs, Jobs: []string{"6"}, ExpiresAt: expires},
		{Kind: burst.ReleaseJobs, Jobs: []string{"7"}, ExpiresAt: expires},
		{Kind: burst.NoticeJobs, Jobs: []string{"5"}, ExpiresAt: expires},
		{Kind: burst.GatePartition, Partition: "cloud", ExpiresAt: expires},
		{Kind: burst.RevokeJobs, Jobs: []string{"5"}, ExpiresAt: expires},
	}
	if diff := cmp.Diff(want, p.jobCommands()); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}

func TestACommandIsNotSentAgainOnceANewerOneIsUnderWay(t *testing.T) {
	body, err := json.Marshal(event.SlurmCommand{ID: "onprem/9/00", Kind: event.RevokeJobs, Generation: 9, Jobs: event.JobIDs{"6"}})
	if err != nil {
		t.Fatal(err)
	}
	p := drafting()
	p.commands = []ledger.Command{command("8/00", 8, burst.RevokeJobs, "5"), command("8/01", 8, burst.NoticeJobs, "7")}
	p.part.Intents = []ledger.Intent{{Kind: kindCommand, Body: body}}
	for _, tc := range []struct {
		name string
		old  ledger.Command
		want bool
	}{
		{"a newer one was sent", command("7/00", 7, burst.ReleaseJobs, "5"), true},
		{"a newer one was sent and another committed", command("7/00", 7, burst.ReleaseJobs, "5", "6"), true},
		{"only some of its jobs have a newer one", command("7/00", 7, burst.ReleaseJobs, "5", "7"), false},
		{"the newer one is about something else", command("7/00", 7, burst.ReleaseJobs, "7"), false},
		{"it is itself the newest", command("8/00", 8, burst.RevokeJobs, "5"), false},
		{"it is about nodes", command("7/00", 7, burst.FenceNodes, "5"), false},
	} {
		if got := p.replaced(tc.old); got != tc.want {
			t.Errorf("%s: replaced is %t, want %t", tc.name, got, tc.want)
		}
	}
}
