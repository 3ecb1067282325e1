//go:build e2e

package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/world"
)

// TestNodesThatSlurmAndCycleCloudSeeDifferently has one world whose
// ResumeTimeout and SuspendTimeout are short.
func TestNodesThatSlurmAndCycleCloudSeeDifferently(t *testing.T) {
	t.Parallel()
	s := start(t, world.Config{
		Cluster: "torn", LocalNodes: 1, ResumeTimeout: 20 * time.Second, SuspendTimeout: 10 * time.Second,
		Heartbeat: 10 * time.Second, ReclaimSchedule: "*/5 * * * * *",
		Nodearrays: []world.Nodearray{{Name: "htc", Nodes: 5, MaxNodes: 4, IdleTimeout: 5 * time.Second, BootDeadline: 5 * time.Minute}},
	})
	t.Run("a node that missed ResumeTimeout is used again", func(t *testing.T) { downNodesAreRepaired(s.sub(t)) })
	t.Run("a VM under a powered-down name goes by way of Slurm", func(t *testing.T) { strayVMsGoBySlurm(s.sub(t)) })
	t.Run("a stray VM that joined runs its job to the end", func(t *testing.T) { strayVMsKeepTheirJobs(s.sub(t)) })
	t.Run("a stray VM that joined under a fenced name goes", func(t *testing.T) { fencedNamesAreEmptied(s.sub(t)) })
	t.Run("an old VM under a resumed name is replaced", func(t *testing.T) { oldVMsAreReplaced(s.sub(t)) })
}

// downNodesAreRepaired: a node whose VM never joined is DOWN after
// ResumeTimeout; it is repaired so that it can be used even after slurmctld was
// reconfigured, and its VM is deleted.
func downNodesAreRepaired(s *site) {
	if err := s.Sim.NeverReady("htc-*"); err != nil {
		s.Fatal(err)
	}
	id := s.batch(1, "--partition=htc", "--nodes=1", "--requeue")
	s.eventually(soon, "a node misses ResumeTimeout", func() (bool, string) { return len(s.log().BootTimeouts) > 0, s.queue() })
	if err := s.Sim.NeverReady(); err != nil {
		s.Fatal(err)
	}
	if err := s.Lab.Cancel(s.ctx, id); err != nil { // Slurm would not start it again for two minutes
		s.Fatal(err)
	}
	name := s.log().BootTimeouts[0].Node
	s.awaitZero()
	s.awaitNode(soon, name, "repaired", func(n node) bool { return n.has("IDLE") && n.has("POWERED_DOWN") && !n.has("NOT_RESPONDING") })
	s.setResumeTimeout(120)
	s.wait(s.run("srun", "--partition=htc", "--nodelist="+name, "hostname"))
	s.awaitZero()
}

var resumeTimeout = regexp.MustCompile(`(?m)^ResumeTimeout=\d+$`)

// setResumeTimeout edits slurm.conf and reconfigures slurmctld.
func (s *site) setResumeTimeout(seconds int) {
	s.Helper()
	text, err := os.ReadFile(s.Lab.Conf())
	if err != nil {
		s.Fatal(err)
	}
	if !resumeTimeout.Match(text) {
		s.Fatalf("%s has no ResumeTimeout", s.Lab.Conf())
	}
	text = resumeTimeout.ReplaceAll(text, fmt.Appendf(nil, "ResumeTimeout=%d", seconds))
	if err := os.WriteFile(s.Lab.Conf(), text, 0o644); err != nil {
		s.Fatal(err)
	}
	if err := s.Lab.Reconfigure(s.ctx); err != nil {
		s.Fatal(err)
	}
}

// strayVMsGoBySlurm: a VM that somebody created under a powered-down name is
// never terminated as it is, because its slurmd might join and get a job at any
// moment: Slurm is told to power it down first.
func strayVMsGoBySlurm(s *site) {
	const name = "htc-2"
	if err := s.Sim.NeverReady(name); err != nil {
		s.Fatal(err)
	}
	s.createByHand(name)
	s.eventually(soon, "the stray VM is terminated", func() (bool, string) {
		return len(s.ofNode(cyclecloudsim.Terminated, name)) > 0, s.stateOf(name)
	})
	if err := s.Sim.NeverReady(); err != nil {
		s.Fatal(err)
	}
	created, terminating := s.ofNode(cyclecloudsim.Created, name), s.ofNode(cyclecloudsim.Terminating, name)
	if len(created) != 1 || len(terminating) == 0 {
		s.Fatalf("%s was created %d times and asked to go %d times", name, len(created), len(terminating))
	}
	asked := false
	for _, call := range s.log().Suspends {
		between := call.Time.After(created[0].Time) && call.Time.Before(terminating[0].Time)
		for _, n := range call.Nodes {
			asked = asked || n == name && between
		}
	}
	if !asked {
		s.Errorf("%s was terminated before Slurm powered it down", name)
	}
	s.awaitZero()
	s.wait(s.run("srun", "--partition=htc", "--nodelist="+name, "hostname"))
	s.awaitZero()
}

// strayVMsKeepTheirJobs: a VM that joined under a powered-down name while the
// functions could not be reached, and got a job, keeps it to the end and is then
// powered down like any other.
func strayVMsKeepTheirJobs(s *site) {
	const name = "htc-3"
	s.CutBus()
	s.createByHand(name)
	s.awaitNode(soon, name, "idle, because its slurmd registered", func(n node) bool { return n.has("IDLE") && !n.has("POWERED_DOWN") })
	job := s.run("srun", "--partition=htc", "--nodelist="+name, "sleep", "12")
	s.awaitNode(soon, name, "running the job", func(n node) bool { return n.has("ALLOCATED") || n.has("MIXED") })
	s.RestoreBus()
	s.wait(job)
	s.awaitZero()
	if n := len(s.ofNode(cyclecloudsim.Created, name)); n != 1 {
		s.Errorf("%d VMs were created under %s, want the one made by hand", n, name)
	}
}

// fencedNamesAreEmptied: a VM that joined under a name that is held back by our
// drain is no admin's: it is powered down, and the name fenced again.
func fencedNamesAreEmptied(s *site) {
	const name = "htc-5"
	s.awaitFence()
	s.CutBus()
	s.createByHand(name)
	s.awaitNode(soon, name, "up and drained", func(n node) bool { return n.has("DRAIN") && !n.has("POWERED_DOWN") })
	s.RestoreBus()
	s.awaitZero()
	s.awaitFence()
}

// oldVMsAreReplaced: Slurm powered a node down and up again while burst-agent
// was away. Slurm ignores the old VM's slurmd, so the VM is replaced, and the
// job runs on the new one.
func oldVMsAreReplaced(s *site) {
	const name = "htc-1"
	s.wait(s.run("srun", "--partition=htc", "--nodelist="+name, "hostname"))
	s.KillAgent()
	if _, err := s.Lab.Run(s.ctx, "scontrol", "update", "nodename="+name, "state=power_down"); err != nil {
		s.Fatal(err)
	}
	s.awaitNode(soon, name, "off", func(n node) bool { return n.has("POWERED_DOWN") && !n.has("POWERING_DOWN") })
	old := s.listed(name)
	if old == "" {
		s.Fatalf("%s is gone in CycleCloud, so there is no old VM", name)
	}
	job := s.run("srun", "--partition=htc", "--nodelist="+name, "hostname")
	s.awaitNode(soon, name, "powering up", func(n node) bool { return n.has("POWERING_UP") })
	if err := s.StartAgent(s.ctx); err != nil {
		s.Fatal(err)
	}
	s.wait(job)
	if now := s.listed(name); now == old {
		s.Errorf("the job ran on the old VM %s", old)
	}
	s.awaitZero()
}

// createByHand makes a node by CycleCloud's REST API, as an admin might.
func (s *site) createByHand(name string) {
	s.Helper()
	cluster, user, password := s.CycleCloud()
	body := fmt.Sprintf(`{"requestId":%q,"sets":[{"nodearray":"htc","count":1,"nameFormat":%q}]}`, uuid.NewString(), name)
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, cluster+"/nodes/create", bytes.NewReader([]byte(body)))
	if err != nil {
		s.Fatal(err)
	}
	req.SetBasicAuth(user, password)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.Sim.CertificatePEM())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		s.Fatalf("create %s by hand: %v", name, err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted {
		s.Fatalf("create %s by hand: %s: %s", name, resp.Status, text)
	}
}

// ofNode gives the simulator's records of one kind about a name.
func (s *site) ofNode(event cyclecloudsim.EventName, name string) []cyclecloudsim.Entry {
	var found []cyclecloudsim.Entry
	for _, e := range s.journal(event) {
		if e.Name == name {
			found = append(found, e)
		}
	}
	return found
}

// listed gives the NodeId that CycleCloud has under a name, or "".
func (s *site) listed(name string) string {
	for _, n := range s.Sim.Nodes() {
		if n.Name == name {
			return n.NodeID
		}
	}
	return ""
}

// stateOf says what Slurm shows of a node, for messages.
func (s *site) stateOf(name string) string {
	nodes, err := s.nodes()
	if err != nil {
		return err.Error()
	}
	return nodes[name].state
}
