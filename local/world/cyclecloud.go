package world

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/slurmlab"
)

const (
	simUser     = "slurmburst"
	simPassword = "only-on-loopback"
	simCluster  = "Burst Cluster"
)

// policyText is the policy that app, agent and demo read.
var policyText = template.Must(template.New("policy").Parse(`version: 1
cluster: {{.Cluster}}
cyclecloud:
  url: {{.URL}}
  cluster: {{.CycleCloudCluster}}
  credential: cyclecloud
  pin: {{.Pin}}
nodearrays:
{{- range .Nodearrays}}
  - name: {{.Name}}
    partition: {{.Name}}
    nodes: {{.Name}}-[1-{{.Nodes}}]
    machineType: Standard_F4s_v2
    maxNodes: {{.MaxNodes}}
    idleTimeout: {{.IdleTimeout}}
    bootDeadline: {{.BootDeadline}}
{{- if .BootTime}}
    bootTime: {{.BootTime}}
{{- end}}
{{- if .Spot}}
    spot: true
{{- end}}
{{- if .Price}}
    price: { {{- if .Spot}}spot{{else}}onDemand{{end}}: {{.Price -}} }
{{- end}}
{{- end}}
{{.Policy}}`))

// writePolicy writes the policy of a cluster whose CycleCloud is at url.
func (w *World) writePolicy(path, cluster, url string, sim *cyclecloudsim.Sim) error {
	var text bytes.Buffer
	err := policyText.Execute(&text, map[string]any{
		"Cluster": cluster, "URL": url, "CycleCloudCluster": simCluster, "Pin": sim.Pin(), "Nodearrays": w.Nodearrays, "Policy": w.Policy,
	})
	if err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	return os.WriteFile(path, text.Bytes(), 0o600)
}

// vms runs each VM as the lab's own command for that node.
type vms struct {
	lab *slurmlab.Lab
	dir string
}

// Start starts a VM that will be one slurmd.
func (v vms) Start(ctx context.Context, spec cyclecloudsim.VMSpec) (cyclecloudsim.VM, error) {
	argv, env, err := v.lab.NodeCommand(spec.Name)
	if err != nil {
		return nil, err
	}
	launcher := &cyclecloudsim.ExecLauncher{
		Argv: argv, Env: env, Dir: v.dir, LogDir: v.dir,
		JobMarks: []string{"SLURM_CONF=" + v.lab.Conf(), "SLURMD_NODENAME=" + spec.Name},
		JobFiles: []string{filepath.Join(v.lab.Dir(), "log", "slurmd-"+spec.Name+".log")},
	}
	return launcher.Start(ctx, spec)
}

// simConfig is what every CycleCloud of the world has in common.
func (w *World) simConfig(journal io.Writer) cyclecloudsim.Config {
	config := cyclecloudsim.Config{
		Cluster: simCluster, User: simUser, Password: simPassword,
		AcquireDelay: cyclecloudsim.Range{Min: 200 * time.Millisecond, Max: 600 * time.Millisecond},
		BootDelay:    w.BootDelay, TerminateDelay: w.TerminateDelay, ReadyLag: cyclecloudsim.Range{Min: 500 * time.Millisecond, Max: time.Second},
		AvailableLag: time.Second, ThrottleCapacity: 20 * time.Second, Seed: w.Seed, Quirks: w.SimQuirks,
		Journal: journal, Logger: w.logger(),
	}
	for _, a := range w.Nodearrays {
		config.NodeArrays = append(config.NodeArrays, cyclecloudsim.NodeArray{
			Name: a.Name, MachineType: "Standard_F4s_v2", MaxCount: a.Nodes, Cores: 4, MemoryGB: 8, Spot: a.Spot,
		})
	}
	return config
}

// startCycleCloud starts the CycleCloud whose VMs join the world's Slurm.
func (w *World) startCycleCloud(context.Context) error {
	var err error
	if w.journal, err = os.Create(filepath.Join(w.Dir, "cyclecloud.jsonl")); err != nil {
		return err
	}
	w.onStop(func(context.Context) error { return w.journal.Close() })
	config := w.simConfig(w.journal)
	config.Launcher = vms{lab: w.Lab, dir: filepath.Join(w.Dir, "vms")}
	if w.Sim, w.simGate, w.simURL, err = w.serveSim(config); err != nil {
		return err
	}
	w.policyPath = filepath.Join(w.Dir, "policy.yaml")
	return w.writePolicy(w.policyPath, w.Cluster, w.simURL, w.Sim)
}

// startRemote starts a CycleCloud for each cluster whose head node is elsewhere.
func (w *World) startRemote(context.Context) error {
	w.policyPath = filepath.Join(w.Dir, "policies")
	if err := os.Mkdir(w.policyPath, 0o755); err != nil {
		return err
	}
	w.Sims = map[string]*cyclecloudsim.Sim{}
	for _, cluster := range w.Remote {
		sim, _, url, err := w.serveSim(w.simConfig(nil))
		if err != nil {
			return err
		}
		w.Sims[cluster] = sim
		if err := w.writePolicy(filepath.Join(w.policyPath, cluster+".yaml"), cluster, url, sim); err != nil {
			return err
		}
	}
	return nil
}

// serveSim starts one simulator behind a gate of its own.
func (w *World) serveSim(config cyclecloudsim.Config) (sim *cyclecloudsim.Sim, front *gate, url string, err error) {
	if sim, err = cyclecloudsim.New(config); err != nil {
		return nil, nil, "", err
	}
	w.onStop(func(context.Context) error { return sim.Close() })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, "", err
	}
	front = newGate(listener)
	w.serve(func() error { return sim.ServeTLS(front) })
	return sim, front, "https://" + listener.Addr().String(), nil
}
