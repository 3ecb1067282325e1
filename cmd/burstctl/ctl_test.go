package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// tables are a ledger in memory with the given clusters, each with a node, a
// decision, a command and a failure.
func tables(t *testing.T, clusters ...string) *ledger.Memory {
	t.Helper()
	m := ledger.NewMemory()
	ctx, now := t.Context(), time.Now()
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	for _, name := range clusters {
		p, err := m.Load(ctx, name)
		check(err)
		p.Cluster.PolicyVersion = "v7"
		_, err = m.Commit(ctx, ledger.Commit{
			Cluster: p.Cluster, Heartbeat: &ledger.Heartbeat{Epoch: 1, Sequence: 1, AsOf: now, ReceivedAt: now, AgentHost: "head-of-" + name},
		})
		check(err)
		_, _, err = m.PutNodearrays(ctx, name, []ledger.Nodearray{{
			Name: "htc", Limit: 3, Counts: ledger.NodeCounts{VMs: 2, Busy: 1, Idle: 1}, Reason: "the nodearray rests",
		}})
		check(err)
		_, _, err = m.PutNodes(ctx, name, []ledger.Node{
			{Name: "htc-1", Nodearray: "htc", State: "idle", Supply: "ready", ReasonCode: "idle", Reason: "idles\nfor\x1b[31m a while\tyet", CreatedAt: now},
			{Name: "gpu-1", Nodearray: "gpu", State: "busy", Supply: "ready", ReasonCode: "busy"},
		})
		check(err)
		check(m.AppendDecision(ctx, name, ledger.Decision{
			ID: "8-1", At: now, Trigger: "queue_pressure/poll", Revision: 8,
			Actions: `[{"kind":"create","targets":["htc-1","htc-2","htc-3","htc-4","htc-5"]}]`, Holds: "[]", Reasons: `["slurm_wants_node"]`,
		}))
		_, _, err = m.PutCommands(ctx, name, []ledger.Command{
			{ID: name + "/8/00", Kind: "fence_nodes", Nodearray: "htc", Targets: []string{"htc-4"}, State: ledger.CommandSent, SentAt: now},
			{ID: name + "/7/00", Kind: "power_down", Nodearray: "htc", Targets: []string{"htc-3"}, State: ledger.CommandFailed, SentAt: now, Detail: "no such node"},
		})
		check(err)
		check(m.AppendFailures(ctx, name, []ledger.Failure{{At: now, Node: "htc-2", Source: "cyclecloud", What: "create", Code: "refused", Detail: "no capacity"}}))
	}
	return m
}

// ctlRun is one run of burstctl.
func ctlRun(s store, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, func() (store, error) { return s, nil }, &out, &errs)
	return code, out.String(), errs.String()
}

func TestEverySubcommandShowsItsTable(t *testing.T) {
	m := tables(t, "onprem")
	for args, wants := range map[string][]string{
		"status":                    {"onprem: running", "head-of-onprem", "policy v7", "NODEARRAY", "htc", "the nodearray rests"},
		"nodes":                     {"NODE", "htc-1", "gpu-1", "idles for\uFFFD[31m a while yet"},
		"nodes --nodearray htc":     {"htc-1"},
		"nodes --reason busy":       {"gpu-1"},
		"decisions":                 {"queue_pressure/poll", "create htc-1,htc-2,htc-3,htc-4,… (5)", "slurm_wants_node"},
		"decisions --top 1":         {"queue_pressure/poll"},
		"commands":                  {"fence_nodes", "power_down", "no such node"},
		"commands --state failed":   {"power_down"},
		"failures":                  {"htc-2", "cyclecloud", "refused", "no capacity"},
		"status --cluster onprem":   {"onprem: running"},
		"failures --cluster onprem": {"no capacity"},
		"--help":                    {"pause", "resume", "--cluster", "--json"},
	} {
		code, out, errs := ctlRun(m, strings.Fields(args)...)
		if code != 0 || errs != "" {
			t.Errorf("%s: exit %d, %s", args, code, errs)
		}
		for _, want := range wants {
			if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
				t.Errorf("%s does not show %q:\n%s", args, want, out)
			}
		}
		if strings.ContainsAny(out, "\x1b\t\r") {
			t.Errorf("%s passes control characters on: %q", args, out)
		}
	}
	if _, out, _ := ctlRun(m, "nodes", "--nodearray", "gpu"); strings.Contains(out, "htc-1") {
		t.Errorf("the filter lets another nodearray through:\n%s", out)
	}
	if _, out, _ := ctlRun(m, "commands", "--state", "sent"); strings.Contains(out, "power_down") {
		t.Errorf("the filter lets another state through:\n%s", out)
	}
}

func TestJSONIsOneObjectPerLine(t *testing.T) {
	m := tables(t, "onprem")
	for args, want := range map[string]int{"status": 1, "nodes": 2, "decisions": 1, "commands": 2, "failures": 1, "pause": 1, "resume": 1} {
		code, out, errs := ctlRun(m, args, "--json")
		if code != 0 {
			t.Errorf("%s: exit %d, %s", args, code, errs)
		}
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		if len(lines) != want {
			t.Errorf("%s: %d lines, want %d:\n%s", args, len(lines), want, out)
		}
		for _, line := range lines {
			var object map[string]any
			if err := json.Unmarshal([]byte(line), &object); err != nil || len(object) == 0 {
				t.Errorf("%s: %v in %q", args, err, line)
			}
		}
	}
}

func TestPauseAndResumeMoveTheGate(t *testing.T) {
	m := tables(t, "onprem")
	load := func() ledger.Cluster {
		t.Helper()
		p, err := m.Load(t.Context(), "onprem")
		if err != nil {
			t.Fatal(err)
		}
		return p.Cluster
	}
	before := load()
	code, out, errs := ctlRun(m, "pause", "--reason", "the budget is spent")
	if code != 0 || out != "onprem: paused\n" {
		t.Errorf("exit %d, %q, %s", code, out, errs)
	}
	paused := load()
	if !paused.Paused || paused.PausedBy == "" || paused.PausedReason != "the budget is spent" || paused.PausedAt.IsZero() ||
		paused.Revision != before.Revision+1 || paused.NextDue.IsZero() || paused.NextDue.After(time.Now()) {
		t.Errorf("the cluster is %+v", paused)
	}
	if _, out, _ := ctlRun(m, "status"); !strings.Contains(out, "PAUSED by "+paused.PausedBy) || !strings.Contains(out, "the budget is spent") {
		t.Errorf("status does not show the gate:\n%s", out)
	}
	if code, out, errs := ctlRun(m, "resume"); code != 0 || out != "onprem: resumed\n" {
		t.Errorf("exit %d, %q, %s", code, out, errs)
	}
	if c := load(); c.Paused || c.PausedBy != "" || c.PausedReason != "" || !c.PausedAt.IsZero() {
		t.Errorf("the cluster is %+v", c)
	}
}

// contested are tables that somebody else moves first, some times.
type contested struct {
	store
	times int
	tries int
}

func (c *contested) Commit(ctx context.Context, commit ledger.Commit) (ledger.Committed, error) {
	c.tries++
	if c.tries <= c.times {
		return ledger.Committed{}, fault.New(fault.Conflict, "commit", ledger.ErrConflict)
	}
	return c.store.Commit(ctx, commit)
}

func TestPauseTriesAgainWhenSomebodyMovedFirst(t *testing.T) {
	c := &contested{store: tables(t, "onprem"), times: 4}
	if code, _, errs := ctlRun(c, "pause"); code != 0 || c.tries != 5 {
		t.Errorf("exit %d after %d tries, %s", code, c.tries, errs)
	}
	c = &contested{store: tables(t, "onprem"), times: 100}
	code, out, errs := ctlRun(c, "pause")
	if code != 1 || out != "" || c.tries != 5 || !strings.Contains(errs, "hint: somebody else changed the cluster") {
		t.Errorf("exit %d after %d tries, %q, %s", code, c.tries, out, errs)
	}
}

func TestTheClusterHasToBeClear(t *testing.T) {
	two := tables(t, "alpha", "beta")
	for _, args := range []string{"nodes", "decisions", "commands", "failures", "pause", "resume"} {
		if code, _, errs := ctlRun(two, args); code != 1 || !strings.Contains(errs, "--cluster") {
			t.Errorf("%s with two clusters: exit %d, %s", args, code, errs)
		}
		if code, _, errs := ctlRun(two, args, "--cluster", "beta"); code != 0 {
			t.Errorf("%s --cluster beta: exit %d, %s", args, code, errs)
		}
		if code, _, errs := ctlRun(two, args, "--cluster", "gamma"); code != 1 || !strings.Contains(errs, `"gamma"`) || !strings.Contains(errs, "hint: burstctl status") {
			t.Errorf("%s --cluster gamma: exit %d, %s", args, code, errs)
		}
		if code, _, errs := ctlRun(tables(t), args); code != 1 || !strings.Contains(errs, "no cluster has reported") || !strings.Contains(errs, "hint: ") {
			t.Errorf("%s without clusters: exit %d, %s", args, code, errs)
		}
	}
	p, err := two.Load(t.Context(), "alpha")
	if err != nil || p.Cluster.Paused {
		t.Errorf("the other cluster was paused: %+v, %v", p.Cluster, err)
	}
	if code, out, _ := ctlRun(two, "status"); code != 0 || !strings.Contains(out, "alpha: running") || !strings.Contains(out, "beta: ") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
	if code, out, _ := ctlRun(tables(t), "status"); code != 0 || !strings.Contains(out, "no cluster has reported") {
		t.Errorf("status without clusters: exit %d\n%s", code, out)
	}
}

// A listing of more than one page is shown whole.
func TestLongTablesAreShownWhole(t *testing.T) {
	m := tables(t, "onprem")
	var nodes []ledger.Node
	for i := range 2*ledger.MaxTop + 1 {
		nodes = append(nodes, ledger.Node{Name: fmt.Sprintf("n-%04d", i), Nodearray: "big"})
	}
	if _, _, err := m.PutNodes(t.Context(), "onprem", nodes); err != nil {
		t.Fatal(err)
	}
	_, out, _ := ctlRun(m, "nodes", "--nodearray", "big")
	if got := strings.Count(out, "n-"); got != len(nodes) {
		t.Errorf("%d nodes shown, want %d", got, len(nodes))
	}
}

type failing struct {
	store
	err error
}

func (f failing) ListClusters(context.Context, ledger.Page) ([]ledger.ClusterStatus, string, error) {
	return nil, "", f.err
}

func TestErrorsComeWithHints(t *testing.T) {
	m := tables(t, "onprem")
	for _, c := range []struct {
		args string
		err  error
		want []string
	}{
		{"status", fault.New(fault.Denied, "list", errors.New("403")), []string{"error: list: 403", "hint: ", "Storage Table Data Contributor"}},
		{"nodes", fault.New(fault.Transient, "list", errors.New("refused")), []string{"error: list: refused", "hint: ", "network"}},
		{"status --cluster other", nil, []string{`"other"`, "hint: burstctl status"}},
		{"commands --state odd", nil, []string{`"odd"`, "sent", "expired"}},
		{"jobs --state odd", nil, []string{`--state is "odd", want one of waiting, released, `, ", held\n"}},
		{"policy check", nil, []string{"hint: usage: burstctl policy check FILE"}},
		{"decisions --top 0", nil, []string{"--top", "1000"}},
		{"failures --top 5000", nil, []string{"--top", "1000"}},
		{"nodes extra", nil, []string{"extra"}},
		{"fly", nil, []string{"fly"}},
		{"nodes --wings", nil, []string{"--wings"}},
	} {
		var s store = m
		if c.err != nil {
			s = failing{m, c.err}
		}
		code, out, errs := ctlRun(s, strings.Fields(c.args)...)
		if code != 1 || out != "" {
			t.Errorf("%s: exit %d, %q", c.args, code, out)
		}
		for _, want := range append(c.want, "burstctl: error: ") {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: %q is not in %s", c.args, want, errs)
			}
		}
	}
}

func TestMissingSettingsAreNamed(t *testing.T) {
	t.Setenv("BURST_TABLES", "")
	var out, errs bytes.Buffer
	if code := run([]string{"status"}, openStore, &out, &errs); code != 1 {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"BURST_TABLES", "hint: ", "docs/settings.md"} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("%q is not in %s", want, errs.String())
		}
	}
}

func TestStatusTellsWhyANodearrayRests(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	for want, a := range map[string]ledger.Nodearray{
		"":                              {},
		"the nodearray is full":         {Reason: "the nodearray is full"},
		"rests until 12:05:00: no room": {ClosedUntil: now.Add(5 * time.Minute), BreakerReason: "no room", Reason: "the nodearray rests"},
		"rests until 12:05:00 after a failure: CycleCloud did not give the node": {
			ClosedUntil: now.Add(5 * time.Minute), Failures: 1, BreakerReason: "CycleCloud did not give the node", Reason: "the nodearray rests",
		},
		"has rested after 2 failures in a row, and one job tries it before others go there: no capacity": {
			ClosedUntil: now.Add(-time.Minute), Failures: 2, BreakerReason: "no capacity",
		},
	} {
		if got := arrayReason(a, now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTheVersionIsTold(t *testing.T) {
	if code, out, errs := ctlRun(nil, "--version"); code != 0 || errs != "" || !strings.HasPrefix(out, "burstctl version ") {
		t.Errorf("exit %d, %q, %s", code, out, errs)
	}
}

func TestReasonsOfADecisionAreReadAsCodes(t *testing.T) {
	for record, want := range map[string]string{`["fence","idle"]`: "fence, idle", `[]`: "-", "": "-", "cut…": "cut…"} {
		if got := reasonsText(record); got != want {
			t.Errorf("%s: got %q, want %q", record, got, want)
		}
	}
}
