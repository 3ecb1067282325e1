package cyclecloudsim

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tinySlurm is a munged and a slurmctld in one directory, with the nodes
// htc-1 and htc-2, whose slurmd the simulator's VMs run.
type tinySlurm struct {
	dir, conf string
}

const tinyConf = `ClusterName=sim
SlurmctldHost=localhost
SlurmctldPort=%[2]d
SlurmUser=%[3]s
SlurmdUser=%[3]s
AuthType=auth/munge
AuthInfo=socket=%[1]s/munge/sock
CredType=cred/munge
StateSaveLocation=%[1]s/state
SlurmdSpoolDir=%[1]s/%%n
SlurmctldPidFile=%[1]s/ctld.pid
SlurmdPidFile=%[1]s/%%n.pid
SlurmctldLogFile=%[1]s/slurmctld.log
SlurmdLogFile=%[1]s/%%n.slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
PlugStackConfig=/dev/null
MailProg=/bin/true
SlurmdParameters=config_overrides
PrivateData=cloud
SlurmctldParameters=idle_on_node_suspend,power_save_interval=1,power_save_min_interval=0
ResumeProgram=/bin/true
SuspendProgram=/bin/true
ResumeTimeout=120
SuspendTimeout=30
SuspendTime=3600
TreeWidth=65533
NodeName=htc-1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=%[4]d CPUs=4 RealMemory=100 State=CLOUD
NodeName=htc-2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=%[5]d CPUs=4 RealMemory=100 State=CLOUD
PartitionName=htc Nodes=htc-[1-2] Default=YES MaxTime=INFINITE State=UP
`

// startTinySlurm starts the two daemons and ends them with the test.
func startTinySlurm(t *testing.T) tinySlurm {
	t.Helper()
	// Slurm's socket paths are bounded by 108 bytes, which t.TempDir spends.
	dir, err := os.MkdirTemp("", "ccsim")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := tinySlurm{dir: dir, conf: filepath.Join(dir, "slurm.conf")}
	for _, d := range []string{"munge", "state", "bin", "htc-1", "htc-2"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { // munged wants to be reachable
		t.Fatal(err)
	}
	// The daemons look at their own name, and Debian's real ones are called
	// slurmd-wlm beside an emulator.
	for _, d := range []string{"slurmctld", "slurmd", "slurmstepd"} {
		if err := os.Symlink(slurmBinary(d), filepath.Join(dir, "bin", d)); err != nil {
			t.Fatal(err)
		}
	}
	key := make([]byte, 1024)
	_, _ = rand.Read(key) // never fails
	ports := freePorts(t, 3)
	write := func(name string, mode os.FileMode, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), text, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("munge/key", 0o400, key)
	write("slurm.conf", 0o644, fmt.Appendf(nil, tinyConf, dir, ports[0], me.Username, ports[1], ports[2]))
	m := filepath.Join(dir, "munge")
	s.daemon(t, "munged", "-F", "--num-threads=2", "--key-file="+m+"/key", "--socket="+m+"/sock",
		"--pid-file="+m+"/pid", "--log-file="+m+"/log", "--seed-file="+m+"/seed")
	eventually(t, "munged listens", func() bool { _, err := os.Stat(m + "/sock"); return err == nil })
	s.daemon(t, filepath.Join(dir, "bin", "slurmctld"), "-D", "-f", s.conf)
	eventually(t, "slurmctld answers", func() bool {
		out, err := s.run(5*time.Second, "scontrol", "ping")
		return err == nil && strings.Contains(out, "is UP")
	})
	return s
}

func slurmBinary(name string) string {
	if path, err := exec.LookPath("/usr/sbin/" + name + "-wlm"); err == nil {
		return path
	}
	return "/usr/sbin/" + name
}

func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// daemon starts a foreground daemon that is killed at the end of the test.
func (s tinySlurm) daemon(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "SLURM_CONF="+s.conf)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait() // it was killed
	})
}

// run runs one Slurm command with a deadline.
func (s tinySlurm) run(limit time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "SLURM_CONF="+s.conf)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s tinySlurm) nodeState(name string) string {
	out, _ := s.run(15*time.Second, "sinfo", "-h", "-n", name, "-o", "%T")
	return strings.TrimSpace(out)
}

// TestRealSlurmdJoinsAndLeaves is the proof that a VM is a VM to Slurm: the
// node boots when CycleCloud creates it, runs jobs, and takes slurmd,
// slurmstepd, job and what the job left behind along when it is terminated.
func TestRealSlurmdJoinsAndLeaves(t *testing.T) {
	if _, err := os.Stat(slurmBinary("slurmctld")); err != nil {
		t.Fatal("Slurm is not installed: run make setup")
	}
	for i, isolation := range isolations() {
		t.Run(string(isolation), func(t *testing.T) {
			slurm := startTinySlurm(t)
			slurmd := filepath.Join(slurm.dir, "bin", "slurmd")
			launcher := &ExecLauncher{
				Argv: []string{
					slurmd, "-D", "-b", "-f", slurm.conf, "-N", "{name}",
					"-d", filepath.Join(slurm.dir, "bin", "slurmstepd"),
				},
				Env: []string{"SLURM_CONF=" + slurm.conf}, LogDir: slurm.dir, Isolation: isolation,
				JobMarks: []string{"SLURM_CONF=" + slurm.conf, "SLURMD_NODENAME={name}"},
				JobFiles: []string{filepath.Join(slurm.dir, "{name}.slurmd.log")},
			}
			sim := newSim(t, func(c *Config) {
				c.Launcher = launcher
				// A slurmd that starts in the second of its resume is ignored, now and then.
				c.AcquireDelay, c.BootDelay, c.TerminateDelay = seconds(0.1), seconds(1), seconds(0.1)
			})
			batch, stray := marker(10+2*i), marker(11+2*i)
			slurm.burst(t, sim, batch, stray)

			manage(t, sim, "terminate", `{"names":["htc-1"]}`)
			eventually(t, "the node has left the list", func() bool { return len(sim.Nodes()) == 1 })
			daemon := strings.Join([]string{slurmd, "-D", "-b", "-f", slurm.conf, "-N", "htc-1"}, "\x00")
			for _, what := range []string{"sleep\x00" + batch, "sleep\x00" + stray, daemon} {
				if n := running(what); n > 0 {
					t.Errorf("%d processes %q outlive their VM", n, what)
				}
			}
			if got := slurm.strays(); got != "" {
				t.Errorf("slurmstepd outlives its VM: %s", got)
			}
			if got := slurm.nodeState("htc-2"); got != "idle" {
				t.Errorf("htc-2 is %q after htc-1 was deleted", got)
			}
			if vms := sim.VMs(); len(vms) != 1 || vms[0].Name != "htc-2" || !vms[0].Alive {
				t.Errorf("VMs left: %+v", vms)
			}
		})
	}
}

// burst brings both nodes up, runs a job with a stray on htc-1, and leaves a
// batch job running there.
func (s tinySlurm) burst(t *testing.T, sim *Sim, batch, stray string) {
	t.Helper()
	if out, err := s.run(15*time.Second, "scontrol", "update", "nodename=htc-[1-2]", "state=power_up"); err != nil {
		t.Fatalf("power up: %v: %s", err, out)
	}
	eventually(t, "Slurm powers the nodes up", func() bool { return s.nodeState("htc-1") == "idle#" })
	create(t, sim, "htc", 2, "")
	for _, n := range []string{"htc-1", "htc-2"} {
		eventually(t, n+" has joined Slurm", func() bool { return s.nodeState(n) == "idle" })
	}
	out, err := s.run(30*time.Second, "srun", "-w", "htc-1", "/bin/sh", "-c", "setsid sleep "+stray+" >/dev/null 2>&1 </dev/null & echo ran on $SLURMD_NODENAME")
	if err != nil || !strings.Contains(out, "ran on htc-1") {
		t.Fatalf("srun: %v: %s", err, out)
	}
	if out, err := s.run(15*time.Second, "sbatch", "-w", "htc-1", "-o", "/dev/null", "--wrap", "sleep "+batch); err != nil {
		t.Fatalf("sbatch: %v: %s", err, out)
	}
	eventually(t, "the batch job runs", func() bool { return running("sleep\x00"+batch) == 1 })
	if n := running("sleep\x00" + stray); n != 1 {
		t.Fatalf("the job's stray runs %d times", n)
	}
	if s.strays() == "" {
		t.Fatal("no slurmstepd is found while a job runs")
	}
}

// strays lists every slurmstepd of this cluster, by its open log file.
func (s tinySlurm) strays() string {
	var found []string
	for _, p := range processes() {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid))
		if !strings.Contains(exe, "slurmstepd") {
			continue
		}
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.pid)) // the pattern is well-formed
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); strings.HasPrefix(to, s.dir+"/") {
				found = append(found, fmt.Sprintf("pid %d holds %s", p.pid, to))
				break
			}
		}
	}
	return strings.Join(found, "; ")
}
