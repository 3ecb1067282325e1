//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
)

// pauseHolds: while an admin has paused bursting no job makes a node, and the
// tables say why; after resume the waiting job runs.
func pauseHolds(s *site) {
	s.awaitZero()
	created := len(s.journal(cyclecloudsim.Created))
	if out := s.ctl("pause", "--reason", "moving house"); !strings.Contains(out, "paused") {
		s.Errorf("burstctl pause printed %q", out)
	}
	if out := s.ctl("status"); !strings.Contains(out, "PAUSED") || !strings.Contains(out, "moving house") {
		s.Errorf("burstctl status does not show who paused and why:\n%s", out)
	}
	// The first job may get a node before the fence stands; nobody creates it.
	early := s.run("srun", "--partition=htc", "--nodes=1", "--job-name=early", "hostname")
	s.eventually(soon, "every node is fenced or waits", func() (bool, string) {
		nodes, err := s.nodes()
		fenced, waiting := 0, 0
		for _, n := range nodes {
			if n.has("DRAIN") && n.has("POWERED_DOWN") {
				fenced++
			}
			if n.has("POWERING_UP") {
				waiting++
			}
		}
		told := waiting == 0 || strings.Contains(s.ctl("nodes"), "an admin paused bursting")
		return fenced+waiting == 6 && told, fmt.Sprint(fenced, waiting, told, err)
	})
	held := s.run("srun", "--partition=htc", "--nodes=1", "--job-name=held", "hostname")
	s.eventually(soon, "Slurm has looked at the job", func() (bool, string) {
		reason, found := s.waiting("held")
		return found && reason != "None", reason
	})
	if out := s.ctl("decisions"); !strings.Contains(out, "paused") {
		s.Errorf("burstctl decisions does not name the reason:\n%s", out)
	}
	if n := len(s.journal(cyclecloudsim.Created)); n != created {
		s.Errorf("%d nodes were created while paused", n-created)
	}
	if out := s.ctl("resume"); !strings.Contains(out, "resumed") {
		s.Errorf("burstctl resume printed %q", out)
	}
	s.wait(early)
	s.wait(held)
	if out := s.ctl("status"); strings.Contains(out, "PAUSED") {
		s.Errorf("burstctl status still says paused:\n%s", out)
	}
	if n := len(s.journal(cyclecloudsim.Created)); n < created+1 || n > created+2 {
		s.Errorf("%d nodes were created for two jobs", n-created)
	}
	s.awaitZero()
	s.noneLostItsNode()
}

// adminsSee: burstctl and the state API show the same clusters, nodes,
// decisions, commands and failures, in pages that add up.
func adminsSee(s *site) {
	for command, table := range map[string]string{"nodes": "nodes", "decisions": "decisions", "commands": "commands", "failures": "failures"} {
		args := []string{command, "--json"}
		if command == "decisions" || command == "failures" {
			args = append(args, "--top", "1000")
		}
		// Snapshots go on arriving: both are read until nothing came in between.
		s.eventually(soon, "burstctl "+command+" and the state API agree", func() (bool, string) {
			whole := s.rows(table, 1000, nil)
			printed := jsonLines(s.TB, s.ctl(args...))
			return reflect.DeepEqual(whole, printed), cmp.Diff(whole, printed)
		})
		s.eventually(soon, "the pages of "+table+" add up", func() (bool, string) {
			whole, pages := s.rows(table, 1000, nil), s.rows(table, 2, nil)
			return reflect.DeepEqual(whole, pages), cmp.Diff(whole, pages)
		})
		if table != "failures" && len(s.rows(table, 1000, nil)) == 0 {
			s.Errorf("there are no %s", table)
		}
	}
	if _, answer := s.ask("clusters", nil); len(answer.Items) != 1 {
		s.Errorf("the state API shows %d clusters, want 1", len(answer.Items))
	}
	for _, nonsense := range []struct {
		table string
		query url.Values
	}{
		{"nonsense", nil},
		{"nodes", url.Values{"cluster": {s.Cluster}, "top": {"0"}}},
		{"nodes", url.Values{"cluster": {s.Cluster}, "top": {"many"}}},
		{"nodes", url.Values{"cluster": {s.Cluster}, "token": {"forged"}}},
	} {
		if status, answer := s.ask(nonsense.table, nonsense.query); status != http.StatusBadRequest || answer.Error == "" {
			s.Errorf("%s?%s: status %d, error %q, want 400 and a text", nonsense.table, nonsense.query.Encode(), status, answer.Error)
		}
	}
	resp, err := http.Get(s.StateURL() + "/nodes?cluster=" + s.Cluster)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		s.Errorf("without a key the state API answers %d, want 401", resp.StatusCode)
	}
}

// jsonLines reads what burstctl --json prints.
func jsonLines(t testing.TB, text string) []map[string]any {
	t.Helper()
	var rows []map[string]any
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if line == "" {
			continue
		}
		row := map[string]any{}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("read %.200q: %v", line, err)
		}
		rows = append(rows, row)
	}
	return rows
}

// strangersAreRefused: a hook call with names that the policy does not know is
// an error that admins see, and touches nothing in CycleCloud.
func strangersAreRefused(s *site) {
	requests := func() (created, posts int) {
		for _, e := range s.Sim.Journal() {
			if e.Event == cyclecloudsim.HTTP && e.Method == http.MethodPost {
				posts++
			}
		}
		return len(s.journal(cyclecloudsim.Created)), posts
	}
	s.awaitZero()
	created, posts := requests()
	for program, hostlist := range map[string]string{"burst-resume": "nosuch-[1-3],local-1", "burst-suspend": "local-1", "burst-resume-fail": "htc-[9"} {
		began := time.Now()
		if out, err := s.Hook(s.ctx, program, hostlist).CombinedOutput(); err != nil {
			s.Errorf("%s %s: %v: %s", program, hostlist, err, out)
		}
		if took := time.Since(began); took > 5*time.Second {
			s.Errorf("%s %s took %s: slurmctld would wait", program, hostlist, took)
		}
	}
	s.eventually(soon, "three failures unknown_node", func() (bool, string) {
		rows := s.failures("unknown_node")
		return len(rows) >= 3, fmt.Sprint(rows)
	})
	text := fmt.Sprint(s.failures("unknown_node"))
	for _, want := range []string{"nosuch-[1-3]", "local-1", "htc-[9"} {
		if !strings.Contains(text, want) {
			s.Errorf("no failure names %s: %s", want, text)
		}
	}
	s.wait(s.run("srun", "--partition=htc", "--nodes=1", "hostname")) // and the next call is dealt with
	s.awaitZero()
	if n := len(s.failures("unknown_node")); n != 3 {
		s.Errorf("%d failures unknown_node after more snapshots, want 3", n)
	}
	nowCreated, nowPosts := requests()
	if nowCreated != created+1 || nowPosts != posts+2 {
		s.Errorf("CycleCloud got %d creates and %d POSTs, want those of one job: 1 and 2", nowCreated-created, nowPosts-posts)
	}
}
