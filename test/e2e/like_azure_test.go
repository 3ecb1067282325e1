//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/local/identity"
	"github.com/slurmburst/slurmburst/local/world"
)

// marks are what only a connection string has.
var marks = []string{"SharedAccessKey", "SharedAccessSignature", "AccountKey"}

// secrets finds connection strings in the environments and command lines of the
// world's processes. The counts say how many processes of which program were
// looked at.
func (s *site) secrets() (found []string, looked map[string]int) {
	s.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		s.Fatal(err)
	}
	looked = map[string]int{}
	for _, process := range processes {
		command, errCommand := os.ReadFile(filepath.Join(process, "cmdline"))
		environment, errEnvironment := os.ReadFile(filepath.Join(process, "environ"))
		// Each process of a world knows a file of it; others run beside this one.
		if text := string(command) + string(environment); errCommand == nil && errEnvironment == nil && strings.Contains(text, s.Dir) {
			program, _, _ := strings.Cut(string(command), "\x00")
			looked[filepath.Base(program)]++
			for _, mark := range marks {
				if strings.Contains(text, mark) {
					found = append(found, mark+" of "+strings.ReplaceAll(string(command), "\x00", " "))
				}
			}
		}
	}
	return found, looked
}

func TestABurstLikeInAzureNeedsNoConnectionString(t *testing.T) {
	t.Parallel()
	s := start(t, world.Config{LocalNodes: 1, LikeAzure: true, Nodearrays: []world.Nodearray{
		{Name: "htc", Nodes: 4, MaxNodes: 2, IdleTimeout: 5 * time.Second, BootDeadline: 90 * time.Second},
	}})
	id := s.batch(1, "--partition=htc", "--nodes=2", "--job-name=like-azure")
	s.eventually(soon, "the nodes boot", func() (bool, string) {
		n := len(s.Sim.Snapshot().VMs)
		return n == 2, strconv.Itoa(n) + " VMs"
	})
	found, looked := s.secrets()
	if len(found) > 0 {
		t.Errorf("connection strings were found: %s", strings.Join(found, "; "))
	}
	for program, least := range map[string]int{"handler": 5, "burst-agent": 1, "slurmctld": 1, "node": 1} {
		if looked[program] < least {
			t.Errorf("%d processes of %s were looked at, want at least %d: %v", looked[program], program, least, looked)
		}
	}
	s.awaitCompleted(id)
	s.awaitZero()

	t.Log("the identity endpoint is cut off while Slurm asks for nodes")
	s.CutIdentity()
	given := len(s.Grants())
	id = s.batch(1, "--partition=htc", "--nodes=2", "--job-name=no-identity")
	s.lasts(15 * time.Second)
	if now := len(s.Grants()); now != given {
		t.Errorf("%d tokens were given while the endpoint was cut off", now-given)
	}
	s.RestoreIdentity()
	s.awaitCompleted(id)
	s.awaitZero()

	s.showsWhoGotTokens()
}

// showsWhoGotTokens checks that each program came with its own identity.
func (s *site) showsWhoGotTokens() {
	s.Helper()
	if out := s.ctl("status"); !strings.Contains(out, s.Cluster) {
		s.Errorf("burstctl status with an identity: %q", out)
	}
	given := map[string]map[string]bool{identity.ServiceBus: {}, identity.Storage: {}}
	for _, g := range s.Grants() {
		given[g.Resource][g.ClientID] = true
	}
	// App and agent for Service Bus; app and administrator for the tables.
	if len(given[identity.ServiceBus]) != 2 || len(given[identity.Storage]) != 2 {
		s.Errorf("tokens were given to %v, want two identities for each service", given)
	}
}
