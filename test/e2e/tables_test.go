//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/world"
)

// TestTablesAreDeletedInTheMiddleOfABurst: somebody deletes every table while
// some nodes boot and others work. The ledger is rebuilt from the next snapshot
// and CycleCloud, no job loses its node, no node is made twice, and everything
// comes back to zero.
func TestTablesAreDeletedInTheMiddleOfABurst(t *testing.T) {
	t.Parallel()
	s := start(t, world.Config{
		Cluster: "forgetful", LocalNodes: 1, Heartbeat: 5 * time.Second, ReclaimSchedule: "*/5 * * * * *",
		BootDelay:  cyclecloudsim.Range{Min: 2 * time.Second, Max: 4 * time.Second},
		Nodearrays: []world.Nodearray{{Name: "htc", Nodes: 8, MaxNodes: 6, IdleTimeout: 5 * time.Second, BootDeadline: 90 * time.Second}},
	})
	working := s.run("srun", "--partition=htc", "--nodes=1", "sleep", "12")
	s.awaitNode(soon, "htc-1", "working", func(n node) bool {
		return n.has("ALLOCATED") && !n.has("POWERED_DOWN") && !n.has("POWERING_UP") && !n.has("NOT_RESPONDING")
	})
	jobs := []int{s.batch(1, "--partition=htc", "--nodes=3"), s.batch(1, "--partition=htc", "--nodes=1")}
	s.eventually(soon, "five nodes are created", func() (bool, string) {
		n := len(s.journal(cyclecloudsim.Created))
		return n == 5, fmt.Sprint(n)
	})
	deleted := s.deleteTables()
	s.Logf("deleted %v while CycleCloud had %d nodes and %d VMs", deleted, len(s.Sim.Nodes()), len(s.Sim.VMs()))

	// Only the rebuilt ledger can make a node for this one.
	s.wait(s.run("srun", "--partition=htc", "--nodes=1", "hostname"))
	s.wait(working)
	s.awaitCompleted(jobs...)
	s.awaitZero()
	s.noneLostItsNode()
	s.createdOnce()
	s.nothingSetAside()
	s.ledgerIsWhole(deleted)
}

// deleteTables deletes every table of the product and gives their names.
func (s *site) deleteTables() []string {
	s.Helper()
	client, err := s.Tables()
	if err != nil {
		s.Fatal(err)
	}
	var deleted []string
	for pages := client.NewListTablesPager(nil); pages.More(); {
		page, err := pages.NextPage(s.ctx)
		if err != nil {
			s.Fatal(err)
		}
		for _, table := range page.Tables {
			deleted = append(deleted, *table.Name)
		}
	}
	for _, name := range deleted {
		if !strings.HasPrefix(name, "burst") {
			s.Fatalf("table %s is not the product's", name)
		}
		if _, err := client.DeleteTable(s.ctx, name, nil); err != nil {
			s.Fatal(err)
		}
	}
	if !slices.Contains(deleted, "burstclusters") || !slices.Contains(deleted, "burstnodes") {
		s.Fatalf("the product had only the tables %v", deleted)
	}
	return deleted
}

// ledgerIsWhole checks that the tables tell of the cluster again: what an admin
// asks for is there, and every node that was terminated since is known as gone.
func (s *site) ledgerIsWhole(deleted []string) {
	s.Helper()
	rows := map[string]int{}
	for _, table := range deleted {
		if err := s.eachRow(s.ctx, table, func(map[string]any) { rows[table]++ }); err != nil {
			s.Logf("%s was not needed again: %v", table, err)
		}
	}
	s.Logf("rows now: %v", rows)
	for _, table := range []string{"burstclusters", "burstnodearrays", "burstnodes", "burstdecisions"} {
		if rows[table] == 0 {
			s.Errorf("%s is empty", table)
		}
	}
	if out := s.ctl("status"); !strings.Contains(out, s.Cluster) {
		s.Errorf("burstctl status: %q", out)
	}
	present := map[string]bool{}
	if err := s.eachRow(s.ctx, "burstnodes", func(row map[string]any) {
		if supply := fmt.Sprint(row["Supply"]); supply != "absent" && supply != "unknown" {
			present[fmt.Sprint(row["RowKey"])+" "+supply] = true
		}
	}); err != nil {
		s.Fatal(err)
	}
	if len(present) > 0 {
		s.Errorf("burstnodes still shows %v", present)
	}
}
