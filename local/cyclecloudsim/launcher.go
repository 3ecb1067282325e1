package cyclecloudsim

import (
	"context"
	"sync/atomic"
)

// VMSpec describes the VM to start.
type VMSpec struct {
	// Name is the node's name, safe as a file name and an argument.
	Name string
	// NodeID and InstanceID identify node and VM; neither is ever reused.
	NodeID, InstanceID string
	// NodeArray and MachineType say what kind of VM it is.
	NodeArray, MachineType string
	// PrivateIP is the VM's address, reused after the VM is gone.
	PrivateIP string
}

// Launcher starts VMs.
type Launcher interface {
	// Start returns a VM that exists and runs nothing yet: it bills, and its
	// software waits for Boot. The VM does not end with ctx.
	Start(ctx context.Context, spec VMSpec) (VM, error)
}

// VM is one machine. Its methods may be called from any goroutine.
type VM interface {
	// Boot starts the VM's software. A second call does nothing.
	Boot() error
	// Stop ends the VM at once, without telling it, as deleting a VM does. It
	// returns when no process of the VM is left. A second call does nothing.
	Stop() error
	// Alive reports whether anything of the VM still runs.
	Alive() bool
}

// paperLauncher makes VMs that have no process, for tests of the API.
type paperLauncher struct{}

func (paperLauncher) Start(context.Context, VMSpec) (VM, error) { return new(paperVM), nil }

type paperVM struct{ stopped atomic.Bool }

func (*paperVM) Boot() error   { return nil }
func (v *paperVM) Stop() error { v.stopped.Store(true); return nil }
func (v *paperVM) Alive() bool { return !v.stopped.Load() }
